"""Differences of scores: the published one and the measured one of each row."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from distilkit.plots import parts, style
from distilkit.plots.checks import check_table


@style.figure_style()
def plot_against_paper(table: pd.DataFrame, xlabel: str) -> Figure:
    """Plot each row's measured difference as a dot, the published as a diamond, 6.9 in wide.

    An interval that contains 0 is grey: these seeds show no difference. So is a single seed, which
    has no interval. `table` holds rows of
    :func:`distilkit.study.paper_comparison.compare_with_paper` or ``compare_ablation``, in points.
    """
    table = check_table("table", table, ["what", "published", "measured", "low", "high"])
    rows = -np.arange(len(table))
    figure = style.new_figure(style.FULL_IN, 0.9 + 0.36 * len(table))
    axes = figure.subplots()
    hollow = {"color": style.VERMILLION, "marker": "D", "markerfacecolor": "w"}
    for y, row in zip(rows, table.itertuples(), strict=True):
        axes.plot(row.published, y - 0.17, linestyle="", markersize=4.5, **hollow)
        if np.isfinite(row.measured):
            parts.estimate(axes, y + 0.17, row.measured, row.low, row.high)
        else:
            place = {"xycoords": ("axes fraction", "data"), "va": "center", "color": style.GREY}
            axes.annotate("not run", (0.02, y), **place)
    parts.row_chart(axes, [what.split(":")[0] for what in table["what"]], zero=True)
    axes.set_xlabel(xlabel)
    marks = [
        parts.mark("measured, 95 % interval", style.BLUE, "o", linestyle="-"),
        parts.mark("measured, interval contains 0", style.GREY, "o", linestyle="-"),
        parts.mark("published (Sanh et al. 2019)", style.VERMILLION, "D", markerfacecolor="w"),
    ]
    parts.legend_above(figure, marks)
    return style.freeze_layout(figure)
