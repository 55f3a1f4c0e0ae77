"""The held-out texts on which teacher and student differ most."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.compress.held_out import held_out
from distilkit.data.task_examples import column_names, task_examples
from distilkit.data.tasks import Task
from distilkit.finetuning import answers, input_length, predict


def disagreements(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    count: int = 10,
) -> pd.DataFrame:
    """Return the `count` held-out texts on which two models differ most, the worst first.

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
    columns = {column: [split[column][int(i)] for i in worst] for column in task.columns}
    table = pd.DataFrame(columns)
    if "label" in column_names(split):
        table["label"] = [_shown(task, split["label"][int(i)]) for i in worst]
    for name, each in zip(("teacher", "student"), given, strict=True):
        table[name] = [_shown(task, each[i]) for i in worst]
    return table.assign(distance=distances[worst])


def _distances(task: Task, teacher: Any, student: Any) -> np.ndarray:
    """Return [examples]: for words and spans from the answers, for all else from the logits."""
    if task.on_spans:
        return np.array([float(a != b) for a, b in zip(teacher, student, strict=True)])
    if task.on_words:
        return np.array([(a != b).mean() for a, b in zip(teacher, student, strict=True)])
    if task.regression:
        return np.abs(teacher - student)[:, 0]
    if task.kind == "multi_label_classification":
        return np.abs(expit(teacher) - expit(student)).max(1)
    return np.abs(softmax(teacher, 1) - softmax(student, 1)).sum(1) / 2


def _shown(task: Task, answer: Any) -> Any:
    """Return an answer or a label in the task's words."""
    if task.on_spans:
        return answer
    if task.regression:
        return float(answer)
    if task.on_words:
        return " ".join(task.labels[int(i)] if i >= 0 else "-" for i in answer)
    if task.kind == "multi_label_classification":
        return ", ".join(name for name, on in zip(task.labels, answer, strict=True) if on == 1)
    return task.labels[int(answer)] if answer >= 0 else ""
