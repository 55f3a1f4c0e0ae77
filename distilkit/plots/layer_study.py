"""Where the layer maps with a name stand among all of them, as cut and after a training."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distilkit.plots.style import (
    BLUE,
    FULL_IN,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    TEXT_PT,
    VERMILLION,
    check_table,
    check_vector,
    figure_style,
    freeze_layout,
    legend_above,
    new_figure,
    shorten,
    value_grid,
    whisker,
)
from distilkit.study.layer_study import rank_correlation

# A map with several names takes the look of the first of these
_LOOKS = {
    "the authors'": (BLUE, "D"),
    "default": (BLUE, "D"),
    "every second from 0": (ORANGE, "^"),
    "every second from 1": (GREEN, "v"),
    "first": (PURPLE, "s"),
    "last": (SKY, "P"),
    "best": (VERMILLION, "*"),
    "worst": (INK, "X"),
}
_DOT = {"marker": "o", "linestyle": "", "color": "#9A9A9A", "markersize": 2.4}
_SIZE_PT = {"*": 10, "P": 7.5, "X": 7.5}  # across; others 6


def plot_layer_maps(scores: pd.DataFrame, trained: pd.DataFrame | None = None) -> Figure:
    """Left, every map as it is cut; right, if students were trained, before against after. 6.9 in.

    A dot is a map. Those with a name, the best and the worst (by T²·KL as cut) have a marker, and
    stand in the legend with their layers and rank. Right, a marker is the mean over seeds and its
    whisker their range; the rank correlation is Spearman's over the maps of the first seed.

    Args:
        scores: as :func:`distilkit.study.layer_search.score_layer_maps` gives them.
        trained: as :func:`distilkit.study.layer_study.read_trained` gives it, of the same maps.

    Raises:
        ValueError: for an empty table, missing columns, scores that are not finite, or trained maps
            that `scores` lacks.
    """
    columns = ["layers", "name", "soft_target", "masked_accuracy", "rank"]
    scores = check_table("scores", scores, columns).sort_values("rank")
    for column in ("soft_target", "masked_accuracy"):
        check_vector(f"scores['{column}']", scores[column])
    if trained is not None:
        columns = ["layers", "seed", "steps", "soft_target_cut", "soft_target"]
        trained = check_table("trained", trained, columns)
        check_vector("trained['soft_target']", trained["soft_target"])
        strangers = set(trained["layers"]) - set(scores["layers"])
        if strangers:
            raise ValueError(f"trained holds {min(strangers)}, which is none of the maps in scores")
    marked = _marked(scores)
    with figure_style():
        rows = 1 + (len(marked) - 1) // 2
        figure = new_figure(FULL_IN, 2.5 + 0.18 * rows)
        panels = np.atleast_1d(figure.subplots(1, 1 if trained is None else 2))
        _as_cut(panels[0], scores, marked)
        if trained is not None:
            _after_training(panels[1], trained, marked)
        for axes in panels:
            value_grid(axes, "both")
            axes.locator_params(nbins=6)
        legend_above(figure, [_entry(scores, *each) for each in marked.items()])
        return freeze_layout(figure)


def _marked(scores: pd.DataFrame) -> dict[tuple, tuple[str, str, str]]:
    """layers -> (label, colour, marker) of the maps that are marked; a map has one marker."""
    marked, last = {}, len(scores) - 1
    for place, row in enumerate(scores.itertuples()):
        names = [*["best"] * (place == 0), *["worst"] * (place == last)]
        names += row.name.split(", ") if row.name else []
        if names:
            look = next(look for name, look in _LOOKS.items() if name in names)
            marked[row.layers] = (", ".join(names), *look)
    return marked


def _entry(scores: pd.DataFrame, layers: tuple, marked: tuple[str, str, str]) -> Line2D:
    label, colour, marker = marked
    rank = scores.loc[scores["layers"] == layers, "rank"].item()
    text = f"{label}: {'-'.join(map(str, layers))}, rank {rank}"
    return Line2D(
        [], [], label=shorten(text, (FULL_IN - 0.6) * 72), linestyle="", **_look(colour, marker)
    )


def _look(colour: str, marker: str) -> dict:
    return {
        "color": colour,
        "marker": marker,
        "markersize": _SIZE_PT.get(marker, 6),
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
    }


def _as_cut(axes: Axes, scores: pd.DataFrame, marked: dict) -> None:
    axes.plot(scores["soft_target"], 100 * scores["masked_accuracy"], **_DOT)
    for row in scores[scores["layers"].isin(marked)].itertuples():
        _, *look = marked[row.layers]
        axes.plot(row.soft_target, 100 * row.masked_accuracy, **_look(*look))
    axes.set(xlabel="T²·KL to the teacher (nats)", ylabel="masked words found (%)")
    axes.set_title(f"{len(scores):,} maps, as they are cut", fontsize=TEXT_PT)


def _after_training(axes: Axes, trained: pd.DataFrame, marked: dict) -> None:
    for layers, of_map in trained.groupby("layers"):
        x, after = of_map["soft_target_cut"].mean(), of_map["soft_target"]
        if layers not in marked:
            axes.plot(x, after.mean(), **_DOT)
            continue
        if len(after) > 1:
            whisker(axes, [x, x], [after.min(), after.max()])
        _, *look = marked[layers]
        axes.plot(x, after.mean(), **_look(*look))
    steps, seeds = trained["steps"].max(), trained["seed"].nunique()
    axes.set_ylim(0, 1.08 * trained["soft_target"].max())
    axes.set(xlabel="T²·KL as cut (nats)", ylabel=f"T²·KL after {steps:,} steps (nats)")
    found = rank_correlation(trained, "soft_target_cut", "soft_target")
    maps = trained["layers"].nunique()
    title = f"{maps} trained, up to {seeds} seeds: rank correlation {found:+.2f}"
    axes.set_title(title.replace("-", "−"), fontsize=TEXT_PT)
