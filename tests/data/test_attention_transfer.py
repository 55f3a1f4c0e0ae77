"""Attention transfer against a plain float64 formula, and through the loop at toy size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_transfer import (
    AttentionTransfer,
    attention_loss,
    attention_term,
    check_attention,
)
from toy_models import shake, small_bert
from transformers import BertForMaskedLM

from distilkit.config import LossConfig, TrainingConfig
from distilkit.data.packing import pack
from distilkit.distillation import distil
from distilkit.masking import MaskedBlocks


def sharp_teacher() -> BertForMaskedLM:
    """A teacher of random weights, large enough for its attention not to be flat."""
    teacher = small_bert(layers=2)
    shake(teacher, 0.3)
    return teacher


def random_attention(seed, batch=3, heads=2, length=5, lengths=(5, 4, 2)):
    """[B, heads, L, L] in float64, padding keys with exactly 0, and the mask."""
    rng = np.random.default_rng(seed)
    mask = np.arange(length) < np.array(lengths)[:, None]
    raw = rng.gamma(0.5, size=(batch, heads, length, length)) * mask[:, None, None, :]
    return torch.from_numpy(raw / raw.sum(-1, keepdims=True)), torch.from_numpy(mask.astype(int))


def plain(student, teacher, mask):
    """The sum, written out with loops; and the number of queries."""
    total, queries = 0.0, 0
    for b, h, q in np.ndindex(*student.shape[:3]):
        if mask[b, q]:
            queries += h == 0
            for k in range(student.shape[3]):
                p, s = max(float(teacher[b, h, q, k]), 1e-6), max(float(student[b, h, q, k]), 1e-6)
                total += float(teacher[b, h, q, k]) * (np.log(p) - np.log(s)) / student.shape[1]
    return total, queries


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_the_plain_formula_and_its_gradient(seed):
    student, mask = random_attention(seed)
    teacher, _ = random_attention(seed + 10)
    total, queries = plain(student, teacher, mask)
    assert attention_loss(student, teacher, mask).item() == pytest.approx(total / queries, 1e-12)
    assert attention_loss(student, teacher, mask, count=7).item() == pytest.approx(total / 7, 1e-12)
    logits = torch.randn(3, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: attention_loss(z.softmax(-1), teacher, mask), logits)


def test_zero_at_equality_and_no_gradient_to_the_teacher():
    student, mask = random_attention(1)
    teacher = student.clone().requires_grad_()
    assert attention_loss(student, teacher, mask).item() == 0
    free = student.clone().requires_grad_()
    attention_loss(free, teacher, mask).backward()
    assert teacher.grad is None


def test_padding_does_not_matter():
    student, _ = random_attention(2, lengths=(5, 5, 5))
    teacher, _ = random_attention(3, lengths=(5, 5, 5))
    padded = [
        torch.nn.functional.pad(x, (0, 3, 0, 3), value=0.0) for x in (student, teacher)
    ]  # the new queries' rows are no distributions; they must not count
    padded[0][:, :, 5:] = 0.125
    mask = torch.cat([torch.ones(3, 5), torch.zeros(3, 3)], 1).long()
    expected = attention_loss(student, teacher).item()
    assert attention_loss(*padded, mask).item() == pytest.approx(expected, 1e-12)


def test_pairs_of_layers_are_averaged_and_embeddings_left_out():
    student, mask = zip(*(random_attention(seed) for seed in range(4)), strict=True)
    teacher, _ = zip(*(random_attention(seed + 20) for seed in range(2)), strict=True)
    each = [
        attention_loss(student[i], teacher[j], mask[0], count=5).item() for i, j in ((1, 0), (3, 1))
    ]
    got = attention_term(student, teacher, ((0, 0), (2, 1), (-1, -1)), mask[0], 5)
    assert got.item() == pytest.approx(sum(each) / 2, 1e-12)


@pytest.mark.slow
def test_a_student_of_random_weights_learns_where_to_look(home, tokenizer, texts):
    teacher = sharp_teacher()
    config = type(teacher.config).from_dict(teacher.config.to_dict())
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    torch.manual_seed(5)
    student = BertForMaskedLM(config).eval()
    depth = config.num_hidden_layers
    pairs = tuple((layer, layer) for layer in range(depth + 1))
    transfer = AttentionTransfer(1.0, pairs)
    blocks = MaskedBlocks(pack(texts, tokenizer, 24), tokenizer, seed=1)
    training = TrainingConfig(
        steps=150, batch_size=8, micro_batch_size=4, learning_rate=3e-3, eps=1e-8, seed=1
    )
    few = LossConfig(0.0, 0.0, 1e-3)
    run = distil(
        student, teacher, blocks, training, name="toy", loss_config=few, extra_loss=transfer
    )
    trained = BertForMaskedLM.from_pretrained(run.model)
    batch = blocks.batch(0, np.arange(len(blocks)))
    before, after = (
        transfer(model, teacher, batch, batch["counts"])["attention"].item()
        for model in (student, trained)
    )
    assert after < 0.6 * before
    assert "AttentionTransfer" in run.config()["extra_loss"]
    first, *_, last = (row["attention"] for row in run.rows() if row["split"] == "train")
    assert last < first


def test_what_cannot_be_compared_is_refused():
    teacher = sharp_teacher()
    config = type(teacher.config).from_dict(teacher.config.to_dict())
    config.attention_probs_dropout_prob = 0.1
    with pytest.raises(ValueError, match=r"attention dropout is 0\.1"):
        check_attention(BertForMaskedLM(config), teacher)
    config.attention_probs_dropout_prob = 0.0
    config.num_attention_heads = 2 * teacher.config.num_attention_heads
    with pytest.raises(ValueError, match="attention heads"):
        check_attention(BertForMaskedLM(config), teacher)
    with pytest.raises(ValueError, match="the same number of heads"):
        attention_loss(torch.ones(1, 2, 3, 3), torch.ones(1, 3, 3, 3))
