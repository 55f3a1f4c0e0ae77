"""Student minus teacher for each task: the published difference and the measured one."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from distilkit.plots import parts, style
from distilkit.plots.checks import check_table

_PUBLISHED = {"marker": "D", "markersize": 4.2, "linestyle": "none"}
_PUBLISHED |= {"markerfacecolor": "white", "markeredgecolor": style.VERMILLION}
_MEASURED = {"linewidth": 1.6, "marker": "o", "markersize": 4.5, "markevery": [0]}


@style.figure_style()
def plot_task_differences(comparison: pd.DataFrame) -> Figure:
    """Plot a row a task: table 1's difference as a diamond, the measured as a dot, 3.3 in wide.

    An interval that holds 0 is grey: these seeds show no difference. So is a single seed, which has
    no interval. `comparison` is as :func:`distilkit.study.paper_comparison.compare_with_paper`
    gives it, with the rows of table 1.
    """
    columns = ["source", "what", "published", "measured", "low", "high"]
    check_table("comparison", comparison, columns)
    is_task = comparison["what"].str.contains(": student minus teacher")
    rows = comparison[is_task & comparison["source"].eq("Table 1")]
    if rows.empty:
        raise ValueError("comparison has none of table 1's tasks: give all rows of the table")
    heights = -np.arange(len(rows))
    figure = style.new_figure(style.COLUMN_IN, 1.25 + 0.24 * len(rows))
    axes = figure.subplots()
    for y, row in zip(heights, rows.itertuples(), strict=True):
        axes.plot(row.published, y + 0.17, **_PUBLISHED)
        if not np.isfinite(row.measured):
            place = {"xycoords": ("axes fraction", "data"), "va": "center", "color": style.GREY}
            axes.annotate("not run", (0.02, y), **place)
            continue
        colour = style.BLUE if row.low > 0 or row.high < 0 else style.GREY
        ends = [row.low, row.high] if np.isfinite([row.low, row.high]).all() else []
        values = [row.measured, *ends]  # one line with a dot at its first point
        axes.plot(values, [y - 0.17] * len(values), color=colour, **_MEASURED)
    axes.axvline(0, color=style.INK, linewidth=0.8, zorder=0.9)
    parts.row_chart(axes, len(rows))
    axes.set_yticks(heights, [what.split(":")[0] for what in rows["what"]])
    axes.set_ylim(heights[-1] - 0.6, 0.6)
    axes.set_xlabel("student minus teacher (points)")
    handles = [
        axes.plot([], [], **_PUBLISHED, label="published (Sanh et al. 2019)")[0],
        axes.plot([], [], color=style.BLUE, **_MEASURED, label="measured, interval clear of 0")[0],
        axes.plot([], [], color=style.GREY, **_MEASURED, label="measured, not clear of 0")[0],
    ]
    figure.legend(handles=handles, loc="outside upper left")
    return style.freeze_layout(figure)
