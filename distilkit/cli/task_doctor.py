"""Checks before a fine-tuning: do data, model, teacher, tokenizers and time fit?

Nothing trained here is kept.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.cli.doctor import Check, free_memory
from distilkit.config import TrainingConfig
from distilkit.data.classifier_checks import check_teacher
from distilkit.data.task_examples import task_examples
from distilkit.data.tasks import Task, chance_score
from distilkit.data.text_check import UNKNOWN_AT_MOST
from distilkit.finetuning import (
    classifier,
    fine_tuned_on,
    input_length,
    predict,
    score_of,
)
from distilkit.measure.size import parameter_count
from distilkit.models.loading import load_tokenizer
from distilkit.models.vocabulary import check_vocabulary, own_tokenizer
from distilkit.processes import processes
from distilkit.study.cost import finetuning_seconds
from distilkit.training_loop import total_steps

FEW = 500  # examples that are looked at


def task_doctor(
    task: Task,
    checkpoint: str,
    training: TrainingConfig,
    *,
    teacher: str | None = None,
    cut: Callable[[PreTrainedModel], PreTrainedModel] | None = None,
    unlabelled: Any = None,
    max_length: int | None = None,
) -> pd.DataFrame:
    """Check a fine-tuning on a task; a row a :class:`distilkit.cli.doctor.Check`.

    Args:
        task: with its data.
        checkpoint: to fine-tune with a new head.
        teacher: a checkpoint that is fine-tuned on the task.
        cut: makes the student out of the teacher, in place of `checkpoint`.
    """
    checks = [Check("data", note, True) for note in task.notes]
    tokenizer, models, what = load_tokenizer(checkpoint), {}, "model"
    try:
        if teacher is not None:
            what = "teacher"
            models["teacher"] = fine_tuned_on(teacher, task).to(processes().device)
            what = "model"
        if cut is not None:
            models["model"] = cut(models["teacher"])
        else:
            models["model"] = classifier(checkpoint, task, training.seed).to(processes().device)
            check_vocabulary(models["model"], tokenizer)
        length = input_length(models.values(), max_length, task.max_length)
    except (TypeError, ValueError) as error:
        return pd.DataFrame([*checks, Check(what, str(error), False)], columns=Check._fields)
    model = models["model"]
    million = parameter_count(model) / 1e6
    kind = f"{type(model).__name__}, {million:.1f} million parameters, {task.outputs} outputs"
    checks += [Check("model", kind, True), _inputs(task, tokenizer, length)]
    if teacher is not None:
        checks.append(_teacher(task, models["teacher"], tokenizer, length))
    checks.append(_memory(models))
    examples = len(task.data["train"]) + (0 if unlabelled is None else len(unlabelled))
    checks.append(_time(task, examples, models, tokenizer, training, length))
    return pd.DataFrame(checks, columns=Check._fields)


def print_checks(table: pd.DataFrame) -> bool:
    """Print a line a check; return whether all are good."""
    for check, measurement, good in table.itertuples(index=False):
        print(f"{'good' if good else 'BAD '}  {check}: {measurement}")
    return bool(table.good.all())


def _few(split: Any) -> Any:
    return split.select(range(min(FEW, len(split))))


def _inputs(task: Task, tokenizer: PreTrainedTokenizerBase, length: int) -> Check:
    """How many texts are cut, and how many tokens the vocabulary does not have."""
    examples = task_examples(_few(task.data["train"]), task, tokenizer, max_length=length, seed=0)
    ids = np.concatenate(examples.input_ids)
    unknown = float(np.mean(ids == tokenizer.unk_token_id))
    cut = float(np.mean(examples.lengths >= length))
    may_be = "have another window" if task.on_spans else "may be cut"
    measurement = (
        f"median {np.median(examples.lengths):.0f} tokens; {cut:.0%} reach {length} and {may_be}; "
        f"{unknown:.1%} of the tokens are unknown"
    )
    return Check("texts", measurement, unknown <= UNKNOWN_AT_MOST)


def _teacher(task: Task, teacher: Any, tokenizer: Any, length: int) -> Check:
    split = next((task.data[s] for s in task.validation if s in task.data), None)
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


def _memory(models: Mapping[str, PreTrainedModel]) -> Check:
    """Weights of both models; gradients and AdamW's two moments of the one that is trained."""
    sizes = {name: parameter_count(model) for name, model in models.items()}
    needed = 16 * sizes["model"] + 4 * sizes.get("teacher", 0)
    free = free_memory(processes().device)
    measurement = f"{needed / 2**30:.1f} GiB and the activations, {free / 2**30:.1f} GiB free"
    return Check("memory", measurement, needed < free)


def _time(
    task: Task,
    examples: int,
    models: Mapping[str, PreTrainedModel],
    tokenizer: Any,
    training: TrainingConfig,
    length: int,
) -> Check:
    """Time a few steps; the teacher answers each text once."""
    rows = _few(task.data["train"])
    few = task_examples(rows, task, tokenizer, max_length=length, seed=0)
    examples = examples * len(few) // len(rows)  # a passage may have several windows
    teacher, steps = models.get("teacher"), total_steps(examples, training)
    seconds = finetuning_seconds(task, models["model"], teacher, few, examples, training)
    measurement = f"{steps:,} steps of {training.batch_size}: {seconds / 60:,.1f} minutes"
    return Check("time", measurement, True)
