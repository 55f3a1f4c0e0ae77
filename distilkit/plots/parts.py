"""What several figures share: checked tables, bars, whiskers, dots of seeds, legends, notes."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from distilkit.plots import style
from distilkit.plots.text import shorten, text_width_pt, wrap

_COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.SKY, style.VERMILLION)
_HATCHES = ("", "////", "\\\\\\\\", "xxxx", "----", "||||")
_LEGEND_PT = (style.FULL_IN - 0.6) * 72  # widest entry of a legend


def check_table(name: str, table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return `table`; ValueError unless it is a DataFrame with rows and these columns."""
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"{name} must be a pandas DataFrame, not {type(table).__name__}")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{name} lacks {missing}; it has {list(table.columns)}")
    if table.empty:
        raise ValueError(f"{name} has no rows: there is nothing to draw")
    return table


def series_look(series: int) -> dict:
    """Colour and hatch of the i-th arm or model, for anything that is filled."""
    return {
        "facecolor": _COLOURS[series % len(_COLOURS)],
        "hatch": _HATCHES[series % len(_HATCHES)],
        "edgecolor": "white",
        "linewidth": 0.6,
    }


def swatch(label, **look) -> Patch:
    """A legend entry for something filled."""
    return Patch(label=shorten(label, _LEGEND_PT), **look)


def mark(label, color: str, marker: str, **look) -> Line2D:
    """A legend entry for a marker."""
    look = {"markersize": 4.5, "linestyle": "", **look}
    return Line2D([], [], color=color, marker=marker, label=shorten(label, _LEGEND_PT), **look)


def legend_above(figure: Figure, handles: list, **look) -> None:
    """Put a legend at the upper left, outside the axes, in as many columns as fit."""
    widest = max(text_width_pt(handle.get_label()) for handle in handles)
    columns = max(1, min(len(handles), int((style.FULL_IN - 0.2) * 72 // (widest + 30))))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, **look)


def note_below(figure: Figure, text: str) -> None:
    """Put small print below everything, over the whole width."""
    width_in = figure.get_figwidth()
    look = {"fontsize": style.TEXT_PT, "color": style.GREY, "linespacing": 1.25}
    figure.supxlabel(wrap(text, 72 * (width_in - 0.15)), x=0.05 / width_in, ha="left", **look)


def white_box(pad_pt: float) -> dict:
    """Look of the white ground of a text that lies on other marks."""
    return {"facecolor": "white", "edgecolor": "none", "pad": pad_pt}


def value_grid(axes: Axes, axis: str = "y") -> None:
    """Draw light lines along the value axis only."""
    axes.grid(axis=axis)
    axes.tick_params(axis=axis, length=0)


def row_chart(axes: Axes, names: list[str], zero: bool = False) -> None:
    """Name the rows at y = 0, -1, ..., with thin lines between them and, if wanted, at x = 0."""
    axes.set_yticks(-np.arange(len(names)), names)
    axes.set_ylim(0.5 - len(names), 0.6)
    axes.tick_params(axis="y", length=0)
    value_grid(axes, "x")
    for row in range(1, len(names)):
        axes.axhline(0.5 - row, color=style.PALE, linewidth=0.5, zorder=0.5)
    if zero:
        axes.axvline(0, color=style.INK, linewidth=0.8)


def whisker(axes: Axes, x, y, marker: str = "") -> None:
    """Draw a range as a thin dark line, with a light rim so that it shows on a dark bar."""
    for colour, width in (("white", 2.1), (style.INK, 0.9)):
        ends = {"marker": marker, "markersize": 4 + width, "markeredgewidth": width}
        axes.plot(x, y, color=colour, linewidth=width, solid_capstyle="butt", **ends)


def dodge(count: int, reach: float) -> np.ndarray:
    """Offsets [count] from -reach to reach that keep the dots of seeds apart."""
    return np.linspace(-reach, reach, count) if count > 1 else np.zeros(count)


def estimate(
    axes: Axes, y: float, value: float, low: float, high: float, signed: bool = False
) -> None:
    """Draw a dot with its interval; grey where the interval contains 0 or is unknown (NaN).

    `signed` writes the value with its sign above the dot.
    """
    colour = style.BLUE if low > 0 or high < 0 else style.GREY
    if np.isfinite(low):
        axes.plot([low, high], [y, y], color=colour, linewidth=1.6)
    axes.plot(value, y, "o", markersize=4.5, color=colour)
    if signed:
        text = f"{value:+.1f}".replace("-", "−")
        look = {"textcoords": "offset points", "bbox": white_box(0.4)}
        axes.annotate(text, (value, y), (0, 3.5), ha="center", va="bottom", **look)


def upright_text(axes: Axes, x: float, text: str, **look) -> None:
    """Write a word on the zero line, in place of a bar or on it."""
    look = {"color": style.GREY, "rotation": 90, "ha": "center", "va": "bottom", **look}
    axes.annotate(text, (x, 0), (0, 3), textcoords="offset points", **look)
