"""A task: its columns, labels, metrics and splits; GLUE's nine, IMDb and SQuAD in one table.

Wang et al. 2019 (arXiv 1804.07461), section 3 and table 1. Files: distilkit.data.task_files. A task
of one's own holds its data: :func:`distilkit.data.own_task.task_from`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

# The first three are what transformers calls them (`problem_type`)
Kind = Literal[
    "single_label_classification",
    "multi_label_classification",
    "regression",
    "token_classification",
    "question_answering",
]
UNLABELLED = -1  # the label of an example, or of a word, without one; NaN where labels are real


@dataclass(frozen=True)
class Task:
    """A data set: its columns, labels, metrics and splits.

    The column ``label`` holds a class number, or in regression a real number. With several labels
    it holds a 0 or 1 for each, on words a class number for each. For spans it is SQuAD's
    ``answers``, texts and their first characters: ``{"text": [...], "answer_start": [...]}``.
    """

    name: str
    title: str  # as the paper's tables spell it
    columns: tuple[str, ...]  # one or two texts; a list of words; a question and its passage
    labels: tuple[str, ...]  # names in the order of their numbers; none without classes
    kind: Kind = "single_label_classification"
    metrics: tuple[str, ...] = ("accuracy",)  # what is reported
    score: str = "accuracy"  # the one that enters the macro-score (as in the paper's table 1)
    validation: tuple[str, ...] = ("validation",)
    test: tuple[str, ...] = ("test",)
    hub: str | None = None  # its own data set on the Hub; None: a configuration of GLUE's
    max_length: int = 128  # tokens, unless the caller or the model says fewer
    # Of a task of one's own: its splits; their SHA-256, which differs between tasks; and what
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
        """Tell whether each word has a label, rather than the text."""
        return self.kind == "token_classification"

    @property
    def on_spans(self) -> bool:
        """Tell whether the answer is a part of the text."""
        return self.kind == "question_answering"

    @property
    def head(self) -> str:
        """The name of the model head for it in transformers."""
        if self.on_words:
            return "TokenClassification"
        return "QuestionAnswering" if self.on_spans else "SequenceClassification"

    @property
    def outputs(self) -> int:
        """The width of the model's head."""
        return {"regression": 1, "question_answering": 2}.get(self.kind, len(self.labels))


TABLE = Path(__file__).with_name("tasks.toml")
TASKS: Mapping[str, Task] = {
    name: Task(name, **{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
    for name, fields in tomllib.loads(TABLE.read_text(encoding="utf-8")).items()
}


def get_task(task: str | Task) -> Task:
    """Return the task of that name; ValueError with the known names. A `Task` is returned as is."""
    if isinstance(task, Task):
        return task
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}: give one of {', '.join(TASKS)}")
    return TASKS[task]


def check_metrics(task: Task) -> None:
    """Raise ValueError for metrics that the task's kind does not have."""
    classes = "accuracy", "macro_f1", "micro_f1", "matthews"
    known = {
        "single_label_classification": (*classes, *(["f1"] if len(task.labels) == 2 else [])),
        "multi_label_classification": classes[:3],
        "regression": ("pearson", "spearman", "rmse"),
        # of entities alone, or of words
        "token_classification": ("entity_f1",) if "entity_f1" in task.metrics else classes,
        "question_answering": ("f1", "exact_match"),
    }[task.kind]
    known_score = task.score in task.metrics and task.score != "rmse"
    if not known_score or not set(task.metrics) <= set(known):
        raise ValueError(
            f"{task.name}: metrics = {task.metrics}, score = {task.score!r}: a {task.kind} has "
            f"{', '.join(known)}; the score is one of the metrics, but no error (rmse)"
        )


def in_words(task: Task, answer: Any) -> Any:
    """Return an answer or a label in the task's words; "" for a class that is missing (-1)."""
    if task.on_spans:
        return answer
    if task.regression:
        return float(answer)
    if task.on_words:
        return " ".join(task.labels[int(i)] if i >= 0 else "-" for i in answer)
    if task.kind == "multi_label_classification":
        return ", ".join(name for name, on in zip(task.labels, answer, strict=True) if on == 1)
    return task.labels[int(answer)] if answer >= 0 else ""


def scores(name: str | Task, predictions: Any, labels: Any) -> dict[str, float | None]:
    """Compute the task's metrics through `evaluate`, offline; None where one is undefined.

    Predictions and labels by the task's kind are those of
    :class:`distilkit.data.metrics.TaskMetric`.
    """
    from distilkit.data.metrics import TaskMetric  # `evaluate` is needed only here

    task = get_task(name)
    metric = TaskMetric(task.kind, task.labels, task.metrics)
    return metric.compute(predictions=predictions, references=labels)


def chance_score(task: Task, labels: Any) -> float:
    """Return the score of the best constant answer: 0 where the score is a correlation."""
    if task.on_spans or task.score in ("entity_f1", "matthews", "pearson", "spearman"):
        return 0.0  # no span, no entity anywhere, or no correlation
    if task.on_words:
        labels = np.concatenate([np.asarray(sentence) for sentence in labels])
        labels = labels[labels != UNLABELLED]
    labels = np.asarray(labels)
    several = labels.ndim > 1
    if task.score == "f1":  # of answering 1 always
        return float(2 * labels.mean() / (1 + labels.mean()))
    # of each class; or of each combination of several labels
    shares = np.unique(labels, axis=0, return_counts=True)[1] / len(labels)
    if task.score == "accuracy" or (task.score == "micro_f1" and not several):
        return float(shares.max())
    if task.score == "macro_f1":  # always one class; of several labels all of them
        shares = labels.mean(0) if several else shares
        each = 2 * shares / (1 + shares)
        return float(each.mean() if several else each.max() / len(each))
    # micro-averaged F1 of several labels: always the k most frequent ones, with the best k
    shares = np.sort(labels.mean(0))[::-1]
    found, answered = shares.cumsum(), np.arange(1, len(shares) + 1)
    return float((2 * found / (answered + shares.sum())).max())
