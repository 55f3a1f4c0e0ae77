"""A teacher's distribution by its k likeliest tokens; all others lie in one bucket, the rest.

Of a vocabulary of V tokens it keeps the k likeliest, their log-probabilities at T = 1, and how much
mass the other V − k have together, so that nothing is cut off and put onto the k (which would teach
a student to be surer than its teacher: Anshumann et al. 2025, arXiv 2503.16870, section 3).

At another temperature the k need no more than their log-probabilities l, but the rest's mass there
does not follow from its mass at T = 1. So ``f(T) = log Σ_rest exp(l / T)`` is kept at
:data:`TEMPERATURES`, where every probability is exact, and read between them off the polynomial in
1/T through those points and f(∞) = log(V − k), which is known. Below T = 1/2 it is bounded from
above: ``f(T) ≤ f(1/2) + (1/T − 2) · l_k``, for no token of the rest is likelier than the least of
the k. Then, with ``L = log(Σ_k exp(l / T) + exp(f(T)))``,

    p_i = exp(l_i / T − L) for the k,    r = exp(f(T) − L) for the rest,

which add up to 1 at any T. The soft-target loss over these k + 1 outcomes is

    T² · ( Σ_k p_i log(p_i / q_i) + r log(r / Q) ),    Q = Σ_rest q_j,   q = softmax(s / T),

with the gradient ``T · (q_i − p_i)`` for the k and ``T · q_j · (1 − r / Q)`` for the others: the
student learns how much mass they have together, and not how it is spread among them. The loss is 0
where the student agrees with its teacher, never above the KL over all V tokens, and that itself for
k = V. :mod:`distilkit.fused_loss` computes it.

How much that is depends on T. Of the shipped teacher (V = 5,000, held-out text; in parentheses the
share of KL to a student of 300 steps that the k + 1 outcomes see) the rest holds

    T        k = 8          k = 16         k = 64         k = 256
    1     0.20 (61 %)    0.14 (70 %)    0.08 (84 %)    0.05 (92 %)
    2     0.88 (13 %)    0.84 (17 %)    0.75 (28 %)    0.62 (44 %)
    4     0.99  (2 %)    0.98  (3 %)    0.94  (8 %)    0.86 (19 %)
    8     1.00  (1 %)    0.99  (1 %)    0.97  (4 %)    0.92 (12 %)

(`tests/measurements/measure_teacher_cache.py`). The k probabilities themselves are right to 5e-4,
with l in float16; between the temperatures kept to 0.009 (k = 8) and 6e-4 (k = 64) from T = 1
upwards, and to
0.11 and 0.002 between 1/2 and 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from distilkit.losses import at_least_float32, check_temperature

TEMPERATURES = (0.5, 1, 2, 4, 8)  # where the rest's mass is kept; each is twice the one before it


class TopK(NamedTuple):
    """N distributions, good for any temperature."""

    ids: Tensor  # [N, k], the likeliest token first
    logits: Tensor  # [N, k], their log-probabilities at T = 1
    rest: Tensor  # [N, 5], log Σ_rest exp(log-probability / T) at TEMPERATURES


class SoftTargets(NamedTuple):
    """N distributions at one temperature."""

    ids: Tensor  # [N, k]
    p: Tensor  # [N, k]
    rest: Tensor  # [N], mass of all other tokens


def top_k(logits: Tensor, k: int) -> TopK:
    """What is kept of a teacher's logits.

    Args:
        logits: [N, V].
        k: how many tokens; at most V.

    Returns:
        :class:`TopK` in float32 (float64 for float64 logits).
    """
    log_p = at_least_float32(logits).log_softmax(-1)
    kept, ids = log_p.topk(k, dim=-1)
    # only the greatest temperature takes an exponential: exp(l / 4) = exp(l / 8)²
    power = log_p.div_(TEMPERATURES[-1]).exp_().scatter_(-1, ids, 0.0)
    sums = []
    for _ in TEMPERATURES:
        sums.insert(0, power.sum(-1))
        power.square_()
    least = torch.finfo(power.dtype).tiny  # nothing is left where k = V
    return TopK(ids, kept, torch.stack(sums, -1).clamp_min_(least).log_())


def at_temperature(top: TopK, vocabulary: int, temperature: float) -> SoftTargets:
    """The distributions at a temperature (see the module's docstring).

    Args:
        top: of N tokens.
        vocabulary: V, of which k are kept.
        temperature: T, above 0.
    """
    check_temperature(temperature)
    kept, rest = at_least_float32(top.logits), at_least_float32(top.rest)
    others = vocabulary - kept.shape[-1]
    if not others:
        return SoftTargets(top.ids, (kept / temperature).softmax(-1), rest.new_zeros(len(rest)))
    if temperature < TEMPERATURES[0]:
        mass = rest[:, 0] + (1 / temperature - 1 / TEMPERATURES[0]) * kept[:, -1]
    else:
        nodes = [0.0, *(1 / t for t in TEMPERATURES)]
        known = torch.cat([torch.full_like(rest[:, :1], others).log(), rest], -1)
        mass = known @ known.new_tensor(_interpolation(nodes, 1 / temperature))
    p = torch.cat([kept / temperature, mass[:, None]], -1).softmax(-1)
    return SoftTargets(top.ids, p[:, :-1], p[:, -1])


def _interpolation(nodes: list[float], x: float) -> list[float]:
    """Lagrange's weights: what the values at the nodes count at x; exactly 1 and 0 at a node."""
    weights = []
    for i, node in enumerate(nodes):
        weight = 1.0
        for other in nodes[:i] + nodes[i + 1 :]:
            weight *= (x - other) / (node - other)
        weights.append(weight)
    return weights
