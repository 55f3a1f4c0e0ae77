"""Label efficiency: test scores against the number of labels."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from distilkit.plots import parts, style
from distilkit.plots.checks import check_table
from distilkit.study.arms import t_interval
from distilkit.study.label_efficiency import (
    ALL_TEXTS,
    LABELS,
    SAME_TEXTS,
    TEACHER,
    best_learning_rates,
)

_WAYS = {  # way -> its name, colour, marker
    ALL_TEXTS: ("labels, and soft targets on all texts", style.BLUE, "o"),
    SAME_TEXTS: ("labels, and soft targets on the same texts", style.ORANGE, "s"),
    LABELS: ("labels alone", style.GREY, "D"),
}


@style.figure_style()
def plot_label_efficiency(table: pd.DataFrame) -> Figure:
    """Plot scores against the number of labels, a panel a task, 6.9 in wide.

    Lines are means over seeds, bands their 95 % t-intervals; with one seed there is no band. The
    teacher, fine-tuned on all labels, is a dashed line.

    Args:
        table: as :func:`distilkit.study.label_efficiency.label_efficiency` returns it.
    """
    needed = ["task", "way", "labels", "learning_rate", "validation", "score"]
    table = check_table("table", table, needed)
    tasks = list(dict.fromkeys(table["task"]))
    figure = style.new_figure(style.FULL_IN, 2.9)
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        rows = table[table["task"] == task]
        teacher = rows.loc[rows["way"] == TEACHER, "score"].mean()
        axes.axhline(teacher, color=style.INK, linewidth=0.9, linestyle="--")
        look = {"textcoords": "offset points", "ha": "left", "va": "bottom"}
        axes.annotate("teacher", (-0.3, teacher), (0, 1), **look)
        students = best_learning_rates(rows[rows["way"] != TEACHER])
        counts = sorted(students["labels"].unique())
        for way, (_, colour, marker) in _WAYS.items():
            curve = students[students["way"] == way].groupby("labels")["score"]
            found = pd.DataFrame({count: t_interval(values) for count, values in curve}).T
            x = [counts.index(count) for count in found.index]
            axes.plot(x, found["mean"], f"{marker}-", color=colour, markersize=4)
            if np.isfinite(found["low"]).any():
                band = {"color": colour, "alpha": 0.18, "linewidth": 0}
                axes.fill_between(x, found["low"], found["high"], **band)
        axes.set_xticks(range(len(counts)), [f"{count:,}" for count in counts])
        axes.set_xlim(-0.4, len(counts) - 0.6)
        axes.margins(y=0.12)
        axes.set_title(task, fontsize=style.TEXT_PT)
        axes.set_xlabel("labels")
        parts.value_grid(axes)
    figure.axes[0].set_ylabel("test score (points)")
    marks = [parts.mark(name, colour, marker) for name, colour, marker in _WAYS.values()]
    parts.legend_above(figure, marks)
    return style.freeze_layout(figure)
