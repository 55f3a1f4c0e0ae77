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


def test_effects_of_the_study_against_plain_pandas():
    scores = pd.read_csv(RESULTS / "study.csv").query("task != 'wnli'")
    wide = scores.pivot_table(index="seed", columns="arm", values="score")  # mean over eight tasks
    gaps = wide["distilled"] - wide["mlm_equal_steps"]
    t = {2: 12.7062047, 3: 4.3026527, 4: 3.1824463, 5: 2.7764451}[len(gaps)]  # Student's, 97.5 %
    half = t * gaps.std() / np.sqrt(len(gaps))
    expected = f"{gaps.mean():+.1f} ({gaps.mean() - half:+.1f} to {gaps.mean() + half:+.1f})"
    assert cells("factorial-effects", "triple loss − MLM only")[0] == expected.replace("-", "−")
    mean, low, high = (wide["scratch"].agg(name) for name in ("mean", "min", "max"))
    assert cells("factorial-scores", "none")[1] == f"{mean:.1f} ({low:.1f} to {high:.1f})"


def test_the_teacher_solves_eight_tasks_with_every_seed():
    """Above always the same answer, and above what shortcuts reach with as many examples."""
    scores = pd.read_csv(RESULTS / "study.csv").query("arm == 'teacher'")
    teacher = scores.groupby("task").score.agg(["min", "median"])
    constant = {"cola": 0, "stsb": 0, "mnli": 34, "mrpc": 67}  # points; the others 50
    for task, (low, median) in teacher.drop("wnli").iterrows():
        assert low > constant.get(task, 50) + 10
        assert median > SHORTCUTS[task] + 10


# The largest of the teacher's card with 3,600 examples, but for word overlap in pairs
SHORTCUTS = {
    **{"cola": 63.7, "mnli": 60.0, "mrpc": 60.0, "qnli": 67.2},
    **{"qqp": 51.8, "rte": 66.5, "sst2": 68.6, "stsb": 11.7},
}


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
