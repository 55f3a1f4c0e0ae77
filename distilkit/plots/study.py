"""The study in figures: scores and differences of the arms, table 4, what T does."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distilkit.plots.style import (
    BLUE,
    FULL_IN,
    GREY,
    INK,
    ORANGE,
    PALE,
    TEXT_PT,
    check_table,
    figure_style,
    freeze_layout,
    legend_above,
    new_figure,
    value_grid,
    wrap,
)
from distilkit.study.arms import macro_scores, paired_difference


def plot_study(scores: pd.DataFrame, arm: str = "distilled") -> Figure:
    """Left, macro-scores: a dot a seed, a bar at the median. Right, paired differences. 6.9 in.

    A difference is `arm` minus the other, seed by seed; its mean, with the 95 % t-interval. An
    interval that holds 0 is drawn grey: these seeds do not tell the two apart.

    Args:
        scores: as :func:`distilkit.study.arms.finetune_arms` gives them, `arm` and at least one
        other. arm: the one that the others are compared with.

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
            _value(right, found["mean"], y)
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
        seeds = macros.groupby("arm")["seed"].nunique()
        count = f"{seeds.max()}" if seeds.nunique() == 1 else f"{seeds.min()} to {seeds.max()}"
        words = "seed" if count == "1" else "seeds"
        left.set_title(f"Dots: {count} {words}; bar: median", fontsize=TEXT_PT)
        right.set_title("Paired difference: mean and 95 % interval", fontsize=TEXT_PT)
        return freeze_layout(figure)


def plot_differences(
    studies: Mapping[str, pd.DataFrame], control: str, arm: str = "distilled"
) -> Figure:
    """How far `arm` is above `control` on each task: a dot a seed, a bar at the mean. 6.9 in.

    Args:
        studies: what to call it -> scores, as :func:`distilkit.study.arms.finetune_arms` gives
            them; one or two, which are drawn one above the other, as in the legend. Tasks are
            those of the first.
        control: the other arm.
        arm: the one that it is compared with.

    Raises:
        ValueError: for an empty table, missing columns, or one without both arms.
    """
    lanes = []
    for name, scores in studies.items():
        scores = check_table(name, scores, ["arm", "seed", "task", "score"])
        if missing := {arm, control} - set(scores["arm"]):
            raise ValueError(f"{name} has no arm {', '.join(sorted(missing))}")
        wide = scores.pivot(index=["task", "seed"], columns="arm", values="score")
        lanes.append((wide[arm] - wide[control]).dropna())
    tasks = list(dict.fromkeys(next(iter(studies.values()))["task"]))
    with figure_style():
        figure = new_figure(FULL_IN, 1.0 + 0.3 * len(tasks))
        axes = figure.subplots()
        looks = list(zip((GREY, BLUE), ("D", "o"), strict=True))[-len(lanes) :]
        for lane, (differences, (colour, marker)) in enumerate(zip(lanes, looks, strict=True)):
            up = 0.19 - 0.38 * lane if len(lanes) > 1 else 0.0
            for row, task in enumerate(tasks):
                values = differences[differences.index.get_level_values("task") == task]
                y = up - row
                axes.plot(values, [y] * len(values), marker, color=colour, markersize=3.2)
                axes.plot([values.mean()] * 2, [y - 0.17, y + 0.17], color=INK, linewidth=1.6)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(-np.arange(len(tasks)), tasks)
        axes.set_ylim(-len(tasks) + 0.5, 0.5)
        axes.tick_params(axis="y", length=0)
        value_grid(axes, "x")
        for row in range(1, len(tasks)):
            axes.axhline(0.5 - row, color=PALE, linewidth=0.5, zorder=0.5)
        axes.set_xlabel(f"{arm} minus {control} (points); dots: seeds, bar: mean")
        marks = [
            Line2D([], [], color=colour, marker=marker, markersize=4.5, linestyle="", label=name)
            for name, (colour, marker) in zip(studies, looks, strict=True)
        ]
        legend_above(figure, marks)
        return freeze_layout(figure)


def plot_ablation(table: pd.DataFrame) -> Figure:
    """What leaving one part out does to the macro-score: ours with its interval, published. 6.9 in.

    Args:
        table: as :func:`distilkit.study.study.ablation_beside_paper` gives it; a row without ours
            shows the published number only.

    Raises:
        ValueError: for an empty table or missing columns.
    """
    table = check_table("table", table, ["left_out", "published", "ours", "low", "high"])
    with figure_style():
        figure = new_figure(FULL_IN, 1.0 + 0.52 * len(table))
        axes = figure.subplots()
        for y, row in zip(-np.arange(len(table)), table.itertuples(), strict=True):
            if np.isfinite(row.ours):
                clear = row.low > 0 or row.high < 0  # of one seed there is no interval
                colour = BLUE if clear else GREY
                axes.plot([row.low, row.high], [y + 0.16] * 2, color=colour, linewidth=1.6)
                axes.plot(row.ours, y + 0.16, "o", markersize=4.5, color=colour)
                _value(axes, row.ours, y + 0.16)
            axes.plot(row.published, y - 0.16, "D", markersize=4.5, color=INK, markerfacecolor="w")
            _value(axes, row.published, y - 0.16, below=True)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(-np.arange(len(table)), [f"without {part}" for part in table["left_out"]])
        axes.set_ylim(-len(table) + 0.4, 0.6)
        axes.tick_params(axis="y", length=0)
        value_grid(axes, "x")
        axes.margins(x=0.12)
        axes.set_xlabel("change of the macro-score (points)")
        marks = [
            Line2D([], [], color=BLUE, marker="o", markersize=4.5, label="ours, 95 % interval"),
            Line2D([], [], color=GREY, marker="o", markersize=4.5, label="ours, not clear of 0"),
            Line2D(
                [],
                [],
                color=INK,
                marker="D",
                markersize=4.5,
                markerfacecolor="w",
                linestyle="",
                label="published (BERT, GLUE)",
            ),
        ]
        legend_above(figure, marks)
        return freeze_layout(figure)


def plot_temperature_study(scores: pd.DataFrame, entropies: pd.DataFrame) -> Figure:
    """Left, what the student keeps at each T. Right, what the teacher's targets say at T. 6.9 in.

    Left: the student's share of its teacher's macro-score, a dot a seed, a bar at the median; a
    temperature from 1 up that only `entropies` has was not run.
    Right: entropy of the soft targets, and the information in it about the token (nats).

    Args:
        scores: ``temperature, seed, retained`` (percent).
        entropies: as :func:`distilkit.study.entropy.entropy_of_targets` gives them.

    Raises:
        ValueError: for an empty table or missing columns.
    """
    scores = check_table("scores", scores, ["temperature", "seed", "retained"])
    entropies = check_table("entropies", entropies, ["temperature", "entropy", "information"])
    with figure_style():
        figure = new_figure(FULL_IN, 2.5)
        left, right = figure.subplots(1, 2)
        asked = entropies.loc[entropies["temperature"] >= 1, "temperature"]
        temperatures = sorted({*scores["temperature"], *asked})
        for x, temperature in enumerate(temperatures):
            values = scores.loc[scores["temperature"] == temperature, "retained"].to_numpy()
            if not len(values):
                place = {"xycoords": ("data", "axes fraction"), "ha": "center", "color": GREY}
                left.annotate("not run", (x, 0.5), **place)
                continue
            spread = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
            left.plot(x + spread, values, "o", markersize=3.2, color=BLUE)
            left.plot([x - 0.3, x + 0.3], [np.median(values)] * 2, color=INK, linewidth=1.6)
        left.set_xticks(range(len(temperatures)), [f"{t:g}" for t in temperatures])
        left.set_xlim(-0.6, len(temperatures) - 0.4)
        left.set_xlabel("temperature T of the distillation")
        left.set_ylabel("teacher's macro-score kept (%)")
        left.set_title("Dots: seeds; bar: median", fontsize=TEXT_PT)
        value_grid(left)
        x = np.arange(len(entropies))
        for name, colour, marker in (("entropy", GREY, "s"), ("information", ORANGE, "o")):
            right.plot(x, entropies[name], f"{marker}-", color=colour, markersize=4)
        last, first = float(entropies["entropy"].iloc[-1]), float(entropies["information"].iloc[0])
        right.annotate(
            "entropy", (x[-1], last), (0, -5), textcoords="offset points", ha="right", va="top"
        )
        right.annotate("information", (x[0], first), (-4, 6), textcoords="offset points")
        right.set_xticks(range(len(entropies)), [f"{t:g}" for t in entropies["temperature"]])
        right.set_xlabel("temperature T of the soft targets")
        right.set_ylabel("nats")
        right.set_title("What the teacher's soft targets say", fontsize=TEXT_PT)
        right.set_ylim(0, None)
        value_grid(right)
        return freeze_layout(figure)


def _value(axes: Axes, x: float, y: float, *, below: bool = False) -> None:
    axes.annotate(
        f"{x:+.1f}".replace("-", "−"),
        (x, y),
        (0, -4.5 if below else 3.5),
        textcoords="offset points",
        ha="center",
        va="top" if below else "bottom",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
    )
