"""Scores on GLUE: the arms beside each other, and the retained share beside the paper's."""

import math
import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distilkit.plots.style import (
    BLUE,
    FULL_IN,
    GREY,
    INK,
    PALE,
    TEXT_PT,
    check_table,
    figure_style,
    freeze_layout,
    legend_above,
    new_figure,
    note_below,
    series_look,
    swatch,
    upright_text,
    value_grid,
    whisker,
    wrap,
)
from distilkit.study.paper import GLUE_SLIPS, GLUE_TASKS

NO_WNLI = "macro without WNLI"
METRIC_NAMES = {
    "accuracy": "acc.",
    "matthews": "MCC",
    "matthews_correlation": "MCC",
    "f1": "F1",
    "pearson": "Pearson",
    "spearman": "Spearm.",
    "spearmanr": "Spearm.",
}
ABBREVIATIONS = {"acc.": "accuracy", "MCC": "Matthews correlation", "Spearm.": "Spearman"}

_OURS = {"facecolor": BLUE, "edgecolor": "white", "linewidth": 0.6}
_PUBLISHED = {"facecolor": PALE, "edgecolor": GREY, "hatch": "/////", "linewidth": 0.6}


def _key(task) -> str:
    """`SST-2`, `sst2` and `SST 2` are one task."""
    return re.sub(r"[^a-z0-9]", "", str(task).lower())


_TASK_NAMES = {_key(task): task for task in GLUE_TASKS}


def plot_glue_bars(scores: pd.DataFrame) -> Figure:
    """Scores per task as grouped bars, the macro-score apart at the right. 6.9 in wide.

    A bar is the median over seeds, a whisker their minimum and maximum, a dot one seed. A score of
    NaN is undefined (say, a correlation with a constant): the word stands in the bar's place. Rows
    whose task begins with "macro" are drawn as given; without any, the macro-score is computed per
    seed, as the mean over tasks of the mean over a task's metrics, and again without WNLI if that
    is among the tasks. It is undefined for a seed that lacks a task.

    Args:
        scores: long, columns `arm`, `seed`, `task`, `metric`, `score` (points, -100 to 100 or
            NaN), one row for each combination. Arms and tasks appear in the table's order.

    Raises:
        ValueError: for an empty table, missing columns, doubled rows, or scores out of range.
    """
    columns = ["arm", "seed", "task", "metric", "score"]
    scores = check_table("scores", scores, columns)[columns].reset_index(drop=True)
    scores["score"] = scores["score"].astype(float)
    if (scores["score"].abs() > 100).any():
        raise ValueError("scores['score'] must lie between -100 and 100 points, or be NaN")
    if scores["metric"].isin(["accuracy", "f1"]).any() and scores["score"].abs().max() <= 1:
        raise ValueError("scores['score'] is at most 1 everywhere: give points (times 100)")
    doubled = scores.duplicated(["arm", "seed", "task", "metric"])
    if doubled.any():
        raise ValueError(f"scores has a row twice: {scores[doubled].iloc[0].to_dict()}")
    if not _is_macro(scores["task"]).any():
        scores = pd.concat([scores, _macro(scores)], ignore_index=True)

    scores["group"] = list(zip(scores["task"], scores["metric"], strict=True))
    is_macro = _is_macro(scores["task"])
    tasks = list(dict.fromkeys(scores.loc[~is_macro, "group"]))
    macros = list(dict.fromkeys(scores.loc[is_macro, "group"]))
    arms = list(dict.fromkeys(scores["arm"]))
    centres = [*range(len(tasks)), *(len(tasks) + 0.35 + i for i in range(len(macros)))]
    width = min(0.84 / len(arms), 0.3)
    group_pt = (FULL_IN - 0.55) * 72 / (centres[-1] + 1)

    with figure_style():
        figure = new_figure(FULL_IN, 2.9)
        axes = figure.subplots()
        for a, arm in enumerate(arms):
            of_arm = scores[scores["arm"] == arm].groupby("group")["score"]
            for centre, group in zip(centres, tasks + macros, strict=True):
                x = centre + (a - (len(arms) - 1) / 2) * width
                values = of_arm.get_group(group) if group in of_arm.groups else None
                _seed_bar(axes, x, width, values, a)
        axes.axhline(0, color=GREY, linewidth=0.6)
        if macros:
            axes.axvline(len(tasks) - 0.325, color=PALE, linewidth=0.8)
        axes.set_xticks(
            centres, [_group_label(t, m, group_pt - 2) for t, m in tasks + macros], linespacing=1.2
        )
        axes.tick_params(axis="x", length=0)
        axes.spines["bottom"].set_visible(False)
        axes.set_xlim(centres[0] - 0.5, centres[-1] + 0.5)
        lowest = scores["score"].min()
        axes.set_ylim(lowest - 4 if lowest < 0 else 0, 102)  # a dot at 100 stays whole
        axes.set_ylabel("score (points)")
        value_grid(axes)
        seeds = scores["seed"].nunique()
        axes.set_title(
            f"Median of {seeds} seeds; whiskers: minimum and maximum; dots: single seeds"
            if seeds > 1
            else "One seed",
            fontsize=TEXT_PT,
        )
        legend_above(figure, [swatch(arm, **series_look(i)) for i, arm in enumerate(arms)])
        used = dict.fromkeys(_metric_name(metric) for _, metric in tasks)
        notes = [f"{short}: {ABBREVIATIONS[short]}" for short in used if short in ABBREVIATIONS]
        if notes:
            note_below(figure, "; ".join(notes) + ".")
        return freeze_layout(figure)


def _is_macro(tasks: pd.Series) -> pd.Series:
    return tasks.astype(str).str.lower().str.startswith("macro")


def _macro(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows `macro` (and `macro without WNLI`) per arm and seed; NaN where a task is missing."""
    tasks = list(dict.fromkeys(scores["task"]))
    per_task = scores.groupby(["arm", "seed", "task"], sort=False)["score"].agg(
        lambda s: s.mean(skipna=False)
    )
    wide = per_task.unstack("task").reindex(columns=tasks)
    means = {"macro": wide.mean(axis=1, skipna=False)}
    without = [task for task in tasks if str(task).upper() != "WNLI"]
    if 0 < len(without) < len(tasks):
        means[NO_WNLI] = wide[without].mean(axis=1, skipna=False)
    return pd.concat(
        [
            mean.rename("score").reset_index().assign(task=name, metric="")
            for name, mean in means.items()
        ]
    )


def _seed_bar(axes: Axes, x: float, width: float, values: pd.Series | None, series: int) -> None:
    """Bar, whisker and dots of one arm on one task, or the word that says why there is none."""
    if values is None:
        return upright_text(axes, x, "not run")
    values = values.to_numpy()
    defined = values[np.isfinite(values)]
    if not len(defined):
        return upright_text(axes, x, "undefined")
    axes.bar(x, np.median(defined), width, **series_look(series))
    if len(defined) > 1:
        whisker(axes, [x, x], [defined.min(), defined.max()])
        spread = np.linspace(-0.27, 0.27, len(defined)) * width
        axes.plot(
            x + spread,
            defined,
            linestyle="",
            marker="o",
            markersize=2.4,
            color=INK,
            markeredgecolor="white",
            markeredgewidth=0.4,
        )
    if len(defined) < len(values):
        upright_text(
            axes,
            x,
            f"{len(values) - len(defined)} of {len(values)} undefined",
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
    return None


def _group_label(task: str, metric: str, width_pt: float) -> str:
    name = wrap(_TASK_NAMES.get(_key(task), task), width_pt, 3)
    metric = _metric_name(metric)
    return f"{name}\n{wrap(metric, width_pt, 2)}" if metric else name


def _metric_name(metric: str) -> str:
    metric = "" if pd.isna(metric) else str(metric)
    return METRIC_NAMES.get(metric.lower(), metric.replace("_", " "))


def plot_beside_paper(ours: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """The share of the teacher's score that the student retains, ours beside the published. 6.9 in.

    Published bars are grey and hatched, and the slips known in the published numbers stand below.

    Args:
        ours: columns `task`, `retained` (percent), `low`, `high` (minimum and maximum over seeds;
            NaN for none). `retained` is NaN where it is undefined: where the teacher's score is
            not above 0.
        paper: columns `task`, `retained`, as :func:`distilkit.study.paper.retained` gives them; a
            task that it lacks has no published bar. `SST-2` and `sst2` are the same task.

    Raises:
        ValueError: for an empty table, missing columns, doubled tasks, infinite values, or a
            `retained` outside `low` to `high`.
    """
    ours = check_table("ours", ours, ["task", "retained", "low", "high"])
    paper = check_table("paper", paper, ["task", "retained"])
    for name, table in (("ours", ours), ("paper", paper)):
        if table["task"].duplicated().any():
            raise ValueError(f"{name} has the same task twice: {list(table['task'])}")
        if np.isinf(table["retained"].to_numpy(dtype=float)).any():
            raise ValueError(f"{name}['retained'] is infinite; give NaN where it is undefined")
    low, high = (ours[c].astype(float).fillna(ours["retained"]).to_numpy() for c in ("low", "high"))
    share = ours["retained"].to_numpy(dtype=float)
    if ((share < low) | (share > high)).any():
        raise ValueError("ours['retained'] must lie between 'low' and 'high'")
    published = paper.set_index(paper["task"].map(_key))["retained"].astype(float)

    tasks = [_TASK_NAMES.get(_key(task), str(task)) for task in ours["task"]]
    first_macro = next((i for i, t in enumerate(tasks) if t.lower().startswith("macro")), None)
    apart = first_macro is not None and first_macro > 0
    centres = [i + (0.35 if apart and i >= first_macro else 0) for i in range(len(tasks))]
    group_pt = (FULL_IN - 0.55) * 72 / (centres[-1] + 1)
    width = min(0.43, 30 / group_pt)

    with figure_style():
        figure = new_figure(FULL_IN, 3.3)
        axes = figure.subplots()
        for i, (centre, task) in enumerate(zip(centres, tasks, strict=True)):
            _share_bar(axes, centre, -width, share[i], (low[i], high[i]), group_pt)
            if _key(task) in published.index:
                _share_bar(axes, centre, width, published[_key(task)], None, group_pt)
        axes.axhline(100, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0.9)
        if apart:
            axes.axvline(first_macro - 0.325, color=PALE, linewidth=0.8)
        tops = [100.0, *high[np.isfinite(high)], *published.dropna()]
        lows = [0.0, *low[np.isfinite(low)]]
        axes.set_ylim(min(lows) * 1.05, max(tops) * 1.11)
        axes.set_xlim(centres[0] - 0.5, centres[-1] + 0.5)
        axes.set_xticks(centres, [wrap(t, group_pt - 2, 3) for t in tasks])
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("retained, % of the teacher's score")
        value_grid(axes)
        legend_above(
            figure,
            [
                swatch("ours (whisker: minimum and maximum over seeds)", **_OURS),
                swatch("published (Sanh et al. 2019)", **_PUBLISHED),
            ],
        )
        note_below(figure, " ".join(("Published numbers:", *GLUE_SLIPS)))
        return freeze_layout(figure)


def _share_bar(
    axes: Axes, centre: float, width: float, share: float, low_high, group_pt: float
) -> None:
    """Ours on the left (negative width), the published one on the right, with its value."""
    x = centre + width / 2
    if math.isnan(share):
        return upright_text(axes, x, "undefined")
    axes.bar(x, share, abs(width), **(_PUBLISHED if low_high is None else _OURS))
    top = max(share, 0)
    if low_high is not None and low_high[1] > low_high[0]:
        whisker(axes, [x, x], low_high, marker="_")
        top = max(top, low_high[1])
    roomy = abs(width) * group_pt > 27
    sign = math.copysign(1, width)
    axes.annotate(
        f"{share:.1f}",
        (x if roomy else centre, top),
        (0 if roomy else sign, 3),
        textcoords="offset points",
        ha="center" if roomy else "right" if width < 0 else "left",
        va="bottom",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3},
    )
    return None
