"""Names next to points, placed where they cover least.

Boxes are (x0, y0, x1, y1) in typographic points, measured from the figure's lower left corner.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from distilkit.plots.style import GREY, TEXT_PT
from distilkit.plots.text import text_width_pt

# Directions (right, up) in which a name may lie from its point, and distances to try
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_DISTANCES_PT = (2, 8, 16, 26, 38)
_ROUNDS = 3  # so that the first names can make way for the later ones


def in_points(axes: Axes, x, y) -> np.ndarray:
    """Positions of data in the figure, [n, 2], in points; the layout must be final."""
    return axes.transData.transform(np.column_stack([x, y])) * 72 / axes.figure.dpi


def name_points(
    axes: Axes,
    x,
    y,
    names: Sequence[str],
    *,
    radii: Sequence[float],
    obstacles: Sequence[tuple] = (),
    marks: Sequence[tuple] = (),
) -> None:
    """Put each name near its point, where it covers least; the layout must be final.

    A name that ends up far from its point gets a thin line to it.

    Args:
        x, y: [n], the points, in data.
        radii: [n], of the points' marks, in typographic points.
        obstacles: boxes that names should not cover.
        marks: boxes that neither names nor thin lines should cover.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    window = tuple(axes.get_window_extent().extents * 72 / axes.figure.dpi)
    centres = in_points(axes, x, y)
    own = [(a - r, b - r, a + r, b + r) for (a, b), r in zip(centres, radii, strict=True)]
    taken = [*own, *obstacles, *marks]
    boxes: dict[int, tuple] = {}
    lines: dict[int, list[tuple]] = {}  # from a far name to its point
    for _ in range(_ROUNDS):
        for i, name in enumerate(names):
            words = [box for j, box in boxes.items() if j != i]
            far = [box for j, line in lines.items() if j != i for box in line]
            others, solid = np.array(taken + words + far), np.array([*words, *own, *marks])

            def cost(spot: tuple, i: int = i, others=others, solid=solid) -> float:
                line = _line(spot, centres[i], radii[i])[:-1]  # its end lies on the point itself
                crossed = sum(_overlap(one, solid) for one in line)
                return _cost(spot, others, window) + 20 * crossed

            boxes[i] = min(_spots(centres[i], radii[i], name), key=cost)[:4]
            lines[i] = _line(boxes[i], centres[i], radii[i])
    for i, (x0, y0, x1, y1) in boxes.items():
        a, b = centres[i]
        offset = (x0 + x1) / 2 - a, (y0 + y1) / 2 - b
        look = {"textcoords": "offset points", "ha": "center", "va": "center"}
        axes.annotate(names[i], (x[i], y[i]), offset, linespacing=1.1, **look)
        if lines[i]:
            to_pt = 72 / axes.figure.dpi
            ends = np.array([_nearest(boxes[i], (a, b)), (a, b)])
            ends = axes.transData.inverted().transform(ends / to_pt)
            axes.plot(*ends.T, color=GREY, linewidth=0.6, zorder=1.5)


def along(corners: np.ndarray) -> list[tuple]:
    """Small boxes along a line with these corners, [n, 2], in points."""
    boxes = []
    for (x0, y0), (x1, y1) in pairwise(corners):
        for share in np.linspace(0, 1, max(1, int(math.dist((x0, y0), (x1, y1)) / 4)) + 1):
            x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
            boxes.append((x - 2, y - 2, x + 2, y + 2))
    return boxes


def _line(box: tuple, centre: tuple, radius: float) -> list[tuple]:
    """The thin line from a name to its point, as small boxes; none if the name is near."""
    end = _nearest(box, centre)
    far = math.dist(end, centre) > radius + 5
    return along(np.array([end, centre])) if far else []


def _nearest(box: tuple, centre: tuple) -> tuple[float, float]:
    x0, y0, x1, y1 = box[:4]
    return min(max(centre[0], x0), x1), min(max(centre[1], y0), y1)


def _spots(centre: tuple, radius: float, name: str) -> list[tuple]:
    """Boxes (x0, y0, x1, y1, distance) for a name around its point, near ones first."""
    (x, y), lines = centre, name.splitlines()
    width = 2 + max(text_width_pt(line) for line in lines)  # names do not touch
    height = 1.2 * TEXT_PT * len(lines)
    spots = []
    for distance in _DISTANCES_PT:
        reach = radius + distance
        for right, up in _DIRECTIONS:
            slant = 0.75 if right and up else 1
            x0 = x + right * reach * slant - (1 - right) / 2 * width
            y0 = y + up * reach * slant - (1 - up) / 2 * height
            flush = (x0, x - radius, x + radius - width) if up and not right else (x0,)
            spots += [(x0, y0, x0 + width, y0 + height, distance) for x0 in flush]
    return spots


def _cost(spot: tuple, others: np.ndarray, window: tuple) -> float:
    """Square points covered, much more for leaving the axes, a little for distance."""
    area = (spot[2] - spot[0]) * (spot[3] - spot[1])
    outside = area - _overlap(spot, np.array([window]))
    return 20 * outside + 5 * _overlap(spot, others) + spot[4]


def _overlap(box: tuple, others: np.ndarray) -> float:
    """The area that a box shares with each of the others, [n, 4], in all."""
    x0, y0, x1, y1 = others.T
    across = np.minimum(box[2], x1) - np.maximum(box[0], x0)
    upwards = np.minimum(box[3], y1) - np.maximum(box[1], y0)
    return float((across.clip(0) * upwards.clip(0)).sum())
