"""The study: every arm with every seed, on the test sets, as one plan that can be interrupted.

Sanh et al. 2019, section 4.2 and table 4, ask what each part of the recipe is worth; the question
that readers ask first is simpler: would masked words alone have done as well? Here an arm is a way
to come by a model, a seed decides everything random in it (order, masks, dropout, new heads), and
every arm is fine-tuned on the same tasks with the same seeds, so that differences are paired.

Arms do not depend on one another (but for :data:`NEEDS`), so that a scheduler may give each to a
machine of its own, ``python -m distilkit study --arms ARM --out ARM.csv``, and ``--join`` makes one
table of the parts.

What is tried out is tried on the validation sets and on other seeds; this reads the test sets.
GLUE's have no labels: at the scales that take it from the Hub, validation sets stand in.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from distilkit.checkpoint import write_atomically
from distilkit.config import MLM_ONLY, LossConfig, Scale, TrainingConfig, as_json, home
from distilkit.data.sources import load_blocks, load_task, load_teacher
from distilkit.data.teacher_cache import cached_teacher
from distilkit.distillation import pretrain
from distilkit.processes import processes
from distilkit.run import Run
from distilkit.student import default_layers, random_student_like, student_from_teacher
from distilkit.study.arms import (
    finetune_arms,
    macro_scores,
    paired_difference,
    run_name,
    train_and_measured,
)
from distilkit.study.cost import Step, readable, study_cost
from distilkit.study.paper import ablation
from distilkit.study.run_parallel import run_parallel

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Arm:
    """A way to come by a model. The defaults are the recipe: copied layers, the triple loss."""

    about: str  # for the reader of a table
    changes: Mapping[str, Any] = field(default_factory=dict)  # to the scale's Objective
    layers: str = "default"  # which are copied: a key of `layer_map`
    copied: bool = True  # False: from random weights
    trained: bool = True  # False: not pretrained at all
    equal_time: bool = False  # as many steps as take the time of the distillation
    taught: bool = False  # soft targets of the fine-tuned teacher at fine-tuning, too

    def loss_config(self, scale: Scale) -> LossConfig:
        """What this arm minimises in pretraining."""
        return replace(scale.loss_config, **self.changes)


_MLM_ONLY = {name: getattr(MLM_ONLY, name) for name in ("kd_weight", "mlm_weight", "cosine_weight")}

ARMS = {
    "teacher": Arm("the teacher: all layers", trained=False),
    "distilled": Arm("half the layers, copied; then the triple loss"),
    "mlm_equal_steps": Arm(
        "half the layers, copied; then masked words alone, as many steps", _MLM_ONLY
    ),
    "mlm_equal_time": Arm(
        "half the layers, copied; then masked words alone, for as long", _MLM_ONLY, equal_time=True
    ),
    "random_init": Arm("half the layers from random weights; then the triple loss", copied=False),
    "scratch": Arm(
        "half the layers from random weights; no pretraining", copied=False, trained=False
    ),
    # table 4 of the paper; its fourth row is random_init
    "without_soft_target": Arm("the triple loss without its soft targets", {"kd_weight": 0.0}),
    "without_cosine": Arm("the triple loss without its cosine term", {"cosine_weight": 0.0}),
    "without_mlm": Arm("the triple loss without masked words", {"mlm_weight": 0.0}),
    # which layers
    "first_layers": Arm("the first half of the layers; then the triple loss", layers="first"),
    "last_layers": Arm("the last half of the layers; then the triple loss", layers="last"),
    "every_other": Arm("layers 0, 2, 4, ...; then the triple loss", layers="every_other"),
    # section 4.1 and table 2, there on SQuAD
    "distilled_twice": Arm("distilled, and again by the fine-tuned teacher", taught=True),
    # how soft, and how much of what
    "temperature_1": Arm("the triple loss at T = 1", {"temperature": 1.0}),
    "temperature_4": Arm("the triple loss at T = 4", {"temperature": 4.0}),
    "temperature_8": Arm("the triple loss at T = 8", {"temperature": 8.0}),
    "weights_1_1_1": Arm(
        "the three terms weighed alike", {"kd_weight": 1.0, "mlm_weight": 1.0, "cosine_weight": 1.0}
    ),
    "weights_5_2_1": Arm(
        "the three terms weighed as the authors do",
        {"kd_weight": 5.0, "mlm_weight": 2.0, "cosine_weight": 1.0},
    ),
}
SEEDS = (201, 202, 203, 204, 205)  # not those that the recipe was found with

# Arms that are measured from others, or taught by them
NEEDS = {
    "mlm_equal_time": ("distilled", "mlm_equal_steps"),
    "distilled_twice": ("teacher", "distilled"),
}
# The rows of table 4 -> the arm that leaves the same out
ABLATION = {
    "distillation loss": "without_soft_target",
    "cosine loss": "without_cosine",
    "MLM loss": "without_mlm",
    "teacher initialization": "random_init",
}
# T -> the arm that was distilled at it; the recipe's is 2
TEMPERATURES = {1: "temperature_1", 2: "distilled", 4: "temperature_4", 8: "temperature_8"}
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
    """Every arm with every seed, fine-tuned on every task of the scale, into one table.

    Finished runs are only read, an unfinished one goes on from its checkpoint. What is left to be
    done is timed and printed first, and again after every part.

    Args:
        scale: teacher, text, tasks and trainings.
        seeds: each is a distillation and a fine-tuning of every arm.
        arms: of :data:`ARMS`; what they need (:data:`NEEDS`) is trained too.
        out: a csv file, replaced when all is done: ``arm, seed, task, metric, score,
            train_seconds``, scores in points on the :func:`measured_split`.
        teacher_cache: the arms of a seed, but for the two whose time is measured
            (:data:`NEEDS`), share the teacher's answers (:mod:`distilkit.data.teacher_cache`): some
            hundred MB a seed at the tiny scale, and a step takes three quarters of the time.
        dry: only say what it would cost.

    Returns:
        The same table; None for a dry run.

    Raises:
        ValueError: before anything is trained: there is no such arm, or a task has no labels there.
    """
    import pandas as pd

    arms, seeds = tuple(arms), tuple(seeds)
    for arm in arms:
        check_arm(arm)
    scales = {
        seed: replace(scale, seeds=(seed,), distillation=replace(scale.distillation, seed=seed))
        for seed in seeds
    }
    measured = measured_split(scale)
    for task in scale.tasks:
        train_and_measured(measured, task, scale)  # refuses now what cannot be measured
    steps = study_steps(scales, arms)
    cost = study_cost(scale, steps, len(study_steps(scales, arms, finished=True)))
    print(cost)
    if dry:
        return None
    total, began, done = sum(cost.seconds.values()), time.monotonic(), 0.0

    def said(kind: str, seed: int | None = None) -> None:
        nonlocal done
        done += sum(cost.seconds[s] for s in steps if s.kind == kind and seed in (None, s.seed))
        if 0 < done < total:
            left = (time.monotonic() - began) / done * (total - done)
            tqdm.write(f"study: {done / total:.0%} done, about {readable(left)} left")

    for kind in ("distil", "distil for equal time"):
        if any(step.kind == kind for step in steps):
            # finished ones too, which are only read: how many are left must not decide how many
            # threads each has, or an interrupted one could not go on
            every = [
                (step.arm, scales[step.seed], teacher_cache)
                for step in study_steps(scales, arms, finished=True)
                if step.kind == kind
            ]
            run_parallel(arm_checkpoint, every, "distil")
            said(kind)
    parts = []
    for seed, of_seed in scales.items():
        checkpoints = {arm: arm_checkpoint(arm, of_seed, teacher_cache) for arm in _finetuned(arms)}
        table = finetune_arms(
            {arm: folder for arm, (folder, _) in checkpoints.items()},
            checkpoints[arms[0]][1],
            of_seed,
            split=measured,
            prefix="study-",
            keep=("teacher",),  # always, so that what it teaches can be asked for later
            taught=tuple(arm for arm in arms if ARMS[arm].taught),
        )
        parts.append(table[table.arm.isin(arms)])
        said("fine-tune", seed)
    return _written(pd.concat(parts, ignore_index=True), out)


def measured_split(scale: Scale) -> str:
    """ "test" where the tasks lie in a folder and all test sets have labels, else "validation".

    GLUE's own test sets have none.
    """
    if not Path(scale.glue).is_dir():
        return "validation"
    try:
        for task in scale.tasks:
            train_and_measured("test", task, scale)
    except ValueError:
        return "validation"
    return "test"


def join_studies(files: Sequence[Path], *, out: Path) -> pd.DataFrame:
    """One table of the parts that several machines made.

    Raises:
        ValueError: a file is no table of a study, two differ about one fine-tuning, or an arm and
            seed lacks a task that others have.
    """
    import pandas as pd

    parts = []
    for file in files:
        part = pd.read_csv(file)
        if list(part) != COLUMNS:
            raise ValueError(f"{file} is no table of a study: its columns are {list(part)}")
        parts.append(part)
    table = pd.concat(parts, ignore_index=True).drop_duplicates(
        [name for name in COLUMNS if name != "train_seconds"]
    )
    double = table[table.duplicated(["arm", "seed", "task"])]
    if len(double):
        arm, seed, task = double.iloc[0][["arm", "seed", "task"]]
        raise ValueError(f"the files differ about {arm}, seed {seed}, {task}: join equal plans")
    tasks = set(table.task)
    for (arm, seed), part in table.groupby(["arm", "seed"], sort=False):
        if missing := sorted(tasks - set(part.task)):
            raise ValueError(
                f"{arm}, seed {seed} lacks {', '.join(missing)}, which others have: means over "
                "other tasks cannot be compared, so join plans of the same tasks"
            )
    order = {arm: place for place, arm in enumerate(ARMS)}
    table = table.sort_values(  # one order, whichever part came first
        ["seed", "task", "arm"], key=lambda c: c.map(order) if c.name == "arm" else c, kind="stable"
    )
    return _written(table.reset_index(drop=True), out)


def _written(table: pd.DataFrame, out: Path) -> pd.DataFrame:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, table.round({"score": 4}).to_csv(index=False).encode())
    return table


def study_steps(
    scales: Mapping[int, Scale], arms: Sequence[str], finished: bool = False
) -> list[Step]:
    """What is still to be trained for these arms: distillations, then fine-tunings.

    Args:
        scales: of each seed.
        arms: what they need (:data:`NEEDS`) is added.
        finished: also what is trained already.

    Raises:
        ValueError: a run of that name was begun with another training, or other examples.
    """

    @cache
    def examples(scale: Scale, task: str) -> int:
        return len(load_task(scale, task)["train"])

    def left(run: Run, training: TrainingConfig | None, task: str | None = None) -> bool:
        if training and (run.path / "config.json").is_file():
            _check_begun(run, training, examples(scale, task) if task else None)
        return finished or not run.finished

    needed = tuple(dict.fromkeys(n for arm in arms for n in (*NEEDS.get(arm, ()), arm)))
    steps = []
    for seed, scale in scales.items():
        for arm in needed:
            how = ARMS[arm]
            # equal time is measured, so its number of steps is not known before
            training = None if how.equal_time else scale.distillation
            if how.trained and not how.taught and left(Run(_folder(arm, scale)), training):
                kind = "distil for equal time" if how.equal_time else "distil"
                taught = how.equal_time or how.loss_config(scale).needs_teacher  # takes as long
                steps.append(Step(kind, arm, seed, None, taught))
        steps += [
            Step("fine-tune", arm, seed, task, ARMS[arm].taught)
            for arm in _finetuned(arms)
            for task in scale.tasks
            if left(
                Run(home() / "runs" / run_name("study-", scale, task, arm, seed)),
                replace(scale.finetuning, seed=seed),
                task,
            )
        ]
    return steps


def _check_begun(run: Run, training: TrainingConfig, examples: int | None) -> None:
    """ValueError, before anything is trained, for a run that was begun with another training, or
    a fine-tuning with another number of training examples."""
    config = run.config()
    begun, planned = config["training"], as_json(training)
    if examples is not None:
        begun = {**begun, "examples": config["examples"]}
        planned = {**planned, "examples": examples}
    for name in planned:
        if begun.get(name) != planned[name]:
            raise ValueError(
                f"{run.path} was begun with {name} = {begun.get(name)}, here {planned[name]}: ask "
                "for the same, or delete that folder"
            )


def _finetuned(arms: Sequence[str]) -> tuple[str, ...]:
    """The arms, and the teacher where one of them is taught by it."""
    taught = any(ARMS[arm].taught for arm in arms)
    return tuple(dict.fromkeys((*(("teacher",) if taught else ()), *arms)))


def check_arm(arm: str) -> None:
    """Raise ValueError unless there is such an arm."""
    if arm not in ARMS:
        raise ValueError(f"unknown arm {arm!r}: give one of {', '.join(ARMS)}")


def layer_map(kind: str, teacher_layers: int) -> tuple[int, ...]:
    """Which layers of a teacher an arm copies, half of them.

    Args:
        kind: "default" (:func:`distilkit.student.default_layers`), "first", "last" or "every_other"
            (0, 2, 4, ...).
        teacher_layers: n.
    """
    default = default_layers(teacher_layers)
    n, k = teacher_layers, len(default)
    return {
        "default": default,
        "first": tuple(range(k)),
        "last": tuple(range(n - k, n)),
        "every_other": tuple(range(0, 2 * k, 2)),
    }[kind]


def arm_checkpoint(
    arm: str, scale: Scale, teacher_cache: bool = False
) -> tuple[str | Path, PreTrainedTokenizerBase]:
    """The model that an arm fine-tunes, trained if it is not there yet, and the tokenizer.

    Args:
        arm, scale: of :data:`ARMS`, with the seed in ``scale.distillation``.
        teacher_cache: as for :func:`run_study`.

    Returns:
        (folder or Hub id, tokenizer).

    Raises:
        ValueError: there is no such arm.
    """
    check_arm(arm)
    how = ARMS[arm]
    if how.taught:  # what is different comes at fine-tuning
        return arm_checkpoint("distilled", scale, teacher_cache)
    teacher, tokenizer = load_teacher(scale)
    if arm == "teacher":
        return scale.teacher, tokenizer
    student = student_from_teacher(teacher, layer_map(how.layers, teacher.config.num_hidden_layers))
    if not how.copied:
        student = random_student_like(student, scale.distillation.seed)
    if not how.trained:
        folder = home() / "data" / "cache" / _folder(arm, scale).name
        if processes().is_main_process:
            student.save_pretrained(folder)
        processes().wait_for_everyone()
        return folder, tokenizer
    training, loss_config = scale.distillation, how.loss_config(scale)
    if how.equal_time:
        training = replace(training, steps=_steps_in_equal_time(scale))
    blocks, validation = load_blocks(scale, tokenizer)
    cache = None
    folder = _folder(arm, scale)
    if teacher_cache and loss_config.needs_teacher and arm not in NEEDS["mlm_equal_time"]:
        cache = cached_teacher(
            teacher, blocks, training, scale.loss_config, build=not Run(folder).finished
        )
    run = pretrain(
        student,
        cache or blocks,
        training,
        name=folder.name,
        loss_config=loss_config,
        teacher=teacher if loss_config.needs_teacher else None,
        validation=validation,
    )
    return run.model, tokenizer


def _folder(arm: str, scale: Scale) -> Path:
    return home() / "runs" / f"study-{scale.name}-{arm}-{scale.distillation.seed}"


def _steps_in_equal_time(scale: Scale) -> int:
    """How many steps of masked words alone take as long as the distillation took.

    Both were timed with other runs of the study beside them, on as many threads.
    """
    took = {}
    for arm in NEEDS["mlm_equal_time"]:
        run = Run(_folder(arm, scale))
        if not run.finished:
            raise RuntimeError(f"{run.name} is not finished: equal time is measured from it")
        took[arm] = run.result()["seconds"] / run.result()["steps"]
    steps = took["distilled"] / took["mlm_equal_steps"] * run.result()["steps"]
    return max(1, round(steps))


def ablation_beside_paper(scores: pd.DataFrame) -> pd.DataFrame:
    """Table 4 of the paper, with ours beside it: what leaving a part out does, in points.

    Args:
        scores: a study's.

    Returns:
        ``left_out, published, ours, low, high, seeds``: ours is the arm's macro-score minus the
        distilled student's, paired by seed, with its 95 % t-interval; NaN where the arm is missing.
    """
    table = ablation().rename(columns={"delta": "published"})
    there = set(scores.arm)
    found = [
        paired_difference(scores, ABLATION[part], "distilled")
        if {ABLATION[part], "distilled"} <= there
        else {}
        for part in table.left_out
    ]
    for ours, theirs in (("ours", "mean"), ("low", "low"), ("high", "high"), ("seeds", "seeds")):
        table[ours] = [each.get(theirs, float("nan")) for each in found]
    return table


def retained_at_temperatures(scores: pd.DataFrame) -> pd.DataFrame:
    """What share of its teacher's macro-score the student keeps, by the T it was distilled at.

    Args:
        scores: a study's; arms that are missing are left out.

    Returns:
        ``temperature, seed, retained``, in percent; empty without a teacher.
    """
    import pandas as pd

    if "teacher" not in set(scores.arm):
        return pd.DataFrame(columns=["temperature", "seed", "retained"], dtype=float)
    wide = macro_scores(scores).pivot(index="seed", columns="arm", values="score")
    there = {t: arm for t, arm in TEMPERATURES.items() if arm in wide}
    share = wide[list(there.values())].set_axis(list(there), axis=1).div(wide["teacher"], axis=0)
    table = (100 * share).reset_index().melt("seed", var_name="temperature", value_name="retained")
    return table.dropna()[["temperature", "seed", "retained"]].reset_index(drop=True)
