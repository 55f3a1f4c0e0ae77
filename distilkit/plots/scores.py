"""Scores on GLUE: the arms side by side."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distilkit.data.tasks import TASKS
from distilkit.plots import parts, style
from distilkit.plots.text import wrap
from distilkit.study.arms import macro_scores

_METRIC_NAMES = {
    "accuracy": "acc.",
    "matthews": "MCC",
    "f1": "F1",
    "pearson": "Pearson",
    "spearman": "Spearm.",
}
_ABBREVIATIONS = {"acc.": "accuracy", "MCC": "Matthews correlation", "Spearm.": "Spearman"}

_MACRO_GAP = 0.35  # between the tasks and the macro-score, in widths of a group


@style.figure_style()
def plot_glue_bars(scores: pd.DataFrame) -> Figure:
    """Plot scores per task as grouped bars, the macro-scores apart at the right, 6.9 in wide.

    A bar is the median over seeds, a whisker their minimum and maximum, a dot one seed. An
    undefined score (NaN) gets a word in place of a bar. `scores` are those of
    :func:`distilkit.study.arms.finetune_arms`.
    """
    scores = parts.check_table("scores", scores, ["arm", "seed", "task", "metric", "score"])
    scores = scores.astype({"score": float})
    shown = (_METRIC_NAMES.get(m.lower(), m.replace("_", " ")) for m in scores["metric"])
    metrics = dict(zip(scores["task"], shown, strict=True))
    macros = _macros(scores, list(metrics))
    groups = [*metrics, *dict.fromkeys(macros["task"])]
    scores = pd.concat([scores, macros])
    arms = list(dict.fromkeys(scores["arm"]))
    # the macro-scores stand apart
    centres = [i + (_MACRO_GAP if i >= len(metrics) else 0) for i in range(len(groups))]
    group_pt = (style.FULL_IN - 0.55) * 72 / (centres[-1] + 1)
    width = min(0.84 / len(arms), 0.3)

    figure = style.new_figure(style.FULL_IN, 2.9)
    axes = figure.subplots()
    for a, arm in enumerate(arms):
        of_arm = scores[scores["arm"] == arm].groupby("task")["score"]
        for centre, group in zip(centres, groups, strict=True):
            x = centre + (a - (len(arms) - 1) / 2) * width
            values = of_arm.get_group(group) if group in of_arm.groups else None
            _seed_bar(axes, x, width, values, a)
    axes.axhline(0, color=style.GREY, linewidth=0.6)
    axes.axvline(len(metrics) - 0.325, color=style.PALE, linewidth=0.8)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(centres[0] - 0.5, centres[-1] + 0.5)
    parts.value_grid(axes)
    labels = [_group_label(task, metrics.get(task), group_pt - 2) for task in groups]
    axes.set_xticks(centres, labels, linespacing=1.2)
    axes.spines["bottom"].set_visible(False)
    lowest = scores["score"].min()
    axes.set_ylim(lowest - 4 if lowest < 0 else 0, 102)  # a dot at 100 stays whole
    axes.set_ylabel("score (points)")
    seeds = scores["seed"].nunique()
    several = f"Median of {seeds} seeds; whiskers: minimum and maximum; dots: single seeds"
    axes.set_title(several if seeds > 1 else "One seed", fontsize=style.TEXT_PT)
    swatches = [parts.swatch(arm, **parts.series_look(i)) for i, arm in enumerate(arms)]
    parts.legend_above(figure, swatches)
    used = dict.fromkeys(metrics.values())
    if notes := [f"{short}: {_ABBREVIATIONS[short]}" for short in used if short in _ABBREVIATIONS]:
        parts.note_below(figure, "; ".join(notes) + ".")
    return style.freeze_layout(figure)


def _macros(scores: pd.DataFrame, tasks: list[str]) -> pd.DataFrame:
    """Add rows `macro` (and `macro without WNLI`) per arm and seed; NaN where a task is missing."""
    found = {"macro": macro_scores(scores)}
    if "wnli" in tasks and len(tasks) > 1:
        found["macro without WNLI"] = macro_scores(scores, without=("wnli",))
    return pd.concat(found, names=["task"]).reset_index("task")


def _seed_bar(axes: Axes, x: float, width: float, values: pd.Series | None, series: int) -> None:
    """Draw bar, whisker and dots of one arm on one task, or why there is none."""
    if values is None:
        return parts.upright_text(axes, x, "not run")
    values = values.to_numpy()
    defined = values[np.isfinite(values)]
    if not len(defined):
        return parts.upright_text(axes, x, "undefined")
    axes.bar(x, np.median(defined), width, **parts.series_look(series))
    if len(defined) > 1:
        parts.whisker(axes, [x, x], [defined.min(), defined.max()])
        dots = {"marker": "o", "markersize": 2.4, "color": style.INK, "linestyle": ""}
        rim = {"markeredgecolor": "white", "markeredgewidth": 0.4}
        axes.plot(x + parts.dodge(len(defined), 0.27) * width, defined, **dots, **rim)
    if len(defined) < len(values):
        text = f"{len(values) - len(defined)} of {len(values)} undefined"
        parts.upright_text(axes, x, text, color=style.INK, bbox=parts.white_box(0.8))
    return None


def _group_label(task: str, metric: str | None, width_pt: float) -> str:
    name = wrap(TASKS[task].title if task in TASKS else task, width_pt, 3)
    return f"{name}\n{wrap(metric, width_pt, 2)}" if metric else name
