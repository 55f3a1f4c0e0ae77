"""Checks before a fine-tuning: do data, model, teacher, tokenizers and time fit?

Nothing trained here is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from distilkit.cli.doctor import Check
from distilkit.config import TrainingConfig
from distilkit.data.classifier_checks import check_teacher
from distilkit.data.task_examples import task_examples
from distilkit.data.tasks import Task, chance_score
from distilkit.data.text_check import UNKNOWN_AT_MOST
from distilkit.finetuning import classifier, fine_tuned_on, input_length, predict, score_of
from distilkit.measure.latency import gradient_step, time_micro_batches
from distilkit.models.loading import load_tokenizer
from distilkit.models.vocabulary import check_vocabulary, own_tokenizer
from distilkit.processes import processes, to_device
from distilkit.training_loop import total_steps

FEW = 500  # examples that are looked at
BATCHES = 3  # that are timed


def task_doctor(
    task: Task,
    data: Mapping[str, Any],
    checkpoint: str,
    training: TrainingConfig,
    *,
    teacher: str | None = None,
    unlabelled: Any = None,
    max_length: int | None = None,
) -> pd.DataFrame:
    """Check a fine-tuning on a task; a row a :class:`distilkit.cli.doctor.Check`."""
    checks = [Check("data", note, True) for note in task.notes]
    try:
        tokenizer = load_tokenizer(checkpoint)
        model = classifier(checkpoint, task, training.seed)
        check_vocabulary(model, tokenizer)
        model.to(processes().device)
        models = [model]
        checks.append(Check("model", f"{type(model).__name__}, {task.outputs} outputs", True))
        if teacher is not None:
            models.append(fine_tuned_on(teacher, task).to(processes().device))
        length = input_length(models, max_length, task.max_length)
    except ValueError as error:
        failed = "teacher" if checks[-1].check == "model" else "model"
        return pd.DataFrame([*checks, Check(failed, str(error), False)], columns=Check._fields)
    checks.append(_inputs(task, data["train"], tokenizer, length))
    if teacher is not None:
        checks.append(_teacher(task, data, models[1], tokenizer, length))
    more = 0 if unlabelled is None else len(unlabelled)
    checks.append(_time(task, data["train"], more, model, tokenizer, training, length))
    return pd.DataFrame(checks, columns=Check._fields)


def _few(split: Any) -> Any:
    return split.select(range(min(FEW, len(split))))


def _inputs(task: Task, split: Any, tokenizer: PreTrainedTokenizerBase, length: int) -> Check:
    """How many texts are cut, and how many tokens the vocabulary does not have."""
    examples = task_examples(_few(split), task, tokenizer, max_length=length, seed=0)
    ids = np.concatenate(examples.input_ids)
    unknown = float(np.mean(ids == tokenizer.unk_token_id))
    cut = float(np.mean(examples.lengths >= length))
    measurement = (
        f"median {np.median(examples.lengths):.0f} tokens; {cut:.0%} reach {length} and may be "
        f"cut; {unknown:.1%} of the tokens are unknown"
    )
    return Check("texts", measurement, unknown <= UNKNOWN_AT_MOST)


def _teacher(
    task: Task, data: Mapping[str, Any], teacher: Any, tokenizer: Any, length: int
) -> Check:
    split = next((data[s] for s in task.validation if s in data), None)
    if split is None or "label" not in split.column_names:
        return Check("teacher", "no labelled validation examples to measure it on", True)
    try:
        own = own_tokenizer(teacher, tokenizer) or tokenizer
        examples = task_examples(_few(split), task, own, max_length=length, seed=0)
        logits, labels = predict(teacher, examples)
        score = score_of(task, logits, labels)[task.score]
        if not task.on_words:
            check_teacher(task, teacher, logits, labels, score)
    except ValueError as error:
        return Check("teacher", str(error), False)
    chance = chance_score(task, labels)
    shown = "undefined" if score is None else f"{score:.3f}"
    measurement = f"{task.score} {shown}, a constant answer {chance:.3f} ({len(labels)} examples)"
    return Check("teacher", measurement, (score or 0.0) > chance)


def _time(
    task: Task,
    split: Any,
    more: int,
    model: Any,
    tokenizer: Any,
    training: TrainingConfig,
    length: int,
) -> Check:
    """Time a few micro-batches of the labels' loss; a teacher adds its forward pass."""
    from distilkit.finetuning import task_loss

    if "label" not in split.column_names:
        return Check("time", "not measured without labels", True)
    examples = task_examples(_few(split), task, tokenizer, max_length=length, seed=0)
    order = examples.order(0, training.batch_size)
    size = training.micro_batch_size
    parts = [order[i * size : (i + 1) * size] for i in range(BATCHES + 1)]
    batches = [
        to_device(examples.batch(0, part), processes().device) for part in parts if len(part)
    ]
    step = gradient_step(model.train(), task_loss(task), training.precision)
    timings = time_micro_batches(step, batches, processes().device)
    seconds = np.median([timing.seconds for timing in timings[1:] or timings])
    steps = total_steps(len(split) + more, training)
    total = steps * seconds * training.batch_size / size / 60
    return Check("time", f"{steps:,} steps, about {total:,.1f} minutes without the teacher", True)
