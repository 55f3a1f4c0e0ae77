"""Fine-tuning on a task, with or without a teacher, and evaluation.

Devlin et al. 2019, section 4.1; with a teacher as in Sanh et al. 2019, section 4.1.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import gather_object
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distilkit.config import FinetuneLossConfig, TrainingConfig
from distilkit.data.examples import Examples
from distilkit.data.task_examples import task_examples
from distilkit.data.tasks import Task, get_task, scores
from distilkit.families import positions
from distilkit.losses import at_least_float32, soft_target_loss
from distilkit.models.heads import with_new_head
from distilkit.processes import eval_mode, processes, to_device
from distilkit.run import Run, as_json, fingerprint, open_run
from distilkit.training_loop import Loss, evaluate, train

LEAST_LENGTH = 8  # tokens: two sentences, [CLS] and [SEP] twice


def sequence_classifier(checkpoint: str | Path, task: str | Task, seed: int) -> PreTrainedModel:
    """Load a checkpoint with a new classification head for a task, drawn from `seed`.

    The task's label names go into its config, so that two models' label orders can be compared.
    """
    task = get_task(task)
    labels = list(task.labels) or ["score"]
    return with_new_head(
        AutoModelForSequenceClassification,
        checkpoint,
        seed,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type="regression" if task.regression else "single_label_classification",
    )


def finetune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str | Task,
    data: Mapping[str, Any],
    training: TrainingConfig,
    *,
    name: str,
    teacher: PreTrainedModel | None = None,
    loss_config: FinetuneLossConfig | None = None,
    max_length: int | None = None,
    keep_model: bool = True,
) -> Run:
    """Train a copy of a sequence classifier on a task; score it on every labelled split.

    Scores are in ``run.result()``, the logits of those splits in ``run.predictions()``. A finished
    run of this name and configuration is returned at once, an unfinished one resumes.

    Args:
        model: a sequence classifier with the task's number of labels; not changed.
        tokenizer: the model's; the teacher's too.
        data: its splits (:func:`distilkit.data.task_files.load`).
        teacher: a classifier fine-tuned on this task, for soft targets besides the labels; it
            returns to its own mode and device.
        loss_config: by default 0.5 for labels and soft targets each, T = 2. Only with a teacher.
        max_length: tokens; longer inputs are cut. By default the task's, or fewer if the model has
            fewer positions.
        keep_model: save the fine-tuned weights in ``run.model``; a sweep over many seeds does not.

    Raises:
        ValueError: unknown task; a head or teacher that does not fit the task.
    """
    task = get_task(task)
    loss_config = check_loss_config(loss_config, teacher)
    models = (model,) if teacher is None else (model, teacher)
    max_length = input_length(models, max_length, task.max_length)
    for each in models:
        check_classifier(each, task)
    examples = task_examples(
        data["train"], task, tokenizer, max_length=max_length, seed=training.seed
    )
    held_out = {
        split: task_examples(data[split], task, tokenizer, max_length=max_length, seed=0)
        for split in (*task.validation, *task.test)
        if split in data and _has_labels(data[split])
    }

    def score(trained: PreTrainedModel) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        logits = {split: predict(trained, held)[0] for split, held in held_out.items()}
        return {k: score_of(task, z, held_out[k].labels) for k, z in logits.items()}, logits

    config = {
        "data": {k: e.digest() for k, e in {"train": examples, **held_out}.items()},
        "max_length": max_length,
        "keep_model": keep_model,
    }
    return run_finetuning(
        model,
        tokenizer,
        examples,
        training,
        task_loss(task, teacher, loss_config),
        score,
        name=name,
        task=task.name,
        teacher=teacher,
        loss_config=loss_config,
        config=config,
    )


def check_loss_config(
    loss_config: FinetuneLossConfig | None, teacher: PreTrainedModel | None
) -> FinetuneLossConfig | None:
    """Return the loss configuration, by default 0.5 each with a teacher; refuse it without."""
    if teacher is None and loss_config is not None:
        raise ValueError("a loss with soft targets needs teacher=..., fine-tuned on the task")
    return FinetuneLossConfig() if loss_config is None and teacher is not None else loss_config


def input_length(models: Iterable[PreTrainedModel], wanted: int | None, default: int) -> int:
    """Return the length of inputs in tokens: `wanted`, or `default` as far as all models reach."""
    longest = min(positions(each) for each in models)
    if wanted is None:
        return min(default, longest)
    if wanted > longest:
        raise ValueError(
            f"max_length = {wanted}: model or teacher has {longest} positions, give at most that"
        )
    if wanted < LEAST_LENGTH:
        raise ValueError(f"max_length = {wanted}: give at least {LEAST_LENGTH}")
    return wanted


def run_finetuning(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    training: TrainingConfig,
    loss: Loss,
    score: Callable[
        [PreTrainedModel], tuple[dict[str, dict[str, float | None]], dict[str, np.ndarray]]
    ],
    *,
    name: str,
    task: str,
    teacher: PreTrainedModel | None,
    loss_config: FinetuneLossConfig | None,
    config: Mapping[str, Any],
) -> Run:
    """Open the run, train a copy, score, save: what fine-tuning on any task has in common.

    `score` returns the trained model's scores by split, and the logits that the run stores.
    `config` is what else decides the result; ``keep_model`` false leaves the weights out.
    """
    import distilkit.data.metrics  # noqa: F401 - without `evaluate`, say so before hours are spent

    config = {
        "kind": "finetune",
        "task": task,
        "loss_config": as_json(loss_config) if loss_config else None,
        "training": as_json(training),
        "model": fingerprint(model),
        "teacher": fingerprint(teacher) if teacher is not None else None,
        "examples": len(examples),
        **config,
    }
    with open_run(name, config) as run:
        if run.finished:
            return run
        model = copy.deepcopy(model)
        borrowed_models = () if teacher is None else (teacher,)
        with eval_mode(*borrowed_models, device=processes().device):
            summary = train(model, examples, loss, training, run)
        scores_by_split, logits = score(model)
        if processes().is_main_process:
            if config.get("keep_model", True):
                model.save_pretrained(run.model)
                tokenizer.save_pretrained(run.model)
            if logits:
                run.keep_predictions(logits)
            run.finish({"kind": "finetune", "task": task, **summary, "scores": scores_by_split})
    return run


def task_loss(
    task: Task,
    teacher: PreTrainedModel | None = None,
    loss_config: FinetuneLossConfig | None = None,
) -> Loss:
    """Return the loss for the loop: cross-entropy or squared error, and soft targets of a teacher.

    For regression, where there are no classes to soften, the soft-target term is the squared error
    against the teacher's prediction.
    """

    def loss(
        model: PreTrainedModel, batch: dict[str, Any], counts: dict[str, int]
    ) -> dict[str, Tensor]:
        logits = at_least_float32(_logits(model, batch))  # B, C
        labels, count = batch["labels"], counts["examples"]
        if task.regression:
            label_loss = F.mse_loss(logits[:, 0], labels, reduction="sum") / count
        else:
            label_loss = F.cross_entropy(logits, labels, reduction="sum") / count
        if teacher is None:
            return {"loss": label_loss, "task": label_loss}

        with torch.no_grad():
            teacher_logits = at_least_float32(_logits(teacher, batch))  # B, C
        if task.regression:
            soft_target = F.mse_loss(logits, teacher_logits, reduction="sum") / count
        else:
            soft_target = soft_target_loss(
                logits, teacher_logits, loss_config.temperature, count=count
            )
        total = loss_config.label_weight * label_loss + loss_config.kd_weight * soft_target
        return {"loss": total, "task": label_loss, "soft_target": soft_target}

    return loss


def predict(
    model: PreTrainedModel, examples: Examples, batch_size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits [examples, C] and labels [examples] of a split, in the data's order."""
    logits = by_example(model, examples, lambda batch: _logits(model, batch), batch_size)
    return np.stack(logits), examples.labels


def by_example(
    model: PreTrainedModel,
    examples: Examples,
    outputs: Callable[[dict[str, Tensor]], Tensor],
    batch_size: int,
) -> list[np.ndarray]:
    """Return `outputs` of each example, in the data's order, without dropout or gradients.

    Several processes, which call this together, share the batches; each gets all results.
    `outputs` makes [B, ...] of a batch.
    """
    by_length = np.argsort(examples.lengths, kind="stable")
    batches = [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    state = processes()

    def measure(model: PreTrainedModel) -> dict[int, np.ndarray]:
        found = {}
        for ids in batches[state.process_index :: state.num_processes]:
            batch = to_device(examples.batch(0, ids), model.device)
            found |= zip(ids, at_least_float32(outputs(batch)).cpu().numpy(), strict=True)
        return found

    found = evaluate(model, measure)
    for others in gather_object([found]):
        found |= others
    return [found[i] for i in range(len(examples))]


def evaluate_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str | Task,
    data: Any,
    *,
    max_length: int = 128,
) -> dict[str, float | None]:
    """Return a classifier's metrics on one split, between -1 and 1; None where undefined."""
    task = get_task(task)
    check_classifier(model, task)
    examples = task_examples(data, task, tokenizer, max_length=max_length, seed=0)
    return score_of(task, *predict(model, examples))


def score_of(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Return the metrics of logits [examples, C] against labels; None where undefined."""
    if not np.isfinite(logits).all():
        raise FloatingPointError(f"{task.name}: the model's predictions are not finite")
    answers = logits[:, 0] if task.regression else logits.argmax(-1)
    return scores(task.name, answers, labels)


def _has_labels(split: Any) -> bool:
    """GLUE's test sets have none: the column holds -1 throughout, or is missing."""
    names = getattr(split, "column_names", None) or list(split)
    return "label" in names and len(split["label"]) > 0 and min(split["label"][:]) >= 0


def check_classifier(model: PreTrainedModel, task: Task) -> None:
    """Raise ValueError unless the model's head has the task's labels, in the task's order."""
    wanted = max(1, len(task.labels))
    labels = dict(model.config.id2label)
    if model.config.num_labels != wanted:
        raise ValueError(
            f"{task.name} has {wanted} output(s), the model {model.config.num_labels}: load it "
            f"with sequence_classifier(checkpoint, {task.name!r}, seed)"
        )
    named = [str(labels[i]).lower() for i in range(wanted)]
    # checkpoints without names say LABEL_0, LABEL_1: nothing to compare
    if sorted(named) == sorted(task.labels) and tuple(named) != task.labels:
        raise ValueError(
            f"the model's labels are {named}, the task's {list(task.labels)}: the same names "
            "in another order, so its answers would be read wrongly"
        )


def _logits(model: PreTrainedModel, batch: Mapping[str, Any]) -> Tensor:
    return model(**inputs_of(model, batch)).logits  # B, C


def inputs_of(model: PreTrainedModel, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a model's inputs from a batch; a BERT reads token types, a DistilBERT has none."""
    names = ["input_ids", "attention_mask"]
    if "token_type_ids" in inspect.signature(model.forward).parameters:
        names.append("token_type_ids")
    return {name: batch[name] for name in names}
