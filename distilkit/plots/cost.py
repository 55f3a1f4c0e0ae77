"""The cost of a model: its size and speed, and the score it gives for them."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from distilkit.plots import parts, style
from distilkit.plots.text import number, wrap

_COSTS = ["parameters", "size_mb", "latency_ms_p50", "latency_ms_p95", "throughput_per_s"]
_SCORE = ["score", "score_low", "score_high"]


@style.figure_style()
def plot_size_speed_accuracy(table: pd.DataFrame) -> Figure:
    """Plot size, latency and, where there are scores, score against latency, 6.9 in wide.

    Each bar carries its value and, in brackets, its ratio to the first row's. In the third panel
    the area of a bubble is the model's size; its whisker runs from `score_low` to `score_high`.
    These columns may be missing; the others are of :func:`distilkit.measure.latency.compare`.
    """
    parts.check_table("table", table, ["model", *_COSTS])
    table = table.reset_index(drop=True).reindex(columns=["model", *_COSTS, *_SCORE])
    for end in ("score_low", "score_high"):
        table[end] = table[end].fillna(table["score"])
    scored = table[table["score"].notna()]

    ratios = (1, 1.1, 1.45) if len(scored) else (1, 1.1)
    height_in = max(0.52 * len(table) + 0.7, 2.2 if len(scored) else 0)
    figure = style.new_figure(style.FULL_IN, height_in)
    size, speed, *third = figure.subplots(1, len(ratios), width_ratios=ratios)
    p50, p95, rate = (table[c] for c in ("latency_ms_p50", "latency_ms_p95", "throughput_per_s"))
    count = EngFormatter(places=1)  # 66,400,000 as 66.4 M
    parameters = [f"{count(n)} parameters" for n in table["parameters"]]
    rates = [f"{number(r)} per s ({r / rate[0]:.2f}×)" for r in rate]
    _cost_bars(size, table["size_mb"], "MB", parameters)
    _cost_bars(speed, p50, "ms", rates)
    for row in table.index:
        parts.whisker(speed, [p50[row], p95[row]], [row, row], marker="|")
    size.set_yticks(table.index, [wrap(model, 84, 3) for model in table["model"]])
    size.set(xlim=(0, table["size_mb"].max() * 1.04), xlabel="MB")
    size.set_title("Size; parameters")
    speed.set(xlim=(0, max(p50.max(), p95.max()) * 1.04), xlabel="ms (whisker: p95)")
    speed.set_title("Latency p50; throughput")
    for axes in third:
        _score_against_latency(axes, scored)
    return style.freeze_layout(figure)


def _cost_bars(axes: Axes, values: pd.Series, unit: str, below: list[str]) -> None:
    """Draw one thin bar a row, its value and ratio to the first above it, another text below."""
    for row, value in enumerate(values):
        axes.barh(row, value, height=0.26, **parts.series_look(row))
        above = f"{number(value)} {unit} ({value / values[0]:.2f}×)"
        near = {"xytext": (2, 0), "textcoords": "offset points"}
        axes.annotate(above, (0, row - 0.16), va="bottom", color=style.INK, **near)
        axes.annotate(below[row], (0, row + 0.15), va="top", color=style.GREY, **near)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_yticks([])
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)


def _score_against_latency(axes: Axes, scored: pd.DataFrame) -> None:
    low, high = scored["score_low"], scored["score_high"]
    for i, row in scored.iterrows():
        parts.whisker(axes, [row["latency_ms_p50"]] * 2, [low[i], high[i]], marker="_")
        area = 280 * row["size_mb"] / scored["size_mb"].max()  # square points
        axes.scatter(row["latency_ms_p50"], row["score"], s=area, zorder=2, **parts.series_look(i))
    span = max(high.max() - low.min(), 1.0)
    axes.set_ylim(low.min() - 0.2 * span, high.max() + 0.2 * span)
    axes.set_xlim(0, scored["latency_ms_p50"].max() * 1.25)
    axes.locator_params(nbins=5)
    parts.value_grid(axes)
    axes.set_title("Score; area: size")
    axes.set(xlabel="latency p50 (ms)", ylabel="score (points)")
