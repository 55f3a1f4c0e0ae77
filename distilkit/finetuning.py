"""Fine-tuning on a task of any kind, with or without a teacher, and evaluation.

Devlin et al. 2019, section 4.1; with a teacher as in Sanh et al. 2019, section 4.1.
"""

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.config import FinetuneLossConfig, TrainingConfig
from distilkit.data.classifier_checks import (
    MOST_EXAMPLES,
    check_classifier,
    check_has_labels,
    check_teacher,
    is_named,
)
from distilkit.data.examples import NOT_A_WORD, Examples, by_length, tokens_at_once
from distilkit.data.question_answering import best_answers
from distilkit.data.tables import check_columns
from distilkit.data.task_examples import (
    check_labels,
    column_names,
    is_scored,
    labelled,
    task_examples,
)
from distilkit.data.task_loss import TaskLoss, logits_of
from distilkit.data.tasks import UNLABELLED, Task, check_metrics, get_task, scores
from distilkit.data.teacher_logits import TeacherLogits, sees_every_text
from distilkit.data.text_check import check_known
from distilkit.families import check_cosine_layers, positions
from distilkit.losses import at_least_float32
from distilkit.models.heads import fine_tuned, with_new_head
from distilkit.models.vocabulary import check_vocabulary, own_tokenizer
from distilkit.processes import eval_mode, processes, to_device
from distilkit.run import Run, as_json, model_entry, open_run, run_folder, teacher_entry
from distilkit.training_loop import check_weights, train

LEAST_LENGTH = 8  # tokens: two sentences, [CLS] and [SEP] twice


def classifier(checkpoint: str | Path, task: str | Task, seed: int) -> PreTrainedModel:
    """Load a checkpoint with a new head for a task, drawn from `seed`.

    The head is new even if the checkpoint has one. The task's label names go into the config, so
    that two models' label orders can be compared.
    """
    task = get_task(task)
    check_has_labels(task)
    labels = list(task.labels) or (["start", "end"] if task.on_spans else ["score"])
    return with_new_head(
        _head_class(task),
        checkpoint,
        seed,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        # transformers has these names for the kinds of this head
        problem_type=task.kind if task.head == "SequenceClassification" else None,
    )


def fine_tuned_on(checkpoint: str | Path, task: str | Task) -> PreTrainedModel:
    """Load a classifier that was fine-tuned on a task, as a teacher or to measure it.

    ValueError if it lacks weights, or its head is not of this task.
    """
    task = get_task(task)
    model = fine_tuned(_head_class(task), checkpoint)
    check_classifier(model, task, "checkpoint")
    return model


def _head_class(task: Task) -> type:
    return getattr(transformers, f"AutoModelFor{task.head}")


def finetune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str | Task,
    data: Mapping[str, Any],
    training: TrainingConfig,
    *,
    name: str,
    teacher: PreTrainedModel | None = None,
    unlabelled: Any = None,
    loss_config: FinetuneLossConfig | None = None,
    max_length: int | None = None,
    keep_model: bool = True,
) -> Run:
    """Train a copy of a classifier on a task; score it on every labelled split.

    Scores are in ``run.result()``, the teacher's there too; the logits of those splits are in
    ``run.predictions()``, of words one after another, of spans none. A finished run of this name
    and configuration is returned at once, an unfinished one resumes.

    Args:
        model: a classifier with the task's labels; not changed.
        data: its splits (:func:`distilkit.data.task_files.load`). Training examples without a label
            (-1, NaN, None or no column ``label``) need a teacher.
        teacher: a classifier fine-tuned on this task, for soft targets as well as the labels; it
            returns to its own mode and device, and reads the ids of the tokenizer saved with it, if
            there is one. A training of an epoch or more stores its logits for other seeds and
            students, unless hidden states are compared. The teacher is freed then, if only this
            call holds it.
        unlabelled: more training texts, in the task's columns, for the soft targets alone.
        loss_config: by default 0.5 for labels and soft targets each, T = 2. Only with a teacher.
        max_length: tokens; longer inputs are cut. By default the task's, or fewer if the model has
            fewer positions.
        keep_model: save the fine-tuned weights in ``run.model``; a sweep over many seeds does not.

    Raises:
        ValueError: unknown task; a head, teacher or tokenizer that does not fit; neither labels nor
            teacher; a teacher with another class order; weights in half precision.
    """
    import distilkit.data.metrics  # noqa: F401 - without `evaluate`, say so before hours are spent

    task = get_task(task)
    check_metrics(task)
    run = Run(run_folder(name))
    if teacher is not None:
        loss_config = loss_config or FinetuneLossConfig()
    elif loss_config is not None:
        raise ValueError("a loss with soft targets needs teacher=..., fine-tuned on the task")
    max_length = input_length(  # of a list without a name: nothing may hold the models, see below
        [m for m in (model, teacher) if m is not None], max_length, task.max_length
    )
    check_weights(model)
    check_classifier(model, task, "model")
    if teacher is not None:
        check_classifier(teacher, task, "teacher")
    check_vocabulary(model, tokenizer)
    own = None
    if teacher is not None:
        own = teacher_tokenizer(task, teacher, tokenizer, loss_config.cosine_weight > 0)
        if loss_config.cosine_weight > 0:
            check_cosine_layers(loss_config.cosine_layers, model, teacher)
    _check_texts(task, data, unlabelled, loss_config)
    of_teacher = None
    if teacher is not None and not run.finished:
        of_teacher = teacher_scores(task, teacher, own or tokenizer, data, max_length)

    length = {"max_length": max_length}
    of_training = {"teacher_tokenizer": own, "unlabelled": unlabelled, "seed": training.seed}
    examples = task_examples(data["train"], task, tokenizer, **of_training, **length)
    check_labels(task, examples, "train")
    check_known(examples.input_ids.flat, tokenizer, task.name)
    held_out = {
        split: task_examples(data[split], task, tokenizer, seed=0, **length)
        for split in (*task.validation, *task.test)
        if split in data and is_scored(task, data[split], split)
    }
    for split, held in held_out.items():
        check_labels(task, held, split)
    for each in (examples, *held_out.values()):
        _check_token_types(model, each)
        if teacher is not None:
            _check_token_types(teacher, each.teacher or each)

    config = {
        "kind": "finetune",
        "task": task.name,
        "loss_config": as_json(loss_config) if loss_config else None,
        "training": as_json(training),
        "model": model_entry(model),
        "teacher": teacher_entry(teacher),
        "examples": len(examples),
        "data": {k: e.digest() for k, e in {"train": examples, **held_out}.items()},
        "max_length": max_length,
        "keep_model": keep_model,
    }
    loss = TaskLoss(task, teacher, loss_config)
    hidden = loss_config is not None and loss_config.cosine_weight > 0
    if hidden:
        loss.add_projections(model, training.seed)
    with open_run(name, config, training.log_with) as run:
        if run.finished:
            return run
        source: Any = examples
        if teacher is not None and not hidden and sees_every_text(examples, training):
            source = TeacherLogits(examples, task, teacher, training)
            loss, teacher = TaskLoss(task, None, loss_config), None
        # If nobody else holds them, the teacher is freed by now, and the given model by this copy
        model = copy.deepcopy(model)
        _name_outputs(model, task)
        borrowed_models = () if teacher is None else (teacher,)
        with eval_mode(*borrowed_models, device=processes().device):
            summary = train(model, source, loss, training, run)
        predicted = {split: predict(model, held) for split, held in held_out.items()}
        scores_by_split = {split: score_of(task, *both) for split, both in predicted.items()}
        if processes().is_main_process:
            if keep_model:
                run.keep_model(model, tokenizer)
            if predicted and not task.on_spans:
                together = np.concatenate if task.on_words else np.asarray
                run.keep_predictions({k: together(logits) for k, (logits, _) in predicted.items()})
            measured = {} if of_teacher is None else {"teacher_scores": of_teacher}
            result = {"kind": "finetune", "task": task.name, **summary, "scores": scores_by_split}
            run.finish(result | measured)
    return run


def _name_outputs(model: PreTrainedModel, task: Task) -> None:
    """Write kind and label names into a model's config, which transformers' pipelines read."""
    config = model.config
    if task.head == "SequenceClassification":
        config.problem_type = config.problem_type or task.kind
    if task.labels and not is_named(config):
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: i for i, label in enumerate(task.labels)}


def teacher_tokenizer(
    task: Task,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    compares_states: bool = False,
) -> PreTrainedTokenizerBase | None:
    """Return the teacher's tokenizer if it reads other token ids than the model.

    ValueError if labels are on tokens, or hidden states are compared: tokens have to be the same.
    """
    own = own_tokenizer(teacher, tokenizer)
    if own is not None and (task.on_words or task.on_spans or compares_states):
        what = f"{task.name} has labels on tokens"
        if compares_states:
            what = "hidden states are compared (cosine_weight)"
        raise ValueError(
            f"{what}, and the teacher reads other token ids than the model: give a teacher with "
            "the model's tokenizer"
        )
    return own


def _check_texts(
    task: Task, data: Mapping[str, Any], unlabelled: Any, loss_config: FinetuneLossConfig | None
) -> None:
    """Refuse texts without the task's columns, or without labels where no teacher gives them."""
    if "train" not in data:
        raise ValueError(f"the data of {task.name} has no 'train', only {', '.join(data)}")
    split = data["train"]
    for texts in (split, *(() if unlabelled is None else (unlabelled,))):
        check_columns(task.columns, column_names(texts), f"{task.name}, training texts")
    known = labelled(task, split)
    if unlabelled is not None or not known.any() or (not known.all() and not task.on_words):
        if loss_config is None:
            raise ValueError(
                f"{task.name}: training examples without a label need the soft targets of a "
                "teacher: give teacher=..., or leave them out"
            )
        if loss_config.kd_weight == loss_config.cosine_weight == 0:
            raise ValueError(
                "FinetuneLossConfig.kd_weight = 0: examples without a label teach nothing then"
            )
    if not known.any():
        warnings.warn(
            f"{task.name}: no training example has a label, so the label term is 0 and the "
            "teacher alone trains the model",
            stacklevel=3,
        )


def teacher_scores(
    task: Task,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Mapping[str, Any],
    max_length: int,
) -> dict[str, dict[str, float | None]]:
    """Score the teacher on at most 2,000 validation examples; refuse one that answers wrongly.

    Measured before hours are spent on its soft targets.
    """
    for split in task.validation:
        if split not in data or not is_scored(task, data[split], split):
            continue
        count = len(data[split][task.columns[0]])
        rows = np.linspace(0, count - 1, min(count, MOST_EXAMPLES)).astype(int)
        columns = {name: list(data[split][name][:]) for name in column_names(data[split])}
        few = {name: [values[i] for i in rows] for name, values in columns.items()}
        examples = task_examples(few, task, tokenizer, max_length=max_length, seed=0)
        with eval_mode(teacher, device=processes().device):
            predicted, labels = predict(teacher, examples)
        measured = score_of(task, predicted, labels)
        known = known_words(task, answers(task, predicted), labels)
        check_teacher(task, teacher, *known, measured[task.score])
        return {split: measured}
    if not task.regression and not is_named(teacher.config):
        warnings.warn(
            f"{task.name}: the teacher's config names no classes and there are no labelled "
            "validation examples, so their order is not checked",
            stacklevel=3,
        )
    return {}


def _check_token_types(model: PreTrainedModel, examples: Examples) -> None:
    types = getattr(model.config, "type_vocab_size", 0)
    highest = int(examples.token_type_ids.flat.max(initial=0))
    if types > 1 and highest >= types:  # a model with one type is given none
        raise ValueError(
            f"the tokenizer writes token type {highest}, and the {type(model).__name__} has "
            f"{types} types: give the tokenizer that belongs to it"
        )


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


def predict(model: PreTrainedModel, examples: Examples) -> tuple[Any, Any]:
    """Return logits [examples, C] and labels [examples, ...] of a split, in the data's order.

    Of labels on words: lists with, for each example, logits [words, C] and labels [words]. The
    logits of words that were cut off are NaN. Of spans: each example's answer, as text, and the
    list of its acceptable ones.
    """
    of_examples = by_example(model, examples, lambda batch: logits_of(model, batch))
    return by_target(of_examples, examples), examples.targets


def by_target(outputs: Sequence[np.ndarray], examples: Examples) -> Any:
    """Return what :func:`predict` does, from each example's [C] or [tokens, C]."""
    if examples.passages is not None:
        return best_answers(examples.passages, outputs)
    if not examples.on_words:
        return np.stack(outputs)
    logits = []
    for of_tokens, numbers, (labels, read) in zip(
        outputs, examples.labels, examples.words, strict=True
    ):
        rows = np.flatnonzero(numbers != NOT_A_WORD)
        if not np.isfinite(of_tokens[rows]).all():
            raise FloatingPointError("the model's predictions are not finite")
        of_words = np.full((len(labels), of_tokens.shape[-1]), np.nan, of_tokens.dtype)
        of_words[read] = of_tokens[rows]
        logits.append(of_words)
    return logits


def by_example(
    model: PreTrainedModel, examples: Examples, outputs: Callable[[dict[str, Tensor]], Tensor]
) -> list[np.ndarray]:
    """Return `outputs` of each example, in the data's order, without dropout or gradients.

    Several processes, which call this together, share the batches; each gets all results.
    `outputs` makes [B, ...] of a batch.
    """
    state, device = processes(), next(model.parameters()).device
    batches = by_length(examples.lengths, tokens_at_once(device))

    by_id: dict[int, np.ndarray] = {}
    with eval_mode(model), torch.no_grad():
        for ids in batches[state.process_index :: state.num_processes]:
            batch = to_device(examples.batch(0, ids), device)
            by_id |= zip(ids, at_least_float32(outputs(batch)).cpu().numpy(), strict=True)
    for others in gather_object([by_id]):
        by_id |= others
    return [by_id[i] for i in range(len(examples))]


def evaluate_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str | Task,
    data: Any,
    *,
    max_length: int | None = None,
) -> dict[str, float | None]:
    """Return a classifier's metrics on one split, whose examples have labels; None if undefined."""
    task = get_task(task)
    check_columns(task.columns, column_names(data), task.name)
    if not is_scored(task, data, "the split"):
        raise ValueError(f"{task.name}: the split has no labels to be scored on")
    check_classifier(model, task, "classifier")
    check_vocabulary(model, tokenizer)
    max_length = input_length([model], max_length, task.max_length)
    examples = task_examples(data, task, tokenizer, max_length=max_length, seed=0)
    check_labels(task, examples, "the split")
    return score_of(task, *predict(model, examples))


def score_of(task: Task, logits: Any, labels: Any) -> dict[str, float | None]:
    """Return the metrics of logits against labels, as :func:`predict` gives them.

    None where undefined. Words without a label are left out.
    """
    if not (task.on_words or task.on_spans) and not np.isfinite(logits).all():
        raise FloatingPointError(f"{task.name}: the model's predictions are not finite")
    return scores(task, *known_words(task, answers(task, logits), labels))


def answers(task: Task, logits: Any) -> Any:
    """Return the predictions in logits, as :func:`distilkit.data.tasks.scores` takes them.

    Class numbers [examples]; 0 or 1 [examples, labels]; reals [examples]; for spans the texts. On
    words a class number for each, for those that were cut off that of "O" (or of the first label).
    """
    if task.on_spans:
        return logits
    if task.regression:
        return logits[:, 0]
    if task.kind == "multi_label_classification":
        return (logits > 0).astype(np.int64)
    if not task.on_words:
        return logits.argmax(-1)
    unread = task.labels.index("O") if "O" in task.labels else 0
    return [np.where(np.isnan(z).any(-1), unread, z.argmax(-1)) for z in logits]


def known_words(task: Task, predicted: Any, labels: Any) -> tuple[Any, Any]:
    """Return answers and labels without the words that have no label; of other tasks all."""
    if not task.on_words:
        return predicted, labels
    known = [np.asarray(own) != UNLABELLED for own in labels]
    return tuple(
        [np.asarray(words)[k] for words, k in zip(each, known, strict=True)]
        for each in (predicted, labels)
    )
