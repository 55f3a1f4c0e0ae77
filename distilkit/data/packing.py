"""Text to blocks of equal length: full sentences across document borders (RoBERTa).

Liu et al. 2019 (arXiv 1907.11692), sections 4.1 and 4.2, which DistilBERT follows.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

# The fast tokenizer works on many texts at once, and needs some 150 bytes a character meanwhile
DOCUMENTS_AT_ONCE, CHARACTERS_AT_ONCE = 1000, 1_000_000
PIECE = 100_000  # characters; longer documents are cut in front of a space
UNBROKEN = 100_000  # characters; so many without a space are cut all the same, to save memory
# Tokenizers end a token there; byte-level ones (RoBERTa) keep the space with the next word
_CUT = re.compile(r"(?<=\S) ")


def pack(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, length: int) -> np.ndarray:
    """Pack texts into [blocks, L], int32: ``[CLS] text … [SEP] text … [SEP]``, nothing lost.

    Documents follow one another with a [SEP] between; a block ends wherever `length` ends it. The
    last block is filled with [PAD]. `length` counts [CLS] and the last [SEP]. ValueError without
    text, for a `length` below 8, or for a tokenizer without those tokens.
    """
    return np.concatenate([part.blocks for part in stream_blocks(texts, tokenizer, length)])


class Part(NamedTuple):
    """Some blocks of a stream, and what it takes to continue after them."""

    blocks: np.ndarray  # [some, L], int32
    documents: int  # so many of the texts have been read
    carry: np.ndarray  # tokens that are read, but in no block yet
    last: bool  # the text is at its end


def stream_blocks(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    *,
    documents: int = 0,
    carry: Sequence[int] = (),
) -> Iterator[Part]:
    """Yield the blocks of :func:`pack` part by part, in memory that does not grow with the text.

    `documents` and `carry` are those of the part after which to continue; `texts` start behind it.
    """
    cls, sep, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    if None in (cls, sep, pad):
        raise ValueError("the tokenizer needs [CLS], [SEP] and [PAD] (a BERT tokenizer has them)")
    if length < 8:
        raise ValueError(f"length = {length}: a block needs at least 8 tokens")
    if isinstance(texts, str) or hasattr(texts, "columns") or hasattr(texts, "column_names"):
        raise TypeError(f"texts is a {type(texts).__name__}: give a list of texts, or data['text']")
    body = length - 2
    rest, end = np.asarray(carry, dtype=np.int32), np.array([sep], np.int32)

    def framed(tokens: np.ndarray) -> np.ndarray:
        short = -len(tokens) % body  # so many tokens the last block lacks
        rows = np.pad(tokens, (0, short), constant_values=pad).reshape(-1, body)
        blocks = np.full((len(rows), length), sep, np.int32)
        blocks[:, 0], blocks[:, 1:-1] = cls, rows
        blocks[-1:, length - 1 - short] = sep
        blocks[-1:, length - short :] = pad
        return blocks

    texts = iter(texts)
    while some := _some(texts):
        ids = tokenize(some, tokenizer)
        rest = np.concatenate([rest, *(part for d in ids if len(d) for part in (d, end))])
        documents += len(some)
        # one token stays back: the very last [SEP] of the text is dropped, see below
        full = max(0, len(rest) - 1) // body * body
        yield Part(framed(rest[:full]), documents, rest[full:], last=False)
        rest = rest[full:]
    if not len(rest):  # any text leaves a token
        raise ValueError(
            "the text has no tokens: all of it is held out (give more, and different documents), "
            "or the tokenizer drops its characters (give another --text)"
        )
    # every block ends in its own [SEP]
    yield Part(framed(rest[:-1]), documents, rest[:0], last=True)


def tokenize(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[np.ndarray]:
    """Return the token ids of each text, [tokens] int32, without special tokens.

    A text is tokenized in pieces of about :data:`PIECE` characters, so that a long one takes no
    more memory than many short ones. The ids are those of the whole, unless a text has no spaces to
    be cut at (:data:`UNBROKEN`).
    """
    ids: list[list[np.ndarray]] = [[] for _ in texts]
    queue = ((at, piece) for at, text in enumerate(texts) for piece in pieces(text, PIECE))
    while some := _some(queue):
        # verbose=False: a document longer than the model is no fault here, it is cut into blocks
        encoded = tokenizer(
            [text for _, text in some],
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        for (at, _), tokens in zip(some, encoded["input_ids"], strict=True):
            ids[at].append(np.asarray(tokens, np.int32))
    return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in ids]


def pieces(text: str, characters: int) -> Iterator[str]:
    """Yield a text in pieces of at least so many characters, cut in front of a space."""
    start = 0
    while len(text) - start > characters:
        latest = start + characters + UNBROKEN
        space = _CUT.search(text, start + characters, latest)
        end = space.start() if space else latest
        if end >= len(text):
            break
        yield text[start:end]
        start = end
    yield text[start:]


def _some(texts: Iterator[Any]) -> list[Any]:
    """Take the next documents, or (number, piece) pairs: fewer if they are long, at least one."""
    some, characters = [], 0
    for text in texts:
        some.append(text)
        characters += len(text if isinstance(text, str) else text[1])
        if len(some) == DOCUMENTS_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            break
    return some
