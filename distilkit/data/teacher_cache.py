"""A teacher's last hidden states for a text, computed once and stored for several students.

Masks are a function of (seed, epoch, sample), so students with one seed see the same corrupted
blocks. An entry is one block of one epoch: the last hidden state of each token in float16, 2·H
bytes a token. Entries stand in the order of training: a longer training extends a shorter one's.

They are in ``data/cache/teacher-<key>/``: see :mod:`distilkit.data.teacher_store`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from distilkit.config import LossConfig, TrainingConfig
from distilkit.data.teacher_store import cache_folder, write_missing
from distilkit.distillation import hidden_rows
from distilkit.families import mlm_head
from distilkit.masking import MaskedBlocks
from distilkit.processes import to_device
from distilkit.run import fingerprint
from distilkit.training_loop import steps_per_epoch, total_steps

_FORMAT = 2  # changes with what is written
PART = 64  # blocks that are written, flushed and hashed together
_TOKENS_AT_ONCE = 4096  # that the teacher reads


def cached_teacher(
    teacher: PreTrainedModel,
    blocks: MaskedBlocks,
    training: TrainingConfig,
    loss_config: LossConfig | None = None,
    *,
    build: bool = True,
) -> TeacherCache:
    """Compute the teacher's hidden states for each block that a training will see, or find them.

    The teacher returns to its own mode and device. `build` is False for a finished run, which needs
    the key only. ValueError if a cache cannot serve this loss or text, or the states do not fit
    into float16; OSError if the disk is too small.
    """
    mlm_head(teacher)  # raises TypeError for a model without one
    _check_servable(loss_config or LossConfig())
    if not isinstance(blocks.blocks, np.ndarray):
        raise ValueError(
            "a disk that holds the teacher cache of a text holds the text too: leave out --stream"
        )
    about = {
        "format": _FORMAT,
        "teacher": fingerprint(teacher),
        **blocks.identity(),  # with the seed of masks and order
        "special": [blocks.mask_id, blocks.pad_id],
    }
    cache = TeacherCache(blocks, about, teacher.config.hidden_size, _seen(blocks, training))
    if build:
        parts = -(-cache.entries // PART)
        write_missing(
            cache.path,
            about,
            [PART * cache.entry_bytes] * parts,
            lambda part, bar: _answers(cache, teacher, part * PART, bar).tobytes(),
            teacher,
            [PART] * parts,
        )
    return cache


class TeacherCache:
    """Source of batches in place of its :class:`MaskedBlocks`, with the teacher's hidden states.

    Made by :func:`cached_teacher`: states of `width` for `entries` blocks.
    """

    def __init__(
        self, blocks: MaskedBlocks, about: dict[str, Any], width: int, entries: int
    ) -> None:
        self.source, self.about, self.entries = blocks, about, entries
        self.blocks, self.tokenizer, self.weights = blocks.blocks, blocks.tokenizer, blocks.weights
        self.shape = (entries, blocks.blocks.shape[1], width)  # entries, L, H
        self.entry_bytes = 2 * self.shape[1] * width
        self.path = cache_folder("teacher", about)
        self.key = self.path.name.removeprefix("teacher-")
        self._places: dict[int, np.ndarray] = {}

    def identity(self) -> dict[str, Any]:
        """Describe the data for a run's config."""
        return {**self.source.identity(), "teacher_cache": self.key}

    def __len__(self) -> int:
        return len(self.source)

    def order(self, epoch: int, batch_size: int) -> np.ndarray:
        return self.source.order(epoch, batch_size)

    def batch(self, epoch: int, ids: np.ndarray) -> dict[str, Any]:
        """:meth:`MaskedBlocks.batch`, and ``teacher_hidden`` [N, H] of its rows."""
        batch = self.source.batch(epoch, ids)
        # opened again for every batch: no process holds pages that it has read
        file = np.memmap(self.path / "entries.bin", np.float16, mode="r", shape=self.shape)
        hidden = torch.from_numpy(file[self._entries_of(epoch, ids)])  # B, L, H
        return batch | {"teacher_hidden": hidden.flatten(0, 1)[batch["rows"]]}

    def check(
        self, teacher: dict[str, str] | None, loss_config: LossConfig, training: TrainingConfig
    ) -> None:
        """Raise ValueError if this training needs what the cache lacks; `teacher`: fingerprint."""
        _check_servable(loss_config)
        if not teacher or teacher["sha256"] != self.about["teacher"]["sha256"]:
            raise ValueError(
                "the teacher cache holds the hidden states of another teacher: build it with this "
                "one (cached_teacher)"
            )
        if _seen(self.source, training) > self.entries:
            raise ValueError(
                f"the training sees {_seen(self.source, training)} blocks, the teacher cache holds "
                f"{self.entries}: build it with this training, which adds the rest"
            )

    def _entries_of(self, epoch: int, ids: np.ndarray) -> np.ndarray:
        """The positions of these samples of this epoch."""
        if epoch not in self._places:
            while len(self._places) > 1:  # an epoch's end and the next one's beginning
                del self._places[min(self._places)]
            self._places[epoch] = np.argsort(self.order(epoch, 1))  # the inverse permutation
        return epoch * len(self) + self._places[epoch][ids]


def _check_servable(loss_config: LossConfig) -> None:
    if not loss_config.needs_teacher:
        raise ValueError("this loss needs no teacher: leave out the teacher cache")
    if loss_config.cosine_layers is not None:
        raise ValueError("a teacher cache holds last states only: leave out cosine_layers, or it")


def _seen(blocks: MaskedBlocks, training: TrainingConfig) -> int:
    """Count the blocks that a training sees, those of two epochs twice."""
    size = len(blocks)
    epochs, steps = divmod(total_steps(size, training), steps_per_epoch(size, training))
    return epochs * size + min(steps * training.batch_size, size)


def _answers(cache: TeacherCache, teacher: PreTrainedModel, first: int, bar: tqdm) -> np.ndarray:
    """Compute the entries of a part: the same for any training, and after any interruption."""
    entries = np.zeros((PART, *cache.shape[1:]), np.float16)
    at_once, start = max(1, _TOKENS_AT_ONCE // cache.shape[1]), 0
    while start < PART:
        epoch, place = divmod(first + start, len(cache))
        ids = cache.order(epoch, 1)[place:][: min(at_once, PART - start)]  # of this epoch
        batch = cache.source.batch(epoch, ids)
        there = to_device(batch, teacher.device)
        hidden = hidden_rows(teacher, there, there["rows"])[0].half()  # N, H
        if not torch.isfinite(hidden).all():
            raise ValueError(
                f"the teacher's hidden states are not finite in float16 (epoch {epoch}, samples "
                f"{ids[:5].tolist()} ...): train without a teacher cache"
            )
        here = entries[start : start + len(ids)].reshape(-1, hidden.shape[1])  # tokens, H
        here[batch["rows"].numpy()] = hidden.cpu().numpy()
        bar.update(len(ids))
        start += len(ids)
    return entries
