"""What a drawn figure shows and where."""

from __future__ import annotations

import itertools
from pathlib import Path

from matplotlib.text import Text
from PIL import Image


def shown_texts(figure) -> list[Text]:
    """Every text that is drawn: labels of ticks outside the axes are not."""
    texts = [*figure.texts, *itertools.chain(*(legend.texts for legend in figure.legends))]
    for axes in figure.axes:
        texts += [*axes.texts, axes.title, axes._left_title, axes._right_title]
        if not axes.axison:
            continue
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_majorticklocs(), axis.get_major_ticks(), strict=True)
            texts += [tick.label1 for place, tick in ticks if low <= place <= high]
            texts += [axis.label, axis.offsetText]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def box(artist) -> tuple[float, float, float, float]:
    return tuple(artist.get_window_extent().extents)


def png_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
