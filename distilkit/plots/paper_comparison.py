"""Student minus teacher, task by task: the published difference beside ours with its interval."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from distilkit.plots.style import (
    BLUE,
    COLUMN_IN,
    GREY,
    INK,
    PALE,
    VERMILLION,
    check_table,
    figure_style,
    freeze_layout,
    new_figure,
    value_grid,
)

_PUBLISHED = {
    "marker": "D",
    "markersize": 4.2,
    "markerfacecolor": "white",
    "markeredgecolor": VERMILLION,
    "linestyle": "none",
}
_OURS = {"linewidth": 1.6, "marker": "o", "markersize": 4.5, "markevery": [0]}


def plot_task_differences(beside: pd.DataFrame) -> Figure:
    """A row a task: what halving costs, table 1's number as a diamond, ours as a dot. 3.3 in.

    An interval that holds 0 (or none, with one seed) is drawn grey: these seeds show no
    difference. A task that was not measured says so.

    Args:
        beside: as :func:`distilkit.study.paper_comparison.beside_the_paper` gives it.

    Raises:
        ValueError: for an empty table, missing columns, or one without table 1's tasks.
    """
    columns = ["source", "what", "published", "ours", "low", "high"]
    beside = check_table("beside", beside, columns)
    is_task = beside["what"].str.contains(": student minus teacher") & beside["source"].eq(
        "Table 1"
    )
    rows = beside[is_task]
    if rows.empty:
        raise ValueError("beside has none of table 1's tasks: give all rows of the table")
    heights = -np.arange(len(rows))
    with figure_style():
        figure = new_figure(COLUMN_IN, 1.25 + 0.24 * len(rows))
        axes = figure.subplots()
        for y, row in zip(heights, rows.itertuples(), strict=True):
            axes.plot(row.published, y + 0.17, **_PUBLISHED)
            if not np.isfinite(row.ours):
                axes.annotate(
                    "not run",
                    (0.02, y),
                    xycoords=("axes fraction", "data"),
                    color=GREY,
                    va="center",
                )
                continue
            known = np.isfinite([row.low, row.high]).all()
            clear = known and not row.low <= 0 <= row.high
            ends = [row.low, row.high] if known else []
            values = [row.ours, *ends]
            axes.plot(values, [y - 0.17] * len(values), color=BLUE if clear else GREY, **_OURS)
        axes.axvline(0, color=INK, linewidth=0.8, zorder=0.9)
        for y in heights[1:]:
            axes.axhline(y + 0.5, color=PALE, linewidth=0.5, zorder=0.5)
        axes.set_yticks(heights, [what.split(":")[0] for what in rows["what"]])
        axes.set_ylim(heights[-1] - 0.6, 0.6)
        value_grid(axes, "x")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("student minus teacher (points)")
        looks = [
            axes.plot([], [], **_PUBLISHED, label="published (Sanh et al. 2019)")[0],
            axes.plot([], [], color=BLUE, **_OURS, label="ours, 95 % interval clear of 0")[0],
            axes.plot([], [], color=GREY, **_OURS, label="ours, not clear of 0")[0],
        ]
        figure.legend(handles=looks, loc="outside upper left")
        return freeze_layout(figure)
