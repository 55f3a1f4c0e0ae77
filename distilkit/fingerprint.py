"""What a model and a text are, as SHA-256: what a run started from, what a cache is of."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch
from transformers import PreTrainedModel

from distilkit.masking import MaskedBlocks, in_pieces


def fingerprint(model: PreTrainedModel) -> dict[str, str]:
    """Class and SHA-256 of configuration and weights: what a run started from."""
    # what from_pretrained and save_pretrained write there says nothing about the computation
    aside = {"_name_or_path", "architectures", "dtype", "transformers_version"}
    config = {k: v for k, v in model.config.to_dict().items() if k not in aside}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return {"class": type(model).__name__, "sha256": digest.hexdigest()}


def text_digest(blocks: MaskedBlocks) -> str:
    """SHA-256 of blocks, masking weights and the seed of masks and order."""
    digest = hashlib.sha256(f"{blocks.blocks.shape} {blocks.seed}".encode())
    digest.update(blocks.weights.tobytes())
    if not isinstance(blocks.blocks, np.ndarray):  # a stream: nobody has read it to its end yet
        digest.update(json.dumps(blocks.blocks.identity).encode())
        return digest.hexdigest()
    for some in in_pieces(blocks.blocks):
        digest.update(some.astype(np.int32).tobytes())
    return digest.hexdigest()
