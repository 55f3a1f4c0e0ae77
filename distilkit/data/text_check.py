"""Refusal of a text that its model cannot learn from: unknown words, nothing to mask."""

from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from distilkit.masking import in_pieces

UNKNOWN_AT_MOST = 0.2  # share of [UNK]; BERT's own texts have below 0.01
FEW_TOKENS = 1000  # too few for a share of [UNK]


class TokenCounts(NamedTuple):
    """Tokens of packed blocks, without [CLS], [SEP] and [PAD]."""

    tokens: int
    unknown: int  # of them [UNK]
    maskable: int  # of them no special tokens

    @property
    def unknown_share(self) -> float:
        return self.unknown / max(1, self.tokens)


def count_tokens(blocks: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> TokenCounts:
    """Count the tokens of blocks [blocks, L]."""
    counts = sum(np.bincount(p.ravel(), minlength=len(tokenizer)) for p in in_pieces(blocks))
    special = [*tokenizer.all_special_ids]
    unknown = 0 if tokenizer.unk_token_id is None else int(counts[tokenizer.unk_token_id])
    frame = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
    tokens = int(counts.sum() - counts[[*frame]].sum())
    return TokenCounts(tokens, unknown, int(counts.sum() - counts[special].sum()))


def check_tokens(counts: TokenCounts, text: str, teacher: str) -> None:
    """Raise ValueError if over :data:`UNKNOWN_AT_MOST` is [UNK], or no token can be masked.

    `text` and `teacher` are names, for the error.
    """
    if counts.unknown_share > UNKNOWN_AT_MOST:
        raise ValueError(
            f"{text}: {counts.unknown_share:.0%} of {counts.tokens:,} tokens are [UNK] (limit "
            f"{UNKNOWN_AT_MOST:.0%}). Use --text in the language of {teacher}, or another --teacher"
        )
    if not counts.maskable:
        raise ValueError(
            f"{text}: none of {counts.tokens:,} tokens can be masked, all are special tokens: give "
            "a text with words (--text)"
        )


def check_known(tokens: np.ndarray, tokenizer: PreTrainedTokenizerBase, task: str) -> None:
    """Raise ValueError if over :data:`UNKNOWN_AT_MOST` of a task's tokens, as ids, is [UNK]."""
    unknown = sum(np.count_nonzero(t == tokenizer.unk_token_id) for t in in_pieces(tokens))
    share = unknown / max(1, len(tokens))
    if len(tokens) >= FEW_TOKENS and share > UNKNOWN_AT_MOST:
        raise ValueError(
            f"{task}: {share:.0%} of the training texts' tokens are [UNK], more than "
            f"{UNKNOWN_AT_MOST:.0%}: give a model whose vocabulary knows these texts"
        )
