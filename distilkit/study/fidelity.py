"""Fidelity of a student to its teacher, example by example and by groups of examples.

Fidelity as in Stanton et al. 2021 (arXiv 2106.05945, section 3): the share of equal predictions and
the mean KL(teacher ‖ student). Small models lose some kinds of examples first (Hooker et al. 2019,
arXiv 1911.05248), so means are taken group by group.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax
from transformers import PreTrainedTokenizerBase

from distilkit.config import Scale
from distilkit.data.examples import Examples
from distilkit.data.sources import load_task
from distilkit.data.task_examples import column_names, task_examples
from distilkit.data.tasks import Task, get_task
from distilkit.run import Run
from distilkit.study.arms import run_of
from distilkit.study.intervals import matched_interval, share_interval

TOLERANCE = 0.5  # of STS-B's scale (0 to 5): predictions so near to the label count as right
LENGTHS = ("short", "middling", "long")  # thirds of a task's examples, by tokens
_NEGATION = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|nowhere|neither|nor|cannot|without)\b|n['’]t\b", re.I
)


def compare_runs(
    scale: Scale, tokenizer: PreTrainedTokenizerBase, student: str = "distilled"
) -> pd.DataFrame:
    """Compare the stored predictions of the arm "teacher" and of another.

    They are those of :func:`distilkit.study.arms.finetune_arms`, and read the same tokenizer.
    Returns the tables of :func:`compare_answers`, concatenated, with a column ``seed``. ValueError
    if a run was scored on other examples than the task holds now.
    """
    tables = []
    for task in scale.tasks:
        description = get_task(task)
        measured = description.validation[0]
        data = load_task(scale, task)[measured]
        for seed in scale.seeds:
            runs = [run_of("", scale, task, arm, seed) for arm in ("teacher", student)]
            logits = [run.predictions()[measured] for run in runs]
            examples, _ = (
                _examples_of(run, data, description, tokenizer, measured) for run in runs
            )
            table = compare_answers(task, data, examples, *logits)
            table.insert(1, "seed", seed)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _examples_of(
    run: Run, data: Any, description: Task, tokenizer: PreTrainedTokenizerBase, split: str
) -> Examples:
    """Encode the examples as the run read them; ValueError if they have changed since."""
    config = run.config()
    examples = task_examples(data, description, tokenizer, max_length=config["max_length"], seed=0)
    if examples.digest() != config["data"].get(split):
        raise ValueError(
            f"run {run.name!r} was scored on other examples than {description.name}'s {split!r} "
            f"holds now (or with another tokenizer): delete {run.path} and fine-tune again"
        )
    return examples


def compare_answers(
    task: str | Task, data: Any, examples: Examples, teacher: np.ndarray, student: np.ndarray
) -> pd.DataFrame:
    """List a split's examples with the predictions of both models.

    Args:
        data: the split: its texts, ``label``, and ``phenomenon`` if there is one (GLUE has none).
        examples: the same, encoded.
        teacher, student: logits [examples, C].

    Returns:
        A row an example. Of the example: ``task``, ``example`` (its row), ``text``, ``text_pair``,
        ``label``, ``phenomenon``, ``tokens``, ``negation`` (a word like *not*, *never*, *n't*).
        ``length``: thirds of the split by tokens, equal values together.

        Of each model, here ``teacher``: its prediction ``teacher``, ``teacher_confidence``,
        ``teacher_correct``. Of both: ``agree``; ``kl``, KL(teacher ‖ student) in nats;
        ``difference``, in regression only. There, predictions within :data:`TOLERANCE` of the label
        are right, and two within it agree; probabilities and ``kl`` are NaN.
    """
    description = get_task(task)
    if description.kind not in ("single_label_classification", "regression"):
        raise ValueError(
            f"{task} has several labels an example: answers are compared where each has one"
        )
    texts = [list(data[column][:]) for column in description.columns]
    table = pd.DataFrame({"task": str(task), "example": np.arange(len(examples)), "text": texts[0]})
    table["text_pair"] = texts[1] if len(texts) > 1 else ""
    table["label"] = _named(description, examples.labels)
    table["phenomenon"] = (
        list(data["phenomenon"][:]) if "phenomenon" in column_names(data) else None
    )
    table["phenomenon"] = table["phenomenon"].astype(object)
    negated = [[bool(_NEGATION.search(text)) for text in column] for column in texts]
    table["negation"] = np.any(negated, axis=0)
    table["tokens"] = examples.lengths
    ranks = table["tokens"].rank(pct=True)
    table["length"] = pd.cut(ranks, [0, 1 / 3, 2 / 3, 1], labels=LENGTHS)
    answers = _values if description.regression else _classes
    for name, logits in (("teacher", teacher), ("student", student)):
        for column, values in answers(description, logits, examples.labels).items():
            table[f"{name}{column}"] = values
    if description.regression:
        apart = np.abs(teacher.astype(np.float64) - student)[:, 0]
        kl, table["agree"] = np.nan, apart <= TOLERANCE
    else:
        apart, table["agree"] = np.nan, table["teacher"] == table["student"]
        p, q = (log_softmax(logits.astype(np.float64), axis=1) for logits in (teacher, student))
        kl = (np.exp(p) * (p - q)).sum(1)
    return table.assign(kl=kl, difference=apart)


def _classes(description: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    log_p = log_softmax(logits.astype(np.float64), axis=1)  # examples, C
    rows, answers = np.arange(len(labels)), logits.argmax(1)
    return {
        "": _named(description, answers),
        "_confidence": np.exp(log_p[rows, answers]),
        "_correct": answers == labels,
    }


def _values(description: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    near = np.abs(logits[:, 0].astype(np.float64) - labels) <= TOLERANCE
    return {"": _named(description, logits[:, 0]), "_correct": near, "_confidence": np.nan}


def _named(description: Task, values: np.ndarray) -> np.ndarray:
    """Return the names of classes, or numbers; as objects, since both share a column."""
    names = [float(v) if description.regression else description.labels[int(v)] for v in values]
    return np.array(names, dtype=object)


def by_group(examples: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Average accuracy and agreement, group by group.

    Args:
        examples: as :func:`compare_runs` gives them; rows without a value in `by` are left out.
        by: columns, for instance ``["task", "phenomenon"]``, ``"negation"``, ``"length"``.

    Returns:
        A row a group, in percent of its ``n`` examples, averaged over seeds: accuracy of
        ``teacher`` and ``student``, their ``gap`` and ``agreement``. The latter two have 95 %
        intervals, ``_low`` to ``_high``, which cover sampling of examples, not seeds. ``kl``: the
        mean in nats. NaN in a group without examples.
    """
    by = [by] if isinstance(by, str) else list(by)
    each = list(dict.fromkeys([*by, "task", "example"]))
    teacher, student = (examples[f"{name}_correct"] for name in ("teacher", "student"))
    cases = examples[[*each, "agree", "kl"]].assign(
        teacher=teacher, student=student, lost=teacher & ~student, gained=student & ~teacher
    )
    shares = ["teacher", "student", "lost", "gained", "agree", "kl"]
    cases = cases.groupby(each, observed=True, sort=False)[shares].mean()  # over seeds
    groups = cases.reset_index().groupby(by, observed=False)
    n, mean = groups.size(), groups[shares].mean()
    table = n.to_frame("n").assign(teacher=100 * mean.teacher, student=100 * mean.student)
    table["gap"] = table.teacher - table.student
    low, high = matched_interval(mean.lost, mean.gained, n)
    table["gap_low"], table["gap_high"] = 100 * low, 100 * high
    table["agreement"] = 100 * mean.agree
    low, high = share_interval(mean.agree, n)
    return table.assign(agreement_low=100 * low, agreement_high=100 * high, kl=mean.kl)
