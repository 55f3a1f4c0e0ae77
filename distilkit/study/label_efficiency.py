"""Label efficiency: a student's test score against the number of its labels, in three ways.

On labels alone; with a fine-tuned teacher's soft targets on the same texts; and with its soft
targets on all training texts. Every fine-tuning takes the same number of optimizer steps.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from distilkit.config import Scale
from distilkit.data.sources import fewer_examples, load_task
from distilkit.data.task_examples import is_scored
from distilkit.data.tasks import Task, get_task
from distilkit.finetuning import classifier, fine_tuned_on
from distilkit.models.loading import load_tokenizer
from distilkit.models.vocabulary import check_vocabulary
from distilkit.run import Run
from distilkit.study.arms import POINTS, check_table, finetune_from, run_of, t_interval, write_table
from distilkit.study.run_parallel import run_parallel
from distilkit.training_loop import total_steps

LABELS, SAME_TEXTS, ALL_TEXTS = WAYS = ("labels", "soft_targets", "soft_targets_all_texts")
TEACHER = "teacher"  # fine-tuned on all labels
COUNTS = (0, 16, 64, 256, None)  # labels; None: all


class Plan(NamedTuple):
    """Settings that all trainings share."""

    scale: Scale
    students: dict[int, str | Path]  # by seed
    examples: int | None  # of each task's training set; None: all

    def run(self, task: str | Task, arm: str, seed: int) -> Run:
        return run_of("labels-", self.scale, task, arm, seed)

    def splits(self, task: str | Task) -> dict[str, Any]:
        """Load training, validation and test set; the last one is reported."""
        task, splits = get_task(task), load_task(self.scale, task)
        data = {"train": fewer_examples(splits["train"], self.examples)}
        for split in (task.validation[0], *task.test[:1]):
            if split in splits and is_scored(task, splits[split], split):
                data[split] = splits[split]
        if task.validation[0] not in data:
            raise ValueError(f"{task}: no labelled validation set to choose learning rates on")
        return data


def label_efficiency(
    scale: Scale,
    students: Sequence[str | Path],
    *,
    out: Path,
    counts: Sequence[int | None] = COUNTS,
    learning_rates: Sequence[float] | None = None,
    examples: int | None = None,
) -> pd.DataFrame:
    """Fine-tune a student with few and many labels, with and without a teacher; write a table.

    Each fine-tuning is a run, so an interrupted call resumes. The first `count` labels of an order
    drawn from the seed are used; the same ones in each way.

    Args:
        scale: teacher, tasks, seeds, and how to fine-tune.
        students: a checkpoint for each seed, not fine-tuned.
        out: a csv file, written when all is done.
        counts: numbers of labels; None is all. Without labels there is one way, all texts.
        learning_rates: tried for each way and count; by default the scale's and its double.
        examples: of each task's training set; by default all.

    Returns:
        A row each: ``task, seed, way, labels, learning_rate, metric, validation, score``, in
        points. ``score`` is on the test set, or on the validation set if test has no labels. The
        teacher's rows have the way "teacher".
    """
    out = check_table(out)
    rates = tuple(learning_rates or (scale.finetuning.learning_rate * f for f in (1, 2)))
    rates = tuple(dict.fromkeys(rates))
    if len(students) != len(scale.seeds):
        raise ValueError(f"{len(students)} students for {len(scale.seeds)} seeds: each needs one")
    plan = Plan(scale, dict(zip(scale.seeds, students, strict=True)), examples)
    grid = [(task, seed) for task in scale.tasks for seed in scale.seeds]
    of_task: dict[str | Task, dict[int | None, None]] = {}
    for task in scale.tasks:
        available = len(plan.splits(task)["train"])
        if wrong := [count for count in counts if not 0 <= (count or 0) <= available]:
            raise ValueError(f"{task} has {available:,} training examples, not {wrong[0]:,}")
        of_task[task] = dict.fromkeys(None if count == available else count for count in counts)
    for rate in rates:  # what is wrong is refused before the teachers are trained
        replace(scale.finetuning, learning_rate=rate)
    for student in dict.fromkeys(students):
        check_vocabulary(classifier(student, scale.tasks[0], 0), load_tokenizer(scale.teacher))
    teachers = [(plan, *at, TEACHER, None, scale.finetuning.learning_rate) for at in grid]
    rows = run_parallel(_row, teachers, "teachers")
    calls = [
        (plan, task, seed, way, count, rate)
        for task, seed in grid
        for count in of_task[task]
        for way in (WAYS if count != 0 else (ALL_TEXTS,))
        for rate in rates
        if (way, count) != (ALL_TEXTS, None)  # no text is left: the same as SAME_TEXTS
    ]
    rows += run_parallel(_row, calls, "fine-tune")
    return write_table(pd.DataFrame(rows), out)


def best_learning_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the learning rate of the best mean validation score of their curve.

    Chosen for each task, way and number of labels; all seeds share it. With all labels the curve
    of all texts is that of the same texts: there are no others.
    """
    most = table.groupby("task")["labels"].transform("max")
    last = table[table["labels"] == most]
    measured = last.loc[last["way"] == ALL_TEXTS, "task"]  # "all" was not among the counts
    every = last[(last["way"] == SAME_TEXTS) & ~last["task"].isin(measured)]
    table = pd.concat([table, every.assign(way=ALL_TEXTS)], ignore_index=True)
    keys = ["task", "way", "labels", "learning_rate"]
    means = table.groupby(keys, sort=False)["validation"].mean().reset_index()
    best = means.loc[means.groupby(keys[:3], sort=False)["validation"].idxmax(), keys]
    return table.merge(best, on=keys)


def teacher_gains(table: pd.DataFrame) -> pd.DataFrame:
    """Return the gain from a teacher: soft targets on all texts minus labels alone, in points.

    Columns ``task, labels, mean, low, high, seeds``: the mean over seeds with its 95 % t-interval.
    `table` is that of :func:`label_efficiency`; each curve has its best learning rate.
    """
    best = best_learning_rates(table)
    wide = best.pivot(index=["task", "labels", "seed"], columns="way", values="score")
    gains = (wide[ALL_TEXTS] - wide[LABELS]).dropna().groupby(["task", "labels"], sort=False)
    return pd.DataFrame(
        {"task": task, "labels": labels} | t_interval(values) for (task, labels), values in gains
    )


def _row(
    plan: Plan, task: str | Task, seed: int, way: str, count: int | None, rate: float
) -> dict[str, Any]:
    """Fine-tune, or read the finished run; return a row of the table."""
    data, scale = plan.splits(task), plan.scale
    train, training = data["train"], replace(scale.finetuning, learning_rate=rate)
    count = len(train) if count is None else count
    checkpoint, arm, more = scale.teacher, TEACHER, {}
    if way != TEACHER:  # as many steps whatever the number of labels
        checkpoint, arm = plan.students[seed], f"{way}-{count}-{rate:g}"
        more = {"keep_model": False}
        training = replace(training, steps=total_steps(len(train), scale.finetuning))
        order = np.random.default_rng(seed).permutation(len(train))
        data["train"] = train.select(order[:count]) if count else train.remove_columns("label")
    if way in (SAME_TEXTS, ALL_TEXTS):
        more["teacher"] = fine_tuned_on(plan.run(task, TEACHER, seed).model, task)
    if way == ALL_TEXTS and count:
        more["unlabelled"] = train.select(order[count:])
    tokenizer, name = load_tokenizer(scale.teacher), plan.run(task, arm, seed).name
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no training example has a label")  # it is meant
        run = finetune_from(checkpoint, seed, tokenizer, task, data, training, name=name, **more)
    row = {"task": str(task), "seed": seed, "way": way, "labels": count, "learning_rate": rate}
    task, scores = get_task(task), run.result()["scores"]
    reported = {"validation": task.validation[0], "score": list(data)[-1]}
    points = {name: POINTS * (scores[split][task.score] or 0.0) for name, split in reported.items()}
    return {**row, "metric": task.score, **points}
