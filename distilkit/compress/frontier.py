"""The compression frontier: a student made smaller still, in every way, and what each way costs.

Sanh et al. 2019, section 5, and the literature that they name there: distillation, pruning and
quantization work on different parts of a model and can be combined. A *variant* is the teacher, a
student of some depth, or the deepest student with heads and feed-forward units cut out
(:mod:`distilkit.compress.importance`) and trained shortly again on the fine-tuned teacher's soft
targets; "100 % kept" is that training alone, without which pruning would be compared with less
training. Every variant is fine-tuned with every seed on every task, and each result is measured in
three engines (:mod:`distilkit.compress.engines`), of which the third is int8.

Every training is a run folder: an interrupted plan goes on where it was.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distilkit.checkpoint import write_atomically, write_json
from distilkit.compress.engines import TORCH, engine_costs, export_engines
from distilkit.compress.importance import head_and_unit_importance, least_important
from distilkit.compress.onnx_export import agreement, check_packages, onnx_session
from distilkit.config import Scale, TrainingConfig
from distilkit.data.examples import Examples
from distilkit.data.sources import fewer_examples, load_blocks, load_teacher, load_tokenizer
from distilkit.data.tasks import get_task, scores, task_examples
from distilkit.distillation import distil
from distilkit.families import positions
from distilkit.finetuning import finetune, input_length, sequence_classifier, task_loss
from distilkit.measure.size import parameter_count
from distilkit.models.heads import fine_tuned
from distilkit.models.loading import load_model
from distilkit.models.pruning import layers_of, prune
from distilkit.run import Run, run_folder
from distilkit.student import default_layers, student_from_teacher
from distilkit.study.arms import POINTS, train_and_measured
from distilkit.study.run_parallel import run_parallel

if TYPE_CHECKING:
    import pandas as pd

# Shares of heads and of units that pruning leaves. All of them: the control, a student that nothing
# was cut from and that had the same training more, on the same soft targets.
KEPT = (1.0, 0.75, 0.5)
RECOVERY = 1 / 3  # length of the training after pruning, of a fine-tuning's
IMPORTANCE_EXAMPLES = 1000
LENGTH = 128  # tokens of the text that is timed, or as many as the scale has

COLUMNS = (
    *("variant", "depth", "heads", "units", "engine", "seed", "task", "metric", "score"),
    *("same_answer", "largest_difference", "parameters", "size_mb", "latency_ms_p50"),
    *("latency_ms_p95", "memory_mib", "length", "threads"),
)


@dataclass(frozen=True)
class Plan:
    """What all steps of a frontier share."""

    scale: Scale  # tasks, seeds, fine-tuning
    name: str  # runs are <name>-<variant>-<task>-<seed>
    students: tuple[tuple[int, tuple[str, ...]], ...]  # (layers, checkpoints), deepest first
    examples: int | None  # of each task's training set; None: all

    def run(self, variant: str, task: str, seed: int) -> Run:
        slug = variant.replace(" %", "").replace(", ", "-").replace(" ", "-")
        return Run(run_folder(f"{self.name}-{slug}-{task}-{seed}"))


def run_frontier(
    scale: Scale,
    students: Sequence[str | Path] | None = None,
    *,
    out: Path,
    examples: int | None = None,
    name: str | None = None,
) -> pd.DataFrame:
    """Every variant with every seed on every task, in every engine, into one table.

    Args:
        scale: teacher, tasks, seeds, and how to fine-tune; how to distil, if there are no students.
        students: checkpoints distilled from this teacher (folders or Hub ids), of one or several
            depths; of several of one depth each seed gets the next. By default students of a half,
            a third and a sixth of the teacher's layers are distilled as the scale says, once:
            then seeds differ in their fine-tuning alone.
        out: a csv file, replaced when all is done.
        examples: of each task's training set; by default all.
        name: what the run folders begin with; by default ``frontier-<scale>``, and the students
            are those of the notebooks, ``<scale>-distilled``.

    Returns:
        A row per variant, engine, task and seed: ``variant, depth, heads, units`` (left, over all
        layers), ``engine, seed, task, metric, score`` (points, on the validation set; NaN:
        undefined), ``same_answer, largest_difference`` (against PyTorch on the whole validation
        set), ``parameters, size_mb, latency_ms_p50, latency_ms_p95, memory_mib, length, threads``.
        The last six are measured once, for the first task and seed, all variants and engines in
        turns: batch 1, one thread, no padding.

    Raises:
        ValueError: before anything is trained: a student that does not fit the teacher, a task
            without labelled validation examples.
        ImportError: the packages for ONNX are missing.
    """
    check_packages()
    for task in scale.tasks:
        _splits(scale, task, examples)
    if students is None:
        folders = _distilled(scale, scale.name if name is None else name)
    else:
        folders = _by_depth(scale, students)
    name = name or f"frontier-{scale.name}"
    plan = Plan(scale, name, folders, examples)
    whole = ("teacher", *(_of_depth(depth) for depth, _ in folders))
    cut = tuple(f"{whole[1]}, {kept:.0%} kept".replace("%", " %") for kept in KEPT)
    grid = [(task, seed) for task in scale.tasks for seed in scale.seeds]
    run_parallel(_fine_tune, [(plan, v, *at) for at in grid for v in whole], "fine-tune")
    pairs = zip(cut, KEPT, strict=True)
    todo = [(plan, whole[1], v, kept, *at) for v, kept in pairs for at in grid]
    run_parallel(_prune_and_recover, todo, "prune, recover")
    measured = [(plan, variant, *at) for at in grid for variant in (*whole, *cut)]
    rows = [row for part in run_parallel(_measure, measured, "export") for row in part]
    return _write(out, rows, _costs(plan, (*whole, *cut)))


# ---- the variants


def _distilled(scale: Scale, name: str) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Students of a half, a third and a sixth of the layers, distilled if they are not there."""
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
    )
    return str(run.model)


def _by_depth(
    scale: Scale, students: Sequence[str | Path]
) -> tuple[tuple[int, tuple[str, ...]], ...]:
    teacher, _ = load_teacher(scale)
    found: dict[int, list[str]] = {}
    for checkpoint in students:
        student, _ = load_model(AutoModelForMaskedLM, checkpoint)
        if student.config.vocab_size != teacher.config.vocab_size:
            raise ValueError(
                f"{checkpoint} has a vocabulary of {student.config.vocab_size:,}, the teacher "
                f"{scale.teacher} one of {teacher.config.vocab_size:,}: give its own students"
            )
        found.setdefault(len(layers_of(student)), []).append(str(checkpoint))
    if not found:
        raise ValueError("students is empty: give at least one, or leave it out")
    return tuple((depth, tuple(found[depth])) for depth in sorted(found, reverse=True))


def _of_depth(depth: int) -> str:
    return f"{depth} layer" + "s" * (depth > 1)


def _fine_tune(plan: Plan, variant: str, task: str, seed: int) -> None:
    scale, checkpoint = plan.scale, plan.scale.teacher
    for depth, folders in plan.students:
        if variant == _of_depth(depth):
            checkpoint = folders[scale.seeds.index(seed) % len(folders)]
    finetune(
        sequence_classifier(checkpoint, task, seed),
        load_tokenizer(scale),
        task,
        _splits(scale, task, plan.examples),
        replace(scale.finetuning, seed=seed),
        name=plan.run(variant, task, seed).name,
    )


def _prune_and_recover(
    plan: Plan, whole: str, variant: str, kept: float, task: str, seed: int
) -> None:
    scale, data = plan.scale, _splits(plan.scale, task, plan.examples)
    teacher, student = (fine_tuned_model(plan.run(v, task, seed)) for v in ("teacher", whole))
    finetune(
        pruned_student(student, load_tokenizer(scale), task, data, kept),
        load_tokenizer(scale),
        task,
        data,
        replace(recovery(scale.finetuning), seed=seed),
        name=plan.run(variant, task, seed).name,
        teacher=teacher,
    )


def pruned_student(
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str,
    data: Any,
    kept: float,
) -> PreTrainedModel:
    """A fine-tuned student without the heads and units that matter least to its loss on the task.

    Args:
        student: a classifier; stays as it is.
        tokenizer: its own.
        task: it was fine-tuned on.
        data: the task's splits; importance is measured on the first thousand training examples.
        kept: share of heads, and of units, that stay.
    """
    first = data["train"].select(range(min(IMPORTANCE_EXAMPLES, len(data["train"]))))
    examples = encoded(student, tokenizer, task, first)
    importance = head_and_unit_importance(student, examples, task_loss(get_task(task)))
    return prune(student, *least_important(importance, heads_kept=kept, units_kept=kept))


def recovery(finetuning: TrainingConfig) -> TrainingConfig:
    """The short training after pruning: a third of a fine-tuning."""
    if finetuning.steps is not None:
        return replace(finetuning, steps=max(1, round(RECOVERY * finetuning.steps)))
    return replace(finetuning, epochs=max(1, round(RECOVERY * finetuning.epochs)))


# ---- what is measured


def _measure(plan: Plan, variant: str, task: str, seed: int) -> list[dict[str, Any]]:
    """A row for each engine: scores, and how far its answers are from PyTorch's."""
    run = plan.run(variant, task, seed)
    kept = run.path / "frontier.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    model, data = fine_tuned_model(run), _splits(plan.scale, task, plan.examples)
    split, metric = list(data)[-1], get_task(task).score
    held_out = encoded(model, load_tokenizer(plan.scale), task, data[split])
    layers = layers_of(model)
    about = {
        "variant": variant,
        "depth": len(layers),
        "heads": sum(layer.heads for layer in layers),
        "units": sum(layer.units for layer in layers),
        "parameters": parameter_count(model),
        "seed": seed,
        "task": task,
        "metric": metric,
    }
    same = None if get_task(task).regression else 1.0
    rows = [
        about
        | {
            "engine": TORCH,
            "score": _points(run.result()["scores"][split][metric]),
            "same_answer": same,
            "largest_difference": 0.0,
        }
    ]
    with tempfile.TemporaryDirectory(prefix="distilkit-onnx-") as folder:
        for engine, file in export_engines(model, folder).items():
            found = agreement(model, onnx_session(file), held_out)
            answers = found.logits[:, 0] if same is None else found.logits.argmax(1)
            rows.append(
                about
                | {
                    "engine": engine,
                    "score": _points(scores(task, answers, held_out.labels)[metric]),
                    "same_answer": None if same is None else found.same_answer,
                    "largest_difference": found.largest_difference,
                }
            )
    write_json(kept, rows)
    return rows


def _costs(plan: Plan, variants: Sequence[str]) -> pd.DataFrame:
    """Size, latency and memory of every variant and engine, of the first task and seed."""
    task, seed = plan.scale.tasks[0], plan.scale.seeds[0]
    models = {variant: fine_tuned_model(plan.run(variant, task, seed)) for variant in variants}
    length = min(LENGTH, plan.scale.length, *(positions(model) for model in models.values()))
    with tempfile.TemporaryDirectory(prefix="distilkit-onnx-") as folder:
        costs = engine_costs(models, folder, length=length, runs=100, warmup=5)
    shown = ["size_mb", "latency_ms_p50", "latency_ms_p95", "memory_mib", "length", "threads"]
    return costs.rename(columns={"model": "variant"})[["variant", "engine", *shown]]


def _write(out: Path, rows: list[dict[str, Any]], costs: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(rows).merge(costs, on=["variant", "engine"], validate="many_to_one")
    # None, which JSON has in place of NaN, becomes NaN
    table = table.astype({"score": float, "same_answer": float})
    table = table[list(COLUMNS)]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, table.round(4).to_csv(index=False).encode())
    return table


def _points(value: float | None) -> float | None:
    """None stays None: undefined, as a correlation is with answers that are all the same."""
    return None if value is None else POINTS * value


def fine_tuned_model(run: Run) -> PreTrainedModel:
    """The classifier that a finished fine-tuning left, pruned or not."""
    run.result()  # says so if it is not finished
    return fine_tuned(AutoModelForSequenceClassification, run.model).eval()


def _splits(scale: Scale, task: str, examples: int | None) -> dict[str, Any]:
    """The training examples and the validation set, which comes last."""
    data = train_and_measured("validation", task, scale)
    return {**data, "train": fewer_examples(data["train"], examples)}


def encoded(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: str, split: Any
) -> Examples:
    """A split of a task as the model was fine-tuned to read it."""
    the_task = get_task(task)
    longest = input_length((model,), None, the_task.max_length)
    return task_examples(split, the_task, tokenizer, max_length=longest, seed=0)
