"""A compressed model next to its teacher: scores, agreement, size, speed."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from distilkit.plots import parts, style
from distilkit.plots.checks import check_table
from distilkit.plots.text import number

_COSTS = ["size_mb", "latency_ms_p50"]


@style.figure_style()
def plot_compression(table: pd.DataFrame) -> Figure:
    """Plot score or agreement, size and latency of teacher and student, 6.9 in wide.

    `table` is that of :func:`distilkit.compress.compress.compress`; without ``difference, low,
    high`` (shares) the agreement is shown.
    """
    check_table("table", table, ["model", "engine", "agreement", *_COSTS])
    rows = -np.arange(len(table))
    models = list(dict.fromkeys(table["model"]))
    figure = style.new_figure(style.FULL_IN, 0.32 * len(table) + 0.8)
    answers, size, speed = figure.subplots(1, 3, sharey=True)
    if "difference" in table:
        for y, row in zip(rows, table.itertuples(), strict=True):
            points = (100 * value for value in (row.difference, row.low, row.high))
            parts.estimate(answers, y, *points)
        low, high = 100 * table["low"].min(), 100 * table["high"].max()
        answers.set_xlim(1.1 * min(low, -1), 1.1 * max(high, 1))  # at least a point to each side
        answers.set_title("Score less the teacher's")
        answers.set_xlabel("points (bar: 95 % interval)")
    else:
        answers.plot(100 * table["agreement"], rows, "o", markersize=4.5, color=style.BLUE)
        answers.set_title("Same answer as the teacher")
        answers.set_xlabel("% of the held-out texts")
    for axes, column, unit in ((size, "size_mb", "MB"), (speed, "latency_ms_p50", "ms")):
        for y, model, value in zip(rows, table["model"], table[column], strict=True):
            axes.barh(y, value, height=0.6, **parts.series_look(models.index(model)))
            near = {"xytext": (2, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(number(value), (value, y), color=style.INK, **near)
        axes.set_xlim(0, table[column].max() * 1.25)
        axes.set_xlabel(unit)
    size.set_title("Weights on disk")
    speed.set_title("One text, median")
    names = [f"{row.model}, {row.engine}" for row in table.itertuples()]
    for axes in (answers, size, speed):
        parts.row_chart(axes, names, zero=axes is answers and "difference" in table)
    return figure
