"""The study in one figure: each arm's macro-scores, and how far one arm is above the others."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from distilkit.arms import macro_scores, paired_difference
from distilkit.figure_style import (
    BLUE,
    FULL_IN,
    GREY,
    INK,
    PALE,
    TEXT_PT,
    check_table,
    figure_style,
    freeze_layout,
    new_figure,
    value_grid,
    wrap,
)


def plot_study(scores: pd.DataFrame, arm: str = "distilled") -> Figure:
    """Left, macro-scores: a dot a seed, a bar at the median. Right, paired differences. 6.9 in.

    A difference is `arm` minus the other, seed by seed; its mean, with the 95 % t-interval. An
    interval that holds 0 is drawn grey: these seeds do not tell the two apart.

    Args:
        scores: as :func:`distilkit.arms.finetune_arms` gives them, `arm` and at least one other.
        arm: the one that the others are compared with.

    Raises:
        ValueError: for an empty table, missing columns, or one without `arm`.
    """
    scores = check_table("scores", scores, ["arm", "seed", "task", "score"])
    arms = list(dict.fromkeys(scores["arm"]))
    if arm not in arms or len(arms) < 2:
        raise ValueError(f"scores holds the arms {arms}: {arm!r} and at least one other are needed")
    macros = macro_scores(scores)
    rows = {name: -i for i, name in enumerate(arms)}
    with figure_style():
        figure = new_figure(FULL_IN, 0.9 + 0.3 * len(arms))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1))
        for name, y in rows.items():
            values = macros.loc[macros["arm"] == name, "score"].to_numpy(dtype=float)
            values = values[np.isfinite(values)]
            if not len(values):
                left.annotate("undefined", (0.02, y), xycoords=("axes fraction", "data"))
                continue
            colour = BLUE if name == arm else GREY
            spread = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else [0.0]
            left.plot(values, y + np.asarray(spread), "o", markersize=3.2, color=colour)
            left.plot([np.median(values)] * 2, [y - 0.32, y + 0.32], color=INK, linewidth=1.6)
            if name == arm:
                continue
            found = paired_difference(scores, arm, name)
            clear = found["low"] > 0 or found["high"] < 0
            if np.isfinite(found["low"]):
                ends = [found["low"], found["high"]]
                right.plot(ends, [y, y], color=BLUE if clear else GREY, linewidth=1.6)
            right.plot(found["mean"], y, "o", markersize=4.5, color=BLUE if clear else GREY)
            right.annotate(
                f"{found['mean']:+.1f}".replace("-", "−"),
                (found["mean"], y),
                (0, 4),
                textcoords="offset points",
                ha="center",
                va="bottom",
            )
        right.axvline(0, color=INK, linewidth=0.8)
        left.set_yticks(list(rows.values()), [wrap(name, 90) for name in rows])
        left.set_ylim(-len(arms) + 0.5, 0.6)
        for axes in (left, right):
            axes.tick_params(axis="y", length=0)
            value_grid(axes, "x")
            for y in list(rows.values())[1:]:
                axes.axhline(y + 0.5, color=PALE, linewidth=0.5, zorder=0.5)
        left.set_xlabel("macro-score (points)")
        right.set_xlabel(f"{arm} minus the other (points)")
        seeds = macros["seed"].nunique()
        left.set_title(f"Dots: {seeds} seeds; bar: median", fontsize=TEXT_PT)
        right.set_title("Paired difference: mean and 95 % interval", fontsize=TEXT_PT)
        return freeze_layout(figure)
