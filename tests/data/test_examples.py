"""Rows of token ids end to end, in memory or in a file; the fingerprint of encoded texts."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import tempfile
import tracemalloc
import warnings
from itertools import chain
from unittest.mock import Mock

import numpy as np
import pytest
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast
from wordpieces import byte_level_tokenizers

from distilkit.data import rows, task_examples
from distilkit.data.examples import Examples
from distilkit.data.rows import Rows
from distilkit.data.tasks import Task

TEXTS = Task("texts", "Texts", ("text",), ("a", "b"))
PAIRS = Task("pairs", "Pairs", ("one", "two"), ("a", "b"))


@pytest.mark.parametrize("limit", [1, 300, 2**22])
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_rows_are_those_of_lists(limit, parts, monkeypatch):
    monkeypatch.setattr(rows, "IN_MEMORY", limit)
    random = np.random.default_rng(parts)
    lists = [random.integers(0, 30_000, size).tolist() for size in random.integers(1, 40, 50)]
    lists[3] = []
    found = Rows(np.int32)
    for part in np.array_split(np.arange(len(lists)), parts):
        found.extend([lists[i] for i in part])
    assert len(found) == 50
    assert [row.tolist() for row in found] == lists
    assert found.lengths.tolist() == [len(row) for row in lists]
    assert isinstance(found.flat, np.memmap) == (limit < 2**22)
    sent = pickle.loads(pickle.dumps(found))
    assert [row.tolist() for row in sent] == lists
    flat = found.flat
    del found
    assert flat.tolist() == list(chain(*lists))  # the map outlives the rows


def test_no_rows_and_numbers_that_do_not_fit():
    assert len(Rows(np.uint8)) == 0
    assert Rows(np.uint8).flat.tolist() == []
    with pytest.raises(OverflowError):
        Rows(np.uint8, [[0, 256]])


def test_a_full_disk_is_named(monkeypatch, tmp_path):
    found, full = Rows(np.int32), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(found, "_file", Mock(write=Mock(side_effect=full)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match=f"{tmp_path}.*TMPDIR") as raised:
        found.extend([[1]])
    assert raised.value.errno == errno.ENOSPC


@pytest.mark.parametrize("task", [TEXTS, PAIRS])
def test_texts_read_in_pieces_are_those_read_at_once(task, tokenizer, monkeypatch):
    """The fingerprint is that of the plain formula, whatever the pieces, and wherever they are."""
    count = 23
    data = {c: [f"w{i} w{i % 5} {c}" for i in range(count)] for c in task.columns}
    data["label"] = [i % 2 for i in range(count)]
    more = {c: [f"w{i}" for i in range(9)] for c in task.columns}
    options = {"max_length": 16, "seed": 0, "unlabelled": more}
    once = task_examples.task_examples(data, task, tokenizer, **options)
    monkeypatch.setattr(task_examples, "TEXTS_AT_ONCE", 4)
    monkeypatch.setattr(rows, "IN_MEMORY", 1)
    pieces = task_examples.task_examples(data, task, tokenizer, **options)

    every = [data[c] + more[c] for c in task.columns]
    encoded = tokenizer(*every, truncation=True, max_length=16, return_token_type_ids=True)
    labels = np.array(data["label"] + [-1] * 9)
    digest = hashlib.sha256(labels.tobytes())
    digest.update(np.array([len(ids) for ids in encoded["input_ids"]]).tobytes())
    for name in ("input_ids", "token_type_ids"):
        digest.update(np.array(list(chain(*encoded[name]))).tobytes())
    assert once.digest() == pieces.digest() == digest.hexdigest()
    ids = np.array([30, 2, 17])
    for name, value in once.batch(0, ids).items():
        other = pieces.batch(0, ids)[name]
        assert value == other if name == "counts" else (value == other).all()


def test_memory_does_not_grow_with_the_number_of_texts(tokenizer, monkeypatch):
    """Ten times as many texts; as lists of numbers they would take ten times the memory."""
    monkeypatch.setattr(rows, "IN_MEMORY", 1)

    def peak(count: int) -> int:
        texts = {"text": [f"w{i % 90} w{i % 7} w{i % 50}" for i in range(count)]}
        tracemalloc.start()
        try:
            task_examples.task_examples(texts, TEXTS, tokenizer, max_length=16, seed=0).digest()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000) < 2 * peak(2_000)


class Batches:
    """A dataset of the data loader: one text a batch."""

    def __init__(self, data: Examples) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> list[int]:
        return self.data.batch(0, np.array([i]))["input_ids"][0].tolist()


@pytest.mark.parametrize("start", ["fork", "forkserver"])
def test_workers_of_a_data_loader_read_a_mapped_file(start, tokenizer, monkeypatch):
    monkeypatch.setattr(rows, "IN_MEMORY", 1)
    encoded = tokenizer([f"w{i} w{i // 3}" for i in range(40)], return_token_type_ids=True)
    data = Examples(encoded, np.zeros(40, np.int64), pad_id=0, seed=0)
    assert isinstance(data.input_ids.flat, np.memmap)
    options = {"num_workers": 2, "multiprocessing_context": start}
    loader = DataLoader(Batches(data), batch_size=None, **options)
    assert list(loader) == encoded["input_ids"]


def test_words_that_a_tokenizer_glues_together_are_warned_of(tmp_path):
    """RoBERTa's default: a word has other tokens than within a text."""
    words = Task("words", "Words", ("words",), ("O", "B-X"), "token_classification")
    data = {"words": [["a", "cat"]], "label": [[0, 1]]}
    for prefix, tokenizer in byte_level_tokenizers(tmp_path).items():
        same = {"tokenizer_object": tokenizer.backend_tokenizer, "pad_token": "<pad>"}
        for each in (tokenizer, PreTrainedTokenizerFast(**same)):  # ModernBERT's is of that class
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                task_examples.task_examples(data, words, each, max_length=16, seed=0)
            assert any("add_prefix_space" in str(w.message) for w in caught) != prefix
