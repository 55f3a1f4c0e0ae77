"""Named layer maps among all layer maps, before training and after."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distilkit.plots import parts, style
from distilkit.plots.checks import check_table, check_vector
from distilkit.study.layer_study import rank_correlation

# Colour and marker; a map with several names takes the first of these
_LOOKS = {
    "the authors'": (style.BLUE, "D"),
    "default": (style.BLUE, "D"),
    "every second from 0": (style.ORANGE, "^"),
    "every second from 1": (style.GREEN, "v"),
    "first": (style.PURPLE, "s"),
    "last": (style.SKY, "P"),
    "best": (style.VERMILLION, "*"),
    "worst": (style.INK, "X"),
}
_DOT = {"marker": "o", "linestyle": "", "color": "#9A9A9A", "markersize": 2.4}
_SIZE_PT = {"*": 10, "P": 7.5, "X": 7.5}  # across; others 6


@style.figure_style()
def plot_layer_maps(scores: pd.DataFrame, trained: pd.DataFrame | None = None) -> Figure:
    """Plot all layer maps untrained (left) and before against after training (right), 6.9 in wide.

    A dot is a map. The named ones, the best and the worst (by T²·KL before training) have a marker
    and a legend entry with layers and rank. Right: a marker is the mean over seeds, its whisker
    their range; the rank correlation is Spearman's over the maps of the first seed.

    Args:
        scores: as :func:`distilkit.study.layer_search.score_layer_maps` gives them.
        trained: as :func:`distilkit.study.layer_study.read_trained` gives it, of the same maps.
    """
    columns = ["layers", "name", "soft_target", "masked_accuracy", "rank"]
    scores = check_table("scores", scores, columns).sort_values("rank")
    for column in ("soft_target", "masked_accuracy"):
        check_vector(f"scores['{column}']", scores[column])
    if trained is not None:
        columns = ["layers", "seed", "steps", "soft_target_cut", "soft_target"]
        trained = check_table("trained", trained, columns)
        check_vector("trained['soft_target']", trained["soft_target"])
        unknown = set(trained["layers"]) - set(scores["layers"])
        if unknown:
            raise ValueError(f"trained holds {min(unknown)}, which is none of the maps in scores")
    marked = _marked(scores)
    rows = 1 + (len(marked) - 1) // 2
    figure = style.new_figure(style.FULL_IN, 2.5 + 0.18 * rows)
    panels = np.atleast_1d(figure.subplots(1, 1 if trained is None else 2))
    _before_training(panels[0], scores, marked)
    if trained is not None:
        _after_training(panels[1], trained, marked)
    for axes in panels:
        parts.value_grid(axes, "both")
        axes.locator_params(nbins=6)
    parts.legend_above(figure, [_entry(scores, *each) for each in marked.items()])
    return style.freeze_layout(figure)


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
    return parts.mark(text, colour, marker, **_look(marker))


def _look(marker: str) -> dict:
    size_pt = _SIZE_PT.get(marker, 6)
    return {"markersize": size_pt, "markeredgecolor": "white", "markeredgewidth": 0.5}


def _before_training(axes: Axes, scores: pd.DataFrame, marked: dict) -> None:
    axes.plot(scores["soft_target"], 100 * scores["masked_accuracy"], **_DOT)
    for row in scores[scores["layers"].isin(marked)].itertuples():
        _, colour, marker = marked[row.layers]
        place = row.soft_target, 100 * row.masked_accuracy
        axes.plot(*place, color=colour, marker=marker, **_look(marker))
    axes.set(xlabel="T²·KL to the teacher (nats)", ylabel="masked words found (%)")
    axes.set_title(f"{len(scores):,} maps, as they are cut", fontsize=style.TEXT_PT)


def _after_training(axes: Axes, trained: pd.DataFrame, marked: dict) -> None:
    for layers, of_map in trained.groupby("layers"):
        x, after = of_map["soft_target_cut"].mean(), of_map["soft_target"]
        if layers not in marked:
            axes.plot(x, after.mean(), **_DOT)
            continue
        if len(after) > 1:
            parts.whisker(axes, [x, x], [after.min(), after.max()])
        _, colour, marker = marked[layers]
        axes.plot(x, after.mean(), color=colour, marker=marker, **_look(marker))
    steps, seeds = trained["steps"].max(), trained["seed"].nunique()
    axes.set_ylim(0, 1.08 * trained["soft_target"].max())
    axes.set(xlabel="T²·KL as cut (nats)", ylabel=f"T²·KL after {steps:,} steps (nats)")
    correlation = rank_correlation(trained, "soft_target_cut", "soft_target")
    maps = trained["layers"].nunique()
    title = f"{maps} trained, up to {seeds} seeds: rank correlation {correlation:+.2f}"
    axes.set_title(title.replace("-", "−"), fontsize=style.TEXT_PT)
