"""Where a student answers as its teacher does, and where not, example by example.

Fidelity as Stanton et al. 2021 measure it (arXiv 2106.05945, section 3): the share of examples with
the same answer, and the mean KL(teacher ‖ student). A mean hides that small models lose some kinds
of examples first (Hooker et al. 2019, arXiv 1911.05248), so it is taken group by group here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax
from transformers import PreTrainedTokenizerBase

from distilkit.config import Scale, home
from distilkit.data.examples import Examples
from distilkit.data.sources import load_task
from distilkit.data.tasks import Task, get_task, task_examples
from distilkit.masking import SMOOTHING
from distilkit.run import Run
from distilkit.study.arms import run_name
from distilkit.study.intervals import matched_interval, share_interval

if TYPE_CHECKING:
    import pandas as pd

# STS-B's scale goes from 0 to 5: an answer so near to the label is right, two so near are the same
TOLERANCE = 0.5
LENGTHS = ("short", "middling", "long")  # thirds of a task's examples, by tokens
RARITIES = ("rare", "middling", "common")  # and by how common the rarest token is
_NEGATION = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|nowhere|neither|nor|cannot|without)\b|n['’]t\b", re.I
)
_RIGHT = {(1, 1): "both", (1, 0): "teacher", (0, 1): "student", (0, 0): "neither"}


def compare_runs(
    scale: Scale,
    tokenizer: PreTrainedTokenizerBase,
    weights: np.ndarray,
    *,
    teacher: str = "teacher",
    student: str = "distilled",
    split: str = "validation",
    prefix: str = "",
) -> pd.DataFrame:
    """What two arms of :func:`distilkit.study.arms.finetune_arms` answered to the same examples.

    Nothing is computed anew: the answers are those that the runs keep.

    Args:
        scale: whose tasks and seeds.
        tokenizer: the arms'.
        weights: [V] masking weights of the text that the student was distilled on
            (``load_blocks(scale, tokenizer)[0].weights``), which say how rare a token is there.
        teacher, student: the arms.
        split, prefix: as for :func:`distilkit.study.arms.finetune_arms`.

    Returns:
        The tables of :func:`compare_answers`, one below the other, with a column ``seed``.

    Raises:
        FileNotFoundError: a run is not there, not finished, or has no predictions.
        ValueError: a run was scored on other examples than the task holds now.
    """
    import pandas as pd

    tables = []
    for task in scale.tasks:
        the_task = get_task(task)
        measured = getattr(the_task, split)[0]
        data = load_task(scale, task)[measured]
        for seed in scale.seeds:
            names = (run_name(prefix, scale, task, arm, seed) for arm in (teacher, student))
            runs = [Run(home() / "runs" / name) for name in names]
            logits = [run.predictions()[measured] for run in runs]
            seen = [_examples_of(run, data, the_task, tokenizer, measured) for run in runs]
            table = compare_answers(task, data, seen[0], *logits, tokenizer, weights)
            table.insert(1, "seed", seed)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _examples_of(
    run: Run, data: Any, the_task: Task, tokenizer: PreTrainedTokenizerBase, split: str
) -> Examples:
    """The examples as the run read them; ValueError if they are others now."""
    config = run.config()
    examples = task_examples(data, the_task, tokenizer, max_length=config["max_length"], seed=0)
    if examples.digest() != config["data"].get(split):
        raise ValueError(
            f"run {run.name!r} was scored on other examples than {the_task.name}'s {split!r} holds "
            f"now (or with another tokenizer): delete {run.path} and fine-tune again"
        )
    return examples


def compare_answers(
    task: str,
    data: Any,
    examples: Examples,
    teacher: np.ndarray,
    student: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    weights: np.ndarray,
) -> pd.DataFrame:
    """A split, example by example, with both models' answers.

    Args:
        task: its name.
        data: the split: its texts, ``label``, and ``phenomenon`` if there is one (GLUE has none).
        examples: the same, encoded.
        teacher, student: logits [examples, C].
        tokenizer: that encoded them.
        weights: [V], as :func:`distilkit.masking.masking_weights` makes them.

    Returns:
        A row an example. What it is: ``task``, ``example`` (its row), ``text``, ``text_pair`` (""
        for tasks of one text), ``label``, ``phenomenon`` (None without), ``negation`` (a text has
        a word like *not*, *never*, *n't*), ``tokens``, ``rarest`` (its rarest token) and ``count``
        (how often that stands in the text of `weights`; 1 for once or never), ``length`` and
        ``rarity`` (:data:`LENGTHS`, :data:`RARITIES`: thirds of the split, but equal values stay
        together).

        Of each model, here ``teacher``: its answer ``teacher``, that answer's probability
        ``teacher_confidence``, whether it is right ``teacher_correct``, and its losses against the
        label, ``teacher_nll`` (nats) and ``teacher_brier`` (Brier 1950: squared errors summed over
        the classes).

        Of both: ``agree``; ``right`` ("both", "teacher", "student", "neither"); ``kl``,
        KL(teacher ‖ student) in nats. For regression an answer within :data:`TOLERANCE` of the
        label is right, and two within it agree; ``difference`` is the absolute difference of the
        answers; probabilities, losses and ``kl`` are undefined (NaN), as ``difference`` is for
        classes.

    Raises:
        ValueError: the logits are not one row for each example, or there is no example.
    """
    import pandas as pd

    the_task = get_task(task)
    shape = (len(examples), max(1, len(the_task.labels)))
    if teacher.shape != shape or student.shape != shape or not len(examples):
        raise ValueError(
            f"{task}: logits {teacher.shape} of the teacher and {student.shape} of the student for "
            f"{shape[0]} examples of {shape[1]} class(es): give [examples, C] of both"
        )
    columns = getattr(data, "column_names", None) or list(data)
    texts = [list(data[column][:]) for column in the_task.columns]
    table = pd.DataFrame({"task": task, "example": np.arange(len(examples)), "text": texts[0]})
    table["text_pair"] = texts[1] if len(texts) > 1 else ""
    table["label"] = _named(the_task, examples.labels)
    table["phenomenon"] = list(data["phenomenon"][:]) if "phenomenon" in columns else None
    table["phenomenon"] = table["phenomenon"].astype(object)
    negated = [[bool(_NEGATION.search(text)) for text in column] for column in texts]
    table["negation"] = np.any(negated, axis=0)
    table["tokens"] = examples.lengths
    rarest = [int(ids[weights[ids].argmax()]) for ids in examples.input_ids]
    table["rarest"] = tokenizer.convert_ids_to_tokens(rarest)
    table["count"] = _counts(weights[rarest])
    table["length"] = _thirds(table["tokens"], LENGTHS)
    table["rarity"] = _thirds(table["count"], RARITIES)
    answers = _values if the_task.regression else _classes
    for name, logits in (("teacher", teacher), ("student", student)):
        for column, values in answers(the_task, logits, examples.labels).items():
            table[f"{name}{column}"] = values
    if the_task.regression:
        apart = np.abs(teacher.astype(np.float64) - student)[:, 0]
        kl, table["agree"] = np.nan, apart <= TOLERANCE
    else:
        apart, table["agree"] = np.nan, table["teacher"] == table["student"]
        p, q = (log_softmax(logits.astype(np.float64), axis=1) for logits in (teacher, student))
        kl = (np.exp(p) * (p - q)).sum(1)
    correct = zip(table["teacher_correct"], table["student_correct"], strict=True)
    table["right"] = [_RIGHT[pair] for pair in correct]
    return table.assign(kl=kl, difference=apart)


def _classes(the_task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    log_p = log_softmax(logits.astype(np.float64), axis=1)  # examples, C
    rows, answers = np.arange(len(labels)), logits.argmax(1)
    one_hot = np.eye(logits.shape[1])[labels]
    return {
        "": _named(the_task, answers),
        "_confidence": np.exp(log_p[rows, answers]),
        "_correct": answers == labels,
        "_nll": -log_p[rows, labels],
        "_brier": ((np.exp(log_p) - one_hot) ** 2).sum(1),
    }


def _values(the_task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    near = np.abs(logits[:, 0].astype(np.float64) - labels) <= TOLERANCE
    undefined = dict.fromkeys(("_confidence", "_nll", "_brier"), np.nan)
    return {"": _named(the_task, logits[:, 0]), "_correct": near, **undefined}


def _named(the_task: Task, values: np.ndarray) -> np.ndarray:
    """The names of classes, or numbers as they are; as objects, for both stand in one column."""
    names = [float(v) if the_task.regression else the_task.labels[int(v)] for v in values]
    return np.array(names, dtype=object)


def _counts(weights: np.ndarray) -> np.ndarray:
    """Masking weights are counts to the power of -0.7; of special tokens they are 0: NaN."""
    known = np.where(weights > 0, weights, np.nan)
    return np.rint(known ** (-1 / SMOOTHING))


def _thirds(values: pd.Series, names: Sequence[str]) -> pd.Series:
    import pandas as pd

    return pd.cut(values.rank(pct=True), [0, 1 / 3, 2 / 3, 1], labels=names)


def by_group(examples: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """How often both are right, and how often they agree, group by group.

    Args:
        examples: as :func:`compare_runs` gives them; rows without a value in `by` are left out.
        by: columns, for instance ``["task", "phenomenon"]``, ``"negation"``, ``"length"``.

    Returns:
        A row a group, in percent of its ``n`` examples (a mean over seeds counts as one): right
        answers of ``teacher`` and ``student``; ``gap``, the teacher's minus the student's, with
        its 95 % interval ``gap_low`` to ``gap_high``
        (:func:`distilkit.study.intervals.matched_interval`); ``agreement``, the share with the same
        answer, and its interval; ``kl``, the mean in nats. NaN where undefined: in a group without
        examples. The intervals are those of one seed: they say what other examples would do, not
        what another fine-tuning would.
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


def worst_disagreements(examples: pd.DataFrame, count: int = 20, by: str = "kl") -> pd.DataFrame:
    """The examples that get different answers, the furthest apart first, as a table to read.

    Args:
        examples: as :func:`compare_runs` gives them.
        count: at most so many.
        by: "kl" for classes, or "difference" for regression; each leaves out the other's examples.

    Returns:
        ``task, seed, example, text`` (of a pair both, with a bar between), ``label, teacher,
        student`` (each with its confidence), `by` and ``phenomenon``.
    """
    if by not in ("kl", "difference"):
        raise ValueError(f"by = {by!r}: give 'kl' (classes) or 'difference' (regression)")
    apart = examples[~examples["agree"] & examples[by].notna()]
    worst = apart.sort_values(by, ascending=False, kind="stable").head(count)
    said = {
        model: [
            f"{answer:.2f}" if by == "difference" else f"{answer} {p:.1%}"
            for answer, p in zip(worst[model], worst[f"{model}_confidence"], strict=True)
        ]
        for model in ("teacher", "student")
    }
    texts = worst["text"] + np.where(worst["text_pair"] == "", "", " | " + worst["text_pair"])
    columns = ["task", "seed", "example", "text", "label", *said, by, "phenomenon"]
    return worst.assign(text=texts, **said)[columns].reset_index(drop=True)
