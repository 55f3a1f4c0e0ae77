"""A WordPiece vocabulary of the embedded default's words."""

from __future__ import annotations

from distilkit.data import tinyworld

_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'-:;"
# a WordPiece vocabulary whose whole words are the tiny world's
WORDPIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_CHARACTERS]
WORDPIECES += [f"##{character}" for character in _CHARACTERS]
WORDPIECES += [word for word in tinyworld.vocabulary() if len(word) > 1]
