"""Classification heads: a new one on a checkpoint, or the one that it was fine-tuned with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging as hf_logging

from distilkit.models.loading import load_model
from distilkit.processes import seeded

HEAD_SCALE = 0.02 * 768  # standard deviation of a new head's weights, times the width: BERT-base's


def with_new_head(kind: type, checkpoint: str | Path, seed: int, **config: Any) -> PreTrainedModel:
    """Load a checkpoint in float32 as an auto class of transformers, with a new head from `seed`.

    The head's weights are normal with standard deviation ``0.02 · 768 / width``: BERT's 0.02 at
    BERT-base's width. At a width of 192, with 0.02, the logits hardly differ between inputs, and a
    short fine-tuning does not make up for it.

    Raises:
        ValueError: the checkpoint lacks weights other than the head's.
    """
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()  # its table of missing weights is checked below instead
    try:
        with seeded():  # transformers draws a head too, which is replaced below
            model, info = load_model(kind, checkpoint, **config)
    finally:
        hf_logging.set_verbosity(verbosity)
    fresh = ("classifier.", "pre_classifier.", "score.", "bert.pooler.", "qa_outputs.")
    lost = sorted(name for name in info["missing_keys"] if not name.startswith(fresh))
    if lost:
        raise ValueError(
            f"{checkpoint} lacks {len(lost)} weights of a {type(model).__name__} (for instance "
            f"{lost[0]}): it is no checkpoint of that architecture"
        )
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name in info["missing_keys"] and parameter.dim() > 1:  # biases stay 0
            width = parameter.shape[1]
            torch.nn.init.normal_(parameter, std=HEAD_SCALE / width, generator=generator)
    return model


def fine_tuned(kind: type, checkpoint: str | Path) -> PreTrainedModel:
    """Load a fine-tuned checkpoint in float32, as a teacher or to measure it.

    Raises:
        ValueError: it lacks weights: transformers would draw a random head.
    """
    model, info = load_model(kind, checkpoint)
    if info["missing_keys"]:
        raise ValueError(
            f"{checkpoint} lacks weights of a {type(model).__name__} (for instance "
            f"{min(info['missing_keys'])}): it is not fine-tuned yet"
        )
    return model
