"""Importance of attention heads and feed-forward units for a loss, and choice of the least.

Michel, Levy and Neubig 2019 (arXiv 1905.10650), equation 2: multiply the output of each head by a
mask ξ. Its importance is the mean over examples of ``|∂L(x)/∂ξ|`` at ξ = 1. For a feed-forward unit
the same is the Taylor criterion of Molchanov et al. 2017 (arXiv 1611.06440), section 2.2. So one
pass measures both.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from distilkit.masking import counts_of, in_order
from distilkit.models.pruning import layers_of
from distilkit.processes import eval_mode, to_device
from distilkit.training_loop import Loss


class Importance(NamedTuple):
    """Mean ``|∂L(x)/∂ξ|`` over examples, for each layer, first to last, on the CPU."""

    heads: tuple[Tensor, ...]  # each [heads of the layer]
    units: tuple[Tensor, ...]  # each [units of the layer]


def head_and_unit_importance(
    model: PreTrainedModel, data: Any, loss: Loss, *, batch_size: int = 32
) -> Importance:
    """Measure the importance of every head and unit for a loss on some data.

    The masks multiply the inputs of the attention's output matrix and of the second feed-forward
    matrix; the model's own forward runs, without dropout. Data and loss are those of the training
    loop; a teacher is in eval mode and on the model's device. The model is not changed.
    """
    places: list[tuple[nn.Linear, int]] = []
    for layer in layers_of(model):
        places += [(layer.out_of_heads, layer.heads), (layer.out_of_units, layer.units)]
    parts = in_order(data, batch_size)
    counts = counts_of(data, parts)
    totals = [torch.zeros(size, dtype=torch.float64) for _, size in places]
    with eval_mode(model), _masked(places) as masks, torch.enable_grad():
        for ids in parts:
            masks.clear()
            inputs = to_device(data.batch(0, ids), model.device)
            mean = loss(model, inputs, counts)["loss"]  # this batch's share of it
            gradients = torch.autograd.grad(mean, [masks[i] for i in range(len(places))])
            for total, gradient in zip(totals, gradients, strict=True):  # each [B, heads or units]
                total += gradient.abs().sum(0).double().cpu()
    if not all(torch.isfinite(total).all() for total in totals):
        raise ValueError("the importance is not finite: check the model's weights and its loss")
    return Importance(tuple(totals[::2]), tuple(totals[1::2]))


def least_important(importance: Importance, keep_ratio: float) -> list[dict[int, list[int]]]:
    """Choose the heads and the units to remove, so that this share of all of either remains.

    Heads compete with heads across layers, units with units: the lowest scores of the whole model
    are removed, as in Michel et al. 2019, section 4. The best head and the best unit of each layer
    always remain. Unlike there, scores are not normalised per layer, so layers stay comparable. The
    share is above 0, at most 1; the number that remains is rounded.

    Returns heads and units, each layer -> numbers: :func:`distilkit.models.pruning.prune` takes
    ``*cut``.
    """
    if not 0 < keep_ratio <= 1:
        raise ValueError(f"keep_ratio = {keep_ratio!r}: give a share above 0, at most 1")
    return [_least(scores, keep_ratio) for scores in importance]


def _least(scores: tuple[Tensor, ...], keep_ratio: float) -> dict[int, list[int]]:
    places = [(layer, i) for layer, each in enumerate(scores) for i in range(len(each))]
    best = {(layer, int(each.argmax())) for layer, each in enumerate(scores) if len(each)}
    others = [place for place in places if place not in best]
    # stable: of equal ones the earlier are removed
    others.sort(key=lambda place: float(scores[place[0]][place[1]]))
    removed = others[: len(places) - max(len(best), round(keep_ratio * len(places)))]
    cut: dict[int, list[int]] = {}
    for layer, i in sorted(removed):
        cut.setdefault(layer, []).append(i)
    return cut


@contextmanager
def _masked(places: list[tuple[nn.Linear, int]]) -> Iterator[dict[int, Tensor]]:
    """Multiply each place's input by a mask of ones; yield the masks by place.

    A mask is [B, heads or units], so that each example has its own gradient.
    """
    masks: dict[int, Tensor] = {}

    def multiply(place: int, size: int, _module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = args  # B, L, heads · d (or units)
        if place not in masks:  # a chunked layer calls several times
            masks[place] = x.new_ones(len(x), size).requires_grad_()
        parts = x.unflatten(-1, (size, x.shape[-1] // max(size, 1)))
        return ((parts * masks[place][:, None, :, None]).flatten(-2),)

    with ExitStack() as hooks:
        for place, (part, size) in enumerate(places):
            hook = partial(multiply, place, size)
            hooks.enter_context(part.register_forward_pre_hook(hook))
        yield masks
