"""Two questions to the compression frontier, asked with sliders.

Which is the smallest model within so many points of the teacher? Which is the fastest under so many
MB? And which, if both are asked at once? :mod:`distilkit.compress.pareto` answers the same in
Python; ``frontier.js`` draws it.
"""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilkit.compress.pareto import frontier_points
from distilkit.panels.panel import Panel, check_slider
from distilkit.plots.frontier import plot_frontier

if TYPE_CHECKING:
    import pandas as pd

_SEEN = ["variant", "engine", "score", "score_low", "score_high", "lost"]
_SEEN += ["size_mb", "latency_ms_p50", "latency_ms_p95", "memory_mib"]


def frontier_panel(
    table: pd.DataFrame,
    *,
    within: float = 2.0,
    size_mb: float | None = None,
    about: dict[str, Any] | None = None,
    folder: Path | None = None,
) -> Panel:
    """Score against size and latency, and a slider for each question.

    Args:
        table: as :func:`distilkit.compress.frontier.run_frontier` returns it.
        within: points below the teacher, to begin with.
        size_mb: most MB, to begin with; by default in the middle of the (logarithmic) slider.
        about: more for the saved files' metadata.
        folder: where Save writes; by default the scale's ``figures/<scale>/``.

    Returns:
        A widget; ``panel.settings`` holds ``within`` and ``size_mb``, ``panel.value`` the points
        and the sliders' ends.

    Raises:
        ValueError: what :func:`distilkit.compress.pareto.frontier_points` raises, or a number
            outside its slider.
    """
    points = frontier_points(table)
    most_lost = float(max(5, math.ceil(points["lost"].max())))
    low = _two_digits(points["size_mb"].min(), math.floor)
    high = _two_digits(points["size_mb"].max(), math.ceil)
    high = max(high, 2 * low)  # a slider of one end is none

    def check(settings: dict[str, Any]) -> None:
        check_slider("within", settings["within"], 0, most_lost)
        check_slider("size_mb", settings["size_mb"], low, high)

    middle = float(f"{math.sqrt(low * high):.2g}")
    settings = {"within": float(within), "size_mb": middle if size_mb is None else float(size_mb)}
    check(settings)
    value = {
        "points": points[_SEEN].to_dict("records"),
        "engines": list(dict.fromkeys(points["engine"])),
        "most_lost": most_lost,
        "sizes": [low, high],
        "about": about or {},
    }
    png, size = plot_frontier(table)._repr_png_()
    still = (
        f'<img alt="score against size and latency of {len(points)} models" '
        f'width="{size["width"]}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    )
    options = {"check": check, "still": still, "folder": folder}
    return Panel("frontier.js", value, settings, **options)


def _two_digits(number: float, rounded: Any) -> float:
    """Rounded up or down to two significant digits."""
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return float(f"{rounded(number / unit) * unit:.6g}")
