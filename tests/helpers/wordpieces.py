"""Vocabularies of the embedded default's words: WordPiece, and bytes as RoBERTa's."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaTokenizerFast

from distilkit.config import SHIPPED


def tiny_words() -> list[str]:
    """The words of the tiny scale's text, in lower case, sorted."""
    text = " ".join(pd.read_parquet(SHIPPED / "text" / "train.parquet").text)
    return sorted(set(re.findall(r"[a-z]+", text.lower())))


_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'-:;"
# a WordPiece vocabulary whose whole words are the tiny world's
WORDPIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_CHARACTERS]
WORDPIECES += [f"##{character}" for character in _CHARACTERS]
WORDPIECES += [word for word in tiny_words() if len(word) > 1]


def byte_level_tokenizers(folder: Path) -> dict[bool, RobertaTokenizerFast]:
    """Tokenizers like RoBERTa's: whether they put a space before a text -> the tokenizer."""
    (folder / "words.txt").write_text(" ".join(tiny_words()))
    pieces = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces.train(str(folder / "words.txt"), 700, special_tokens=special, show_progress=False)
    pieces.save_model(str(folder))
    return {
        prefix: RobertaTokenizerFast.from_pretrained(folder, add_prefix_space=prefix)
        for prefix in (False, True)
    }
