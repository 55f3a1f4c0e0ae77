"""Which examples have a label, and labelled and unlabelled ones in one split."""

from __future__ import annotations

import pickle

import datasets
import numpy as np
import pytest

from distilkit.data import own_task
from distilkit.data.examples import is_labelled
from distilkit.data.task_examples import (
    check_labels,
    is_scored,
    labelled,
    task_examples,
)
from distilkit.data.tasks import TASKS, Task

TEXT = ("text",)
TOPIC = Task("topic", "Topic", TEXT, ("a", "b"))
TAGS = Task("tags", "Tags", TEXT, ("a", "b"), "multi_label_classification")
GRADE = Task("grade", "Grade", TEXT, (), "regression")
WORDS = Task("ner", "NER", ("words",), ("O", "X"), "token_classification")
nan = float("nan")

CASES = [
    (TOPIC, {"text": ["w1", "w2"], "label": [1, -1]}, {"text": ["w3"]}),
    (TAGS, {"text": ["w1", "w2"], "label": [[0, 1], [nan, nan]]}, {"text": ["w3"]}),
    (GRADE, {"text": ["w1", "w2"], "label": [-2.5, nan]}, {"text": ["w3"]}),
    (WORDS, {"words": [["w1"], ["w2", "w3"]], "label": [[1], [-1, -1]]}, {"words": [["w4"]]}),
]


@pytest.mark.parametrize(("task", "split", "more"), CASES)
def test_labelled_and_joined(task, split, more, tokenizer):
    assert labelled(task, split).tolist() == [True, False]
    assert labelled(task, more).tolist() == [False]
    for source in (split, datasets.Dataset.from_dict(split)):
        labels = {"label": split["label"][:1]}  # are not read
        both = task_examples(
            source, task, tokenizer, max_length=64, seed=0, unlabelled={**more, **labels}
        )
        counts = both.batch(0, np.arange(3))["counts"]
        assert (len(both), counts["labels"], counts["examples"]) == (3, 1, 3)
        alone = task_examples(more, task, tokenizer, max_length=64, seed=0)
        assert (both.input_ids[2] == alone.input_ids[0]).all()
    if task.on_words:
        assert is_scored(task, split, "validation")
    else:
        with pytest.raises(ValueError, match="validation: 1 of 2"):
            is_scored(task, split, "validation")
    assert not is_scored(task, more, "test")


def test_the_hubs_stsb_marks_a_test_set_by_minus_one():
    columns = {"sentence1": ["w1"] * 2, "sentence2": ["w2"] * 2}
    assert not labelled(TASKS["stsb"], columns | {"label": [-1.0, -1.0]}).any()
    assert labelled(TASKS["stsb"], columns | {"label": [0.0, -1.0]}).all()


@pytest.mark.parametrize(
    ("task", "bad"), [(TOPIC, 2), (TOPIC, -100), (TAGS, [0.0, 0.5]), (GRADE, float("inf"))]
)
def test_a_label_that_the_task_does_not_have_is_refused(task, bad, tokenizer):
    good = {TOPIC: 1, TAGS: [0.0, 1.0], GRADE: 3.0}[task]
    examples = task_examples(
        {"text": ["w1", "w2"], "label": [good, bad]}, task, tokenizer, max_length=64, seed=0
    )
    with pytest.raises(ValueError, match=f"{task.name}, train"):
        check_labels(task, examples, "train")


def test_a_word_with_a_label_that_the_task_does_not_have_is_refused(tokenizer):
    data = {"words": [["w1", "w2"]], "label": [[0, 7]]}
    examples = task_examples(data, WORDS, tokenizer, max_length=64, seed=0)
    with pytest.raises(ValueError, match="label 7"):
        check_labels(WORDS, examples, "train")


@pytest.mark.parametrize("at_once", [2, 10_000])
def test_each_text_once_whatever_is_read_at_once(tmp_path, monkeypatch, at_once):
    """The first of equal texts stays, in its place; held-out texts are left out."""
    monkeypatch.setattr(own_task, "ROWS_AT_ONCE", at_once)
    first, second = ["a b", "c", "a b", "held out"], ["d", "c", "e f"]
    (tmp_path / "first.txt").write_text("\n".join(first) + "\n")
    (tmp_path / "second.csv").write_text("\n".join(["text", *second]) + "\n")
    held_out = {"text": ["held out"], "label": [0]}
    task = Task("topic", "Topic", TEXT, ("a", "b"), data={"train": held_out, "test": held_out})
    files = [tmp_path / "first.txt", tmp_path / "second.csv"]
    found = own_task.unlabelled_from(files, task)
    assert found["text"][:] == ["a b", "c", "d", "e f"]
    words = datasets.Dataset.from_dict({"words": [["x", "y"], ["z"], ["x", "y"], ["x y"]]})
    assert own_task.unlabelled_from(words, WORDS)["words"][:] == [["x", "y"], ["z"], ["x y"]]
    loaded = pickle.loads(pickle.dumps(found))  # the file has no name any more
    assert loaded["text"][:] == found["text"][:]


def test_a_file_of_single_texts_is_nothing_else(tmp_path):
    (tmp_path / "texts.txt").write_text("a b\nc\n")
    (tmp_path / "numbers.txt").write_text("1\n2.5\n3\n")
    task = Task("topic", "Topic", TEXT, ("a", "b"))
    pairs = Task("pairs", "Pairs", ("one", "two"), ("a", "b"))
    for file, other in (("texts", pairs), ("texts", WORDS), ("numbers", task)):
        with pytest.raises(ValueError, match=rf"{file}\.txt"):
            own_task.unlabelled_from(tmp_path / f"{file}.txt", other)
    with pytest.raises(ValueError, match="text_columns"):
        own_task.unlabelled_from(tmp_path / "texts.txt", pairs, text_columns="one")
    lines = [f"text {i}" for i in range(own_task.ROWS_AT_ONCE)]
    (tmp_path / "many.txt").write_text("\n".join([*lines, "2019"]))
    assert own_task.unlabelled_from(tmp_path / "many.txt", task)["text"][:] == [*lines, "2019"]


@pytest.mark.parametrize(("task", "split", "more"), CASES)
def test_no_unlabelled_texts_the_same_texts_and_no_examples(task, split, more, tokenizer):
    options = {"max_length": 64, "seed": 0}
    none = {name: [] for name in more}
    alone = task_examples(split, task, tokenizer, **options)
    assert task_examples(split, task, tokenizer, **options, unlabelled=none).digest() == (
        alone.digest()
    )
    empty = {name: [] for name in split}
    assert len(task_examples(empty, task, tokenizer, **options, unlabelled=more)) == 1
    twice = task_examples(split, task, tokenizer, **options, unlabelled=split)
    assert twice.batch(0, np.arange(4))["counts"]["labels"] == 1  # those of `unlabelled` are unread
    with pytest.raises(ValueError, match="no examples"):
        task_examples(empty, task, tokenizer, **options)


def test_no_examples_have_no_labels():
    assert is_labelled(np.empty(0, np.int64)).tolist() == []
    assert is_labelled(np.empty((0, 2), np.float32)).tolist() == []


@pytest.mark.parametrize(
    ("column", "content"),
    [
        ("0", "first text\nsecond text\n"),
        ("0", "first text,0\nsecond text,1\n"),
        ("0", "0\nfirst text\nsecond text\n"),
        ("0", "label,0\na,first text\nb,second text\n"),
        ("1", "yes,first text\nno,second text\n"),
        ("body", "body\nfirst text\nsecond text\n"),
    ],
)
def test_unlabelled_texts_without_a_header(tmp_path, column, content):
    file = tmp_path / "more.csv"
    file.write_text(content)
    task = Task("bare", "Bare", (column,), ("a", "b"))
    assert own_task.unlabelled_from(file, task)[column][:] == ["first text", "second text"]
