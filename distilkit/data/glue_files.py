"""GLUE's own downloads: ``SST-2/train.tsv``, ``dev.tsv``, ``test.tsv`` and so on.

The files of https://gluebenchmark.com/tasks, with the columns that they have there. A row without
all its fields, as QQP has some, is left out of training and validation, as `datasets` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilkit.data.tables import Table, read_table, split_files
from distilkit.data.tasks import Task

if TYPE_CHECKING:
    from datasets import DatasetDict

# task -> its texts in the order of `Task.columns`, and its label
COLUMNS = {
    "cola": ("3", "1"),  # train and dev have no header
    "mnli": ("sentence1", "sentence2", "gold_label"),
    "mrpc": ("#1 String", "#2 String", "Quality"),
    "qnli": ("question", "sentence", "label"),
    "qqp": ("question1", "question2", "is_duplicate"),
    "rte": ("sentence1", "sentence2", "label"),
    "sst2": ("sentence", "label"),
    "stsb": ("sentence1", "sentence2", "score"),
    "wnli": ("sentence1", "sentence2", "label"),
}


def official_folder(source: Path, task: Task) -> Path | None:
    """Return the folder of the task's own download below `source`, if it is there."""
    folder = source / task.title
    return folder if task.name in COLUMNS and (folder / "train.tsv").is_file() else None


def load_official(folder: Path, task: Task) -> DatasetDict:
    """Load a task's downloaded files, with the columns and label numbers of ``nyu-mll/glue``.

    Raises:
        ValueError: a column or label that is not the task's, with file and line.
    """
    import datasets

    splits = {}
    for split, files in split_files(folder)[0].items():
        if not (split == "train" or split in (*task.validation, *task.test)):
            continue
        bare = task.name == "cola" and split != "test"
        table = read_table(files[0], header=not bare)
        splits[split] = datasets.Dataset.from_dict(_columns(table, task, split))
    return datasets.DatasetDict(splits)


def _columns(table: Table, task: Task, split: str) -> dict[str, list[Any]]:
    *texts, label = COLUMNS[task.name]
    if task.name == "cola" and split == "test":
        texts = ["sentence"]
    if absent := [name for name in texts if name not in table.columns]:
        raise ValueError(f"{table.where}: no column {absent[0]!r}, only {', '.join(table.columns)}")
    tested = split in task.test
    rows = [
        row
        for row in range(len(table))
        if tested or all(table.columns[name][row] is not None for name in (*texts, label))
    ]
    columns: dict[str, list[Any]] = {
        name: [table.columns[there][row] or "" for row in rows]
        for name, there in zip(task.columns, texts, strict=True)
    }
    if not tested:
        columns["label"] = [_label(table, row, label, task) for row in rows]
    return columns


def _label(table: Table, row: int, column: str, task: Task) -> int | float:
    value = table.columns[column][row]
    if value in task.labels:
        return task.labels.index(value)
    try:
        return float(value) if task.regression else int(value)
    except ValueError:
        allowed = ", ".join(task.labels) or "numbers"
        raise ValueError(
            f"{table.place(row)}, column {column!r} holds {value!r}; labels are {allowed}"
        ) from None
