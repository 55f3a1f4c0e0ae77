"""Labels that fit: widths in typographic points, cut or broken into lines."""

import math
import re
import unicodedata

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

_FONT = FontProperties(family="DejaVu Sans", size=8)  # as in distilkit.mplstyle


def xml_characters(text: str) -> str:
    """Drop the characters that XML 1.0 (and a PNG text entry) cannot hold."""
    return "".join(
        c for c in text if c in "\t\n\r" or unicodedata.category(c) not in ("Cc", "Cs", "Cn")
    )


def text_width_pt(text: str) -> float:
    """Width of one line of text."""
    return text_to_path.get_text_width_height_descent(text, _FONT, ismath=False)[0]


def clean(label) -> str:
    """Put `label` on one line: white space collapsed, control characters dropped."""
    return " ".join(xml_characters(str(label)).split())


def shorten(label, width_pt: float) -> str:
    """Cut `label` with an ellipsis where it is wider than `width_pt`."""
    text = clean(label)
    if text_width_pt(text) <= width_pt:
        return text
    while text and text_width_pt(text + "…") > width_pt:
        text = text[:-1]
    return text.rstrip() + "…"


def wrap(label, width_pt: float, max_lines: int | None = None) -> str:
    """Break `label` into lines of at most `width_pt`, with an ellipsis where needed.

    Lines end at spaces or after `-`, `_` and `/`.
    """
    lines = [""]
    for piece in re.findall(r"[^\s/_-]*[/_-]+|[^\s/_-]+|\s+", clean(label)):
        full = text_width_pt((lines[-1] + piece).rstrip()) > width_pt
        if full and lines[-1] and len(lines) != max_lines:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return "\n".join(shorten(line, width_pt) for line in lines)


def number(value: float) -> str:
    """Write three significant digits without an exponent: 0.612, 4.31, 23.1, 410, 1,234."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.2e}")  # 99.96 has the digits of 100
    digits = max(0, 2 - math.floor(math.log10(abs(rounded))))
    return f"{value:,.{min(digits, 6)}f}".replace("-", "−")
