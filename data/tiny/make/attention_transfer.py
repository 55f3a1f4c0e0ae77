"""Attention transfer: a loss term for a student whose layers are not copies.

Hidden states and soft targets say what a layer computes, hardly how. A head that finds the same
word in the other sentence changes the states very little, and yet comparing two sentences needs
it; the attention map shows it at once. Jiao et al. 2020 (TinyBERT, arXiv 1909.10351), equation 7,
with the KL divergence of Wang et al. 2020 (MiniLM, arXiv 2002.10957), section 3.1, in place of the
squared difference of scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from distilkit.losses import at_least_float32

_LEAST = 1e-6  # of a probability, in the logarithm: padding is attended to with exactly 0


@dataclass(frozen=True)
class AttentionTransfer:
    """Extra loss for :func:`distilkit.distillation.pretrain`: ``weight`` times the mean KL.

    It runs both models once more, in the attention implementation that returns its maps.
    """

    weight: float
    pairs: tuple[tuple[int, int], ...]  # as for :func:`attention_term`

    def __call__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        batch: dict[str, Any],
        counts: dict[str, int],
    ) -> dict[str, Tensor]:
        check_attention(student, teacher)
        mask = batch["attention_mask"]
        inputs = {"input_ids": batch["input_ids"], "attention_mask": mask}
        show_attention(student)
        show_attention(teacher)
        with torch.no_grad():
            teacher_maps = teacher.base_model(**inputs, output_attentions=True).attentions
        student_maps = student.base_model(**inputs, output_attentions=True).attentions
        term = attention_term(student_maps, teacher_maps, self.pairs, mask, counts["tokens"])
        return {"attention": self.weight * term}


def attention_loss(
    student: Tensor,
    teacher: Tensor,
    attention_mask: Tensor | None = None,
    *,
    count: float | None = None,
) -> Tensor:
    """Return the mean over heads and non-pad queries of ``KL(teacher's attention ‖ student's)``.

    Args:
        student: [B, heads, L, L], each row a distribution over keys.
        teacher: likewise; no gradient flows to it.
        attention_mask: [B, L], 1 for tokens, 0 for padding; None: no padding.
        count: the denominator of the mean over queries, by default the number of tokens here.

    Returns:
        Scalar.

    Raises:
        ValueError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"attention_loss: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} "
            "must have the same shape: the same number of heads"
        )
    student, teacher = at_least_float32(student), at_least_float32(teacher.detach())
    log_ratio = teacher.clamp_min(_LEAST).log() - student.clamp_min(_LEAST).log()
    kl = (teacher * log_ratio).sum(-1).mean(1)  # B, L
    if attention_mask is not None:
        kl = kl * attention_mask
    if count is None:  # else no look at the mask: on a GPU that would wait for the step
        count = kl.numel() if attention_mask is None else int(attention_mask.sum())
    return kl.sum() / max(count, 1)


def attention_term(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    pairs: Sequence[tuple[int, int]],
    attention_mask: Tensor | None,
    count: float,
) -> Tensor:
    """Return the mean of :func:`attention_loss` over pairs of layers.

    Args:
        student, teacher: the attention of every layer, each [B, heads, L, L].
        pairs: (student, teacher) hidden states, 1 is what the first layer gives out, -1 the last;
            pairs with 0, the embeddings, have no attention and are left out.
        attention_mask, count: as for :func:`attention_loss`.
    """
    terms = [
        attention_loss(student[_layer(state)], teacher[_layer(target)], attention_mask, count=count)
        for state, target in pairs
        if state and target
    ]
    return sum(terms) / len(terms)


def _layer(state: int) -> int:
    return state - 1 if state > 0 else state


def check_attention(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Refuse models that cannot be compared head by head.

    Raises:
        ValueError: another number of heads, or dropout in the student's attention, after which a
            row is no distribution any more.
    """
    heads, teacher_heads = (model.config.num_attention_heads for model in (student, teacher))
    if heads != teacher_heads:
        raise ValueError(
            f"the student has {heads} attention heads, the teacher {teacher_heads}: attention "
            "transfer compares them one by one"
        )
    c = student.config
    dropout = getattr(c, "attention_probs_dropout_prob", getattr(c, "attention_dropout", 0.0))
    if dropout > 0:
        raise ValueError(
            f"the student's attention dropout is {dropout}: attention transfer compares "
            "distributions, so set attention_probs_dropout_prob (attention_dropout) to 0"
        )


def show_attention(model: PreTrainedModel) -> None:
    """Switch the model to the implementation that returns attention (slower, more memory)."""
    if model.config._attn_implementation != "eager":
        model.set_attn_implementation("eager")
