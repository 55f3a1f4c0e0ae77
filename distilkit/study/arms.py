"""Fine-tune several checkpoints (arms) on the same tasks with the same seeds; one table.

The paper reports GLUE as "median of 5 runs with different seeds" (Sanh et al. 2019, table 1); here
the scores of all seeds are stored, so that a figure can show the spread.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PreTrainedTokenizerBase

from distilkit.checkpoint import write_atomically
from distilkit.config import Scale, TrainingConfig
from distilkit.data.sources import load_task
from distilkit.data.task_examples import is_scored
from distilkit.data.tasks import Task, get_task
from distilkit.finetuning import classifier, fine_tuned_on, finetune
from distilkit.run import Run, run_folder
from distilkit.study.run_parallel import run_parallel

POINTS = 100  # GLUE reports every metric times 100
LEAST_TEACHER_SCORE = 10  # points; the share of a lower score is not meaningful


def finetune_arms(
    arms: Mapping[str, str | Path],
    tokenizer: PreTrainedTokenizerBase,
    scale: Scale,
    *,
    split: str = "validation",
    prefix: str = "",
    keep: Sequence[str] = (),
    with_teacher: Sequence[str] = (),
) -> pd.DataFrame:
    """Fine-tune each arm on each of the scale's tasks with each of its seeds.

    Every fine-tuning is a run ``<prefix><scale>-<arm>-<task>-<seed>``, so an interrupted sweep
    resumes. Only the fine-tuned weights of `keep` are saved: a sweep would fill the disk.

    Args:
        arms: arm -> a checkpoint for ``from_pretrained`` (folder or Hub id).
        tokenizer: of all arms.
        scale: tasks, seeds, and how to fine-tune.
        split: "validation" or "test", the source of the scores. The other is not used.
        prefix: of the runs' names.
        keep: arms whose fine-tuned weights are kept.
        with_teacher: arms that also learn from the soft targets of the arm ``teacher``, fine-tuned
            on the same task with the same seed.

    Returns:
        A row per arm, seed and task: ``arm, seed, task, metric, score, train_seconds``. Scores in
        points (-100 to 100), for MNLI on the matched set. A correlation with constant answers
        counts as 0, as in scikit-learn: such a model must not drop out of a comparison. On a CPU
        runs are parallel; their ``train_seconds`` overlap.

    ValueError before any training if a split is missing or unlabelled (GLUE's own test sets).
    """
    if with_teacher and not ("teacher" in arms and "teacher" in keep):
        raise ValueError(
            f"with_teacher = {tuple(with_teacher)}: needs an arm 'teacher', and it in `keep`"
        )
    if split not in ("validation", "test"):
        raise ValueError(f"split = {split!r}: give 'validation' or 'test'")

    for task in scale.tasks:
        train_and_measured(split, task, scale)

    def finetuned(task: str | Task, arm: str, seed: int) -> dict[str, Any]:
        """Make one row of the table."""
        data, teacher = train_and_measured(split, task, scale), None
        if arm in with_teacher:
            teacher = fine_tuned_on(run_of(prefix, scale, task, "teacher", seed).model, task)
        name = run_of(prefix, scale, task, arm, seed).name
        more = {"name": name, "teacher": teacher, "keep_model": arm in keep}
        run = finetune_from(arms[arm], seed, tokenizer, task, data, scale.finetuning, **more)
        result = run.result()
        metric = get_task(task).score
        value = result["scores"][list(data)[-1]][metric]
        return {
            "arm": arm,
            "seed": seed,
            "task": str(task),
            "metric": metric,
            "score": 0.0 if value is None else POINTS * value,
            "train_seconds": result["seconds"],
        }

    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    plan = [(task, arm, seed) for task in scale.tasks for arm in arms for seed in scale.seeds]
    for second in (False, True):  # the teacher's fine-tunings come first
        part = [each for each in plan if (each[1] in with_teacher) == second]
        if all(run_of(prefix, scale, *each).finished for each in part):
            results = [finetuned(*each) for each in part]  # only read
        else:
            results = run_parallel(finetuned, part, "fine-tune")
        rows |= zip(part, results, strict=True)
    return pd.DataFrame([rows[each] for each in plan])


def run_of(prefix: str, scale: Scale, task: str | Task, arm: str, seed: int) -> Run:
    """Return the run in which :func:`finetune_arms` fine-tunes an arm."""
    return Run(run_folder(f"{prefix}{scale.name}-{arm}-{task}-{seed}"))


def finetune_from(
    checkpoint: str | Path,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
    task: str | Task,
    data: dict[str, Any],
    training: TrainingConfig,
    **more: Any,
) -> Run:
    """Fine-tune a checkpoint with a new head; head, order and dropout come from `seed`."""
    model, training = classifier(checkpoint, task, seed), replace(training, seed=seed)
    return finetune(model, tokenizer, task, data, training, **more)


def train_and_measured(split: str, task: str | Task, scale: Scale) -> dict[str, Any]:
    """Load the training examples of a task and those that it is scored on, which come last.

    The last task that is read from files stays in memory for the next arm and seed.
    """
    in_memory = get_task(task).data is not None  # and tasks are equal whatever their data
    return (_read_splits.__wrapped__ if in_memory else _read_splits)(split, task, scale)


@lru_cache(maxsize=1)
def _read_splits(split: str, task: str | Task, scale: Scale) -> dict[str, Any]:
    measured = next(iter(getattr(get_task(task), split)), split)
    splits = load_task(scale, task)
    if measured not in splits or not is_scored(get_task(task), splits[measured], measured):
        raise ValueError(
            f"{task} has no labelled examples in {measured!r}: measure on the validation sets, or "
            "take tasks whose test labels are public"
        )
    return {name: splits[name] for name in ("train", measured)}


def check_table(out: str | Path) -> Path:
    """Return the path of a table to be written; ValueError for a folder, or one not writable."""
    out = Path(out)
    if not out.name or out.is_dir():
        raise ValueError(f"out = {str(out)!r}: give a csv file, not a folder")
    there = next(folder for folder in out.absolute().parents if folder.exists())
    if not os.access(there, os.W_OK):
        raise ValueError(f"out = {str(out)!r}: {there} cannot be written to")
    return out


def write_table(table: pd.DataFrame, out: Path) -> pd.DataFrame:
    """Write a table of scores as csv, six significant digits each; return it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, table.to_csv(index=False, float_format="%.6g").encode())
    return table


def macro_scores(scores: pd.DataFrame, *, without: tuple[str, ...] = ()) -> pd.DataFrame:
    """Tabulate ``arm, seed, score``: the mean over tasks, NaN where a task has no score.

    `without` leaves tasks out, as GLUE's own authors advise for WNLI, where the paper's models sit
    at the majority class.
    """
    scores = scores[~scores.task.isin(without)]
    sums = scores.groupby(["arm", "seed"], sort=False)["score"].sum(min_count=scores.task.nunique())
    return (sums / scores.task.nunique()).reset_index()


def results_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Tabulate the median over seeds for each arm and task, and of the macro-score.

    Columns: the tasks, ``macro``, ``macro without wnli`` (if WNLI is there), and the macro's
    ``low`` and ``high`` over seeds.
    """
    table = scores.pivot_table(
        index="arm", columns="task", values="score", aggfunc="median", sort=False, dropna=False
    )
    macro = macro_scores(scores).groupby("arm", sort=False)["score"]
    table["macro"], table["low"], table["high"] = macro.median(), macro.min(), macro.max()
    if "wnli" in table:
        without = macro_scores(scores, without=("wnli",)).groupby("arm")["score"].median()
        table.insert(len(table.columns) - 2, "macro without wnli", without)
    table.columns.name = None
    return table


def retained(scores: pd.DataFrame, student: str, teacher: str) -> pd.DataFrame:
    """Give the student's score in percent of the teacher's, seed by seed.

    Columns ``task, retained, low, high`` (median, lowest and highest over seeds), a row per task
    and one for the macro-score. NaN where the teacher's score is below
    :data:`LEAST_TEACHER_SCORE` with any seed.
    """
    table = pd.concat([scores, macro_scores(scores).assign(task="macro")])
    table = table.pivot_table(
        index=["task", "seed"], columns="arm", values="score", sort=False, dropna=False
    )
    weak = table[teacher].fillna(0).groupby("task").transform("min") < LEAST_TEACHER_SCORE
    share = (100 * table[student] / table[teacher]).mask(weak)
    by_task = share.groupby("task", sort=False)
    return pd.DataFrame(
        {"retained": by_task.median(), "low": by_task.min(), "high": by_task.max()}
    ).reset_index()


def paired_difference(scores: pd.DataFrame, arm: str, control: str) -> dict[str, float]:
    """Return the paired difference `arm` minus `control` in macro-score points: a t-interval."""
    wide = macro_scores(scores).pivot(index="seed", columns="arm", values="score")
    return t_interval((wide[arm] - wide[control]).dropna())


def t_interval(values: pd.Series) -> dict[str, float]:
    """Return ``mean`` over seeds, ``low, high`` of its 95 % t-interval (NaN for one), ``seeds``."""
    from scipy.stats import sem, t

    n, mean = len(values), values.mean()
    # not t.interval, which is NaN where all values are equal
    half = t.ppf(0.975, n - 1) * sem(values) if n > 1 else float("nan")
    return {"mean": mean, "low": mean - half, "high": mean + half, "seeds": n}
