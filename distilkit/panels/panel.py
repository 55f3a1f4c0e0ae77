"""A picture that the browser draws: its sliders wait for no kernel, and work without one.

A panel is an `anywidget <https://anywidget.dev>`_ made of a script (``panel_*.js``, plain
JavaScript), a value that Python computes, and settings that the reader makes; both plain JSON. All
three also stand in the output's HTML, so that a notebook exported as HTML has a panel that moves,
opened from disk; where scripts are not run (GitHub), a picture and a sentence are seen instead.
"""

from __future__ import annotations

import io
import json
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

_HERE = Path(__file__).parent
_MOST_BYTES = 20_000_000  # of a picture that the browser sends to be saved

LOWEST, HIGHEST = 0.1, 20.0  # the ends of a slider for T
STILL = "This is a picture: it moves when the notebook is run, or exported as HTML."


class Panel(anywidget.AnyWidget):
    """A script, its value, and what the kernel does when the browser asks.

    Args:
        script: name of a file of this package; ``export default { render }`` ends it.
        value: what it draws; ``about`` in it goes into saved files.
        settings: what the reader can change, as it is at first; Reset goes back to that. In
            ``panel.settings`` they are as in the browser, and setting that moves the panel.
        check: raises ValueError for settings that are none.
        still: HTML that stands in for it where no script is run.
        answer: takes what the script asks (a dict) and returns what changes in ``value``; what it
            raises is shown in the panel.
        folder: where Save writes; by default ``figures/<scale>/`` of the scale that ``about``
            names, or of the current one.
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
        folder: Path | None = None,
    ) -> None:
        self._esm = (_HERE / "parts.js").read_text() + (_HERE / script).read_text()
        self._css = (_HERE / "panel.css").read_text()
        self._check = check
        settings = settings or {}
        super().__init__(value={**value, "start": settings}, settings=settings)
        self._still, self._answer, self._folder = still, answer, folder
        self.on_msg(self._heard)

    @traitlets.validate("settings")
    def _checked(self, proposal: dict[str, Any]) -> dict[str, Any]:
        if self._check is not None:
            self._check(proposal["value"])
        return proposal["value"]

    def _heard(self, _widget: Panel, asked: dict[str, Any], buffers: list[memoryview]) -> None:
        """What the browser asks: to save the view, or whatever ``answer`` knows."""
        try:
            if asked["ask"] == "save":
                paths = self._save(asked, bytes(buffers[0]))
                self.send({"saved": [_as_shown(path) for path in paths]})
            elif self._answer is not None:
                self.value = {**self.value, **self._answer(asked)}
            else:
                raise ValueError(f"this panel has no answer to {asked['ask']!r}")
        except Exception as error:  # nobody sees a callback's exception but in the panel
            self.send({"error": f"{error}" or type(error).__name__, "asked": asked.get("ask")})

    def _save(self, asked: dict[str, Any], png: bytes) -> tuple[Path, Path]:
        if max(len(png), len(asked["svg"])) > _MOST_BYTES:
            raise ValueError(f"a picture of more than {_MOST_BYTES:,} bytes")
        name = "".join(c for c in asked["name"] if c.isalnum() or c in "_-") or "panel"
        folder = self._folder or scale(self.value.get("about", {}).get("scale")).figures
        folder.mkdir(parents=True, exist_ok=True)
        text = PngInfo()
        for key, entry in asked["about"].items():  # the SVG holds it already
            text.add_itxt(key, entry if isinstance(entry, str) else json.dumps(entry))
        image = io.BytesIO()
        with Image.open(io.BytesIO(png), formats=["PNG"]) as seen:
            seen.save(image, format="PNG", pnginfo=text, dpi=(192, 192))
        return (
            write_atomically(folder / f"{name}.svg", asked["svg"].encode()),
            write_atomically(folder / f"{name}.png", image.getvalue()),
        )

    def to_html(self) -> str:
        """The panel as it is now, for a page without a kernel and without a network."""
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


def check_slider(name: str, number: Any, low: float, high: float) -> None:
    """Raise ValueError unless the number lies between a slider's ends."""
    if not (isinstance(number, Real) and low <= number <= high):
        raise ValueError(f"{name} = {number!r}: give a number from {low:g} to {high:g}")


def _as_shown(path: Path) -> str:
    """From the project's folder on, if it is in there."""
    return str(path.relative_to(home()) if path.is_relative_to(home()) else path)
