"""Estimate what a study will cost before it starts: the time of the open runs."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel
from transformers.utils import logging as hf_logging

from distilkit.config import MLM_ONLY, FinetuneLossConfig, Scale, TrainingConfig
from distilkit.data.sources import load_blocks, load_task, load_teacher
from distilkit.data.task_examples import task_examples
from distilkit.data.task_loss import TaskLoss
from distilkit.data.tasks import Task, get_task
from distilkit.distillation import LanguageModelLoss
from distilkit.finetuning import classifier, input_length
from distilkit.measure import latency
from distilkit.measure.latency import training_seconds
from distilkit.processes import processes
from distilkit.student import student_from_teacher
from distilkit.study.run_parallel import workers_and_threads
from distilkit.training_loop import total_steps


class Step(NamedTuple):
    """One training of a study."""

    kind: str  # "distil", "distil for equal time" or "fine-tune"
    arm: str
    seed: int
    task: str | Task | None  # of a fine-tuning
    with_teacher: bool  # the teacher's forward pass takes time too
    finished: bool = False


class Cost(NamedTuple):
    """The cost of all steps that are left; printing it gives a short table."""

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
    """Write a duration as ``45 min`` or ``2 h 05 min``; at least a minute."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def study_cost(scale: Scale, steps: Sequence[Step]) -> Cost:
    """Time a few steps of each kind that is left, and multiply.

    Teacher, text and tasks are loaded (and downloaded) for it. The finished steps decide with the
    others how many threads each has.
    """
    workers, threads = workers_and_threads(len(steps))
    threads_before, bars = torch.get_num_threads(), hf_logging.is_progress_bar_enabled()
    torch.set_num_threads(threads)
    hf_logging.disable_progress_bar()  # a dozen models are loaded
    try:
        teacher, tokenizer = load_teacher(scale)
        student = student_from_teacher(teacher)

        @cache
        def step_seconds(task: str | Task | None, with_teacher: bool, of_teacher: bool) -> float:
            if task is None:
                loss_config = scale.loss_config if with_teacher else MLM_ONLY
                loss = LanguageModelLoss(loss_config, teacher.to(processes().device).eval())
                blocks, _ = load_blocks(scale, tokenizer)
                total = total_steps(len(blocks), scale.distillation)
                return training_seconds(student, loss, blocks, scale.distillation, total)
            description, training = get_task(task), scale.finetuning
            answering = classifier(scale.teacher, task, 0)
            model = answering if of_teacher else student_from_teacher(answering)
            data = load_task(scale, task)["train"]
            few = data.select(range(min(len(data), (latency.TIMED + 1) * training.batch_size)))
            longest = input_length((teacher,), None, description.max_length)
            examples = task_examples(few, description, tokenizer, max_length=longest, seed=0)
            answering = answering.to(processes().device).eval() if with_teacher else None
            return finetuning_seconds(description, model, answering, examples, len(data), training)

        left = [step for step in steps if not step.finished]
        seconds = {s: step_seconds(s.task, s.with_teacher, s.arm == "teacher") for s in left}
    finally:
        torch.set_num_threads(threads_before)
        if bars:
            hf_logging.enable_progress_bar()
    return Cost(seconds, workers)


def finetuning_seconds(
    task: Task,
    model: PreTrainedModel,
    teacher: PreTrainedModel | None,
    examples: Any,
    count: int,
    training: TrainingConfig,
) -> float:
    """Estimate the time of a fine-tuning on `count` examples; a teacher answers each of them once.

    `examples` are some of them, for the loop; the teacher is on its device and in eval mode.
    """
    steps = total_steps(count, training)
    alone = training_seconds(model, TaskLoss(task), examples, training, steps)
    if teacher is None:
        return alone
    loss = TaskLoss(task, teacher, FinetuneLossConfig())
    epochs = max(1.0, steps * training.batch_size / count)  # the teacher answers in one of them
    return alone + (training_seconds(model, loss, examples, training, steps) - alone) / epochs
