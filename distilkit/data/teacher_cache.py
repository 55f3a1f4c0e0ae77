"""What a teacher says about a text, asked once and kept on disk, for several students.

Masks are a function of (seed, epoch, sample), so every student that is distilled from one teacher
on one text with one seed sees the same corrupted blocks, and the teacher says the same about them.
An entry is one block of one epoch. Entries stand in the order in which a training reads them, so
the cache of a short training is the beginning of a longer one's.

Of every token it keeps the k likeliest words with the mass of all others
(:mod:`distilkit.data.top_k`), good for any temperature, and, where the cosine term asks for it,
the last hidden state; or, with ``k=None``, that state alone: the teacher's own head then makes its
whole distribution of it, at any temperature. Log-probabilities and hidden states are float16.

Off unless asked for: a build costs the forward pass that it saves each student, so the second
student is the first to gain, and the disk grows with every step of the plan, for no epoch's masks
come again. Where it is worth that, the hidden states are the better answers of a narrow teacher:
the shipped one's (192 wide) take 384 bytes a token and change no probability by more than 4e-4; its
64 likeliest words take 276 and at T = 2 leave three quarters of the mass to the rest
(:mod:`distilkit.data.top_k`), so that a student of 300 steps ends at 2.6 times the KL (one seed).
Of BERT-base the state takes 1,536 bytes a token. All of it is measured by
`tests/measurements/measure_teacher_cache.py`.

``data/cache/teacher-<key>/``: about.json (what the key is made of), entries.bin, and parts.txt, the
SHA-256 of every part of entries.bin. What parts.txt names is surely on disk: a killed build goes on
after it, a second process waits for the first, and what was damaged is named and written again.
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
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from distilkit.checkpoint import write_json
from distilkit.config import LossConfig, TrainingConfig, home
from distilkit.data.top_k import TEMPERATURES, top_k
from distilkit.fingerprint import fingerprint, text_digest
from distilkit.fused_loss import CHUNK_ELEMENTS, mlm_head
from distilkit.masking import MASKED_SHARE, MaskedBlocks
from distilkit.processes import eval_mode, processes
from distilkit.training_loop import steps_per_epoch, total_steps

_FORMAT = 1  # changes with what is written
PART = 64  # blocks that are written, flushed and hashed together
_TOKENS_AT_ONCE = 4096  # that the teacher reads


def cached_teacher(
    teacher: PreTrainedModel,
    blocks: MaskedBlocks,
    training: TrainingConfig,
    loss_config: LossConfig | None = None,
    *,
    k: int | None = None,
    build: bool = True,
) -> TeacherCache:
    """The teacher's answers to every block that a training will see: asked now, or read.

    Args:
        teacher: BertForMaskedLM, ...; comes back in its own mode and to its own device.
        blocks: the training text.
        training: how many steps in which batches.
        objective: decides what is kept: hidden states if its cosine weight is above 0; of all
            tokens, or of the masked ones if no term asks for more. A student may ask for less.
        k: so many likeliest words of every token, the others as one mass; or None: its last hidden
            state alone.
        build: False for a run that is finished: then only its key is asked for.

    Raises:
        ValueError: a cache cannot serve this objective, `k` or text; or the teacher's numbers do
            not fit into float16.
        OSError: the disk is too small, before or while it is written; says how much it takes.
    """
    loss_config = loss_config or LossConfig()
    head, length = mlm_head(teacher), blocks.blocks.shape[1]
    _check_servable(loss_config)
    if not loss_config.needs_teacher:
        raise ValueError("this objective asks no teacher: there is nothing to keep")
    whole = isinstance(k, int) and not isinstance(k, bool)
    if k is not None and not (whole and 1 <= k <= head.decoder.out_features):
        raise ValueError(
            f"k = {k!r}: give 1 to {head.decoder.out_features}, the vocabulary, or None for the "
            "last hidden states alone"
        )
    if not isinstance(blocks.blocks, np.ndarray):
        raise ValueError(
            "a teacher's answers to a streamed text are not kept: a disk that holds them holds the "
            "text too (leave out --stream)"
        )
    wants_all = k is None or loss_config.cosine_weight > 0 or not loss_config.restrict_kd_to_mask
    about = {
        "format": _FORMAT,
        "teacher": fingerprint(teacher),
        "text": text_digest(blocks),  # with the seed of masks and order
        "special": [blocks.mask_id, blocks.pad_id],
        "k": k,
        "tokens": "all" if wants_all else "masked",
        "hidden": k is None or loss_config.cosine_weight > 0,
    }
    cache = TeacherCache(blocks, about, _record(teacher, length, about), _seen(blocks, training))
    if not build:
        return cache
    device = processes().device  # all processes join here: one that waits for the lock cannot
    cache.path.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(cache.path / ".lock"):
        parts, done = -(-cache.entries // PART), _intact_parts(cache)
        if done < parts:
            with eval_mode(teacher, device=device), torch.no_grad():
                _write(cache, teacher, done, parts)
    return cache


class TeacherCache:
    """Data for the loop in place of its :class:`MaskedBlocks`: the same micro-batches, answered."""

    def __init__(
        self, blocks: MaskedBlocks, about: dict[str, Any], record: np.dtype, entries: int
    ) -> None:
        """What :func:`cached_teacher` made: `entries` records about `blocks`."""
        self.blocks, self.about, self.record, self.entries = blocks, about, record, entries
        self.key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]
        self.path = home() / "data" / "cache" / f"teacher-{self.key}"
        self._places: dict[int, np.ndarray] = {}

    @property
    def k(self) -> int | None:
        return self.about["k"]

    def __len__(self) -> int:
        return len(self.blocks)

    def order(self, epoch: int, batch_size: int) -> np.ndarray:
        return self.blocks.order(epoch, batch_size)

    def batch(self, epoch: int, ids: np.ndarray) -> dict[str, Any]:
        """:meth:`MaskedBlocks.batch`, and the teacher's answers to its rows.

        Returns:
            With k: ``teacher_ids`` and ``teacher_logits`` [N, k], ``teacher_rest`` [N, 5] (see
            :class:`distilkit.data.top_k.TopK`), or of the M masked rows alone; with hidden states
            ``teacher_hidden`` [N, H].
        """
        batch = self.blocks.batch(epoch, ids)
        # opened anew for every batch: no process holds pages that it has read
        file = np.memmap(self.path / "entries.bin", self.record, mode="r", shape=(self.entries,))
        kept = file[self._entries_of(epoch, ids)]
        _, sample, place = _slots(batch, self)
        for name in self.record.names:
            value = kept[name][sample, place]
            if name == "ids":
                value = value.astype(np.int64)
            batch[f"teacher_{name}"] = torch.from_numpy(value)
        return batch

    def check(
        self, teacher: dict[str, str], text: str, loss_config: LossConfig, training: TrainingConfig
    ) -> None:
        """Before time is spent: does the cache hold what this training asks?

        Args:
            teacher: its :func:`distilkit.fingerprint.fingerprint`.
            text: the :func:`distilkit.fingerprint.text_digest` of the blocks.

        Raises:
            ValueError: it does not; says what to do.
        """
        _check_servable(loss_config)
        if teacher != self.about["teacher"]:
            raise ValueError(
                "the teacher cache holds the answers of another teacher: build it with this one "
                "(cached_teacher)"
            )
        if text != self.about["text"]:
            raise ValueError(
                "the teacher cache is of other blocks, or of another seed of their masks: build it "
                "with these (cached_teacher)"
            )
        if loss_config.cosine_weight > 0 and not self.about["hidden"]:
            raise ValueError(
                f"cosine = {loss_config.cosine_weight:g} needs the teacher's hidden states, "
                f"which this "
                "cache does not hold: build it with an objective whose cosine is above 0"
            )
        wants_all = loss_config.kd_weight > 0 and not loss_config.restrict_kd_to_mask
        if wants_all and self.about["tokens"] == "masked":
            raise ValueError(
                "the objective asks for soft targets at all tokens, the teacher cache holds those "
                "of masked ones: build it with tokens='all'"
            )
        if _seen(self.blocks, training) > self.entries:
            raise ValueError(
                f"the training sees {_seen(self.blocks, training)} blocks, the teacher cache holds "
                f"{self.entries}: build it with this training, it goes on after those"
            )

    def _entries_of(self, epoch: int, ids: np.ndarray) -> np.ndarray:
        """Where these samples of this epoch stand."""
        if epoch not in self._places:
            while len(self._places) > 1:  # an epoch's end and the next one's beginning
                del self._places[min(self._places)]
            self._places[epoch] = np.argsort(self.order(epoch, 1))  # the inverse permutation
        return epoch * len(self) + self._places[epoch][ids]


def _check_servable(loss_config: LossConfig) -> None:
    if loss_config.attention > 0 or loss_config.cosine_layers is not None:
        raise ValueError(
            "a teacher cache holds neither attention maps nor hidden states below the last: leave "
            "out attention and cosine_layers, or the cache"
        )


def _seen(blocks: MaskedBlocks, training: TrainingConfig) -> int:
    """So many blocks a training sees, those of two epochs counted twice."""
    epochs, steps = divmod(
        total_steps(len(blocks), training), steps_per_epoch(len(blocks), training)
    )
    return epochs * len(blocks) + min(steps * training.batch_size, len(blocks))


def _record(teacher: PreTrainedModel, length: int, about: dict[str, Any]) -> np.dtype:
    """An entry: what is kept of each token of a block, or of each masked one."""
    vocabulary, k = mlm_head(teacher).decoder.out_features, about["k"]
    masked = max(1, round(MASKED_SHARE * length))  # at most; see corpus.choose_masked
    rows = length if about["tokens"] == "all" else masked
    fields = []
    if k is not None:
        fields.append(("ids", np.uint16 if vocabulary <= 1 << 16 else np.int32, (rows, k)))
        fields.append(("logits", np.float16, (rows, k)))
        fields.append(("rest", np.float32, (rows, len(TEMPERATURES))))
    if about["hidden"]:
        fields.append(("hidden", np.float16, (rows, teacher.config.hidden_size)))
    return np.dtype(fields)


def _slots(batch: dict[str, Any], cache: TeacherCache) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """The rows of a micro-batch that entries hold, and where: (rows, entry, place in it)."""
    length = cache.blocks.blocks.shape[1]
    if cache.about["tokens"] == "all":
        return batch["rows"], *np.divmod(batch["rows"].numpy(), length)
    rows = batch["rows"][: len(batch["targets"])]  # the masked ones stand first, in order
    sample = rows.numpy() // length
    return rows, sample, np.arange(len(rows)) - np.searchsorted(sample, sample)


def _intact_parts(cache: TeacherCache) -> int:
    """How many parts are there, as they were written; the names of others are struck out."""
    names, file = cache.path / "parts.txt", cache.path / "entries.bin"
    wanted, size = -(-cache.entries // PART), PART * cache.record.itemsize
    try:
        lines = names.read_text().split("\n")[:-1]  # what follows the last line was cut off
        with file.open("rb") as content:
            for i, name in enumerate(lines[:wanted]):
                if hashlib.sha256(content.read(size)).hexdigest() == name:
                    continue
                warnings.warn(
                    f"damaged teacher cache: part {i + 1} of {file} is not what was written; the "
                    "teacher is asked again from there on",
                    stacklevel=3,
                )
                lines = lines[:i]
                break
    except (FileNotFoundError, UnicodeDecodeError):
        lines = []
    if len(lines) < wanted:
        temporary = names.with_suffix(".tmp")
        temporary.write_text("".join(f"{line}\n" for line in lines))
        os.replace(temporary, names)
    return min(len(lines), wanted)


def _write(cache: TeacherCache, teacher: PreTrainedModel, done: int, parts: int) -> None:
    """Ask the teacher about the parts that are missing."""
    size, file = PART * cache.record.itemsize, cache.path / "entries.bin"
    missing = (parts - done) * size
    try:
        if shutil.disk_usage(cache.path).free < missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_json(cache.path / "about.json", cache.about)
        file.touch()
        with (
            tqdm(
                desc="ask the teacher", total=parts * PART, initial=done * PART, leave=False
            ) as bar,
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
            f"more, {free / 1e6:.1f} MB are free on that disk. Make room, take a smaller k, or "
            "train without a cache; what is written is kept",
            str(cache.path),
        ) from error


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _answers(cache: TeacherCache, teacher: PreTrainedModel, first: int) -> np.ndarray:
    """The entries of a part: the same whichever training asks, and whatever was there before."""
    entries, head = np.zeros(PART, cache.record), mlm_head(teacher)
    rows_at_once = max(1, CHUNK_ELEMENTS // head.decoder.out_features)
    for epoch, ids, here in _batches(cache, first):
        batch = cache.blocks.batch(epoch, ids)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        inputs = {name: x if x is None else x.to(teacher.device) for name, x in inputs.items()}
        rows, sample, place = _slots(batch, cache)
        hidden = teacher.base_model(**inputs).last_hidden_state.flatten(0, 1)
        hidden = hidden[rows.to(teacher.device)]  # N, H
        kept: dict[str, list[Tensor]] = {name: [] for name in cache.record.names}
        if "hidden" in kept:
            kept["hidden"].append(hidden.half())
        if cache.k is not None:
            for some in hidden.split(rows_at_once):
                top = top_k(head.decoder(head.transform(some)), cache.k)  # chunk, V before
                kept["ids"].append(top.ids)
                kept["logits"].append(top.logits.half())
                kept["rest"].append(top.rest)
        for name, pieces in kept.items():
            values = torch.cat(pieces)
            if not torch.isfinite(values).all():
                raise ValueError(
                    f"the teacher's {name} are not finite in float16 (epoch {epoch}, samples "
                    f"{ids[:5].tolist()} ...): train without a teacher cache"
                )
            entries[name][here][sample, place] = values.cpu().numpy()
    return entries


def _batches(cache: TeacherCache, first: int) -> Iterator[tuple[int, np.ndarray, slice]]:
    """(epoch, sample ids, where in the part) of a part's entries, as the teacher reads them."""
    at_once = max(1, _TOKENS_AT_ONCE // cache.blocks.blocks.shape[1])
    entry, end = first, first + PART
    while entry < end:
        epoch, place = divmod(entry, len(cache))
        many = min(at_once, end - entry, len(cache) - place)
        ids = cache.order(epoch, 1)[place : place + many]
        yield epoch, ids, slice(entry - first, entry - first + many)
        entry += many
