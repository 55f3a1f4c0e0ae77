"""Fidelity: agreement with the teacher group by group, and calibration, in one figure."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distilkit.plots import parts, style
from distilkit.plots.text import shorten
from distilkit.study.calibration import reliability
from distilkit.study.intervals import share_interval

MOST_ROWS = 24  # groups that are shown
_LABEL_PT = 128
_LOOKS = {
    "teacher": {"color": style.BLUE, "marker": "o", "linestyle": "-"},
    "student": {"color": style.ORANGE, "marker": "s", "linestyle": (0, (4, 1.5))},
}


@style.figure_style()
def plot_fidelity(groups: pd.DataFrame, examples: pd.DataFrame) -> Figure:
    """Plot agreement and the teacher's lead by group (left), calibration (right), 6.9 in wide.

    A row is a group, the least agreement on top; of many the :data:`MOST_ROWS` largest are shown.
    Lines are 95 % intervals. Right, over all classification: the reliability diagram (Guo et al.
    2017, figure 1), and below it the share of the answers at each confidence. The tables are those
    of :func:`distilkit.study.fidelity.by_group` and :func:`distilkit.study.fidelity.compare_runs`.
    """
    spans = [f"{name}_{end}" for name in ("gap", "agreement") for end in ("low", "high")]
    groups = parts.check_table("groups", groups, ["n", "gap", "agreement", *spans])
    models = [f"{model}_{what}" for model in _LOOKS for what in ("confidence", "correct")]
    examples = parts.check_table("examples", examples, ["seed", *models])
    shown = groups[groups["n"] > 0].sort_values("n", ascending=False, kind="stable").head(MOST_ROWS)
    shown = shown.sort_values(["agreement", "n"], ascending=[True, False], kind="stable")
    figure = style.new_figure(style.FULL_IN, max(3.6, 1.15 + 0.165 * len(shown)))
    axes = figure.subplot_mosaic(
        [["agreement", "gap", "reliability"], ["agreement", "gap", "counts"]],
        width_ratios=(1, 1, 1.35),
        height_ratios=(2.2, 1),
    )
    _forest(axes["agreement"], shown, "agreement", style.BLUE)
    lead = (shown["gap_low"] > 0) | (shown["gap_high"] < 0)
    _forest(axes["gap"], shown, "gap", np.where(lead, style.BLUE, style.GREY))
    rows = [shorten(f"{_name(key)} ({n:,})", _LABEL_PT) for key, n in shown["n"].items()]
    parts.row_chart(axes["agreement"], rows)
    axes["agreement"].set_xlim(0, 102)
    axes["agreement"].set_title("Same answer, %", fontsize=style.TEXT_PT)
    parts.row_chart(axes["gap"], [""] * len(rows), zero=True)
    axes["gap"].set_title("Teacher's lead, points", fontsize=style.TEXT_PT)
    _calibration(axes["reliability"], axes["counts"], examples)
    keys = [parts.mark(model, markersize=3.5, **look) for model, look in _LOOKS.items()]
    figure.legend(handles=keys, loc="outside upper right", ncols=len(keys))
    text = "Lines: 95 % intervals (of twenty, one misses); a lead is grey if its own contains 0."
    if len(shown) < len(groups):
        text += (
            f" Shown are the {len(shown)} largest of {len(groups)} groups, {shown['n'].sum():,} of "
            f"{groups['n'].sum():,} examples."
        )
    parts.note_below(figure, f"{text} Dotted: a calibrated model.")
    return style.freeze_layout(figure)


def _name(key: object) -> str:
    return ": ".join(str(part) for part in key) if isinstance(key, tuple) else str(key)


def _forest(axes: Axes, shown: pd.DataFrame, name: str, colour: str | np.ndarray) -> None:
    """Draw a point and its interval a row, from the top down."""
    rows = -np.arange(len(shown))
    low, high = shown[f"{name}_low"], shown[f"{name}_high"]
    axes.hlines(rows, low, high, colors=colour, linewidth=1.2)
    axes.scatter(shown[name], rows, s=11, c=colour, zorder=3)
    axes.spines["left"].set_visible(False)


def _calibration(upper: Axes, lower: Axes, examples: pd.DataFrame) -> None:
    """Draw the reliability diagram, and under it the share of the answers at each confidence."""
    seeds = examples["seed"].nunique()
    first = 1.0
    for model, look in _LOOKS.items():
        known = examples[examples[f"{model}_confidence"].notna()]
        confidence, correct = known[f"{model}_confidence"], known[f"{model}_correct"]
        table = reliability(confidence, correct.astype(float))
        used = table[table["n"] > 0]
        if used.empty:  # regression only
            upper.annotate("undefined: no classes", (0.05, 0.5), xycoords="axes fraction")
            break
        first = min(first, used["low"].min())
        low, high = share_interval(used["accuracy"], used["n"] / seeds)
        x = 100 * used["confidence"]
        upper.vlines(x, 100 * low, 100 * high, colors=look["color"], linewidth=0.9)
        upper.plot(x, 100 * used["accuracy"], markersize=3.5, linewidth=1.2, **look)
        tail = table.loc[used.index[0] :]
        shares, edges = 100 * tail["n"] / tail["n"].sum(), 100 * np.append(tail["low"], 1.0)
        line = {"edgecolor": look["color"], "linestyle": look["linestyle"], "linewidth": 1.2}
        lower.stairs(shares, edges, **line)
    upper.plot([0, 100], [0, 100], color=style.INK, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    for axes in (upper, lower):
        axes.set_xlim(100 * first if first < 1 else 0, 101)
        parts.value_grid(axes)
    upper.set_ylim(0, 102)
    lower.set_ylim(bottom=0)
    upper.set_xticklabels([])
    upper.set_title("Right answers, %", fontsize=style.TEXT_PT)
    lower.set_title("Answers, %", fontsize=style.TEXT_PT)
    lower.set_xlabel("confidence, %")
