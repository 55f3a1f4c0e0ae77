"""Dynamic masking: blocks of equal length, with other masks in every epoch.

As in RoBERTa (Liu et al. 2019, arXiv 1907.11692, section 4.1), which DistilBERT follows. The masked
tokens are drawn as DistilBERT's training code draws them: rare words more often.
"""

import hashlib
import json
import mmap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

BLOCKS_AT_ONCE = 8192  # of a text on disk that are read together
MASKED_SHARE = 0.15  # Devlin et al. 2019, section 3.1
KEPT_SHARE, RANDOM_SHARE = 0.10, 0.10  # of the masked tokens; the other 80 % become [MASK]
SMOOTHING = 0.7  # masking probability ∝ count^-0.7 (the authors' `mlm_smoothing`)


def in_pieces(blocks: np.ndarray) -> Iterator[np.ndarray]:
    """Yield blocks, :data:`BLOCKS_AT_ONCE` at a time, so that a mapped file fits the memory."""
    for start in range(0, len(blocks), BLOCKS_AT_ONCE):
        yield blocks[start : start + BLOCKS_AT_ONCE]
        give_back(blocks)


def give_back(blocks: np.ndarray) -> None:
    """Release the pages of a mapped file, which count as this process's memory once they are read.

    The system keeps them in its cache while there is room, so that reading them again is cheap.
    """
    mapped = getattr(blocks, "_mmap", None)  # numpy's only way to the map
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)


def in_order(data: Any, size: int) -> list[np.ndarray]:
    """Return the sample ids of data for the loop, `size` at a time."""
    ids = np.arange(len(data))
    return [ids[i : i + size] for i in range(0, len(data), size)]


def counts_of(data: Any, parts: Iterable[np.ndarray]) -> dict[str, int]:
    """Sum the counts of epoch 0's batches with these sample ids, before they are made again.

    Stored, the batches of a large text would fill the memory.
    """
    counted = [data.batch(0, ids)["counts"] for ids in parts]
    return {key: sum(each[key] for each in counted) for key in counted[0]}


def masking_weights(
    blocks: np.ndarray, vocab_size: int, special_ids: Sequence[int], smoothing: float = SMOOTHING
) -> np.ndarray:
    """Return masking weights [V] by word: ``max(count, 1)^-smoothing``, 0 for `special_ids`.

    Counts are those of `blocks`. A smoothing of 0.7 is the authors'; 0 masks all words alike.
    """
    # in pieces: `bincount` makes a wider copy
    counts = sum(np.bincount(part.ravel(), minlength=vocab_size) for part in in_pieces(blocks))
    weights = np.maximum(counts, 1) ** -float(smoothing)
    weights[list(special_ids)] = 0.0
    return weights


def uniform(seed: int, epoch: int, sample_ids: np.ndarray, length: int, stream: int) -> np.ndarray:
    """Return [B, L] numbers in (0, 1), a function of (seed, epoch, sample id, position, stream).

    A counter-based generator (the finalizer of SplitMix64, Steele et al. 2014), not a sequence. A
    sample's numbers depend neither on its batch nor on what came before, so resume is exact.
    """

    def mix(x: np.ndarray) -> np.ndarray:
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
        key = mix(np.array([seed], dtype=np.uint64) + golden)
        for part in (stream, epoch):
            key = mix((key ^ np.uint64(part)) + golden)
        rows = mix((key ^ np.asarray(sample_ids, dtype=np.uint64)) + golden)  # B
        positions = np.arange(1, length + 1, dtype=np.uint64) * golden  # L
        bits = mix(rows[:, None] + positions)  # B, L
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52  # never 0, never 1


def choose_masked(
    blocks: np.ndarray, weights: np.ndarray, seed: int, epoch: int, sample_ids: np.ndarray
) -> np.ndarray:
    """Choose 15 % of each block's non-special tokens, drawn by weight; [B, L], bool.

    Weighted draws without replacement as an exponential race (Efraimidis & Spirakis 2006): each
    token gets a time Exp(weight), and the earliest 15 % win. The number is fixed for a block, so
    micro-batches of full blocks have equal denominators.
    """
    weight = weights[blocks]  # B, L
    with np.errstate(divide="ignore"):
        times = -np.log(uniform(seed, epoch, sample_ids, blocks.shape[1], 0)) / weight
    candidates = (weight > 0).sum(1)
    # at least one a block, unless it holds special tokens only
    wanted = np.minimum(candidates, np.maximum(1, np.rint(MASKED_SHARE * candidates)).astype(int))
    masked = np.zeros(blocks.shape, dtype=bool)
    most = int(wanted.max(initial=0))
    if most:
        first = np.argpartition(times, most - 1, axis=1)[:, :most]
        by_time = np.take_along_axis(
            first, np.argsort(np.take_along_axis(times, first, 1), axis=1, kind="stable"), 1
        )
        np.put_along_axis(masked, by_time, np.arange(most) < wanted[:, None], axis=1)
    return masked


class MaskedBlocks:
    """Blocks as data for the loop; order and masks are functions of (seed, epoch, id).

    Args:
        blocks: [blocks, L] token ids, as :func:`pack` makes them; an array, a map of a file
            (:func:`distilkit.data.block_cache.cached_blocks`), or a
            :class:`distilkit.data.block_stream.BlockStream`, which needs `weights`.
        tokenizer: whose special tokens are never masked, and whose [MASK] is put in.
        seed: of the order and of the masks.
        weights: [V] masking weights of another corpus (validation uses those of training).
    """

    def __init__(
        self,
        blocks: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        seed: int,
        weights: np.ndarray | None = None,
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise ValueError("the tokenizer has no [MASK] token")
        if isinstance(blocks, list | Tensor):
            blocks = np.asarray(blocks)
        if len(blocks.shape) != 2 or not len(blocks):
            raise ValueError(f"blocks of shape {blocks.shape}: give [blocks, L], at least one")
        vocabulary = len(tokenizer)
        if isinstance(blocks, np.ndarray):
            ends = [(int(some.min()), int(some.max())) for some in in_pieces(blocks)]
            least, most = min(low for low, _ in ends), max(high for _, high in ends)
            if least < 0 or most >= vocabulary:
                raise ValueError(
                    f"the blocks hold ids {least} to {most}, the tokenizer has {vocabulary}: they "
                    "were made with another tokenizer"
                )
        special = list(tokenizer.all_special_ids)
        self.blocks, self.tokenizer, self.seed = blocks, tokenizer, seed
        self.mask_id, self.pad_id = tokenizer.mask_token_id, tokenizer.pad_token_id
        self.weights = masking_weights(blocks, vocabulary, special) if weights is None else weights
        if self.weights.shape != (vocabulary,) or self.weights[special].any():
            raise ValueError(
                f"weights of shape {self.weights.shape}: give one for each of the tokenizer's "
                f"{vocabulary} entries, 0 for its special tokens (see masking_weights)"
            )
        self.words = np.setdiff1d(np.arange(vocabulary), special)  # what may replace at random

    def __len__(self) -> int:
        return len(self.blocks)

    def identity(self) -> dict[str, str]:
        """Describe the data for a run's config: SHA-256 of blocks, weights and seed."""
        digest = hashlib.sha256(f"{self.blocks.shape} {self.seed}".encode())
        digest.update(self.weights.tobytes())
        if isinstance(self.blocks, np.ndarray):
            for some in in_pieces(self.blocks):
                digest.update(some.astype(np.int32).tobytes())
        else:  # a stream: nobody has read it to its end yet
            digest.update(json.dumps(self.blocks.identity).encode())
        return {"text": digest.hexdigest()}

    def order(self, epoch: int, batch_size: int) -> np.ndarray:
        """Return a permutation of the sample ids for this epoch."""
        random = np.random.default_rng([self.seed, epoch])
        if isinstance(self.blocks, np.ndarray):
            return random.permutation(len(self.blocks))
        return self.blocks.permutation(random)  # a stream is shuffled piece by piece

    def mask(self, epoch: int, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ``(input_ids, masked, originals)`` of the blocks `ids`, each [B, L].

        Of the masked tokens 80 % become [MASK], 10 % stay, 10 % become a random word. (The authors
        draw that word from the whole vocabulary; here special tokens are left out.)
        """
        originals = self.blocks[ids].astype(np.int64)
        give_back(self.blocks)
        length = originals.shape[1]
        masked = choose_masked(originals, self.weights, self.seed, epoch, ids)
        fate = uniform(self.seed, epoch, ids, length, 1)
        draw = uniform(self.seed, epoch, ids, length, 2)
        random_words = self.words[(draw * len(self.words)).astype(np.int64)]
        kept = np.where(fate < RANDOM_SHARE + KEPT_SHARE, originals, self.mask_id)
        replaced = np.where(fate < RANDOM_SHARE, random_words, kept)
        return np.where(masked, replaced, originals), masked, originals

    def batch(self, epoch: int, ids: np.ndarray) -> dict[str, Tensor | dict[str, int]]:
        """Make a micro-batch for the loop.

        Returns:
            ``input_ids`` [B, L] and ``attention_mask`` [B, L] (None without padding). ``rows`` [N]:
            flat positions of the non-pad tokens, the M masked ones first. ``targets`` [M]: the
            original tokens of those. ``counts``: of ``examples``, ``tokens`` and ``masked``.
        """
        return self.batch_of(*self.mask(epoch, ids))

    def batch_of(
        self, input_ids: np.ndarray, masked: np.ndarray, originals: np.ndarray
    ) -> dict[str, Tensor | dict[str, int]]:
        """Make the micro-batch of what :meth:`mask` returns, or of its first columns."""
        counted = {"examples": len(input_ids), "masked": int(masked.sum())}
        valid = originals != self.pad_id
        flat = masked.ravel()
        rows = np.concatenate([np.flatnonzero(flat), np.flatnonzero(valid.ravel() & ~flat)])
        return {
            "input_ids": torch.from_numpy(input_ids),
            # no mask at all lets attention take its fastest path
            "attention_mask": None if valid.all() else torch.from_numpy(valid.astype(np.int64)),
            "rows": torch.from_numpy(rows),
            "targets": torch.from_numpy(originals.ravel()[flat]),
            "counts": counted | {"tokens": int(valid.sum())},
        }
