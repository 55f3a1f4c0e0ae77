"""The triple loss without the two [N, V] tensors: rows first, then the vocabulary chunk by chunk.

Over a vocabulary of 30,522 the logits of 4,096 tokens take 0.5 GB for each model, and softmax and
gradient several times that. Three habits avoid it:

1. Rows (tokens) are selected *before* the projection onto the vocabulary.
2. Projection, softmax, losses and the gradient are made chunk by chunk, so only [chunk, V] of
   teacher and student ever stand in memory.
3. Both vocabulary losses have closed-form gradients with respect to the logits, so the gradients
   of hidden states and projection are formed in the forward pass, while the chunk is there:
   ``d(T²·KL)/dz = T · (softmax(z/T) − softmax(t/T))`` (Hinton et al. 2015, equation 2) and
   ``dCE/dz = softmax(z) − onehot``.

The numbers are those of :func:`distilkit.losses.triple_loss` (tested against it in float64); a term
whose weight is 0 is not computed, and reported as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from distilkit.config import Objective
from distilkit.losses import TripleLoss, at_least_float32, cosine_loss

CHUNK_ELEMENTS = 2**23  # logits of one model in a chunk: 32 MiB in float32, near the caches


class Head(NamedTuple):
    """The two parts of a masked-language-model head; parameters of the model itself."""

    transform: Callable[[Tensor], Tensor]  # [N, H] -> [N, H]: dense, activation, LayerNorm
    decoder: nn.Linear  # [N, H] -> [N, V], tied to the word embeddings


def mlm_head(model: PreTrainedModel) -> Head:
    """The MLM head of a BERT, DistilBERT or RoBERTa, cut where the vocabulary begins.

    Raises:
        TypeError: the model has no MLM head that this function knows.
    """
    if hasattr(model, "cls") and hasattr(model.cls, "predictions"):
        return Head(model.cls.predictions.transform, model.cls.predictions.decoder)
    if hasattr(model, "vocab_projector"):
        return Head(
            lambda h: model.vocab_layer_norm(model.activation(model.vocab_transform(h))),
            model.vocab_projector,
        )
    if hasattr(model, "lm_head") and hasattr(model.lm_head, "dense"):
        head = model.lm_head
        return Head(lambda h: head.layer_norm(F.gelu(head.dense(h))), head.decoder)
    raise TypeError(
        f"{type(model).__name__} has no masked-language-model head: load the checkpoint with "
        "AutoModelForMaskedLM"
    )


class _VocabularyLosses(torch.autograd.Function):
    """Soft targets and MLM of rows against one vocabulary, gradients made in the forward pass."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, teacher, targets, objective, counts, differentiate):
        # hidden [N, H] student's rows after the transform; the first M = len(targets) are masked
        # teacher: None, or (hidden [N, H'], weight [V, H'], bias [V]) of the teacher
        (n, _), v, m = hidden.shape, weight.shape[0], len(targets)
        temperature = objective.temperature
        kind = hidden.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        exact = torch.float64 if weight.dtype == torch.float64 else torch.float32
        soft_weight = objective.soft_target * temperature**2 / max(counts["soft_target"], 1)
        mlm_weight = objective.mlm / max(counts["mlm"], 1)

        soft_sum, mlm_sum = hidden.new_zeros((), dtype=exact), hidden.new_zeros((), dtype=exact)
        if differentiate:
            d_hidden = torch.zeros_like(hidden, dtype=exact)
            d_weight = torch.zeros_like(weight, dtype=exact)
            d_bias = torch.zeros_like(bias, dtype=exact)

        with torch.autocast(kind, enabled=False):
            weight_low, bias_low = weight.to(low), bias.to(low)
            if teacher is not None:
                t_hidden, t_weight, t_bias = (x.to(low) for x in teacher)
            rows = max(1, CHUNK_ELEMENTS // v)
            for start in range(0, n, rows):
                chunk = slice(start, min(start + rows, n))
                masked = max(0, min(m, chunk.stop) - start)  # rows of this chunk with a target
                h = hidden[chunk].to(low)
                z = F.linear(h, weight_low, bias_low).to(exact)  # chunk, V
                d_z = None
                if teacher is not None:
                    t = F.linear(t_hidden[chunk], t_weight, t_bias).to(exact)  # chunk, V
                    if objective.mlm_target == "teacher":
                        target = t[:masked].argmax(-1)
                    if objective.soft_target > 0:
                        log_p = F.log_softmax(t / temperature, dim=-1)
                        log_q = F.log_softmax(z / temperature, dim=-1)
                        p = log_p.exp()
                        soft_sum += (p * (log_p - log_q)).sum()
                        if differentiate:
                            d_z = log_q.exp_().sub_(p).mul_(soft_weight / temperature)
                if objective.mlm > 0 and masked:
                    if objective.mlm_target == "original":
                        target = targets[start : start + masked]
                    log_q = F.log_softmax(z[:masked], dim=-1)
                    mlm_sum -= log_q.gather(1, target[:, None]).sum()
                    if differentiate:
                        d_mlm = log_q.exp_()
                        d_mlm.scatter_add_(1, target[:, None], d_mlm.new_full((masked, 1), -1.0))
                        d_mlm.mul_(mlm_weight)
                        if d_z is None:
                            d_z = torch.zeros_like(z)
                        d_z[:masked] += d_mlm
                if differentiate and d_z is not None:
                    d_bias += d_z.sum(0)
                    d_z = d_z.to(low)
                    d_hidden[chunk] = (d_z @ weight_low).to(exact)
                    d_weight += (d_z.t() @ h).to(exact)

        if differentiate:
            # plain attributes, not save_for_backward: backward scales them in place, once
            ctx.gradients = (
                d_hidden.to(hidden.dtype),
                d_weight.to(weight.dtype),
                d_bias.to(bias.dtype),
            )
        soft_target = soft_sum * temperature**2 / max(counts["soft_target"], 1)
        mlm = mlm_sum / max(counts["mlm"], 1)
        loss = objective.soft_target * soft_target + objective.mlm * mlm
        ctx.mark_non_differentiable(soft_target, mlm)
        return loss, soft_target, mlm

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_loss, *_):
        if ctx.gradients is None:
            raise RuntimeError("the lean head's gradients serve one backward pass; run it again")
        gradients, ctx.gradients = ctx.gradients, None
        return (*(g.mul_(d_loss.to(g.dtype)) for g in gradients), *(None,) * 5)


def lean_triple_loss(
    student_hidden: Tensor,
    student_head: Head,
    targets: Tensor,
    objective: Objective,
    *,
    teacher_hidden: Tensor | None = None,
    teacher_head: Head | None = None,
    cosine_pairs: Sequence[tuple[Tensor, Tensor]] | None = None,
    counts: dict[str, int] | None = None,
) -> TripleLoss:
    """The triple loss of rows of hidden states, memory-lean; equals ``losses.triple_loss``.

    Args:
        student_hidden: [N, H], last hidden states of the N non-pad tokens, the M masked ones
            first.
        student_head: the student's MLM head (:func:`mlm_head`).
        targets: [M], the original tokens of the masked rows.
        objective: weights, temperature, which tokens.
        teacher_hidden, teacher_head: [N, H'] and head of the teacher, the same rows; may be left
            out if the objective does not need a teacher.
        cosine_pairs: hidden states (student's, teacher's), each [N, H''], that the cosine term
            aligns, the mean over pairs; by default the two last hidden states.
        counts: the denominators ``soft_target``, ``mlm`` and ``cosine``, over all micro-batches of
            the optimizer step; by default the numbers of rows here.

    Returns:
        The weighted sum (differentiable) and its unweighted terms (for the log: detached).

    Raises:
        ValueError: the objective needs a teacher and there is none, the rows do not match, or
            the two vocabularies differ.
    """
    n, m = len(student_hidden), len(targets)
    if m > n:
        raise ValueError(f"rows do not match: {n} rows, but {m} targets")
    if objective.needs_teacher:
        if teacher_hidden is None or teacher_head is None:
            raise ValueError("this objective needs teacher_hidden and teacher_head")
        if len(teacher_hidden) != n:
            raise ValueError(f"rows do not match: student {n}, teacher {len(teacher_hidden)}")
        if teacher_head.decoder.out_features != student_head.decoder.out_features:
            raise ValueError(
                f"the teacher's vocabulary has {teacher_head.decoder.out_features} entries, the "
                f"student's {student_head.decoder.out_features}: they must share a tokenizer"
            )
    soft_rows = n if objective.soft_target > 0 and objective.tokens == "all" else m
    counts = counts or {"soft_target": soft_rows, "mlm": m, "cosine": n}

    teacher = None
    if objective.soft_target > 0 or objective.mlm_target == "teacher":
        with torch.no_grad():
            rows = teacher_head.transform(teacher_hidden[:soft_rows])
        teacher = (rows, teacher_head.decoder.weight, _bias(teacher_head.decoder))
    vocabulary_loss, soft_target, mlm = _VocabularyLosses.apply(
        student_head.transform(student_hidden[:soft_rows]),
        student_head.decoder.weight,
        _bias(student_head.decoder),
        teacher,
        targets,
        objective,
        counts,
        torch.is_grad_enabled(),
    )
    cosine = at_least_float32(student_hidden).new_zeros(())
    if objective.cosine > 0:
        pairs = cosine_pairs or [(student_hidden, teacher_hidden)]
        for ours, theirs in pairs:
            cosine = cosine + cosine_loss(ours, theirs, count=counts["cosine"]) / len(pairs)
    loss = vocabulary_loss + objective.cosine * cosine
    return TripleLoss(loss, soft_target, mlm, cosine.detach())


def _bias(decoder: nn.Linear) -> Tensor:
    return decoder.weight.new_zeros(decoder.out_features) if decoder.bias is None else decoder.bias
