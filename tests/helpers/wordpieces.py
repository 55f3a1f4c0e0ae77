"""A WordPiece vocabulary of the embedded default's words."""

from __future__ import annotations

import re

import pandas as pd

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
