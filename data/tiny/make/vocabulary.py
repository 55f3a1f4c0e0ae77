"""Cut a model's vocabulary to the word pieces that a text uses.

A small teacher cannot afford 30,522 word embeddings: at a width of 192 they would be most of it. A
word that is no longer one piece is spelled with smaller ones, down to single letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast, PreTrainedTokenizerBase

CONTINUES = "##"  # a WordPiece within a word (Devlin et al. 2019, section 3)


def commonest_pieces(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    size: int,
    *,
    always: Iterable[str] = (),
) -> list[str]:
    """The `size` word pieces to keep, in the tokenizer's order.

    Special tokens and the single characters of what the texts use are kept whatever their count
    (without the characters words would become [UNK]); then the pieces of `always`; then the texts'
    commonest.

    Args:
        texts: whose pieces are counted.
        tokenizer: a WordPiece tokenizer (BERT's).
        size: V, of the new vocabulary.
        always: texts, all of whose pieces are kept.

    Raises:
        ValueError: what must be kept is more than `size`, or the tokenizer has fewer.
    """
    vocabulary = tokenizer.get_vocab()
    if size > len(vocabulary):
        raise ValueError(f"size = {size}: the tokenizer has {len(vocabulary)} pieces only")

    def pieces_of(lines: Sequence[str]) -> list[list[int]]:
        if not lines:
            return []  # the tokenizer fails on an empty list
        return tokenizer(list(lines), add_special_tokens=False, verbose=False)["input_ids"]

    last = max(vocabulary.values())
    counts = np.zeros(last + 1, dtype=np.int64)
    for start in range(0, len(texts), 1000):
        ids = np.fromiter((i for t in pieces_of(texts[start : start + 1000]) for i in t), np.int64)
        counts += np.bincount(ids, minlength=last + 1)
    special = set(tokenizer.all_special_ids)
    # letters of any piece that the texts use, since that piece may be cut; ASCII in any case
    used = {c for piece, i in vocabulary.items() if counts[i] for c in piece}
    single = {
        i
        for piece, i in vocabulary.items()
        if len(bare := piece.removeprefix(CONTINUES)) == 1 and (bare.isascii() or bare in used)
    }
    kept = special | single | {i for line in pieces_of(list(always)) for i in line}
    if len(kept) > size:
        raise ValueError(f"size = {size}: {len(kept)} pieces must be kept, ask for at least those")
    counts[list(kept)] = -1
    commonest = np.argsort(-counts, kind="stable")[: size - len(kept)]
    kept |= {int(i) for i in commonest}
    piece = {i: name for name, i in vocabulary.items()}
    return [piece[i] for i in sorted(kept)]


def cut_vocabulary(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerBase, pieces: Sequence[str]
) -> tuple[BertForMaskedLM, BertTokenizerFast]:
    """Copies of a model and its tokenizer with the given word pieces only.

    Embedding and decoder rows are selected; every other weight is copied. Texts that the kept
    pieces spell as before get the hidden states they had.

    Args:
        model: a BertForMaskedLM.
        tokenizer: the model's, WordPiece.
        pieces: to keep, in the order of their new ids; with the special tokens.

    Raises:
        ValueError: a piece that the tokenizer does not have, a double, or a missing special token.
    """
    vocabulary = tokenizer.get_vocab()
    foreign = [piece for piece in pieces if piece not in vocabulary]
    lost = [token for token in tokenizer.all_special_tokens if token not in set(pieces)]
    if foreign or lost or len(set(pieces)) != len(pieces):
        raise ValueError(
            f"pieces: {foreign[:3]} are not the tokenizer's, special tokens {lost} are missing, "
            f"{len(pieces) - len(set(pieces))} stand twice: make them with commonest_pieces"
        )
    rows = torch.tensor([vocabulary[piece] for piece in pieces])
    lower = getattr(tokenizer, "do_lower_case", True)
    smaller = BertTokenizerFast(
        vocab={piece: i for i, piece in enumerate(pieces)},
        do_lower_case=lower,
        model_max_length=model.config.max_position_embeddings,
    )
    config = BertConfig.from_dict(
        {
            **model.config.to_dict(),
            "vocab_size": len(pieces),
            "pad_token_id": smaller.pad_token_id,
        }
    )
    by_word = {"bert.embeddings.word_embeddings.weight", "cls.predictions.bias"}
    by_word |= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    state = {
        name: (value[rows] if name in by_word else value).clone()
        for name, value in model.state_dict().items()
    }
    cut = BertForMaskedLM(config)
    cut.load_state_dict(state)
    cut.tie_weights()
    return cut.eval(), smaller
