"""What a model costs: size and speed, and the score it gives for them."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distilkit.plots.labels import in_points, name_points
from distilkit.plots.style import (
    FULL_IN,
    GREY,
    INK,
    check_table,
    check_vector,
    figure_style,
    freeze_layout,
    new_figure,
    number,
    series_look,
    value_grid,
    whisker,
    wrap,
)


def plot_size_speed_accuracy(table: pd.DataFrame) -> Figure:
    """Size, latency and, where there are scores, accuracy against latency. 6.9 in wide.

    Each bar carries its value and, in brackets, its ratio to the first row's; below it stand the
    parameters, and the throughput with its ratio. The whisker of the latency runs from the median
    (p50) to p95. In the third panel the area of a bubble is the
    model's size and its whisker runs from `score_low` to `score_high`.

    Args:
        table: one row a model, columns `model`, `parameters`, `size_mb`, `latency_ms_p50`,
            `latency_ms_p95`, `throughput_per_s`, all above 0, and, if known, `score`, `score_low`,
            `score_high` (points). NaN in a score leaves that model out of the third panel; without
            any score that panel is left out.

    Raises:
        ValueError: for an empty table, missing columns, doubled models, values not above 0, or a
            score that is infinite or outside its range.
    """
    measures = ["parameters", "size_mb", "latency_ms_p50", "latency_ms_p95", "throughput_per_s"]
    table = check_table("table", table, ["model", *measures]).reset_index(drop=True)
    for column in measures:
        if (check_vector(f"table['{column}']", table[column]) <= 0).any():
            raise ValueError(f"table['{column}'] must be above 0 in every row")
    if table["model"].duplicated().any():
        raise ValueError(f"table has the same model twice: {list(table['model'])}")
    table = table.reindex(columns=["model", *measures, "score", "score_low", "score_high"])
    if np.isinf(table[["score", "score_low", "score_high"]].to_numpy(dtype=float)).any():
        raise ValueError("table has a score that is not finite; NaN stands for an unknown one")
    low, high = _score_range(table)
    if ((table["score"] < low) | (table["score"] > high)).any():
        raise ValueError("table['score'] must lie between 'score_low' and 'score_high'")
    with_scores = table["score"].notna().any()
    rows, p95s = range(len(table)), table["latency_ms_p95"]

    with figure_style():
        ratios = (1, 1.1, 1.45) if with_scores else (1, 1.1)
        figure = new_figure(FULL_IN, max(0.52 * len(table) + 0.7, 2.2 if with_scores else 0))
        panels = figure.subplots(1, len(ratios), width_ratios=ratios)
        size, speed = panels[:2]
        parameters = [f"{_count(n)} parameters" for n in table["parameters"]]
        rate = table["throughput_per_s"]
        rates = [f"{number(r)} per s ({r / rate[0]:.2f}×)" for r in rate]
        _cost_bars(size, table["size_mb"], "MB", parameters)
        _cost_bars(speed, table["latency_ms_p50"], "ms", rates)
        for row, (p50, p95) in enumerate(zip(table["latency_ms_p50"], p95s, strict=True)):
            whisker(speed, [p50, p95], [row, row], marker="|")
        size.set_yticks(rows, [wrap(model, 84, 3) for model in table["model"]])
        size.set(xlim=(0, table["size_mb"].max() * 1.04), xlabel="MB")
        size.set_title("Size; parameters")
        speed.set(xlim=(0, max(table["latency_ms_p50"].max(), p95s.max()) * 1.04))
        speed.set_xlabel("ms (whisker: p95)")
        speed.set_title("Latency p50; throughput")
        if with_scores:
            _accuracy_against_latency(panels[2], table)
        freeze_layout(figure)
        if with_scores:
            _label_bubbles(panels[2], table[table["score"].notna()])
        return figure


def _cost_bars(axes: Axes, values: pd.Series, unit: str, below: list[str]) -> None:
    """One thin bar a row, its value and ratio to the first above it, another text below."""
    for row, value in enumerate(values):
        axes.barh(row, value, height=0.26, **series_look(row))
        above = f"{number(value)} {unit} ({value / values[0]:.2f}×)"
        for text, y, va, colour in (
            (above, row - 0.16, "bottom", INK),
            (below[row], row + 0.15, "top", GREY),
        ):
            axes.annotate(text, (0, y), (2, 0), textcoords="offset points", va=va, color=colour)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_yticks([])
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)


def _accuracy_against_latency(axes: Axes, table: pd.DataFrame) -> None:
    table = table[table["score"].notna()]
    low, high = _score_range(table)
    for i, row in table.iterrows():
        whisker(axes, [row["latency_ms_p50"]] * 2, [low[i], high[i]], marker="_")
        area = _bubble_area(row["size_mb"], table)
        axes.scatter(row["latency_ms_p50"], row["score"], s=area, zorder=2, **series_look(i))
    span = max(high.max() - low.min(), 1.0)
    axes.set_ylim(low.min() - 0.2 * span, high.max() + 0.2 * span)
    axes.set_xlim(0, table["latency_ms_p50"].max() * 1.25)
    axes.locator_params(nbins=5)
    value_grid(axes)
    axes.set_title("Score; area: size")
    axes.set(xlabel="latency p50 (ms)", ylabel="score (points)")


def _score_range(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    low, high = (table[column].fillna(table["score"]) for column in ("score_low", "score_high"))
    return low, high


def _bubble_area(size_mb: float, table: pd.DataFrame) -> float:
    """In square points; the largest is 19 pt across."""
    return 280 * size_mb / table["size_mb"].max()


def _label_bubbles(axes: Axes, table: pd.DataFrame) -> None:
    """Each model's name near its bubble; the layout must be final."""
    low, high = _score_range(table)
    latency = table["latency_ms_p50"]
    radii = [math.sqrt(_bubble_area(size, table) / math.pi) for size in table["size_mb"]]
    names = [wrap(model, 90, 2) for model in table["model"]]
    ends = zip(in_points(axes, latency, low), in_points(axes, latency, high), strict=True)
    whiskers = [(x - 1.5, bottom, x + 1.5, top) for (x, bottom), (_, top) in ends]
    name_points(axes, latency, table["score"], names, radii=radii, obstacles=whiskers)


def _count(n: float) -> str:
    """66,000,000 as 66 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{number(n / size)} {unit}"
    return f"{n:.0f}"
