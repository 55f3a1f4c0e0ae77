"""The triple loss as training runs it: chunked over rows, without [N, V] in memory.

The numbers and gradients are those of :func:`distilkit.losses.triple_loss` (tested in float64). A
term whose weight is 0 is not computed, and reported as 0.

With 30,522 words the logits of 4,096 tokens take 0.5 GB a model, and softmax and gradient several
times that. So rows (tokens) are selected before the projection onto the vocabulary. Projection,
softmax and losses run chunk by chunk. Their gradients have closed forms and are made in the
forward pass, while the chunk is there: ``d(T²·KL)/dz = T · (softmax(z/T) − softmax(t/T))`` (Hinton
et al. 2015, equation 2) and ``dCE/dz = softmax(z) − onehot``.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from distilkit.config import LossConfig
from distilkit.families import Head
from distilkit.losses import TripleLoss, at_least_float32, cosine_loss

# Logits of one model in a chunk: 32 MiB in float32. A GPU, which waits for every kernel's start,
# takes eight times as many.
CHUNK_ELEMENTS, GPU_CHUNK = 2**23, 8
# Of a chunk, what softmax and losses see at a time on a CPU: it stays in the second cache.
BLOCK_ELEMENTS = 2**17


class _VocabularyLosses(torch.autograd.Function):
    """Soft targets and MLM of rows against one vocabulary, gradients made in the forward pass."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, teacher, targets, loss_config, counts, differentiate):
        # hidden [N, H] student's rows after the transform; the first M = len(targets) are masked
        # teacher: None, or (hidden [N, H'], weight [V, H'], bias [V]) of the teacher
        (n, _), v, m = hidden.shape, weight.shape[0], len(targets)
        kind = hidden.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        exact = torch.float64 if weight.dtype == torch.float64 else torch.float32
        soft = teacher is not None and loss_config.kd_weight > 0
        # The projections give z/T: dividing [N, H] and [V] is cheaper than dividing [N, V].
        temperature = loss_config.temperature if soft else 1.0
        soft_weight = loss_config.kd_weight * temperature / max(counts["soft_target"], 1)
        mlm_weight = loss_config.mlm_weight / max(counts["mlm"], 1)
        # The gradient of a chunk is made without the factor that all of its rows share.
        shared = soft_weight if soft else mlm_weight
        terms = _Terms(temperature, soft, mlm_weight / shared if shared else 0.0)

        rows = max(1, CHUNK_ELEMENTS * (1 if kind == "cpu" else GPU_CHUNK) // v)
        block = max(1, BLOCK_ELEMENTS // v) if kind == "cpu" else rows
        if not shared:
            n = 0  # neither term is wanted

        sums = hidden.new_zeros(2, dtype=exact)  # of the soft targets' KL, of the MLM's loss
        if differentiate:
            d_hidden = torch.zeros_like(hidden, dtype=exact)
            d_weight = torch.zeros_like(weight, dtype=exact)
            d_bias = torch.zeros_like(bias, dtype=exact)

        with torch.autocast(kind, enabled=False):
            weight_low, bias_t = weight.to(low), bias.to(exact) / temperature
            hidden_low = (hidden / temperature).to(low)
            z_rows = _rows_of_logits(min(n, rows), v, hidden_low)
            if teacher is not None:
                t_hidden, t_weight, t_bias = teacher
                t_hidden, t_weight = (t_hidden / temperature).to(low), t_weight.to(low)
                t_bias = t_bias.to(exact) / temperature
                t_rows = _rows_of_logits(min(n, rows), v, t_hidden)
            for start, stop in _pieces(n, rows):
                h = hidden_low[start:stop]
                z = torch.mm(h, weight_low.t(), out=z_rows[: stop - start])  # chunk, V; no bias yet
                if teacher is not None:
                    t = torch.mm(t_hidden[start:stop], t_weight.t(), out=t_rows[: stop - start])
                for first, last in _pieces(stop - start, block):
                    few = targets[start + first : min(start + last, m)]  # they come first
                    z_block, t_block = z[first:last] + bias_t, None
                    if teacher is not None:
                        t_block = t[first:last] + t_bias
                    if loss_config.mlm_target == "teacher":
                        few = t_block.argmax(-1)[: len(few)]
                    d_z = terms(z_block, t_block, few, sums, differentiate)
                    if differentiate:
                        z[first:last] = d_z  # in place of the logits, which nobody needs any more
                if differentiate:
                    d_bias += z.sum(0, dtype=exact)
                    d_hidden[start:stop] = z @ weight_low
                    if low == exact:
                        d_weight.addmm_(z.t(), h)
                    else:
                        d_weight += z.t() @ h

        if differentiate:
            # plain attributes, not save_for_backward: backward scales them in place, once
            ctx.gradients = (
                d_hidden.mul_(shared).to(hidden.dtype),
                d_weight.mul_(shared * temperature).to(weight.dtype),  # h was divided by T
                d_bias.mul_(shared).to(bias.dtype),
            )
        soft_target = sums[0] * temperature**2 / max(counts["soft_target"], 1)
        mlm = sums[1] / max(counts["mlm"], 1)
        loss = loss_config.kd_weight * soft_target + loss_config.mlm_weight * mlm
        ctx.mark_non_differentiable(soft_target, mlm)
        return loss, soft_target, mlm

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_loss, *_):
        if ctx.gradients is None:
            raise RuntimeError("the gradients serve one backward pass; run it forward again")
        gradients, ctx.gradients = ctx.gradients, None
        return (*(g.mul_(d_loss.to(g.dtype)) for g in gradients), *(None,) * 5)


def _pieces(rows: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of pieces of at most `size` rows."""
    return ((start, min(start + size, rows)) for start in range(0, rows, size))


def _rows_of_logits(rows: int, vocabulary: int, like: Tensor) -> Tensor:
    """Return an empty [rows, V], used again for every chunk; rows start at multiples of 64.

    A matrix product with rows of 30,522 elements that start anywhere is a fifth slower.
    """
    padded = like.new_empty(rows, -(-vocabulary // 64) * 64)
    # oneDNN with AMX multiplies them by 0, which NaN survives (its issue 5717)
    padded[:, vocabulary:] = 0
    return padded[:, :vocabulary]


class _Terms(NamedTuple):
    """Both vocabulary losses of some rows, and their gradient with respect to the logits."""

    temperature: float
    soft: bool  # soft targets are wanted
    mlm_share: float  # MLM's weight over the factor shared by all rows; 0: no MLM

    def __call__(
        self, z: Tensor, t: Tensor | None, targets: Tensor, sums: Tensor, differentiate: bool
    ) -> Tensor | None:
        """Add the rows' losses to `sums`; the gradient, without the shared factor.

        z, t: [rows, V] logits of student and teacher over T; targets: of the first rows.
        """
        d_z = torch.zeros_like(z) if differentiate and not self.soft else None
        if self.soft:
            p, q = F.softmax(t, dim=-1), F.softmax(z, dim=-1)
            # KL = Σ p (log p − log q) = Σ p (t − z) − lse(t) + lse(z). Each lse follows from the
            # largest logit and its probability, so no second exponential is taken.
            log_sums = _log_sum_exp(z, q) - _log_sum_exp(t, p)
            sums[0] += (torch.linalg.vecdot(p, t - z) + log_sums).sum()
            if differentiate:
                d_z = q.sub_(p)
        if self.mlm_share and len(targets):
            logits = z[: len(targets)] * self.temperature
            q = F.softmax(logits, dim=-1)
            chosen = logits.gather(1, targets[:, None])[:, 0]
            sums[1] += (_log_sum_exp(logits, q) - chosen).sum()
            if differentiate:
                q.scatter_add_(1, targets[:, None], q.new_full((len(targets), 1), -1.0))
                d_z[: len(targets)].add_(q, alpha=self.mlm_share)
        return d_z


def _log_sum_exp(logits: Tensor, probabilities: Tensor) -> Tensor:
    """``log Σ exp(logits)`` of rows whose softmax is known: [rows, V], [rows, V] -> [rows]."""
    return logits.amax(-1) - probabilities.amax(-1).log()


def fused_triple_loss(
    student_hidden: Tensor,
    student_head: Head,
    targets: Tensor,
    loss_config: LossConfig,
    *,
    teacher_hidden: Tensor | None = None,
    teacher_head: Head | None = None,
    cosine_pairs: Sequence[tuple[Tensor, Tensor]] | None = None,
    counts: dict[str, int] | None = None,
) -> TripleLoss:
    """Return the triple loss of rows of hidden states; equals ``losses.triple_loss``.

    Args:
        student_hidden: [N, H], last hidden states of the N non-pad tokens, the M masked ones
            first.
        student_head: the student's MLM head (:func:`distilkit.families.mlm_head`).
        targets: [M], the original tokens of the masked rows.
        teacher_hidden, teacher_head: [N, H'] and head of the teacher, the same rows; only where
            the loss needs a teacher.
        cosine_pairs: hidden states (student's, teacher's), each [N, H''], that the cosine term
            aligns, the mean over pairs; by default the two last hidden states.
        counts: the denominators ``soft_target``, ``mlm`` and ``cosine``, over all micro-batches of
            the optimizer step; by default the numbers of rows here.

    Returns:
        The weighted sum (differentiable) and its unweighted terms (for the log: detached).
    """
    n, m = len(student_hidden), len(targets)
    asks_head = loss_config.kd_weight > 0 or loss_config.mlm_target == "teacher"
    missing = teacher_hidden is None or teacher_head is None
    if missing and (asks_head or (loss_config.cosine_weight > 0 and cosine_pairs is None)):
        raise ValueError("this loss needs teacher_hidden and teacher_head")
    soft_rows = n if loss_config.kd_weight > 0 and not loss_config.restrict_kd_to_mask else m
    counts = counts or {"soft_target": soft_rows, "mlm": m, "cosine": n}

    teacher = None
    if asks_head:
        with torch.no_grad():
            teacher = _projection(teacher_head, teacher_hidden[:soft_rows])
    projected = _projection(student_head, student_hidden[:soft_rows])
    vocabulary_loss, soft_target, mlm = _VocabularyLosses.apply(
        *projected, teacher, targets, loss_config, counts, torch.is_grad_enabled()
    )
    cosine = at_least_float32(student_hidden).new_zeros(())
    if loss_config.cosine_weight > 0:
        pairs = cosine_pairs or [(student_hidden, teacher_hidden)]
        for student, target in pairs:
            cosine = cosine + cosine_loss(student, target, count=counts["cosine"]) / len(pairs)
    loss = vocabulary_loss + loss_config.cosine_weight * cosine
    return TripleLoss(loss, soft_target, mlm, cosine.detach())


def _projection(head: Head, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the product over the vocabulary takes: rows [N, E], weight [V, E], bias [V]."""
    weight, bias = head.decoder.weight, head.decoder.bias
    return head.transform(hidden), weight, weight.new_zeros(len(weight)) if bias is None else bias
