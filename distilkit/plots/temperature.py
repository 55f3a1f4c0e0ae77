"""The temperature in figures: softmax(z / T), and a one-hot target against a soft one.

Hinton et al. 2015, equation 1. Shape letter: C classes (or words).
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import entr, softmax

from distilkit.plots import parts, style
from distilkit.plots.text import shorten, text_width_pt

MAX_WORDS = 15  # words shown by plot_one_hot_and_soft


@style.figure_style()
def plot_temperatures(
    logits, temperatures: Sequence[float] = (0.25, 0.5, 1, 2, 5, 10), labels=None
) -> Figure:
    """Plot softmax(logits / T) as bars, one panel a temperature, 6.9 in wide.

    Above each panel stand T, the entropy in nats and the effective number of classes,
    exp(entropy). T = 1 is drawn darker. `labels` are C names for the bars of `logits` [C].
    """
    logits = _vector("logits", logits, labels, at_least=2)
    temperatures = _vector("temperatures", temperatures)
    if (temperatures <= 0).any():
        raise ValueError(f"temperatures {temperatures.tolist()}: give numbers above 0")
    classes = len(logits)
    named = labels is not None
    labels = [shorten(label, 60) for label in (labels if named else range(classes))]

    rows = math.ceil(len(temperatures) / (6 if classes <= (6 if named else 12) else 3))
    columns = math.ceil(len(temperatures) / rows)
    slot_pt = ((style.FULL_IN - 0.7) / columns * 72 - 8) / (classes + 0.6)  # room of one bar
    widest = max(text_width_pt(label) for label in labels)
    flat = not named or widest + 3 <= slot_pt  # otherwise the words stand upright
    step = math.ceil((widest + 3 if flat else 9) / slot_pt)  # label each step-th bar if crowded

    figure = style.new_figure(style.FULL_IN, rows * (1.75 + (0 if flat else widest / 72)) + 0.25)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, t in zip(grid.flat, temperatures, strict=False):
        p = softmax(logits / t)
        axes.bar(range(classes), p, width=0.76, color=style.BLUE if t == 1 else style.SKY)
        axes.set_xticks(range(0, classes, step), labels[::step], rotation=0 if flat else 90)
        axes.tick_params(axis="x", length=0)
        axes.set(xlim=(-0.8, classes - 0.2), ylim=(0, 1), yticks=(0, 0.25, 0.5, 0.75, 1))
        axes.set_yticklabels(["0", "", "0.5", "", "1"])
        parts.value_grid(axes)
        _head(axes, t, float(entr(p).sum()))
    for axes in grid.flat[len(temperatures) - columns : len(temperatures)]:
        axes.tick_params(axis="x", labelbottom=True)
    for axes in grid.flat[len(temperatures) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("probability")
    note = "Above the bars: entropy, and exp(entropy) as the effective number of classes."
    parts.note_below(figure, note)
    return style.freeze_layout(figure)


def _head(axes: Axes, t: float, entropy: float) -> None:
    """Write T in bold, and below it its effect."""
    kind = "plain softmax" if t == 1 else "sharper" if t < 1 else "smoother"
    title = f"{kind}\n{entropy:.2f} nats\n{math.exp(entropy):.1f} classes"
    colour = style.INK if t == 1 else style.GREY
    axes.set_title(title, fontsize=style.TEXT_PT, linespacing=1.25, color=colour)
    above = {"xytext": (0, 5 + 3 * 1.25 * style.TEXT_PT + 2), "textcoords": "offset points"}
    font = {"fontsize": style.TITLE_PT, "fontweight": "bold"}
    axes.annotate(f"T = {t:g}", (0, 1), xycoords="axes fraction", **above, **font)


@style.figure_style()
def plot_one_hot_and_soft(
    probabilities, target: int, labels: Sequence[str], temperature: float
) -> Figure:
    """Plot the one-hot target and the teacher's soft target over the same words, 6.9 in wide.

    Of more than 15 words the 15 most probable are shown, the target always. Below stands the sum of
    what the teacher gives to other words than the target, its "dark knowledge".

    Args:
        probabilities: [C], the teacher's softmax at `temperature`, or its C largest entries.
        target: index of the true word in `probabilities`.
        labels: the C words.
    """
    p = _vector("probabilities", probabilities, labels, at_least=2)
    if (p < 0).any() or p.sum() > 1 + 1e-3:
        raise ValueError(
            f"probabilities from {p.min():g}, summing to {p.sum():g}: "
            "each must be at least 0 and their sum at most 1 (softmax first?)"
        )
    if not 0 <= target < len(p):
        raise ValueError(f"target {target}: give an index from 0 to {len(p) - 1}")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature {temperature!r}: give a finite number above 0")

    shown = np.argsort(-p, kind="stable")[:MAX_WORDS]
    if target not in shown:
        shown = np.append(shown[:-1], target)
    is_target = shown == target
    rows = np.arange(len(shown))

    figure = style.new_figure(style.FULL_IN, 0.19 * len(shown) + 1.0)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.6))
    one_hot = is_target.astype(float)
    left.barh(rows, one_hot, height=0.72, color=style.BLUE)
    right.barh(rows, p[shown], height=0.72, color=np.where(is_target, style.BLUE, style.ORANGE))
    for axes, values, span in ((left, one_hot, 1.0), (right, p[shown], p[shown].max())):
        for row, value in zip(rows, values, strict=True):
            text = f"{value:.0f}" if axes is left else _probability(value)
            look = {"fontweight": "bold" if is_target[row] else "normal", "va": "center_baseline"}
            axes.annotate(text, (value, row), (3, 0), textcoords="offset points", **look)
        axes.set_xlim(0, span * 1.2)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("probability")
    left.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
    right.locator_params(axis="x", nbins=5)
    left.set_ylim(len(shown) - 0.4, -0.6)
    left.set_yticks(rows, [shorten(labels[i], 110) for i in shown])
    left.get_yticklabels()[int(np.flatnonzero(is_target)[0])].set_fontweight("bold")
    left.set_title("One-hot target")
    right.set_title(f"Teacher's soft targets, T = {temperature:g}")
    parts.note_below(
        figure,
        f"Orange: “dark knowledge”, {_probability(1 - p[target])} on other words. "
        f"Shown: {100 * min(1.0, p[shown].sum()):.1f} % of the teacher's probability.",
    )
    return style.freeze_layout(figure)


def _probability(value: float) -> str:
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def _vector(name: str, values, labels=None, at_least: int = 1) -> np.ndarray:
    """Return `values` as float64 [n]; ValueError unless finite, enough, and one for each label."""
    vector = np.asarray(values, dtype=float)
    if vector.ndim != 1 or len(vector) < at_least:
        raise ValueError(f"{name} has shape {vector.shape}; give at least {at_least} in one row")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} has {(~np.isfinite(vector)).sum()} values that are not finite")
    if labels is not None and len(labels) != len(vector):
        raise ValueError(f"{len(labels)} labels for {len(vector)} values: give one each")
    return vector
