"""Held-out scores of a masked language model, to log during a training."""

import torch
from transformers import PreTrainedModel

from distilkit.config import LossConfig
from distilkit.distillation import Watch, hidden_rows, losses_on
from distilkit.families import mlm_head
from distilkit.masking import MaskedBlocks, in_order
from distilkit.processes import eval_mode, processes, to_device


def held_out_scores(
    model: PreTrainedModel, blocks: MaskedBlocks, teacher: PreTrainedModel, loss_config: LossConfig
) -> dict[str, float]:
    """Return the loss terms with a weight above 0, unweighted, and ``masked_accuracy``, a share."""
    terms = losses_on(model, blocks, loss_config, teacher)
    terms.pop("loss")  # a weighted sum, in which each run has weights of its own
    return terms | {"masked_accuracy": masked_accuracy(model, blocks)}


def watch_accuracy(blocks: MaskedBlocks, batch_size: int) -> Watch:
    """Return what a distillation watches besides its loss terms, so that notebook 4 can draw it."""
    return lambda model: {"masked_accuracy": masked_accuracy(model, blocks, batch_size)}


def masked_accuracy(model: PreTrainedModel, blocks: MaskedBlocks, batch_size: int = 32) -> float:
    """Return the share of masked words that get the highest probability, over all blocks."""
    hits = words = 0
    device = processes().device
    with eval_mode(model, device=device), torch.no_grad():
        head = mlm_head(model)
        for ids in in_order(blocks, batch_size):
            batch = to_device(blocks.batch(0, ids), device)
            (masked,) = hidden_rows(model, batch, batch["rows"][: len(batch["targets"])])  # M, H
            logits = head.decoder(head.transform(masked))  # M, V
            hits += int((logits.argmax(-1) == batch["targets"]).sum())
            words += len(masked)
    return hits / max(words, 1)
