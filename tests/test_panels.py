"""The slider, driven without a browser."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.special import softmax

from distilkit.panels import temperature_slider

LABELS, LOGITS = ["dog", "wolf", "car"], [4.0, 3.0, -1.0]


def parts(panel):
    controls, text, picture = panel.children
    slider, box = controls.children
    return slider, box, text, picture


def test_slider_and_number_box_move_together():
    slider, box, _, _ = parts(temperature_slider(LOGITS, LABELS))
    slider.value = 5.0
    assert box.value == 5.0
    box.value = 0.5
    assert slider.value == 0.5
    assert box.description == "temperature T"


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 3.0, 20.0])
def test_text_says_what_softmax_says(temperature):
    _, box, text, _ = parts(temperature_slider(LOGITS, LABELS))
    box.value = temperature
    p = softmax(np.array(LOGITS) / temperature)
    said = re.fullmatch(r"T = ([\d.]+): dog has ([\d.]+) %, entropy ([\d.]+) nats\.", text.value)
    assert float(said[1]) == pytest.approx(temperature, abs=0.005)
    assert float(said[2]) == pytest.approx(100 * p[0], abs=0.051)
    assert float(said[3]) == pytest.approx(-(p * np.log(p)).sum(), abs=0.0051)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [([], []), ([1.0, float("nan")], ["a", "b"]), ([1.0, 2.0], ["a"])],
)
def test_wrong_logits_are_refused_at_once(logits, labels):
    with pytest.raises(ValueError, match=r"logits|labels"):
        temperature_slider(logits, labels)


def test_picture_follows_the_value():
    _, box, _, picture = parts(temperature_slider(LOGITS, LABELS))
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    box.value = 7.0
    assert bytes(picture.value) != before
    box.value = 2.0
    assert bytes(picture.value) == before


def test_labels_are_text_not_html():
    *_, text, _ = parts(temperature_slider([2.0, 1.0], ["<script>x</script>", "b"]))
    assert "<script>" not in text.value
