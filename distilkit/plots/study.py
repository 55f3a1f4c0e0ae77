"""The studies: the arms, the factorial design, label efficiency, the paper's differences."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from distilkit.data.tasks import TASKS
from distilkit.plots import parts, style
from distilkit.plots.text import wrap
from distilkit.study.arms import macro_scores, paired_difference, t_interval
from distilkit.study.conditions import UNSOLVED
from distilkit.study.factorial import STARTS, factorial_effects, factorial_scores
from distilkit.study.label_efficiency import (
    ALL_TEXTS,
    LABELS,
    SAME_TEXTS,
    TEACHER,
    best_learning_rates,
)

_ARM = "distilled"  # whose differences from the others are shown
_DOTS = {"linestyle": "", "markersize": 3.2}
_BAR = {"color": style.INK, "linewidth": 1.6}


@style.figure_style()
def plot_study(scores: pd.DataFrame) -> Figure:
    """Plot macro-scores (left) and paired differences (right) of a study's arms, 6.9 in wide.

    Left: a dot a seed, a bar at the median. Right: the distilled arm minus the other, seed by seed:
    the mean with its 95 % t-interval, grey where that contains 0. `scores` are those of
    :func:`distilkit.study.arms.finetune_arms`.
    """
    scores = parts.check_table("scores", scores, ["arm", "seed", "task", "score"])
    arms = list(dict.fromkeys(scores["arm"]))
    if _ARM not in arms or len(arms) < 2:
        raise ValueError(
            f"scores holds the arms {arms}: {_ARM!r} and at least one other are needed"
        )
    macros = macro_scores(scores)
    figure = style.new_figure(style.FULL_IN, 0.9 + 0.3 * len(arms))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1))
    for row, name in enumerate(arms):
        values = macros.loc[macros["arm"] == name, "score"].to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        if not len(values):
            left.annotate("undefined", (0.02, -row), xycoords=("axes fraction", "data"))
            continue
        colour = style.BLUE if name == _ARM else style.GREY
        left.plot(values, parts.dodge(len(values), 0.18) - row, marker="o", color=colour, **_DOTS)
        left.plot([np.median(values)] * 2, [-row - 0.32, -row + 0.32], **_BAR)
        if name != _ARM:
            found = paired_difference(scores, _ARM, name)
            parts.estimate(right, -row, found["mean"], found["low"], found["high"], signed=True)
    for axes in (left, right):
        parts.row_chart(axes, [wrap(name, 90) for name in arms], zero=axes is right)
    left.set_xlabel("macro-score (points)")
    right.set_xlabel(f"{_ARM} minus the other (points)")
    seeds = macros.groupby("arm")["seed"].nunique()
    count = f"{seeds.max()}" if seeds.nunique() == 1 else f"{seeds.min()} to {seeds.max()}"
    words = "seed" if count == "1" else "seeds"
    left.set_title(f"Dots: {count} {words}; bar: median", fontsize=style.TEXT_PT)
    right.set_title("Paired difference: mean and 95 % interval", fontsize=style.TEXT_PT)
    return style.freeze_layout(figure)


_LOOKS = {"copied": (style.BLUE, "o"), "random": (style.ORANGE, "s")}
_SHOWN = {  # (effect, start) -> its row
    ("copying", "main effect"): "copied minus random weights,\nmean of the pretrainings",
    ("triple loss − MLM only", "copied"): "triple loss minus MLM only,\ncopied weights",
    ("triple loss − MLM only", "random"): "triple loss minus MLM only,\nrandom weights",
}


@style.figure_style()
def plot_factorial(scores: pd.DataFrame) -> Figure:
    """Plot macro-scores by pretraining and initialisation, and three effects, 6.9 in wide.

    Left: a dot a seed, a bar at the mean; the teacher's mean is dashed. Right: mean and 95 %
    t-interval, paired by seed. `scores` have all arms of
    :data:`distilkit.study.conditions.FACTORIAL`.
    """
    scores = parts.check_table("scores", scores, ["arm", "seed", "task", "score"])
    cells, tasks = factorial_scores(scores), sorted(set(scores["task"]) - set(UNSOLVED))
    figure = style.new_figure(style.FULL_IN, 2.9)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    pretrainings = list(cells["copied"])
    for start in STARTS:
        colour, marker = _LOOKS[start]
        for place, pretraining in enumerate(pretrainings):
            values = cells[start][pretraining].to_numpy()
            dots = place + parts.dodge(len(values), 0.15)
            left.plot(dots, values, marker, color=colour, markersize=3.2)
            left.plot([place - 0.3, place + 0.3], [values.mean()] * 2, color=colour, linewidth=1.6)
        end = (len(pretrainings) - 0.6, cells[start].iloc[:, -1].mean())
        left.annotate(f"{start}\nweights", end, color=colour, va="center")
    if "teacher" in set(scores["arm"]):
        macros = macro_scores(scores, without=UNSOLVED)
        level = macros.loc[macros["arm"] == "teacher", "score"].mean()
        left.axhline(level, color=style.GREY, linewidth=0.9, linestyle="--")
        look = {"textcoords": "offset points", "color": style.GREY}
        left.annotate("teacher", (-0.3, level), (0, 4), **look)
    left.set_xticks(range(len(pretrainings)), [p.replace(" ", "\n") for p in pretrainings])
    left.set_xlim(-0.4, len(pretrainings) + 0.4)
    left.margins(y=0.12)
    left.set_xlabel("pretraining")
    left.set_ylabel(f"{tasks[0] if len(tasks) == 1 else f'mean of {len(tasks)} tasks'} (points)")
    left.set_title("Dots: seeds; bar: mean", fontsize=style.TEXT_PT)
    parts.value_grid(left)
    effects = factorial_effects(scores).set_index(["effect", "start"])
    for row, cell in enumerate(_SHOWN):
        found = effects.loc[cell]
        parts.estimate(right, -row, found["mean"], found["low"], found["high"], signed=True)
    parts.row_chart(right, list(_SHOWN.values()), zero=True)
    right.set_xlabel("difference (points)")
    right.margins(x=0.12)
    seeds = int(effects["seeds"].max())
    title = f"Mean and 95 % interval, {seeds} seeds; grey: contains 0"
    title = title if seeds > 1 else "One seed: no intervals"
    right.set_title(title, loc="right", fontsize=style.TEXT_PT)
    return style.freeze_layout(figure)


_WAYS = {  # way -> its name, colour, marker
    ALL_TEXTS: ("labels, and soft targets on all texts", style.BLUE, "o"),
    SAME_TEXTS: ("labels, and soft targets on the same texts", style.ORANGE, "s"),
    LABELS: ("labels alone", style.GREY, "D"),
}


@style.figure_style()
def plot_label_efficiency(table: pd.DataFrame) -> Figure:
    """Plot scores against the number of labels, a panel a task, at most three a row, 6.9 in wide.

    Lines are means over seeds, bands their 95 % t-intervals; with one seed there is no band. The
    teacher, fine-tuned on all labels, is a dashed line. `table` is that of
    :func:`distilkit.study.label_efficiency.label_efficiency`.
    """
    needed = ["task", "way", "labels", "learning_rate", "metric", "validation", "score"]
    table = parts.check_table("table", table, needed)
    tasks = list(dict.fromkeys(table["task"]))
    columns = len(tasks) if len(tasks) <= 3 else 2
    lines = -(-len(tasks) // columns)
    figure = style.new_figure(style.FULL_IN, 0.7 + 2.2 * lines)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes in panels.flat[len(tasks) :]:
        axes.remove()
    for axes, task in zip(panels.flat, tasks, strict=False):
        rows = table[table["task"] == task]
        teacher = rows.loc[rows["way"] == TEACHER, "score"].mean()
        axes.axhline(teacher, color=style.INK, linewidth=0.9, linestyle="--")
        students = best_learning_rates(rows)
        students = students[students["way"] != TEACHER]
        counts = sorted(students["labels"].unique())
        for way, (_, colour, marker) in _WAYS.items():
            curve = students[students["way"] == way].groupby("labels")["score"]
            found = pd.DataFrame({count: t_interval(values) for count, values in curve}).T
            x = [counts.index(count) for count in found.index]
            axes.plot(x, found["mean"], f"{marker}-", color=colour, markersize=4)
            if np.isfinite(found["low"]).any():
                band = {"color": colour, "alpha": 0.18, "linewidth": 0}
                axes.fill_between(x, found["low"], found["high"], **band)
        ticks = [f"{count:,}" if count < rows["labels"].max() else "all" for count in counts]
        axes.set_xticks(range(len(counts)), ticks)
        axes.set_xlim(-0.4, len(counts) - 0.6)
        axes.margins(y=0.12)
        title = TASKS[task].title if task in TASKS else task
        metric = rows["metric"].iloc[0].replace("_", " ").capitalize()
        axes.set_title(f"{metric} on {title}", fontsize=style.TEXT_PT)
        axes.set_xlabel(f"labels (all: {rows['labels'].max():,})")
        parts.value_grid(axes)
    # without a labelled test set the score is the one that the learning rate was chosen by
    split = "validation" if (table["score"] == table["validation"]).all() else "test"
    for axes in panels[:, 0]:
        axes.set_ylabel(f"{split} score (points)")
    marks = [parts.mark(name, colour, marker) for name, colour, marker in _WAYS.values()]
    if any(axes.collections for axes in panels.flat):
        parts.note_below(figure, "Bands: 95 % intervals over seeds.")
    line = {"linestyle": "--", "linewidth": 0.9}
    parts.legend_above(figure, [*marks, parts.mark("the teacher", style.INK, "", **line)])
    return style.freeze_layout(figure)


@style.figure_style()
def plot_against_paper(table: pd.DataFrame, xlabel: str) -> Figure:
    """Plot each row's measured difference as a dot, the published as a diamond, 6.9 in wide.

    An interval that contains 0 is grey: these seeds show no difference. So is a single seed, which
    has no interval. `table` holds rows of
    :func:`distilkit.study.paper_comparison.compare_with_paper` or ``compare_ablation``, in points.
    """
    table = parts.check_table("table", table, ["what", "published", "measured", "low", "high"])
    rows = -np.arange(len(table))
    figure = style.new_figure(style.FULL_IN, 0.9 + 0.36 * len(table))
    axes = figure.subplots()
    hollow = {"color": style.VERMILLION, "marker": "D", "markerfacecolor": "w"}
    for y, row in zip(rows, table.itertuples(), strict=True):
        axes.plot(row.published, y - 0.17, linestyle="", markersize=4.5, **hollow)
        if np.isfinite(row.measured):
            parts.estimate(axes, y + 0.17, row.measured, row.low, row.high)
        else:
            place = {"xycoords": ("axes fraction", "data"), "va": "center", "color": style.GREY}
            axes.annotate("not run", (0.02, y), **place)
    parts.row_chart(axes, [what.split(":")[0] for what in table["what"]], zero=True)
    axes.set_xlabel(xlabel)
    marks = [
        parts.mark("measured, 95 % interval", style.BLUE, "o", linestyle="-"),
        parts.mark("measured, no difference shown", style.GREY, "o", linestyle="-"),
        parts.mark("published (Sanh et al. 2019)", style.VERMILLION, "D", markerfacecolor="w"),
    ]
    parts.legend_above(figure, marks)
    return style.freeze_layout(figure)
