"""Estimate what a study will cost before it starts: the time of the open runs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.utils import logging as hf_logging

from distilkit.config import MLM_ONLY, FinetuneLossConfig, Scale, TrainingConfig
from distilkit.data.sources import load_blocks, load_task, load_teacher
from distilkit.data.task_examples import task_examples
from distilkit.data.tasks import Task, get_task
from distilkit.distillation import LanguageModelLoss
from distilkit.finetuning import classifier, input_length, task_loss
from distilkit.measure.latency import gradient_step, time_micro_batches
from distilkit.processes import processes, to_device
from distilkit.student import student_from_teacher
from distilkit.study.run_parallel import workers_and_threads
from distilkit.training_loop import parameter_groups, total_steps

TIMED = 3  # steps of each kind, after one that is not counted


@dataclass(frozen=True)
class Step:
    """One training of a study."""

    kind: str  # "distil", "distil for equal time" or "fine-tune"
    arm: str
    seed: int
    task: str | Task | None  # of a fine-tuning
    with_teacher: bool  # the teacher's forward pass takes time too


@dataclass(frozen=True)
class Cost:
    """The cost of all steps together; printing it gives a short table."""

    seconds: dict[Step, float]  # of each step, on a worker of its own
    workers: int  # runs in parallel

    def __str__(self) -> str:
        if not self.seconds:
            return "everything is there already: only to be read"
        fine_tunings = sum(step.kind == "fine-tune" for step in self.seconds)
        elapsed = readable(sum(self.seconds.values()) / self.workers)
        return (
            f"left to do: pretrainings {len(self.seconds) - fine_tunings}, "
            f"fine-tunings {fine_tunings}, {self.workers} at once\n"
            f"  time    about {elapsed} (a few steps of each kind were timed)"
        )


def readable(seconds: float) -> str:
    """``45 min``, ``2 h 05 min``; at least a minute."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def study_cost(scale: Scale, steps: Sequence[Step], planned: int | None = None) -> Cost:
    """Time a few steps of each kind that is left, and multiply.

    Teacher, text and tasks are loaded (and downloaded) for it. `planned` is the number of steps
    including the finished ones; they decide how many threads each has.
    """
    workers, threads = workers_and_threads(planned or max(1, len(steps)))
    threads_before, bars = torch.get_num_threads(), hf_logging.is_progress_bar_enabled()
    torch.set_num_threads(threads)
    hf_logging.disable_progress_bar()  # a dozen models are loaded
    try:
        teacher, tokenizer = load_teacher(scale)
        student = student_from_teacher(teacher)

        @cache
        def step_seconds(task: str | Task | None, with_teacher: bool, of_teacher: bool) -> float:
            if task is not None:
                return _finetuning_seconds(scale, task, with_teacher, of_teacher)
            loss_config = scale.loss_config if with_teacher else MLM_ONLY
            loss = LanguageModelLoss(loss_config, teacher.to(processes().device).eval())
            blocks, _ = load_blocks(scale, tokenizer)
            total = total_steps(len(blocks), scale.distillation)
            return _seconds(student, loss, blocks, scale.distillation, total)

        seconds = {s: step_seconds(s.task, s.with_teacher, s.arm == "teacher") for s in steps}
    finally:
        torch.set_num_threads(threads_before)
        if bars:
            hf_logging.enable_progress_bar()
    return Cost(seconds, workers)


def _finetuning_seconds(
    scale: Scale, task: str | Task, with_teacher: bool, of_teacher: bool
) -> float:
    """The duration of one fine-tuning, of the teacher or of a student."""
    description, training = get_task(task), scale.finetuning
    teacher, tokenizer = load_teacher(scale)
    teaching_model = classifier(scale.teacher, task, 0)
    model = teaching_model if of_teacher else student_from_teacher(teaching_model)
    data = load_task(scale, task)["train"]
    few = data.select(range(min(len(data), (TIMED + 1) * training.batch_size)))
    longest = input_length((teacher,), None, description.max_length)
    examples = task_examples(few, description, tokenizer, max_length=longest, seed=0)
    teaching_model.to(processes().device).eval()
    steps = total_steps(len(data), training)
    alone = _seconds(model, task_loss(description), examples, training, steps)
    if not with_teacher:
        return alone
    loss = task_loss(description, teaching_model, FinetuneLossConfig())
    epochs = max(1.0, steps * training.batch_size / len(data))  # the teacher answers in one of them
    return alone + (_seconds(model, loss, examples, training, steps) - alone) / epochs


def _seconds(
    model: PreTrainedModel, loss: Any, data: Any, training: TrainingConfig, steps: int
) -> float:
    """The duration of `steps` optimizer steps, from medians of a few micro-batches and updates."""
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
        passes += time_micro_batches(compute_gradients, [to_device(batch, device)], device)
        updates += time_micro_batches(update, [None], device)
    of_pass, of_update = (np.median([t.seconds for t in each[1:]]) for each in (passes, updates))
    return steps * float(-(-training.batch_size // size) * of_pass + of_update)
