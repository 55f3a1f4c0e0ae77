"""A slider for the temperature: softmax(z / T), and the reason for the factor T².

Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2: equation 1, and with a student
equations 2 to 4. ``temperature.js`` draws it.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from distilkit.panels.panel import HIGHEST, LOWEST, Panel, check_slider, figure_html
from distilkit.plots.temperature import plot_temperatures


def temperature_panel(
    logits: Sequence[float],
    labels: Sequence[str],
    student_logits: Sequence[float] | None = None,
    *,
    temperature: float = 2.0,
    about: dict[str, Any] | None = None,
) -> Panel:
    """Show a slider for T from 0.1 to 20 (logarithmic) over bars of softmax(z) and softmax(z / T).

    A line of text gives the entropy (nats) and the effective number of classes, exp(entropy). With
    a student, a second view shows both models at the same T: KL, T²·KL, and the gradients of both
    with respect to the student's logits. Logits can be edited. Save writes the view as SVG and
    PNG, with T, the logits and `about` in their metadata. All logits are [C], finite.
    ``panel.settings`` holds ``temperature``, ``logits`` and ``student_logits`` and can be assigned.
    """
    labels = [str(label) for label in labels]
    settings = {
        "temperature": float(temperature),
        "logits": [float(x) for x in logits],  # tensors and arrays too
        "student_logits": None if student_logits is None else [float(x) for x in student_logits],
    }

    def check(settings: dict[str, Any]) -> None:
        for name in ("logits", "student_logits"):
            z = settings[name]
            if z is None and name == "student_logits":
                continue
            if not z or not all(isinstance(x, Real) and math.isfinite(x) for x in z):
                raise ValueError(f"{name} = {z}: give at least one finite number")
            if len(z) != len(labels):
                raise ValueError(f"{name}: {len(z)} numbers for {len(labels)} labels")
        check_slider("temperature", settings["temperature"], LOWEST, HIGHEST)

    check(settings)
    still = ""
    if len(labels) > 1:  # the picture where no script runs
        t = settings["temperature"]
        figure = plot_temperatures(settings["logits"], (1.0, t), labels)
        still = figure_html(figure, f"softmax of {labels} at T = 1 and T = {t:g}")
    value = {"labels": labels, "about": about or {}}
    return Panel("temperature.js", value, settings, check=check, still=still)
