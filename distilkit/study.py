"""The study: every arm with every seed, on the test sets, as one plan that can be interrupted.

Sanh et al. 2019, section 4.2 and table 4, ask what each part of the recipe is worth; the question
that readers ask first is simpler: would masked words alone have done as well? Here an arm is a way
to come by a model, a seed decides everything random in it (order, masks, dropout, new heads), and
every arm is fine-tuned on the same tasks with the same seeds, so that differences are paired.

What is tried out is tried on the validation sets and on other seeds; this reads the test sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from distilkit.arms import finetune_arms
from distilkit.config import MLM_ONLY, Scale, home
from distilkit.pretraining import distil, pretrain
from distilkit.run import Run
from distilkit.side_by_side import side_by_side
from distilkit.sources import load_blocks, load_teacher
from distilkit.student import random_student_like, student_from_teacher

if TYPE_CHECKING:
    import pandas as pd

ARMS = {
    "teacher": "the teacher: all layers",
    "distilled": "half the layers, copied; then the triple loss",
    "mlm_equal_steps": "half the layers, copied; then masked words alone, as many steps",
    "mlm_equal_time": "half the layers, copied; then masked words alone, for as long",
    "random_init": "half the layers from random weights; then the triple loss",
    "scratch": "half the layers from random weights; no pretraining",
}
SEEDS = (101, 102, 103, 104, 105)  # not those that the recipe was found with


def run_study(scale: Scale, seeds: Iterable[int] = SEEDS, *, out: Path) -> pd.DataFrame:
    """Every arm with every seed, fine-tuned on every task of the scale, into one table.

    Finished runs are only read, an unfinished one goes on from its checkpoint.

    Args:
        scale: teacher, text, tasks and trainings.
        seeds: each is a distillation and a fine-tuning of every arm.
        out: a csv file, replaced when all is done: ``arm, seed, task, metric, score,
            train_seconds``, scores on the test sets in points.

    Returns:
        The same table.
    """
    import pandas as pd

    scales = {
        seed: replace(scale, seeds=(seed,), distillation=replace(scale.distillation, seed=seed))
        for seed in seeds
    }
    for arms in (("distilled", "mlm_equal_steps", "random_init"), ("mlm_equal_time",)):
        todo = [
            (arm, scales[seed])
            for seed in scales
            for arm in arms
            if not Run(home() / "runs" / _name(arm, scales[seed])).finished
        ]
        side_by_side(arm_checkpoint, todo, "distil")
    parts = []
    for of_seed in tqdm(scales.values(), "study", unit="seed"):
        checkpoints = {arm: arm_checkpoint(arm, of_seed) for arm in ARMS}
        tokenizer = checkpoints["teacher"][1]
        folders = {arm: folder for arm, (folder, _) in checkpoints.items()}
        parts.append(finetune_arms(folders, tokenizer, of_seed, split="test", prefix="study-"))
    table = pd.concat(parts, ignore_index=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    table.round({"score": 4}).to_csv(part, index=False)
    part.replace(out)  # the old table stays until the new one is whole
    return table


def arm_checkpoint(arm: str, scale: Scale) -> tuple[str | Path, PreTrainedTokenizerBase]:
    """The model that an arm fine-tunes, trained if it is not there yet, and the tokenizer.

    Returns:
        (folder or Hub id, tokenizer).

    Raises:
        ValueError: there is no such arm.
    """
    if arm not in ARMS:
        raise ValueError(f"unknown arm {arm!r}: give one of {', '.join(ARMS)}")
    teacher, tokenizer = load_teacher(scale)
    if arm == "teacher":
        return scale.teacher, tokenizer
    seed, training = scale.distillation.seed, scale.distillation
    name = _name(arm, scale)
    student = student_from_teacher(teacher)
    if arm == "scratch":
        folder = home() / "data" / "cache" / name
        random_student_like(student, seed).save_pretrained(folder)
        return folder, tokenizer
    blocks, validation = load_blocks(scale, tokenizer)
    data = {"name": name, "validation": validation}
    if arm == "distilled":
        run = distil(student, teacher, blocks, training, objective=scale.objective, **data)
    elif arm == "random_init":
        fresh = random_student_like(student, seed)
        run = distil(fresh, teacher, blocks, training, objective=scale.objective, **data)
    else:
        if arm == "mlm_equal_time":
            training = replace(training, steps=_steps_in_equal_time(scale))
        run = pretrain(student, blocks, training, objective=MLM_ONLY, **data)
    return run.model, tokenizer


def _name(arm: str, scale: Scale) -> str:
    return f"study-{scale.name}-{arm}-{scale.distillation.seed}"


def _steps_in_equal_time(scale: Scale) -> int:
    """How many steps of masked words alone take as long as the distillation took.

    Both were timed with other runs of the study beside them, on as many threads.
    """
    runs = home() / "runs"
    took = {}
    for arm in ("distilled", "mlm_equal_steps"):
        run = Run(runs / _name(arm, scale))
        if not run.finished:
            raise RuntimeError(f"{run.name} is not finished: equal time is measured from it")
        took[arm] = run.result()["seconds"] / run.result()["steps"]
    steps = took["distilled"] / took["mlm_equal_steps"] * run.result()["steps"]
    return max(1, round(steps))
