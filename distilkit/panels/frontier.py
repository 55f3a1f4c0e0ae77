"""Sliders over the compression frontier.

Which model is the smallest within so many points of the teacher, which the fastest under so many
MB, and which meets both limits? ``frontier.js`` answers and draws;
:func:`distilkit.compress.pareto.smallest_within` answers the first question in Python.
"""

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from distilkit.compress.pareto import frontier_points
from distilkit.panels.panel import Panel, check_slider, figure_html
from distilkit.plots.frontier import plot_frontier, score_axis

_COLUMNS = ["variant", "engine", "score", "score_low", "score_high", "lost"]
_COLUMNS += ["size_mb", "latency_ms_p50"]


def frontier_panel(
    table: pd.DataFrame, *, within: float = 2.0, about: dict[str, Any] | None = None
) -> Panel:
    """Show score against size and latency, with a slider for each question.

    `table` is that of :func:`distilkit.compress.frontier.run_frontier`; `within` the first value of
    the points below the teacher; `about` more for the saved files' metadata. ``panel.settings`` of
    the widget holds ``within`` and ``size_mb``, ``panel.value`` the points and the sliders' ends.
    """
    points = frontier_points(table)
    most_lost = float(max(5, math.ceil(points["lost"].max())))
    low = _two_digits(points["size_mb"].min(), math.floor)
    high = _two_digits(points["size_mb"].max(), math.ceil)
    high = max(high, 2 * low)  # so that the slider has a range

    def check(settings: dict[str, Any]) -> None:
        check_slider("within", settings["within"], 0, most_lost)
        check_slider("size_mb", settings["size_mb"], low, high)

    middle = float(f"{math.sqrt(low * high):.2g}")
    settings = {"within": float(within), "size_mb": middle}
    check(settings)
    value = {
        "points": points[_COLUMNS].to_dict("records"),
        "engines": list(dict.fromkeys(points["engine"])),
        "most_lost": most_lost,
        "sizes": [low, high],
        "score_axis": score_axis(points),
        "about": about or {},
    }
    alt = f"score against size and latency of {len(points)} models"
    still = figure_html(plot_frontier(table), alt)
    return Panel("frontier.js", value, settings, check=check, still=still)


def _two_digits(number: float, rounding: Callable[[float], float]) -> float:
    """Round up or down to two significant digits."""
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return float(f"{rounding(number / unit) * unit:.6g}")
