"""A model with fewer word pieces gives the same answers for those that stay."""

from __future__ import annotations

import pytest
import torch
from toy_models import shake
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizerFast,
    pipeline,
)
from vocabulary import commonest_pieces, cut_vocabulary

from distilkit.models.heads import masked_lm_from_encoder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [mark + c for mark in ("", "##") for c in "abcdefghijklmnopqrstuvwxyz"]
WORDS = ["the", "cat", "sat", "dog", "sang", "##ing", "on", "mat", "rare"]
TEXTS = ["The cat sat on the mat", "the dog sings", "the cat sang", "a cats dog"]


@pytest.fixture
def tokenizer() -> BertTokenizerFast:
    vocabulary = [*SPECIAL, *WORDS, *LETTERS, "é"]
    return BertTokenizerFast(vocab={piece: i for i, piece in enumerate(vocabulary)})


@pytest.fixture
def encoder(tokenizer) -> BertModel:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    shape |= {"num_hidden_layers": 2, "max_position_embeddings": 40}
    model = BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).eval()
    shake(model)
    return model


def hidden(model, tokenizer, text: str) -> torch.Tensor:
    with torch.no_grad():
        return model.base_model(**tokenizer(text, return_tensors="pt")).last_hidden_state


def test_commonest_pieces_by_hand(tokenizer):
    kept = commonest_pieces(TEXTS, tokenizer, len(SPECIAL) + len(LETTERS) + 3)
    # the: 4 times, cat: 3, dog: 2; sat, sang, on and mat: once
    assert [p for p in kept if p in WORDS] == ["the", "cat", "dog"]
    assert kept[: len(SPECIAL)] == SPECIAL
    assert set(LETTERS) <= set(kept)
    assert "é" not in kept


def test_letters_of_the_texts_and_asked_words_stay(tokenizer):
    size = len(SPECIAL) + len(LETTERS) + 3
    kept = commonest_pieces([*TEXTS, "é"], tokenizer, size, always=["rare mat"])
    # BERT's normalizer makes é an e, so it is nobody's letter
    assert {"rare", "mat", "the"} <= set(kept)
    assert len(kept) == size
    with pytest.raises(ValueError, match="60 pieces must be kept"):
        commonest_pieces(TEXTS, tokenizer, 58, always=["rare mat the"])
    with pytest.raises(ValueError, match="67 pieces only"):
        commonest_pieces(TEXTS, tokenizer, 68)


def test_cut_model_gives_the_same_answers_for_kept_words(encoder, tokenizer):
    model = masked_lm_from_encoder(encoder, 0)
    shake(model)
    pieces = commonest_pieces(TEXTS, tokenizer, len(SPECIAL) + len(LETTERS) + 4)
    cut, smaller = cut_vocabulary(model, tokenizer, pieces)
    assert len(smaller) == cut.config.vocab_size == len(pieces)
    text = "the cat [MASK] a dog"
    torch.testing.assert_close(hidden(cut, smaller, text), hidden(model, tokenizer, text))
    old = {piece: i for piece, i in tokenizer.get_vocab().items() if piece in pieces}
    new = smaller.get_vocab()
    with torch.no_grad():
        cut_logits = cut(**smaller(text, return_tensors="pt")).logits
        logits = model(**tokenizer(text, return_tensors="pt")).logits
    for piece, i in old.items():
        torch.testing.assert_close(cut_logits[..., new[piece]], logits[..., i])
    assert cut.cls.predictions.decoder.weight is cut.bert.embeddings.word_embeddings.weight
    # what is no longer a piece is spelled, not lost
    assert smaller.tokenize("mat") == ["m", "##a", "##t"]
    assert smaller.unk_token_id not in smaller("mat sang rare")["input_ids"]


def test_cut_model_survives_saving(encoder, tokenizer, tmp_path):
    pieces = commonest_pieces(TEXTS, tokenizer, 66)
    cut, smaller = cut_vocabulary(masked_lm_from_encoder(encoder, 0), tokenizer, pieces)
    cut.save_pretrained(tmp_path)
    smaller.save_pretrained(tmp_path)
    again = BertForMaskedLM.from_pretrained(tmp_path)
    fast = AutoTokenizer.from_pretrained(tmp_path)
    assert fast("the sat DOG")["input_ids"] == smaller("the sat DOG")["input_ids"]
    assert fast.model_max_length == 40
    for name, value in cut.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    answers = pipeline("fill-mask", again, tokenizer=fast, device="cpu")("the [MASK] sat", top_k=3)
    assert {answer["token_str"] for answer in answers} <= set(pieces)


def test_wrong_pieces(encoder, tokenizer):
    model = masked_lm_from_encoder(encoder, 0)
    for pieces, match in (
        ([*SPECIAL, "zebra"], "zebra"),
        (SPECIAL[:4], "MASK"),
        ([*SPECIAL, "the", "the"], "1 stand twice"),
    ):
        with pytest.raises(ValueError, match=match):
            cut_vocabulary(model, tokenizer, pieces)
