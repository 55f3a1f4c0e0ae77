"""The gate on toys: the probe against words whose states are known, chance against plain counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from toy_models import small_bert
from transformers import BertTokenizerFast
from wordpieces import WORDPIECES

from distilkit.config import SCALES
from distilkit.data import tinyworld
from distilkit.study import teacher_quality as gate_module
from distilkit.study.teacher_quality import _above_chance, gate, polarity_probe

TINY = SCALES["tiny"]


@pytest.fixture(scope="module")
def world_tokenizer() -> BertTokenizerFast:
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDPIECES)})


def test_probe_reads_what_the_states_hold_and_nothing_else(world_tokenizer):
    model = small_bert(1, vocab_size=len(world_tokenizer))
    blind = polarity_probe(model, world_tokenizer)
    assert 0.2 < blind < 0.8  # random embeddings: held-out words are anyone's guess
    embeddings = model.bert.embeddings.word_embeddings.weight
    direction = torch.randn(embeddings.shape[1])
    with torch.no_grad():
        for label, words in enumerate(tinyworld.POLARITY):
            for word in words:
                row = world_tokenizer.convert_tokens_to_ids(word)
                embeddings[row] += (2 * label - 1) * 2 * direction
    assert polarity_probe(model, world_tokenizer) > 0.95


def test_probe_is_asked_about_held_out_words_only():
    held_out = set(tinyworld.HELD_OUT_POLARITY)
    for words in tinyworld.POLARITY:
        assert len(held_out & set(words)) >= 10
        assert len(set(words) - held_out) >= 10


@pytest.mark.parametrize(("score", "clear"), [(60.0, True), (53.0, False), (40.0, False)])
def test_above_chance_is_two_standard_errors_above_the_majority(monkeypatch, score, clear):
    labels = [0] * 200 + [1] * 200  # standard error of chance: 2.5 points
    data = {"validation": {"label": labels}}
    monkeypatch.setattr(gate_module, "load_task", lambda *_: data)
    scores = pd.DataFrame({"task": ["rte"] * 3, "score": [score - 1, score, score + 1]})
    assert (_above_chance(scores, TINY) == ["rte"]) is clear


def test_chance_of_f1_and_of_correlations(monkeypatch):
    labels = np.array([0, 1] * 200)
    monkeypatch.setattr(gate_module, "load_task", lambda *_: {"validation": {"label": labels}})
    table = {"mrpc": 66.0, "stsb": 9.0, "cola": 11.0}  # "always 1" has an F1 of 66.7
    scores = pd.DataFrame({"task": list(table), "score": list(table.values())})
    assert _above_chance(scores, TINY) == ["cola"]
    scores["score"] += 10
    assert _above_chance(scores, TINY) == ["mrpc", "stsb", "cola"]


def test_gate_end_to_end(home, tmp_path, world_tokenizer):
    small_bert(2, vocab_size=len(world_tokenizer)).save_pretrained(tmp_path / "t")
    world_tokenizer.save_pretrained(tmp_path / "t")
    chosen = replace(
        TINY,
        teacher=str(tmp_path / "t"),
        tasks=("cola", "rte"),
        finetuning=replace(TINY.finetuning, steps=2),
    )
    found = gate(chosen)
    assert len(found["answers"]) == 20
    assert list(found["scores"].index) == ["teacher", "random_weights"]
    assert set(found["above_chance"]) <= {"cola", "rte"}
    expected = found["scores"].macro["teacher"] - found["scores"].macro["random_weights"]
    assert np.isnan(expected) or found["above"] == pytest.approx(expected)
