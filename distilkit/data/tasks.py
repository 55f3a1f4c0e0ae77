"""A task: its columns, labels, metrics and splits; GLUE's nine and IMDb in one table.

Wang et al. 2019 (arXiv 1804.07461), section 3 and table 1. A task of the table comes from the Hub
(``nyu-mll/glue``) or from a folder in the same schema (``<folder>/<task>/<split>.parquet``), as the
embedded ``data/tiny/glue`` is. A task of one's own holds its data: see
:func:`distilkit.data.own_task.task_from`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from datasets import DatasetDict

# The names that transformers has for them (`problem_type`), and one more
Kind = Literal[
    "single_label_classification",
    "multi_label_classification",
    "regression",
    "token_classification",
]
UNLABELLED = -1  # the label of an example, or of a word, without one; NaN where labels are real


@dataclass(frozen=True)
class Task:
    """A data set: its columns, labels, metrics and splits.

    In the data the column ``label`` holds, by kind: a class number; a 0 or 1 for each label; a real
    number; the class number of each word.
    """

    name: str
    title: str  # as the paper's tables and GLUE's server spell it
    columns: tuple[str, ...]  # one or two texts; one list of words for token classification
    labels: tuple[str, ...]  # names in the order of their numbers; none for regression
    kind: Kind = "single_label_classification"
    metrics: tuple[str, ...] = ("accuracy",)  # what is reported
    score: str = "accuracy"  # the one that enters the macro-score (as in the paper's table 1)
    validation: tuple[str, ...] = ("validation",)
    test: tuple[str, ...] = ("test",)
    hub: str | None = None  # its own data set on the Hub; None: a configuration of GLUE's
    max_length: int = 128  # tokens, unless the caller or the model says fewer
    submit_names: bool = False  # GLUE's server takes names of labels, not numbers
    # Of a task of one's own: its splits; their SHA-256, by which two tasks are told apart; and what
    # was read, in sentences
    data: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    digest: str = ""
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return self.name

    @property
    def regression(self) -> bool:
        return self.kind == "regression"

    @property
    def on_words(self) -> bool:
        """Whether each word has a label, rather than the text."""
        return self.kind == "token_classification"

    @property
    def outputs(self) -> int:
        """The width of the model's head."""
        return 1 if self.regression else len(self.labels)

    @property
    def submission(self) -> tuple[str, ...]:
        """The files of GLUE's server, one for each test set; none if the task is not GLUE's."""
        if self.hub or self.data is not None:
            return ()
        suffixes = ("",) if len(self.test) == 1 else ("-m", "-mm")
        return tuple(f"{self.title}{suffix}.tsv" for suffix in suffixes)


def _read_table() -> dict[str, Task]:
    """The tasks of tasks.toml, in its order."""
    tasks = {}
    for name, fields in tomllib.loads(TABLE.read_text(encoding="utf-8")).items():
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        tasks[name] = Task(name, **values)
    return tasks


TABLE = Path(__file__).with_name("tasks.toml")
TASKS: Mapping[str, Task] = _read_table()


def get_task(task: str | Task) -> Task:
    """Return the task of that name; ValueError with the known names. A `Task` is returned as is."""
    if isinstance(task, Task):
        return task
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}: give one of {', '.join(TASKS)}")
    return TASKS[task]


def load(name: str, source: str | Path) -> DatasetDict:
    """Load a task's splits as `datasets` objects.

    Args:
        source: a folder that holds ``<task>/<split>.parquet``, or a Hub id such as
            ``nyu-mll/glue`` (a task with a Hub data set of its own comes from there).

    Raises:
        ValueError: unknown task; columns or labels that are not the task's.
        FileNotFoundError: no training or no validation file.
    """
    task = get_task(name)
    splits = ("train", *task.validation)
    hub = (task.hub,) if task.hub else (str(source), name)
    data = load_splits(source, name, splits, (*task.columns, "label"), hub)
    for split in splits:
        _check_labels(task, data[split], f"{source}, {name}, {split}")
    return data


def load_splits(
    source: str | Path,
    name: str,
    splits: Sequence[str],
    columns: Sequence[str],
    hub: tuple[str, ...],
) -> DatasetDict:
    """Load a data set from ``<source>/<name>/<split>.parquet``, or from the Hub.

    Args:
        splits: required; others are loaded if they are there.
        columns: required in each of `splits`.
        hub: arguments of ``datasets.load_dataset``. If the first is not `source`, the data set has
            its own place on the Hub, and may be missing in the folder.

    Raises:
        ValueError: a split or column is missing.
        FileNotFoundError: the folder, or a file of it, is missing.
    """
    import datasets

    folder = Path(source).expanduser() / name
    if folder.is_dir() or (folder.parent.is_dir() and hub[0] == str(source)):
        import pyarrow.parquet

        data = datasets.DatasetDict(
            {
                file.stem: datasets.Dataset(pyarrow.parquet.read_table(file))
                for file in sorted(folder.glob("*.parquet"))
            }
        )
        if missing := [split for split in splits if split not in data]:
            raise FileNotFoundError(f"{folder} has no {missing[0]}.parquet")
    elif str(source).startswith(("/", "./", "../", "~")) and not folder.parent.is_dir():
        raise FileNotFoundError(
            f"no folder of tasks at {source}: give the one that holds {name}/train.parquet, or a "
            "Hub id"
        )
    else:
        data = datasets.load_dataset(*hub)
    for split in splits:
        if split not in data:
            raise ValueError(f"{source}, {name}: no part {split!r}, only {', '.join(data)}")
        names = data[split].column_names
        if absent := [column for column in columns if column not in names]:
            raise ValueError(
                f"{source}, {name}, {split}: no column {absent[0]!r}, only {', '.join(names)}"
            )
    return data


def _check_labels(task: Task, data: Any, where: str) -> None:
    try:
        labels = np.asarray(data["label"][:], dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{where}: the column 'label' holds {data.features['label']}, not numbers"
        ) from None
    if not len(labels):
        raise ValueError(f"{where}: no examples")
    if task.regression:
        wrong = ~((labels >= 0) & (labels <= 5))
        allowed = "0 to 5"
    else:
        wrong = ~np.isin(labels, np.arange(len(task.labels)))
        allowed = ", ".join(f"{i} ({label})" for i, label in enumerate(task.labels))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"{where}: label {labels[row]:g} in row {row}; labels are {allowed}")


def scores(name: str, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Compute the task's metrics through `evaluate`, offline; None where one is undefined.

    Predictions, [examples], are class numbers, or real values for STS-B.
    """
    from distilkit.data.metrics import GlueMetric  # `evaluate` is needed only here

    task = get_task(name)
    metric = GlueMetric(name, task.metrics, regression=task.regression)
    return metric.compute(predictions=predictions, references=labels)


def chance_score(task: Task, labels: np.ndarray) -> float:
    """Return the score of the best constant answer: 0 where the score is a correlation."""
    labels = np.asarray(labels)
    if task.score == "accuracy":
        return float(np.unique(labels, return_counts=True)[1].max() / len(labels))
    if task.score == "f1":  # of answering 1 always
        return float(2 * labels.mean() / (1 + labels.mean()))
    return 0.0
