"""The compression frontier: accuracy against size, and against latency."""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distilkit.figure_labels import in_points, name_points
from distilkit.figure_style import (
    BLUE,
    FULL_IN,
    GREY,
    INK,
    ORANGE,
    PALE,
    figure_style,
    freeze_layout,
    legend_above,
    new_figure,
    note_below,
    value_grid,
)
from distilkit.pareto import frontier_points, pareto_front

_LOOKS = ((GREY, "s"), (BLUE, "o"), (ORANGE, "D"))  # colour and mark of each engine
_COSTS = {"size_mb": "size on disk (MB)", "latency_ms_p50": "latency p50 (ms)"}


def plot_frontier(table: pd.DataFrame) -> Figure:
    """Score against size and against latency, a mark for each variant and engine. 6.9 in wide.

    Whiskers are the range over seeds; a thin line joins a variant's engines; the step line is the
    Pareto front: left and above of it there is nothing.

    Args:
        table: as :func:`distilkit.frontier.run_frontier` returns it.

    Raises:
        ValueError: what :func:`distilkit.pareto.frontier_points` raises.
    """
    points = frontier_points(table)
    with figure_style():
        figure = new_figure(FULL_IN, 3.5)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (cost, label) in zip(panels, _COSTS.items(), strict=True):
            _draw(axes, points, cost)
            axes.set_xlabel(f"{label}, logarithmic")
        panels[0].set_ylabel("score (points)")
        marks = [
            Line2D([], [], color=colour, marker=mark, markersize=4.5, linestyle="", label=engine)
            for engine, (colour, mark) in _looks(points).items()
        ]
        front = Line2D([], [], color=INK, linewidth=0.9, label="Pareto front")
        legend_above(figure, [*marks, front])
        seeds, tasks = table["seed"].nunique(), list(dict.fromkeys(table["task"]))
        spread = f"whisker: range of {seeds} seeds" if seeds > 1 else "one seed"
        note_below(
            figure,
            f"Score: mean over the validation sets of {', '.join(tasks)}; {spread}. Latency: batch "
            f"1, {table['length'].iloc[0]} tokens, threads: {table['threads'].iloc[0]}.",
        )
        freeze_layout(figure)
        for axes, cost in zip(panels, _COSTS, strict=True):
            _name(axes, points, cost)
        return figure


def _looks(points: pd.DataFrame) -> dict[str, tuple[str, str]]:
    return dict(zip(dict.fromkeys(points["engine"]), _LOOKS, strict=False))


def _draw(axes: Axes, points: pd.DataFrame, cost: str) -> None:
    front = points[pareto_front(points, cost)].sort_values(cost)
    low, high = points["score_low"].min(), points["score_high"].max()
    span = max(high - low, 1.0)
    right = points[cost].max() * 1.35
    x, y = [*front[cost], right], [*front["score"], front["score"].iloc[-1]]
    axes.plot(
        np.repeat(x, 2)[1:],  # a staircase: on at the same score, then up
        np.repeat(y, 2)[:-1],
        color=INK,
        linewidth=0.9,
        zorder=1.2,
    )
    for _, of_variant in points.groupby("variant", sort=False):
        line = of_variant.sort_values(cost)
        axes.plot(line[cost], line["score"], color=PALE, linewidth=1.2, zorder=1)
    looks = _looks(points)
    for row in points.itertuples():
        colour, mark = looks[row.engine]
        x = getattr(row, cost)
        axes.plot([x, x], [row.score_low, row.score_high], color=colour, linewidth=0.8, zorder=1.5)
        axes.plot(x, row.score, mark, color=colour, markersize=4.5, zorder=2)
    axes.set_xscale("log")
    axes.set_xlim(points[cost].min() / 1.7, right)
    axes.set_ylim(low - 0.12 * span, high + 0.12 * span)
    _plain_ticks(axes, points[cost])
    axes.locator_params(axis="y", nbins=6)
    value_grid(axes)


def _plain_ticks(axes: Axes, costs: pd.Series) -> None:
    """1, 2, 5, 10, ... within the axis, as plain numbers."""
    low, high = axes.get_xlim()
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [d * 10.0**e for e in decades for d in (1, 2, 5) if low <= d * 10.0**e <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _name(axes: Axes, points: pd.DataFrame, cost: str) -> None:
    """One name a variant, where marks are far apart: left at the last engine, int8, right at the
    first, PyTorch."""
    engine = list(_looks(points))[-1 if cost == "size_mb" else 0]
    named = points[points["engine"] == engine]
    obstacles = [
        (x - 3, y - 3, x + 3, y + 3) for x, y in in_points(axes, points[cost], points["score"])
    ]
    lines = [(front.get_xdata(), front.get_ydata()) for front in axes.lines]  # whiskers too
    for x, y in lines:
        obstacles += _along(in_points(axes, x, y))
    names = [variant.replace(", ", ",\n") for variant in named["variant"]]
    place = named[cost], named["score"]
    name_points(axes, *place, names, radii=[3] * len(names), obstacles=obstacles)


def _along(corners: np.ndarray) -> list[tuple]:
    """Small boxes along a line, in typographic points."""
    boxes = []
    for (x0, y0), (x1, y1) in pairwise(corners):
        steps = max(1, int(np.hypot(x1 - x0, y1 - y0) / 4))
        for share in np.linspace(0, 1, steps + 1):
            x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
            boxes.append((x - 2, y - 2, x + 2, y + 2))
    return boxes
