"""Every notebook executed, in order, in real kernels: the real path with fewer steps."""

from __future__ import annotations

import json
import re

import nbformat
import pandas as pd
import pytest
from fewer_rows import fewer_rows
from kernels import SHORT_MEASURING, forked_kernels, kernels_run_first
from toy_models import first_layers

from distilkit.cli.run_notebooks import numbered_notebooks, run_notebooks
from distilkit.config import SHIPPED

NOTEBOOKS = numbered_notebooks()

# Run by every kernel before the first cell: the tiny scale, shorter, with fewer rows and layers.
SHORTER = """
import warnings
from dataclasses import replace
import distilkit.config as config
tiny = config.SCALES["tiny"]
config.SCALES["tiny"] = replace(
    tiny,
    teacher=str(config.home() / "teacher"),
    text=str(config.home() / "text"),
    glue=str(config.home() / "glue"),
    tasks=("cola", "mnli", "stsb", "wnli"),
    distillation=replace(tiny.distillation, steps=8, batch_size=4, eval_interval=4),
    finetuning=replace(tiny.finetuning, steps=10),
)
warnings.filterwarnings("ignore", "teacher at chance")  # ten steps teach nothing
"""

FIGURES = {
    "01_temperatures",
    "01_one_hot_and_soft",
    "02_layer_map",
    "02_layer_maps",
    "03_soft_targets",
    "04_losses",
    "04_starts",
    "05_glue",
    "06_size_speed_accuracy",
    "06_bert_base",
    "05_where_it_forgets",
    "07_factorial",
    "07_parts",
    "07_ablation",
    "09_task_differences",
    "08_frontier",
    "08_frontier_minilm",
    "10_compressed",
    "10_labels",
    "10_labels_study",
}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The whole sequence, run once in a home of its own: (home, executed notebooks by name)."""
    home = tmp_path_factory.mktemp("home")
    first_layers(SHIPPED / "teacher", home / "teacher", 2)
    fewer_rows(SHIPPED / "text", home / "text", 24)
    fewer_rows(SHIPPED / "glue", home / "glue", 32)
    with pytest.MonkeyPatch.context() as patch, forked_kernels():
        patch.setenv("DISTILKIT_HOME", str(home))
        patch.setenv("IPYTHONDIR", kernels_run_first(home / "ipython", SHORTER + SHORT_MEASURING))
        copies = run_notebooks(out=home / "executed", scale="tiny")
    return home, {copy.stem: nbformat.read(copy, as_version=4) for copy in copies}


def outputs(notebook):
    return [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]


@pytest.mark.notebooks
@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS])
def test_notebook_runs_and_shows_its_pictures(executed, name):
    _, notebooks = executed
    assert all(
        cell.execution_count for cell in notebooks[name].cells if cell.cell_type == "code"
    ), "a cell was not executed"
    kinds = {kind for o in outputs(notebooks[name]) for kind in o.get("data", {})}
    assert "image/png" in kinds
    errors = [o.text for o in outputs(notebooks[name]) if o.get("name") == "stderr"]
    assert not [text for text in errors if "Warning" in text or "Error" in text]


@pytest.mark.notebooks
def test_sequence_writes_every_figure_and_the_results(executed):
    home, _ = executed
    folder = home / "figures" / "tiny"
    for kind in ("svg", "png"):
        assert {path.stem for path in folder.glob(f"*.{kind}")} == FIGURES
        assert all(path.stat().st_size > 2000 for path in folder.glob(f"*.{kind}"))
    results = pd.read_csv(folder / "results.csv", index_col="arm")
    assert list(results.index) == ["teacher", "distilled", "mlm_equal_steps", "scratch"]
    assert results.loc["distilled", "parameters"] < results.loc["teacher", "parameters"]
    scores = pd.read_csv(folder / "05_scores.csv")
    assert len(scores) == 4 * 4
    assert list(scores) == ["arm", "seed", "task", "metric", "score", "train_seconds"]


@pytest.mark.notebooks
def test_distilled_model_is_a_plain_hugging_face_folder(executed):
    from transformers import pipeline

    home, _ = executed
    fill = pipeline("fill-mask", str(home / "runs" / "tiny-distilled" / "model"), device="cpu")
    assert len(fill("the cook made some [MASK] .", top_k=3)) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_clean_and_short(path):
    notebook = json.loads(path.read_text())
    nbformat.validate(nbformat.from_dict(notebook))
    assert "widgets" not in notebook["metadata"]
    assert len(notebook["cells"]) <= 30
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            assert cell["execution_count"] is None
            lines = source.splitlines()
            assert len(lines) <= 15, cell["id"]
            assert sum(line.startswith(("import ", "from ")) for line in lines) <= 12, cell["id"]
        else:
            # voila shows an empty page where Markdown, not HTML, has a picture outside notebooks/
            assert not re.search(r"!\[[^\]]*\]\(\.\./", source), cell["id"]
            assert all(words(part) <= 80 for part in re.split("</?details>", source)), cell["id"]
    texts = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"]
    assert sum(text.count("<details>") for text in texts) == 3  # things to try, with answers


def words(text: str) -> int:
    """The words of a Markdown text, those of tables, formulas and links left out."""
    text = re.sub(r"<[^>]*>|\$[^$]*\$|\]\([^)]*\)", " ", text)
    lines = [line for line in text.splitlines() if not line.startswith("|")]
    return sum(any(map(str.isalnum, word)) for line in lines for word in line.split())
