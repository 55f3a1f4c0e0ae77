"""The report: a page that needs nothing else, tables as files, and text that stays text."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from distilkit.cli.main import main
from distilkit.config import SCALES
from distilkit.plots.style import save_figure
from distilkit.plots.temperature import plot_temperatures
from distilkit.report.page import write_report
from distilkit.run import run_folder

EVIL = "<script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The tiny scale's report as if the notebooks had been run; names want to be markup."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILKIT_HOME", str(tmp_path_factory.mktemp("home")))
        return write_report(finished_scale())


def finished_scale():
    chosen = replace(SCALES["tiny"], about=f"about {EVIL}")
    columns = {"cola": [80.26, np.nan], "parameters": [3684680.0, 2349704.0]}
    table = pd.DataFrame(columns, index=["teacher", f"x{EVIL}&_"])
    table.to_csv(chosen.figures / "results.csv", index_label="arm")
    save_figure(plot_temperatures([2.0, 1.0]), "01_temperatures", chosen.figures)
    for name, teacher in (("tiny-distilled", {"class": EVIL}), ("tiny-mlm", None)):
        folder = run_folder(name)
        folder.mkdir(parents=True)
        result = {"kind": "pretrain", "steps": 250, "tokens": 1000, "seconds": 90.0}
        result |= {"validation_soft_target": 0.0, "validation_mlm": 2.5}
        where = {"commit": EVIL, "started": "2026-01-02T03:04:05+00:00", "device": "cpu"}
        config = {"training": {"seed": 7}, "teacher": teacher}
        for file, content in (("result", result), ("environment", where), ("config", config)):
            (folder / f"{file}.json").write_text(json.dumps(content))
    return chosen


@pytest.mark.slow
def test_what_comes_from_runs_is_text(page):
    page = page.read_text()
    assert EVIL not in page
    assert page.count("&lt;script&gt;document.title") >= 4
    assert re.findall(r"<script[^>]*>", page) == ['<script type="module">']  # the panel's own
    assert 'src="http' not in page
    assert "default-src 'none'" in page


@pytest.mark.slow
def test_tables_are_files_too(page):
    folder = page.parent
    rows = list(csv.reader((folder / "report_results.csv").read_text().splitlines()))
    assert rows[0] == ["arm", "teacher", f"x{EVIL}&_"]
    assert rows[1] == ["cola", "80.26", ""]
    latex = (folder / "report_results.tex").read_text()
    assert "cola & 80.3 & – \\\\" in latex
    assert "parameters & 3,684,680 & 2,349,704 \\\\" in latex
    assert "\\&\\_" in latex
    runs = (folder / "report_runs.tex").read_text()
    assert "tiny-distilled & 7 & 250 & 1,000 & 1.50 & 0.00 & 2.50" in runs
    assert "tiny-mlm & 7 & 250 & 1,000 & 1.50 & – & 2.50" in runs  # it measured none
    latex = "".join(file.read_text() for file in folder.glob("report_*.tex"))
    assert not set("−×") & set(latex)  # pdflatex knows neither


def test_without_results_it_says_what_to_do(home, capsys):
    assert main(["report"]) == 2
    assert "python -m distilkit figures --scale tiny" in capsys.readouterr().err


@pytest.mark.browser
def test_the_page_moves_without_a_network(page, alone):
    asked: list[str] = []
    alone.on("request", lambda request: asked.append(request.url))
    problems: list[str] = []
    alone.on("pageerror", lambda error: problems.append(str(error)))
    alone.on("console", lambda message: problems.append(message.text))
    alone.goto(page.as_uri())
    alone.wait_for_selector(".dk-panel svg")
    assert alone.title() == "distilkit report: tiny"
    loaded = "images => images.every(image => image.complete && image.naturalWidth > 300)"
    assert alone.locator("figure img").count() == 1
    assert alone.locator("figure img").evaluate_all(loaded)
    alone.locator("input[type=number]").fill("5")
    assert alone.locator(".dk-status").inner_text().startswith("T = 5: dog has ")
    with alone.expect_download() as download:
        alone.get_by_role("button", name="Save").click()
    assert download.value.suggested_filename == "temperature_panel.svg"
    assert problems == []
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
