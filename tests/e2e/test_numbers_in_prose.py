"""What README and notebooks say of a shipped table is what the table says.

Notebook 2's numbers are held to theirs in test_layer_study.py.
"""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from distilkit.compress.pareto import frontier_points, smallest_within
from distilkit.config import SHIPPED
from distilkit.study.arms import macro_scores, paired_difference, t_interval
from distilkit.study.study import ARMS

ROOT = Path(__file__).resolve().parents[2]
STEADY = ["cola", "sst2", "stsb"]  # the tasks where an arm differs least from seed to seed


def prose(notebook):
    cells = json.loads((ROOT / "notebooks" / notebook).read_text())["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def signed(value):
    return f"{value:+.1f}".replace("-", "−")


def difference(found):
    return f"{signed(found['mean'])} ({signed(found['low'])} to {signed(found['high'])})"


@pytest.fixture(scope="module")
def study():
    return pd.read_csv(SHIPPED / "study.csv")


@pytest.fixture(scope="module")
def few_labels():
    return pd.read_csv(SHIPPED / "few_labels.csv")


@pytest.fixture(scope="module")
def parts():
    return pd.read_csv(SHIPPED / "parts.csv")


def section(heading):
    """Of the README, up to the next heading of the same or a higher level."""
    text = (ROOT / "README.md").read_text()
    level = heading.split()[0]
    after = text.split(f"\n{heading}\n")[1]
    return re.split(rf"\n#{{1,{len(level)}}} ", after)[0]


def arms_in(heading):
    """The rows of the section's table: arm -> the other cells."""
    rows = {}
    for line in section(heading).splitlines():
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        if cells[0].strip("`") in ARMS:
            rows[cells[0].strip("`")] = cells[1:]
    return rows


def test_the_readme_has_every_arm_of_the_parts(parts):
    rows = arms_in("### What each part is worth")
    assert set(rows) == set(parts.arm) - {"distilled"} == set(ARMS) - {"distilled"}
    macros = macro_scores(parts).groupby("arm").score.mean()
    for arm, (about, macro, apart) in rows.items():
        assert about
        assert macro == f"{macros[arm]:.1f}"
        assert apart == difference(paired_difference(parts, "distilled", arm))
    assert f"{macros['distilled']:.1f}" in section("### What each part is worth")


def widest(table):
    """How far an arm differs from seed to seed, at most, by task: without the two from random
    weights, which end tens of points below."""
    copied = table[~table.arm.isin(["random_init", "scratch"])]
    scores = copied.groupby(["task", "arm"]).score
    return (scores.max() - scores.min()).groupby("task").max()


def test_how_far_an_arm_differs_from_seed_to_seed(few_labels, parts):
    of_few, of_parts = widest(few_labels), widest(parts)
    assert of_few[["cola", "sst2", "stsb"]].max() < 9.5
    assert round(of_few["qnli"]) == of_few.round().max() == 28
    assert (round(of_parts["cola"]), round(of_parts["stsb"])) == (21, 18)
    for said in (section("### What each part is worth"), prose("07_study.ipynb")):
        for words in ("at most 9 points", "on QNLI by up to 28", "21 points", "18 on STS-B"):
            assert words in said


def test_what_single_tasks_say_of_masked_words_alone(parts):
    said = section("### What each part is worth")
    for task in ("stsb", "sst2"):
        found = paired_difference(parts[parts.task == task], "distilled", "mlm_equal_time")
        assert difference(found).replace(" (", ", ") in said


def shares(table):
    """What the student keeps of its teacher's macro-score, in percent, seed by seed."""
    wide = macro_scores(table).pivot(index="seed", columns="arm", values="score")
    return 100 * wide["distilled"] / wide["teacher"]


def test_what_the_readme_says_of_both_studies(study, few_labels):
    said = section("### The study")
    for table in (study, few_labels):
        kept = shares(table)
        spread = f"{kept.min():.1f} to {kept.max():.1f} %, median {kept.median():.1f} %"
        assert f"{kept.mean():.1f} % of the teacher's score (seed by seed {spread})" in said
        for arm in ("mlm_equal_steps", "mlm_equal_time"):
            on_stsb = paired_difference(table[table.task == "stsb"], "distilled", arm)
            assert difference(on_stsb) in said
    found = t_interval(shares(study[study.task.isin(STEADY)]))
    assert f"keeps {found['mean']:.1f} % ({found['low']:.1f} to {found['high']:.1f})" in said
    assert f"by {widest(study)[STEADY].max():.1f} points at most" in said
    found = t_interval(shares(study))
    assert f"interval of the mean {found['low']:.1f} to {found['high']:.1f} %" in said
    for task in STEADY:
        found = paired_difference(study[study.task == task], "distilled", "teacher")
        assert difference(found).replace(" (", ", ").replace(")", "") in said
    assert f"without it {shares(study[study.task != 'wnli']).mean():.1f} % are kept" in said
    both = pd.concat([study, few_labels])
    for arm in ("mlm_equal_steps", "mlm_equal_time"):
        assert difference(paired_difference(both, "distilled", arm)) in said
    for arm in ("mlm_equal_steps", "mlm_equal_time", "random_init"):
        assert difference(paired_difference(few_labels, "distilled", arm)) in said
    luck = widest(study)
    assert f"up to {luck.max():.0f} with many ({luck.idxmax().upper()})" in said
    clear = [  # the tasks but STS-B whose interval excludes 0
        task
        for table in (study, few_labels)
        for task in sorted(set(table.task) - {"stsb"})
        for arm in ("mlm_equal_steps", "mlm_equal_time")
        if (found := paired_difference(table[table.task == task], "distilled", arm))
        and found["low"] * found["high"] > 0
    ]
    assert clear == ["mnli", "sst2", "wnli"]
    for task, sign, ranged in (("sst2", -1, "0.3 to 1.6"), ("qqp", 1, "4.8 to 7.5")):
        ahead = [
            sign * paired_difference(table[table.task == task], "distilled", arm)["mean"]
            for table in (study, few_labels)
            for arm in ("mlm_equal_steps", "mlm_equal_time")
        ]
        assert f"{min(ahead):.1f} to {max(ahead):.1f}" == ranged
        assert f"by {ranged}" in said
    on_mnli = paired_difference(study[study.task == "mnli"], "distilled", "mlm_equal_steps")
    assert difference(on_mnli).replace(" (", ", ").replace(")", "") in said
    for arm in ("mlm_equal_steps", "mlm_equal_time"):  # "not shown"
        found = paired_difference(study, "distilled", arm)
        assert found["low"] < 0 < found["high"]


def test_the_readme_has_every_arm_of_the_study(study):
    rows = arms_in("### The study")
    macros = macro_scores(study).groupby("arm").score
    assert set(rows) == set(study.arm)
    for arm, (about, seeds, macro, ahead) in rows.items():
        assert about
        scores = macros.get_group(arm)
        assert int(seeds) == len(scores)
        assert macro == f"{scores.mean():.1f} ({scores.min():.1f} to {scores.max():.1f})"
        if arm != "distilled":
            assert ahead == difference(paired_difference(study, "distilled", arm))


def test_notebook_7_says_what_the_studies_say(study, few_labels, parts):
    said = prose("07_study.ipynb")
    for arm in ("without_soft_target", "without_cosine", "without_mlm", "random_init"):
        found = difference(paired_difference(parts, arm, "distilled"))
        assert found.replace(" (", ", ").replace(")", "") in said
    for arm in ("random_init", "mlm_equal_steps"):
        found = difference(paired_difference(study, "distilled", arm))
        assert found.replace(" (", ", ").replace(")", "") in said
    assert f"keep {shares(study).mean():.1f} % of the teacher's macro-score" in said
    steady = study[study.task.isin(STEADY)]
    assert f"{shares(steady).mean():.1f} % on the three where an arm differs least" in said
    assert f"with few labels {shares(few_labels).mean():.1f} % over the nine" in said
    assert f"by up to {widest(study).max():.0f} points between seeds" in said


@pytest.mark.parametrize("table", ["tiny", "minilm"])
def test_notebook_8_says_what_the_frontier_says(table):
    said = prose("08_compression.ipynb")
    points = frontier_points(pd.read_csv(SHIPPED.parent / table / "frontier.csv"))
    teacher = points.set_index(["variant", "engine"]).loc["teacher", "torch fp32"]
    best = smallest_within(points, {"tiny": 3, "minilm": 4}[table])
    digits = 2 if table == "tiny" else 1
    assert f"{best.size_mb:.{digits}f} MB" in said
    assert f"{teacher.size_mb:.1f} MB" in said
    assert f"{best.lost:.1f} points" in said
