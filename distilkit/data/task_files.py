"""Load a task's splits: from a folder, from GLUE's own download, or from the Hub.

GLUE's own files (https://gluebenchmark.com/tasks) are ``SST-2/train.tsv``, ``dev.tsv`` and so on,
with the columns that they have there. A row of them without all its fields, as QQP has some, is
left out of training and validation, as `datasets` does.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distilkit.data.question_answering import first_answer
from distilkit.data.tables import Table, check_columns, read_parquet, read_table, split_files
from distilkit.data.tasks import UNLABELLED, Task, get_task
from distilkit.models.hub import load_hub_data, local_path

# Task -> its texts in the order of `Task.columns`, and its label, in GLUE's own files
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


def load(name: str | Task, source: str | Path) -> Mapping[str, Any]:
    """Load a task's splits as `datasets` objects; a task of one's own has them already.

    `source` is a Hub id such as ``nyu-mll/glue``, or a folder. The folder holds
    ``<task>/<split>.parquet``, in shards too, or GLUE's or SQuAD's own download. A task with its
    own Hub data set comes from there, unless the folder has it.
    """
    task = get_task(name)
    if task.data is not None:
        return task.data
    splits, label = ("train", *task.validation), "label"
    parent = local_path(source)
    official = parent / task.title if parent and task.name in COLUMNS else None
    if official and (official / "train.tsv").is_file():
        data, where = load_official(official, task), str(official)
    else:
        data, where = _load_splits(task, source, parent, splits), f"{source}, {task.name}"
        label = "answers" if task.on_spans else "label"
    for split in splits:
        if split not in data:
            raise ValueError(f"{where}: no part {split!r}, only {', '.join(data)}")
        check_columns((*task.columns, label), data[split].column_names, f"{where}, {split}")
    if label != "label":
        data = data.rename_column(label, "label")
    for split in data:
        if split in (*splits, *task.test):
            _check_examples(task, data[split], f"{source}, {task.name}, {split}")
    return data


def _load_splits(task: Task, source: str | Path, parent: Path | None, splits: Sequence[str]) -> Any:
    """Load a `DatasetDict` from Parquet files in a task's folder below `parent`, or from the Hub.

    A task that has its own place on the Hub may be missing below `parent`.
    """
    import datasets

    folder = parent / task.name if parent else None
    if not folder or (task.hub and not folder.is_dir()):
        return load_hub_data(*((task.hub,) if task.hub else (str(source), task.name)))
    files = split_files(folder)[0] if folder.is_dir() else {}
    if missing := [split for split in splits if split not in files]:
        raise FileNotFoundError(f"{folder} has no {missing[0]}.parquet")
    return datasets.DatasetDict({split: _read(paths) for split, paths in files.items()})


def _read(paths: Sequence[Path]) -> Any:
    import datasets

    if ".json" in paths[0].suffixes:  # SQuAD's own
        return datasets.Dataset.from_dict(read_table(_only(paths)).columns)
    return read_parquet(paths)


def _only(paths: Sequence[Path]) -> Path:
    if len(paths) > 1:  # downloads of other versions, or packed and unpacked
        names = ", ".join(path.name for path in paths)
        raise ValueError(f"{paths[0].parent}: {names} are one split: leave one of them there")
    return paths[0]


def _check_examples(task: Task, data: Any, where: str) -> None:
    """Refuse values that are no texts, and labels that are not the task's, in any split."""
    for column in task.columns:
        for row, text in enumerate(data[column][:]):
            if not isinstance(text, str):
                raise ValueError(
                    f"{where}: the column {column!r} holds {text!r} in row {row}, not a text"
                )
    if "label" not in data.column_names:
        return
    if task.on_spans:
        for row, pair in enumerate(zip(data[task.columns[1]][:], data["label"][:], strict=True)):
            first_answer(*pair, f"{where}, row {row}")
        return
    try:
        labels = np.asarray(data["label"][:], dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{where}: the column 'label' holds {data.features['label']}, not numbers"
        ) from None
    if not len(labels):
        raise ValueError(f"{where}: no examples")
    if (labels == UNLABELLED).all() or np.isnan(labels).all():
        return  # a test set whose labels are not public
    if task.regression:
        wrong, allowed = ~np.isfinite(labels), "finite numbers"
        if task.name == "stsb":
            wrong, allowed = ~((labels >= 0) & (labels <= 5)), "0 to 5"
    else:
        wrong = ~np.isin(labels, np.arange(len(task.labels)))
        allowed = ", ".join(f"{i} ({label})" for i, label in enumerate(task.labels))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"{where}: label {labels[row]:g} in row {row}; labels are {allowed}")


def load_official(folder: Path, task: Task) -> Mapping[str, Any]:
    """Load a task's downloaded files, with the columns and label numbers of ``nyu-mll/glue``."""
    import datasets

    splits = {}
    for split, files in split_files(folder)[0].items():
        if not (split == "train" or split in (*task.validation, *task.test)):
            continue
        bare = task.name == "cola" and split != "test"
        table = read_table(_only(files), header=not bare)
        splits[split] = datasets.Dataset.from_dict(_columns(table, task, split))
    return datasets.DatasetDict(splits)


def _columns(table: Table, task: Task, split: str) -> dict[str, list[Any]]:
    *texts, label = COLUMNS[task.name]
    if task.name == "cola" and split == "test":
        texts = ["sentence"]
    check_columns(texts, table.columns, table.where)
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
