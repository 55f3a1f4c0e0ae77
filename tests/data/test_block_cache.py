"""Blocks on disk equal packed blocks, whatever happened while they were written."""

from __future__ import annotations

import copy
import errno
import json
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from transformers import BertTokenizerFast

from distilkit.data import block_cache, packing
from distilkit.data.block_cache import cached_blocks, tokenizer_digest
from distilkit.data.packing import pack, stream_blocks
from distilkit.masking import MaskedBlocks


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch):
    monkeypatch.setattr(packing, "DOCUMENTS_AT_ONCE", 7)


@pytest.mark.parametrize("length", [8, 17, 64, 500])
def test_a_stream_gone_on_with_after_any_part_is_the_packed_whole(texts, tokenizer, length):
    whole = pack(texts, tokenizer, length)
    parts = list(stream_blocks(texts, tokenizer, length))
    assert len(parts) == -(-len(texts) // 7) + 1
    for i, part in enumerate(parts[:-1]):
        rest = stream_blocks(
            texts[part.documents :],
            tokenizer,
            length,
            documents=part.documents,
            carry=part.carry.tolist(),
        )
        blocks = [p.blocks for p in parts[: i + 1]] + [p.blocks for p in rest]
        assert np.array_equal(np.concatenate(blocks), whole)


def test_long_documents_are_not_tokenized_all_at_once(texts, tokenizer, monkeypatch):
    whole = pack(texts, tokenizer, 24)
    monkeypatch.setattr(packing, "CHARACTERS_AT_ONCE", 100)
    parts = list(stream_blocks(texts, tokenizer, 24))
    assert len(parts) > 40  # 120 texts of about 80 characters
    assert np.array_equal(np.concatenate([part.blocks for part in parts]), whole)


@pytest.mark.parametrize("count", [6, 7, 8, 12, 13])
def test_a_text_that_ends_with_a_block(tokenizer, count):
    """The last [SEP] of the text is the last block's own: no empty block, no token lost."""
    texts = ["w1 w2"] * count
    for length in (8, 11, 14):
        ids = [x for _ in texts for x in (6, 7, 3)][:-1]
        rows = [ids[i : i + length - 2] for i in range(0, len(ids), length - 2)]
        expected = [[2, *row, 3] + [0] * (length - 2 - len(row)) for row in rows]
        assert pack(texts, tokenizer, length).tolist() == expected


def test_written_once_then_only_read(home, texts, tokenizer):
    calls = []

    def documents():
        calls.append(1)
        return iter(texts)

    first = cached_blocks(documents, tokenizer, 24, source="texts")
    again = cached_blocks(documents, tokenizer, 24, source="texts")
    assert len(calls) == 1
    assert np.array_equal(first, pack(texts, tokenizer, 24))
    assert np.array_equal(first, again)
    assert isinstance(first, np.memmap)
    assert not first.flags.writeable
    other = cached_blocks(documents, tokenizer, 16, source="texts")
    assert other.shape[1] == 16
    cached_blocks(documents, tokenizer, 24, source="other texts")
    assert len(calls) == 3


@pytest.mark.parametrize("after", [0, 1, 5, 16])
def test_a_killed_tokenization_goes_on_where_it_was(home, texts, tokenizer, monkeypatch, after):
    def documents(until=None):
        for i, text in enumerate(texts):
            if i == until:
                raise KeyboardInterrupt  # as a kill would: in the middle of a part
            yield text

    with pytest.raises(KeyboardInterrupt):
        cached_blocks(lambda: documents(7 * after + 3), tokenizer, 24, source="t")
    folder = next((home / "data" / "cache").glob("blocks-*"))
    with (folder / "blocks.bin").open("ab") as file:
        file.write(b"half of a block")  # written, but not said to be
    tokenized = []
    call = type(tokenizer).__call__

    def counting(self, some, *args, **options):
        tokenized.extend(some)
        return call(self, some, *args, **options)

    monkeypatch.setattr(type(tokenizer), "__call__", counting)
    blocks = cached_blocks(documents, tokenizer, 24, source="t")
    assert tokenized == texts[7 * after :]
    monkeypatch.undo()
    assert np.array_equal(blocks, pack(texts, tokenizer, 24))


@pytest.mark.slow
def test_killed_after_any_word_of_what_is_done(home, texts, tokenizer, monkeypatch):
    """The last word too: a text that is all written must not be taken for an empty one."""
    write_json, expected = block_cache.write_json, pack(texts, tokenizer, 24)
    for words in range(1, -(-len(texts) // 7) + 2):
        left = iter(range(words))

        def then_die(*arguments, left=left):
            write_json(*arguments)
            next(left)
            if left.__length_hint__() == 0:
                raise KeyboardInterrupt

        monkeypatch.setattr(block_cache, "write_json", then_die)
        with pytest.raises(KeyboardInterrupt):
            cached_blocks(lambda: texts, tokenizer, 24, source=words)
        monkeypatch.setattr(block_cache, "write_json", write_json)
        assert np.array_equal(cached_blocks(lambda: texts, tokenizer, 24, source=words), expected)


@pytest.mark.parametrize("damage", ["state", "short", "gone"])
def test_what_does_not_fit_is_written_anew(home, texts, tokenizer, damage):
    expected = np.array(cached_blocks(lambda: texts, tokenizer, 24, source="t"))
    folder = next((home / "data" / "cache").glob("blocks-*"))
    if damage == "state":
        (folder / "state.json").write_text('{"complete": tr')
    elif damage == "short":
        content = (folder / "blocks.bin").read_bytes()
        (folder / "blocks.bin").write_bytes(content[:-1])
    else:
        (folder / "blocks.bin").unlink()
    assert np.array_equal(cached_blocks(lambda: texts, tokenizer, 24, source="t"), expected)
    assert json.loads((folder / "state.json").read_text())["complete"]


def _in_a_process(home, texts, tokenizer, results):
    def slowly():
        results.put("read")
        for text in texts:
            time.sleep(0.002)
            yield text

    results.put(cached_blocks(slowly, tokenizer, 24, source="t").tobytes())


@pytest.mark.slow
def test_of_two_processes_one_writes_and_both_get_the_blocks(home, texts, tokenizer):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    arguments = (home, texts, tokenizer, results)
    processes = [context.Process(target=_in_a_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    got = [results.get(timeout=60) for _ in range(3)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert got.count("read") == 1
    assert {x for x in got if x != "read"} == {
        pack(texts, tokenizer, 24).astype(np.uint16).tobytes()
    }


def test_another_tokenizer_is_another_text(tokenizer):
    vocabulary = dict(tokenizer.get_vocab())
    vocabulary["w0"], vocabulary["w1"] = vocabulary["w1"], vocabulary["w0"]
    assert tokenizer_digest(BertTokenizerFast(vocab=vocabulary)) != tokenizer_digest(tokenizer)
    assert tokenizer_digest(BertTokenizerFast(vocab=tokenizer.get_vocab())) == tokenizer_digest(
        BertTokenizerFast(vocab=tokenizer.get_vocab())
    )


def test_an_earlier_call_of_the_tokenizer_makes_no_other_text(tokenizer):
    before = tokenizer_digest(tokenizer)
    fresh = copy.deepcopy(tokenizer)
    fresh("w0 w1 w2 w3", truncation=True, max_length=3, padding="max_length")
    assert tokenizer_digest(fresh) == before


def test_a_full_disk_is_said_with_place_and_room(home, texts, tokenizer, monkeypatch):
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(block_cache.os, "fsync", full)
        with pytest.raises(OSError, match=r"some blocks .* MB are free") as error:
            cached_blocks(lambda: texts, tokenizer, 24, source="t")
    assert error.value.errno == errno.ENOSPC
    assert np.array_equal(
        cached_blocks(lambda: texts, tokenizer, 24, source="t"), pack(texts, tokenizer, 24)
    )


def test_text_without_tokens_is_refused_and_leaves_nothing_finished(home, tokenizer):
    for _ in range(2):
        with pytest.raises(ValueError, match="no tokens"):
            cached_blocks(lambda: ["", " "], tokenizer, 24, source="t")
    assert not block_cache._state(
        *(next((home / "data" / "cache").glob("blocks-*")) / name for name in ("", "blocks.bin"))
    )["complete"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc says what is resident")
@pytest.mark.slow
def test_what_is_resident_does_not_grow_with_the_file(tmp_path, tokenizer):
    """48 MB of blocks are checked, counted and all masked; hardly any of them stay mapped."""
    blocks = np.random.default_rng(0).integers(5, 205, (192 * 1024, 128)).astype(np.uint16)
    blocks.tofile(tmp_path / "blocks.bin")
    mapped = np.memmap(tmp_path / "blocks.bin", np.uint16, mode="r", shape=blocks.shape)

    def resident() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssFile"))

    before = resident()
    assert int(mapped.max()) < 205  # reads it all, as a careless reader would
    assert resident() > before + 40
    masked = MaskedBlocks(mapped, tokenizer, seed=0)
    assert resident() < before + 8
    order = masked.order(0, 32)
    for start in range(0, len(order), 4096):
        masked.batch(0, order[start : start + 32])
        assert resident() < before + 8
