"""Scores on GLUE: the arms side by side."""

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distilkit.plots import parts, style
from distilkit.plots.checks import check_table
from distilkit.plots.text import wrap
from distilkit.study.paper import GLUE_TASKS

_METRIC_NAMES = {
    "accuracy": "acc.",
    "matthews": "MCC",
    "f1": "F1",
    "pearson": "Pearson",
    "spearman": "Spearm.",
}
_ABBREVIATIONS = {"acc.": "accuracy", "MCC": "Matthews correlation", "Spearm.": "Spearman"}

_MACRO_GAP = 0.35  # between the tasks and the macro-score, in widths of a group


def _key(task) -> str:
    """One key for `SST-2`, `sst2` and `SST 2`."""
    return re.sub(r"[^a-z0-9]", "", str(task).lower())


_TASK_NAMES = {_key(task): task for task in GLUE_TASKS}


@style.figure_style()
def plot_glue_bars(scores: pd.DataFrame) -> Figure:
    """Plot scores per task as grouped bars, the macro-scores apart at the right, 6.9 in wide.

    A bar is the median over seeds, a whisker their minimum and maximum, a dot one seed. A score of
    NaN is undefined (for instance a correlation with a constant) and gets a word in place of a bar.
    A macro-score is the mean over tasks; it is undefined for a seed that lacks a task.

    Args:
        scores: as :func:`distilkit.study.arms.finetune_arms` gives them, -100 to 100 or NaN. Arms
            and tasks appear in the table's order.
    """
    scores = check_table("scores", scores, ["arm", "seed", "task", "metric", "score"])
    scores = scores.astype({"score": float})
    if (scores["score"].abs() > 100).any():
        raise ValueError("scores['score'] must lie between -100 and 100 points, or be NaN")
    if scores["metric"].isin(["accuracy", "f1"]).any() and scores["score"].abs().max() <= 1:
        raise ValueError("scores['score'] is at most 1 everywhere: give points (times 100)")
    metrics = dict(zip(scores["task"], scores["metric"].map(_metric_name), strict=True))
    macros = _macros(scores, list(metrics))
    groups = [*metrics, *dict.fromkeys(macros["task"])]
    scores = pd.concat([scores, macros])
    arms = list(dict.fromkeys(scores["arm"]))
    centres, group_pt = _places(len(groups), len(metrics))
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
    _group_axis(axes, centres, len(metrics))
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
    """Rows `macro` (and `macro without WNLI`) per arm and seed; NaN where a task is missing."""
    wide = scores.pivot(index=["arm", "seed"], columns="task", values="score")
    averaged = {"macro": tasks}
    without = [task for task in tasks if str(task).upper() != "WNLI"]
    if 0 < len(without) < len(tasks):
        averaged["macro without WNLI"] = without
    means = {name: wide[of].mean(axis=1, skipna=False) for name, of in averaged.items()}
    return pd.concat(means, names=["task"]).rename("score").reset_index()


def _places(groups: int, tasks: int) -> tuple[list[float], float]:
    """Centres of the groups of bars, the macro-scores apart; and a group's width in points."""
    centres = [i + (_MACRO_GAP if 0 < tasks <= i else 0) for i in range(groups)]
    return centres, (style.FULL_IN - 0.55) * 72 / (centres[-1] + 1)


def _group_axis(axes: Axes, centres: list[float], tasks: int) -> None:
    """Limits and grid, and a line between the tasks and the macro-scores."""
    if 0 < tasks < len(centres):
        axes.axvline(tasks - 0.325, color=style.PALE, linewidth=0.8)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(centres[0] - 0.5, centres[-1] + 0.5)
    parts.value_grid(axes)


def _seed_bar(axes: Axes, x: float, width: float, values: pd.Series | None, series: int) -> None:
    """Bar, whisker and dots of one arm on one task, or the word that says why there is none."""
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
    name = wrap(_TASK_NAMES.get(_key(task), task), width_pt, 3)
    return f"{name}\n{wrap(metric, width_pt, 2)}" if metric else name


def _metric_name(metric: str) -> str:
    return _METRIC_NAMES.get(metric.lower(), metric.replace("_", " "))


@style.figure_style()
def plot_retained(measured: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Plot the retained share of the teacher's score, measured and published, 6.9 in wide.

    Args:
        measured: as :func:`distilkit.study.arms.retained` gives it; NaN where undefined.
        paper: as :func:`distilkit.study.paper.retained` gives it; a task that it lacks has no
            published bar. `SST-2` and `sst2` are the same task.
    """
    check_table("measured", measured, ["task", "retained", "low", "high"], unique=["task"])
    check_table("paper", paper, ["task", "retained"], unique=["task"])
    low, high = check_range("measured", measured, "retained", "low", "high")
    check_range("paper", paper, "retained", "retained", "retained")
    shares = measured["retained"].astype(float)
    published = paper.set_index(paper["task"].map(_key))["retained"].astype(float)
    names = [_TASK_NAMES.get(_key(task), str(task)) for task in measured["task"]]
    is_macro = [name.lower().startswith("macro") for name in names]
    tasks = is_macro.index(True) if any(is_macro) else len(names)
    centres, group_pt = _places(len(names), tasks)
    width = min(0.43, 30 / group_pt)

    figure = style.new_figure(style.FULL_IN, 3.3)
    axes = figure.subplots()
    for centre, name, share, *ends in zip(centres, names, shares, low, high, strict=True):
        _share_bar(axes, centre, -width, share, _MEASURED, group_pt, ends)
        if _key(name) in published.index:
            _share_bar(axes, centre, width, published[_key(name)], _PUBLISHED, group_pt)
    axes.axhline(100, color=style.INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0.9)
    _group_axis(axes, centres, tasks)
    tops = [100.0, *high[np.isfinite(high)], *published.dropna()]
    bottoms = [0.0, *low[np.isfinite(low)]]
    axes.set_ylim(min(bottoms) * 1.05, max(tops) * 1.11)
    axes.set_xticks(centres, [wrap(name, group_pt - 2, 3) for name in names])
    axes.set_ylabel("retained, % of the teacher's score")
    looks = {"measured (whisker: minimum and maximum over seeds)": _MEASURED}
    looks["published (Sanh et al. 2019)"] = _PUBLISHED
    parts.legend_above(figure, [parts.swatch(name, **look) for name, look in looks.items()])
    parts.note_below(figure, " ".join(("Published numbers:", *GLUE_SLIPS)))
    return style.freeze_layout(figure)


def _share_bar(
    axes: Axes,
    centre: float,
    width: float,
    share: float,
    look: dict,
    group_pt: float,
    ends: Sequence[float] = (0, 0),
) -> None:
    """A bar with its value, left of the centre for a negative width; `ends` of its whisker."""
    x = centre + width / 2
    if np.isnan(share):
        return parts.upright_text(axes, x, "undefined")
    axes.bar(x, share, abs(width), **look)
    top = max(share, 0)
    if ends[1] > ends[0]:
        parts.whisker(axes, [x, x], ends, marker="_")
        top = max(top, ends[1])
    place, shift, ha = (centre, top), (np.sign(width), 3), "right" if width < 0 else "left"
    if abs(width) * group_pt > 27:
        place, shift, ha = (x, top), (0, 3), "center"
    look = {"textcoords": "offset points", "bbox": parts.white_box(0.3)}
    axes.annotate(f"{share:.1f}", place, shift, ha=ha, va="bottom", **look)
    return None
