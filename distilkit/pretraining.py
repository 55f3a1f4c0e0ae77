"""Pretraining: a teacher by masked words alone, a student by the triple loss.

Sanh et al. 2019 (arXiv 1910.01108), sections 2 and 3. This module forms the loss and calls the
loop; models, tokenizer and blocks are the caller's.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import PreTrainedModel

from distilkit.config import MLM_ONLY, Objective, Training, as_json
from distilkit.corpus import MaskedBlocks
from distilkit.lean_head import lean_triple_loss, mlm_head
from distilkit.loop import evaluate, train
from distilkit.run import Run, open_run


def distil(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    blocks: MaskedBlocks,
    training: Training,
    *,
    name: str,
    objective: Objective | None = None,
    validation: MaskedBlocks | None = None,
) -> Run:
    """Train a copy of `student` by the triple loss against `teacher`; see :func:`pretrain`."""
    return pretrain(
        student,
        blocks,
        training,
        name=name,
        objective=objective or Objective(),
        teacher=teacher,
        validation=validation,
    )


def pretrain(
    model: PreTrainedModel,
    blocks: MaskedBlocks,
    training: Training,
    *,
    name: str,
    objective: Objective = MLM_ONLY,
    teacher: PreTrainedModel | None = None,
    validation: MaskedBlocks | None = None,
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
        teacher: needed if the objective asks one; put into eval mode, gets no gradients.
        validation: held-out text; its losses are logged under a mask that never changes.

    Raises:
        ValueError: the objective needs a teacher and there is none, or the two do not fit.
    """
    _check(model, teacher, objective, blocks, validation)
    config = {
        "kind": "pretrain",
        "objective": as_json(objective),
        "training": as_json(training),
        "model": fingerprint(model),
        "teacher": fingerprint(teacher) if teacher is not None else None,
        "text": _text_digest(blocks),
        "validation": _text_digest(validation) if validation is not None else None,
        "blocks": list(blocks.blocks.shape),
    }
    with open_run(name, config) as run:
        if run.finished:
            return run
        model = copy.deepcopy(model)
        if teacher is not None:
            teacher = teacher.to(PartialState().device).eval()
        validate = None
        if validation is not None:

            def validate(trained: nn.Module) -> dict[str, float]:
                return losses_on(trained, validation, objective, teacher, training.micro_batch_size)

        summary = train(
            model, blocks, language_model_loss(objective, teacher), training, run, validate=validate
        )
        model.save_pretrained(run.model)
        blocks.tokenizer.save_pretrained(run.model)  # so that run.model alone makes a pipeline
        last = [row for row in run.rows() if row["split"] == "validation"]
        run.finish({"kind": "pretrain", **summary, **_prefixed("validation_", last)})
    return run


def language_model_loss(
    objective: Objective, teacher: PreTrainedModel | None = None
) -> Callable[[nn.Module, dict[str, Any], dict[str, int]], dict[str, Tensor]]:
    """The loss for the loop: teacher and student see the same corrupted input.

    Micro-batches as :meth:`distilkit.corpus.MaskedBlocks.batch` makes them.
    """

    def loss(
        model: PreTrainedModel, batch: dict[str, Any], counts: dict[str, int]
    ) -> dict[str, Tensor]:
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        teacher_rows = None
        if objective.needs_teacher:
            with torch.no_grad():  # and eval(): no dropout in the targets
                teacher_rows = _rows(teacher, inputs, batch["rows"])  # N, H
        terms = lean_triple_loss(
            _rows(model, inputs, batch["rows"]),  # N, H
            mlm_head(model),
            batch["targets"],  # M
            objective,
            teacher_hidden=teacher_rows,
            teacher_head=mlm_head(teacher) if objective.needs_teacher else None,
            counts={
                "soft_target": counts["tokens" if objective.tokens == "all" else "masked"],
                "mlm": counts["masked"],
                "cosine": counts["tokens"],
            },
        )
        return terms._asdict()

    return loss


def losses_on(
    model: PreTrainedModel,
    blocks: MaskedBlocks,
    objective: Objective,
    teacher: PreTrainedModel | None = None,
    batch_size: int = 32,
) -> dict[str, float]:
    """The terms of the objective on held-out blocks, each the mean over all its tokens.

    The masks are those of epoch 0, so the numbers of two steps or two students compare.

    Raises:
        ValueError: the objective needs a teacher and there is none, or they do not fit.
    """
    _check(model, teacher, objective, blocks)
    loss = language_model_loss(objective, teacher)
    parts = [
        blocks.batch(0, torch.arange(i, min(i + batch_size, len(blocks))).numpy())
        for i in range(0, len(blocks), batch_size)
    ]
    counts = {key: sum(part["counts"][key] for part in parts) for key in parts[0]["counts"]}

    def measure(model: PreTrainedModel) -> dict[str, float]:
        sums: dict[str, Tensor] = {}
        for part in parts:
            part = {k: v.to(model.device) if isinstance(v, Tensor) else v for k, v in part.items()}
            for term, value in loss(model, part, counts).items():
                sums[term] = sums.get(term, 0) + value
        return {term: float(value) for term, value in sums.items()}

    if teacher is None:
        return evaluate(model, measure)
    return evaluate(teacher, lambda _: evaluate(model, measure))  # no dropout in the targets


def _rows(model: PreTrainedModel, inputs: dict[str, Any], rows: Tensor) -> Tensor:
    """The last hidden states of the selected tokens, [N, H], without any vocabulary projection."""
    return model.base_model(**inputs).last_hidden_state.flatten(0, 1).index_select(0, rows)


def _check(
    model: PreTrainedModel,
    teacher: PreTrainedModel | None,
    objective: Objective,
    blocks: MaskedBlocks,
    validation: MaskedBlocks | None = None,
) -> None:
    """Before time is spent: do model, teacher and text fit one another?"""
    mlm_head(model)  # raises TypeError for a model without one
    used = [model] + ([teacher] if objective.needs_teacher and teacher is not None else [])
    for text in (blocks, validation):
        for reader in used:
            longest = reader.config.max_position_embeddings
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
    if not objective.needs_teacher:
        return
    if teacher is None:
        raise ValueError("this objective needs a teacher: give teacher=..., or use MLM_ONLY")
    mlm_head(teacher)
    for what in ("vocab_size", "hidden_size"):
        theirs, ours = getattr(teacher.config, what), getattr(model.config, what)
        if theirs != ours and (what == "vocab_size" or objective.cosine > 0):
            raise ValueError(
                f"teacher and student differ in {what} ({theirs} and {ours})"
                + ("; the cosine term compares hidden states" if what == "hidden_size" else "")
            )


def fingerprint(model: PreTrainedModel) -> dict[str, str]:
    """Class and SHA-256 of configuration and weights: what a run started from."""
    # what from_pretrained and save_pretrained write there says nothing about the computation
    aside = {"_name_or_path", "architectures", "dtype", "transformers_version"}
    config = {k: v for k, v in model.config.to_dict().items() if k not in aside}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return {"class": type(model).__name__, "sha256": digest.hexdigest()}


def _text_digest(blocks: MaskedBlocks) -> str:
    digest = hashlib.sha256(f"{blocks.blocks.shape} {blocks.seed}".encode())
    for array in (blocks.blocks, blocks.weights):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _prefixed(prefix: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {}
    return {prefix + k: v for k, v in rows[-1].items() if k not in ("step", "split")}
