"""Not a test: how long a slider waits for its picture, run by hand (`make bench-panels`).

    PYTHONPATH=tests/helpers python tests/measurements/bench_panels.py [--presses 100]

One notebook in JupyterLab in headless Chromium holds the temperature panel and, below it, the plain
way: an `ipywidgets.interact` slider over a matplotlib figure of the same bars. Keys are pressed on
the two in turn. A time runs from the key's event in the page until the changed picture is
painted. Then the panel's slider is dragged with 60 moves in 1.4 s, and every frame is looked at.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from browsers import chromium_browser
from lab_server import jupyterlab, open_and_run, write_notebook

OURS = """
from distilkit import temperature_panel
labels, logits = ["dog", "wolf", "fox", "cat", "car"], [6.0, 4.5, 3.0, 2.0, -2.0]
temperature_panel(logits, labels)
"""
PLAIN = """
%matplotlib inline
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np

def bars(k=100):
    T = 0.1 * 200 ** (k / 200)
    fig, axes = plt.subplots(1, 2, figsize=(6.8, 2))
    for ax, t in zip(axes, (1, T)):
        p = np.exp(np.array(logits) / t - max(logits) / t)
        ax.barh(labels, p / p.sum())
    plt.show()

ipywidgets.interact(bars, k=ipywidgets.IntSlider(100, 0, 200));
"""
# One press: from the key's event until the frame with the changed picture is painted. For the plain
# way a new image has to be decoded before it can be seen.
LISTEN = """
() => {
    window.times = { measured: [], plain: [] };
    let since = null;
    addEventListener("keydown", () => (since = performance.now()), true);
    const seen = (who) => {
        if (since === null) return;
        const began = since;
        since = null;
        requestAnimationFrame(() => {
            const painted = new MessageChannel(); // heard when this frame has been painted
            painted.port1.onmessage = () => window.times[who].push(performance.now() - began);
            painted.port2.postMessage(0);
        });
    };
    new MutationObserver(() => seen("measured")).observe(
        document.querySelector(".dk-panel svg"),
        { subtree: true, attributes: true, attributeFilter: ["width"] },
    );
    const output = document.querySelector(".widget-interact .jp-OutputArea");
    const all = { subtree: true, childList: true, attributes: true, attributeFilter: ["src"] };
    new MutationObserver(async () => {
        const image = output.querySelector("img");
        if (!image || since === null) return;
        await image.decode();
        seen("plain");
    }).observe(output, all);
}
"""
WATCH = """
() => {
    window.frames_ = [];
    const bars = () => [...document.querySelectorAll(".dk-panel svg rect[data-bar=soft]")];
    const look = () => {
        window.frames_.push(bars().map((bar) => Number(bar.getAttribute("width"))));
        window.watching = requestAnimationFrame(look);
    };
    look();
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presses", type=int, default=100, help="of each kind")
    presses = parser.parse_args().presses
    with (
        tempfile.TemporaryDirectory() as home,
        jupyterlab(Path(home)) as address,
        chromium_browser() as browser,
    ):
        write_notebook(Path(home) / "notebooks" / "bench.ipynb", OURS, PLAIN)
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.goto(address("bench.ipynb"))
        open_and_run(page)
        page.wait_for_selector(".dk-panel svg")
        page.wait_for_selector(".widget-interact .jp-OutputArea img")
        times = press(page, presses)
        frames = drag(page)
    for who, ms in times.items():
        low, mid, high = np.percentile(ms, (5, 50, 95))
        print(f"{who:8}  p5 {low:6.1f} ms   p50 {mid:6.1f} ms   p95 {high:6.1f} ms   n {len(ms)}")
    p50, p95 = (
        np.percentile(times["plain"], q) / np.percentile(times["measured"], q) for q in (50, 95)
    )
    print(f"the plain way takes {p50:.1f} times as long at p50, {p95:.1f} times at p95")
    changes = sum(a != b for a, b in pairwise(frames))
    blank = sum(len(frame) != 5 or not sum(frame) for frame in frames)
    p = np.exp(np.array([6.0, 4.5, 3.0, 2.0, -2.0]) / 20)
    last = np.array(frames[-1]) / sum(frames[-1])
    print(
        f"drag: 60 moves in 1.4 s, {changes} different pictures, {blank} blank frames of "
        f"{len(frames)}, at the end {np.abs(last - p / p.sum()).max():.1e} from softmax at T = 20"
    )


def press(page, presses: int) -> dict[str, list[float]]:
    """Milliseconds from key to picture, of each kind, in turn."""
    ours = page.locator(".dk-panel input[type=range]")
    plain = page.locator(".widget-interact .noUi-handle")
    page.evaluate(LISTEN)
    for number in range(2 * presses):
        who, handle = (("measured", ours), ("plain", plain))[number % 2]
        handle.focus()
        before = page.evaluate("who => window.times[who].length", who)
        page.keyboard.press("ArrowRight" if number // 2 % 40 < 20 else "ArrowLeft")
        page.wait_for_function(
            "([who, n]) => window.times[who].length > n", arg=[who, before], timeout=10_000
        )
        page.wait_for_timeout(50)  # what is left of the last one must not count for the next
    return page.evaluate("window.times")


def drag(page) -> list[list[float]]:
    """The bars' widths in every frame of a fast drag from end to end."""
    box = page.locator(".dk-panel input[type=range]").bounding_box()
    left, right, y = box["x"] + 6, box["x"] + box["width"] - 6, box["y"] + box["height"] / 2
    page.mouse.move(left, y)
    page.mouse.down()
    page.evaluate(WATCH)
    began = time.perf_counter()
    for move in range(1, 61):
        time.sleep(max(0.0, began + 1.4 * move / 60 - time.perf_counter()))
        page.mouse.move(left + (right - left) * move / 60, y)
    page.mouse.up()
    page.wait_for_timeout(100)
    page.evaluate("cancelAnimationFrame(window.watching)")
    return page.evaluate("window.frames_")


if __name__ == "__main__":
    main()
