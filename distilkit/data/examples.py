"""Labelled texts as training data for the loop, in batches padded to their own longest text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Examples:
    """Encoded texts and their labels."""

    def __init__(
        self, encoded: Mapping[str, Any], labels: np.ndarray, *, pad_id: int, seed: int
    ) -> None:
        """
        Args:
            encoded: ``input_ids`` and ``token_type_ids``, a list of numbers for each example.
            labels: [examples, ...].
            pad_id: what fills the shorter texts of a batch.
            seed: of the order.
        """
        self.input_ids = [np.asarray(ids, dtype=np.int64) for ids in encoded["input_ids"]]
        self.token_type_ids = [np.asarray(t, dtype=np.int64) for t in encoded["token_type_ids"]]
        self.labels = labels
        self.lengths = np.array([len(ids) for ids in self.input_ids])
        self.pad_id, self.seed = pad_id, seed

    def digest(self) -> str:
        """SHA-256 of inputs and labels, for the run's configuration."""
        digest = hashlib.sha256(self.labels.tobytes())
        for part in (self.lengths, *self.input_ids, *self.token_type_ids):
            digest.update(part.tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def order(self, epoch: int, batch_size: int) -> np.ndarray:
        """A permutation in which a batch holds texts of similar length, to save padding.

        Batches stay random: lengths are sorted only within random groups of 50 batches, and the
        batches of a group are shuffled again.
        """
        random = np.random.default_rng([self.seed, epoch])
        permutation = random.permutation(len(self))
        # the incomplete batch is taken off before sorting, or it would always be the longest texts
        whole = len(self) // batch_size * batch_size
        permutation, left_over = permutation[:whole], permutation[whole:]
        groups = []
        for start in range(0, whole, 50 * batch_size):
            group = permutation[start : start + 50 * batch_size]
            group = group[np.argsort(self.lengths[group], kind="stable")]
            groups.append(random.permutation(group.reshape(-1, batch_size)).ravel())
        return np.concatenate([*groups, left_over])

    def batch(self, epoch: int, ids: Sequence[int]) -> dict[str, Tensor | dict[str, int]]:
        """A micro-batch: ``input_ids``, ``attention_mask``, ``token_type_ids``, ``labels``.

        The first three [B, L], L the longest text of this batch; labels [B, ...]. The same in every
        epoch.
        """
        lengths = self.lengths[ids]
        longest = int(lengths.max())
        input_ids = np.full((len(ids), longest), self.pad_id, dtype=np.int64)
        token_type_ids = np.zeros_like(input_ids)
        for row, i in enumerate(ids):
            input_ids[row, : lengths[row]] = self.input_ids[i]
            token_type_ids[row, : lengths[row]] = self.token_type_ids[i]
        return {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy((np.arange(longest) < lengths[:, None]).astype(int)),
            "token_type_ids": torch.from_numpy(token_type_ids),
            "labels": torch.from_numpy(self.labels[ids]),
            "counts": {"examples": len(ids), "tokens": int(lengths.sum())},
        }
