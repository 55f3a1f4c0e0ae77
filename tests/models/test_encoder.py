"""An encoder given an MLM head."""

from __future__ import annotations

import pytest
import torch
from toy_models import shake
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
)

from distilkit.models.heads import masked_lm_from_encoder

TEXT = "w1 w2 w3 w2"


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


def test_head_leaves_the_encoder_as_it_was(encoder, tokenizer):
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = torch.random.get_rng_state()
    model = masked_lm_from_encoder(encoder, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert type(model) is BertForMaskedLM
    assert not model.training
    torch.testing.assert_close(hidden(model, tokenizer, TEXT), hidden(encoder, tokenizer, TEXT))
    head = model.cls.predictions.decoder
    assert head.weight is model.bert.embeddings.word_embeddings.weight
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.add_(1)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_head_follows_its_seed(encoder):
    def dense(seed):
        return masked_lm_from_encoder(encoder, seed).cls.predictions.transform.dense.weight

    assert torch.equal(dense(1), dense(1))
    assert not torch.equal(dense(1), dense(2))


def test_only_a_bert_gets_a_head(encoder):
    with pytest.raises(TypeError, match="not to a DistilBertModel"):
        masked_lm_from_encoder(DistilBertModel(DistilBertConfig(n_layers=1, dim=12, n_heads=2)), 0)
    with pytest.raises(TypeError, match="not to a BertForMaskedLM"):
        masked_lm_from_encoder(BertForMaskedLM(encoder.config), 0)
