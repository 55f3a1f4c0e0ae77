"""Blocks of a text that does not fit the disk, tokenized as they are needed.

Where a text does fit, :mod:`distilkit.data.block_cache` is better: any order, and tokenized once.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from transformers import PreTrainedTokenizerBase

from distilkit.data.documents import Text
from distilkit.data.packing import stream_blocks

WINDOW = 8192  # blocks, over all processes, that are in memory and shuffled among themselves


class BlockStream:
    """The first `blocks` blocks of a text, indexed like an array [blocks, L].

    Memory holds one window of blocks. Going back, as a new epoch does, reads the text from its
    beginning again; so does a resumed run, up to its place. Each process reads, tokenizes and
    indexes its own share of the documents. The first `group` block numbers are those of process 0,
    the next of process 1, and so on, as the loop distributes micro-batches.

    Args:
        blocks: how many make an epoch, rounded down to a multiple of `world · group`.
        group: the micro-batch size.
        rank, world: which process of how many.
    """

    def __init__(
        self,
        text: Text,
        tokenizer: PreTrainedTokenizerBase,
        length: int,
        *,
        blocks: int,
        group: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._turn = world * group
        if blocks < self._turn:
            raise ValueError(
                f"blocks = {blocks}: give at least {self._turn}, a micro-batch for each process"
            )
        self.text, self.tokenizer, self.rank, self.world = text, tokenizer, rank, world
        self.group = group
        self.shape = (blocks // self._turn * self._turn, length)
        self.identity = [text.identity(), self.world, self.group]
        self._share = max(1, WINDOW // self._turn) * group  # of a window, for each process
        self._at = -1  # the window in memory
        self._window = np.empty((0, length), np.int32)
        self._blocks: Iterator[np.ndarray] = iter(())

    def __len__(self) -> int:
        return self.shape[0]

    def permutation(self, random: np.random.Generator) -> np.ndarray:
        """Return the block numbers, shuffled within each window, every process's own in turn."""
        own = len(self) // self.world
        numbers = [
            start + random.permutation(min(self._share, own - start))
            for start in range(0, own, self._share)
        ]
        at, row = np.divmod(np.concatenate(numbers).reshape(-1, 1, self.group), self.group)
        turns = np.arange(self.world).reshape(1, -1, 1)
        return (at * self._turn + turns * self.group + row).ravel()

    def __getitem__(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the blocks of these numbers, [len(ids), L]."""
        ids = np.asarray(ids, dtype=np.int64)
        if (ids % self._turn // self.group != self.rank).any():
            raise ValueError(
                f"blocks {ids[:5].tolist()} ... are not those of process {self.rank} of "
                f"{self.world}: TrainingConfig.batch_size has to be a multiple of {self._turn}, "
                "the micro-batches of all processes"
            )
        own = ids // self._turn * self.group + ids % self.group
        window, row = np.divmod(own, self._share)
        out = np.empty((len(ids), self.shape[1]), np.int32)
        for wanted in np.unique(window):
            here = window == wanted
            out[here] = self._load(int(wanted))[row[here]]
        return out

    def _load(self, window: int) -> np.ndarray:
        if not 0 <= self._at <= window:
            documents = self.text.read(self.rank, self.world)
            parts = stream_blocks(documents, self.tokenizer, self.shape[1])
            self._blocks, self._at = (block for part in parts for block in part.blocks), -1
        while self._at < window:
            own = len(self) // self.world
            wanted = min(self._share, own - (self._at + 1) * self._share)
            blocks = list(islice(self._blocks, wanted))
            self._at += 1
            if len(blocks) < wanted:
                had = (self._at * self._share + len(blocks)) * self.world
                raise ValueError(
                    f"the text ends after {had} blocks of {self.shape[1]} tokens, {len(self)} are "
                    "wanted: ask for fewer"
                )
            self._window = np.stack(blocks)
        return self._window
