"""One style for all figures, on screen and saved.

The style is the file ``distilkit.mplstyle``. Widths are those of a report: `COLUMN_IN` (one column)
and `FULL_IN` (full width). Hatches, markers and direct labels repeat what colours say, for print in
grey. Nothing here changes the user's matplotlib settings, and no figure is registered with pyplot.
"""

import io
import re
from functools import partial
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure

from distilkit.checkpoint import write_atomically
from distilkit.plots.text import xml_characters

_STYLE = matplotlib.rc_params_from_file(
    Path(__file__).with_name("distilkit.mplstyle"), fail_on_error=True, use_default_template=False
)
COLUMN_IN, FULL_IN = 3.3, 6.9  # figure widths, inches
TEXT_PT, TITLE_PT = _STYLE["font.size"], _STYLE["axes.titlesize"]
SCREEN_DPI, SAVE_DPI = _STYLE["figure.dpi"], _STYLE["savefig.dpi"]
_SCREEN_ZOOM = 2  # a notebook gets twice the pixels that it shows, for sharp screens

# Okabe and Ito 2008: distinguishable with any colour vision
ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
INK, GREY, PALE = _STYLE["text.color"], _STYLE["axes.edgecolor"], "#D9D9D9"


# matplotlib's defaults plus this style; the user's settings return. Also a decorator
figure_style = partial(matplotlib.style.context, _STYLE, after_reset=True)


class StyledFigure(Figure):
    """A figure that is always drawn in this style and that a notebook shows without pyplot."""

    draw = figure_style()(Figure.draw)  # whatever the user's settings are at that moment

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        png = _render(self, "png", {"Software": None}, dpi=SCREEN_DPI * _SCREEN_ZOOM)
        width, height = (round(side * SCREEN_DPI) for side in self.get_size_inches())
        return png, {"width": width, "height": height}


def new_figure(width_in: float, height_in: float) -> StyledFigure:
    """Return an empty figure with constrained layout; call it inside `figure_style()`."""
    return StyledFigure(figsize=(width_in, height_in), layout="constrained")


def freeze_layout(figure: Figure) -> Figure:
    """Run the layout to its end and fix it, so that screen, PNG and SVG agree.

    Constrained layout moves a little at every draw and with the resolution.
    """
    figure.draw_without_rendering()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def save_figure(figure: Figure, name: str, folder, **metadata) -> tuple[Path, Path]:
    """Write `<folder>/<name>.svg` and `<folder>/<name>.png` (300 dpi); return the two paths.

    The same figure gives the same bytes in every process: no date and no software version go in.
    `metadata` says what it was made from (scale, seed, commit, run ...). The PNG gets a text entry
    a key, the SVG keywords `key: value`. A None value is left out.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"figure name {name!r}: use letters, digits, '_' and '-' only")
    for key in metadata:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_ -]{0,78}", key):
            raise ValueError(f"metadata key {key!r}: use up to 79 letters, digits, '_', '-', ' '")
    entries = {
        key: xml_characters(str(value)) for key, value in metadata.items() if value is not None
    }
    keywords = [f"{key}: {value}" for key, value in entries.items()]
    svg_metadata = {"Title": name, "Creator": "distilkit", "Date": None}
    if keywords:
        svg_metadata["Keywords"] = keywords
    svg = _render(figure, "svg", svg_metadata)
    png = _render(figure, "png", {"Title": name, **entries, "Software": None})
    folder = Path(folder).expanduser()
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
