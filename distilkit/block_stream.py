"""Blocks of a text that does not fit the disk: tokenized as they are asked for, then forgotten.

Where a text does fit, :mod:`distilkit.block_cache` is better: any order, and tokenized once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from transformers import PreTrainedTokenizerBase

from distilkit.corpus import stream_blocks
from distilkit.documents import Text

WINDOW = 8192  # blocks, over all processes, that are in memory and shuffled among themselves


class BlockStream:
    """The first `blocks` blocks of a text, indexed like an array [blocks, L].

    Memory holds one window of blocks. Going forward reads on; going back, as a new epoch does,
    starts the text again, and so does a run that goes on from a checkpoint: it reads up to where it
    was. Each of several processes reads, tokenizes and indexes its own share of the documents: the
    blocks whose number leaves the remainder `rank` when divided by `world`.
    """

    def __init__(
        self,
        text: Text,
        tokenizer: PreTrainedTokenizerBase,
        length: int,
        *,
        blocks: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """
        Args:
            text: the documents.
            tokenizer, length: as for :func:`distilkit.corpus.pack`.
            blocks: how many make an epoch, rounded down to a multiple of `world`.
            rank, world: which process of how many.
        """
        if blocks < world:
            raise ValueError(f"blocks = {blocks}: give at least one for each of {world} processes")
        self.text, self.tokenizer, self.rank, self.world = text, tokenizer, rank, world
        self.shape = (blocks // world * world, length)
        self.identity = text.identity
        self._share = WINDOW // world  # of a window, for each process
        self._at = -1  # the window in memory
        self._window = np.empty((0, length), np.int32)
        self._blocks: Iterator[np.ndarray] = iter(())

    def __len__(self) -> int:
        return self.shape[0]

    def permutation(self, random: np.random.Generator) -> np.ndarray:
        """The block numbers, shuffled within each window, every process's own in turn."""
        own = len(self) // self.world
        numbers = [
            start + random.permutation(min(self._share, own - start))
            for start in range(0, own, self._share)
        ]
        return (np.concatenate(numbers)[:, None] * self.world + np.arange(self.world)).ravel()

    def __getitem__(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """The blocks of these numbers, [len(ids), L]."""
        ids = np.asarray(ids, dtype=np.int64)
        if (ids % self.world != self.rank).any():
            raise ValueError(
                f"blocks {ids[:5].tolist()} ... are not those of process {self.rank} of "
                f"{self.world}: Training.batch_size has to be a multiple of {self.world}"
            )
        window, row = np.divmod(ids // self.world, self._share)
        out = np.empty((len(ids), self.shape[1]), np.int32)
        for wanted in np.unique(window):
            here = window == wanted
            out[here] = self._load(int(wanted))[row[here]]
        return out

    def _load(self, window: int) -> np.ndarray:
        if window < self._at:
            self._at = -1
        if self._at < 0:
            self._blocks = self._read()
        while self._at < window:
            own = len(self) // self.world
            wanted = min(self._share, own - (self._at + 1) * self._share)
            some = list(islice(self._blocks, wanted))
            self._at += 1
            if len(some) < wanted:
                had = (self._at * self._share + len(some)) * self.world
                raise ValueError(
                    f"the text ends after {had} blocks of {self.shape[1]} tokens, {len(self)} are "
                    "wanted: ask for fewer"
                )
            self._window = np.stack(some)
        return self._window

    def _read(self) -> Iterator[np.ndarray]:
        documents = self.text.read(self.rank, self.world)
        for part in stream_blocks(documents, self.tokenizer, self.shape[1]):
            yield from part.blocks
