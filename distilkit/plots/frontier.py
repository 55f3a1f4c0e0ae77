"""Compressed models: the frontier of all, and one model next to its teacher."""

import itertools
import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from distilkit.compress.pareto import frontier_points, pareto_front
from distilkit.plots import parts, style
from distilkit.plots.text import number

_COLOURS = (style.GREY, style.BLUE, style.ORANGE)  # of the engines
_MARKERS = "os^vDPX*<>"  # of the variants
_BEST, _LEAST_ERROR = 100.0, 0.05  # points
_SCORES = (99.9, 99.8, 99.5, 99, 98, 97, 95, 92, 90, 85, 80, 70, 60, 50, 20, 0, -50)
_COSTS = {"size_mb": "size on disk (MB)", "latency_ms_p50": "latency p50 (ms)"}


@style.figure_style()
def plot_frontier(table: pd.DataFrame) -> Figure:
    """Plot score against size and latency, a colour an engine, a marker a variant, 6.9 in wide.

    Whiskers are the range over seeds. A thin line joins the engines of a variant. The step line is
    the Pareto front. `table` is that of :func:`distilkit.compress.frontier.run_frontier`.
    """
    points = frontier_points(table)
    figure = style.new_figure(style.FULL_IN, 4.0)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (cost, label) in zip(panels, _COSTS.items(), strict=True):
        _draw(axes, points, cost)
        axes.set_xlabel(f"{label}, logarithmic")
    panels[0].set_ylabel("score (points)")
    colours, markers = _looks(points)
    marks = [parts.swatch(engine, facecolor=colour) for engine, colour in colours.items()]
    marks += [parts.mark(name, style.INK, marker) for name, marker in markers.items()]
    marks.append(parts.mark("Pareto front", style.INK, "", linestyle="-", linewidth=0.9))
    parts.legend_above(figure, marks)
    seeds, tasks = table["seed"].nunique(), ", ".join(dict.fromkeys(table["task"]))
    spread = f"whisker: range of {seeds} seeds" if seeds > 1 else "one seed"
    note = f"Score: mean over the validation sets of {tasks}; {spread}; equal steps upwards halve "
    note += f"the distance to 100. Latency: batch 1, {table['length'].iloc[0]} tokens, "
    parts.note_below(figure, f"{note}threads: {table['threads'].iloc[0]}.")
    return style.freeze_layout(figure)


def _looks(points: pd.DataFrame) -> tuple[dict[str, str], dict[str, str]]:
    """Colour of each engine; marker of each variant."""
    engines, variants = points["engine"].unique(), points["variant"].unique()
    colours = dict(zip(engines, _COLOURS, strict=False))
    return colours, dict(zip(variants, itertools.cycle(_MARKERS), strict=False))


def _draw(axes: Axes, points: pd.DataFrame, cost: str) -> None:
    front = points[pareto_front(points, cost)].sort_values(cost)
    right = points[cost].max() * 1.35
    x, y = [*front[cost], right], [*front["score"], front["score"].iloc[-1]]
    # A staircase: to the right at the same score, then up
    x, y = np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
    axes.plot(x, y, color=style.INK, linewidth=0.9, zorder=1.2)
    for _, of_variant in points.groupby("variant", sort=False):
        line = of_variant.sort_values(cost)
        axes.plot(line[cost], line["score"], color=style.PALE, linewidth=1.2, zorder=1)
    colours, markers = _looks(points)
    for row in points.itertuples():
        colour, marker = colours[row.engine], markers[row.variant]
        x = getattr(row, cost)
        axes.plot([x, x], [row.score_low, row.score_high], color=colour, linewidth=0.8, zorder=1.5)
        # the first engine's files may be as large as the second's: a rim of its mark stays visible
        size = 6.5 if colour == _COLOURS[0] else 4.5
        axes.plot(x, row.score, marker, color=colour, markersize=size, zorder=2)
    axes.set_xscale("log")
    axes.set_xlim(points[cost].min() / 1.7, right)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    bottom, top, ticks = score_axis(points)
    axes.set_yscale("function", functions=(_steps, _score))
    axes.set_ylim(_score(bottom), _score(top))
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    parts.value_grid(axes)


def score_axis(points: pd.DataFrame) -> tuple[float, float, list[float]]:
    """Return the ends of the axis of scores, as steps, and its ticks, as scores.

    A step halves the distance to 100. On a linear axis the best models would lie on top of each
    other.
    """
    bottom, top = _steps(points["score_low"].min()), _steps(points["score_high"].max())
    margin = 0.15 * max(top - bottom, 1.0)
    bottom, top = float(bottom - margin), float(top + margin)
    low, high = _score(bottom), _score(top)
    ticks = [tick for tick in _SCORES if low <= tick <= high]
    whole = range(math.ceil(low), math.floor(high) + 1)
    if len(ticks) < 4 <= len(whole):  # all scores lie close together
        ticks = list(whole[:: math.ceil(len(whole) / 8)])
    return bottom, top, ticks


def _steps(score):
    return -np.log2(np.maximum(_BEST - np.asarray(score, dtype=float), _LEAST_ERROR))


def _score(steps):
    return _BEST - 2.0 ** -np.asarray(steps, dtype=float)


@style.figure_style()
def plot_compression(table: pd.DataFrame) -> Figure:
    """Plot score or agreement, size and latency of teacher and student, 6.9 in wide.

    `table` is that of :func:`distilkit.compress.compress.compress`; without ``difference, low,
    high`` (shares) the agreement is shown.
    """
    parts.check_table("table", table, ["model", "engine", "agreement", *_COSTS])
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
    return style.freeze_layout(figure)
