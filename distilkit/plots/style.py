"""One look for every figure, and how a figure is saved.

Widths are those of a report: `COLUMN_IN` (one column) and `FULL_IN` (full width), text 8 pt,
titles 9 pt. Colours are Okabe and Ito's; hatches and direct labels carry the same in grey. Nothing
here reads or changes the user's matplotlib settings, and no figure is handed to pyplot.
"""

import io
import math
import re
import textwrap
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch
from matplotlib.textpath import text_to_path

from distilkit.checkpoint import write_atomically

COLUMN_IN, FULL_IN = 3.3, 6.9  # figure widths, inches
TEXT_PT, TITLE_PT = 8, 9
SAVE_DPI = 300
SCREEN_DPI, SCREEN_ZOOM = 110, 2  # pixels per inch in a notebook; rendered at twice that

# Okabe and Ito 2008: told apart with any colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
INK, GREY, PALE = "#222222", "#666666", "#D9D9D9"

SERIES_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION)
SERIES_HATCHES = ("", "////", "\\\\\\\\", "xxxx", "----", "||||")

_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "font.size": TEXT_PT,
    "axes.titlesize": TITLE_PT,
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.labelsize": TEXT_PT,
    "axes.labelpad": 3,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a word or a run's name is a dollar sign
    "xtick.labelsize": TEXT_PT,
    "ytick.labelsize": TEXT_PT,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.fontsize": TEXT_PT,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.handleheight": 0.9,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.4,
    "legend.borderpad": 0.2,
    "hatch.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "figure.dpi": SCREEN_DPI,
    "figure.constrained_layout.w_pad": 0.05,
    "figure.constrained_layout.h_pad": 0.05,
    "savefig.dpi": SAVE_DPI,
    "savefig.bbox": None,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "distilkit",  # the same ids in every process
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Inside, matplotlib's defaults plus this style hold; outside, the user's settings stay."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


class StyledFigure(Figure):
    """A figure that is always drawn in this style and that a notebook shows without pyplot."""

    def draw(self, renderer) -> None:
        """Draw under the style, whatever the user's settings are at that moment."""
        with figure_style():
            super().draw(renderer)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        png = _render(self, "png", {"Software": None}, dpi=SCREEN_DPI * SCREEN_ZOOM)
        width, height = (round(side * SCREEN_DPI) for side in self.get_size_inches())
        return png, {"width": width, "height": height}


def new_figure(width_in: float, height_in: float) -> StyledFigure:
    """An empty figure with constrained layout; call inside `figure_style()`."""
    return StyledFigure(figsize=(width_in, height_in), layout="constrained")


def freeze_layout(figure: Figure) -> Figure:
    """Run the layout to its end and keep it, so that screen, PNG and SVG agree to the last point.

    (Constrained layout moves a little at every draw and with the resolution.)
    """
    figure.draw_without_rendering()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def save_figure(figure: Figure, name: str, folder, **metadata) -> tuple[Path, Path]:
    """Write `<folder>/<name>.svg` and `<folder>/<name>.png` (300 dpi); return the two paths.

    The same figure gives the same bytes in every process: no date and no software version go in.
    Both files are rendered before either is written, and each is written to a temporary file and
    renamed, so that a reader never sees half a file. The folder is made if it is missing.

    Args:
        figure: any matplotlib figure; its size is kept (no cropping).
        name: letters, digits, `_` and `-` only.
        folder: where to write.
        **metadata: what the figure was made from (scale, seed, commit, run ...). It goes into the
            PNG as one text entry per key and into the SVG as keywords, `key: value`, as plain
            text; characters that XML forbids are dropped. A None value is left out.

    Raises:
        ValueError: for a name with other characters, or a metadata key that is not 1 to 79
            letters, digits, `_`, `-` or spaces.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"figure name {name!r}: use letters, digits, '_' and '-' only")
    for key in metadata:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_ -]{0,78}", key):
            raise ValueError(f"metadata key {key!r}: use up to 79 letters, digits, '_', '-', ' '")
    entries = {
        key: _xml_characters(str(value)) for key, value in metadata.items() if value is not None
    }
    keywords = [f"{key}: {value}" for key, value in entries.items()]
    svg_metadata = {"Title": name, "Creator": "distilkit", "Date": None}
    if keywords:
        svg_metadata["Keywords"] = keywords
    svg = _render(figure, "svg", svg_metadata)
    png = _render(figure, "png", {"Title": name, **entries, "Software": None})
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return (
        write_atomically(folder / f"{name}.svg", svg),
        write_atomically(folder / f"{name}.png", png),
    )


def _render(figure: Figure, file_format: str, metadata: dict, dpi: float = SAVE_DPI) -> bytes:
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(buffer, format=file_format, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def _xml_characters(text: str) -> str:
    """Without the characters that XML 1.0 (and a PNG text entry) cannot hold."""
    return "".join(
        c for c in text if c in "\t\n\r" or unicodedata.category(c) not in ("Cc", "Cs", "Cn")
    )


# ------------------------------------------------------------------------------------- text


def text_width_pt(text: str, size_pt: float = TEXT_PT, weight: str = "normal") -> float:
    """The width of one line of text in points."""
    font = FontProperties(family="DejaVu Sans", size=size_pt, weight=weight)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def clean(label) -> str:
    """A label on one line: white space collapsed, control characters dropped."""
    return " ".join(_xml_characters(str(label)).split())


def shorten(label, width_pt: float, **font) -> str:
    """`label`, cut with an ellipsis where it is wider than `width_pt`."""
    text = clean(label)
    if text_width_pt(text, **font) <= width_pt:
        return text
    while text and text_width_pt(text + "…", **font) > width_pt:
        text = text[:-1]
    return text.rstrip() + "…"


def wrap(label, width_pt: float, max_lines: int | None = None, **font) -> str:
    """`label` in lines of about one length and at most `width_pt`, an ellipsis where it must be.

    Lines end at spaces or after `-`, `_` and `/`.
    """
    pieces = re.findall(r"[^\s/_-]*[/_-]+|[^\s/_-]+|\s+", clean(label))

    def fill(width: float) -> list[str]:
        lines = [""]
        for piece in pieces:
            full = text_width_pt((lines[-1] + piece).rstrip(), **font) > width
            if full and lines[-1] and len(lines) != max_lines:
                lines.append("")
            lines[-1] += piece if lines[-1] else piece.lstrip()
        return lines

    lines = fill(width_pt)
    for width in np.arange(width_pt - 2, width_pt / 2, -2):
        narrower = fill(width)
        if len(narrower) > len(lines) or any(text_width_pt(t, **font) > width for t in narrower):
            break
        lines = narrower
    return "\n".join(shorten(line, width_pt, **font) for line in lines)


def wrap_paragraph(text: str, width_in: float) -> str:
    """A footnote broken into lines for a figure of this width."""
    average_pt = text_width_pt(text) / len(text)
    for letters in range(math.ceil(1.1 * width_in * 72 / average_pt), 10, -1):
        wrapped = textwrap.fill(text, letters)
        if max(text_width_pt(line) for line in wrapped.splitlines()) <= width_in * 72:
            return wrapped
    return wrapped


def number(value: float) -> str:
    """Three significant digits without an exponent: 0.612, 4.31, 23.1, 410, 1,234."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 6)}f}"
    return text.replace("-", "−")


def value_grid(axes: Axes, axis: str = "y") -> None:
    """Light lines along the value axis only."""
    axes.grid(axis=axis)
    axes.tick_params(axis=axis, length=0)


# ------------------------------------------------------------------------------ common parts


def series_look(series: int) -> dict:
    """Colour and hatch of the i-th arm or model, for anything that is filled."""
    return {
        "facecolor": SERIES_COLOURS[series % len(SERIES_COLOURS)],
        "hatch": SERIES_HATCHES[series % len(SERIES_HATCHES)],
        "edgecolor": "white",
        "linewidth": 0.6,
    }


def swatch(label, **look) -> Patch:
    """An entry of a legend."""
    return Patch(label=shorten(label, (FULL_IN - 0.6) * 72), **look)


def whisker(axes: Axes, x, y, marker: str = "") -> None:
    """A range as a thin dark line, with a light rim so that it also shows on a dark bar."""
    for colour, width in (("white", 2.1), (INK, 0.9)):
        axes.plot(
            x,
            y,
            color=colour,
            linewidth=width,
            marker=marker,
            markersize=4 + width,
            markeredgewidth=width,
            solid_capstyle="butt",
        )


def legend_above(figure: Figure, handles: list) -> None:
    """Outside of the data, at the upper left, in as many columns as fit."""
    widest = max(text_width_pt(handle.get_label()) for handle in handles)
    columns = max(1, min(len(handles), int((FULL_IN - 0.2) * 72 // (widest + 30))))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)


def note_below(figure: Figure, text: str) -> None:
    """Small print below everything, over the whole width."""
    width_in = figure.get_figwidth()
    figure.supxlabel(
        wrap_paragraph(text, width_in - 0.15),
        x=0.05 / width_in,
        ha="left",
        fontsize=TEXT_PT,
        color=GREY,
        linespacing=1.25,
    )


def upright_text(axes: Axes, x: float, text: str, **look) -> None:
    """A word that stands on the zero line, in a bar's place or on a bar."""
    axes.annotate(
        text,
        (x, 0),
        (0, 3),
        textcoords="offset points",
        rotation=90,
        ha="center",
        va="bottom",
        **{"color": GREY, **look},
    )


# ------------------------------------------------------------------------------------ checks


def check_table(name: str, table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """`table` itself; ValueError unless it is a DataFrame with rows and these columns."""
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"{name} must be a pandas DataFrame, not {type(table).__name__}")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{name} lacks {missing}; it has {list(table.columns)}")
    if table.empty:
        raise ValueError(f"{name} has no rows")
    return table


def check_vector(name: str, values, at_least: int = 1) -> np.ndarray:
    """`values` as float64 [n]; ValueError unless they are finite and enough."""
    vector = np.asarray(values, dtype=float)
    if vector.ndim != 1 or len(vector) < at_least:
        raise ValueError(f"{name} has shape {vector.shape}; give at least {at_least} in one row")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} has {(~np.isfinite(vector)).sum()} values that are not finite")
    return vector


def check_labels(name: str, values, length: int) -> list[str]:
    """`values` as clean texts; ValueError unless there are `length` of them."""
    values = [clean(value) for value in values]
    if len(values) != length:
        raise ValueError(f"{len(values)} {name} for {length} values: give one each")
    return values
