"""Notebook 01 in JupyterLab in a real browser: it runs, shows its pictures, its slider works."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from conftest import ROOT

pytestmark = pytest.mark.browser

LOGITS = (6.0, 4.5, 3.0, 2.0, -2.0)  # of notebook 01


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on 127.0.0.1 over a copy of the notebooks: a function from notebook to address."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", home / "notebooks")
    shutil.copytree(ROOT / "figures" / "gallery", home / "figures" / "gallery")
    settings = home / "settings"
    settings.mkdir()
    overrides = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
    (settings / "overrides.json").write_text(json.dumps(overrides))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    folders = {
        name: str(home / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    with open(home / "log", "w") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                *("--ip=127.0.0.1", f"--port={port}", f"--IdentityProvider.token={token}"),
                *(f"--ServerApp.root_dir={home}", f"--LabApp.app_settings_dir={settings}"),
                *("--LabApp.expose_app_in_browser=True", f"--LabApp.workspaces_dir={home}/spaces"),
                f"--LabApp.user_settings_dir={home}/user",
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, **folders, "DISTILKIT_HOME": str(home)},
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=5)
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, (home / "log").read_text()
                assert time.monotonic() < deadline, (home / "log").read_text()
                time.sleep(0.2)
        base = f"http://127.0.0.1:{port}/lab/workspaces/test/tree/notebooks"
        yield home, lambda notebook: f"{base}/{notebook}?token={token}&reset"
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def page(chromium):
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(90_000)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def notebook_01(lab, page):
    """Notebook 01, opened and run to its end."""
    home, address = lab
    page.goto(address("01_temperature.ipynb"))
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget")
    page.wait_for_function(
        "window.jupyterapp.shell.currentWidget.sessionContext?.session?.kernel?.status === 'idle'"
    )
    # all cells in the page at once, wherever it is scrolled to
    page.evaluate(
        "window.jupyterapp.shell.currentWidget.content.notebookConfig = {"
        "...window.jupyterapp.shell.currentWidget.content.notebookConfig, windowingMode: 'none'}"
    )
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(
        "window.jupyterapp.shell.currentWidget.content.widgets"
        ".filter(c => c.model.type === 'code').every(c => c.model.executionCount)"
    )
    page.wait_for_selector(".widget-image")
    return home


def said(page) -> tuple[float, float]:
    """(T, percent of the first class) from the panel's line of text."""
    text = page.locator(".widget-html-content", has_text="entropy").inner_text()
    found = re.match(r"T = ([\d.]+): dog has ([\d.]+) %", text)
    return float(found[1]), float(found[2])


def expected(temperature: float) -> float:
    powers = [math.exp(z / temperature) for z in LOGITS]
    return 100 * powers[0] / sum(powers)


def test_notebook_runs_without_errors_and_shows_pictures(notebook_01, page):
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    shown = page.locator(".jp-OutputArea img").evaluate_all(
        "images => images.filter(i => i.complete && i.naturalWidth > 300).length"
    )
    assert shown == 3  # two figures and the panel's picture
    saved = {path.name for path in (notebook_01 / "figures" / "tiny").iterdir()}
    assert {"01_temperatures.svg", "01_temperatures.png"} <= saved


def test_slider_moves_text_and_picture(notebook_01, page):
    handle = page.locator(".noUi-handle")
    assert handle.count() == 1
    picture = page.locator(".widget-image")
    before, source = said(page), picture.get_attribute("src")
    # the browser snaps the slider to its steps: T is 1.995 or 2, the text says 2.00 either way
    assert before[1] == pytest.approx(expected(2.0), abs=0.3)
    handle.focus()
    for _ in range(20):
        handle.press("ArrowRight")
    # the kernel may still be on the way to the last key press
    box = page.locator(".widget-text input[type=number]")
    page.wait_for_function(
        """before => {
            const box = document.querySelector(".widget-text input[type=number]").value;
            const text = [...document.querySelectorAll(".widget-html-content")].map(
                e => e.innerText).find(t => t.includes("entropy"));
            const said = parseFloat(text.slice(4));
            return said > before && Math.abs(said - parseFloat(box)) < 0.006;
        }""",
        arg=before[0],
    )
    temperature, percent = said(page)
    assert temperature == pytest.approx(float(box.input_value()), abs=0.006)
    assert percent == pytest.approx(expected(temperature), abs=0.3)
    assert picture.count() == 1
    assert picture.get_attribute("src") != source


def test_number_box_moves_the_slider(notebook_01, page):
    box = page.locator(".widget-text input[type=number]")
    box.fill("10")
    box.press("Enter")
    page.wait_for_function(
        "[...document.querySelectorAll('.widget-html-content')]"
        ".some(e => e.innerText.startsWith('T = 10.00'))"
    )
    assert said(page)[1] == pytest.approx(expected(10.0), abs=0.06)
