"""The factorial study: what copied layers are worth, and what the losses."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from distilkit.plots import parts, style
from distilkit.plots.checks import check_table
from distilkit.study.arms import macro_scores
from distilkit.study.factorial import LAYERS, factorial_effects, factorial_scores

_LOOKS = {"copied": (style.BLUE, "o"), "random": (style.ORANGE, "s")}
_SHOWN = {  # (effect, layers) -> its row
    ("copying", "both"): "copied minus random layers",
    ("triple loss − MLM", "copied"): "triple loss minus MLM,\nlayers copied",
    ("triple loss − MLM", "random"): "triple loss minus MLM,\nlayers random",
}


@style.figure_style()
def plot_factorial(scores: pd.DataFrame) -> Figure:
    """Plot macro-scores by objective and initialisation, and three effects, 6.9 in wide.

    Left: a dot a seed, lines through the means; the teacher's mean is dashed. Right: mean and 95 %
    t-interval, paired by seed; grey where the interval holds 0. `scores` are as
    :func:`distilkit.study.arms.finetune_arms` gives them, with all arms of
    :data:`distilkit.study.conditions.FACTORIAL`.
    """
    scores = check_table("scores", scores, ["arm", "seed", "task", "score"])
    cells = factorial_scores(scores)
    figure = style.new_figure(style.FULL_IN, 2.9)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    objectives = list(cells["copied"])
    for shift, layers in zip((-0.07, 0.07), LAYERS, strict=True):
        colour, marker = _LOOKS[layers]
        x = np.arange(len(objectives)) + shift
        left.plot(x, cells[layers].mean(), color=colour, linewidth=1.4)
        for place, objective in zip(x, objectives, strict=True):
            values = cells[layers][objective].to_numpy()
            dots = place + parts.dodge(len(values), 0.06)
            left.plot(dots, values, marker, color=colour, markersize=3.2)
        top = cells[layers].iloc[:, -1].max()
        look = {"textcoords": "offset points", "color": colour, "ha": "right"}
        left.annotate(f"layers {layers}", (x[-1] + 0.2, top), (0, 4), **look)
    if "teacher" in set(scores["arm"]):
        macros = macro_scores(scores)
        level = macros.loc[macros["arm"] == "teacher", "score"].mean()
        left.axhline(level, color=style.GREY, linewidth=0.9, linestyle="--")
        look = {"textcoords": "offset points", "color": style.GREY}
        left.annotate("teacher", (-0.3, level), (0, 2), **look)
    left.set_xticks(range(len(objectives)), [o.replace(" ", "\n") for o in objectives])
    left.set_xlim(-0.4, len(objectives) - 0.6)
    left.set_xlabel("objective of the pretraining")
    left.set_ylabel("macro-score (points)")
    parts.value_grid(left)
    effects = factorial_effects(scores).set_index(["effect", "layers"])
    for row, cell in enumerate(_SHOWN):
        effect = effects.loc[cell]
        parts.estimate(right, -row, effect["mean"], effect["low"], effect["high"])
        parts.signed_value(right, effect["mean"], -row)
    right.axvline(0, color=style.INK, linewidth=0.8)
    right.set_yticks(-np.arange(len(_SHOWN)), list(_SHOWN.values()))
    right.set_ylim(-len(_SHOWN) + 0.5, 0.6)
    parts.row_chart(right, len(_SHOWN))
    right.set_xlabel("difference (points)")
    seeds = int(effects["seeds"].max())
    right.set_title(f"Mean and 95 % interval, {seeds} seeds", fontsize=style.TEXT_PT)
    return style.freeze_layout(figure)
