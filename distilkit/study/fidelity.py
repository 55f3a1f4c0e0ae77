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
from distilkit.data.tasks import TASKS, Task, get_task, in_words
from distilkit.study.arms import run_of
from distilkit.study.intervals import matched_interval, share_interval

TOLERANCE = 0.5  # a tenth of STS-B's scale (0 to 5); of other tasks, of the labels' range
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
            encoded = []
            for run in runs:  # as each of them read the examples
                config = run.config()
                how = {"max_length": config["max_length"], "seed": 0}
                encoded.append(task_examples(data, description, tokenizer, **how))
                if encoded[-1].digest() != config["data"].get(measured):
                    raise ValueError(
                        f"run {run.name!r} was scored on other examples than {task}'s {measured!r} "
                        f"holds now (or with another tokenizer): delete {run.path} and fine-tune "
                        "again"
                    )
            table = compare_answers(task, data, encoded[0], *logits)
            table.insert(1, "seed", seed)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


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
        ``difference``, in regression only. There, predictions within a tenth of the labels' range
        are right, and two so near agree; probabilities and ``kl`` are NaN.
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
    phenomena = data["phenomenon"][:] if "phenomenon" in column_names(data) else None
    table["phenomenon"] = pd.Series(phenomena, table.index, dtype=object)
    negated = [[bool(_NEGATION.search(text)) for text in column] for column in texts]
    table["negation"] = np.any(negated, axis=0)
    table["tokens"] = examples.lengths
    ranks = table["tokens"].rank(pct=True)
    table["length"] = pd.cut(ranks, [0, 1 / 3, 2 / 3, 1], labels=LENGTHS)
    labels, logits = examples.labels, [z.astype(np.float64) for z in (teacher, student)]
    if description.regression:
        given, sure = [z[:, 0] for z in logits], [np.nan, np.nan]
        near = TOLERANCE if description == TASKS["stsb"] else 0.1 * np.ptp(labels)
        right = [np.abs(values - labels) <= near for values in given]
        kl, apart = np.nan, np.abs(given[0] - given[1])
        agree = apart <= near
    else:
        p, q = log_p = [log_softmax(z, axis=1) for z in logits]  # examples, C
        given, sure = [z.argmax(1) for z in logits], [np.exp(each.max(1)) for each in log_p]
        right = [answers == labels for answers in given]
        kl, apart, agree = (np.exp(p) * (p - q)).sum(1), np.nan, given[0] == given[1]
    for name, *values in zip(("teacher", "student"), given, sure, right, strict=True):
        table[name] = _named(description, values[0])
        table[f"{name}_confidence"], table[f"{name}_correct"] = values[1:]
    return table.assign(agree=agree, kl=kl, difference=apart)


def _named(description: Task, values: np.ndarray) -> np.ndarray:
    """Return the names of classes, or numbers; as objects, since both share a column."""
    return np.array([in_words(description, value) for value in values], dtype=object)


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
    teacher, student = (examples[f"{name}_correct"] for name in ("teacher", "student"))
    cases = examples[[*dict.fromkeys([*by, "seed"]), "agree", "kl"]].assign(
        teacher=teacher, student=student, lost=teacher & ~student, gained=student & ~teacher
    )
    shares = ["teacher", "student", "lost", "gained", "agree", "kl"]
    groups = cases.groupby(by, observed=False)
    seeds = 1 if "seed" in by else cases["seed"].nunique()
    n, mean = groups.size() // seeds, groups[shares].mean()
    table = n.to_frame("n").assign(teacher=100 * mean.teacher, student=100 * mean.student)
    table["gap"] = table.teacher - table.student
    low, high = matched_interval(mean.lost, mean.gained, n)
    table["gap_low"], table["gap_high"] = 100 * low, 100 * high
    table["agreement"] = 100 * mean.agree
    low, high = share_interval(mean.agree, n)
    return table.assign(agreement_low=100 * low, agreement_high=100 * high, kl=mean.kl)
