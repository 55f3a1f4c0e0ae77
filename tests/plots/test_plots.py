"""Figures: what they show, that nothing is cut off, that a save is the same bytes every time."""

import functools
import itertools
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from forked import Forked
from frontier_tables import frontier_table
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image
from scipy.special import softmax
from scipy.stats import entropy

from distilkit.config import GLUE_TASKS, RESULTS
from distilkit.data.tasks import TASKS
from distilkit.plots.cost import plot_size_speed_accuracy
from distilkit.plots.frontier import plot_compression, plot_frontier
from distilkit.plots.layer_map import plot_layer_map
from distilkit.plots.scores import plot_glue_bars
from distilkit.plots.style import COLUMN_IN, FULL_IN, save_figure
from distilkit.plots.temperature import plot_one_hot_and_soft, plot_temperatures
from distilkit.plots.text import number, text_width_pt, wrap
from distilkit.plots.training_curves import plot_losses
from distilkit.study import paper
from figures import box, png_size, shown_texts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    *("day", "beginning", "world", "moment", "week", "first", "end", "night"),
    *("unbelievably-long-word-piece", "$5", "$6"),
]
SCORE_COLUMNS = ["score", "score_low", "score_high"]


# ------------------------------------------------------------------------------- made-up data


def curves(n: int = 200) -> pd.DataFrame:
    step = np.arange(1, n + 1) * 10
    noise = np.random.default_rng(0).normal(size=(n, 3)) * (0.2, 0.3, 0.01)
    decay = np.exp(-step / 300)[:, None] * (6, 5, 0.4) + (1.2, 2.5, 0.1)
    table = pd.DataFrame(decay + noise, columns=["soft_target", "mlm", "cosine"])
    return table.assign(step=step, learning_rate=5e-4, loss=1.0)


def glue(tasks=GLUE_TASKS, arms=("teacher", "student"), seeds: int = 3) -> pd.DataFrame:
    random = np.random.default_rng(1)
    published = paper.glue_scores().loc["BERT-base"]
    metric = {"cola": "matthews", "mrpc": "f1", "stsb": "pearson"}
    rows = [
        (arm, seed, task, metric.get(task, "accuracy"), score - 3 * i + random.normal())
        for i, arm in enumerate(arms)
        for task, score in zip(tasks, published[[TASKS[t].title for t in tasks]], strict=True)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "task", "metric", "score"])


def costs(n: int = 4) -> pd.DataFrame:
    names = ["BERT-base", "DistilBERT", "DistilBERT int8 (ONNX Runtime)", "DistilBERT pruned"]
    return pd.DataFrame(
        {
            "model": names,
            "parameters": [110e6, 66e6, 66e6, 60e6],
            "size_mb": [438.0, 265, 68, 240],
            "latency_ms_p50": [66.8, 41, 18, 37.5],
            "latency_ms_p95": [75.0, 44, 25, 39],
            "throughput_per_s": [15.0, 24, 55, 26],
            "score": [79.5, 77, 75.9, 75.5],
            "score_low": [79, 76.5, 75, 74],
            "score_high": [80, 77.6, 76.4, 76.8],
        }
    ).head(n)


MANY_ARMS = ("teacher", "student, distilled", "student, MLM only", "student, from scratch")
LONG_ARMS = (
    "google/bert_uncased_L-4_H-256_A-4 fine-tuned as the teacher of all",
    "a student " * 12,
)


def compressed_pair() -> pd.DataFrame:
    """A table of `compress`: teacher and student in three engines."""
    rows = [(model, engine) for model in ("teacher", "student") for engine in ("torch", "int8")]
    table = pd.DataFrame(rows, columns=["model", "engine"])
    table = table.assign(difference=-0.02, low=-0.05, high=0.01, agreement=0.9)
    return table.assign(size_mb=[14.7, 4.0, 9.4, 2.5], latency_ms_p50=[2.9, 1.0, 1.5, 0.4])


def compressed(seeds: tuple[int, ...] = (1, 2, 3)) -> pd.DataFrame:
    """A frontier of four variants, as run_frontier gives it."""
    return frontier_table({"teacher": 97.0, "3 layers": 95.0, "3 layers, 50 % kept": 91.0}, seeds)


FIGURES = {
    "temperatures": lambda: plot_temperatures([4, 2, 1, 0.5, -1]),
    "temperatures_words": lambda: plot_temperatures(np.linspace(5, -2, 11), labels=WORDS),
    "temperatures_short": lambda: plot_temperatures([1, 0], (1, 3), labels=["yes", "no"]),
    "temperatures_many": lambda: plot_temperatures(np.sin(np.arange(40)), (1, 2, 3, 4, 5)),
    "one_hot": lambda: plot_one_hot_and_soft(softmax(np.linspace(3, 0, 11)), 2, WORDS, 2.0),
    "one_hot_two": lambda: plot_one_hot_and_soft([0.99999, 0.00001], 1, ["a", "b"], 1),
    "one_hot_many": lambda: plot_one_hot_and_soft(
        np.full(60, 1 / 60), 59, [f"a long word, number {i}" for i in range(60)], 10
    ),
    "layers_12": lambda: plot_layer_map(12, (0, 2, 4, 7, 9, 11)),
    "layers_all": lambda: plot_layer_map(4, range(4)),
    "layers_1": lambda: plot_layer_map(1, [0]),
    "layers_24": lambda: plot_layer_map(24, range(0, 24, 2)),
    "losses": lambda: plot_losses(curves(), curves().iloc[49::50]),
    "losses_short": lambda: plot_losses(curves(6)),
    "losses_two": lambda: plot_losses(curves().drop(columns="cosine")),
    "losses_mlm_only": lambda: plot_losses(curves().assign(soft_target=0.0, cosine=0.0)),
    "losses_late": lambda: plot_losses(curves().assign(step=lambda t: t["step"] * 500)),
    "glue_9x4": lambda: plot_glue_bars(glue(arms=MANY_ARMS)),
    "glue_3x2": lambda: plot_glue_bars(glue(("sst2", "mrpc", "rte"), seeds=1)),
    "glue_long": lambda: plot_glue_bars(glue(arms=LONG_ARMS).assign(metric="some_long_name")),
    "glue_nan": lambda: plot_glue_bars(
        glue().assign(score=lambda t: t["score"].where(t["task"] != "cola"))
    ),
    "cost": lambda: plot_size_speed_accuracy(costs()),
    "cost_two": lambda: plot_size_speed_accuracy(costs(2)),
    "cost_no_score": lambda: plot_size_speed_accuracy(costs().drop(columns=SCORE_COLUMNS)),
    "cost_one": lambda: plot_size_speed_accuracy(costs(1)),
    "frontier": lambda: plot_frontier(compressed()),
    "frontier_one_seed": lambda: plot_frontier(compressed((1,))),
    "compression": lambda: plot_compression(compressed_pair()),
    "frontier_shipped": lambda: plot_frontier(pd.read_csv(RESULTS / "frontier.csv")),
}
COLUMN_WIDE = {name for name in FIGURES if name.startswith("layers")}


# ------------------------------------------------------------------------ every figure of the kit


@functools.cache
def figure_named(name: str):
    return FIGURES[name]()


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.slow
def test_nothing_is_cut_off_and_no_two_texts_overlap(name):
    figure = figure_named(name)
    figure.draw_without_rendering()
    width, height = figure.bbox.width, figure.bbox.height
    for axes in figure.axes:
        x0, y0, x1, y1 = axes.get_tightbbox().extents
        assert min(x0, y0, width - x1, height - y1) >= -1, axes
    texts = shown_texts(figure)
    assert texts
    for text in texts:
        x0, y0, x1, y1 = box(text)
        assert min(x0, y0, width - x1, height - y1) >= 0, text.get_text()
    for one, other in itertools.combinations(texts, 2):
        a, b = box(one), box(other)
        across = min(a[2], b[2]) - max(a[0], b[0])
        along = min(a[3], b[3]) - max(a[1], b[1])
        # Boxes of text hold room for descenders: up to 2 pixels (1.3 pt) may touch.
        assert not (across > 0.5 and along > 2), (one.get_text(), other.get_text())


def test_a_term_without_weight_has_no_panel():
    assert len(figure_named("losses_mlm_only").axes) == 1
    assert len(figure_named("losses").axes) == 3


@pytest.mark.parametrize("name", FIGURES)
def test_text_is_eight_or_nine_points(name):
    assert {text.get_fontsize() for text in shown_texts(figure_named(name))} <= {8.0, 9.0}


@pytest.mark.parametrize("name", FIGURES)
def test_saved_size_and_text_kept_as_text(name, tmp_path):
    figure = figure_named(name)
    svg, png = save_figure(figure, name, tmp_path)
    width_in = COLUMN_IN if name in COLUMN_WIDE else FULL_IN
    assert png_size(png)[0] == round(width_in * 300)
    root = ET.fromstring(svg.read_bytes())
    assert root.attrib["width"] == f"{width_in * 72:g}pt"
    svg_texts = root.iter("{http://www.w3.org/2000/svg}text")
    in_svg = "\n".join("".join(text.itertext()) for text in svg_texts)
    for text in shown_texts(figure):
        for line in text.get_text().splitlines():
            assert line in in_svg


@pytest.mark.slow
def test_a_fresh_process_writes_the_same_bytes(tmp_path):
    """Another hash seed, other user settings, shown on screen before: the same files."""
    names = ["temperatures", "layers_12", "glue_9x4"]  # lines, boxes, hatched bars
    for name in names:
        save_figure(FIGURES[name](), name, tmp_path / "here", seed=56)
    script = (
        "import sys, matplotlib, test_plots as t\n"
        "print(hash('x'))\n"
        "theirs = {'font.size': 20, 'hatch.linewidth': 5, 'axes.grid': True}\n"
        "matplotlib.rcParams.update(theirs)\n"
        "for name in sys.argv[2:]:\n"
        "    figure = t.FIGURES[name]()\n"
        "    figure._repr_png_()\n"
        "    t.save_figure(figure, name, sys.argv[1], seed=56)\n"
    )
    script = f"import sys\nsys.path[:0] = {sys.path}\n{script}"
    fresh = Forked(["-c", script, tmp_path / "there", *names])
    assert fresh.wait() == 0, fresh.output()
    assert int(fresh.output().split()[0]) != hash("x")
    here = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    there = {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()}
    assert len(here) == 6
    assert [name for name in here if here[name] != there.get(name)] == []


@pytest.mark.slow
def test_calls_leave_the_users_matplotlib_alone(tmp_path):
    import matplotlib.pyplot as plt

    matplotlib.rcParams["lines.linewidth"] = 3.21
    try:
        before = dict(matplotlib.rcParams)
        for name in ("temperatures", "glue_3x2"):
            figure = FIGURES[name]()
            figure._repr_png_()
            save_figure(figure, name, tmp_path)
        with pytest.raises(ValueError, match="logits"):
            plot_temperatures([1, np.nan])
        assert dict(matplotlib.rcParams) == before
        assert plt.get_fignums() == []
    finally:
        matplotlib.rcdefaults()


def test_importing_plots_does_not_import_pyplot():
    script = (
        "import sys, distilkit.plots.temperature as p; p.plot_temperatures([1, 2]);"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.notebooks
def test_a_notebook_shows_a_figure_without_any_magic():
    import nbformat
    from nbclient import NotebookClient

    cell = "from distilkit.plots.temperature import plot_temperatures\nplot_temperatures([2, 1, 0])"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    (output,) = notebook.cells[0].outputs
    assert "image/png" in output["data"]
    assert output["metadata"]["image/png"]["width"] == round(FULL_IN * 110)


# ------------------------------------------------------------------------------------ saving


def png_texts(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        image.load()
        return dict(image.text)


def test_metadata_is_kept_as_inert_text(tmp_path):
    run = '<script>alert(1)</script> & "ünï" ]]> -->\x00\x1b'
    svg, png = save_figure(
        plot_temperatures([1, 2]), "03_losses", tmp_path / "new" / "folder",
        run=run, seed=56, commit=None,
    )  # fmt: skip
    assert (svg.name, png.name) == ("03_losses.svg", "03_losses.png")
    assert sorted(path.name for path in svg.parent.iterdir()) == ["03_losses.png", "03_losses.svg"]
    kept = run.rstrip("\x00\x1b")
    assert png_texts(png) == {"Title": "03_losses", "run": kept, "seed": "56"}
    root = ET.fromstring(svg.read_bytes())
    tags = {element.tag.rpartition("}")[2].lower() for element in root.iter()}
    assert "script" not in tags
    keywords = [e.text for e in root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")]
    assert keywords == [f"run: {kept}", "seed: 56"]
    assert b"<script" not in svg.read_bytes()


def test_files_hold_no_date_and_no_version(tmp_path):
    svg, png = save_figure(figure_named("temperatures_short"), "a", tmp_path)
    assert matplotlib.__version__.encode() not in svg.read_bytes() + png.read_bytes()
    assert not re.search(rb"<dc:date>|20\d\d-\d\d-\d\dT", svg.read_bytes())


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a.svg", "a b", "ä", "a\n"])
def test_names_that_could_leave_the_folder_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="letters"):
        save_figure(figure_named("temperatures_short"), name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    figure = figure_named("temperatures_short")
    svg, _ = save_figure(figure, "a", tmp_path)
    before = svg.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        save_figure(figure_named("layers_1"), "a", tmp_path)
    assert svg.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg"]


# ------------------------------------------------------------------------------ what is drawn


def bars(axes) -> list[Rectangle]:
    return [bar for container in axes.containers for bar in container]


def texts_of(figure) -> str:
    return "\n".join(text.get_text() for text in shown_texts(figure))


def test_temperature_bars_are_softmax():
    logits, temperatures = [4.0, 2, 1, 0.5, -1], (0.25, 0.5, 1, 2, 5, 10)
    figure = plot_temperatures(logits, temperatures)
    for axes, t in zip(figure.axes, temperatures, strict=True):
        expected = softmax(np.array(logits) / t)
        np.testing.assert_allclose([bar.get_height() for bar in bars(axes)], expected, atol=1e-12)
        title = axes._left_title.get_text()
        assert f"{entropy(expected):.2f} nats" in title
        assert f"{np.exp(entropy(expected)):.1f} classes" in title
        assert axes.get_ylim() == (0, 1)
        assert ("plain softmax" in title) == (t == 1)
    colours = {to_hex(bars(axes)[0].get_facecolor()) for axes in figure.axes}
    assert len(colours) == 2


def test_temperatures_hold_out_against_huge_logits():
    figure = plot_temperatures([1000.0, 0, -1000], (0.01,))
    assert [bar.get_height() for bar in bars(figure.axes[0])] == [1, 0, 0]


def test_one_hot_and_soft_targets():
    p = softmax(np.linspace(0, 3, 11))  # rising: the figure sorts
    figure = plot_one_hot_and_soft(p, 3, WORDS, 2.0)
    left, right = figure.axes
    order = np.argsort(-p)
    np.testing.assert_allclose([bar.get_width() for bar in bars(right)], p[order])
    assert [bar.get_width() for bar in bars(left)] == [float(i == 3) for i in order]
    words = [label.get_text() for label in left.get_yticklabels()]
    assert words[0] == "$6"
    assert "beginning" in words
    assert f"“dark knowledge”, {1 - p[3]:.3f} on other words" in texts_of(figure)


def test_the_target_is_shown_even_when_the_teacher_gives_it_nothing():
    p = np.r_[np.full(59, 1 / 59), 0]
    figure = plot_one_hot_and_soft(p, 59, [f"w{i}" for i in range(60)], 1)
    assert figure.axes[0].get_yticklabels()[-1].get_text() == "w59"
    assert "Shown: 23.7 %" in texts_of(figure)  # 14 of 59


def test_layer_map_names_what_is_copied():
    figure = plot_layer_map(4, (0, 3))
    text = texts_of(figure).splitlines()
    assert [text.count(f"layer {i}") for i in range(4)] == [2, 2, 1, 1]
    assert {"teacher", "student", "pooler", "dropped", "token types", "row 0 folded in"} <= set(
        text
    )
    arrows = [p for p in figure.axes[0].patches if type(p).__name__ == "FancyArrowPatch"]
    assert len(arrows) == 2 + 2 + 1  # layers, embeddings and head, token types


def test_loss_panels_hold_the_data():
    table, validation = curves(), curves().iloc[[99, 199]]
    figure = plot_losses(table, validation)
    for axes, term in zip(figure.axes, ("soft_target", "mlm", "cosine"), strict=True):
        raw, mean, points = axes.lines
        np.testing.assert_array_equal(raw.get_ydata(), table[term])
        np.testing.assert_array_equal(points.get_xdata(), [1000, 2000])
        assert mean.get_ydata()[100] == pytest.approx(table[term][95:106].mean())
    assert [t.get_text() for t in figure.legends[0].texts] == [
        "each logged step",
        "running mean of 11",
        "validation",
    ]


def test_an_absent_term_gets_no_panel():
    assert len(plot_losses(curves().assign(cosine=np.nan)).axes) == 2


def test_glue_bars_are_medians_and_the_macro_is_the_mean_over_tasks():
    scores = glue(("sst2", "rte", "wnli"), seeds=3)
    figure = plot_glue_bars(scores)
    wide = scores.pivot(index=["arm", "seed"], columns="task", values="score")
    wide = wide.assign(macro=wide.mean(axis=1), without=wide[["sst2", "rte"]].mean(axis=1))
    median = wide.groupby("arm").median().loc[["teacher", "student"]]
    expected = median[["sst2", "rte", "wnli", "macro", "without"]].to_numpy().ravel()
    np.testing.assert_allclose([bar.get_height() for bar in bars(figure.axes[0])], expected)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["SST-2\nacc.", "RTE\nacc.", "WNLI\nacc.", "macro", "macro without WNLI"]


def test_a_task_of_ones_own_has_its_own_name():
    figure = plot_glue_bars(glue(("sst2", "stsb")).replace({"sst2": "own"}))
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["own\nacc.", "STS-B\nPearson", "macro"]


def test_undefined_scores_are_words_and_not_zeros():
    scores = glue(("cola", "rte"), arms=("teacher", "student"), seeds=2)
    of_student = scores["arm"] == "student"
    undefined = scores.assign(score=scores["score"].mask(of_student & (scores["task"] == "cola")))
    figure = plot_glue_bars(undefined)
    assert texts_of(figure).count("undefined") == 2  # CoLA and the macro
    assert len(bars(figure.axes[0])) == 4
    once = scores.assign(score=scores["score"].mask(scores.index == 0))
    assert "1 of 2 undefined" in texts_of(plot_glue_bars(once))
    missing = scores[~(of_student & (scores["task"] == "rte"))]
    figure = plot_glue_bars(missing)
    assert {"not run", "undefined"} <= set(texts_of(figure).splitlines())


def test_negative_scores_hang_below_zero():
    figure = plot_glue_bars(glue(("cola",)).assign(score=-7.0))
    assert figure.axes[0].get_ylim()[0] < -7


def test_cost_annotations():
    figure = plot_size_speed_accuracy(costs())
    text = texts_of(figure)
    for part in ("438 MB (1.00×)", "265 MB (0.61×)", "41.0 ms (0.61×)", "24.0 per s (1.60×)"):
        assert part in text
    assert "66.0 M parameters" in text
    size, speed, score = figure.axes
    assert [bar.get_width() for bar in bars(size)] == [438, 265, 68, 240]
    assert [bar.get_width() for bar in bars(speed)] == [66.8, 41, 18, 37.5]
    areas = [dot.get_sizes()[0] for dot in score.collections]
    np.testing.assert_allclose(np.array(areas) / areas[0], np.array([438, 265, 68, 240]) / 438)


def test_models_without_a_score_stay_out_of_the_score_panel():
    some = costs().assign(score=[79.5, np.nan, 75.9, np.nan])
    assert len(plot_size_speed_accuracy(some).axes[2].collections) == 2
    assert len(plot_size_speed_accuracy(costs().assign(score=np.nan)).axes) == 2


@pytest.mark.slow
def test_inputs_stay_as_they_were():
    for make, table in (
        (plot_losses, curves()),
        (plot_glue_bars, glue()),
        (plot_size_speed_accuracy, costs()),
    ):
        before = table.copy()
        make(table)
        pd.testing.assert_frame_equal(table, before)


EMPTY = pd.DataFrame()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_temperatures([]), "logits"),
        (lambda: plot_temperatures([[1, 2]]), "shape"),
        (lambda: plot_temperatures([1, np.inf]), "finite"),
        (lambda: plot_temperatures([1, 2], (1, 0)), "above 0"),
        (lambda: plot_temperatures([1, 2], ()), "temperatures"),
        (lambda: plot_temperatures([1, 2], labels=["a"]), "1 labels for 2"),
        (lambda: plot_one_hot_and_soft([0.5, 0.6], 0, "ab", 1), "sum"),
        (lambda: plot_one_hot_and_soft([0.5, -0.1], 0, "ab", 1), "at least 0"),
        (lambda: plot_one_hot_and_soft([0.5, 0.5], 2, "ab", 1), "target 2"),
        (lambda: plot_one_hot_and_soft([0.5, 0.5], 0, "ab", 0), "temperature"),
        (lambda: plot_one_hot_and_soft([0.5, 0.5], 0, "abc", 1), "3 labels for 2"),
        (lambda: plot_layer_map(4, []), "at least one"),
        (lambda: plot_layer_map(4, [0, 4]), "numbered 0 to 3"),
        (lambda: plot_layer_map(1, [0, 0]), "each layer once"),
        (lambda: plot_losses(EMPTY), "lacks"),
        (lambda: plot_losses([1, 2]), "DataFrame"),
        (lambda: plot_losses(curves().iloc[:0]), "no rows"),
        (lambda: plot_losses(curves()[["step"]]), "none of"),
        (lambda: plot_losses(curves(), EMPTY), "validation"),
        (lambda: plot_glue_bars(EMPTY), "lacks"),
        (lambda: plot_size_speed_accuracy(EMPTY), "lacks"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ----------------------------------------------------------------------------------- small parts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.6123, "0.612"),
        (4.314, "4.31"),
        (23.14, "23.1"),
        (410.4, "410"),
        (1234, "1,234"),
        (99.96, "100"),
        (-0.9996, "−1.00"),
    ],
)
def test_three_digits(value, text):
    assert number(value) == text


def test_wrapped_labels_fit():
    wrapped = wrap("google/bert_uncased_L-4_H-256_A-4 and_then_quite_some_more", 60, 3)
    assert len(wrapped.splitlines()) == 3
    assert all(text_width_pt(line) <= 60 for line in wrapped.splitlines())


# ------------------------------------------------------------------------- the published numbers


def test_published_macro_scores_and_their_slip():
    table = paper.glue_scores()
    computed = table[list(paper.GLUE_TASKS)].mean(axis=1)
    assert computed["DistilBERT"] == pytest.approx(77.01, abs=0.005)
    assert computed["BERT-base"] == pytest.approx(79.72, abs=0.005)
    assert table.loc["BERT-base", "macro_stated"] == 79.5
    from_readme = computed["BERT-base"] + (84.7 - 86.7) / 9  # the README's MNLI
    assert from_readme == pytest.approx(79.5)


def test_retained_share_and_the_slip_about_wnli():
    printed = paper.retained().set_index("task")["retained"]
    assert list(printed.index) == [*paper.GLUE_TASKS, "macro", "macro without WNLI"]
    assert printed["RTE"] == pytest.approx(100 * 59.9 / 69.3)
    assert round(printed["macro"], 1) == 96.6
    assert round(printed["macro without WNLI"], 1) == 95.9
    table = paper.glue_scores()
    table.loc["BERT-base", "MNLI"] = 84.7  # as in the README
    macro, without = (
        100 * tasks.loc["DistilBERT"].sum() / tasks.loc["BERT-base"].sum()
        for tasks in (table[list(names)] for names in (paper.GLUE_TASKS, paper.GLUE_TASKS[:-1]))
    )
    assert (round(macro, 1), round(without, 1)) == (96.9, 96.2)  # the paper's "97 %"
    majority = round(100 * 40 / 71, 1)  # of WNLI's development set
    assert paper.GLUE_TASKS[-1] == "WNLI"
    assert (table["WNLI"] <= majority).all()


def test_published_speed_and_its_slip():
    table = paper.speed()
    assert table.loc["DistilBERT", "throughput_ratio"] == pytest.approx(1.63, abs=0.005)
    less_time = 1 - table.loc["DistilBERT", "seconds"] / table.loc["BERT-base", "seconds"]
    assert less_time == pytest.approx(0.39, abs=0.005)
    assert 1 - table.loc["DistilBERT", "parameters"] / table.loc["BERT-base", "parameters"] == 0.4


def test_published_ablation_and_size():
    deltas = paper.ablation().set_index("left_out")["delta"]
    assert dict(deltas) == {
        "distillation loss": -2.96,
        "cosine loss": -1.46,
        "MLM loss": -0.31,
        "teacher initialization": -3.69,
    }
    assert len(paper.SLIPS) == 7
    assert round(100 * (1 - 66 / 110)) == paper.FEWER_PARAMETERS_PERCENT


def test_a_caller_cannot_change_the_published_numbers():
    table = paper.glue_scores()
    table.loc["DistilBERT", "CoLA"] = 99
    assert paper.glue_scores().loc["DistilBERT", "CoLA"] == 51.3
