"""The quality check on toys; chance against plain counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toy_models import small_bert
from transformers import BertTokenizerFast
from wordpieces import WORDPIECES

from distilkit.config import SCALES
from distilkit.study import teacher_quality as module
from distilkit.study.teacher_quality import _above_chance, teacher_quality

TINY = SCALES["tiny"]


@pytest.fixture(scope="module")
def world_tokenizer() -> BertTokenizerFast:
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDPIECES)})


@pytest.mark.parametrize(("score", "clear"), [(60.0, True), (53.0, False), (40.0, False)])
def test_above_chance_is_two_standard_errors_above_the_majority(monkeypatch, score, clear):
    labels = [0] * 200 + [1] * 200  # standard error of chance: 2.5 points
    data = {"validation": {"label": labels}}
    monkeypatch.setattr(module, "load_task", lambda *_: data)
    scores = pd.DataFrame({"task": ["rte"] * 3, "score": [score - 1, score, score + 1]})
    assert (_above_chance(scores, TINY) == ["rte"]) is clear


def test_chance_of_f1_and_of_correlations(monkeypatch):
    labels = np.array([0, 1] * 200)
    monkeypatch.setattr(module, "load_task", lambda *_: {"validation": {"label": labels}})
    table = {"mrpc": 66.0, "stsb": 9.0, "cola": 11.0}  # "always 1" has an F1 of 66.7
    scores = pd.DataFrame({"task": list(table), "score": list(table.values())})
    assert _above_chance(scores, TINY) == ["cola"]
    scores["score"] += 10
    assert _above_chance(scores, TINY) == ["mrpc", "stsb", "cola"]


@pytest.mark.slow
def test_end_to_end(home, tmp_path, world_tokenizer):
    small_bert(2, vocab_size=len(world_tokenizer)).save_pretrained(tmp_path / "t")
    world_tokenizer.save_pretrained(tmp_path / "t")
    chosen = replace(
        TINY,
        teacher=str(tmp_path / "t"),
        tasks=("cola", "rte"),
        finetuning=replace(TINY.finetuning, steps=2),
    )
    found = teacher_quality(chosen)
    assert len(found["answers"]) == 20
    assert list(found["scores"].index) == ["teacher", "random_weights"]
    assert set(found["above_chance"]) <= {"cola", "rte"}
    expected = found["scores"].macro["teacher"] - found["scores"].macro["random_weights"]
    assert np.isnan(expected) or found["above"] == pytest.approx(expected)
