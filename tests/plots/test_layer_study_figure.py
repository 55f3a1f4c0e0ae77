"""The figure of all layer maps: what it shows, nothing cut off, the same bytes every time."""

from __future__ import annotations

import functools
import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from distilkit.plots.layer_study import plot_layer_maps
from distilkit.plots.style import FULL_IN, save_figure
from distilkit.student import named_layer_maps
from distilkit.study.layer_search import label_of
from distilkit.study.layer_study import plan, rank_correlation
from figures import box, png_size, shown_texts


def scored(depth: int, k: int) -> pd.DataFrame:
    random, names = np.random.default_rng(0), named_layer_maps(depth, k)
    maps = list(itertools.combinations(range(depth), k))
    table = pd.DataFrame(
        {
            "layers": maps,
            "name": [label_of(layers, names) for layers in maps],
            "soft_target": random.gamma(4, 0.3, len(maps)),
            "masked_accuracy": random.beta(3, 8, len(maps)),
        }
    ).sort_values("soft_target", ignore_index=True)
    return table.assign(rank=table.index + 1)


def after(scores: pd.DataFrame, seeds=(1, 2, 3)) -> pd.DataFrame:
    random, cut = np.random.default_rng(1), scores.set_index("layers").soft_target
    rows = [
        (layers, seed, 1000, cut[layers], 0.1 + 0.03 * cut[layers] + random.normal() / 100)
        for layers, seed in plan(scores, seeds)
    ]
    return pd.DataFrame(rows, columns=["layers", "seed", "steps", "soft_target_cut", "soft_target"])


def with_training(depth: int, k: int, **options):
    scores = scored(depth, k)
    return plot_layer_maps(scores, after(scores, **options))


FIGURES = {
    "12_to_6": lambda: with_training(12, 6),
    "12_to_6_cut": lambda: plot_layer_maps(scored(12, 6)),
    "6_to_3": lambda: with_training(6, 3),
    "6_to_3_one_seed": lambda: with_training(6, 3, seeds=(1,)),
    "14_to_10": lambda: with_training(14, 10),
    "2_to_1": lambda: with_training(2, 1),
    "one_map": lambda: plot_layer_maps(scored(3, 3)),
}


@functools.cache
def figure_named(name: str):
    return FIGURES[name]()


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_and_no_two_texts_overlap(name):
    figure = figure_named(name)
    figure.draw_without_rendering()
    width, height = figure.bbox.width, figure.bbox.height
    texts = shown_texts(figure)
    for text in texts:
        x0, y0, x1, y1 = box(text)
        assert min(x0, y0, width - x1, height - y1) >= 0, text.get_text()
        assert text.get_fontsize() in (8, 9)
    for one, other in itertools.combinations(texts, 2):
        a, b = box(one), box(other)
        across, along = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
        assert not (across > 0.5 and along > 2), (one.get_text(), other.get_text())
    (legend,) = figure.legends
    for axes in figure.axes:
        x0, y0, x1, y1 = axes.get_tightbbox().extents
        assert min(x0, y0, width - x1, height - y1) >= -1
        assert y1 < box(legend)[1]
        assert axes.get_window_extent().height > 100


@pytest.mark.parametrize("name", FIGURES)
def test_saved_size_and_text_kept_as_text(name, tmp_path):
    svg, png = save_figure(figure_named(name), name, tmp_path)
    assert png_size(png)[0] == round(FULL_IN * 300)
    lines = ET.fromstring(svg.read_bytes()).iter("{http://www.w3.org/2000/svg}text")
    written = "\n".join("".join(line.itertext()) for line in lines)
    for text in shown_texts(figure_named(name)):
        assert all(line in written for line in text.get_text().splitlines())


def points(axes) -> set[tuple[float, float]]:
    return {
        (round(x, 9), round(y, 9))
        for line in axes.lines
        if line.get_marker() not in ("", "None")
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


def test_every_map_is_a_point_and_the_named_ones_say_their_rank():
    scores = scored(6, 3)
    trained = after(scores)
    figure = plot_layer_maps(scores, trained)
    left, right = figure.axes
    expected = zip(scores.soft_target, 100 * scores.masked_accuracy, strict=True)
    assert points(left) == {(round(x, 9), round(y, 9)) for x, y in expected}
    means = trained.groupby("layers")[["soft_target_cut", "soft_target"]].mean()
    expected = means.itertuples(index=False)
    assert points(right) == {(round(x, 9), round(y, 9)) for x, y in expected}
    of_default = trained[trained.layers == (0, 2, 5)].soft_target
    whiskers = [line.get_ydata() for line in right.lines if line.get_marker() == ""]
    assert any(np.allclose(ends, (of_default.min(), of_default.max())) for ends in whiskers)
    legend = [text.get_text() for text in figure.legends[0].texts]
    best, worst = scores.layers.iloc[0], scores.layers.iloc[-1]
    for name, layers in named_layer_maps(6).items():
        rank = scores.loc[scores.layers == layers, "rank"].item()
        (entry,) = [text for text in legend if name in text]
        assert entry.endswith(f"{'-'.join(map(str, layers))}, rank {rank}")
    assert any("best" in text and "-".join(map(str, best)) in text for text in legend)
    assert any("worst" in text and "-".join(map(str, worst)) in text for text in legend)
    found = rank_correlation(trained, "soft_target_cut", "soft_target")
    assert f"{found:+.2f}".replace("-", "−") in right.get_title(loc="left")


def test_a_name_keeps_its_look_whatever_its_rank():
    def look(figure, name: str) -> tuple:
        legend = figure.legends[0]
        texts = [text.get_text() for text in legend.texts]
        (place,) = [i for i, text in enumerate(texts) if name in text]
        handle = legend.legend_handles[place]
        return to_hex(handle.get_color()), handle.get_marker()

    scores = scored(6, 3)
    turned = scores.assign(soft_target=-scores.soft_target, rank=21 - scores["rank"])
    one, other = plot_layer_maps(scores), plot_layer_maps(turned)
    for name in named_layer_maps(6):
        assert look(one, name) == look(other, name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scores: scores.head(0), "scores has no rows"),
        (lambda scores: scores.drop(columns="rank"), r"scores lacks \['rank'\]"),
        (lambda scores: scores.assign(soft_target=np.nan), "20 values that are not finite"),
        (lambda scores: scores.iloc[1:], "none of the maps in scores"),
    ],
)
def test_wrong_tables_are_refused(change, message):
    scores = scored(6, 3)
    with pytest.raises(ValueError, match=message):
        plot_layer_maps(change(scores), after(scores))
