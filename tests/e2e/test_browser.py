"""Notebook 01 in JupyterLab in a real browser, and exported as HTML: its panels move and save."""

from __future__ import annotations

import json
import re
import time
from xml.etree import ElementTree

import nbconvert
import pytest
from lab_server import jupyterlab, open_and_run, voila, write_notebook
from PIL import Image
from scipy.special import softmax

pytestmark = pytest.mark.browser

LOGITS = (6.0, 4.5, 3.0, 2.0, -2.0)  # of notebook 01


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab over a copy of the notebooks: its home, and a notebook's address."""
    home = tmp_path_factory.mktemp("lab")
    with jupyterlab(home) as address:
        yield home, address


@pytest.fixture(scope="module")
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(90_000)
    yield page
    page.close()


@pytest.fixture(scope="module")
def notebook_01(lab, page):
    """Notebook 01, opened and run to its end."""
    home, address = lab
    page.goto(address("01_temperature.ipynb"))
    open_and_run(page)
    page.wait_for_function(
        "window.jupyterapp.shell.currentWidget.content.widgets"
        ".filter(c => c.model.type === 'code').every(c => c.model.executionCount)"
    )
    page.wait_for_function("document.querySelectorAll('.dk-panel svg').length === 2")
    return home


class View:
    """What a reader sees of the first panel in a page."""

    def __init__(self, page):
        self.page = page
        self.panel = page.locator(".dk-panel").first
        self.range = self.panel.locator("input[type=range]")
        self.box = self.panel.locator("input[type=number]")

    def said(self) -> tuple[float, float]:
        """(T, percent of the first class) from the line of text."""
        text = self.panel.locator(".dk-status").inner_text()
        found = re.match(r"T = ([\d.]+): dog has ([\d.]+) %, entropy ", text)
        return float(found[1]), float(found[2])

    def bars(self) -> list[float]:
        """The bars' lengths, as shares of their sum."""
        widths = self.panel.locator("rect[data-bar=soft]").evaluate_all(
            "bars => bars.map(bar => Number(bar.getAttribute('width')))"
        )
        return [width / sum(widths) for width in widths]

    def agrees_at(self, temperature: float) -> None:
        """Text, number box and bars say what softmax says at T, as exactly as they are written."""
        p = softmax([z / temperature for z in LOGITS])
        assert self.said() == (pytest.approx(temperature), pytest.approx(100 * p[0], abs=0.051))
        assert float(self.box.input_value()) == pytest.approx(temperature)
        assert self.bars() == pytest.approx(list(p), abs=1e-6)
        assert self.panel.locator("svg").count() == 1
        assert self.panel.locator(".dk-problem").inner_text() == ""


def test_notebook_runs_without_errors_and_shows_pictures(notebook_01, page):
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    shown = page.locator(".jp-OutputArea img").evaluate_all(
        "images => images.filter(i => i.complete && i.naturalWidth > 300).length"
    )
    assert shown == 2
    saved = {path.name for path in (notebook_01 / "figures" / "tiny").iterdir()}
    assert {"01_temperatures.svg", "01_temperatures.png"} <= saved


def test_slider_moves_by_keyboard(notebook_01, page):
    view = View(page)
    view.agrees_at(2.0)
    view.range.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    temperature, _ = view.said()
    assert 3 < temperature < 4
    view.agrees_at(temperature)
    page.keyboard.press("Home")
    view.agrees_at(0.1)
    page.keyboard.press("End")
    view.agrees_at(20.0)


def test_fast_drag_ends_where_the_mouse_ends(notebook_01, page):
    """And no picture on the way is empty."""
    view = View(page)
    view.box.fill("0.1")
    view.range.scroll_into_view_if_needed()
    box = view.range.bounding_box()
    left, right, y = box["x"] + 8, box["x"] + box["width"] - 8, box["y"] + box["height"] / 2
    page.evaluate(
        """() => {
            window.seen = [];
            const svg = document.querySelector(".dk-panel svg");
            const soft = () => [...svg.querySelectorAll("rect[data-bar=soft]")];
            new MutationObserver(() => window.seen.push(
                soft().reduce((sum, bar) => sum + Number(bar.getAttribute("width")), 0)
            )).observe(svg, { subtree: true, attributes: true, attributeFilter: ["width"] });
        }"""
    )
    page.mouse.move(left, y)
    page.mouse.down()
    for step in range(60):
        page.mouse.move(left + (right - left) * (step + 1) / 60, y)
    page.mouse.up()
    view.agrees_at(20.0)
    seen = page.evaluate("window.seen")
    assert len(seen) > 10
    assert max(seen) == pytest.approx(min(seen), rel=1e-6)  # probabilities: one whole, always


def test_wrong_temperature_and_wrong_logits_are_said_in_the_panel(notebook_01, page):
    view = View(page)
    problem, picture = view.panel.locator(".dk-problem"), view.panel.locator("svg")
    logits = view.panel.locator("input[type=text]")
    for field, wrong, said in (
        (view.box, "0", "give a number from 0.1 to 20"),
        (view.box, "-3", "give a number from 0.1 to 20"),
        (logits, "1, 2, x, 4, 5", "every logit must be a finite number"),
        (logits, "1, 2", "5 classes, but 2 logits"),
        (logits, "", "give at least one number"),
    ):
        field.fill(wrong)
        assert said in problem.inner_text()
        assert "dk-stale" in picture.get_attribute("class")
        view.panel.get_by_role("button", name="Reset").click()
        view.agrees_at(2.0)
        assert "dk-stale" not in (picture.get_attribute("class") or "")


def test_save_writes_what_is_seen(notebook_01, page):
    view = View(page)
    view.box.fill("5")
    view.panel.get_by_role("button", name="Save").click()
    note = view.panel.locator(".dk-note", has_text="saved")
    note.wait_for()
    svg, png = (
        notebook_01 / path for path in note.inner_text().removeprefix("saved ").split(" and ")
    )
    assert svg == notebook_01 / "figures" / "tiny" / "temperature_panel.svg"
    root = ElementTree.fromstring(svg.read_text())
    name = "{http://www.w3.org/2000/svg}"
    about = json.loads(root.find(f"{name}metadata").text)
    assert (about["T"], about["logits"]) == (5, list(LOGITS))
    assert about["scale"] == "tiny"
    widths = [
        float(bar.get("width")) for bar in root.iter(f"{name}rect") if bar.get("data-bar") == "soft"
    ]
    p = softmax([z / 5 for z in LOGITS])
    assert [width / sum(widths) for width in widths] == pytest.approx(list(p), abs=1e-6)
    with Image.open(png) as image:
        assert image.text["T"] == "5"
        assert json.loads(image.text["logits"]) == list(LOGITS)
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(100_000)) > 50  # drawn, not blank
    view.panel.get_by_role("button", name="Reset").click()


BRIGHTNESS = """([selector, property]) => {
    const colour = getComputedStyle(document.querySelector(selector))[property];
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return colour.startsWith("color(") ? (255 * (r + g + b)) / 3 : (r + g + b) / 3;
}"""
GROUNDS = [(".dk-panel", "backgroundColor"), (".dk-panel svg rect", "fill")]
INKS = [(".dk-panel", "color"), (".dk-panel svg text", "fill"), (".dk-panel button", "color")]


def test_panels_follow_the_theme(notebook_01, page, tmp_path):
    def show(theme: str) -> None:
        command = "window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
        page.evaluate(f"theme => {command}", f"JupyterLab {theme}")
        is_light = str(theme == "Light").lower()
        page.wait_for_function(f"document.body.dataset.jpThemeLight === '{is_light}'")
        page.wait_for_timeout(500)  # the theme's style sheet follows

    show("Dark")
    try:
        page.locator(".dk-panel").first.screenshot(path=tmp_path / "dark.png")
        assert max(page.evaluate(BRIGHTNESS, list(each)) for each in GROUNDS) < 60
        assert min(page.evaluate(BRIGHTNESS, list(each)) for each in INKS) > 170
        # what is saved is for paper, whatever the theme
        assert page.locator(".dk-panel svg text").first.get_attribute("fill") == "#222222"
    finally:
        show("Light")
    assert min(page.evaluate(BRIGHTNESS, list(each)) for each in GROUNDS) > 240
    assert max(page.evaluate(BRIGHTNESS, list(each)) for each in INKS) < 90


def test_exported_page_needs_neither_kernel_nor_network(notebook_01, page, alone, tmp_path):
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    source = notebook_01 / "notebooks" / "01_temperature.ipynb"
    deadline = time.monotonic() + 30
    while "dk-panel" not in source.read_text():
        assert time.monotonic() < deadline, "the notebook was not saved"
        time.sleep(0.2)
    exported = tmp_path / "01.html"
    exported.write_text(nbconvert.HTMLExporter().from_filename(source)[0])
    problems: list[str] = []
    alone.on("pageerror", lambda error: problems.append(str(error)))
    alone.goto(exported.as_uri())
    alone.wait_for_selector(".dk-panel svg")
    assert alone.locator(".dk-panel svg").count() == 2
    view = View(alone)
    view.agrees_at(2.0)
    view.range.focus()
    for _ in range(10):
        alone.keyboard.press("ArrowLeft")
    assert view.said()[0] < 1.7
    view.agrees_at(view.said()[0])
    assert problems == []


def test_voila_shows_the_panels(browser, tmp_path):
    """A page of a notebook without its code, drawn as the cells finish."""
    with voila(tmp_path, "01_temperature.ipynb") as address:
        page = browser.new_page()
        page.goto(address, timeout=90_000, wait_until="commit")
        page.wait_for_function(
            "document.querySelectorAll('.dk-panel svg').length === 2", timeout=90_000
        )
        assert page.locator("text=softmax").count() > 3  # the text is there too
        page.screenshot(path=tmp_path / "voila.png", full_page=True)
        page.close()


LIVE = """
import numpy as np, torch
from transformers import BertTokenizerFast
from distilkit import TrainingConfig, pretrain, training_view
from distilkit.masking import MaskedBlocks
from distilkit.config import MLM_ONLY
from transformers import BertConfig, BertForMaskedLM

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(60))]
tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
blocks = np.random.default_rng(0).integers(5, 65, (64, 32)).astype(np.int32)
blocks[:, 0], blocks[:, -1] = 2, 3
data = MaskedBlocks(blocks, tokenizer, seed=0)
torch.manual_seed(0)
model = BertForMaskedLM(
    BertConfig(
        vocab_size=65, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=32,
    )
)
training = TrainingConfig(
    steps=STEPS, batch_size=8, micro_batch_size=8, learning_rate=1e-3, seed=0, log_interval=5
)
"""
TRAIN = """
with training_view("live"):
    run = pretrain(model, data, training, loss_config=MLM_ONLY, name="live")
run.result()["steps"]
"""


def test_a_run_is_watched_stopped_and_goes_on(lab, page):
    """The Stop button reaches a kernel that is busy training."""
    home, address = lab
    write_notebook(home / "notebooks" / "live.ipynb", LIVE.replace("STEPS", "300"), TRAIN)
    page.goto(address("live.ipynb"))
    open_and_run(page)
    panel = page.locator(".dk-panel").first
    said = panel.locator(".dk-status")
    page.wait_for_function(
        "/live: running, step [1-9]/.test(document.querySelector('.dk-status')?.innerText)"
    )
    first = panel.locator("path[data-curve=mlm]").get_attribute("d")
    page.wait_for_function(
        "first => document.querySelector('path[data-curve=mlm]').getAttribute('d') !== first",
        arg=first,
    )
    panel.get_by_role("button", name="Stop").click()
    page.wait_for_function("document.querySelector('.dk-status').innerText.includes('stopped')")
    assert panel.get_by_role("button", name="Stop").is_disabled()
    stopped = int(re.search(r"step (\d+) of 300", said.inner_text())[1])
    assert 0 < stopped < 300
    (kept,) = (home / "runs" / "live" / "checkpoints").glob("*")
    # every fifth step is logged, and seen; the checkpoint is of the very last one
    assert stopped <= int(re.search(r"\d+", kept.name)[0]) < stopped + 5
    assert not (home / "runs" / "live" / "result.json").exists()

    stderr = page.locator("[data-mime-type='application/vnd.jupyter.stderr']")
    stderr.wait_for()
    assert stderr.inner_text().strip() == "live is stopped: run this cell again to resume it"
    page.wait_for_timeout(2000)  # what is asked while the kernel clears its queue would be dropped
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(
        "document.querySelector('.dk-status')?.innerText.includes('finished, step 300 of 300')"
    )
    lines = (home / "runs" / "live" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows if row["split"] == "train"] == [*range(5, 301, 5)]


def test_two_views_and_python_share_the_settings(lab, page):
    home, address = lab
    first = (
        "from distilkit import temperature_panel\n"
        f"panel = temperature_panel({list(LOGITS)}, ['dog', 'wolf', 'fox', 'cat', 'car'])\n"
        "display(panel, panel)"
    )
    second = "panel.settings = {**panel.settings, 'temperature': 7.0}"
    write_notebook(home / "notebooks" / "views.ipynb", first, second)
    page.goto(address("views.ipynb"))
    open_and_run(page)
    both = (
        "T => [...document.querySelectorAll('.dk-status')]"
        ".filter(e => e.innerText.startsWith(T)).length === 2"
    )
    page.wait_for_function(both, arg="T = 7: dog")
    box = page.locator(".dk-panel input[type=number]").first
    box.fill("3")
    box.press("Enter")
    page.wait_for_function(both, arg="T = 3: dog")
    box.fill("0")  # refused in this view, until the other one sets a temperature
    page.wait_for_function("() => document.querySelector('.dk-problem').innerText !== ''")
    page.locator(".dk-panel").nth(1).get_by_role("button", name="Reset").click()
    page.wait_for_function(both, arg="T = 2: dog")
    assert page.locator(".dk-problem").first.inner_text() == ""
    View(page).agrees_at(2.0)
