"""The three losses of DistilBERT and their sum, as the paper writes them.

Read these formulas; training runs :mod:`distilkit.fused_loss`, which gives the same numbers and
gradients without [N, V] in memory. The tests hold the two equal.

Sanh et al. 2019 (arXiv 1910.01108), section 2 ("training loss") and section 3; temperature from
Hinton et al. 2015 (arXiv 1503.02531), section 2. Shapes: N rows (tokens already selected),
V vocabulary or classes, H hidden size. Pure functions: no device moves, no logging.

Each term has its own denominator: the number of rows that take part in it. With gradient
accumulation or several processes a caller gives `count`, the number over *all* micro-batches of
the optimizer step. The micro-batches' losses then add up to the mean over the whole batch.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from distilkit.config import LossConfig

IGNORE = -100  # PyTorch's and Hugging Face's mark for "no target here"


class TripleLoss(NamedTuple):
    """The weighted sum and its three unweighted terms, scalars."""

    loss: Tensor
    soft_target: Tensor
    mlm: Tensor
    cosine: Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32: softmax, KL and cosine lose digits in half; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless the temperature is a finite number above 0."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature = {temperature!r}: give a finite number above 0")


def _check_same_shape(what: str, student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape or student.dim() < 1:
        raise ValueError(
            f"{what}: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must have "
            "the same shape; select the same rows of both, and use one vocabulary"
        )


def _mean(per_row: Tensor, count: float | None) -> Tensor:
    """Divide the sum by `count`; an empty selection gives 0 (and a zero gradient), not 0/0."""
    count = per_row.numel() if count is None else count
    return per_row.sum() / max(count, 1)


def softmax_with_temperature(logits: Tensor, temperature: float) -> Tensor:
    """``p_i = exp(z_i / T) / Σ_j exp(z_j / T)`` (Hinton et al. 2015, equation 1).

    T > 1 smooths, T = 1 is the plain softmax, T < 1 sharpens. At inference T = 1. Logits [..., V]
    of any precision give float32 (float64 for float64).
    """
    check_temperature(temperature)
    return F.softmax(at_least_float32(logits) / temperature, dim=-1)


def soft_target_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    *,
    count: float | None = None,
) -> Tensor:
    """``T² · mean over rows of KL(softmax(t / T) ‖ softmax(s / T))``.

    KL rather than bare cross-entropy, so it is 0 at equality (their gradients are the same).
    T² keeps the gradient's size as T grows (Hinton et al. 2015, section 2: it shrinks as 1/T²).

    Args:
        student_logits: [N, V]; padding and unwanted tokens already left out.
        teacher_logits: [N, V]; no gradient flows to it.
        count: the denominator, N by default.
    """
    check_temperature(temperature)
    _check_same_shape("soft_target_loss", student_logits, teacher_logits)
    log_student = F.log_softmax(at_least_float32(student_logits) / temperature, dim=-1)
    log_teacher = F.log_softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=-1)
    kl = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1)
    return temperature**2 * _mean(kl, count)


def mlm_loss(logits: Tensor, targets: Tensor, *, count: float | None = None) -> Tensor:
    """Cross-entropy with a one-hot target at the masked tokens (Devlin et al. 2019, 3.1).

    `targets` are [N] token ids of the `logits` [N, V]. Rows with -100 are left out, of `count` too:
    the denominator, by default the number of rows with a target.
    """
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"mlm_loss: logits {tuple(logits.shape)} need targets {tuple(logits.shape[:-1])}, "
            f"not {tuple(targets.shape)}"
        )
    logits, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    per_row = F.cross_entropy(
        at_least_float32(logits), targets, reduction="none", ignore_index=IGNORE
    )
    return _mean(per_row, int((targets != IGNORE).sum()) if count is None else count)


def cosine_loss(
    student_hidden: Tensor, teacher_hidden: Tensor, *, count: float | None = None
) -> Tensor:
    """``mean over rows of 1 − cos(student, teacher)`` of hidden states [N, H].

    PyTorch's cosine embedding loss with target 1, as in the authors' code. No gradient flows to the
    teacher; `count` is the denominator, N by default.
    """
    _check_same_shape("cosine_loss", student_hidden, teacher_hidden)
    student, teacher = at_least_float32(student_hidden), at_least_float32(teacher_hidden.detach())
    return _mean(1 - F.cosine_similarity(student, teacher, dim=-1), count)


def triple_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_hidden: Tensor,
    teacher_hidden: Tensor,
    targets: Tensor,
    loss_config: LossConfig | None = None,
) -> TripleLoss:
    """``kd · T²·KL + mlm · CE + cosine · (1 − cos)`` over the non-pad tokens of a batch.

    Args:
        student_logits, teacher_logits: [N, V], N non-pad tokens ([CLS], [SEP] included).
        student_hidden, teacher_hidden: [N, H], the last layers' hidden states.
        targets: [N], the original token where masked, -100 elsewhere.
        loss_config: weights, temperature, which tokens; the paper's by default.
    """
    loss_config = loss_config or LossConfig()
    rows = student_logits.shape[:1]
    if not rows == student_hidden.shape[:1] == teacher_hidden.shape[:1] == targets.shape:
        raise ValueError(
            f"triple_loss: logits {tuple(student_logits.shape)}, hidden states "
            f"{tuple(student_hidden.shape)} and {tuple(teacher_hidden.shape)} and targets "
            f"{tuple(targets.shape)} must have the same N rows"
        )
    masked = targets != IGNORE
    if loss_config.mlm_target == "teacher":
        targets = torch.where(masked, teacher_logits.argmax(-1), targets)
    soft = masked if loss_config.restrict_kd_to_mask else torch.ones_like(masked)

    soft_target = soft_target_loss(
        student_logits[soft], teacher_logits[soft], loss_config.temperature
    )
    mlm = mlm_loss(student_logits, targets)
    cosine = cosine_loss(student_hidden, teacher_hidden)

    loss = (
        loss_config.kd_weight * soft_target  # the same T > 1 for teacher and student
        + loss_config.mlm_weight * mlm  # masked tokens only
        + loss_config.cosine_weight * cosine  # all tokens, restrict_kd_to_mask or not
    )
    return TripleLoss(loss, soft_target, mlm, cosine)
