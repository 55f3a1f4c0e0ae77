"""Examples with and without labels: which have one, and both kinds as one training split."""

from typing import Any

import numpy as np

from distilkit.data.examples import Examples, is_labelled
from distilkit.data.task_examples import column_names
from distilkit.data.tasks import UNLABELLED, Task


def labelled(task: Task, split: Any) -> np.ndarray:
    """Return [examples]: which of a split have a label; on words, which have one on any word."""
    count = len(split[task.columns[0]])
    if "label" not in column_names(split):
        return np.zeros(count, dtype=bool)
    labels = split["label"][:]
    if task.on_spans:
        return np.array([len(label["text"]) > 0 for label in labels], dtype=bool)
    if task.on_words:
        return np.array([any(label >= 0 for label in words) for words in labels], dtype=bool)
    is_class = task.kind == "single_label_classification"
    values = np.asarray(labels, np.int64 if is_class else np.float32)
    if task.regression and (values == UNLABELLED).all():  # STS-B's test set on the Hub
        return np.zeros(count, dtype=bool)
    return is_labelled(values)


def is_scored(task: Task, split: Any, name: str) -> bool:
    """Whether a split has labels to be scored on; GLUE's test sets have none.

    Raises:
        ValueError: some examples have a label and others have none.
    """
    known = labelled(task, split)
    if known.any() and not known.all() and not task.on_words:
        raise ValueError(
            f"{task.name}, {name}: {int((~known).sum())} of {len(known)} examples have no label: "
            "leave them out of a split that is scored"
        )
    return bool(known.any())


def join_unlabelled(task: Task, split: Any, unlabelled: Any) -> dict[str, list[Any]]:
    """Return the columns of a training split, labelled or not, and of unlabelled texts after it."""

    def labels(texts: Any, known: Any) -> list[Any]:
        if "label" in known:
            return list(texts["label"][:])
        if task.on_words:
            return [[UNLABELLED] * len(words) for words in texts[task.columns[0]][:]]
        count = len(texts[task.columns[0]])
        if task.on_spans:
            return [{"text": [], "answer_start": []}] * count
        if task.kind == "multi_label_classification":
            return [[np.nan] * task.outputs] * count
        return [np.nan if task.regression else UNLABELLED] * count

    columns = {column: [*split[column][:], *unlabelled[column][:]] for column in task.columns}
    both = labels(split, column_names(split)) + labels(unlabelled, ())
    return {**columns, "label": both}


def check_labels(task: Task, examples: Examples, split: str) -> None:
    """Raise ValueError if an encoded example has a label that the task does not have.

    On an accelerator such a label ends the process without saying which it was.
    """
    if task.on_spans:
        return  # compared with the passage already
    for values in examples.targets if task.on_words else [examples.labels]:
        if task.regression:
            wrong = np.isinf(values)
        elif task.kind == "multi_label_classification":
            wrong = ~(np.isin(values, (0, 1)) | np.isnan(values))
        else:
            wrong = (values < UNLABELLED) | (values >= task.outputs)
        if wrong.any():
            raise ValueError(
                f"{task.name}, {split}: label {values[wrong][0]}: give 0 to {task.outputs - 1}, "
                f"or {UNLABELLED} for none"
                if not (task.regression or task.kind == "multi_label_classification")
                else f"{task.name}, {split}: label {values[wrong][0]}: give finite numbers, 0 or 1 "
                "for each of several labels"
            )
