"""Temperature under the reader's hand: softmax(z / T), and what T² is there for.

Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2: equation 1 above, and with a student
below it equations 2 to 4. ``panel_temperature.js`` draws it.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distilkit.panel import Panel
from distilkit.plots import plot_temperatures

LOWEST, HIGHEST = 0.1, 20.0  # the slider's ends


def temperature_panel(
    logits: Sequence[float],
    labels: Sequence[str],
    student_logits: Sequence[float] | None = None,
    *,
    temperature: float = 2.0,
    about: dict[str, Any] | None = None,
    folder: Path | None = None,
) -> Panel:
    """A slider for T from 0.1 to 20 (logarithmic) over bars of softmax(z) and softmax(z / T).

    A line of text gives entropy (nats) and effective number of classes, exp(entropy). With a
    student, a second view shows both at the same T, KL, T²·KL and the gradient of each with respect
    to the student's logits. Logits can be edited in the panel. Save writes what is seen as SVG and
    PNG, with T and the logits in their metadata.

    Args:
        logits: [C], finite; the teacher's, if there is a student.
        labels: C names.
        student_logits: [C], finite.
        temperature: to begin with.
        about: more for the saved files' metadata, for instance ``provenance(scale)``.
        folder: where Save writes; by default the current scale's ``figures/<scale>/``.

    Returns:
        A widget; ``panel.value`` holds ``temperature``, ``logits``, ``student_logits`` as they are
        in the browser, and can be set.

    Raises:
        ValueError: logits that are empty, not finite or of different lengths, another number of
            labels, or a temperature outside the slider.
    """
    labels = [str(label) for label in labels]
    given = {"logits": logits, "student_logits": student_logits}
    value = {
        name: None if z is None else [float(x) for x in z]  # tensors and arrays too
        for name, z in given.items()
    }
    for name, z in value.items():
        if z is None:
            continue
        if not z or not all(math.isfinite(x) for x in z):
            raise ValueError(f"{name} = {z}: give at least one finite number")
        if len(z) != len(labels):
            raise ValueError(f"{name}: {len(z)} numbers for {len(labels)} labels")
    if not LOWEST <= temperature <= HIGHEST:
        raise ValueError(f"temperature = {temperature}: give a number from {LOWEST} to {HIGHEST}")
    value |= {"labels": labels, "temperature": float(temperature), "about": about or {}}
    still = _still(value) if len(labels) > 1 else ""
    return Panel("panel_temperature.js", value, still=still, folder=folder)


def _still(value: dict[str, Any]) -> str:
    """What is seen where no script runs: softmax(z) beside softmax(z / T)."""
    temperatures = (1.0, value["temperature"])
    figure = plot_temperatures(value["logits"], temperatures, value["labels"])
    png, size = figure._repr_png_()
    says = f"softmax of {value['labels']} at T = 1 and T = {value['temperature']:g}"
    return (
        f'<img alt="{html.escape(says)}" width="{size["width"]}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    )
