"""Meaning of a classifier's outputs, by its config and by its measured answers.

A head whose classes are in another order trains without an error, and teaches the wrong answers.
"""

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedConfig, PreTrainedModel

from distilkit.data.tasks import Task, chance_score
from distilkit.families import HEADS

MOST_EXAMPLES = 2000  # that a teacher is measured on
_FEWER_ERRORS = 4  # ratio of squared errors; a reduction this large is not chance
_HEAD = re.compile(rf"({'|'.join(HEADS)})$")


def is_named(config: PreTrainedConfig) -> bool:
    """Tell whether a classifier's config has names of classes, not LABEL_0, LABEL_1 ..."""
    names = _names(config)
    return any(name not in (f"label_{i}", str(i)) for i, name in enumerate(names))


def check_classifier(model: PreTrainedModel, task: Task, who: str = "model") -> None:
    """Raise TypeError or ValueError unless the model has the task's labels, in its order."""
    check_has_labels(task)
    # a wrapper's signature hides whether the model takes token types
    if hasattr(model, "_orig_mod") or hasattr(model, "get_base_model"):
        raise TypeError(
            f"the {who} is wrapped ({type(model).__name__}): give transformers' own model "
            "(._orig_mod of a compiled one, .merge_and_unload() of PEFT's)"
        )
    head = _HEAD.search(type(model).__name__)
    headless = head is None and getattr(model, "base_model", None) is model
    if headless or (head and head[1] != f"For{task.head}"):
        raise ValueError(
            f"{task.name} needs a model for {task.head}, and the {who} is a {type(model).__name__}"
        )
    advice = f"give a {who} that was fine-tuned on {task.name}"
    if who == "model":
        advice += ", or classifier(checkpoint, task, seed), which has a new head"
    if model.config.num_labels != task.outputs:
        raise ValueError(
            f"{task.name} has {task.outputs} output(s), the {who} {model.config.num_labels}: "
            f"{advice}"
        )
    kind = getattr(model.config, "problem_type", None)
    kinds = (None, "single_label_classification") if task.on_words else (None, task.kind)
    if kind not in kinds:
        raise ValueError(f"the {who} is for {kind}, and {task.name} is {task.kind}: {advice}")
    names, labels = _names(model.config), [_plain(label) for label in task.labels]
    if not task.labels or not is_named(model.config) or names == labels:
        return
    shown = f"the {who}'s labels are {list(model.config.id2label.values())}, the task's "
    shown += f"{list(task.labels)}"
    if sorted(names) == sorted(labels):
        order = [task.labels[labels.index(name)] for name in names]
        raise ValueError(f"{shown}: the same names in another order. {_remedy(task, order, who)}")
    raise ValueError(f"{shown}: {advice}")


def _remedy(task: Task, order: Sequence[str], who: str) -> str:
    if task.data is not None:  # a task of one's own
        return f"Give task_from(..., labels={list(order)}), the {who}'s order"
    return f"Bring the rows of its last layer from the order {list(order)} into the task's"


def check_has_labels(task: Task) -> None:
    """Raise ValueError if nothing says what the task's classes are."""
    if not task.outputs:
        raise ValueError(
            f"{task.name} has no labels: name their column (label_column, --label-column). Without "
            "one give the teacher's, task_from(..., labels=[...]) in the order of its id2label"
        )


def _names(config: PreTrainedConfig) -> list[str]:
    return [_plain(name) for _, name in sorted(config.id2label.items())]


def _plain(name: Any) -> str:
    return str(name).casefold().replace(" ", "_").replace("-", "_")


def check_teacher(
    task: Task, teacher: PreTrainedModel, answers: Any, labels: Any, score: float | None
) -> None:
    """Compare a teacher's measured answers with a constant answer and with another class order.

    Answers and labels are of held-out examples (:func:`distilkit.data.tasks.scores`), and so is
    the score, None where undefined. ValueError if the answers fit better in another order or scale,
    or a teacher without class names is no better than a constant answer.
    """
    if task.regression:
        _check_scale(task, np.asarray(answers, np.float64), np.asarray(labels, np.float64))
    named = not task.labels or is_named(teacher.config)
    chance = 0.0 if task.regression else chance_score(task, labels)
    spread = chance * (1 - chance) if chance else 1.0
    margin = 2 * (spread / len(labels)) ** 0.5
    value = 0.0 if score is None else score
    measured = (
        f"on {len(labels)} examples of {task.name} its {task.score} is {value:.3f}; a constant "
        f"answer has {chance:.3f}"
    )
    if not named and (order := better_order(task, answers, labels)):
        raise ValueError(
            f"the teacher's classes are in another order than the task's: {measured}, and its "
            f"answers fit better as {order}. {_remedy(task, order, 'teacher')}"
        )
    if value > chance + margin:
        return
    if not named:
        raise ValueError(
            f"the teacher's answers are no better than chance: {measured}. Its config names no "
            "classes, so their order is unknown: give a teacher that was fine-tuned on this task"
        )
    warnings.warn(f"teacher at chance: {measured}", stacklevel=2)


def better_order(task: Task, answers: Any, labels: Any) -> list[str] | None:
    """Return the task's labels in the order that fits the answers significantly better, if any.

    Significantly: by more than two standard errors of the paired difference.
    """
    from scipy.optimize import linear_sum_assignment

    if task.on_words:
        answers, labels = np.concatenate(answers), np.concatenate(labels)
    answers, labels = (np.asarray(x, np.int64) for x in (answers, labels))
    if answers.ndim == 1:  # as several labels of which one is right: [n, C]
        answers, labels = (np.eye(task.outputs)[x] for x in (answers, labels))
    agree = np.stack([(answers[:, [i]] == labels).sum(0) for i in range(task.outputs)])
    _, order = linear_sum_assignment(-agree)  # output i means label order[i]
    difference = ((answers == labels[:, order]) * 1.0 - (answers == labels)).mean(1)
    if difference.mean() <= 2 * difference.std() / len(difference) ** 0.5:
        return None
    return [task.labels[i] for i in order]


def _check_scale(task: Task, answers: np.ndarray, labels: np.ndarray) -> None:
    """Raise ValueError if a linear map of a teacher's values has a much smaller error."""
    if len(answers) < 3 or not np.ptp(answers) or not np.ptp(labels):
        return
    correlation = float(np.corrcoef(answers, labels)[0, 1])
    if abs(correlation) <= 2 / len(answers) ** 0.5:
        return
    slope, offset = np.polyfit(answers, labels, 1)
    error = float(((answers - labels) ** 2).mean())
    mapped = float(((slope * answers + offset - labels) ** 2).mean())
    if error > _FEWER_ERRORS * mapped:
        raise ValueError(
            f"the teacher's values are on another scale than {task.name}'s labels: Pearson "
            f"{correlation:.3f}, mean squared error {error:.3f}, and {mapped:.3f} for "
            f"{slope:.3f} · value {offset:+.3f}. Scale its last layer so, or its training labels"
        )
