"""A regression in three dimensions, for tests of the training loop."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class Points:
    """Points of a plane, each counting as several tokens."""

    def __init__(self, n: int = 22, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.x = generator.normal(size=(n, 3)).astype(np.float32)
        self.y = self.x @ np.array([1.0, -2.0, 0.5], dtype=np.float32)
        self.tokens, self.seed = generator.integers(1, 9, n), seed

    def __len__(self) -> int:
        return len(self.x)

    def order(self, epoch, batch_size):
        return np.random.default_rng([self.seed, epoch]).permutation(len(self))

    def batch(self, epoch, ids):
        return {
            "x": torch.from_numpy(self.x[ids]),
            "y": torch.from_numpy(self.y[ids]),
            "ids": torch.from_numpy(np.asarray(ids)),
            "counts": {"examples": len(ids), "tokens": int(self.tokens[ids].sum())},
        }


def net(seed: int = 0, dropout: float = 0.2) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))


def squared_error(model, batch, counts):
    error = ((model(batch["x"])[:, 0] - batch["y"]) ** 2).sum() / counts["examples"]
    return {"loss": error, "twice": 2 * error}
