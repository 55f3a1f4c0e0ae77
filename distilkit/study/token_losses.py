"""The triple loss token by token, and the inner products of its terms' gradients.

Sanh et al. 2019, section 2, for a small batch, with the formulas of :mod:`distilkit.losses`.
Shapes: B sentences of L tokens, N of them not padding, V vocabulary entries, H hidden size.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from distilkit.config import LossConfig
from distilkit.losses import IGNORE, cosine_loss, mlm_loss, soft_target_loss, triple_loss
from distilkit.processes import eval_mode, to_device

TERMS = ("soft_target", "mlm", "cosine")


def rows_of(model: PreTrainedModel, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return logits [N, V] and last hidden states [N, H] of the non-pad tokens, on the CPU.

    The masked ones come first. `batch` is one of :meth:`distilkit.masking.MaskedBlocks.batch`.
    """
    batch = to_device(batch, model.device)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with eval_mode(model):  # no dropout
        out = model(**inputs, output_hidden_states=True)
    logits, hidden = out.logits.flatten(0, 1), out.hidden_states[-1].flatten(0, 1)
    return logits[batch["rows"]].cpu(), hidden[batch["rows"]].cpu()


def targets_of(batch: Mapping[str, Any]) -> Tensor:
    """Return [N]: the original token at the masked rows, which come first, -100 elsewhere."""
    targets = batch["targets"].new_full((len(batch["rows"]),), IGNORE)
    targets[: len(batch["targets"])] = batch["targets"]
    return targets


def token_losses(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batch: Mapping[str, Any],
    loss_config: LossConfig,
) -> dict[str, Tensor]:
    """Return ``soft_target``, ``mlm``, ``cosine``, unweighted, at each token: [B, L] each.

    NaN where a term does not count. The mean over the other tokens is the term of the triple loss.
    [N, V] is held in memory.
    """
    with torch.no_grad():
        s, s_hidden = rows_of(student, batch)
        t, t_hidden = rows_of(teacher, batch)
    targets = targets_of(batch)
    if loss_config.mlm_target == "teacher":
        targets = torch.where(targets == IGNORE, targets, t.argmax(-1))
    masked = len(batch["targets"])
    soft = masked if loss_config.restrict_kd_to_mask else len(s)
    each = range(len(s))
    values = {
        "soft_target": [
            soft_target_loss(s[i : i + 1], t[i : i + 1], loss_config.temperature)
            for i in each[:soft]
        ],
        "mlm": [mlm_loss(s[i : i + 1], targets[i : i + 1]) for i in each[:masked]],
        "cosine": [cosine_loss(s_hidden[i : i + 1], t_hidden[i : i + 1]) for i in each],
    }
    tokens = {}
    for term, losses in values.items():
        flat = s.new_full((batch["input_ids"].numel(),), float("nan"), dtype=torch.float32)
        if losses:
            flat[batch["rows"][: len(losses)]] = torch.stack(losses).float()
        tokens[term] = flat.view(batch["input_ids"].shape)
    return tokens


def gradient_products(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batch: Mapping[str, Any],
    loss_config: LossConfig,
) -> Tensor:
    """Return the inner products of the terms' gradients by the student's parameters.

    They are G, [3, 3], float64, in the order of :data:`TERMS`. With weights w, the gradient of the
    triple loss has the norm sqrt(wᵀ G w). That of term i alone is sqrt(G_ii); the cosine of two is
    G_ij / sqrt(G_ii G_jj). ``.grad`` is not changed.
    """
    parameters = [p for p in student.parameters() if p.requires_grad]
    with torch.no_grad():
        t, t_hidden = rows_of(teacher, batch)
    with torch.enable_grad():
        s, s_hidden = rows_of(student, batch)
        terms = triple_loss(s, t, s_hidden, t_hidden, targets_of(batch), loss_config)
        gradients = [
            torch.autograd.grad(
                getattr(terms, term), parameters, retain_graph=True, allow_unused=True
            )
            for term in TERMS
        ]
    products = torch.zeros(3, 3, dtype=torch.float64)
    for i, a in enumerate(gradients):
        for j, b in enumerate(gradients):
            for x, y in zip(a, b, strict=True):
                if x is not None and y is not None:  # the cosine term does not reach the head
                    products[i, j] += (x.double() * y.double()).sum().cpu()
    return products
