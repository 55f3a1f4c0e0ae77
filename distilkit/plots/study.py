"""The study: scores and differences of the arms, table 4, the effect of T."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from distilkit.plots import parts, style
from distilkit.plots.checks import check_table
from distilkit.plots.text import wrap
from distilkit.study.arms import macro_scores, paired_difference

_DOTS = {"linestyle": "", "markersize": 3.2}
_BAR = {"color": style.INK, "linewidth": 1.6}


@style.figure_style()
def plot_study(scores: pd.DataFrame, arm: str = "distilled") -> Figure:
    """Plot macro-scores (left) and paired differences (right) of a study's arms, 6.9 in wide.

    Left: a dot a seed, a bar at the median. Right: `arm` minus the other, seed by seed; the mean
    with its 95 % t-interval. An interval that contains 0 is grey: these seeds show no difference.
    `scores` are as :func:`distilkit.study.arms.finetune_arms` gives them.
    """
    scores = check_table("scores", scores, ["arm", "seed", "task", "score"])
    arms = list(dict.fromkeys(scores["arm"]))
    if arm not in arms or len(arms) < 2:
        raise ValueError(f"scores holds the arms {arms}: {arm!r} and at least one other are needed")
    macros = macro_scores(scores)
    figure = style.new_figure(style.FULL_IN, 0.9 + 0.3 * len(arms))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1))
    for row, name in enumerate(arms):
        values = macros.loc[macros["arm"] == name, "score"].to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        if not len(values):
            left.annotate("undefined", (0.02, -row), xycoords=("axes fraction", "data"))
            continue
        colour = style.BLUE if name == arm else style.GREY
        left.plot(values, parts.dodge(len(values), 0.18) - row, marker="o", color=colour, **_DOTS)
        left.plot([np.median(values)] * 2, [-row - 0.32, -row + 0.32], **_BAR)
        if name != arm:
            difference = paired_difference(scores, arm, name)
            parts.estimate(right, -row, difference["mean"], difference["low"], difference["high"])
            parts.signed_value(right, difference["mean"], -row)
    right.axvline(0, color=style.INK, linewidth=0.8)
    left.set_yticks(-np.arange(len(arms)), [wrap(name, 90) for name in arms])
    left.set_ylim(-len(arms) + 0.5, 0.6)
    for axes in (left, right):
        parts.row_chart(axes, len(arms))
    left.set_xlabel("macro-score (points)")
    right.set_xlabel(f"{arm} minus the other (points)")
    seeds = macros.groupby("arm")["seed"].nunique()
    count = f"{seeds.max()}" if seeds.nunique() == 1 else f"{seeds.min()} to {seeds.max()}"
    words = "seed" if count == "1" else "seeds"
    left.set_title(f"Dots: {count} {words}; bar: median", fontsize=style.TEXT_PT)
    right.set_title("Paired difference: mean and 95 % interval", fontsize=style.TEXT_PT)
    return style.freeze_layout(figure)


@style.figure_style()
def plot_differences(
    studies: Mapping[str, pd.DataFrame], control: str, arm: str = "distilled"
) -> Figure:
    """Plot `arm` minus `control` for each task: a dot a seed, a bar at the mean, 6.9 in wide.

    Args:
        studies: label -> scores, as :func:`distilkit.study.arms.finetune_arms` gives them; one or
            two, drawn one above the other. Tasks are those of the first.
    """
    lanes = []
    for name, scores in studies.items():
        scores = check_table(name, scores, ["arm", "seed", "task", "score"])
        if missing := {arm, control} - set(scores["arm"]):
            raise ValueError(f"{name} has no arm {', '.join(sorted(missing))}")
        wide = scores.pivot(index=["task", "seed"], columns="arm", values="score")
        lanes.append((wide[arm] - wide[control]).dropna())
    tasks = list(dict.fromkeys(next(iter(studies.values()))["task"]))
    figure = style.new_figure(style.FULL_IN, 1.0 + 0.3 * len(tasks))
    axes = figure.subplots()
    looks = [(style.GREY, "D"), (style.BLUE, "o")][-len(lanes) :]
    for lane, (differences, (colour, marker)) in enumerate(zip(lanes, looks, strict=True)):
        up = 0.19 - 0.38 * lane if len(lanes) > 1 else 0.0
        for row, task in enumerate(tasks):
            values = differences[differences.index.get_level_values("task") == task]
            y = up - row
            axes.plot(values, [y] * len(values), marker=marker, color=colour, **_DOTS)
            axes.plot([values.mean()] * 2, [y - 0.17, y + 0.17], **_BAR)
    axes.axvline(0, color=style.INK, linewidth=0.8)
    axes.set_yticks(-np.arange(len(tasks)), tasks)
    axes.set_ylim(-len(tasks) + 0.5, 0.5)
    parts.row_chart(axes, len(tasks))
    axes.set_xlabel(f"{arm} minus {control} (points); dots: seeds, bar: mean")
    marks = [parts.mark(name, *look) for name, look in zip(studies, looks, strict=True)]
    parts.legend_above(figure, marks)
    return style.freeze_layout(figure)
