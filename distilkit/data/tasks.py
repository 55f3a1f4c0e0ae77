"""The nine tasks of GLUE, and IMDb, in one table: columns, labels, metric, which number counts.

Wang et al. 2019 (arXiv 1804.07461), section 3 and table 1. Data comes through one door, whether
from the Hub (``nyu-mll/glue``) or from a folder of Parquet files in the same schema
(``<folder>/<task>/<split>.parquet``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from distilkit.data.examples import Examples

if TYPE_CHECKING:
    from datasets import DatasetDict


@dataclass(frozen=True)
class Task:
    """A row of the table."""

    name: str
    columns: tuple[str, ...]  # one or two texts
    labels: tuple[str, ...]  # names in the order of their numbers; empty: regression
    metrics: tuple[str, ...]  # what is reported
    score: str  # the one that enters the macro-score (as in the paper's table 1)
    validation: tuple[str, ...] = ("validation",)
    test: tuple[str, ...] = ("test",)
    hub: str | None = None  # its own dataset on the Hub; None: a configuration of GLUE's
    max_length: int = 128  # tokens, unless the caller or the model says fewer

    @property
    def regression(self) -> bool:
        return not self.labels


# The paper does not say which of two metrics it tabulates. Ours: F1 for MRPC, accuracy for QQP,
# Pearson for STS-B, the matched set for MNLI; said wherever a macro-score is shown.
TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",), "matthews"),
        Task(
            "mnli",
            ("premise", "hypothesis"),
            ("entailment", "neutral", "contradiction"),
            ("accuracy",),
            "accuracy",
            validation=("validation_matched", "validation_mismatched"),
            test=("test_matched", "test_mismatched"),
        ),
        Task(
            "mrpc",
            ("sentence1", "sentence2"),
            ("not_equivalent", "equivalent"),
            ("accuracy", "f1"),
            "f1",
        ),
        Task(
            "qnli",
            ("question", "sentence"),
            ("entailment", "not_entailment"),
            ("accuracy",),
            "accuracy",
        ),
        Task(
            "qqp",
            ("question1", "question2"),
            ("not_duplicate", "duplicate"),
            ("accuracy", "f1"),
            "accuracy",
        ),
        Task(
            "rte",
            ("sentence1", "sentence2"),
            ("entailment", "not_entailment"),
            ("accuracy",),
            "accuracy",
        ),
        Task("sst2", ("sentence",), ("negative", "positive"), ("accuracy",), "accuracy"),
        Task("stsb", ("sentence1", "sentence2"), (), ("pearson", "spearman"), "pearson"),
        Task(
            "wnli",
            ("sentence1", "sentence2"),
            ("not_entailment", "entailment"),
            ("accuracy",),
            "accuracy",
        ),
        # not of GLUE, but of the paper's table 2; measured on its test set, it has no other
        Task(
            "imdb",
            ("text",),
            ("neg", "pos"),
            ("accuracy",),
            "accuracy",
            validation=("test",),
            test=(),
            hub="stanfordnlp/imdb",
            max_length=512,
        ),
    )
}


def task(name: str) -> Task:
    """The task of that name; ValueError with the names that there are otherwise."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}: give one of {', '.join(TASKS)}")
    return TASKS[name]


def load(name: str, source: str | Path) -> DatasetDict:
    """A task's splits as `datasets` objects.

    Args:
        name: of the task.
        source: a folder that holds ``<task>/<split>.parquet``, or a Hub id such as
            ``nyu-mll/glue`` (a task with a Hub dataset of its own comes from there).

    Raises:
        ValueError: unknown task; columns or labels that are not the task's.
        FileNotFoundError: no training or no validation file.
    """
    the_task = task(name)
    import datasets

    folder = Path(source).expanduser() / name
    if folder.is_dir() or (folder.parent.is_dir() and not the_task.hub):
        import pyarrow.parquet

        data = datasets.DatasetDict(
            {
                file.stem: datasets.Dataset(pyarrow.parquet.read_table(file))
                for file in sorted(folder.glob("*.parquet"))
            }
        )
        missing = [s for s in ("train", *the_task.validation) if s not in data]
        if missing:
            raise FileNotFoundError(f"{folder} has no {missing[0]}.parquet")
    elif str(source).startswith(("/", "./", "../", "~")) and not folder.parent.is_dir():
        raise FileNotFoundError(f"no folder of GLUE tasks at {source}")
    else:
        data = datasets.load_dataset(*([the_task.hub] if the_task.hub else [str(source), name]))
    for split in ("train", *the_task.validation):
        if split not in data:
            raise ValueError(f"{source}, {name}: no part {split!r}, only {', '.join(data)}")
        _check_split(the_task, data[split], f"{source}, {name}, {split}")
    return data


def _check_split(the_task: Task, data: Any, where: str) -> None:
    absent = [c for c in (*the_task.columns, "label") if c not in data.column_names]
    if absent:
        raise ValueError(f"{where}: no column {absent[0]!r}, only {', '.join(data.column_names)}")
    try:
        labels = np.asarray(data["label"][:], dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{where}: the column 'label' holds {data.features['label']}, not numbers"
        ) from None
    if not len(labels):
        raise ValueError(f"{where}: no examples")
    if the_task.regression:
        wrong = ~((labels >= 0) & (labels <= 5))
        allowed = "0 to 5"
    else:
        wrong = ~np.isin(labels, np.arange(len(the_task.labels)))
        allowed = ", ".join(f"{i} ({label})" for i, label in enumerate(the_task.labels))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"{where}: label {labels[row]:g} in row {row}; labels are {allowed}")


def scores(name: str, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """The task's metrics through `evaluate`, offline; None where a metric is undefined.

    Args:
        name: of the task.
        predictions: [examples], class numbers, or real values for STS-B.
        labels: [examples].
    """
    from distilkit.data.metrics import GlueMetric  # `evaluate` is needed only here

    the_task = task(name)
    metric = GlueMetric(name, the_task.metrics, regression=the_task.regression)
    return metric.compute(predictions=predictions, references=labels)


def task_examples(
    data: Any,
    the_task: Task,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    seed: int,
) -> Examples:
    """A split as training data for the loop.

    Args:
        data: a split with the task's columns; without ``label``, as GLUE's test sets may be, the
            labels are -1.
        the_task: a row of the table.
        tokenizer: the model's.
        max_length: longer inputs are cut, the longer text of a pair first.
        seed: of the order.
    """
    # sliced first: a Column of datasets hands out its rows one by one, fifty times slower
    texts = [list(data[column][:]) for column in the_task.columns]
    encoded = tokenizer(*texts, truncation=True, max_length=max_length, return_token_type_ids=True)
    names = getattr(data, "column_names", None) or list(data)
    labels = data["label"][:] if "label" in names else np.full(len(texts[0]), -1)
    kind = np.float32 if the_task.regression else np.int64
    return Examples(encoded, np.asarray(labels, kind), pad_id=tokenizer.pad_token_id, seed=seed)
