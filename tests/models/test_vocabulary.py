"""Vocabularies are compared by what they hold: a size says nothing about an order."""

from __future__ import annotations

import pytest
from toy_models import small_bert
from transformers import AutoModelForMaskedLM, BertTokenizerFast

from distilkit.models.vocabulary import (
    check_vocabulary,
    difference,
    own_tokenizer,
    saved_tokenizer,
)


def reordered(tokenizer) -> BertTokenizerFast:
    """The same tokens, w0 and w1 in each other's place."""
    vocabulary = tokenizer.get_vocab()
    vocabulary["w0"], vocabulary["w1"] = vocabulary["w1"], vocabulary["w0"]
    return BertTokenizerFast(vocab=vocabulary)


@pytest.fixture
def saved(tmp_path, tokenizer):
    """A model loaded from a folder that holds the tokenizer too."""
    small_bert(1).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return AutoModelForMaskedLM.from_pretrained(tmp_path / "model")


def test_difference(tokenizer):
    assert difference(tokenizer, tokenizer) is None
    assert "id 5" in difference(tokenizer, reordered(tokenizer))
    larger = BertTokenizerFast(vocab=tokenizer.get_vocab())
    larger.add_tokens(["new"])
    assert difference(tokenizer, larger) is None
    assert difference(larger, tokenizer) is None
    other = BertTokenizerFast(vocab=tokenizer.get_vocab(), cls_token="w3")
    assert "cls_token_id" in difference(tokenizer, other)


def test_the_tokenizer_of_a_model_is_the_one_in_its_folder(saved, tokenizer, tmp_path):
    assert difference(saved_tokenizer(saved), tokenizer) is None
    assert saved_tokenizer(small_bert(1)) is None
    small_bert(1).save_pretrained(tmp_path / "alone")
    assert saved_tokenizer(AutoModelForMaskedLM.from_pretrained(tmp_path / "alone")) is None
    saved.config._name_or_path = saved.name_or_path = "owner/not-in-the-cache"
    assert saved_tokenizer(saved) is None


def test_a_vocabulary_of_the_same_size_in_another_order_is_refused(saved, tokenizer):
    check_vocabulary(saved, tokenizer)
    with pytest.raises(ValueError, match=r"id 5 is 'w1'.*'w0'"):
        check_vocabulary(saved, reordered(tokenizer))


def test_ids_beyond_the_embeddings_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"204.*teacher.*100 rows"):
        check_vocabulary(small_bert(1, vocab_size=100), tokenizer, "teacher")


def test_a_teacher_that_reads_other_ids_keeps_its_tokenizer(saved, tokenizer):
    other = reordered(tokenizer)
    assert own_tokenizer(saved, tokenizer) is None
    assert difference(own_tokenizer(saved, other), tokenizer) is None
    nameless = small_bert(1)
    assert own_tokenizer(nameless, tokenizer) is None
    larger = BertTokenizerFast(vocab=tokenizer.get_vocab())
    larger.add_tokens(["new"])
    assert len(own_tokenizer(saved, larger)) == len(tokenizer)
    saved.resize_token_embeddings(len(larger), pad_to_multiple_of=8)  # and trained with them
    assert own_tokenizer(saved, larger) is None
    with pytest.raises(ValueError, match="100 rows"):
        own_tokenizer(small_bert(1, vocab_size=100), tokenizer)
