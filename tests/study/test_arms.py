"""Tables over arms, tasks and seeds, against slow plain computations."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from toy_models import small_bert

from distilkit import config, finetuning
from distilkit.data.own_task import task_from
from distilkit.models.loading import load_tokenizer
from distilkit.run import Run
from distilkit.study import arms
from distilkit.study.arms import (
    finetune_arms,
    macro_scores,
    paired_difference,
    results_table,
    retained,
)

TASKS, SEEDS = ("cola", "sst2", "wnli"), (1, 2, 3)


@pytest.fixture
def scores() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "task": task, "metric": "m", "score": random.uniform(20, 90)}
            for task, arm, seed in itertools.product(TASKS, ("teacher", "distilled"), SEEDS)
        ]
    )


def plain(scores, arm, seed, tasks=TASKS):
    found = {(r.arm, r.seed, r.task): r.score for r in scores.itertuples()}
    return statistics.mean(found[arm, seed, task] for task in tasks)


def test_macro_scores_are_means_over_tasks_for_each_seed(scores):
    for row in macro_scores(scores).itertuples():
        assert row.score == pytest.approx(plain(scores, row.arm, row.seed))
    for row in macro_scores(scores, without=("wnli",)).itertuples():
        assert row.score == pytest.approx(plain(scores, row.arm, row.seed, ("cola", "sst2")))


def test_results_table_has_medians_and_the_range_of_the_macro(scores):
    table = results_table(scores)
    assert list(table) == [*TASKS, "macro", "macro without wnli", "low", "high"]
    assert list(table.index) == ["teacher", "distilled"]
    macros = [plain(scores, "distilled", seed) for seed in SEEDS]
    row = table.loc["distilled"]
    assert row.macro == pytest.approx(statistics.median(macros))
    assert (row.low, row.high) == pytest.approx((min(macros), max(macros)))
    cola = scores[(scores.arm == "distilled") & (scores.task == "cola")].score
    assert row.cola == pytest.approx(statistics.median(cola))


@pytest.mark.parametrize("missing", [True, False])
def test_one_undefined_score_leaves_its_macro_undefined_and_no_other(scores, missing):
    cell = (scores.arm == "teacher") & (scores.seed == 2) & (scores.task == "cola")
    scores.loc[cell, "score"] = np.nan
    if missing:
        scores = scores[~cell]
    macros = macro_scores(scores).set_index(["arm", "seed"]).score
    assert np.isnan(macros["teacher", 2])
    assert macros.drop(("teacher", 2)).notna().all()


def test_retained_is_a_ratio_seed_by_seed(scores):
    found = {(r.arm, r.seed, r.task): r.score for r in scores.itertuples()}
    table = retained(scores, "distilled", "teacher").set_index("task")
    assert list(table.index) == [*TASKS, "macro"]
    for task in TASKS:
        shares = [
            100 * found["distilled", seed, task] / found["teacher", seed, task] for seed in SEEDS
        ]
        assert table.loc[task, "retained"] == pytest.approx(statistics.median(shares))
        assert table.loc[task, "low"] == pytest.approx(min(shares))
        assert table.loc[task, "high"] == pytest.approx(max(shares))


@pytest.mark.parametrize("weak", [9.0, 0.0, -5.0, np.nan])
def test_a_share_of_next_to_nothing_is_undefined(scores, weak):
    one = (scores.arm == "teacher") & (scores.seed == 3) & (scores.task == "sst2")
    scores.loc[one, "score"] = weak
    table = retained(scores, "distilled", "teacher").set_index("task")
    assert table.loc["sst2"].isna().all()
    assert table.loc["cola"].notna().all()


@pytest.mark.slow
def test_a_sweep_is_complete_and_a_second_one_trains_nothing(home, monkeypatch):
    chosen = config.scale("tiny")
    chosen = replace(
        chosen, tasks=("wnli", "stsb"), seeds=(1, 2), finetuning=replace(chosen.finetuning, steps=2)
    )
    tokenizer = load_tokenizer(chosen.teacher)
    small_bert(1, vocab_size=len(tokenizer)).save_pretrained(home / "a")
    small_bert(1, vocab_size=len(tokenizer), seed=1).save_pretrained(home / "b")
    found = finetune_arms({"a": home / "a", "b": home / "b"}, tokenizer, chosen)
    assert len(found) == 2 * 2 * 2
    assert set(zip(found.task, found.metric, strict=True)) == {
        ("wnli", "accuracy"),
        ("stsb", "pearson"),
    }
    assert found.score.between(-100, 100).all()
    assert found[found.task == "wnli"].score.between(20, 80).all()  # points, not shares
    assert not list((home / "runs").glob("*/model"))
    assert not list((home / "runs").glob("*/checkpoints"))

    monkeypatch.setattr(finetuning, "train", None)
    again = finetune_arms({"a": home / "a", "b": home / "b"}, tokenizer, chosen)
    pd.testing.assert_frame_equal(found, again)


@pytest.mark.slow
def test_test_split_is_another_number_and_the_other_split_is_not_looked_at(home):
    chosen = config.scale("tiny")
    few = replace(chosen.finetuning, steps=2)
    chosen = replace(chosen, tasks=("mnli",), seeds=(1,), finetuning=few)
    tokenizer = load_tokenizer(chosen.teacher)
    small_bert(1, vocab_size=len(tokenizer)).save_pretrained(home / "a")
    scores = {}
    for split in ("validation", "test"):
        finetune_arms({"a": home / "a"}, tokenizer, chosen, split=split, prefix=f"{split}-")
        scores[split] = Run(home / "runs" / f"{split}-tiny-a-mnli-1").result()["scores"]
    assert list(scores["validation"]) == ["validation_matched"]
    assert list(scores["test"]) == ["test_matched"]
    with pytest.raises(ValueError, match="give 'validation' or 'test'"):
        finetune_arms({}, tokenizer, chosen, split="train")


def test_paired_difference_against_scipy(scores):
    ours = [plain(scores, "distilled", seed) for seed in SEEDS]
    theirs = [plain(scores, "teacher", seed) for seed in SEEDS]
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    found = paired_difference(scores, "distilled", "teacher")
    assert found["seeds"] == 3
    assert found["mean"] == pytest.approx(statistics.mean(ours) - statistics.mean(theirs))
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    one = paired_difference(scores[scores.seed == 1], "distilled", "teacher")
    assert one["mean"] == pytest.approx(ours[0] - theirs[0])
    assert np.isnan(one["low"])


def test_an_undefined_correlation_counts_0_and_keeps_its_seed(home, monkeypatch):
    class Finished:
        def result(self):
            return {"scores": {"validation": {"matthews": None}}, "seconds": 1.0}

    monkeypatch.setattr(arms, "finetune", lambda *_, **__: Finished())
    monkeypatch.setattr(arms, "classifier", lambda *_: None)
    chosen = replace(config.scale("tiny"), tasks=("cola",), seeds=(1,))
    found = finetune_arms({"a": "x", "b": "y"}, None, chosen)
    assert list(found.score) == [0.0, 0.0]
    assert paired_difference(found, "a", "b")["seeds"] == 1


@pytest.mark.slow
def test_tasks_of_ones_own_take_part_under_their_names(home, tokenizer):
    """Several labels, and labels on words, with a teacher."""
    texts = [f"w{i} w{i % 7}" for i in range(12)]
    tagged = {"text": texts, "a": [i % 2 for i in range(12)], "b": [i % 3 // 2 for i in range(12)]}
    words = {"words": [text.split() for text in texts], "tags": [["B-X", "O"]] * 12}
    tags = task_from(
        dict.fromkeys(("train", "validation"), pd.DataFrame(tagged)),
        label_column=["a", "b"],
        name="tags",
    )
    ner = task_from(
        dict.fromkeys(("train", "validation"), pd.DataFrame(words)),
        text_columns="words",
        label_column="tags",
        name="ner",
    )
    chosen = config.scale("tiny")
    training = replace(chosen.finetuning, steps=2)
    chosen = replace(chosen, tasks=(tags, ner, "wnli"), seeds=(1,), finetuning=training)
    small_bert(1, vocab_size=5000).save_pretrained(home / "a")
    tokenizer = load_tokenizer(chosen.teacher)
    both = {"teacher": home / "a", "student": home / "a"}
    found = finetune_arms(both, tokenizer, chosen, keep=("teacher",), with_teacher=("student",))
    assert found.set_index(["arm", "task"]).metric.to_dict() == {
        (arm, task): metric
        for arm in both
        for task, metric in (("tags", "micro_f1"), ("ner", "entity_f1"), ("wnli", "accuracy"))
    }
    assert Run(home / "runs" / "tiny-student-ner-1").result()["teacher_scores"].keys() == {
        "validation"
    }
    assert [*results_table(found)] == [
        "tags",
        "ner",
        "wnli",
        "macro",
        "macro without wnli",
        "low",
        "high",
    ]


def test_each_fold_of_ones_own_task_has_its_own_data():
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(60)], "label": ["a", "b"] * 30})
    task = task_from(frame, label_column="label")
    folds = [replace(task, data={**task.data, "train": task.data["validation"]}), task]
    scales = [replace(config.SCALES["tiny"], tasks=(fold,)) for fold in folds]
    sizes = [
        len(arms.train_and_measured("validation", fold, scale)["train"])
        for fold, scale in zip(folds, scales, strict=True)
    ]
    assert sizes == [len(fold.data["train"]) for fold in folds]
    assert sizes[0] != sizes[1]


def test_a_table_keeps_small_numbers_and_is_refused_before_it_is_made(tmp_path):
    table = pd.DataFrame({"learning_rate": [3e-5, 6e-5], "score": [91.23456789, 0.0]})
    file = arms.check_table(f"{tmp_path}/more/table.csv")
    arms.write_table(table, file)
    written = pd.read_csv(file)
    assert written.learning_rate.tolist() == [3e-5, 6e-5]
    assert written.score[0] == pytest.approx(91.2346)
    for wrong in (tmp_path, ""):
        with pytest.raises(ValueError, match="give a csv file, not a folder"):
            arms.check_table(wrong)


def test_what_is_named_twice_would_count_twice():
    for twice in ({"tasks": ("sst2", "sst2")}, {"seeds": (1, 1)}):
        with pytest.raises(ValueError, match="give each once"):
            replace(config.SCALES["tiny"], **twice)
