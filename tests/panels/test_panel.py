"""What a panel hands to the browser and does when it asks; a small frame of another site."""

from __future__ import annotations

import base64
import html
import io
import json
import re

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from distilkit import temperature_panel
from distilkit.cli.run_notebooks import prefer_html
from distilkit.panels.panel import Panel

LABELS, LOGITS = ["dog", "wolf", "car"], [4.0, 3.0, -1.0]
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><metadata>{"T":3}</metadata></svg>'


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(file, "PNG")
    return file.getvalue()


def asks(panel: Panel, request: dict, *buffers: bytes) -> list[dict]:
    """What the panel sends back when the browser asks something of it."""
    sent = []
    panel.send = lambda content, buffers=None: sent.append(content)
    panel._handle_custom_msg(request, [memoryview(buffer) for buffer in buffers])
    return sent


def save_of(name: str = "temperature_panel") -> dict:
    return {"ask": "save", "name": name, "svg": SVG, "about": {"T": 3, "logits": LOGITS}}


@pytest.mark.slow
def test_the_browser_is_handed_plain_numbers():
    for logits in (LOGITS, np.array(LOGITS), torch.tensor(LOGITS)):
        panel = temperature_panel(logits, LABELS, temperature=3)
        settings = {"logits": LOGITS, "student_logits": None, "temperature": 3.0}
        assert json.loads(json.dumps(panel.settings)) == settings
        assert panel.value["start"] == settings  # what Reset goes back to
    both = temperature_panel(LOGITS, LABELS, [0, 1, 2], about={"scale": "tiny"})
    assert both.settings["student_logits"] == [0, 1, 2]
    assert both.value["about"] == {"scale": "tiny"}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"temperature": wrong} for wrong in (0, 21, "hot", None)),
        *({"logits": wrong} for wrong in ([], None, [1, None, 3], [1, 2])),
        {"student_logits": [1.0]},
    ],
)
@pytest.mark.slow
def test_wrong_settings_are_refused_and_the_old_ones_stay(wrong):
    panel = temperature_panel(LOGITS, LABELS)
    before = panel.settings
    with pytest.raises(ValueError, match="|".join(wrong)):
        panel.settings = {**before, **wrong}
    assert panel.settings == before


@pytest.mark.parametrize(
    ("logits", "labels", "student", "temperature", "said"),
    [
        ([], [], None, 2, "at least one finite number"),
        ([1.0, float("nan")], ["a", "b"], None, 2, "at least one finite number"),
        ([1.0, 2.0], ["a"], None, 2, "2 numbers for 1 labels"),
        ([1.0, 2.0], ["a", "b"], [1.0], 2, "student_logits: 1 numbers for 2 labels"),
        ([1.0, 2.0], ["a", "b"], [1.0, float("inf")], 2, "student_logits"),
        ([1.0, 2.0], ["a", "b"], None, 0, "temperature = 0"),
        ([1.0, 2.0], ["a", "b"], None, float("nan"), "temperature = nan"),
    ],
)
def test_wrong_input_is_refused_at_once(logits, labels, student, temperature, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        temperature_panel(logits, labels, student, temperature=temperature)


@pytest.mark.slow
def test_save_writes_both_files_with_their_metadata(home):
    sent = asks(temperature_panel(LOGITS, LABELS), save_of(), png())
    assert sent == [
        {"saved": [f"figures/tiny/temperature_panel.{kind}" for kind in ("svg", "png")]}
    ]
    assert (home / "figures" / "tiny" / "temperature_panel.svg").read_text() == SVG
    with Image.open(home / "figures" / "tiny" / "temperature_panel.png") as image:
        assert image.size == (4, 3)
        assert image.text["T"] == "3"
        assert json.loads(image.text["logits"]) == LOGITS


@pytest.mark.slow
def test_save_goes_to_the_scale_that_about_names(home):
    sent = asks(temperature_panel(LOGITS, LABELS, about={"scale": "small"}), save_of(), png())
    assert sent[0]["saved"][0] == "figures/small/temperature_panel.svg"


@pytest.mark.slow
def test_a_scale_of_ones_own_has_a_folder_too(home):
    sent = asks(temperature_panel(LOGITS, LABELS, about={"scale": "mine"}), save_of(), png())
    assert sent[0]["saved"][0] == "figures/mine/temperature_panel.svg"
    outside = asks(temperature_panel(LOGITS, LABELS, about={"scale": "../x"}), save_of(), png())
    assert "no name of a scale" in outside[0]["error"]


@pytest.mark.slow
def test_save_stays_in_its_folder_whatever_the_name(home):
    (sent,) = asks(temperature_panel(LOGITS, LABELS), save_of("../../elsewhere"), png())
    assert sent["saved"] == ["figures/tiny/elsewhere.svg", "figures/tiny/elsewhere.png"]
    assert all((home / path).is_file() for path in sent["saved"])


@pytest.mark.parametrize(
    ("request_", "buffers", "said"),
    [
        (save_of(), [b"no picture"], "cannot identify image"),
        ({"ask": "save"}, [], "range|svg"),
        ({"ask": "moon"}, [], "moon"),
    ],
)
@pytest.mark.slow
def test_a_failure_is_said_in_the_panel(home, request_, buffers, said):
    (sent,) = asks(temperature_panel(LOGITS, LABELS), request_, *buffers)
    assert re.search(said, sent["error"])
    assert sent["request"] == request_["ask"]
    assert not list((home / "figures").rglob("*.svg"))


def test_an_answer_changes_the_value_and_its_failure_is_said(home):
    def answer(asked: dict) -> dict:
        if asked["number"] < 0:
            raise ValueError("a number of at least 0, please")
        return {"root": asked["number"] ** 0.5}

    panel = Panel("temperature.js", {"root": 0, "kept": 1}, answer=answer)
    assert asks(panel, {"ask": "root", "number": 9}) == []
    assert (panel.value["root"], panel.value["kept"]) == (3, 1)
    (sent,) = asks(panel, {"ask": "root", "number": -1})
    assert sent == {"error": "a number of at least 0, please", "request": "root"}
    assert panel.value["root"] == 3


@pytest.mark.slow
def test_html_holds_script_value_and_a_picture_for_those_who_run_no_script():
    panel = temperature_panel(LOGITS, ["</script><script>alert(1)</script>", "b<i>", "c"])
    page = panel.to_html()
    assert page.count("</script>") == 1
    assert "<i>" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # asks no network
    picture = re.search(
        r'<img alt="softmax of .+" width="\d+" src="data:image/png;base64,(.+?)">', page
    )
    with Image.open(io.BytesIO(base64.b64decode(picture[1]))) as image:
        assert image.width > 500
    panel.settings = {**panel.settings, "temperature": 7.5}
    assert '"temperature": 7.5' in panel.to_html()  # as it is now
    data, _ = panel._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/html"} <= data.keys()


@pytest.mark.slow
def test_an_executed_notebook_keeps_what_moves_without_a_kernel():
    data, metadata = temperature_panel(LOGITS, LABELS)._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    widget = "application/vnd.jupyter.widget-view+json"
    plain = nbformat.v4.new_output("display_data", {widget: {"model_id": "bar"}})
    cell = nbformat.v4.new_code_cell("x", outputs=[output, plain])
    prefer_html(nbformat.v4.new_notebook(cells=[cell]))
    assert widget not in cell.outputs[0].data
    assert "dk-" in cell.outputs[0].data["text/html"]
    assert widget in cell.outputs[1].data  # a progress bar has nothing else


# descendants of the panel (a picture as a whole) that end right of it, and what is cut off
CUT_OFF = """() => {
  const edge = document.querySelector(".dk-panel").getBoundingClientRect().right;
  const parts = [...document.querySelectorAll(".dk-panel, .dk-panel :not(svg *)")];
  return parts.filter((part) => part.getBoundingClientRect().right > edge + 1
    || part.getBoundingClientRect().right > innerWidth).map((part) => part.outerHTML);
}"""


@pytest.mark.browser
def test_a_narrow_frame_of_another_origin_shows_all_of_it(alone):
    """Colab shows each output in such a frame: no storage, no cookies, the width of a phone."""
    problems: list[str] = []
    alone.on("pageerror", lambda error: problems.append(str(error)))
    page = temperature_panel(LOGITS, LABELS, [1.0, 2.0, 0.0]).to_html()
    frame = html.escape(f'<!doctype html><meta charset="utf-8">{page}')
    alone.set_content(f'<iframe sandbox="allow-scripts" width=360 srcdoc="{frame}"></iframe>')
    frame = alone.frames[1]
    frame.wait_for_selector(".dk-panel svg")
    assert frame.evaluate(CUT_OFF) == []
    before = frame.locator(".dk-status").inner_text()
    frame.locator("input[type=range]").focus()
    alone.keyboard.press("ArrowLeft")
    assert frame.locator(".dk-status").inner_text() != before
    assert problems == []


@pytest.mark.browser
def test_keys_of_a_panel_do_not_reach_the_notebook(alone):
    """VS Code listens on the window, and would delete the cell or leave it."""
    alone.set_content(
        f"<!doctype html><meta charset='utf-8'>{temperature_panel(LOGITS, LABELS).to_html()}"
    )
    alone.evaluate("() => { heard = []; addEventListener('keydown', (e) => heard.push(e.key)); }")
    slider = alone.locator("input[type=range]").first
    slider.focus()
    before = float(slider.input_value())
    for key in ("Delete", "PageUp", "Enter", "ArrowUp"):
        alone.keyboard.press(key)
    assert float(slider.input_value()) > before
    alone.locator("input[type=text]").first.press("End")
    assert alone.evaluate("heard") == []
    alone.keyboard.press("Control+s")  # saves the notebook, as anywhere
    assert alone.evaluate("heard") == ["Control", "s"]
