"""A picture that the browser draws: its sliders wait for no kernel, and work without one.

A panel is an `anywidget <https://anywidget.dev>`_ made of one script (``panel_*.js``, plain
JavaScript) and one value, plain JSON, which both sides read and may set. The same script and value
also stand in the output's HTML, so that a notebook exported as HTML has a panel that moves, opened
from disk; where scripts are not run (GitHub), a picture and a sentence are seen instead.
"""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from distilkit.config import home, scale
from distilkit.figure_style import write_atomically

_HERE = Path(__file__).parent
_MOST_BYTES = 20_000_000  # of a picture that the browser sends to be saved

STILL = "This is a picture: it moves when the notebook is run, or exported as HTML."


class Panel(anywidget.AnyWidget):
    """A script, its value, and what the kernel does when the browser asks.

    Args:
        script: name of a file of this package; ``export default { render }`` ends it.
        value: what it draws, plain JSON; ``about`` in it goes into saved files. Setting
            ``panel.value`` redraws.
        still: HTML that stands in for it where no script is run.
        answer: takes what the script asks (a dict) and returns what changes in ``value``; what it
            raises is shown in the panel.
        folder: where Save writes; by default the current scale's ``figures/<scale>/``.
    """

    value = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        script: str,
        value: dict[str, Any],
        *,
        still: str = "",
        answer: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._esm = (_HERE / "panel_parts.js").read_text() + (_HERE / script).read_text()
        self._css = (_HERE / "panel.css").read_text()
        super().__init__(value=value)
        self._still, self._answer, self._folder = still, answer, folder
        self.on_msg(self._heard)

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
        folder = self._folder or scale().figures
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
        value = json.dumps(self.value).replace("<", "\\u003c")  # no "</script>" in a label
        script = self._esm.replace("export default", "const panel =")
        return (
            f'<div id="{place}">{self._still}<p>{STILL}</p></div>\n'
            f"<style>{self._css}</style>\n"
            f'<script type="module">\n{script}\n'
            f'const el = document.getElementById("{place}");\n'
            "el.replaceChildren();\n"
            f"panel.render({{ model: standalone({value}), el }});\n</script>"
        )

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**options)
        return {**data, "text/html": self.to_html()}, metadata


def _as_shown(path: Path) -> str:
    """From the project's folder on, if it is in there."""
    return str(path.relative_to(home()) if path.is_relative_to(home()) else path)
