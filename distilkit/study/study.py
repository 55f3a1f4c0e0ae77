"""The study: all arms with all seeds, scored on test sets, resumable.

Sanh et al. 2019, section 4.2 and table 4, ask what each part of the recipe contributes. Each arm
(:mod:`distilkit.study.conditions`) is one training condition. A seed decides everything random in
it, and all arms are fine-tuned on the same tasks with the same seeds, so differences are paired.
Recipes are tuned on validation sets and other seeds.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from distilkit.config import Scale, TrainingConfig, home
from distilkit.data.sources import load_blocks, load_task, load_teacher
from distilkit.data.tasks import get_task
from distilkit.data.teacher_cache import cached_teacher
from distilkit.distillation import pretrain
from distilkit.models.hub import local_path
from distilkit.models.loading import load_tokenizer
from distilkit.processes import processes
from distilkit.run import Run, as_json
from distilkit.student import named_layer_maps, random_student_like, student_from_teacher
from distilkit.study.arms import check_table, finetune_arms, run_of, train_and_measured, write_table
from distilkit.study.conditions import ARMS, NEEDS, SEEDS
from distilkit.study.cost import Step, readable, study_cost
from distilkit.study.run_parallel import run_parallel

COLUMNS = ["arm", "seed", "task", "metric", "score", "train_seconds"]


def run_study(
    scale: Scale,
    seeds: Iterable[int] = SEEDS,
    arms: Iterable[str] = tuple(ARMS),
    *,
    out: Path,
    teacher_cache: bool = False,
    dry: bool = False,
) -> pd.DataFrame | None:
    """Train the arms with all seeds, fine-tune them on the scale's tasks, and write one table.

    Finished runs are only read, an unfinished one resumes from its checkpoint. The cost of what is
    left is estimated and printed first; the time left after each part.

    Args:
        scale: teacher, text, tasks and trainings.
        seeds: each is a distillation and a fine-tuning of every arm.
        arms: of :data:`ARMS`; those that they need (:data:`NEEDS`) are trained too.
        out: a csv file of :data:`COLUMNS`, replaced when all is done; scores in points on the
            :func:`measured_split`. The same table is returned.
        teacher_cache: share the teacher's hidden states between the arms of a seed, except for
            those whose time is measured.
        dry: print the cost and return None.

    ValueError before anything is trained if there is no such arm, or a task has no labels there.
    """
    arms, seeds = tuple(arms), tuple(seeds)
    if unknown := [arm for arm in arms if arm not in ARMS]:
        raise ValueError(f"unknown arm {unknown[0]!r}: give one of {', '.join(ARMS)}")
    scales = {
        seed: replace(scale, seeds=(seed,), distillation=replace(scale.distillation, seed=seed))
        for seed in seeds
    }
    out, split = check_table(out), measured_split(scale)
    for task in scale.tasks:
        train_and_measured(split, task, scale)  # refuses now what cannot be measured
    planned = study_steps(scales, arms)
    cost = study_cost(scale, planned)
    print(cost)
    if dry:
        return None
    total, started, done = sum(cost.seconds.values()), time.monotonic(), 0.0

    def report_time_left(kind: str, seed: int | None = None) -> None:
        nonlocal done
        of_part = (t for s, t in cost.seconds.items() if s.kind == kind and seed in (None, s.seed))
        done += sum(of_part)
        if 0 < done < total:
            left = (time.monotonic() - started) / done * (total - done)
            tqdm.write(f"study: {done / total:.0%} done, about {readable(left)} left")

    for kind in ("distil", "distil for equal time"):
        # Finished runs included, which are only read. The number of open ones must not decide the
        # number of threads, or an interrupted run could not resume
        of_kind = [step for step in planned if step.kind == kind]
        if not all(step.finished for step in of_kind):
            calls = [(step.arm, scales[step.seed], teacher_cache) for step in of_kind]
            run_parallel(arm_checkpoint, calls, "distil")
            report_time_left(kind)
    parts = []
    for seed, of_seed in scales.items():
        table = finetune_arms(
            {arm: arm_checkpoint(arm, of_seed, teacher_cache) for arm in _finetuned(arms)},
            load_tokenizer(scale.teacher),
            of_seed,
            split=split,
            prefix="study-",
            keep=("teacher",),  # always, so that arms with a fine-tuning teacher can follow later
            with_teacher=tuple(arm for arm in arms if ARMS[arm].finetuning_teacher),
        )
        parts.append(table[table.arm.isin(arms)])
        report_time_left("fine-tune", seed)
    return write_table(pd.concat(parts, ignore_index=True), out)


def measured_split(scale: Scale) -> str:
    """Name "test" where the tasks lie in a folder and test sets have labels, else "validation"."""
    if local_path(scale.glue) is None:
        return "validation"
    try:
        for task in scale.tasks:
            train_and_measured("test", task, scale)
    except ValueError:
        return "validation"
    return "test"


def join_studies(files: Sequence[Path], *, out: Path) -> pd.DataFrame:
    """Concatenate the tables of the parts of one study.

    ValueError if a file is no study's table, a score is there twice, or an arm lacks a seed or task
    that others have.
    """
    parts = [pd.read_csv(file) for file in files]
    for file, part in zip(files, parts, strict=True):
        if list(part) != COLUMNS:
            raise ValueError(f"{file} is no table of a study: its columns are {list(part)}")
    table = pd.concat(parts, ignore_index=True)
    rows = pd.MultiIndex.from_frame(table[["arm", "seed", "task"]])
    if rows.has_duplicates:
        arm, seed, task = rows[rows.duplicated()][0]
        raise ValueError(f"{arm}, seed {seed}, {task} is there twice: give every part once")
    complete = product(*(dict.fromkeys(table[name]) for name in rows.names))
    if missing := [row for row in complete if row not in rows]:
        arm, seed, task = missing[0]
        raise ValueError(
            f"{arm}, seed {seed}, {task} is missing, and {len(missing) - 1} other scores: join "
            "parts with the same seeds and tasks"
        )
    return write_table(table, out)


def study_steps(scales: Mapping[int, Scale], arms: Sequence[str]) -> list[Step]:
    """List the trainings that these arms, and those in :data:`NEEDS`, need.

    ValueError if a run of that name was begun with another training, or other examples.
    """

    @cache
    def examples(scale: Scale, task: str) -> int:
        return len(load_task(scale, task)["train"])

    def finished(run: Run, training: TrainingConfig | None, task: str | None = None) -> bool:
        if training and (run.path / "config.json").is_file():
            rows = task and not get_task(task).on_spans  # else a run counts windows
            _check_begun(run, training, examples(scale, task) if rows else None)
        return run.finished

    needed = tuple(dict.fromkeys(n for arm in arms for n in (*NEEDS.get(arm, ()), arm)))
    steps = []
    for seed, scale in scales.items():
        for arm in needed:
            condition = ARMS[arm]
            if not condition.pretraining or condition.finetuning_teacher:
                continue  # nothing to pretrain, or the student of the arm "distilled"
            # the number of steps in equal time follows from a measurement
            training = None if condition.equal_time else scale.distillation
            kind = "distil for equal time" if condition.equal_time else "distil"
            # equal time takes as long as a distillation
            with_teacher = condition.equal_time or condition.loss_config(scale).needs_teacher
            done = finished(Run(arm_folder(arm, scale)), training)
            steps.append(Step(kind, arm, seed, None, with_teacher, done))
        for arm, task in product(_finetuned(arms), scale.tasks):
            run = run_of("study-", scale, task, arm, seed)
            done = finished(run, replace(scale.finetuning, seed=seed), task)
            steps.append(Step("fine-tune", arm, seed, task, ARMS[arm].finetuning_teacher, done))
    return steps


def _check_begun(run: Run, training: TrainingConfig, examples: int | None) -> None:
    """Raise ValueError if a run was begun with another training or number of examples."""
    config = run.config()
    begun, planned = config["training"], as_json(training)
    if examples is not None:
        begun = {**begun, "examples": config["examples"]}
        planned = {**planned, "examples": examples}
    for name in planned:
        if begun.get(name) != planned[name]:
            raise ValueError(
                f"{run.path} was begun with {name} = {begun.get(name)}, here {planned[name]}: "
                "give the same value, or delete that folder"
            )


def _finetuned(arms: Sequence[str]) -> tuple[str, ...]:
    """List the arms to fine-tune: these, and the teacher where one needs its soft targets."""
    teacher = ("teacher",) if any(ARMS[arm].finetuning_teacher for arm in arms) else ()
    return tuple(dict.fromkeys((*teacher, *arms)))


def arm_checkpoint(arm: str, scale: Scale, teacher_cache: bool = False) -> str | Path:
    """Return the folder or Hub id of an arm's model, with the seed in ``scale.distillation``.

    It is pretrained, unless that is done.
    """
    if arm == "teacher":
        return scale.teacher
    condition = ARMS[arm]
    if condition.finetuning_teacher:  # differs at fine-tuning only
        return arm_checkpoint("distilled", scale, teacher_cache)
    teacher, tokenizer = load_teacher(scale)
    maps = named_layer_maps(teacher.config.num_hidden_layers)
    student = student_from_teacher(teacher, maps[condition.layers] if condition.layers else None)
    if condition.random_init:
        student = random_student_like(student, scale.distillation.seed)
    if not condition.pretraining:
        folder = home() / "data" / "cache" / arm_folder(arm, scale).name
        if processes().is_main_process:
            student.save_pretrained(folder)
        processes().wait_for_everyone()
        return folder
    training, loss_config = scale.distillation, condition.loss_config(scale)
    if condition.equal_time:
        training = replace(training, steps=_steps_in_equal_time(scale))
    blocks, validation = load_blocks(scale, tokenizer)
    folder = arm_folder(arm, scale)
    if teacher_cache and loss_config.needs_teacher and arm not in NEEDS["mlm_equal_time"]:
        blocks = cached_teacher(
            teacher, blocks, training, scale.loss_config, build=not Run(folder).finished
        )
    run = pretrain(
        student,
        blocks,
        training,
        name=folder.name,
        loss_config=loss_config,
        teacher=teacher if loss_config.needs_teacher else None,
        validation=validation,
    )
    return run.model


def arm_folder(arm: str, scale: Scale) -> Path:
    """Return the run folder of an arm with the seed in ``scale.distillation``."""
    return home() / "runs" / f"study-{scale.name}-{arm}-{scale.distillation.seed}"


def _steps_in_equal_time(scale: Scale) -> int:
    """Count the MLM-only steps that take as long as the distillation took."""
    results = [Run(arm_folder(arm, scale)).result() for arm in NEEDS["mlm_equal_time"]]
    distilled, mlm_only = (result["seconds"] / result["steps"] for result in results)
    return max(1, round(distilled / mlm_only * results[-1]["steps"]))
