"""The paper beside us: the rule, missing and damaged sources, values against plain computations."""

from __future__ import annotations

import html
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from distilkit.config import GLUE_TASKS, RESULTS, SCALES
from distilkit.plots.study import plot_against_paper
from distilkit.report import page as report
from distilkit.report.page import paper_table, write_report
from distilkit.study import paper, paper_comparison
from distilkit.study.paper_comparison import compare_ablation, compare_with_paper
from distilkit.study.verdicts import (
    NOT_HERE,
    NOT_RUN,
    PARTLY,
    REPRODUCED,
    VERDICTS,
    Measurement,
    as_text,
    judge,
    tally,
)

pytestmark = pytest.mark.slow

EVIL = "<script>document.title='owned'</script>&_"
NAN = float("nan")
SEEDS = (1, 2, 3, 4)
ABLATED = ("without_soft_target", "without_cosine", "without_mlm", "random_init")
ARMS = ("teacher", "distilled", *ABLATED)
BASE = SCALES["base"]


@pytest.fixture
def tiny(home, tmp_path, monkeypatch):
    """The tiny scale in an empty home, without the study that comes with the kit."""
    monkeypatch.setattr(paper_comparison, "RESULTS", tmp_path / "nothing-shipped")
    return SCALES["tiny"]


def toy_scores(arms=ARMS, seeds=SEEDS, tasks=GLUE_TASKS) -> pd.DataFrame:
    random = np.random.default_rng(3)
    rows = [
        {"arm": arm, "seed": seed, "task": task, "metric": "m", "train_seconds": 1.0}
        for seed in seeds
        for arm in arms
        for task in tasks
    ]
    return pd.DataFrame(rows).assign(score=random.uniform(40, 90, len(rows)))


def row(table: pd.DataFrame, what: str) -> pd.Series:
    found = table[table["what"].str.contains(what, regex=False)]
    assert len(found) == 1, f"{len(found)} rows say {what!r}"
    return found.iloc[0]


def plain_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % t-interval by scipy's own function."""
    low, high = stats.t.interval(
        0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
    )
    return float(np.mean(values)), float(low), float(high)


# ---------------------------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("published", "found", "rule", "verdict", "reason"),
    [
        (66, None, {"same": True}, NOT_RUN, ""),
        (66, Measurement(NAN, ""), {"same": True}, NOT_RUN, ""),
        (NAN, None, {"same": True}, NOT_RUN, ""),
        (66, Measurement(66, ""), {"same": True}, REPRODUCED, "equal"),
        (0, Measurement(0, ""), {"same": True}, REPRODUCED, "equal"),
        (100, Measurement(105, ""), {"same": True}, REPRODUCED, "within 5 %"),
        (100, Measurement(95, ""), {"same": True}, REPRODUCED, "within 5 %"),
        (100, Measurement(105.1, ""), {"same": True}, NOT_HERE, "more than 5 % off"),
        (100, Measurement(102, ""), {"same": True, "within": 0.01}, NOT_HERE, "more than 1 % off"),
        # another world: a number by itself cannot be compared, be it equal
        (100, Measurement(100, ""), {"same": False}, NOT_HERE, "cannot be compared"),
        # an effect elsewhere: the whole interval has to be on the published side of "none"
        (-3, Measurement(-1, "", -2, -0.1), {"same": False, "null": 0}, PARTLY, "clear of 0"),
        (
            -3,
            Measurement(-3, "", -7, 1),
            {"same": False, "null": 0},
            NOT_HERE,
            "the interval contains 0",
        ),
        (
            -3,
            Measurement(1, "", -1, 3),
            {"same": False, "null": 0},
            NOT_HERE,
            "the interval contains 0",
        ),
        (
            -3,
            Measurement(2, "", 1, 3),
            {"same": False, "null": 0},
            NOT_HERE,
            "not the same direction",
        ),
        (
            -3,
            Measurement(-2, "", -4, 0),
            {"same": False, "null": 0},
            NOT_HERE,
            "the interval contains 0",
        ),
        (3, Measurement(2, "", 1, 3), {"same": False, "null": 0}, PARTLY, "clear of 0"),
        (97, Measurement(96, "", 93, 99), {"same": False, "null": 100}, PARTLY, "clear of 100"),
        (97, Measurement(98, "", 95, 101), {"same": False, "null": 100}, NOT_HERE, "contains 100"),
        (-3, Measurement(-3, ""), {"same": False, "null": 0}, NOT_HERE, "has no interval"),
        (-3, Measurement(3, ""), {"same": False, "null": 0}, NOT_HERE, "not the same direction"),
        # the same world
        (1.63, Measurement(2.0, ""), {"same": True, "null": 1}, PARTLY, "another size"),
        (1.63, Measurement(0.9, ""), {"same": True, "null": 1}, NOT_HERE, "not the same direction"),
        (-3, Measurement(-4, "", -6, -2), {"same": True, "null": 0}, REPRODUCED, "in the interval"),
        (-3, Measurement(-6, "", -8, -4), {"same": True, "null": 0}, PARTLY, "another size"),
        (
            -3,
            Measurement(-4, "", -9, 1),
            {"same": True, "null": 0},
            NOT_HERE,
            "the interval contains 0",
        ),
    ],
)
def test_the_verdict_follows_from_the_numbers(published, found, rule, verdict, reason):
    got, why = judge(published, found, **rule)
    assert got == verdict
    assert reason in why


# ------------------------------------------------------------------------ what is in the list


def test_the_tables_are_there(tiny):
    table = compare_with_paper(tiny)
    columns = ["source", "what", "unit", "published", "measured", "low", "high", "verdict", "why"]
    assert list(table) == [*columns, "where"]
    sources = " ".join(table["source"]).lower()
    for source in ("section 3", "section 4.1", "table 1", "table 3", "table 4", "abstract"):
        assert source in sources
    assert set(table["verdict"]) <= set(VERDICTS)
    assert not table.duplicated(["source", "what"]).any()


def test_published_numbers_are_those_of_paper_py(tiny):
    table = compare_with_paper(tiny)
    glue = paper.glue_scores()
    for task in paper.GLUE_TASKS:
        theirs = glue.loc["DistilBERT", task] - glue.loc["BERT-base", task]
        assert row(table, f"{task}: student minus teacher").published == pytest.approx(theirs)
    for name in glue.index:
        assert row(table, f"{name}: macro-score").published == glue.loc[name, "macro_stated"]
    deltas = paper.ablation().set_index("left_out")["delta"]
    for part, delta in deltas.items():
        assert row(table, f"without the {part}").published == delta
    for name in paper.speed().index:
        theirs = paper.speed().loc[name, "parameters"] / 1e6
        assert row(table, f"{name}: parameters").published == theirs
    ratio = paper.speed().loc["DistilBERT", "throughput_ratio"]
    assert row(table, "60 % faster").published == ratio
    assert row(table, "size of the model").published == paper.MODEL_SIZE_MB
    assert row(table, "share of BERT's macro-score").published == paper.RETAINED_PERCENT
    assert row(table, "fewer than BERT-base's").published == 40


def test_what_is_counted_equals_transformers_own_models(tiny):
    table = compare_with_paper(tiny)
    bert = sum(p.numel() for p in BertModel(BertConfig()).parameters())
    student = sum(p.numel() for p in DistilBertModel(DistilBertConfig()).parameters())
    assert row(table, "BERT-base: parameters").measured == bert / 1e6
    assert row(table, "DistilBERT: parameters").measured == student / 1e6
    assert row(table, "fewer than BERT-base's").measured == 100 * (1 - student / bert)
    assert row(table, "size of the model").measured == 4 * student / 1e6
    for what in ("BERT-base: parameters", "DistilBERT: parameters"):
        assert row(table, what).verdict == REPRODUCED
    assert row(table, "size of the model").verdict == PARTLY


def test_counting_leaves_the_random_numbers_alone(tiny):
    import torch

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    compare_with_paper(tiny)
    assert torch.equal(before, torch.random.get_rng_state())


# -------------------------------------------------------------------------------- the sources


def test_an_empty_home_gives_rows_that_say_what_to_run(tiny):
    table = compare_with_paper(tiny)
    missing = table[table["verdict"] == NOT_RUN]
    assert missing["measured"].isna().all()
    assert (missing["why"] != "").all()
    assert (missing["where"] == "").all()
    assert row(table, "without the MLM loss").why.endswith("python -m distilkit study")
    assert "python -m distilkit figures" in row(table, "CoLA: student").why
    known = table[table["verdict"] != NOT_RUN]
    assert set(known["verdict"]) == {REPRODUCED, PARTLY}  # counted, nothing measured
    base = compare_with_paper(BASE)
    assert "study --scale base" in row(base, "without the MLM loss").why
    assert "figures --scale base" in row(base, "CoLA: student").why


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"arm,seed\n1,2\n", b"a,b\n1\n2,3,4\n"])
def test_damaged_files_are_rows_that_were_not_run(tiny, content):
    for name in ("study.csv", "05_scores.csv", "06_bert_base.csv"):
        (tiny.figures / name).write_bytes(content)
    table = compare_with_paper(tiny)
    for what in ("CoLA: student", "60 % faster", "without the MLM loss"):
        assert row(table, what).verdict == NOT_RUN


def test_values_equal_a_plain_computation(tiny):
    scores = toy_scores()
    scores.to_csv(tiny.figures / "study.csv", index=False)
    table = compare_with_paper(tiny)
    of = {(r.arm, r.seed, r.task): r.score for r in scores.itertuples()}

    def macro(arm, seed, without=()):
        return np.mean([of[arm, seed, task] for task in GLUE_TASKS if task not in without])

    def check(what, values):
        found = row(table, what)
        assert (found.measured, found.low, found.high) == pytest.approx(plain_interval(values))
        assert "figures/tiny/study.csv, 4 seeds, test sets" in found["where"]

    check("BERT-base: macro-score", [macro("teacher", s) for s in SEEDS])
    check("DistilBERT: macro-score", [macro("distilled", s) for s in SEEDS])
    check(
        "share of BERT's macro",
        [100 * macro("distilled", s) / macro("teacher", s) for s in SEEDS],
    )
    eight = {s: [macro(arm, s, ("wnli",)) for arm in ("distilled", "teacher")] for s in SEEDS}
    check("the same without WNLI", [100 * mine / theirs for mine, theirs in eight.values()])
    for name, task in (("STS-B", "stsb"), ("CoLA", "cola")):
        pairs = [of["distilled", s, task] - of["teacher", s, task] for s in SEEDS]
        check(f"{name}: student minus", pairs)
    for part, arm in (
        ("distillation loss", "without_soft_target"),
        ("cosine loss", "without_cosine"),
        ("MLM loss", "without_mlm"),
        ("teacher initialization", "random_init"),
    ):
        check(f"without the {part}", [macro(arm, s) - macro("distilled", s) for s in SEEDS])


def test_only_seeds_with_all_tasks_of_both_arms_count(tiny):
    scores = toy_scores()
    damaged = scores.copy()
    damaged.loc[(scores.arm == "distilled") & (scores.seed == 2) & (scores.task == "rte")] = None
    lost = (scores.arm == "without_mlm") & (scores.seed == 3) & (scores.task == "mnli")
    damaged.loc[lost, "score"] = np.nan
    damaged.to_csv(tiny.figures / "study.csv", index=False)
    found = row(compare_with_paper(tiny), "without the MLM loss")
    macro = scores.groupby(["arm", "seed"]).score.mean()
    pairs = [macro["without_mlm", s] - macro["distilled", s] for s in (1, 4)]
    assert found.measured == pytest.approx(np.mean(pairs))
    assert "2 seeds" in found["where"]


@pytest.mark.slow
def test_the_study_comes_before_a_single_run_and_one_seed_has_no_interval(tiny):
    toy_scores(("teacher", "distilled"), (7,)).to_csv(tiny.figures / "05_scores.csv", index=False)
    alone = row(compare_with_paper(tiny), "RTE: student minus")
    assert "05_scores.csv, seed 7, validation sets" in alone["where"]
    assert math.isnan(alone.low)
    assert alone.verdict == NOT_HERE
    toy_scores().to_csv(tiny.figures / "study.csv", index=False)
    assert "study.csv, 4 seeds" in row(compare_with_paper(tiny), "RTE: student minus")["where"]


def test_the_shipped_study_is_the_tiny_scales_only(home):
    tiny, base = compare_with_paper(SCALES["tiny"]), compare_with_paper(BASE)
    assert "data/results/study.csv" in row(tiny, "CoLA: student")["where"]
    assert row(tiny, "teacher initialization").verdict == PARTLY
    assert row(base, "CoLA: student").verdict == NOT_RUN


LEFT_OUT = ("distillation loss", "cosine loss", "MLM loss", "teacher initialization")


def table_4(scale):
    table = compare_with_paper(scale)
    return [row(table, f"without the {part}") for part in LEFT_OUT]


def test_table_4_is_of_one_study_where_one_has_all_of_it(home):
    """The shipped study has one of its rows, the study of the parts all four."""
    assert {each["where"] for each in table_4(SCALES["tiny"])} == {
        "data/results/parts.csv, " + seeds_of("parts") + ", 3 of 9 tasks, test sets"
    }
    for what in ("CoLA: student", "BERT-base: macro-score"):  # not the parts' business
        assert "data/results/study.csv" in row(compare_with_paper(SCALES["tiny"]), what)["where"]
    toy_scores().to_csv(SCALES["tiny"].figures / "study.csv", index=False)
    assert all("figures/tiny/study.csv" in each["where"] for each in table_4(SCALES["tiny"]))


def seeds_of(name):
    count = pd.read_csv(RESULTS / f"{name}.csv").seed.nunique()
    return f"{count} seeds"


def test_a_study_of_fewer_tasks_reproduces_nothing(home):
    scores = toy_scores(tasks=("cola", "stsb"))
    scores["score"] = scores.arm.map({"distilled": 80.0}).fillna(77.0)  # about what is published
    scores.to_csv(BASE.figures / "parts.csv", index=False)
    for found in table_4(BASE):
        assert found.verdict in (PARTLY, NOT_HERE)
        assert "2 of 9 tasks" in f"{found['why']} {found['where']}"
    assert row(compare_with_paper(BASE), "BERT-base: macro-score").verdict == NOT_RUN


def test_the_papers_own_teacher_and_tasks_can_be_reproduced(home):
    scores = toy_scores(("teacher", "distilled"))
    published = paper.glue_scores()
    columns = {"teacher": "BERT-base", "distilled": "DistilBERT"}
    names = {name.lower().replace("-", ""): name for name in paper.GLUE_TASKS}
    noise = {1: -0.2, 2: -0.1, 3: 0.1, 4: 0.2}
    scores["score"] = [
        published.loc[columns[r.arm], names[r.task]] + noise[r.seed] * (r.arm == "teacher")
        for r in scores.itertuples()
    ]
    scores.to_csv(BASE.figures / "05_scores.csv", index=False)
    same = compare_with_paper(BASE)
    assert row(same, "CoLA: student minus").verdict == REPRODUCED
    assert row(same, "share of BERT's macro").verdict == REPRODUCED
    assert row(same, "DistilBERT: macro-score").verdict == REPRODUCED
    other = replace(BASE, teacher="another/teacher", name="other")
    scores.to_csv(other.figures / "05_scores.csv", index=False)
    elsewhere = compare_with_paper(other)
    assert row(elsewhere, "CoLA: student minus").verdict == PARTLY
    assert row(elsewhere, "DistilBERT: macro-score").verdict == NOT_HERE
    assert "another teacher, another text" in row(elsewhere, "CoLA: student minus").why


def test_a_scale_with_fewer_tasks_says_which_it_leaves_out(home):
    small = SCALES["small"]
    scores = toy_scores(("teacher", "distilled"), tasks=small.tasks)
    scores.to_csv(small.figures / "05_scores.csv", index=False)
    table = compare_with_paper(small)
    assert row(table, "MNLI: student").verdict == NOT_RUN
    assert "leaves this task out" in row(table, "MNLI: student").why
    assert row(table, "SST-2: student").verdict != NOT_RUN


def test_what_notebook_6_left_is_read(tiny):
    big = {"model": ["BERT-base", "DistilBERT"], "latency_ms_p50": [300.0, 150.0]}
    pd.DataFrame(big).to_csv(tiny.figures / "06_bert_base.csv", index=False)
    table = compare_with_paper(tiny)
    fast = row(table, "60 % faster")
    assert (fast.measured, fast.verdict) == (2.0, PARTLY)


def test_table_4_beside_ours():
    arms = ("distilled", "without_cosine", "random_init")
    points = {"distilled": (70, 72), "without_cosine": (69, 70), "random_init": (50, 51)}
    rows = [(arm, seed, "cola", points[arm][seed]) for arm in arms for seed in (0, 1)]
    table = compare_ablation(pd.DataFrame(rows, columns=["arm", "seed", "task", "score"]))
    table = table.set_index(table.what.str.removeprefix("without the "))
    assert set(table.index) == set(LEFT_OUT)
    assert table.published["cosine loss"] == -1.46
    assert table.measured["cosine loss"] == pytest.approx(-1.5)
    assert table.measured["teacher initialization"] == pytest.approx(-20.5)
    assert table.low["cosine loss"] == pytest.approx(-1.5 - 12.7062 * 0.5, rel=1e-4)  # t, 1 degree
    assert table.loc["MLM loss", ["measured", "low", "high", "seeds"]].isna().all()


@pytest.mark.slow
def test_the_figure_shows_every_task_and_says_what_was_not_run(tiny):
    few = [task for task in GLUE_TASKS if task != "rte"]
    toy_scores(tasks=few).to_csv(tiny.figures / "study.csv", index=False)
    table = compare_with_paper(tiny)
    assert "8 of 9 tasks" in row(table, "share of BERT's macro")["where"]
    tasks = table[table["what"].str.contains("student minus teacher")]
    tasks.loc[tasks.index[0], ["low", "high"]] = NAN  # one seed: a dot without an interval
    (axes,) = plot_against_paper(tasks, "points").axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(paper.GLUE_TASKS)
    assert [text.get_text() for text in axes.texts] == ["not run"]
    drawn = {
        marker: [line.get_xdata()[0] for line in axes.lines if line.get_marker() == marker]
        for marker in "Do"
    }
    assert drawn["D"] == list(tasks["published"])
    measured = tasks[tasks["verdict"] != NOT_RUN]
    assert drawn["o"] == list(measured["measured"])
    ends = [list(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 1.6]
    assert ends == measured[["low", "high"]].dropna().to_numpy().tolist()
    with pytest.raises(ValueError, match="lacks"):
        plot_against_paper(tasks.drop(columns="low"), "points")


# ------------------------------------------------------------------------------ as it is shown


def test_numbers_are_shown_with_unit_and_interval(tiny):
    toy_scores().to_csv(tiny.figures / "study.csv", index=False)
    table = compare_with_paper(tiny)
    shown = as_text(table)
    raw, cola = row(table, "CoLA: student"), row(shown, "CoLA: student")
    assert cola.published == "−5 points"
    ours = f"{raw.measured:.1f} ({raw.low:.1f} to {raw.high:.1f}) points".replace("-", "−")
    assert cola.measured == ours
    assert row(shown, "60 % faster").published == "1.63 ×"
    assert row(shown, "DistilBERT: parameters").published == "66 M"
    assert row(shown, "60 % faster").measured == ""  # and no 0 where there is nothing
    counts = table["verdict"].value_counts()
    assert tally(table).startswith(f"{len(table)} claims: {counts[REPRODUCED]} reproduced, ")


def test_the_table_is_text_and_its_verdicts_need_no_colour(tiny):
    table = compare_with_paper(tiny)
    for column in ("source", "what", "unit", "why", "where", "verdict"):
        table[column] = table[column].astype(object)
        table.loc[0, column] = EVIL
    page = paper_table(table)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 7 + 1  # the unit stands in two cells, the verdict twice
    assert "● reproduced" in page
    assert "– not run" in page
    assert all(slip in html.unescape(page) for slip in paper.SLIPS)


@pytest.mark.slow
def test_the_report_holds_it_and_its_files(tiny, monkeypatch):
    shipped = {name: pd.read_csv(RESULTS / f"{name}.csv") for name in ("study", "parts")}
    monkeypatch.setattr(
        report, "load_reference_table", lambda scale, name: (shipped[name], scale, "shipped")
    )
    columns = {"cola": [80.26, 70.1], "parameters": [3684680.0, 2349704.0]}
    results = pd.DataFrame(columns, index=["teacher", "distilled"])
    results.to_csv(tiny.figures / "results.csv", index_label="arm")
    page = write_report(tiny).read_text()
    assert "<h2>Comparison with the paper</h2>" in page
    table = compare_with_paper(tiny)
    assert tally(table) in page
    assert page.count('<td class="verdict') == len(table)
    written = pd.read_csv(tiny.figures / "report_paper.csv", keep_default_na=True)
    np.testing.assert_allclose(written["measured"], table["measured"])
    assert list(written["verdict"]) == list(table["verdict"])
    latex = (tiny.figures / "report_paper.tex").read_text()
    assert r"CoLA: student minus teacher & $-$5 points &  & not run \\" in latex
    assert latex.count(r" \\") >= len(table)
    assert not set(latex) & set("−×")  # signs that plain LaTeX fonts lack
