"""Entropy and information of a teacher's soft targets at a temperature.

Sanh et al. 2019, section 2, raise the temperature to reveal the small probabilities of a nearly
one-hot distribution. Raised further, all targets become alike and carry no information.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from distilkit.losses import softmax_with_temperature
from distilkit.masking import MaskedBlocks
from distilkit.study.token_losses import rows_of
from distilkit.training_loop import evaluate

ROWS = 1024  # tokens whose distributions over the vocabulary stand in memory at once


def entropy_of_targets(
    teacher: PreTrainedModel, blocks: MaskedBlocks, temperatures: Sequence[float]
) -> pd.DataFrame:
    """Measure the teacher's distributions over the vocabulary at all tokens of a text, in nats.

    The text is masked as in epoch 0.

    Returns:
        A row for each T: ``temperature``; ``entropy``, the mean over tokens of H(p); ``words``, its
        exponential, the number of equally likely words; ``information``, H(mean of p) minus the
        mean of H(p): the mutual information of token and target, 0 when all targets are alike.

    Raises:
        ValueError: a temperature that is not a positive number.
    """
    sums = dict.fromkeys(temperatures, 0.0)
    means = {t: torch.zeros(teacher.config.vocab_size, dtype=torch.float64) for t in temperatures}
    at_once = max(1, ROWS // blocks.blocks.shape[1])

    def measure(model: PreTrainedModel) -> int:
        seen = 0
        for start in range(0, len(blocks), at_once):
            batch = blocks.batch(0, np.arange(start, min(start + at_once, len(blocks))))
            logits, _ = rows_of(model, batch)  # N, V
            for t in temperatures:
                p = softmax_with_temperature(logits, t)
                sums[t] += float(torch.special.entr(p).sum(dtype=torch.float64))
                means[t] += p.sum(0, dtype=torch.float64)
            seen += len(logits)
        return seen

    seen = evaluate(teacher, measure)
    rows = []
    for t in temperatures:
        entropy = sums[t] / seen
        whole = float(torch.special.entr(means[t] / seen).sum())
        rows.append((t, entropy, float(np.exp(entropy)), whole - entropy))
    return pd.DataFrame(rows, columns=["temperature", "entropy", "words", "information"])
