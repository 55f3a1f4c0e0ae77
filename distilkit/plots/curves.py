"""Data in, a matplotlib figure out: what the notebooks show and what goes into a report.

Every function returns a new `Figure` in the style of :mod:`distilkit.plots.style`, either 3.3 in
or 6.9 in wide, that a notebook shows as the last expression of a cell; `save_figure` writes it.
Inputs stay as they were. Shapes: C classes (or words), T temperatures.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from distilkit.plots.cost import plot_size_speed_accuracy
from distilkit.plots.layer_map import plot_layer_map
from distilkit.plots.scores import plot_beside_paper, plot_glue_bars
from distilkit.plots.style import (
    BLUE,
    FULL_IN,
    GREY,
    INK,
    ORANGE,
    SKY,
    TEXT_PT,
    TITLE_PT,
    VERMILLION,
    check_labels,
    check_table,
    check_vector,
    figure_style,
    freeze_layout,
    new_figure,
    note_below,
    save_figure,
    shorten,
    text_width_pt,
    value_grid,
)

__all__ = [
    "plot_beside_paper",
    "plot_glue_bars",
    "plot_layer_map",
    "plot_losses",
    "plot_one_hot_and_soft",
    "plot_size_speed_accuracy",
    "plot_temperatures",
    "save_figure",
]

LOSS_TERMS = {"soft_target": "Soft targets", "mlm": "Masked words (MLM)", "cosine": "Cosine"}
MAX_WORDS = 15  # words shown by plot_one_hot_and_soft


# ------------------------------------------------------------------------------ temperature


def plot_temperatures(
    logits, temperatures: Sequence[float] = (0.25, 0.5, 1, 2, 5, 10), labels=None
) -> Figure:
    """softmax(logits / T) as bars, one panel a temperature, on one probability axis. 6.9 in wide.

    Above each panel: T, whether it sharpens or smooths (T = 1 is the plain softmax, drawn dark),
    the entropy in nats and the effective number of classes, exp(entropy).

    Args:
        logits: [C], finite, C at least 2.
        temperatures: finite numbers above 0.
        labels: C names for the bars; the index of the class if left out.

    Raises:
        ValueError: for other shapes, non-finite logits, or temperatures that are not above 0.
    """
    logits = check_vector("logits", logits, at_least=2)
    temperatures = check_vector("temperatures", temperatures)
    if (temperatures <= 0).any():
        raise ValueError(f"temperatures {temperatures.tolist()}: every one must be above 0")
    classes = len(logits)
    named = labels is not None
    labels = check_labels("labels", labels if named else range(classes), classes)
    labels = [shorten(label, 60) for label in labels]

    rows = math.ceil(len(temperatures) / (6 if classes <= (6 if named else 12) else 3))
    columns = math.ceil(len(temperatures) / rows)
    slot_pt = ((FULL_IN - 0.7) / columns * 72 - 8) / (classes + 0.6)  # room of one bar
    widest = max(text_width_pt(label) for label in labels)
    flat = not named or widest + 3 <= slot_pt  # else the words stand upright
    every = math.ceil((widest + 3 if flat else 9) / slot_pt)  # label each k-th bar if crowded
    height_in = rows * (1.75 + (0 if flat else widest / 72)) + 0.25

    with figure_style():
        figure = new_figure(FULL_IN, height_in)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, t in zip(grid.flat, temperatures, strict=False):
            p = _softmax(logits / t)
            plain = t == 1
            axes.bar(range(classes), p, width=0.76, color=BLUE if plain else SKY)
            axes.set_xticks(range(0, classes, every), labels[::every], rotation=0 if flat else 90)
            axes.tick_params(axis="x", length=0)
            axes.set(xlim=(-0.8, classes - 0.2), ylim=(0, 1), yticks=(0, 0.25, 0.5, 0.75, 1))
            axes.set_yticklabels(["0", "", "0.5", "", "1"])
            value_grid(axes)
            entropy = _entropy(p)
            kind = "plain softmax" if plain else "sharper" if t < 1 else "smoother"
            axes.set_title(
                f"{kind}\n{entropy:.2f} nats\n{math.exp(entropy):.1f} classes",
                fontsize=TEXT_PT,
                linespacing=1.25,
                color=INK if plain else GREY,
            )
            axes.annotate(
                f"T = {t:g}",
                (0, 1),
                (0, 5 + 3 * 1.25 * TEXT_PT + 2),
                xycoords="axes fraction",
                textcoords="offset points",
                fontsize=TITLE_PT,
                fontweight="bold",
            )
        for axes in grid.flat[len(temperatures) - columns : len(temperatures)]:
            axes.tick_params(axis="x", labelbottom=True)
        for axes in grid.flat[len(temperatures) :]:
            axes.remove()
        for axes in grid[:, 0]:
            axes.set_ylabel("probability")
        note_below(
            figure, "Above the bars: entropy, and exp(entropy) as the effective number of classes."
        )
        return freeze_layout(figure)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max())
    return exp / exp.sum()


def _entropy(p: np.ndarray) -> float:
    """In nats, with 0 log 0 = 0."""
    p = p[p > 0]
    return max(0.0, float(-(p * np.log(p)).sum()))


# ------------------------------------------------------------------ one-hot and soft target


def plot_one_hot_and_soft(
    probabilities, target: int, labels: Sequence[str], temperature: float
) -> Figure:
    """The one-hot target beside the teacher's soft targets over the same words. 6.9 in wide.

    The words stand in the order of the teacher's probability; of more than 15 words, the 15 most
    probable are shown (the target always). What the teacher gives to other words than the target is
    its "dark knowledge"; its sum stands below.

    Args:
        probabilities: [C], the teacher's softmax at `temperature`, or its C largest entries: at
            least 0, with a sum of at most 1.
        target: index of the true word in `probabilities`, 0 to C - 1.
        labels: the C words.
        temperature: the T of the teacher's softmax, above 0.

    Raises:
        ValueError: for other shapes, values that are no probabilities, or a target out of range.
    """
    p = check_vector("probabilities", probabilities, at_least=2)
    if (p < 0).any() or p.sum() > 1 + 1e-3:
        raise ValueError(
            f"probabilities from {p.min():g}, summing to {p.sum():g}: "
            "every one must be at least 0 and their sum at most 1 (softmax first?)"
        )
    labels = check_labels("labels", labels, len(p))
    if not 0 <= target < len(p):
        raise ValueError(f"target {target}: give an index from 0 to {len(p) - 1}")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature {temperature!r}: give a finite number above 0")

    order = np.argsort(-p, kind="stable")
    shown = order[:MAX_WORDS]
    if target not in shown:
        shown = np.append(shown[:-1], target)
    words = [shorten(labels[i], 110) for i in shown]
    is_target = shown == target
    rows = np.arange(len(shown))

    with figure_style():
        figure = new_figure(FULL_IN, 0.19 * len(shown) + 1.0)
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.6))
        one_hot = is_target.astype(float)
        left.barh(rows, one_hot, height=0.72, color=BLUE)
        right.barh(rows, p[shown], height=0.72, color=np.where(is_target, BLUE, ORANGE))
        longest = p[shown].max()
        for axes, values, span in ((left, one_hot, 1.0), (right, p[shown], longest)):
            for row, value in zip(rows, values, strict=True):
                text = f"{value:.0f}" if axes is left else _probability(value)
                axes.annotate(
                    text,
                    (value, row),
                    (3, 0),
                    textcoords="offset points",
                    va="center_baseline",
                    fontweight="bold" if is_target[row] else "normal",
                )
            axes.set_xlim(0, span * 1.2)
            axes.tick_params(axis="y", length=0)
            axes.set_xlabel("probability")
        left.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        right.locator_params(axis="x", nbins=5)
        left.set_ylim(len(shown) - 0.4, -0.6)
        left.set_yticks(rows, words)
        left.get_yticklabels()[int(np.flatnonzero(is_target)[0])].set_fontweight("bold")
        left.set_title("One-hot target")
        right.set_title(f"Teacher's soft targets, T = {temperature:g}")
        note_below(
            figure,
            f"Orange: “dark knowledge”, {_probability(1 - p[target])} on other words. "
            f"Shown: {100 * min(1.0, p[shown].sum()):.1f} % of the teacher's probability.",
        )
        return freeze_layout(figure)


def _probability(value: float) -> str:
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}"


# ----------------------------------------------------------------------------------- losses


def plot_losses(metrics: pd.DataFrame, validation: pd.DataFrame | None = None) -> Figure:
    """The three terms of the loss over training, a panel each with its own axis. 6.9 in wide.

    Thin: every logged value. Thick: a centred running mean over about a twentieth of them (from 20
    logged values on). Diamonds: validation.

    Args:
        metrics: columns `step` (optimizer step, rising) and `soft_target`, `mlm`, `cosine`
            (unweighted terms); a term that is missing or NaN throughout gets no panel; other
            columns are left alone.
        validation: the same columns, any of the terms.

    Raises:
        ValueError: for an empty table, no term, steps that do not rise, or non-finite values.
    """
    check_table("metrics", metrics, ["step"])
    terms = [t for t in LOSS_TERMS if t in metrics.columns and not metrics[t].isna().all()]
    if not terms:
        raise ValueError(f"metrics has none of {list(LOSS_TERMS)}; it has {list(metrics.columns)}")
    tables = {"metrics": metrics}
    if validation is not None:
        tables["validation"] = check_table("validation", validation, ["step"])
    for name, table in tables.items():
        _check_curve(name, table, [t for t in terms if t in table])

    window = len(metrics) // 20
    smooth = len(metrics) >= 20
    window = max(3, window + 1 - window % 2)

    with figure_style():
        figure = new_figure(FULL_IN, 2.25)
        panels = figure.subplots(1, len(terms), squeeze=False)[0]
        for axes, term in zip(panels, terms, strict=True):
            raw = metrics[term]
            axes.plot(
                metrics["step"],
                raw,
                color=SKY,
                linewidth=0.6 if smooth else 1.2,
                marker="o" if len(metrics) < 20 else "",
                markersize=3,
                label="each logged step",
            )
            if smooth:
                mean = raw.rolling(window, center=True, min_periods=window // 2 + 1).mean()
                axes.plot(metrics["step"], mean, color=BLUE, label=f"running mean of {window}")
            if validation is not None and term in validation and validation[term].notna().any():
                axes.plot(
                    validation["step"],
                    validation[term],
                    linestyle="",
                    marker="D",
                    markersize=4.5,
                    color=VERMILLION,
                    markeredgecolor="white",
                    markeredgewidth=0.6,
                    label="validation",
                    clip_on=False,
                    zorder=3,
                )
            axes.set_title(LOSS_TERMS[term])
            axes.set_xlabel("optimizer step")
            axes.locator_params(axis="x", nbins=4, integer=True)
            axes.locator_params(axis="y", nbins=5)
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
            value_grid(axes)
        panels[0].set_ylabel("loss (unweighted)")
        by_label = {}
        for axes in panels:
            handles, labels = axes.get_legend_handles_labels()
            by_label.update(zip(labels, handles, strict=True))
        figure.legend(
            by_label.values(), by_label.keys(), loc="outside upper left", ncols=len(by_label)
        )
        return freeze_layout(figure)


def _check_curve(name: str, table: pd.DataFrame, terms: list[str]) -> None:
    steps = check_vector(f"{name}['step']", table["step"])
    if (np.diff(steps) <= 0).any():
        raise ValueError(f"{name}['step'] must rise from row to row (two runs in one table?)")
    for term in terms:
        values = table[term].to_numpy(dtype=float)
        bad = ~np.isfinite(values)
        if bad.any() and not np.isnan(values).all():
            raise ValueError(
                f"{name}['{term}'] is not finite in {bad.sum()} of {len(values)} rows, first at "
                f"step {steps[bad][0]:g}: drop those rows or look at the run"
            )
