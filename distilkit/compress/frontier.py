"""The compression frontier: what each way of making a student smaller costs in points.

Sanh et al. 2019, section 5. A *variant* is the teacher, a student of some depth, or the deepest
student pruned and trained briefly on the fine-tuned teacher's soft targets. "100 % kept" is
that training without pruning: the control for its extra steps. Each variant is fine-tuned with each
seed on each task and measured in three engines (:mod:`distilkit.compress.engines`).

Each training is a run folder, so an interrupted plan resumes.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from distilkit.checkpoint import write_json
from distilkit.compress.engines import TORCH, engine_costs, export_engines
from distilkit.compress.held_out import agreement
from distilkit.compress.importance import head_and_unit_importance, least_important
from distilkit.compress.onnx_export import onnx_predict, onnx_session
from distilkit.config import Scale, TrainingConfig
from distilkit.data.examples import Examples
from distilkit.data.sources import fewer_examples, load_blocks, load_teacher
from distilkit.data.task_examples import task_examples
from distilkit.data.task_loss import TaskLoss
from distilkit.data.tasks import Task, get_task
from distilkit.distillation import distil
from distilkit.families import positions
from distilkit.finetuning import answers, fine_tuned_on, finetune, input_length, predict, score_of
from distilkit.measure.size import parameter_count
from distilkit.models.loading import load_model, load_tokenizer
from distilkit.models.pruning import layers_of, prune
from distilkit.run import Run, run_folder
from distilkit.student import default_layers, student_from_teacher
from distilkit.study.arms import POINTS, check_table, finetune_from, train_and_measured, write_table
from distilkit.study.held_out_text import watch_accuracy
from distilkit.study.run_parallel import run_parallel

# Shares of heads and units that remain after pruning; 1 is the control.
KEEP_RATIOS = (1.0, 0.75, 0.5)
RECOVERY = 1 / 3  # length of the training after pruning, relative to a fine-tuning
IMPORTANCE_EXAMPLES = 1000
LENGTH = 128  # tokens of the timed text, at most the scale's length

_COST_COLUMNS = ("size_mb", "latency_ms_p50", "latency_ms_p95", "memory_mib", "length", "threads")
COLUMNS = (
    *("variant", "depth", "heads", "units", "engine", "seed", "task", "metric", "score"),
    *("same_answer", "largest_difference", "parameters", *_COST_COLUMNS),
)

Students = tuple[tuple[int, tuple[str, ...]], ...]  # (layers, checkpoints), deepest first


@dataclass(frozen=True)
class Plan:
    """Settings that all steps of a frontier share."""

    scale: Scale  # tasks, seeds, fine-tuning
    name: str  # runs are <name>-<variant>-<task>-<seed>
    students: Students
    examples: int | None  # of each task's training set; None: all

    def run(self, variant: str, task: str | Task, seed: int) -> Run:
        slug = variant.replace(" %", "").replace(", ", "-").replace(" ", "-")
        return Run(run_folder(f"{self.name}-{slug}-{task}-{seed}"))

    def splits(self, task: str | Task) -> dict[str, Any]:
        """Load the training examples and the validation set, which comes last."""
        data = train_and_measured("validation", task, self.scale)
        return {**data, "train": fewer_examples(data["train"], self.examples)}


def run_frontier(
    scale: Scale,
    students: Sequence[str | Path] | None = None,
    *,
    out: Path,
    examples: int | None = None,
    name: str | None = None,
) -> pd.DataFrame:
    """Train and measure each variant with each seed on each task, in each engine.

    Args:
        scale: teacher, tasks, seeds, and how to fine-tune; how to distil, if there are no students.
        students: checkpoints distilled from this teacher (folders or Hub ids), of one or several
            depths; seeds take turns among those of one depth. By default students of a half, a
            third and a sixth of the teacher's layers are distilled once. Seeds then differ in
            their fine-tuning alone.
        out: a csv file, replaced when all is done.
        examples: of each task's training set; by default all.
        name: prefix of the run folders; by default ``frontier-<scale>``, with the students of the
            notebooks, ``<scale>-distilled``.

    Returns:
        A row per variant, engine, task and seed with :data:`COLUMNS`. ``heads, units``: left in all
        layers. ``score``: points on the validation set (NaN: undefined). Compared with PyTorch:
        ``same_answer`` (NaN: regression) and ``largest_difference`` (NaN: spans). Size, latency and
        memory are measured once, for the first task and seed, variants and engines in turns: batch
        1, one thread, no padding.
    """
    out = check_table(out)
    if students is None:
        layers_of(load_teacher(scale)[0])  # refuses now a family that cannot be pruned
    for task in scale.tasks:
        Plan(scale, "", (), examples).splits(task)
    if students is None:
        folders = _distilled(scale, scale.name if name is None else name)
    else:
        folders = _by_depth(scale, students)
    plan = Plan(scale, name or f"frontier-{scale.name}", folders, examples)
    unpruned = ("teacher", *(_of_depth(depth) for depth, _ in folders))
    deepest = unpruned[1]
    pruned = {f"{deepest}, {100 * ratio:.0f} % kept": ratio for ratio in KEEP_RATIOS}
    grid = [(task, seed) for task in scale.tasks for seed in scale.seeds]
    run_parallel(_fine_tune, [(plan, v, *at) for at in grid for v in unpruned], "fine-tune")
    todo = [(plan, deepest, v, ratio, *at) for v, ratio in pruned.items() for at in grid]
    run_parallel(_prune_and_recover, todo, "prune, recover")
    variants = (*unpruned, *pruned)
    measured = [(plan, variant, *at) for at in grid for variant in variants]
    rows = [row for part in run_parallel(_measure, measured, "export") for row in part]
    costs = _costs(plan, variants)
    table = pd.DataFrame(rows).merge(costs, on=["variant", "engine"], validate="many_to_one")
    # JSON has no NaN: rows hold None, which becomes NaN here
    numbers = dict.fromkeys(("score", "same_answer", "largest_difference"), float)
    return write_table(table.astype(numbers)[list(COLUMNS)], out)


# ---- the variants


def _distilled(scale: Scale, name: str) -> Students:
    """Distil students of a half, a third and a sixth of the layers; finished runs are reused."""
    teacher, _ = load_teacher(scale)
    layers = teacher.config.num_hidden_layers
    depths = sorted({max(1, layers // part) for part in (2, 3, 6)}, reverse=True)
    folders = run_parallel(_distil, [(scale, depth, name) for depth in depths], "distil")
    return tuple((depth, (folder,)) for depth, folder in zip(depths, folders, strict=True))


def _distil(scale: Scale, depth: int, name: str) -> str:
    teacher, tokenizer = load_teacher(scale)
    layers = teacher.config.num_hidden_layers
    blocks, validation = load_blocks(scale, tokenizer)
    half = depth == max(1, layers // 2)  # the notebooks' own student, if the plan has no name
    run = distil(
        student_from_teacher(teacher, default_layers(layers, depth)),
        teacher,
        blocks,
        scale.distillation,
        name=f"{name}-distilled" + ("" if half else f"-{depth}"),
        loss_config=scale.loss_config,
        validation=validation,
        watch=watch_accuracy(validation, scale.distillation.micro_batch_size),
    )
    return str(run.model)


def _by_depth(scale: Scale, students: Sequence[str | Path]) -> Students:
    """Group the given students by their number of layers, deepest first."""
    teacher, _ = load_teacher(scale)
    groups: dict[int, list[str]] = {}
    for checkpoint in students:
        student, _ = load_model(AutoModelForMaskedLM, checkpoint)
        if student.config.vocab_size != teacher.config.vocab_size:
            raise ValueError(
                f"{checkpoint} has a vocabulary of {student.config.vocab_size:,}, the teacher "
                f"{scale.teacher} one of {teacher.config.vocab_size:,}: give its own students"
            )
        groups.setdefault(len(layers_of(student)), []).append(str(checkpoint))
    if not groups:
        raise ValueError("students is empty: give at least one, or leave it out")
    return tuple((depth, tuple(groups[depth])) for depth in sorted(groups, reverse=True))


def _of_depth(depth: int) -> str:
    return f"{depth} layer" + "s" * (depth > 1)


def _fine_tune(plan: Plan, variant: str, task: str | Task, seed: int) -> None:
    scale, checkpoint = plan.scale, plan.scale.teacher
    for depth, folders in plan.students:
        if variant == _of_depth(depth):
            checkpoint = folders[scale.seeds.index(seed) % len(folders)]
    given = load_tokenizer(scale.teacher), task, plan.splits(task), scale.finetuning
    finetune_from(checkpoint, seed, *given, name=plan.run(variant, task, seed).name)


def _prune_and_recover(
    plan: Plan, unpruned: str, variant: str, keep_ratio: float, task: str | Task, seed: int
) -> None:
    data, tokenizer = plan.splits(task), load_tokenizer(plan.scale.teacher)
    runs = [plan.run(v, task, seed) for v in ("teacher", unpruned)]
    teacher, student = (fine_tuned_on(run.model, task) for run in runs)
    finetune(
        pruned_student(student, tokenizer, task, data, keep_ratio),
        tokenizer,
        task,
        data,
        replace(recovery(plan.scale.finetuning), seed=seed),
        name=plan.run(variant, task, seed).name,
        teacher=teacher,
    )


def pruned_student(
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str | Task,
    data: Any,
    keep_ratio: float,
) -> PreTrainedModel:
    """Remove the heads and units of a fine-tuned student that matter least to its loss on the task.

    `keep_ratio` is the share of heads, and of units, that remain. A thousand training examples
    from all over the data measure the importance. The student is not changed.
    """
    train = data["train"]  # may be sorted by label
    rows = np.linspace(0, len(train) - 1, min(IMPORTANCE_EXAMPLES, len(train))).astype(int)
    examples = encoded(student, tokenizer, task, train.select(rows))
    importance = head_and_unit_importance(student, examples, TaskLoss(get_task(task)))
    cut = least_important(importance, keep_ratio)
    return prune(student, *cut)


def recovery(finetuning: TrainingConfig) -> TrainingConfig:
    """Return the short training after pruning: a third of a fine-tuning."""
    if finetuning.steps is not None:
        return replace(finetuning, steps=max(1, round(RECOVERY * finetuning.steps)))
    return replace(finetuning, epochs=max(1, round(RECOVERY * finetuning.epochs)))


# ---- measuring


def _measure(plan: Plan, variant: str, task: str | Task, seed: int) -> list[dict[str, Any]]:
    """Make a row for each engine: scores, and the difference of its answers from PyTorch's."""
    run = plan.run(variant, task, seed)
    stored = run.path / "frontier.json"
    if stored.is_file():
        return json.loads(stored.read_text())
    known, model, data = get_task(task), fine_tuned_on(run.model, task), plan.splits(task)
    split, metric = list(data)[-1], known.score
    held_out = encoded(model, load_tokenizer(plan.scale.teacher), task, data[split])
    layers, expected = layers_of(model), predict(model, held_out)[0]
    common = {
        "variant": variant,
        "depth": len(layers),
        "heads": sum(layer.heads for layer in layers),
        "units": sum(layer.units for layer in layers),
        "parameters": parameter_count(model),
        "seed": seed,
        "task": str(task),
        "metric": metric,
    }

    def row(engine: str, score: float | None, same: float, difference: float) -> dict[str, Any]:
        return common | {
            "engine": engine,
            # None: undefined, as is the correlation of constant answers
            "score": None if score is None else POINTS * score,
            "same_answer": None if known.regression else same,
            "largest_difference": None if known.on_spans else difference,
        }

    rows = [row(TORCH, run.result()["scores"][split][metric], 1.0, 0.0)]
    with tempfile.TemporaryDirectory(prefix="distilkit-onnx-") as folder:
        for engine, file in export_engines(model, folder).items():
            logits, difference = onnx_predict(onnx_session(file), held_out), 0.0
            both = [answers(known, each) for each in (logits, expected)]
            same = agreement(known, *both)
            if known.kind == "multi_label_classification":  # the same labels, all of them
                same = float(np.equal(*both).all(1).mean())
            if not known.on_spans:  # words that were cut off are NaN
                apart = np.concatenate(logits) - np.concatenate(expected)
                difference = float(np.nanmax(np.abs(apart)))
            score = score_of(known, logits, held_out.targets)[metric]
            rows.append(row(engine, score, same, difference))
    write_json(stored, rows)
    return rows


def _costs(plan: Plan, variants: Sequence[str]) -> pd.DataFrame:
    """Measure size, latency and memory of each variant and engine, for the first task and seed."""
    task, seed = plan.scale.tasks[0], plan.scale.seeds[0]
    models = {v: fine_tuned_on(plan.run(v, task, seed).model, task) for v in variants}
    length = min(LENGTH, plan.scale.length, *(positions(model) for model in models.values()))
    with tempfile.TemporaryDirectory(prefix="distilkit-onnx-") as folder:
        costs = engine_costs(models, folder, length=length, runs=100, warmup=5)
    return costs.rename(columns={"model": "variant"})[["variant", "engine", *_COST_COLUMNS]]


def encoded(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: str | Task, split: Any
) -> Examples:
    """Encode a split of a task as the model was fine-tuned."""
    longest = input_length((model,), None, get_task(task).max_length)
    return task_examples(split, get_task(task), tokenizer, max_length=longest, seed=0)
