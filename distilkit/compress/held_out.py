"""Teacher and student on the same held-out texts: scores, agreement, where they differ most."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, softmax
from scipy.stats import bootstrap, pearsonr
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.data.task_examples import column_names, is_scored, task_examples
from distilkit.data.tasks import Task, in_words
from distilkit.finetuning import answers, input_length, known_words, predict
from distilkit.study.calibration import expected_calibration_error
from distilkit.study.intervals import matched_interval

DRAWS = 1000  # of the bootstrap


def held_out(task: Task) -> str:
    """Return the held-out split: preferably labelled, and test rather than validation."""
    order = [split for split in (*task.test, *task.validation) if split in (task.data or {})]
    if not order:
        raise ValueError(f"{task.name} has no held-out split to measure on: give one")
    labelled = [split for split in order if is_scored(task, task.data[split], split)]
    return (labelled or order)[0]


def score_function(task: Task, predicted: Any, labels: Any) -> Callable[[np.ndarray], float]:
    """Return the task's score as a function of the examples [n] that it is computed on.

    `predicted` and `labels` are as :func:`distilkit.finetuning.answers` gives them.
    """
    from distilkit.data.metrics import METRICS, answer_scores, entity_counts, f1_of_counts

    if task.on_spans:
        pairs = zip(predicted, labels, strict=True)
        values = np.array([answer_scores(*pair)[task.score] for pair in pairs])
        return lambda rows: float(values[rows].mean())
    predicted, labels = known_words(task, predicted, labels)
    if task.score == "entity_f1":
        names = [[[task.labels[i] for i in s] for s in each] for each in (predicted, labels)]
        counts = np.array([entity_counts([p], [t]) for p, t in zip(*names, strict=True)])
        return lambda rows: f1_of_counts(counts[rows].sum(0)) or 0.0
    metric = METRICS[task.score]
    if task.score == "micro_f1" and task.kind == "multi_label_classification":
        both = np.asarray(predicted) * np.asarray(labels)
        counts = np.stack([np.sum(each, 1) for each in (both, predicted, labels)], 1)
        return lambda rows: f1_of_counts(counts[rows].sum(0)) or 0.0
    if task.on_words:

        def score(rows: np.ndarray) -> float:
            x, y = (np.concatenate([part[i] for i in rows]) for part in (predicted, labels))
            return (metric(x, y) or 0.0) if len(y) else 0.0

        return score
    x, y = np.asarray(predicted), np.asarray(labels)
    return lambda rows: metric(x[rows], y[rows]) or 0.0  # None: a constant answer's correlation


def paired_difference(task: Task, student: Any, teacher: Any, labels: Any) -> dict[str, float]:
    """Return the student's ``score``, its ``difference`` from the teacher's, and a 95 % interval.

    ``low`` and ``high`` are percentiles of the paired bootstrap (Efron 1979): each of
    :data:`DRAWS` draws takes the same examples, with replacement, for both. Where all draws of an
    accuracy are equal, they are those of :func:`distilkit.study.intervals.matched_interval`.
    """
    of_student = score_function(task, student, labels)
    of_teacher = of_student if student is teacher else score_function(task, teacher, labels)
    every = np.arange(len(labels))

    def difference(rows: np.ndarray) -> float:
        rows = rows.astype(int)
        return of_student(rows) - of_teacher(rows)

    found = {"score": of_student(every), "difference": difference(every)}
    if student is teacher:
        return found | {"low": 0.0, "high": 0.0}
    if len(every) < 2:  # of a single text there is nothing to draw
        return found | {"low": float("nan"), "high": float("nan")}
    drawn = bootstrap(
        (every,),
        difference,
        n_resamples=DRAWS,
        batch=max(1, 10**7 // len(every)),  # draws that are in memory together
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = drawn.confidence_interval
    if low == high and task.score == "accuracy":  # few texts, all answered alike
        known, _ = known_words(task, labels, labels)
        count = len(np.concatenate(known)) if task.on_words else len(known)
        low, high = matched_interval(max(low, 0), max(-low, 0), count)
    return found | {"low": float(low), "high": float(high)}


def agreement(task: Task, student: Any, teacher: Any) -> float:
    """Return the share of equal answers of two models, word by word or label by label.

    For a regression, which has no equal answers, Pearson's correlation.
    """
    if task.regression:
        varies = np.ptp(student) and np.ptp(teacher)
        return float(pearsonr(student, teacher).statistic) if varies else float("nan")
    if task.on_words:
        student, teacher = np.concatenate(student), np.concatenate(teacher)
    return float((np.asarray(student) == np.asarray(teacher)).mean())


def calibration(task: Task, student_logits: Any, teacher: Any) -> float:
    """Return the student's expected calibration error, the teacher's answers taken as right.

    NaN where there are no probabilities of classes.
    """
    if task.kind != "single_label_classification":
        return float("nan")
    p = softmax(np.asarray(student_logits, np.float64), axis=1)
    return expected_calibration_error(p.max(1), p.argmax(1) == teacher)


def disagreements(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    count: int = 10,
) -> pd.DataFrame:
    """Return the `count` held-out texts on which two models differ most, the worst first.

    Texts are cut at the task's `max_length`, or at as many tokens as both models read.

    Returns:
        The text columns; ``label``, where known; the answers ``teacher`` and ``student``; and
        ``distance``. Classes: total variation of the probabilities, 0 to 1. Several labels: largest
        difference of a probability. Regression: difference of the outputs. Words: share with
        another answer. Spans: 1 where the texts differ.
    """
    split = task.data[held_out(task)]
    length = input_length((teacher, student), None, task.max_length)
    examples = task_examples(split, task, tokenizer, max_length=length, seed=0)
    logits = [predict(model, examples)[0] for model in (teacher, student)]
    given = [answers(task, each) for each in logits]
    distances = _distances(task, *(given if task.on_words or task.on_spans else logits))
    worst = np.argsort(-distances, kind="stable")[:count]
    table = pd.DataFrame({name: [split[name][int(i)] for i in worst] for name in task.columns})
    if "label" in column_names(split):
        table["label"] = [in_words(task, split["label"][int(i)]) for i in worst]
    for name, each in zip(("teacher", "student"), given, strict=True):
        table[name] = [in_words(task, each[i]) for i in worst]
    return table.assign(distance=distances[worst])


def _distances(task: Task, teacher: Any, student: Any) -> np.ndarray:
    """Return [examples]: for words and spans from the answers, for all else from the logits."""
    if task.on_spans or task.on_words:
        return np.array([np.mean(a != b) for a, b in zip(teacher, student, strict=True)])
    if task.regression:
        return np.abs(teacher - student)[:, 0]
    if task.kind == "multi_label_classification":
        return np.abs(expit(teacher) - expit(student)).max(1)
    return np.abs(softmax(teacher, 1) - softmax(student, 1)).sum(1) / 2
