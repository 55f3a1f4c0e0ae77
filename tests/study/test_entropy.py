"""What a teacher's soft targets say, against SciPy in float64, token by token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from toy_models import small_bert

from distilkit.data.packing import pack
from distilkit.masking import MaskedBlocks
from distilkit.study import entropy as entropy_module
from distilkit.study.entropy import entropy_of_targets


@pytest.fixture
def blocks(tokenizer, texts):
    return MaskedBlocks(pack(texts[:40], tokenizer, 16), tokenizer, seed=3)


def test_entropy_and_information_are_scipys(blocks, monkeypatch):
    monkeypatch.setattr(entropy_module, "ROWS", 48)  # several parts, the last one smaller
    teacher = small_bert(2).train()
    temperatures = (0.5, 1, 2, 8)
    table = entropy_of_targets(teacher, blocks, temperatures)
    assert teacher.training
    exact = small_bert(2).double()
    batch = blocks.batch(0, np.arange(len(blocks)))
    with torch.no_grad():
        logits = exact(input_ids=batch["input_ids"]).logits.flatten(0, 1)[batch["rows"]].numpy()
    assert list(table.temperature) == list(temperatures)
    for t, row in zip(temperatures, table.itertuples(), strict=True):
        p = np.exp(logits / t - np.logaddexp.reduce(logits / t, axis=1, keepdims=True))
        assert row.entropy == pytest.approx(entropy(p, axis=1).mean(), abs=1e-5)
        assert row.words == pytest.approx(np.exp(row.entropy))
        assert row.information == pytest.approx(
            entropy(p.mean(0)) - entropy(p, axis=1).mean(), abs=1e-5
        )


def test_softened_to_the_end_nothing_is_left(blocks):
    table = entropy_of_targets(small_bert(2), blocks, (1, 1e6)).set_index("temperature")
    assert table.entropy[1e6] == pytest.approx(np.log(205), abs=1e-6)
    assert table.information[1e6] == pytest.approx(0, abs=1e-6)
    assert table.information[1] > 0.01


def test_a_temperature_that_is_none(blocks):
    with pytest.raises(ValueError, match="temperature = 0"):
        entropy_of_targets(small_bert(2), blocks, (0,))
