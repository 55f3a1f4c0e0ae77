"""Words for a gap against a plain softmax of the model's own logits."""

from __future__ import annotations

import math
import re

import pytest
import torch
from toy_models import small_bert

from distilkit.models.fill_mask import fill_mask
from distilkit.student import student_from_teacher

SENTENCES = ["w1 [MASK] w3", "[MASK] w5"]


def plain(model, tokenizer, sentence, temperature):
    """(word, probability) of the whole vocabulary, likeliest first."""
    ids = tokenizer(sentence)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, ids.index(tokenizer.mask_token_id)]
    powers = [math.exp(z / temperature) for z in logits.double().tolist()]
    words = tokenizer.convert_ids_to_tokens(range(len(powers)))
    return sorted(zip(words, (p / sum(powers) for p in powers), strict=True), key=lambda x: -x[1])


@pytest.mark.parametrize("temperature", [0.5, 1, 4])
def test_words_and_probabilities(tokenizer, temperature):
    teacher = small_bert(4)
    models = {"teacher": teacher, "student": student_from_teacher(teacher)}
    table = fill_mask(models, tokenizer, SENTENCES, temperature=temperature, top_k=3)
    assert list(table.index) == SENTENCES
    for name, model in models.items():
        for sentence in SENTENCES:
            found = re.findall(r"(\S+) (\d+)\s%", table.loc[sentence, name])
            expected = plain(model, tokenizer, sentence, temperature)[:3]
            assert [word for word, _ in found] == [word for word, _ in expected]
            for (_, percent), (_, p) in zip(found, expected, strict=True):
                assert int(percent) == pytest.approx(100 * p, abs=0.51)


def test_no_dropout_though_the_model_is_in_train_mode(tokenizer):
    model = small_bert(2, hidden_dropout_prob=0.5)
    expected = fill_mask({"mine": model.eval()}, tokenizer, SENTENCES)
    assert fill_mask({"mine": model.train()}, tokenizer, SENTENCES).equals(expected)
    assert model.training


def test_wrong_sentences_and_temperature(tokenizer):
    models = {"teacher": small_bert(1)}
    for wrong in ("w1 w2", "[MASK] w1 [MASK]"):
        with pytest.raises(ValueError, match=r"write \[MASK\] once"):
            fill_mask(models, tokenizer, [wrong])
    with pytest.raises(ValueError, match="temperature"):
        fill_mask(models, tokenizer, SENTENCES, temperature=0)
