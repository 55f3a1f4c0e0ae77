"""Fine-tuning on GLUE, with or without a teacher, and evaluation.

Devlin et al. 2019, section 4.1; distillation at fine-tuning as in Sanh et al. 2019, section 4.1
("additional distillation"). The same loop as pretraining, another loss.
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
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from distilkit.config import FinetuneLossConfig, TrainingConfig, as_json
from distilkit.data.examples import Examples
from distilkit.data.tasks import Task, get_task, scores, task_examples
from distilkit.families import positions
from distilkit.losses import at_least_float32, soft_target_loss
from distilkit.models.loading import load_model
from distilkit.processes import eval_mode, processes, seeded, to_device
from distilkit.run import Run, fingerprint, open_run
from distilkit.training_loop import Loss, evaluate, train

LEAST_LENGTH = 8  # tokens: two sentences, [CLS] and [SEP] twice
HEAD_SCALE = 0.02 * 768  # of a new head's weights, times the width: BERT-base's own


def sequence_classifier(checkpoint: str | Path, task: str, seed: int) -> PreTrainedModel:
    """A checkpoint with a new classification head for a task, the head drawn from `seed`.

    The task's label names go into its config, so that two models' label orders can be compared.

    Raises:
        ValueError: unknown task, or a checkpoint that lacks weights other than the head's.
    """
    the_task = get_task(task)
    labels = list(the_task.labels) or ["score"]
    return with_new_head(
        AutoModelForSequenceClassification,
        checkpoint,
        seed,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type="regression" if the_task.regression else "single_label_classification",
    )


def with_new_head(kind: type, checkpoint: str | Path, seed: int, **config: Any) -> PreTrainedModel:
    """A checkpoint in float32 as one of transformers' auto classes, its new head from `seed`.

    The head's weights are normal, with BERT's standard deviation of 0.02 at BERT-base's width and
    wider in inverse proportion for a narrower model: at a width of 192 the answers drawn with 0.02
    hardly differ between inputs, and a short fine-tuning is over before that is made good.

    Args:
        kind: ``AutoModelForSequenceClassification``, ``AutoModelForQuestionAnswering``.
        checkpoint: Hub id or folder.
        seed: of the head.
        config: for ``from_pretrained``.

    Raises:
        ValueError: the checkpoint lacks weights other than the head's.
    """
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()  # its table of missing weights is checked below instead
    try:
        with seeded():  # transformers draws a head too, which is replaced below
            model, info = load_model(kind, checkpoint, **config)
    finally:
        hf_logging.set_verbosity(verbosity)
    fresh = ("classifier.", "pre_classifier.", "score.", "bert.pooler.", "qa_outputs.")
    lost = sorted(name for name in info["missing_keys"] if not name.startswith(fresh))
    if lost:
        raise ValueError(
            f"{checkpoint} lacks {len(lost)} weights of a {type(model).__name__} (for instance "
            f"{lost[0]}): it is no checkpoint of that architecture"
        )
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name in info["missing_keys"] and parameter.dim() > 1:  # biases stay 0
            width = parameter.shape[1]
            torch.nn.init.normal_(parameter, std=HEAD_SCALE / width, generator=generator)
    return model


def fine_tuned(kind: type, checkpoint: str | Path) -> PreTrainedModel:
    """A fine-tuned checkpoint in float32, to teach or to be measured.

    Args:
        kind: ``AutoModelForSequenceClassification``, ``AutoModelForQuestionAnswering``.
        checkpoint: Hub id or folder.

    Raises:
        ValueError: it lacks weights: transformers would draw a random head.
    """
    model, info = load_model(kind, checkpoint)
    if info["missing_keys"]:
        raise ValueError(
            f"{checkpoint} lacks weights of a {type(model).__name__} (for instance "
            f"{min(info['missing_keys'])}): it is not fine-tuned yet"
        )
    return model


def finetune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str,
    data: Mapping[str, Any],
    training: TrainingConfig,
    *,
    name: str,
    teacher: PreTrainedModel | None = None,
    loss_config: FinetuneLossConfig | None = None,
    max_length: int | None = None,
    keep_model: bool = True,
) -> Run:
    """Train a copy of a sequence classifier on a task; scores of every labelled split in result.

    What it answers to each example of those splits stays with the run (``run.predictions()``).

    A finished run of this name and configuration is returned as it is, an unfinished one goes on.

    Args:
        model: a sequence classifier with the task's number of labels; stays as it is.
        tokenizer: the model's; the teacher's too.
        task: a row of :data:`distilkit.data.tasks.TASKS`.
        data: its splits (:func:`distilkit.data.tasks.load`).
        training: how long, in which batches, with which AdamW.
        name: of the run's folder.
        teacher: a classifier fine-tuned on this task, for soft targets beside the labels; comes
            back in its own mode and to its own device.
        objective: the weights of the two; default 0.5 each at T = 2. Only with a teacher.
        max_length: tokens; longer inputs are cut. By default 128 (as BERT's authors) for GLUE and
            512 for IMDb, or fewer if the model has fewer positions.
        keep_model: save the fine-tuned weights in ``run.model``; a sweep over many seeds does not.

    Raises:
        ValueError: unknown task; a head or teacher that does not fit the task.
    """
    the_task = get_task(task)
    loss_config = check_loss_config(loss_config, teacher)
    readers = (model,) if teacher is None else (model, teacher)
    max_length = input_length(readers, max_length, the_task.max_length)
    for reader in readers:
        check_classifier(reader, the_task)
    examples = task_examples(
        data["train"], the_task, tokenizer, max_length=max_length, seed=training.seed
    )
    held_out = {
        split: task_examples(data[split], the_task, tokenizer, max_length=max_length, seed=0)
        for split in (*the_task.validation, *the_task.test)
        if split in data and _has_labels(data[split])
    }

    def score(trained: PreTrainedModel) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        logits = {split: predict(trained, held)[0] for split, held in held_out.items()}
        found = {k: score_of(the_task, z, held_out[k].labels) for k, z in logits.items()}
        return found, logits

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
        task_loss(the_task, teacher, loss_config),
        score,
        name=name,
        task=task,
        teacher=teacher,
        loss_config=loss_config,
        config=config,
    )


def check_loss_config(
    loss_config: FinetuneLossConfig | None, teacher: PreTrainedModel | None
) -> FinetuneLossConfig | None:
    """The objective, by default half and half with a teacher; ValueError without a teacher."""
    if teacher is None and loss_config is not None:
        raise ValueError("an objective with soft targets needs teacher=..., fine-tuned on the task")
    return FinetuneLossConfig() if loss_config is None and teacher is not None else loss_config


def input_length(readers: Iterable[PreTrainedModel], wanted: int | None, default: int) -> int:
    """How many tokens an input has: `wanted`, or `default` or as many as all models can read.

    Raises:
        ValueError: more are wanted than a model has positions, or fewer than make a pair.
    """
    longest = min(positions(reader) for reader in readers)
    if wanted is None:
        return min(default, longest)
    if wanted > longest:
        raise ValueError(
            f"max_length = {wanted}, but model or teacher has {longest} positions: give at most "
            "that"
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
    """What fine-tuning on any task has in common: the run around the loop.

    Args:
        model: a copy is trained.
        tokenizer: saved with it.
        examples: the training examples.
        training, name: as for :func:`finetune`.
        loss: for the loop.
        score: of the trained model, the scores of each split, and the logits of each that the run
            is to keep.
        task: its name.
        teacher, objective: as for :func:`finetune`.
        config: what else decides the result; ``keep_model`` false leaves the weights out.
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
        lent = () if teacher is None else (teacher,)
        with eval_mode(*lent, device=processes().device):
            summary = train(model, examples, loss, training, run)
        found, logits = score(model)
        if processes().is_main_process:
            if config.get("keep_model", True):
                model.save_pretrained(run.model)
                tokenizer.save_pretrained(run.model)
            if logits:
                run.keep_predictions(logits)
            run.finish({"kind": "finetune", "task": task, **summary, "scores": found})
    return run


def task_loss(
    the_task: Task,
    teacher: PreTrainedModel | None = None,
    loss_config: FinetuneLossConfig | None = None,
) -> Callable[[nn.Module, dict[str, Any], dict[str, int]], dict[str, Tensor]]:
    """The loss for the loop: cross-entropy (or squared error), and soft targets with a teacher.

    For regression, where there are no classes to soften, the soft-target term is the squared error
    against the teacher's prediction.
    """

    def loss(
        model: PreTrainedModel, batch: dict[str, Any], counts: dict[str, int]
    ) -> dict[str, Tensor]:
        logits = at_least_float32(_logits(model, batch))  # B, C
        labels, count = batch["labels"], counts["examples"]
        if the_task.regression:
            against_labels = F.mse_loss(logits[:, 0], labels, reduction="sum") / count
        else:
            against_labels = F.cross_entropy(logits, labels, reduction="sum") / count
        if teacher is None:
            return {"loss": against_labels, "task": against_labels}

        with torch.no_grad():
            teacher_logits = at_least_float32(_logits(teacher, batch))  # B, C
        if the_task.regression:
            soft_target = F.mse_loss(logits, teacher_logits, reduction="sum") / count
        else:
            soft_target = soft_target_loss(
                logits, teacher_logits, loss_config.temperature, count=count
            )
        total = loss_config.label_weight * against_labels + loss_config.kd_weight * soft_target
        return {"loss": total, "task": against_labels, "soft_target": soft_target}

    return loss


def predict(
    model: PreTrainedModel, examples: Examples, batch_size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """The logits [examples, C] and labels [examples] of a split, in the data's order."""
    logits = by_example(model, examples, lambda batch: _logits(model, batch), batch_size)
    return np.stack(logits), examples.labels


def by_example(
    model: PreTrainedModel,
    examples: Examples,
    outputs: Callable[[dict[str, Tensor]], Tensor],
    batch_size: int,
) -> list[np.ndarray]:
    """What `outputs` says of each example, in the data's order, without dropout or gradients.

    Several processes, which call this together, share the batches; each gets all answers.

    Args:
        model: put into eval mode meanwhile.
        examples: of whatever kind.
        outputs: a batch's [B, ...], in the model's precision.
        batch_size: examples a forward pass.
    """
    by_length = np.argsort(examples.lengths, kind="stable")
    batches = [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    state = processes()

    def measure(model: PreTrainedModel) -> dict[int, np.ndarray]:
        found = {}
        for ids in batches[state.process_index :: state.num_processes]:
            batch = examples.batch(0, ids)
            batch = to_device(batch, model.device)
            found |= zip(ids, at_least_float32(outputs(batch)).cpu().numpy(), strict=True)
        return found

    found = evaluate(model, measure)
    for others in gather_object([found]):
        found |= others
    return [found[i] for i in range(len(examples))]


def evaluate_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str,
    data: Any,
    *,
    max_length: int = 128,
) -> dict[str, float | None]:
    """The task's metrics of a classifier on one split, between -1 and 1; None where undefined."""
    the_task = get_task(task)
    check_classifier(model, the_task)
    examples = task_examples(data, the_task, tokenizer, max_length=max_length, seed=0)
    return score_of(the_task, *predict(model, examples))


def score_of(the_task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """The task's metrics of logits [examples, C] against labels [examples]; None where undefined.

    Raises:
        FloatingPointError: a logit is not finite.
    """
    if not np.isfinite(logits).all():
        raise FloatingPointError(f"{the_task.name}: the model's predictions are not finite")
    answers = logits[:, 0] if the_task.regression else logits.argmax(-1)
    return scores(the_task.name, answers, labels)


def _has_labels(split: Any) -> bool:
    """GLUE's test sets have none: the column holds -1 throughout, or is missing."""
    names = getattr(split, "column_names", None) or list(split)
    return "label" in names and len(split["label"]) > 0 and min(split["label"][:]) >= 0


def check_classifier(model: PreTrainedModel, the_task: Task) -> None:
    """Raise ValueError unless the model's head has the task's labels, in the task's order."""
    wanted = max(1, len(the_task.labels))
    labels = dict(model.config.id2label)
    if model.config.num_labels != wanted:
        raise ValueError(
            f"{the_task.name} has {wanted} output(s), the model {model.config.num_labels}: load it "
            f"with sequence_classifier(checkpoint, {the_task.name!r}, seed)"
        )
    named = [str(labels[i]).lower() for i in range(wanted)]
    # checkpoints without names say LABEL_0, LABEL_1: nothing to compare
    if sorted(named) == sorted(the_task.labels) and tuple(named) != the_task.labels:
        raise ValueError(
            f"the model's labels are {named}, the task's {list(the_task.labels)}: the same names "
            "in another order, so its answers would be read wrongly"
        )


def _logits(model: PreTrainedModel, batch: Mapping[str, Any]) -> Tensor:
    return model(**inputs_of(model, batch)).logits  # B, C


def inputs_of(model: PreTrainedModel, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a model reads of a batch; a BERT its token types too, a DistilBERT has none."""
    names = ["input_ids", "attention_mask"]
    if "token_type_ids" in inspect.signature(model.forward).parameters:
        names.append("token_type_ids")
    return {name: batch[name] for name in names}
