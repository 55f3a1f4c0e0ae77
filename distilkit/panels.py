"""Interactive panels for the notebooks; each is a function that returns its widgets."""

from __future__ import annotations

import html
from collections.abc import Sequence

import ipywidgets
import torch

from distilkit.losses import softmax_with_temperature
from distilkit.plots import plot_temperatures


def temperature_slider(logits: Sequence[float], labels: Sequence[str]) -> ipywidgets.VBox:
    """A slider for T from 0.1 to 20 (logarithmic) above softmax(z) and softmax(z / T).

    The slider and a number box beside it move together; a line of text says what the picture says.

    Args:
        logits: [C], finite.
        labels: C names.

    Returns:
        A box whose children are the controls (slider, number box), the text line and the picture.

    Raises:
        ValueError: logits that are empty or not finite, or another number of labels.
    """
    slider = ipywidgets.FloatLogSlider(
        value=2.0, min=-1, max=1.30103, step=0.01, description="T", readout=False
    )
    box = ipywidgets.BoundedFloatText(
        value=2.0,
        min=0.1,
        max=20.0,
        step=0.1,
        description="temperature T",
        layout={"width": "180px"},
        style={"description_width": "100px"},
    )
    ipywidgets.link((slider, "value"), (box, "value"))
    text = ipywidgets.HTML()
    picture = ipywidgets.Image(format="png", layout={"width": "100%"})

    def draw(_change: dict | None = None) -> None:
        temperature = box.value
        figure = plot_temperatures(logits, (1.0, temperature), labels)  # refuses wrong input
        p = softmax_with_temperature(torch.tensor(logits, dtype=torch.float64), temperature)
        best = int(p.argmax())
        entropy = float(-(p * p.clamp_min(1e-300).log()).sum())
        text.value = (
            f"T = {temperature:.2f}: {html.escape(labels[best])} has {100 * p[best]:.1f} %, "
            f"entropy {entropy:.2f} nats."
        )
        picture.value, size = figure._repr_png_()
        picture.layout.max_width = f"{size['width']}px"

    box.observe(draw, names="value")
    draw()
    return ipywidgets.VBox([ipywidgets.HBox([slider, box]), text, picture])
