"""Which examples have a label, and labelled and unlabelled ones in one split."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from distilkit.data.task_examples import (
    check_labels,
    is_scored,
    join_unlabelled,
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
        both = join_unlabelled(task, source, more)
        assert labelled(task, both).tolist() == [True, False, False]
        examples = task_examples(both, task, tokenizer, max_length=64, seed=0)
        counts = examples.batch(0, np.arange(3))["counts"]
        assert (counts["labels"], counts["examples"]) == (1, 3)
    twice = join_unlabelled(task, more, more)
    assert labelled(task, twice).tolist() == [False, False]
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
