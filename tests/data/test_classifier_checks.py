"""What a classifier's outputs mean is read from its config, or measured: never trusted."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import BertConfig

from distilkit.data.classifier_checks import (
    better_order,
    check_classifier,
    check_has_labels,
    check_teacher,
    is_named,
)
from distilkit.data.tasks import TASKS, Task

TOPIC = Task("topic", "Topic", ("text",), ("a", "b", "c"), data={})
TAGS = Task(
    *("tags", "Tags", ("text",), ("a", "b", "c"), "multi_label_classification"),
    metrics=("micro_f1",),
    score="micro_f1",
)
WORDS = Task(
    *("ner", "NER", ("words",), ("O", "B-X", "I-X"), "token_classification"),
    metrics=("entity_f1",),
    score="entity_f1",
)


class Model:
    def __init__(self, names=None, **config) -> None:
        names = names or [f"LABEL_{i}" for i in range(3)]
        self.config = BertConfig(id2label=dict(enumerate(names)), **config)


class BertForTokenClassification(Model):
    pass


class BertForSequenceClassification(Model):
    pass


def test_names_are_compared_with_the_tasks():
    check_classifier(Model(["A", "b", "C"]), TOPIC)
    check_classifier(Model(), TOPIC)
    check_classifier(Model(["0", "1", "2"]), TOPIC)
    assert not is_named(Model().config)
    with pytest.raises(ValueError, match=r"another order.*labels=\['b', 'a', 'c'\]"):
        check_classifier(Model(["b", "a", "c"]), TOPIC)
    with pytest.raises(ValueError, match=r"'x'.*fine-tuned on topic"):
        check_classifier(Model(["a", "b", "x"]), TOPIC)
    with pytest.raises(ValueError, match=r"LABEL_1.*fine-tuned on topic"):
        check_classifier(Model(["LABEL_1", "LABEL_0", "LABEL_2"]), TOPIC)


def test_the_number_of_outputs_and_the_problem_have_to_fit():
    with pytest.raises(ValueError, match=r"3 output\(s\), the teacher 2"):
        check_classifier(Model(["a", "b"]), TOPIC, "teacher")
    with pytest.raises(ValueError, match="multi_label_classification"):
        check_classifier(Model(problem_type="multi_label_classification"), TOPIC)
    with pytest.raises(ValueError, match="single_label_classification"):
        check_classifier(Model(problem_type="single_label_classification"), TAGS)
    check_classifier(Model(problem_type="multi_label_classification"), TAGS)
    with pytest.raises(ValueError, match="regression"):
        check_classifier(Model(["a"], problem_type="single_label_classification"), TASKS["stsb"])
    check_classifier(Model(["whatever"], problem_type="regression"), TASKS["stsb"])


def test_words_and_texts_have_different_heads():
    names = list(WORDS.labels)
    check_classifier(BertForTokenClassification(names), WORDS)
    check_classifier(BertForSequenceClassification(), TOPIC)
    with pytest.raises(ValueError, match="TokenClassification"):
        check_classifier(BertForSequenceClassification(names), WORDS)
    with pytest.raises(ValueError, match="SequenceClassification"):
        check_classifier(BertForTokenClassification(), TOPIC)


def test_a_task_without_label_names_asks_for_the_teachers():
    with pytest.raises(ValueError, match=r"labels=\[\.\.\.\]"):
        check_has_labels(Task("texts", "Texts", ("text",), ()))
    check_has_labels(TASKS["stsb"])


# --- measured -----------------------------------------------------------------------------------


def noisy(labels: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    """The labels, a share of them replaced at random."""
    generator = np.random.default_rng(seed)
    random = generator.integers(0, labels.max() + 1, labels.shape)
    return np.where(generator.random(labels.shape) < share, random, labels)


LABELS = np.random.default_rng(0).integers(0, 3, 300)
ORDER = np.array([1, 2, 0])  # a class that is called 1 in the task is the teacher's number 0, ...


def accuracy(answers) -> float:
    return float((answers == LABELS).mean())


def test_classes_in_another_order_are_found_by_the_answers():
    answers = np.argsort(ORDER)[noisy(LABELS, 0.3)]
    assert better_order(TOPIC, answers, LABELS) == ["b", "c", "a"]
    with pytest.raises(ValueError, match=r"\['b', 'c', 'a'\]"):
        check_teacher(TOPIC, Model(), answers, LABELS, accuracy(answers))
    good = noisy(LABELS, 0.3)
    assert better_order(TOPIC, good, LABELS) is None
    check_teacher(TOPIC, Model(), good, LABELS, accuracy(good))


def test_a_partly_wrong_order_is_found_though_it_beats_chance():
    answers = np.array([0, 2, 1])[noisy(LABELS, 0.1)]
    labels = np.where(np.arange(300) < 150, 0, LABELS)
    answers = np.where(np.arange(300) < 150, 0, answers)
    score = float((answers == labels).mean())
    assert score > 0.6
    with pytest.raises(ValueError, match=r"\['a', 'c', 'b'\]"):
        check_teacher(TOPIC, Model(), answers, labels, score)


def test_a_teacher_at_chance_is_refused_unless_its_classes_are_named():
    answers = np.random.default_rng(2).integers(0, 3, 300)
    arguments = answers, LABELS, accuracy(answers)
    with pytest.raises(ValueError, match="chance"):
        check_teacher(TOPIC, Model(), *arguments)
    with pytest.warns(UserWarning, match="chance"):
        check_teacher(TOPIC, Model(["a", "b", "c"]), *arguments)


def test_several_labels_and_words_in_another_order():
    labels = np.random.default_rng(0).integers(0, 2, (200, 3))
    assert better_order(TAGS, labels[:, [1, 2, 0]], labels) == ["b", "c", "a"]
    assert better_order(TAGS, noisy(labels, 0.5), labels) is None
    with pytest.raises(ValueError, match=r"\['b', 'c', 'a'\]"):
        check_teacher(TAGS, Model(), labels[:, [1, 2, 0]], labels, 0.5)
    sentences = [LABELS[i : i + 10] for i in range(0, 300, 10)]
    turned = [np.argsort(ORDER)[sentence] for sentence in sentences]
    assert better_order(WORDS, turned, sentences) == ["B-X", "I-X", "O"]
    assert better_order(WORDS, sentences, sentences) is None
    check_teacher(WORDS, Model(), sentences, sentences, 1.0)


def test_a_regression_teacher_on_another_scale_is_refused_with_the_map():
    generator = np.random.default_rng(0)
    labels = generator.uniform(0, 5, 200)
    task = TASKS["stsb"]
    good = labels + generator.normal(0, 0.5, 200)
    check_teacher(task, Model(["score"]), good, labels, 0.9)
    with pytest.raises(ValueError, match=r"(4\.\d+|5\.\d+) · value [+-]"):
        check_teacher(task, Model(["score"]), good / 5, labels, 0.9)
    with pytest.warns(UserWarning, match="chance"):  # a constant, and unrelated values
        check_teacher(task, Model(["score"]), np.zeros(200), labels, None)
    with pytest.warns(UserWarning, match="chance"):
        check_teacher(task, Model(["score"]), generator.normal(0, 0.1, 200), labels, 0.01)
