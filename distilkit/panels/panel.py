"""A picture that the browser draws: its sliders need no kernel.

A panel is an `anywidget <https://anywidget.dev>`_: a script (plain JavaScript, in this folder), a
value that Python computes, and settings that the user changes. The latter two are plain JSON. All
three are also in the output's HTML, so the panel works in a notebook exported as HTML. Where
scripts are not run (GitHub), a picture and a sentence are shown instead.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
import secrets
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from distilkit.checkpoint import write_atomically
from distilkit.config import home, scale
from distilkit.plots.style import StyledFigure

_HERE = Path(__file__).parent
_MAX_BYTES = 20_000_000  # of a picture that the browser sends to be saved

LOWEST, HIGHEST = 0.1, 20.0  # the ends of a slider for T
STILL = "This is a picture: it moves when the notebook is run, or exported as HTML."


class Panel(anywidget.AnyWidget):
    """A script, its value, and the kernel's answers to the browser's requests.

    Args:
        script: name of a file in this folder that ends with ``export default { render }``.
        value: what it draws; its entry ``about`` goes into saved files. Save writes to
            ``figures/<scale>/`` of the scale that ``about`` names, or of the current one.
        settings: what the user can change, with its first values; Reset restores them.
            ``panel.settings`` follows the browser, and assigning to it moves the panel.
        check: raises ValueError for invalid settings.
        still: HTML shown instead where no script is run.
        answer: takes a request of the script (a dict) and returns what changes in ``value``; its
            exceptions are shown in the panel.
    """

    value = traitlets.Dict().tag(sync=True)
    settings = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        script: str,
        value: dict[str, Any],
        settings: dict[str, Any] | None = None,
        *,
        check: Callable[[dict[str, Any]], None] | None = None,
        still: str = "",
        answer: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self._esm = "".join((_HERE / file).read_text("utf-8") for file in ("parts.js", script))
        self._css = (_HERE / "panel.css").read_text("utf-8")
        self._check = check
        settings = settings or {}
        super().__init__(value={**value, "start": settings}, settings=settings)
        self._still, self._answer = still, answer
        self.on_msg(self._on_request)

    @traitlets.validate("settings")
    def _checked(self, proposal: dict[str, Any]) -> dict[str, Any]:
        if self._check is not None:
            self._check(proposal["value"])
        return proposal["value"]

    def _on_request(
        self, _widget: Panel, request: dict[str, Any], buffers: list[memoryview]
    ) -> None:
        """Save the view, or do what ``answer`` does."""
        try:
            if request["ask"] == "save":
                paths = self._save(request, bytes(buffers[0]))
                self.send({"saved": [str(path.relative_to(home())) for path in paths]})
            elif self._answer is not None:
                self.value = {**self.value, **self._answer(request)}
            else:
                raise ValueError(f"this panel has no answer to {request['ask']!r}")
        except Exception as error:  # a notebook does not show the exception of a callback
            self.send({"error": f"{error}" or type(error).__name__, "request": request.get("ask")})

    def _save(self, request: dict[str, Any], png: bytes) -> tuple[Path, Path]:
        if max(len(png), len(request["svg"])) > _MAX_BYTES:
            raise ValueError(f"a picture of more than {_MAX_BYTES:,} bytes: make it smaller")
        name = "".join(c for c in request["name"] if c.isalnum() or c in "_-") or "panel"
        of = self.value.get("about", {}).get("scale") or scale().name
        if not re.fullmatch(r"[\w-]+", of):  # it may come from the browser
            raise ValueError(f"{of!r} is no name of a scale")
        folder = home() / "figures" / of
        folder.mkdir(parents=True, exist_ok=True)
        text = PngInfo()
        for key, entry in request["about"].items():  # the SVG holds it already
            text.add_itxt(key, entry if isinstance(entry, str) else json.dumps(entry))
        image = io.BytesIO()
        with Image.open(io.BytesIO(png), formats=["PNG"]) as view:
            view.save(image, format="PNG", pnginfo=text, dpi=(192, 192))
        return (
            write_atomically(folder / f"{name}.svg", request["svg"].encode()),
            write_atomically(folder / f"{name}.png", image.getvalue()),
        )

    def to_html(self) -> str:
        """Return the panel in its present state, for a page without kernel and network."""
        place = f"dk-{secrets.token_hex(8)}"
        state = {"value": self.value, "settings": self.settings}
        state = json.dumps(state).replace("<", "\\u003c")  # no "</script>" in a label
        script = self._esm.replace("export default", "const panel =")
        return (
            f'<div id="{place}">{self._still}<p>{STILL}</p></div>\n'
            f"<style>{self._css}</style>\n"
            f'<script type="module">\n{script}\n'
            f'const el = document.createElement("div");\n'
            f"panel.render({{ model: standalone({state}), el }});\n"
            f'document.getElementById("{place}").replaceChildren(el);\n</script>'
        )

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**options)
        return {**data, "text/html": self.to_html()}, metadata


def figure_html(figure: StyledFigure, description: str) -> str:
    """Return a figure as an image in HTML, the ``still`` of a panel."""
    png, size = figure._repr_png_()
    return (
        f'<img alt="{html.escape(description)}" width="{size["width"]}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    )


def check_slider(name: str, number: Any, low: float, high: float) -> None:
    """Raise ValueError unless the number lies between a slider's ends."""
    if not (isinstance(number, Real) and low <= number <= high):
        raise ValueError(f"{name} = {number!r}: give a number from {low:g} to {high:g}")
