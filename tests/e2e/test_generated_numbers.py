"""Numbers between markers are those of the tables, and the generator computes them right."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from paths import ROOT

RESULTS = ROOT / "data" / "results"
_spec = importlib.util.spec_from_file_location("render", RESULTS / "render.py")
render = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(render)


@pytest.mark.parametrize("path", render.TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_generating_again_changes_nothing(path):
    assert render.rendered(path) == path.read_text(encoding="utf-8"), (
        "run: python data/results/render.py"
    )


def test_every_block_is_used_and_every_table_has_one():
    texts = "".join(path.read_text(encoding="utf-8") for path in render.TEXTS)
    assert set(render.BLOCKS) == {name for _, name, *_ in render.MARKED.findall(texts)}
    readme = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert all(f"[`{path.name}`]({path.name})" in readme for path in RESULTS.glob("*.csv"))


def cells(block: str, row: str) -> list[str]:
    """The cells of a generated table's row, by its first cell."""
    lines = [line.strip("| ").split(" | ") for line in render.BLOCKS[block]().splitlines()]
    (found,) = [line[1:] for line in lines if line[0] == row]
    return found


def test_a_paired_difference_against_plain_pandas():
    scores = pd.read_csv(RESULTS / "study.csv")
    wide = scores.pivot_table(index="seed", columns="arm", values="score")  # mean over nine tasks
    gaps = wide["distilled"] - wide["random_init"]
    half = 2.7764451 * gaps.std() / np.sqrt(5)  # t of 4 degrees of freedom, 97.5 %
    expected = f"+{gaps.mean():.1f} (+{gaps.mean() - half:.1f} to +{gaps.mean() + half:.1f})"
    assert cells("study-scores", "`random_init`")[-1] == expected
    mean, low, high = (wide["random_init"].agg(name) for name in ("mean", "min", "max"))
    assert cells("study-scores", "`random_init`")[1] == f"{mean:.1f} ({low:.1f} to {high:.1f})"


def test_the_smallest_model_against_plain_pandas():
    table = pd.read_csv(RESULTS / "frontier.csv")
    models = table.groupby(["variant", "engine"])[["score", "size_mb"]].mean()
    teacher = models.loc["teacher", "torch fp32"]
    best = models[models.score >= teacher.score - render.TINY_WITHIN].size_mb.idxmin()
    size, teacher_size, lost = cells("frontier-answer", ", ".join(best))
    assert (size, teacher_size) == (f"{models.size_mb[best]:.2f} MB", f"{teacher.size_mb:.1f} MB")
    assert lost == f"{teacher.score - models.score[best]:.1f}"


def test_values_in_sentences_and_unknown_names():
    value = render.BLOCKS["int8-change"]()
    marked = "by <!-- generated: int8-change -->old<!-- end --> points"
    assert render.render(marked) == marked.replace("old", value)
    with pytest.raises(ValueError, match="no generated block 'nothing'"):
        render.render("<!-- generated: nothing --><!-- end -->")
    with pytest.raises(ValueError, match="no <!-- end -->"):
        render.render("<!-- generated: tasks -->")
