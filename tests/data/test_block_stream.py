"""A stream's blocks are the packed text's, whatever the order they are asked for in."""

from __future__ import annotations

import numpy as np
import pytest

from distilkit.data import block_stream
from distilkit.data.block_stream import BlockStream
from distilkit.data.documents import Text
from distilkit.data.packing import pack
from distilkit.masking import MaskedBlocks, masking_weights

L = 24


@pytest.fixture(autouse=True)
def small_window(monkeypatch):
    monkeypatch.setattr(block_stream, "WINDOW", 12)


@pytest.fixture
def many(texts):
    return [f"{text} w{i % 150}" for i in range(3) for text in texts]


def text_of(texts, log=None):
    def read(rank=0, world=1):
        if log is not None:
            log.append(rank)
        return iter(texts[rank::world])

    return Text(read, lambda: "these texts")


def test_a_stream_is_the_packed_text(many, tokenizer):
    whole = pack(many, tokenizer, L)
    assert len(whole) > 40
    stream = BlockStream(text_of(many), tokenizer, L, blocks=40)
    assert stream.shape == (40, L)
    assert np.array_equal(np.concatenate([stream[[i]] for i in range(40)]), whole[:40])
    assert np.array_equal(stream[[3, 0, 3]], whole[[3, 0, 3]])  # back: read again
    assert np.array_equal(stream[[39, 11, 12, 13]], whole[[39, 11, 12, 13]])  # over windows


def test_forward_reads_the_text_once(many, tokenizer):
    log = []
    stream = BlockStream(text_of(many, log), tokenizer, L, blocks=40)
    order = stream.permutation(np.random.default_rng(0))
    for i in range(0, 40, 5):
        stream[order[i : i + 5]]
    assert log == [0]


@pytest.mark.parametrize("group", [1, 2, 3])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_an_order_takes_every_block_once_and_a_window_at_a_time(many, tokenizer, world, group):
    place = {"group": group, "rank": world - 1, "world": world}
    stream = BlockStream(text_of(many), tokenizer, L, blocks=40, **place)
    order = stream.permutation(np.random.default_rng(7))
    turn = world * group
    assert len(stream) == len(order) == 40 // turn * turn
    assert sorted(order) == list(range(len(order)))
    assert (np.diff(order // (12 // turn * turn)) >= 0).all()
    if turn <= 4:
        assert (order[:12] != np.arange(12)).any()
    for start in range(0, len(order), turn):  # as the loop deals out micro-batches of a batch
        for rank in range(world):
            mine = order[start + rank * group : start + (rank + 1) * group]
            assert (mine % turn // group == rank).all()


@pytest.mark.parametrize("world", [2, 3])
def test_a_process_reads_its_own_share(many, tokenizer, world):
    numbers = np.arange(24).reshape(-1, world, 2)  # in turn, two at a time
    for rank in range(world):
        place = {"group": 2, "rank": rank, "world": world}
        stream = BlockStream(text_of(many), tokenizer, L, blocks=24, **place)
        own = pack(many[rank::world], tokenizer, L)
        assert np.array_equal(stream[numbers[:, rank].ravel()], own[: 24 // world])
        with pytest.raises(ValueError, match="batch_size has to be a multiple"):
            stream[[2 * rank + 2]]


def test_a_text_that_is_too_short_says_how_much_there_was(many, tokenizer):
    had = len(pack(many, tokenizer, L))
    stream = BlockStream(text_of(many), tokenizer, L, blocks=had + 20)
    with pytest.raises(ValueError, match=f"ends after {had} blocks of {L} tokens"):
        stream[[had + 19]]
    with pytest.raises(ValueError, match="at least 4, a micro-batch for each process"):
        BlockStream(text_of(many), tokenizer, L, blocks=3, world=4)


def test_masks_of_a_stream_are_those_of_the_blocks(many, tokenizer):
    whole = pack(many, tokenizer, L)[:40]
    weights = masking_weights(whole, len(tokenizer), tokenizer.all_special_ids)
    stream = BlockStream(text_of(many), tokenizer, L, blocks=40)
    streamed = MaskedBlocks(stream, tokenizer, seed=3, weights=weights)
    mapped = MaskedBlocks(whole, tokenizer, seed=3)
    ids = streamed.order(2, 8)[:8]
    for a, b in zip(streamed.mask(2, ids), mapped.mask(2, ids), strict=True):
        assert np.array_equal(a, b)
