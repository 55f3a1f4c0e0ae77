"""Text to blocks of equal length: full sentences across document borders (RoBERTa).

Liu et al. 2019 (arXiv 1907.11692), sections 4.1 and 4.2, which DistilBERT follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

# The fast tokenizer works on many texts at once; a book is as long as many
DOCUMENTS_AT_ONCE, CHARACTERS_AT_ONCE = 1000, 4_000_000


def pack(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, length: int) -> np.ndarray:
    """Blocks of `length` tokens: ``[CLS] text … [SEP] text … [SEP]``, nothing lost.

    Documents follow one another with a [SEP] between; a block ends wherever `length` ends it. The
    last block is filled with [PAD].

    Args:
        texts: documents.
        tokenizer: with [CLS], [SEP] and [PAD].
        length: L, tokens in a block with [CLS] and the last [SEP].

    Returns:
        [blocks, L], int32.

    Raises:
        ValueError: no text, `length` below 8, or a tokenizer without those tokens.
    """
    texts = list(texts)
    parts = tqdm(
        stream_blocks(texts, tokenizer, length),
        "tokenize",
        total=-(-len(texts) // DOCUMENTS_AT_ONCE) + 1,
        unit=" k docs",
        leave=False,
    )
    return np.concatenate([part.blocks for part in parts])


class Part(NamedTuple):
    """Some blocks of a stream, and what it takes to go on after them."""

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
    """The blocks of :func:`pack` part by part, in memory that does not grow with the text.

    Args:
        texts, tokenizer, length: as for :func:`pack`.
        documents, carry: of the part after which to go on; `texts` start behind it.
    """
    cls, sep, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    if None in (cls, sep, pad):
        raise ValueError("the tokenizer needs [CLS], [SEP] and [PAD] (a BERT tokenizer has them)")
    if length < 8:
        raise ValueError(f"length = {length}: a block needs at least 8 tokens")
    body = length - 2
    rest = np.asarray(carry, dtype=np.int32)

    def framed(tokens: np.ndarray) -> np.ndarray:
        blocks = np.full((-(-len(tokens) // body), length), pad, dtype=np.int32)
        blocks[:, 0] = cls
        full = len(tokens) // body
        blocks[:full, 1:-1] = tokens[: full * body].reshape(full, body)
        blocks[:full, -1] = sep
        if full < len(blocks):
            last = tokens[full * body :]
            blocks[-1, 1 : 1 + len(last)] = last
            blocks[-1, 1 + len(last)] = sep
        return blocks

    texts = iter(texts)
    while some := _some(texts):
        # verbose=False: a document longer than the model is no fault here, it is cut into blocks
        ids = tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
        rest = np.concatenate([rest, *(np.asarray([*d, sep], np.int32) for d in ids if d)])
        documents += len(some)
        # one token stays back: the very last [SEP] of the text is dropped, see below
        full = max(0, len(rest) - 1) // body * body
        yield Part(framed(rest[:full]), documents, rest[full:], last=False)
        rest = rest[full:]
    if not len(rest):  # any text leaves a token
        raise ValueError("the text has no tokens")
    # every block ends in its own [SEP]
    yield Part(framed(rest[:-1]), documents, rest[:0], last=True)


def _some(texts: Iterator[str]) -> list[str]:
    """The next documents: so many, or fewer if they are long, but at least one."""
    some, characters = [], 0
    for text in texts:
        some.append(text)
        characters += len(text)
        if len(some) == DOCUMENTS_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            break
    return some
