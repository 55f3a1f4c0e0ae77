"""Teacher and student on the same held-out examples: scores, their difference, agreement."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import softmax
from scipy.stats import bootstrap, pearsonr

from distilkit.data.task_examples import is_scored
from distilkit.data.tasks import Task
from distilkit.study.calibration import expected_calibration_error
from distilkit.study.intervals import matched_interval

DRAWS = 1000  # of the bootstrap


def held_out(task: Task) -> str:
    """Return the held-out split: preferably labelled, and test rather than validation."""
    order = [split for split in ("test", "validation") if split in task.data]
    labelled = [split for split in order if is_scored(task, task.data[split], split)]
    return (labelled or order)[0]


def score_function(task: Task, predicted: Any, labels: Any) -> Callable[[np.ndarray], float]:
    """Return the task's score as a function of the examples [n] that it is computed on.

    `predicted` and `labels` are as :func:`distilkit.finetuning.answers` gives them.
    """
    from distilkit.data.metrics import METRICS, answer_scores, entity_counts

    if task.on_spans:
        pairs = zip(predicted, labels, strict=True)
        values = np.array([answer_scores(*pair)[task.score] for pair in pairs])
        return lambda rows: float(values[rows].mean())
    if task.score == "entity_f1":
        names = [[[task.labels[i] for i in s] for s in each] for each in (predicted, labels)]
        counts = np.array([entity_counts([p], [t]) for p, t in zip(*names, strict=True)])
        return lambda rows: _f1(counts[rows].sum(0))
    metric = METRICS[task.score]
    if task.score == "micro_f1":
        both = np.asarray(predicted) * np.asarray(labels)
        counts = np.stack([np.sum(each, 1) for each in (both, predicted, labels)], 1)
        return lambda rows: _f1(counts[rows].sum(0))
    if task.score == "accuracy" and not task.on_words:
        right = np.asarray(predicted) == np.asarray(labels)
        return lambda rows: float(right[rows].mean())
    if task.on_words:
        both = predicted, labels
        return lambda rows: _number(metric(*(np.concatenate([x[i] for i in rows]) for x in both)))
    x, y = np.asarray(predicted), np.asarray(labels)
    return lambda rows: _number(metric(x[rows], y[rows]))


def paired_difference(
    task: Task, student: Any, teacher: Any, labels: Any, seed: int = 0
) -> dict[str, float]:
    """Return ``difference``, student's score minus teacher's, and its 95 % interval.

    ``low`` and ``high`` are percentiles of the paired bootstrap (Efron 1979): each of
    :data:`DRAWS` draws takes the same examples, with replacement, for both. Where all draws of an
    accuracy are equal, they are those of :func:`distilkit.study.intervals.matched_interval`.
    """
    if student is teacher:
        return {"difference": 0.0, "low": 0.0, "high": 0.0}
    of_student, of_teacher = (score_function(task, each, labels) for each in (student, teacher))
    every = np.arange(len(labels))

    def difference(rows: np.ndarray) -> float:
        rows = rows.astype(int)
        return of_student(rows) - of_teacher(rows)

    drawn = bootstrap(
        (every,),
        difference,
        n_resamples=DRAWS,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = drawn.confidence_interval
    if low == high and task.score == "accuracy":  # few texts, all answered alike
        low, high = matched_interval(0, 0, len(labels))
    return {"difference": difference(every), "low": float(low), "high": float(high)}


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


def _f1(counts: np.ndarray) -> float:
    correct, predicted, true = counts
    return float(2 * correct / (predicted + true)) if predicted + true else 0.0


def _number(score: float | None) -> float:
    return 0.0 if score is None else score  # a constant answer has no correlation
