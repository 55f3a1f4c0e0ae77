"""A schematic of the layer map: which teacher layer a student layer copies (paper, section 2)."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from distilkit.plots import parts, style
from distilkit.plots.text import text_width_pt
from distilkit.student import check_layers

_LOOKS = {
    "copied": {"facecolor": "#CDE4F3", "edgecolor": style.BLUE},
    "left out": {"facecolor": "white", "edgecolor": "#A8A8A8"},
    "no counterpart": {"facecolor": "white", "edgecolor": "#A8A8A8", "hatch": "//////"},
}

# Inches. Rows are counted from the teacher's token-type embeddings upwards.
_STEP, _HEIGHT, _WIDTH, _MARGIN, _FOOT = 0.235, 0.183, 1.2, 0.06, 0.42
_TEACHER, _STUDENT = _MARGIN, style.COLUMN_IN - _MARGIN - _WIDTH  # left edges of the two columns


@style.figure_style()
def plot_layer_map(teacher_layers: int, layers: Sequence[int]) -> Figure:
    """Draw which teacher layer (of `layers`) each student layer copies, 3.3 in wide.

    Arrows stand for copied weights. Token types and pooler have no counterpart in the student. Row
    0 of the token types is folded into the position embeddings; the pooler is dropped.
    """
    layers = check_layers(layers, teacher_layers)
    top = _FOOT + (teacher_layers + 4) * _STEP + 0.02
    height_in = top + 0.16 + 0.06
    lift = 1 + (teacher_layers - len(layers)) / 2  # the student stands halfway up the teacher

    figure = style.new_figure(style.COLUMN_IN, height_in)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, style.COLUMN_IN), ylim=(0, height_in))
    axes.set_axis_off()

    token_types = _block(axes, _TEACHER, 0, "token types", "no counterpart")
    _arrow(
        axes, _block(axes, _TEACHER, 1, "embeddings"), _block(axes, _STUDENT, lift, "embeddings")
    )
    sources = [
        _block(axes, _TEACHER, 2 + i, f"layer {i}", "copied" if i in layers else "left out")
        for i in range(teacher_layers)
    ]
    for i, layer in enumerate(layers):
        _arrow(axes, sources[layer], _block(axes, _STUDENT, lift + 1 + i, f"layer {i}"))
    head = _block(axes, _TEACHER, 2 + teacher_layers, "MLM head")
    _arrow(axes, head, _block(axes, _STUDENT, lift + 1 + len(layers), "MLM head"))
    pooler = _block(axes, _TEACHER, 3 + teacher_layers, "pooler", "no counterpart")

    axes.text(pooler[0] + 0.1, pooler[1], "dropped", va="center_baseline")
    axes.text(token_types[0] + 0.1, token_types[1] - 0.03, "row 0 folded in", va="top")
    folded = {"color": style.GREY, "linestyle": (0, (3, 2))}
    corner = (_STUDENT + _WIDTH / 2, _FOOT + lift * _STEP)
    _arrow(axes, token_types, corner, connectionstyle="angle,angleA=0,angleB=90,rad=4", **folded)
    for x, name in ((_TEACHER, "teacher"), (_STUDENT, "student")):
        axes.text(x + _WIDTH / 2, top, name, ha="center", va="bottom", fontweight="bold")
    _key(axes)
    return figure


def _block(
    axes: Axes, x: float, row: float, text: str, kind: str = "copied"
) -> tuple[float, float]:
    """Draw one block; return the middle of the side that faces the other column."""
    y = _FOOT + row * _STEP
    axes.add_patch(Rectangle((x, y), _WIDTH, _HEIGHT, linewidth=0.7, **_LOOKS[kind]))
    look = {"color": style.INK if kind == "copied" else style.GREY}
    look["bbox"] = parts.white_box(1.2) if "hatch" in _LOOKS[kind] else None
    middle = x + _WIDTH / 2, y + _HEIGHT / 2
    axes.text(*middle, text, ha="center", va="center_baseline", **look)
    return (x + _WIDTH if x == _TEACHER else x, y + _HEIGHT / 2)


def _arrow(axes: Axes, start: tuple, end: tuple, **look) -> None:
    look = {"color": style.BLUE, "linewidth": 0.9, "shrinkA": 1, "shrinkB": 1, **look}
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=6, **look))


def _key(axes: Axes) -> None:
    """Explain the three kinds of block, below the columns."""
    x = _MARGIN
    for text, look in _LOOKS.items():
        axes.add_patch(Rectangle((x, 0.12), 0.16, 0.11, linewidth=0.7, **look))
        axes.text(x + 0.22, 0.175, text, va="center_baseline")
        x += 0.22 + text_width_pt(text) / 72 + 0.2
