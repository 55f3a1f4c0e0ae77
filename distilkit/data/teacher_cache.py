"""A teacher's last hidden states for a text, computed once and stored for several students.

Masks are a function of (seed, epoch, sample), so students with one seed see the same corrupted
blocks. An entry is one block of one epoch: the last hidden state of each token in float16, 2·H
bytes a token. Entries stand in the order of training: a longer training extends a shorter one's.

``data/cache/teacher-<key>/``: about.json (what the key is made of), entries.bin, and parts.txt, the
SHA-256 of each part of entries.bin that is on disk. A killed build resumes after the last one, and
a damaged part is reported and written again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from typing import Any

import filelock
import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from distilkit.checkpoint import write_atomically, write_json
from distilkit.config import LossConfig, TrainingConfig, home
from distilkit.families import mlm_head
from distilkit.masking import MaskedBlocks
from distilkit.processes import eval_mode, processes
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

    Args:
        teacher: returned to its own mode and device.
        loss_config: of the training; checked.
        build: False for a finished run, which needs the key only.

    Raises:
        ValueError: a cache cannot serve this loss or text, or the states do not fit into float16.
        OSError: the disk is too small, before or during the build; says how much it takes.
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
    if not build:
        return cache
    device = processes().device  # all processes meet here, which one at the lock could not
    cache.path.mkdir(parents=True, exist_ok=True)
    parts = -(-cache.entries // PART)
    with filelock.FileLock(cache.path / ".lock"):
        if (done := _intact_parts(cache)) < parts:
            with eval_mode(teacher, device=device), torch.no_grad():
                _write(cache, teacher, done, parts)
    return cache


class TeacherCache:
    """Source of batches in place of its :class:`MaskedBlocks`, with the teacher's hidden states."""

    def __init__(
        self, blocks: MaskedBlocks, about: dict[str, Any], width: int, entries: int
    ) -> None:
        """Made by :func:`cached_teacher`: states of `width` for `entries` blocks."""
        self.source, self.about, self.entries = blocks, about, entries
        self.blocks, self.tokenizer, self.weights = blocks.blocks, blocks.tokenizer, blocks.weights
        self.shape = (entries, blocks.blocks.shape[1], width)  # entries, L, H
        self.entry_bytes = 2 * self.shape[1] * width
        self.key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]
        self.path = home() / "data" / "cache" / f"teacher-{self.key}"
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
        # opened anew for every batch: no process holds pages that it has read
        file = np.memmap(self.path / "entries.bin", np.float16, mode="r", shape=self.shape)
        hidden = torch.from_numpy(file[self._entries_of(epoch, ids)])  # B, L, H
        return batch | {"teacher_hidden": hidden.flatten(0, 1)[batch["rows"]]}

    def check(
        self, teacher: dict[str, str] | None, loss_config: LossConfig, training: TrainingConfig
    ) -> None:
        """Raise ValueError if this training needs what the cache lacks; `teacher`: fingerprint."""
        _check_servable(loss_config)
        if teacher != self.about["teacher"]:
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
    """The number of blocks that a training sees, those of two epochs counted twice."""
    size = len(blocks)
    epochs, steps = divmod(total_steps(size, training), steps_per_epoch(size, training))
    return epochs * size + min(steps * training.batch_size, size)


def _intact_parts(cache: TeacherCache) -> int:
    """Count the intact parts; remove the names of the others."""
    names, file = cache.path / "parts.txt", cache.path / "entries.bin"
    wanted, size = -(-cache.entries // PART), PART * cache.entry_bytes
    try:
        lines = names.read_text().split("\n")[:-1]  # what follows the last line was cut off
        with file.open("rb") as content:
            for i, name in enumerate(lines[:wanted]):
                if hashlib.sha256(content.read(size)).hexdigest() != name:
                    message = f"damaged teacher cache: part {i + 1} of {file} is not what was "
                    message += "written; it is built again from there on"
                    warnings.warn(message, stacklevel=3)
                    lines = lines[:i]
                    break
    except (FileNotFoundError, UnicodeDecodeError):
        lines = []
    if len(lines) < wanted:
        write_atomically(names, "".join(f"{line}\n" for line in lines).encode())
    return min(len(lines), wanted)


def _write(cache: TeacherCache, teacher: PreTrainedModel, done: int, parts: int) -> None:
    """Write the missing parts."""
    size, file = PART * cache.entry_bytes, cache.path / "entries.bin"
    missing = (parts - done) * size
    try:
        if shutil.disk_usage(cache.path).free < missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_json(cache.path / "about.json", cache.about)
        file.touch()
        total, initial = parts * PART, done * PART
        with (
            tqdm(desc="run the teacher", total=total, initial=initial, leave=False) as bar,
            file.open("r+b") as out,
            (cache.path / "parts.txt").open("a") as names,
        ):
            for part in range(done, parts):
                content = _answers(cache, teacher, part * PART).tobytes()
                out.seek(part * size)
                out.write(content)
                _flush(out)
                names.write(f"{hashlib.sha256(content).hexdigest()}\n")
                _flush(names)
                bar.update(PART)
    except OSError as error:
        free = shutil.disk_usage(cache.path).free
        raise OSError(
            error.errno or errno.EIO,
            f"the teacher cache could not be written: {error}. It takes {missing / 1e6:.1f} MB "
            f"more, {free / 1e6:.1f} MB are free on that disk. Make room, or train without a "
            "cache; what is written is kept",
            str(cache.path),
        ) from error


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _answers(cache: TeacherCache, teacher: PreTrainedModel, first: int) -> np.ndarray:
    """Compute the entries of a part: the same for any training, and after any interruption."""
    entries = np.zeros((PART, *cache.shape[1:]), np.float16)
    for epoch, ids, here in _batches(cache, first):
        batch = cache.source.batch(epoch, ids)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        inputs = {name: x if x is None else x.to(teacher.device) for name, x in inputs.items()}
        hidden = teacher.base_model(**inputs).last_hidden_state.flatten(0, 1)  # B * L, H
        hidden = hidden[batch["rows"].to(teacher.device)].half()  # N, H
        if not torch.isfinite(hidden).all():
            raise ValueError(
                f"the teacher's hidden states are not finite in float16 (epoch {epoch}, samples "
                f"{ids[:5].tolist()} ...): train without a teacher cache"
            )
        entries[here].reshape(-1, hidden.shape[1])[batch["rows"].numpy()] = hidden.cpu().numpy()
    return entries


def _batches(cache: TeacherCache, first: int) -> Iterator[tuple[int, np.ndarray, slice]]:
    """Yield (epoch, sample ids, place in the part) of a part's entries, batch by batch."""
    at_once = max(1, _TOKENS_AT_ONCE // cache.source.blocks.shape[1])
    entry, end = first, first + PART
    while entry < end:
        epoch, place = divmod(entry, len(cache))
        count = min(at_once, end - entry, len(cache) - place)
        ids = cache.order(epoch, 1)[place : place + count]
        yield epoch, ids, slice(entry - first, entry - first + count)
        entry += count
