"""The frontier's panel: what it hands to the browser, and that its answers are pareto.py's."""

from __future__ import annotations

import json

import pytest
from frontier_tables import frontier_table

from distilkit.compress.pareto import frontier_points, smallest_within
from distilkit.panels.frontier import frontier_panel

SCORES = {
    "teacher": 97.0,
    "3 layers": 95.0,
    "2 layers": 92.0,
    "3 layers, 50 % kept": 91.0,
    "1 layer": 80.0,
}


@pytest.fixture(scope="module")
def table():
    return frontier_table(SCORES, (1, 2))


@pytest.mark.slow
def test_the_browser_is_handed_plain_numbers(table):
    panel = frontier_panel(table, within=3, about={"scale": "tiny"})
    value = json.loads(json.dumps(panel.value))
    assert len(value["points"]) == 15
    assert value["engines"] == ["torch fp32", "onnx fp32", "onnx int8"]
    low, high = value["sizes"]
    sizes = [point["size_mb"] for point in value["points"]]
    assert low <= min(sizes) < max(sizes) <= high
    assert value["most_lost"] >= max(point["lost"] for point in value["points"])
    assert panel.settings["within"] == 3
    assert low < panel.settings["size_mb"] < high
    assert value["start"] == panel.settings
    assert 'alt="score against size and latency of 15 models"' in panel.to_html()


@pytest.mark.slow
def test_wrong_numbers_are_refused(table):
    with pytest.raises(ValueError, match="within = -1"):
        frontier_panel(table, within=-1)
    panel = frontier_panel(table)
    with pytest.raises(ValueError, match="size_mb = 9000"):
        panel.settings = {**panel.settings, "size_mb": 9000}
    with pytest.raises(ValueError, match="within = 900"):
        panel.settings = {**panel.settings, "within": 900}
    with pytest.raises(ValueError, match="no row of 'teacher'"):
        frontier_panel(table[table.variant != "teacher"])


def said(name: str, answer) -> str:
    if answer is None:
        return f"{name}: no model."
    return f"{name}: {answer.variant}, {answer.engine}: "


def fastest_under(points, size_mb):
    small = points[points["size_mb"] <= size_mb].sort_values(["latency_ms_p50", "size_mb"])
    return None if small.empty else small.iloc[0]


@pytest.mark.browser
def test_sliders_give_the_answers_of_python(table, alone, tmp_path):
    panel = frontier_panel(table)
    points = frontier_points(table)
    problems: list[str] = []
    alone.on("pageerror", lambda error: problems.append(str(error)))
    file = tmp_path / "panel.html"
    file.write_text(f'<!doctype html><meta charset="utf-8">{panel.to_html()}')
    alone.goto(file.as_uri())
    alone.wait_for_selector(".dk-panel svg")
    boxes = alone.locator("input[type=number]")
    seen = set()
    for within, size_mb in ((0, 16), (2.5, 1.2), (4, 3), (8, 16), (17, 0.9)):
        boxes.nth(0).fill(str(within))
        boxes.nth(1).fill(str(size_mb))
        smallest, fastest, both = alone.locator(".dk-status").inner_text().split("\n")
        answers = {
            "smallest": smallest_within(points, within),
            "fastest": fastest_under(points, size_mb),
            "both": fastest_under(points[points["lost"] <= within], size_mb),
        }
        teacher = points.score[0]
        start = f"Smallest within {within} points of the teacher's {teacher:.1f}"
        assert smallest.startswith(said(start, answers["smallest"]))
        assert fastest.startswith(said(f"Fastest under {size_mb} MB", answers["fastest"]))
        assert both.startswith(said("Fastest with both", answers["both"]))
        for name, answer in answers.items():
            rings = alone.locator(f"circle[data-ring={name}]")
            shown = rings.evaluate_all("all => all.map(r => r.getAttribute('visibility'))")
            assert shown == ["hidden" if answer is None else "visible"] * 2
            seen.add((name, None if answer is None else answer.variant))
    assert len(seen) >= 7  # the sliders change the answers
    assert ("both", None) in seen

    sliders = alone.locator("input[type=range]")
    before = alone.locator(".dk-status").inner_text()
    sliders.nth(0).focus()
    alone.keyboard.press("Home")
    now = alone.locator(".dk-status").inner_text()
    assert now.startswith("Smallest within 0 points")
    assert now != before
    boxes.nth(1).fill("0.0001")
    assert "MB at most: give a number from" in alone.locator(".dk-problem").inner_text()
    alone.get_by_role("button", name="Reset").click()
    assert alone.locator(".dk-problem").inner_text() == ""
    assert alone.locator(".dk-status").inner_text().startswith("Smallest within 2 points")
    with alone.expect_download() as caught:
        alone.get_by_role("button", name="Save").click()
    assert caught.value.suggested_filename.startswith("frontier_panel")
    assert problems == []
