"""A long document is tokenized in pieces: the same tokens, in memory that does not grow with it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from transformers import BertTokenizerFast
from wordpieces import WORDPIECES, byte_level_tokenizers, tiny_words

from distilkit.data import packing
from distilkit.data.packing import pack, tokenize

# prefixes, contractions, double and other spaces, combining and special tokens, other scripts
HARD = (
    " it's a  test\n\nof\tspaces  .  and e\u0301 \u0301x [MASK] <mask> don't 山水 \u00a0x\u3000y "
)


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory):
    path = tmp_path_factory.mktemp("wordpiece") / "vocab.txt"
    path.write_text("\n".join(WORDPIECES) + "\n", encoding="utf-8")
    return BertTokenizerFast(vocab=str(path))


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    return byte_level_tokenizers(tmp_path_factory.mktemp("byte-level"))


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level", "byte-level with a prefix space"])
@pytest.mark.parametrize("piece", [1, 2, 3, 7, 50])
def test_pieces_give_the_tokens_of_the_whole(wordpiece, byte_level, monkeypatch, kind, piece):
    tokenizer = wordpiece if kind == "wordpiece" else byte_level["prefix" in kind]
    words = tiny_words()
    texts = [HARD * 3, "", " ", "one", "x" * 200, " ".join(words[:50]), "  a   b  "]
    whole = tokenizer(texts, add_special_tokens=False)["input_ids"]
    blocks = pack(texts, tokenizer, 16)
    monkeypatch.setattr(packing, "PIECE", piece)
    monkeypatch.setattr(packing, "CHARACTERS_AT_ONCE", 20)
    assert [ids.tolist() for ids in tokenize(texts, tokenizer)] == whole
    assert np.array_equal(pack(texts, tokenizer, 16), blocks)


def test_what_is_no_list_of_texts(wordpiece):
    """One text would be packed letter by letter, a frame by the names of its columns."""
    for wrong in ("one text", pd.DataFrame({"text": ["a"]}), Dataset.from_dict({"text": ["a"]})):
        with pytest.raises(TypeError, match=r"give a list of texts"):
            pack(wrong, wordpiece, 16)


def test_a_text_without_spaces_is_cut_too(monkeypatch, wordpiece):
    monkeypatch.setattr(packing, "PIECE", 20)
    monkeypatch.setattr(packing, "UNBROKEN", 30)
    assert list(packing.pieces("x" * 45, 20)) == ["x" * 45]  # no empty piece behind it
    text = "山水" * 60 + "x" * 7  # each is a word by itself, wherever the text is cut
    assert max(map(len, packing.pieces(text, 20))) == 50
    (ids,) = tokenize([text], wordpiece)
    assert ids.tolist() == wordpiece(text, add_special_tokens=False)["input_ids"]


MEMORY = """
import sys
from transformers import BertTokenizerFast
from distilkit.data.packing import stream_blocks
from distilkit.measure.size import peak_memory_mb  # not ru_maxrss, which begins with the parent's
tokenizer = BertTokenizerFast.from_pretrained(sys.argv[1])
def grown(size):
    text = sys.argv[2] * (size // len(sys.argv[2]))
    before = peak_memory_mb()
    for _ in stream_blocks([text], tokenizer, 64): pass
    return (peak_memory_mb() - before) * 1e6
grown(1_500_000)  # what any text takes
print(grown(5_000_000) / 5e6)
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere the peak may begin with the parent's"
)
@pytest.mark.slow
@pytest.mark.parametrize("text", ["the old man ", "theoldman"])
def test_a_long_document_takes_a_small_multiple_of_its_length(wordpiece, tmp_path, text):
    wordpiece.save_pretrained(tmp_path)
    command = [sys.executable, "-c", MEMORY, str(tmp_path), text]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(done.stdout)
    assert float(done.stdout) < 12  # bytes for each byte; tokenized at once it was 145
