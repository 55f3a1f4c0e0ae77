"""Pretraining: a teacher by masked words alone, a student by the triple loss.

Sanh et al. 2019 (arXiv 1910.01108), sections 2 and 3. This module forms the loss and calls the
loop; models, tokenizer and blocks are the caller's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from distilkit.config import MLM_ONLY, LossConfig, TrainingConfig, as_json
from distilkit.data.teacher_cache import TeacherCache
from distilkit.fingerprint import fingerprint, text_digest
from distilkit.fused_loss import fused_triple_loss, mlm_head
from distilkit.masking import MaskedBlocks
from distilkit.processes import eval_mode, processes, seeded, to_device
from distilkit.run import Run, open_run
from distilkit.student import positions
from distilkit.study.attention_transfer import attention_term, check_attention, show_attention
from distilkit.training_loop import sum_over_processes, train


def distil(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    blocks: MaskedBlocks,
    training: TrainingConfig,
    *,
    name: str,
    loss_config: LossConfig | None = None,
    validation: MaskedBlocks | None = None,
    teacher_cache: TeacherCache | None = None,
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
        teacher_cache=teacher_cache,
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
    teacher_cache: TeacherCache | None = None,
) -> Run:
    """Train a copy of a masked-language model; masked words alone, or any objective.

    A finished run of this name and configuration is returned as it is, an unfinished one goes on
    from its newest checkpoint. The trained model is in ``run.model``, for ``from_pretrained``.

    Args:
        model: BertForMaskedLM, DistilBertForMaskedLM, ...; stays as it is.
        blocks: training text.
        training: how long, in which batches, with which AdamW.
        name: of the run's folder.
        objective: weights of the three terms, temperature, which tokens.
        teacher: needed if the objective asks one; gets no gradients, and comes back in its own
            mode and to its own device.
        validation: held-out text; its losses are logged under a mask that never changes.
        teacher_cache: its answers to these blocks, kept from before
            (:func:`distilkit.data.teacher_cache.cached_teacher`); validation asks the teacher
            itself.

    Raises:
        ValueError: the objective needs a teacher and there is none, or the two do not fit; or the
            cache is of another teacher or text, or lacks what the objective asks.
    """
    _check(model, teacher, loss_config, blocks, validation)
    config = {
        "kind": "pretrain",
        "loss_config": as_json(loss_config),
        "training": as_json(training),
        "model": fingerprint(model),
        "teacher": fingerprint(teacher) if teacher is not None else None,
        "text": text_digest(blocks),
        "validation": text_digest(validation) if validation is not None else None,
        "blocks": list(blocks.blocks.shape),
    }
    if teacher_cache is not None:
        teacher_cache.check(config["teacher"], config["text"], loss_config, training)
        config["teacher_cache"] = {"key": teacher_cache.key}
    with open_run(name, config) as run:
        if run.finished:
            return run
        model = copy.deepcopy(model)
        device, lent = processes().device, () if teacher is None else (teacher,)
        if teacher is not None:
            add_projections(model, teacher, loss_config, training.seed)
        validate = None
        if validation is not None:

            def validate(trained: nn.Module) -> dict[str, float]:
                return losses_on(
                    trained, validation, loss_config, teacher, training.micro_batch_size
                )

        with eval_mode(*lent, device=device):
            summary = train(
                model,
                teacher_cache or blocks,
                language_model_loss(loss_config, teacher),
                training,
                run,
                validate=validate,
            )
        remove_projections(model)
        if processes().is_main_process:
            model.save_pretrained(run.model)
            blocks.tokenizer.save_pretrained(run.model)  # so that run.model alone makes a pipeline
            last = [row for row in run.rows() if row["split"] == "validation"]
            run.finish({"kind": "pretrain", **summary, **_prefixed("validation_", last)})
    return run


def language_model_loss(
    loss_config: LossConfig, teacher: PreTrainedModel | None = None
) -> Callable[[nn.Module, dict[str, Any], dict[str, int]], dict[str, Tensor]]:
    """The loss for the loop: teacher and student see the same corrupted input.

    Micro-batches as :meth:`distilkit.masking.MaskedBlocks.batch` makes them, or with the teacher's
    answers in them (:meth:`distilkit.data.teacher_cache.TeacherCache.batch`): then it is not asked.
    """
    pairs = _pairs(loss_config)
    looks = loss_config.attention > 0

    def loss(
        model: PreTrainedModel, batch: dict[str, Any], counts: dict[str, int]
    ) -> dict[str, Tensor]:
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        ours, theirs = zip(*pairs, strict=True)
        student, our_maps = _rows(model, inputs, batch["rows"], (-1, *ours), looks)  # each N, H
        teachers, their_maps = [None], []
        if "teacher_hidden" in batch:  # of the last layer, for head and cosine
            teachers = [batch["teacher_hidden"].to(teacher.dtype)] * (1 + len(pairs))
        elif loss_config.needs_teacher:
            with torch.no_grad():  # and eval(): no dropout in the targets
                teachers, their_maps = _rows(
                    teacher, inputs, batch["rows"], (-1, *theirs), looks
                )  # each N, H'
        projections = getattr(model, _PROJECTIONS, None) or [None] * len(pairs)
        terms = fused_triple_loss(
            student[0],
            mlm_head(model),
            batch["targets"],  # M
            loss_config,
            teacher_hidden=teachers[0],
            teacher_head=mlm_head(teacher) if loss_config.needs_teacher else None,
            cosine_pairs=[
                (hidden if projection is None else projection(hidden), target)
                for hidden, projection, target in zip(
                    student[1:], projections, teachers[1:], strict=True
                )
            ]
            if loss_config.cosine_weight > 0
            else None,
            counts={
                "soft_target": counts[
                    "tokens" if not loss_config.restrict_kd_to_mask else "masked"
                ],
                "mlm": counts["masked"],
                "cosine": counts["tokens"],
            },
        )
        if not looks:
            return terms._asdict()
        attention = attention_term(
            our_maps, their_maps, pairs, batch["attention_mask"], counts["tokens"]
        )
        total = terms.loss + loss_config.attention * attention
        return terms._asdict() | {"loss": total, "attention": attention.detach()}

    return loss


def losses_on(
    model: PreTrainedModel,
    blocks: MaskedBlocks,
    loss_config: LossConfig,
    teacher: PreTrainedModel | None = None,
    batch_size: int = 32,
) -> dict[str, float]:
    """The terms of the objective on held-out blocks, each the mean over all its tokens.

    The masks are those of epoch 0, so the numbers of two steps or two students compare. Measured
    on the accelerator, if there is one; the models come back to where they were. Several
    processes, which call this together, share the blocks.

    Raises:
        ValueError: the objective needs a teacher and there is none, or they do not fit.
    """
    _check(model, teacher, loss_config, blocks)
    needs_maps = (
        loss_config.cosine_weight > 0 and model.config.hidden_size != teacher.config.hidden_size
    )
    if needs_maps and not hasattr(model, _PROJECTIONS):
        raise ValueError(
            "teacher and student differ in hidden_size, and the projections of the cosine term "
            "were thrown away after the training: measure with cosine=0"
        )
    loss = language_model_loss(loss_config, teacher)
    starts = range(0, len(blocks), batch_size)

    def part(start: int) -> dict[str, Any]:
        return blocks.batch(0, np.arange(start, min(start + batch_size, len(blocks))))

    # masked twice rather than all kept: a large held-out text would fill the memory
    counted = [part(start)["counts"] for start in starts]
    counts = {key: sum(each[key] for each in counted) for key in counted[0]}
    rank, world = processes().process_index, processes().num_processes

    device, models = processes().device, (model, *(() if teacher is None else (teacher,)))
    with eval_mode(*models, device=device), torch.no_grad():  # no dropout in the targets either
        sums: dict[str, Tensor] = {}
        for first in range(0, len(starts), world):  # as many for all: see loop.train
            own = first + rank
            batch = part(starts[own if own < len(starts) else 0])
            batch = to_device(batch, device)
            for term, value in loss(model, batch, counts).items():
                sums[term] = sums.get(term, 0) + value * (own < len(starts))
        return sum_over_processes(sums)


_PROJECTIONS = "cosine_projections"  # of the model, while it is trained


def add_projections(
    model: PreTrainedModel, teacher: PreTrainedModel, loss_config: LossConfig, seed: int
) -> None:
    """Where the widths differ, the cosine term compares through a learned linear map.

    One for each pair of ``objective.cosine_layers``, from the student's width to the teacher's,
    trained with the model and thrown away afterwards (TinyBERT's W_h: Jiao et al. 2020, equation
    8). They stand in the model meanwhile, so that optimizer and checkpoints hold them.
    """
    ours, theirs = model.config.hidden_size, teacher.config.hidden_size
    if loss_config.cosine_weight == 0 or ours == theirs:
        return
    with seeded(seed):
        maps = [nn.Linear(ours, theirs, bias=False) for _ in _pairs(loss_config)]
    setattr(model, _PROJECTIONS, nn.ModuleList(maps))


def remove_projections(model: PreTrainedModel) -> None:
    """The model without the maps of :func:`add_projections`, as it is to be saved."""
    if hasattr(model, _PROJECTIONS):
        delattr(model, _PROJECTIONS)


def _pairs(loss_config: LossConfig) -> tuple[tuple[int, int], ...]:
    """(student, teacher) hidden states that the cosine term aligns; -1 is the last."""
    return loss_config.cosine_layers or ((-1, -1),)


def _rows(
    model: PreTrainedModel,
    inputs: dict[str, Any],
    rows: Tensor,
    layers: tuple[int, ...],
    attentions: bool = False,
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Hidden states of the selected tokens, each [N, H], without any vocabulary projection.

    And, if asked for, the attention of every layer, each [B, heads, L, L].
    """
    if attentions:
        show_attention(model)
    deep = any(layer != -1 for layer in layers)
    out = model.base_model(**inputs, output_hidden_states=deep, output_attentions=attentions)
    states = {layer: out.hidden_states[layer] for layer in set(layers)} if deep else {}
    states[-1] = out.last_hidden_state
    states = {k: state.flatten(0, 1).index_select(0, rows) for k, state in states.items()}
    return [states[layer] for layer in layers], out.attentions if attentions else ()


def _check(
    model: PreTrainedModel,
    teacher: PreTrainedModel | None,
    loss_config: LossConfig,
    blocks: MaskedBlocks,
    validation: MaskedBlocks | None = None,
) -> None:
    """Before time is spent: do model, teacher and text fit one another?"""
    mlm_head(model)  # raises TypeError for a model without one
    used = [model] + ([teacher] if loss_config.needs_teacher and teacher is not None else [])
    for text in (blocks, validation):
        for reader in used:
            longest = positions(reader)
            if text is not None and text.blocks.shape[1] > longest:
                raise ValueError(
                    f"blocks of {text.blocks.shape[1]} tokens, but the {type(reader).__name__} has "
                    f"{longest} positions: pack the text into shorter blocks"
                )
    if len(blocks.weights) > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(blocks.weights)} entries, the model {model.config.vocab_size}"
            ": they do not belong together"
        )
    if not loss_config.needs_teacher:
        return
    if teacher is None:
        raise ValueError("this objective needs a teacher: give teacher=..., or use MLM_ONLY")
    mlm_head(teacher)
    if teacher.config.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"teacher and student differ in vocab_size ({teacher.config.vocab_size} and "
            f"{model.config.vocab_size})"
        )
    if loss_config.attention > 0:
        check_attention(model, teacher)
    for pair in loss_config.cosine_layers or ():
        for layer, reader, who in zip(pair, (model, teacher), ("student", "teacher"), strict=True):
            if layer > reader.config.num_hidden_layers:
                raise ValueError(
                    f"cosine_layers holds {pair}, but the {who} has "
                    f"{reader.config.num_hidden_layers} layers"
                )


def _prefixed(prefix: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {}
    return {prefix + k: v for k, v in rows[-1].items() if k not in ("step", "split")}
