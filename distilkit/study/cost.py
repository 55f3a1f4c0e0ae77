"""What a study will cost before it starts: time, memory, disk and energy of what is left to do.

A few real steps of each kind are timed here; the rest is multiplication. Energy by formula:
hours × busy cores × :data:`WATTS_PER_CORE` (or × :data:`WATTS_PER_GPU`), which leaves out memory,
fans and what a cooled room adds: whoever has a wattmeter should believe it instead.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.utils import logging as hf_logging

from distilkit.config import MLM_ONLY, FinetuneLossConfig, Scale, TrainingConfig
from distilkit.data.sources import load_blocks, load_task, load_teacher
from distilkit.data.tasks import get_task, task_examples
from distilkit.distillation import LanguageModelLoss
from distilkit.finetuning import input_length, sequence_classifier, task_loss
from distilkit.measure.flops import step_bytes
from distilkit.measure.micro_batch_timing import gradient_step, time_micro_batches
from distilkit.measure.size import parameter_count
from distilkit.processes import processes, to_device
from distilkit.student import student_from_teacher
from distilkit.study.run_parallel import workers_and_threads
from distilkit.training_loop import parameter_groups, total_steps

WATTS_PER_CORE = 10.0  # a server's processor at full load, by its cores (a rule of thumb)
WATTS_PER_GPU = 700.0  # the power limit of an H100 or H200 (SXM)
LIBRARIES = 0.55e9  # bytes of a process that has read a task and holds no model (tiny scale)
TIMED = 3  # steps of each kind, after one that is not counted


@dataclass(frozen=True)
class Step:
    """One training of a study."""

    kind: str  # "distil", "distil for equal time" or "fine-tune"
    arm: str
    seed: int
    task: str | None  # of a fine-tuning
    taught: bool  # a teacher computes too


@dataclass(frozen=True)
class Cost:
    """Of all steps together; printing it says it in words."""

    seconds: dict[Step, float]  # of each step, on a worker of its own
    workers: int  # how many go on at once
    cores: int  # busy; 0 where a GPU works
    memory_bytes: float
    disk_bytes: float  # what stays in runs/

    @property
    def hours(self) -> float:
        """From start to end."""
        return sum(self.seconds.values()) / self.workers / 3600

    @property
    def kilowatt_hours(self) -> float:
        """By the formula of this module."""
        watts = self.cores * WATTS_PER_CORE if self.cores else WATTS_PER_GPU
        return self.hours * watts / 1000

    def __str__(self) -> str:
        if not self.seconds:
            return "everything is there already: only to be read"
        kinds = [step.kind for step in self.seconds]
        distillations = sum(kind != "fine-tune" for kind in kinds)
        formula = (
            f"{self.cores} cores × {WATTS_PER_CORE:g} W" if self.cores else f"{WATTS_PER_GPU:g} W"
        )
        return (
            f"left to do: pretrainings {distillations}, fine-tunings {len(kinds) - distillations}, "
            f"{self.workers} at once\n"
            f"  time    about {readable(3600 * self.hours)} (a few steps of each kind were timed)\n"
            f"  memory  about {self.memory_bytes / 1e9:.1f} GB\n"
            f"  disk    about {self.disk_bytes / 1e9:.1f} GB in runs/\n"
            f"  energy  about {self.kilowatt_hours:.2g} kWh = {self.hours:.2f} h × {formula}"
        )


def readable(seconds: float) -> str:
    """``45 min``, ``2 h 05 min``; at least a minute."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def study_cost(scale: Scale, steps: Sequence[Step], planned: int | None = None) -> Cost:
    """Time a few steps of each kind that is left, and multiply.

    Args:
        scale: teacher, text, tasks and trainings; they are loaded (and downloaded) for it.
        steps: what is left to do (:func:`distilkit.study.study.study_steps`).
        planned: with what is done already, so many: they share the threads however few are left.
    """
    workers, threads = workers_and_threads(planned or max(1, len(steps)))
    device = processes().device
    seconds: dict[Step, float] = {}
    before, bars = torch.get_num_threads(), hf_logging.is_progress_bar_enabled()
    torch.set_num_threads(threads)
    hf_logging.disable_progress_bar()  # a dozen models are loaded
    try:
        teacher, tokenizer = load_teacher(scale)
        student = student_from_teacher(teacher)
        known: dict[tuple, float] = {}
        for step in steps:
            of_teacher = step.arm == "teacher"
            key = (step.kind == "fine-tune", step.task, step.taught, of_teacher)
            if key not in known:
                if step.kind == "fine-tune":
                    known[key] = _finetuning_seconds(scale, step.task, step.taught, of_teacher)
                else:
                    loss_config = scale.loss_config if step.taught else MLM_ONLY
                    loss = LanguageModelLoss(loss_config, teacher.to(device).eval())
                    blocks, _ = load_blocks(scale, tokenizer)
                    training = scale.distillation
                    known[key] = _seconds(
                        student, loss, blocks, training, total_steps(len(blocks), training)
                    )
            seconds[step] = known[key]
    finally:
        torch.set_num_threads(before)
        if bars:
            hf_logging.enable_progress_bar()
    training = scale.distillation
    memory = step_bytes(teacher, student, training.micro_batch_size, scale.length)
    ours, theirs = 4 * parameter_count(student), 4 * parameter_count(teacher)
    kept = [step for step in steps if step.arm == "teacher"]
    pretrainings = sum(step.kind != "fine-tune" for step in steps)
    return Cost(
        seconds=seconds,
        workers=workers,
        cores=workers * threads if device.type == "cpu" else 0,
        memory_bytes=workers * (LIBRARIES + memory) + (workers > 1) * LIBRARIES,
        # a model and, until the next run begins, the checkpoints' three copies of it twice
        disk_bytes=pretrainings * ours + len(kept) * theirs + workers * 9 * ours,
    )


def _finetuning_seconds(scale: Scale, task: str, taught: bool, of_teacher: bool) -> float:
    """Of one fine-tuning of the teacher or of a student."""
    the_task, training = get_task(task), scale.finetuning
    teacher, tokenizer = load_teacher(scale)
    model = sequence_classifier(scale.teacher, task, 0)
    learner = model if of_teacher else student_from_teacher(model)
    data = load_task(scale, task)["train"]
    few = data.select(range(min(len(data), (TIMED + 1) * training.batch_size)))
    longest = input_length((teacher,), None, the_task.max_length)
    examples = task_examples(few, the_task, tokenizer, max_length=longest, seed=0)
    model.to(processes().device).eval()
    loss = task_loss(the_task, model, FinetuneLossConfig()) if taught else task_loss(the_task)
    return _seconds(learner, loss, examples, training, total_steps(len(data), training))


def _seconds(
    model: PreTrainedModel, loss: Any, data: Any, training: TrainingConfig, steps: int
) -> float:
    """Of so many optimizer steps, from the median of a few micro-batches and updates."""
    device = processes().device
    model = copy.deepcopy(model).to(device).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, training.weight_decay))
    compute_gradients = gradient_step(model, loss, training.precision)

    def update(_: None) -> None:
        optimizer.step()
        optimizer.zero_grad()

    ids = data.order(0, training.batch_size)
    size = min(training.micro_batch_size, len(ids))
    passes, updates = [], []
    for number in range(TIMED + 1):
        batch = data.batch(0, np.resize(np.roll(ids, -number * size), size))
        batch = to_device(batch, device)
        passes += [each.seconds for each in time_micro_batches(compute_gradients, [batch], device)]
        updates += [each.seconds for each in time_micro_batches(update, [None], device)]
    micro_batches = -(-training.batch_size // size)
    return steps * float(micro_batches * np.median(passes[1:]) + np.median(updates[1:]))
