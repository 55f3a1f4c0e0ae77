"""An encoder becomes a teacher: given an MLM head, and fewer word pieces if it is to be small.

Many published encoders (sentence embedders, for instance) come without the masked-language-model
head that distillation by soft targets asks of a teacher. `masked_lm_from_encoder` adds one,
`train_head` trains it. A small student moreover cannot afford 30,522
word embeddings: at a width of 192 they would be most of it. `commonest_pieces` and
`cut_vocabulary` keep the word pieces that a text uses; a word that is no longer one piece is
spelled with smaller ones, down to single letters.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizerFast,
    PreTrainedTokenizerBase,
)

from distilkit.config import LossConfig, TrainingConfig
from distilkit.distillation import distil
from distilkit.masking import MaskedBlocks
from distilkit.processes import seeded
from distilkit.run import Run

CONTINUES = "##"  # a WordPiece that goes on with a word (Devlin et al. 2019, section 3)


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
        model: a BertForMaskedLM, as :func:`masked_lm_from_encoder` makes it.
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


def masked_lm_from_encoder(encoder: BertModel, seed: int) -> BertForMaskedLM:
    """A BertForMaskedLM around a copy of an encoder; the head's weights are new and untrained.

    The decoder is tied to the encoder's word embeddings, as in BERT; the pooler is left out.

    Args:
        encoder: a BertModel.
        seed: of the head's weights. The global generator is left as it was.

    Raises:
        TypeError: the encoder is of another class.
    """
    if type(encoder) is not BertModel:
        raise TypeError(
            f"an MLM head can be given to a BertModel, not to a {type(encoder).__name__}"
        )
    with seeded(seed):
        model = BertForMaskedLM(BertConfig.from_dict(encoder.config.to_dict()))
    state = {k: v for k, v in encoder.state_dict().items() if not k.startswith("pooler.")}
    model.bert.load_state_dict(state)
    model.tie_weights()
    return model.to(encoder.dtype).eval()


def train_head(
    model: BertForMaskedLM,
    blocks: MaskedBlocks,
    training: TrainingConfig,
    *,
    name: str,
    validation: MaskedBlocks | None = None,
) -> Run:
    """Train a new MLM head, with all weights, while every hidden state is held to its start.

    Learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282), on hidden states: by MLM only
    the encoder would forget before the head can predict.

    Args:
        model: as :func:`masked_lm_from_encoder` makes it; not changed.
        blocks, training, name, validation: as for :func:`distilkit.distillation.pretrain`.
    """
    same = tuple((layer, layer) for layer in range(model.config.num_hidden_layers + 1))
    loss_config = LossConfig(kd_weight=0.0, mlm_weight=1.0, cosine_weight=5.0, cosine_layers=same)
    before = copy.deepcopy(model)
    return distil(
        model, before, blocks, training, name=name, loss_config=loss_config, validation=validation
    )
