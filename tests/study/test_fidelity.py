"""Teacher and student example by example, against plain loops; and the figure of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toy_models import small_bert

from distilkit import config
from distilkit.data import sources
from distilkit.data.task_examples import task_examples
from distilkit.data.tasks import TASKS
from distilkit.finetuning import score_of
from distilkit.models.loading import load_tokenizer
from distilkit.plots.fidelity import MOST_ROWS, plot_fidelity
from distilkit.plots.style import FULL_IN
from distilkit.run import Run
from distilkit.study import fidelity
from distilkit.study.arms import finetune_arms
from distilkit.study.fidelity import (
    LENGTHS,
    TOLERANCE,
    by_group,
    compare_answers,
    compare_runs,
)
from figures import box, shown_texts

pytestmark = pytest.mark.slow

WORDS = [f"w{i}" for i in range(200)]


def answers(
    tokenizer, task: str = "mnli", n: int = 60, seed: int = 0, kinds: int = 4
) -> tuple[pd.DataFrame, dict, np.ndarray, np.ndarray]:
    """A table of made-up answers, and what it was made from: data, two arrays of logits."""
    random = np.random.default_rng(seed)
    description = TASKS[task]
    data = {
        column: [" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(n)]
        for column in description.columns
    }
    classes = len(description.labels)
    labels = random.integers(0, classes, n) if classes else random.uniform(0, 5, n).round(1)
    data["label"] = labels.tolist()
    if kinds:
        data["phenomenon"] = [f"kind {i}" for i in random.integers(0, kinds, n)]
    near = np.eye(classes)[labels] * 1.5 if classes else labels[:, None]
    teacher, student = (
        (near + random.normal(size=(n, max(1, classes)))).astype(np.float32) for _ in range(2)
    )
    examples = task_examples(data, description, tokenizer, max_length=32, seed=0)
    table = compare_answers(task, data, examples, teacher, student)
    return table.assign(seed=seed), data, teacher, student


# --- a row an example ---------------------------------------------------------------------------


def softmax(z) -> list[float]:
    powers = [math.exp(float(x)) for x in z]
    return [x / sum(powers) for x in powers]


@pytest.mark.parametrize("task", ["mnli", "cola"])
def test_a_row_says_what_both_answered(tokenizer, task):
    table, data, teacher, student = answers(tokenizer, task)
    names = TASKS[task].labels
    assert len(table) == 60
    for i, row in table.iterrows():
        p, q = softmax(teacher[i]), softmax(student[i])
        label = data["label"][i]
        assert (row.task, row.example) == (task, i)
        assert [row.text, row.text_pair][: len(TASKS[task].columns)] == [
            data[column][i] for column in TASKS[task].columns
        ]
        assert row.label == names[label]
        assert row.phenomenon == data["phenomenon"][i]
        for model, chances in (("teacher", p), ("student", q)):
            best = chances.index(max(chances))
            assert row[model] == names[best]
            assert row[f"{model}_correct"] == (best == label)
            assert row[f"{model}_confidence"] == pytest.approx(max(chances), rel=1e-5)
        kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert row.kl == pytest.approx(kl, rel=1e-4, abs=1e-7)
        assert row.agree == (p.index(max(p)) == q.index(max(q)))
        assert np.isnan(row.difference)
    assert (table.text_pair == "").all() == (task == "cola")


def test_a_probability_that_underflows_is_no_infinite_distance(tokenizer):
    _, data, _, _ = answers(tokenizer, "sst2", n=2)
    examples = task_examples(data, TASKS["sst2"], tokenizer, max_length=32, seed=0)
    far = np.array([[400, -400], [-400, 400]], np.float32)
    table = compare_answers("sst2", data, examples, far, -far)
    assert table.kl.tolist() == pytest.approx([800, 800])
    assert not table.agree.any()


def test_regression_has_a_distance_and_a_tolerance(tokenizer):
    table, data, teacher, student = answers(tokenizer, "stsb")
    for i, row in table.iterrows():
        t, s = float(teacher[i, 0]), float(student[i, 0])
        assert (row.teacher, row.student, row.label) == (t, s, pytest.approx(data["label"][i]))
        assert row.difference == pytest.approx(abs(t - s), abs=1e-6)
        assert row.agree == (row.difference <= TOLERANCE)
        assert row.teacher_correct == (abs(t - row.label) <= TOLERANCE)
    undefined = ["teacher_confidence", "student_confidence", "kl"]
    assert table[undefined].isna().all(axis=None)
    assert 0 < table.agree.mean() < 1


def test_length_and_negation(tokenizer):
    data = {
        "sentence": ["w3 w9", "w0 W1 w7 w8", "w50 not w60 w70", "they didn’t", "w9 w9 knot", ""],
        "label": [0, 1, 0, 1, 0, 1],
    }
    examples = task_examples(data, TASKS["sst2"], tokenizer, max_length=32, seed=0)
    logits = np.zeros((6, 2), np.float32)
    table = compare_answers("sst2", data, examples, logits, logits)
    assert table.negation.tolist() == [False, False, True, True, False, False]
    assert table.tokens.tolist() == examples.lengths.tolist()
    assert list(table.length.cat.categories) == list(LENGTHS)
    codes = table.sort_values("tokens").length.cat.codes
    assert codes.is_monotonic_increasing
    assert table.phenomenon.isna().all()  # GLUE has none


def test_thirds_are_thirds(tokenizer):
    table, *_ = answers(tokenizer, "sst2", n=300)
    sizes = table.length.value_counts()
    assert sizes.between(70, 130).all()  # equal lengths stay together


# --- groups -------------------------------------------------------------------------------------


def two_seeds(tokenizer) -> pd.DataFrame:
    """Two tasks, two fine-tunings of each: the same examples, other answers."""
    parts = []
    for task in ("mnli", "stsb"):
        first = answers(tokenizer, task)[0]
        other = answers(tokenizer, task, seed=1)[0]
        own = ["teacher", "student", "agree", "kl", "difference"]
        own += [c for c in first if c.startswith(("teacher_", "student_"))]
        parts += [first, first.assign(seed=1, **{c: other[c] for c in own})]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("by", ["task", "phenomenon", ["task", "phenomenon"], "length", "negation"])
def test_groups_against_plain_loops(tokenizer, by):
    examples = two_seeds(tokenizer)
    table = by_group(examples, by)
    keys = [by] if isinstance(by, str) else by
    assert table.n.sum() == 120
    for key, row in table.iterrows():
        wanted = key if isinstance(key, tuple) else (key,)
        rows = [r for r in examples.to_dict("records") if tuple(r[k] for k in keys) == wanted]
        assert row.n == len(rows) / 2  # an example counts once, not once a seed
        teacher = 100 * sum(r["teacher_correct"] for r in rows) / len(rows)
        student = 100 * sum(r["student_correct"] for r in rows) / len(rows)
        assert row.teacher == pytest.approx(teacher)
        assert row.student == pytest.approx(student)
        assert row.gap == pytest.approx(teacher - student)
        assert row.agreement == pytest.approx(100 * sum(r["agree"] for r in rows) / len(rows))
        kls = [r["kl"] for r in rows if not math.isnan(r["kl"])]
        assert row.kl == pytest.approx(sum(kls) / len(kls) if kls else math.nan, nan_ok=True)
        assert -100 <= row.gap_low <= row.gap <= row.gap_high <= 100
        assert 0 <= row.agreement_low <= row.agreement <= row.agreement_high <= 100


def test_seeds_as_groups(tokenizer):
    table = by_group(two_seeds(tokenizer), ["task", "seed"])
    assert table.n.tolist() == [60] * 4


def test_what_is_not_there_is_undefined_and_one_example_says_little(tokenizer):
    table, *_ = answers(tokenizer, "sst2", n=1, kinds=1)
    alone = by_group(table, "phenomenon").iloc[0]
    assert alone.n == 1
    assert alone.agreement_high - alone.agreement_low > 75
    assert alone.gap_high - alone.gap_low > 75
    lengths = by_group(table, "length")
    empty = lengths[lengths.n == 0]
    assert len(lengths) == 3
    assert len(empty) == 2
    assert empty.drop(columns="n").isna().all(axis=None)
    without, *_ = answers(tokenizer, "sst2", kinds=0)
    assert by_group(without, "phenomenon").empty


# --- what runs keep -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two arms, fine-tuned for some steps on four tasks of the tiny world with two seeds."""
    home = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILKIT_HOME", str(home))
        tiny = config.scale("tiny")
        few = replace(tiny.finetuning, steps=3)
        scale = replace(tiny, tasks=("mnli", "stsb", "wnli"), seeds=(1, 2), finetuning=few)
        tokenizer = load_tokenizer(scale.teacher)
        for arm, seed in (("teacher", 0), ("distilled", 1)):
            small_bert(1, vocab_size=len(tokenizer), seed=seed).save_pretrained(home / arm)
        arms = {arm: home / arm for arm in ("teacher", "distilled")}
        scores = finetune_arms(arms, tokenizer, scale)
    return home, scale, tokenizer, scores


@pytest.fixture
def compared(swept, monkeypatch):
    home, scale, tokenizer, _ = swept
    monkeypatch.setenv("DISTILKIT_HOME", str(home))
    return lambda **arm: compare_runs(scale, tokenizer, **arm)


@pytest.mark.slow
def test_the_kept_answers_give_the_runs_scores(swept, monkeypatch):
    home, scale, *_ = swept
    monkeypatch.setenv("DISTILKIT_HOME", str(home))
    for path in sorted((home / "runs").iterdir()):
        run = Run(path)
        task = run.config()["task"]
        data = sources.load_task(scale, task)
        for split, logits in run.predictions().items():
            kind = np.float32 if task == "stsb" else np.int64
            labels = np.asarray(data[split]["label"], kind)
            assert logits.dtype == np.float32
            assert score_of(TASKS[task], logits, labels) == run.result()["scores"][split]
    assert len(list((home / "runs").iterdir())) == 12


def test_runs_compared(swept, compared):
    scores = swept[-1]
    table = compared()
    assert table.groupby(["task", "seed"]).size().to_dict() == {
        (task, seed): size
        for task, size in (("mnli", 400), ("stsb", 400), ("wnli", 150))
        for seed in (1, 2)
    }
    for arm, column in (("teacher", "teacher"), ("distilled", "student")):
        share = 100 * table[table.task == "mnli"].groupby("seed")[f"{column}_correct"].mean()
        ours = scores[(scores.arm == arm) & (scores.task == "mnli")].set_index("seed").score
        assert share.to_dict() == pytest.approx(ours.to_dict())
    assert table.phenomenon.notna().all()
    alike = compared(student="teacher")
    assert alike.agree.all()
    assert not table.agree.all()


def test_a_run_without_answers_says_so(swept, compared):
    home, scale, tokenizer, _ = swept
    kept = home / "runs" / "tiny-distilled-stsb-2" / "predictions.safetensors"
    whole = kept.read_bytes()
    try:
        kept.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=r"predictions\.safetensors is damaged"):
            compared()
        kept.unlink()
        with pytest.raises(FileNotFoundError, match="'tiny-distilled-stsb-2' has no predictions"):
            compared()
    finally:
        kept.write_bytes(whole)
    with pytest.raises(FileNotFoundError, match="'mine-teacher-mnli-1' is not finished"):
        compare_runs(dataclasses.replace(scale, name="mine"), tokenizer)


def test_answers_to_what_the_data_no_longer_hold_are_refused(compared, monkeypatch):
    real = sources.load_task

    def changed(scale, name):
        data = real(scale, name)
        texts = data["validation_matched"].select([1, 0, *range(2, 400)])
        return {"validation_matched": texts}

    monkeypatch.setattr(fidelity, "load_task", changed)
    with pytest.raises(ValueError, match="'tiny-teacher-mnli-1' was scored on other examples"):
        compared()


# --- the figure ---------------------------------------------------------------------------------


def drawn_from(tokenizer, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a figure is made of: groups and examples."""
    if name == "regression":
        examples = answers(tokenizer, "stsb")[0]
    elif name == "one example":
        examples = answers(tokenizer, "sst2", n=1)[0]
    else:
        examples = two_seeds(tokenizer)
    if name == "many groups":
        examples["phenomenon"] = examples.example % 40
    if name == "long names":
        examples["phenomenon"] = "a very long $name$ of <a> " + examples.phenomenon
    by = ["task", "phenomenon"] if name in ("many groups", "long names") else "length"
    return by_group(examples, by), examples


@pytest.mark.parametrize(
    "name", ["three groups", "many groups", "long names", "regression", "one example"]
)
def test_nothing_of_the_figure_is_cut_off_and_no_two_texts_overlap(tokenizer, name):
    figure = plot_fidelity(*drawn_from(tokenizer, name))
    figure.draw_without_rendering()
    assert figure.get_figwidth() == FULL_IN
    texts = shown_texts(figure)
    assert {text.get_fontsize() for text in texts} <= {8.0, 9.0}
    width, height = figure.bbox.width, figure.bbox.height
    boxes = [(text.get_text(), box(text)) for text in texts]
    for i, (text, a) in enumerate(boxes):
        assert min(a[0], a[1], width - a[2], height - a[3]) >= 0, text
        for other, b in boxes[:i]:
            across, along = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            assert not (across > 0.5 and along > 2), (text, other)


@pytest.mark.slow
def test_the_figure_shows_the_largest_groups_and_says_what_it_leaves_out(tokenizer):
    groups, examples = drawn_from(tokenizer, "many groups")
    figure = plot_fidelity(groups, examples)
    agreement, gap, diagram, counts = figure.axes
    labels = [label.get_text() for label in agreement.get_yticklabels()]
    assert len(labels) == MOST_ROWS
    assert f"{MOST_ROWS} largest of 80 groups" in figure.get_supxlabel()
    shown = groups.sort_values("n", ascending=False, kind="stable").head(MOST_ROWS)
    shown = shown.sort_values(["agreement", "n"], ascending=[True, False], kind="stable")
    assert labels == [f"{task}: {kind} ({row.n:.0f})" for (task, kind), row in shown.iterrows()]
    for axes, name in ((agreement, "agreement"), (gap, "gap")):
        points = np.asarray(axes.collections[1].get_offsets())
        assert points == pytest.approx(np.c_[shown[name], -np.arange(MOST_ROWS)])
        lines = np.array([segment[:, 0] for segment in axes.collections[0].get_segments()])
        assert lines == pytest.approx(shown[[f"{name}_low", f"{name}_high"]].to_numpy())
    right = examples[examples.teacher_confidence > 14 / 15].teacher_correct.mean()
    assert diagram.lines[0].get_ydata()[-1] == pytest.approx(100 * right)
    share = (examples.teacher_confidence.dropna() > 14 / 15).mean()
    assert counts.patches[0].get_data().values[-1] == pytest.approx(100 * share)


def test_bad_tables_are_refused_in_words(tokenizer):
    groups, examples = drawn_from(tokenizer, "three groups")
    for call, message in (
        (lambda: plot_fidelity(groups.iloc[:0], examples), "no rows"),
        (lambda: plot_fidelity(groups[["n"]], examples), "lacks"),
        (lambda: plot_fidelity(groups, examples[["seed"]]), "lacks"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_tasks_with_several_labels_an_example_are_refused(tokenizer):
    several = dataclasses.replace(TASKS["sst2"], kind="multi_label_classification")
    _, data, teacher, student = answers(tokenizer, "sst2", 5)
    with pytest.raises(ValueError, match="sst2 has several labels"):
        compare_answers(several, data, None, teacher, student)
