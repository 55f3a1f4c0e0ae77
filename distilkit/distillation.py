"""Distillation at pretraining: masked-language modelling with a teacher, or without one.

Sanh et al. 2019 (arXiv 1910.01108), sections 2 and 3. This module forms the loss and calls the
loop. Models, tokenizer and blocks are the caller's.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from distilkit.config import MLM_ONLY, LossConfig, TrainingConfig
from distilkit.families import check_cosine_layers, mlm_head, positions, width_projections
from distilkit.fused_loss import fused_triple_loss
from distilkit.masking import MaskedBlocks, counts_of, in_order
from distilkit.processes import eval_mode, processes, to_device
from distilkit.run import Run, as_json, model_entry, open_run, teacher_entry
from distilkit.training_loop import check_weights, sum_over_processes, train

# (student, teacher, batch, counts) -> named terms, weighted, each divided by the step's counts
ExtraLoss = Callable[
    [PreTrainedModel, PreTrainedModel | None, dict[str, Any], dict[str, int]], dict[str, Tensor]
]
MOST_PADDING = 1024  # rows of a vocabulary's table that no token has, without a warning
Watch = Callable[[PreTrainedModel], dict[str, float]]


def distil(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    blocks: MaskedBlocks,
    training: TrainingConfig,
    *,
    name: str,
    loss_config: LossConfig | None = None,
    validation: MaskedBlocks | None = None,
    extra_loss: ExtraLoss | None = None,
    watch: Watch | None = None,
) -> Run:
    """Train a copy of `student` by the triple loss against `teacher`; see :func:`pretrain`."""
    return pretrain(
        student,
        blocks,
        training,
        name=name,
        loss_config=loss_config or LossConfig(),
        teacher=teacher,
        validation=validation,
        extra_loss=extra_loss,
        watch=watch,
    )


def pretrain(
    model: PreTrainedModel,
    blocks: MaskedBlocks,
    training: TrainingConfig,
    *,
    name: str,
    loss_config: LossConfig = MLM_ONLY,
    teacher: PreTrainedModel | None = None,
    validation: MaskedBlocks | None = None,
    extra_loss: ExtraLoss | None = None,
    watch: Watch | None = None,
) -> Run:
    """Train a copy of a masked-language model, by MLM only or by any loss configuration.

    A finished run of this name and configuration is returned at once. An unfinished one resumes
    from its newest checkpoint. The trained model is in ``run.model``, for ``from_pretrained``.

    Args:
        model: BertForMaskedLM, DistilBertForMaskedLM, ...; not changed.
        blocks: training text, or another source of its batches
            (:class:`distilkit.data.teacher_cache.TeacherCache`).
        name: of the run's folder.
        teacher: needed if `loss_config` has a term for it. It gets no gradients, and returns to its
            own mode and device.
        validation: held-out text; its losses are logged under masks that never change.
        extra_loss: further terms, added to the loss without a weight. Its repr is in the run's
            config.
        watch: measured and logged at each validation.

    Raises:
        ValueError: the loss needs a teacher and there is none, models and text do not fit, or
            weights are in half precision.
    """
    check_fit(model, teacher, loss_config, blocks, validation)
    check_weights(model)
    config = {
        "kind": "pretrain",
        "loss_config": as_json(loss_config),
        "training": as_json(training),
        "model": model_entry(model),
        "teacher": teacher_entry(teacher),
        "validation": validation.identity() if validation is not None else None,
        "blocks": list(blocks.blocks.shape),
        **blocks.identity(),
    }
    if extra_loss is not None:
        config["extra_loss"] = repr(extra_loss)
        if " at 0x" in config["extra_loss"]:  # a resumed run could not tell it from another
            raise ValueError(
                f"extra_loss = {extra_loss!r}: give a frozen dataclass with __call__, whose repr "
                "holds its settings"
            )
    if hasattr(blocks, "check"):  # stored hidden states are those of one teacher
        blocks.check(config["teacher"], loss_config, training)
    with open_run(name, config, training.log_with) as run:
        if run.finished:
            return run
        model = copy.deepcopy(model)
        loss = LanguageModelLoss(loss_config, teacher, extra_loss=extra_loss)
        loss.add_projections(model, training.seed)
        validate = None
        if validation is not None:

            def validate(trained: nn.Module) -> dict[str, float]:
                found = _mean_losses(trained, validation, loss, training.micro_batch_size)
                return found | watch(trained) if watch else found

        borrowed_models = () if teacher is None else (teacher,)
        with eval_mode(*borrowed_models, device=processes().device):
            summary = train(model, blocks, loss, training, run, validate=validate)
        if processes().is_main_process:
            run.keep_model(model, blocks.tokenizer)  # run.model alone makes a pipeline
            last = {row["split"]: row for row in run.rows()}.get("validation", {})  # the last one
            held_out = {f"validation_{k}": last[k] for k in last.keys() - {"step", "split"}}
            run.finish({"kind": "pretrain", **summary, **held_out})
    return run


class LanguageModelLoss(nn.Module):
    """The triple loss as the loop calls it; teacher and student see the same corrupted input."""

    def __init__(
        self,
        loss_config: LossConfig,
        teacher: PreTrainedModel | None = None,
        *,
        extra_loss: ExtraLoss | None = None,
    ) -> None:
        super().__init__()
        self.loss_config, self.extra_loss = loss_config, extra_loss
        self._teacher = (teacher,)  # in a tuple: its parameters are not this module's
        self.pairs = loss_config.cosine_layers or ((-1, -1),)  # hidden states; -1 is the last
        self.projections = None

    @property
    def teacher(self) -> PreTrainedModel | None:
        return self._teacher[0]

    def add_projections(self, model: PreTrainedModel, seed: int) -> None:
        """Add a linear map from the student's width to the teacher's for each pair, if needed."""
        if _needs_projections(model, self.teacher, self.loss_config):
            self.projections = width_projections(model, self.teacher, len(self.pairs), seed)

    def forward(
        self, model: PreTrainedModel, batch: dict[str, Any], counts: dict[str, int]
    ) -> dict[str, Tensor]:
        """Return ``loss`` and its terms for a micro-batch, each divided by the step's `counts`.

        `batch` is one of :meth:`distilkit.masking.MaskedBlocks.batch`. If it holds the teacher's
        last hidden states, ``teacher_hidden`` [N, H'], no teacher runs.
        """
        c, rows = self.loss_config, batch["rows"]
        layers, teacher_layers = zip(*self.pairs, strict=True)
        student = hidden_rows(model, batch, rows, (-1, *layers))  # each N, H
        teacher: list[Tensor | None] = [None] * len(student)
        if "teacher_hidden" in batch:
            teacher = [batch["teacher_hidden"].to(self.teacher.dtype)] * len(student)
        elif c.needs_teacher:
            with torch.no_grad():  # and eval(): no dropout in the targets
                teacher = hidden_rows(self.teacher, batch, rows, (-1, *teacher_layers))
        maps, cosine_pairs = self.projections or [nn.Identity()] * len(self.pairs), None
        if c.cosine_weight:
            both = zip(maps, student[1:], teacher[1:], strict=True)
            cosine_pairs = [(widen(h), t) for widen, h, t in both]
        terms = fused_triple_loss(
            student[0],
            mlm_head(model),
            batch["targets"],  # M
            c,
            teacher_hidden=teacher[0],
            teacher_head=mlm_head(self.teacher) if c.needs_teacher else None,
            cosine_pairs=cosine_pairs,
            counts={
                "soft_target": counts["masked" if c.restrict_kd_to_mask else "tokens"],
                "mlm": counts["masked"],
                "cosine": counts["tokens"],
            },
        )
        if self.extra_loss is None:
            return terms._asdict()
        extra = self.extra_loss(model, self.teacher, batch, counts)
        logged = {name: value.detach() for name, value in extra.items()}
        return terms._asdict() | logged | {"loss": terms.loss + sum(extra.values())}


def losses_on(
    model: PreTrainedModel,
    blocks: MaskedBlocks,
    loss_config: LossConfig,
    teacher: PreTrainedModel | None = None,
    batch_size: int = 32,
) -> dict[str, float]:
    """Return the terms of the loss on held-out blocks, each the mean over all its tokens.

    The masks are those of epoch 0, so that steps and students compare. Measured on the
    accelerator, if there is one; the models return to their devices. Several processes, which call
    this together, share the blocks.
    """
    check_fit(model, teacher, loss_config, blocks)
    if _needs_projections(model, teacher, loss_config):
        raise ValueError(
            "teacher and student differ in hidden_size, and the projections of the cosine term "
            "were dropped after the training: measure with cosine_weight=0"
        )
    return _mean_losses(model, blocks, LanguageModelLoss(loss_config, teacher), batch_size)


def _mean_losses(
    model: PreTrainedModel, blocks: MaskedBlocks, loss: LanguageModelLoss, batch_size: int
) -> dict[str, float]:
    parts = in_order(blocks, batch_size)
    counts = counts_of(blocks, parts)
    rank, world, device = processes().process_index, processes().num_processes, processes().device
    models = (model, *(() if loss.teacher is None else (loss.teacher,)))
    with eval_mode(*models, device=device), torch.no_grad():  # no dropout in the targets either
        sums: dict[str, Tensor] = {}
        for first in range(0, len(parts), world):  # as many for all: see training_loop.train
            own = first + rank
            batch = to_device(blocks.batch(0, parts[own if own < len(parts) else 0]), device)
            for term, value in loss(model, batch, counts).items():
                sums[term] = sums.get(term, 0) + value * (own < len(parts))
        return sum_over_processes(sums)


def _needs_projections(
    model: PreTrainedModel, teacher: PreTrainedModel | None, loss_config: LossConfig
) -> bool:
    """Tell whether the cosine term compares hidden states of different widths."""
    compared = loss_config.cosine_weight > 0 and teacher is not None
    return compared and model.config.hidden_size != teacher.config.hidden_size


def hidden_rows(
    model: PreTrainedModel, batch: dict[str, Any], rows: Tensor, layers: tuple[int, ...] = (-1,)
) -> list[Tensor]:
    """Return hidden states of the selected tokens, each [N, H], before any vocabulary projection.

    `rows` are flat positions in [B · L]. Of `layers` 0 is the embeddings, -1 the last layer.
    """
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    deep = any(layer != -1 for layer in layers)
    out = model.base_model(**inputs, output_hidden_states=deep)
    states = {layer: out.hidden_states[layer] for layer in set(layers)} if deep else {}
    states[-1] = out.last_hidden_state
    states = {k: state.flatten(0, 1).index_select(0, rows) for k, state in states.items()}
    return [states[layer] for layer in layers]


def check_sizes(model: PreTrainedModel, length: int, entries: int) -> None:
    """Raise ValueError unless a model reads blocks of this length, and a tokenizer's entries."""
    name, rows = type(model).__name__, model.config.vocab_size
    if length > positions(model):
        raise ValueError(
            f"blocks of {length} tokens, but the {name} has {positions(model)} positions: give "
            f"--length {positions(model)} or less (in Python Scale.length)"
        )
    if entries > rows:
        raise ValueError(
            f"the tokenizer has {entries} entries, the {name} {rows}: they do not belong together; "
            "give the tokenizer of the model"
        )
    if rows > entries + MOST_PADDING:
        warnings.warn(
            f"the tokenizer has {entries} entries, the {name} {rows}: check that it is the model's "
            "own tokenizer",
            stacklevel=2,
        )


def check_fit(
    model: PreTrainedModel,
    teacher: PreTrainedModel | None,
    loss_config: LossConfig,
    blocks: MaskedBlocks,
    validation: MaskedBlocks | None = None,
) -> None:
    """Check that model, teacher, text and loss fit one another, before time is spent.

    Raises:
        TypeError: a model has no MLM head, or blocks are not masked.
        ValueError: blocks longer than a model's positions, vocabularies that differ, a layer that
            is not there, or no teacher where the loss needs one.
    """
    if not hasattr(blocks, "batch"):
        what = type(blocks).__name__
        raise TypeError(f"blocks is a {what}: give MaskedBlocks(blocks, tokenizer, seed=...)")
    mlm_head(model)
    used = [model, teacher] if loss_config.needs_teacher and teacher is not None else [model]
    for text in (blocks, *(() if validation is None else (validation,))):
        for each in used:
            check_sizes(each, text.blocks.shape[1], len(text.weights))
    if not loss_config.needs_teacher:
        return
    if teacher is None:
        raise ValueError("this loss needs a teacher: give teacher=..., or use MLM_ONLY")
    mlm_head(teacher)
    if teacher.config.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"teacher and student differ in vocab_size ({teacher.config.vocab_size} and "
            f"{model.config.vocab_size})"
        )
    check_cosine_layers(loss_config.cosine_layers, model, teacher)
