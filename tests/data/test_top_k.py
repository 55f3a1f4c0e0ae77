"""A distribution by its k likeliest tokens, against float64 softmaxes and autograd."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from distilkit import fused_loss as lean_head
from distilkit.config import LossConfig
from distilkit.data import top_k
from distilkit.data.top_k import TEMPERATURES, TopK, at_temperature
from distilkit.fused_loss import Head, fused_triple_loss
from distilkit.losses import soft_target_loss

V, H, N, M = 211, 16, 13, 5  # vocabulary, hidden size, rows, masked rows


def logits(seed: int, spread: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(N, V, dtype=torch.float64, generator=generator)


def exact(t: torch.Tensor, k: int, temperature: float):
    """(ids, p, rest) from the whole softmax."""
    p = (t / temperature).softmax(-1)
    ids = t.argsort(-1, descending=True)[:, :k]
    kept = p.gather(1, ids)
    return ids, kept, p.sum(-1) - kept.sum(-1)


@pytest.mark.parametrize("k", [1, 2, 16, V - 1, V])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_exact_where_the_rest_is_kept(k, temperature):
    ids, p, rest = at_temperature(top_k.top_k(logits(0), k), V, temperature)
    for found, expected in zip((ids, p, rest), exact(logits(0), k, temperature), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("temperature", [0.7, 1.1, 1.5, 3, 6, 12, 100])
def test_near_between_them(temperature):
    _, p, rest = at_temperature(top_k.top_k(logits(0), 8), V, temperature)
    _, expected, expected_rest = exact(logits(0), 8, temperature)
    assert (p - expected).abs().max() < 0.01
    assert (rest / expected_rest - 1).abs().max() < 0.1
    torch.testing.assert_close(p.sum(-1) + rest, torch.ones(N, dtype=torch.float64))


@pytest.mark.parametrize("temperature", [0.49, 0.3, 0.1, 0.01])
def test_below_a_half_the_rest_is_bounded_from_above(temperature):
    _, p, rest = at_temperature(top_k.top_k(logits(0), 8), V, temperature)
    expected = exact(logits(0), 8, temperature)[2]
    assert (rest >= expected - 1e-15).all()
    assert (rest <= 3 * expected + 0.01).all()
    torch.testing.assert_close(p.sum(-1) + rest, torch.ones(N, dtype=torch.float64))


def test_half_precision_is_read_in_float32_and_adds_up_to_1():
    top = top_k.top_k(logits(0).float(), 16)
    _, p, rest = at_temperature(TopK(top.ids, top.logits.half(), top.rest), V, 2)
    assert p.dtype == torch.float32
    torch.testing.assert_close(p.sum(-1) + rest, torch.ones(N))
    torch.testing.assert_close(p.double(), exact(logits(0), 16, 2)[1], rtol=5e-3, atol=0)


def test_a_teacher_that_is_sure_leaves_no_rest():
    sure = torch.zeros(1, V)
    sure[0, 7] = 500.0
    for temperature in (0.1, 1, 3, 8):
        ids, p, rest = at_temperature(top_k.top_k(sure, 3), V, temperature)
        assert ids[0, 0] == 7
        assert p[0, 0] == 1
        assert rest[0] < 1e-20


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        at_temperature(top_k.top_k(logits(0), 4), V, temperature)


# --- the loss -----------------------------------------------------------------------------------


def plain(s: torch.Tensor, t: torch.Tensor, k: int, temperature: float, count: float):
    """T² · KL over k + 1 outcomes, by the formula."""
    ids, p, r = exact(t, k, temperature)
    q = (s / temperature).softmax(-1)
    chosen = q.gather(1, ids)
    outside = torch.ones_like(q).scatter(1, ids, 0.0)
    kl = (p * (p / chosen).log()).sum(-1)
    if k < V:
        kl = kl + r * (r / (q * outside).sum(-1)).log()
    return temperature**2 * kl.sum() / count


@pytest.fixture
def student():
    """Hidden states and a head, float64; the transform is the identity."""
    generator = torch.Generator().manual_seed(3)
    decoder = nn.Linear(H, V, dtype=torch.float64)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    hidden = torch.randn(N, H, dtype=torch.float64, generator=generator, requires_grad=True)
    return hidden, Head(lambda h: h, decoder)


@pytest.mark.parametrize("rows_at_once", [1, 4, 100])
@pytest.mark.parametrize("k", [1, 16, V])
@pytest.mark.parametrize(
    "loss_config",
    [
        LossConfig(cosine_weight=0),
        LossConfig(cosine_weight=0, mlm_weight=0, temperature=1),
        LossConfig(cosine_weight=0, restrict_kd_to_mask=True, temperature=4),
        LossConfig(cosine_weight=0, mlm_target="teacher", temperature=8),
        LossConfig(cosine_weight=0, kd_weight=0, mlm_target="teacher"),
    ],
    ids=["paper", "soft alone", "masked", "arg-max", "arg-max alone"],
)
def test_loss_and_gradient_are_those_of_the_plain_formula(
    student, loss_config, k, rows_at_once, monkeypatch
):
    monkeypatch.setattr(lean_head, "CHUNK_ELEMENTS", rows_at_once * V)
    monkeypatch.setattr(lean_head, "BLOCK_ELEMENTS", max(1, rows_at_once // 2) * V)
    (hidden, head), t = student, logits(1)
    targets = torch.arange(M)
    counts = {"soft_target": 29, "mlm": 7, "cosine": 29}  # of a step with more micro-batches
    terms = fused_triple_loss(
        hidden, head, targets, loss_config, teacher_top=top_k.top_k(t, k), counts=counts
    )
    parameters = [hidden, *head.decoder.parameters()]
    found = torch.autograd.grad(3 * terms.loss, parameters)

    s = head.decoder(hidden)
    soft = M if loss_config.restrict_kd_to_mask else N
    wanted = targets if loss_config.mlm_target == "original" else t[:M].argmax(-1)
    soft_target = plain(s[:soft], t[:soft], k, loss_config.temperature, 29)
    mlm = nn.functional.cross_entropy(s[:M], wanted, reduction="sum") / 7
    loss = loss_config.kd_weight * soft_target + loss_config.mlm_weight * mlm
    expected = torch.autograd.grad(3 * loss, parameters)

    torch.testing.assert_close(terms.loss, loss, rtol=1e-10, atol=1e-12)
    if loss_config.kd_weight:
        torch.testing.assert_close(terms.soft_target, soft_target, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


SOFT = LossConfig(mlm_weight=0, cosine_weight=0, kd_weight=1)


@pytest.mark.parametrize("temperature", [0.5, 1, 3, 8])
def test_with_the_whole_vocabulary_it_is_the_soft_target_loss(student, temperature):
    (hidden, head), t = student, logits(1)
    top = top_k.top_k(t, V)
    loss_config = replace(SOFT, temperature=temperature)
    loss = fused_triple_loss(hidden, head, torch.arange(M), loss_config, teacher_top=top).loss
    expected = soft_target_loss(head.decoder(hidden), t, temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(loss, hidden), torch.autograd.grad(expected, hidden)
    )


@pytest.mark.parametrize("k", [1, 8, 64])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_zero_where_student_and_teacher_agree(student, k, temperature):
    hidden, head = student
    top = top_k.top_k(head.decoder(hidden).detach(), k)
    loss_config = replace(SOFT, temperature=temperature)
    loss = fused_triple_loss(hidden, head, torch.arange(M), loss_config, teacher_top=top).loss
    assert abs(loss.item()) < 1e-12
    assert torch.autograd.grad(loss, hidden)[0].abs().max() < 1e-12


def test_more_words_see_more_and_never_more_than_there_is(student):
    (hidden, head), t = student, logits(1)
    seen = [
        fused_triple_loss(
            hidden, head, torch.arange(M), SOFT, teacher_top=top_k.top_k(t, k)
        ).loss.item()
        for k in (1, 2, 8, 64, V)
    ]
    assert all(a < b for a, b in pairwise(seen))
    assert seen[-1] <= soft_target_loss(head.decoder(hidden), t, 2).item() * (1 + 1e-12)


@pytest.mark.parametrize("sure_of", ["a kept word", "another"])
def test_a_student_that_is_sure_gets_a_finite_gradient(sure_of):
    decoder = nn.Linear(1, V)
    top = top_k.top_k(logits(1).float(), 8)
    with torch.no_grad():
        decoder.weight.zero_()
        decoder.bias.zero_()
        decoder.bias[top.ids[0, 0] if sure_of == "a kept word" else top.ids[0].max() - 1] = 1e4
    loss = fused_triple_loss(
        torch.ones(N, 1), Head(lambda h: h, decoder), torch.arange(M), SOFT, teacher_top=top
    ).loss
    loss.backward()
    assert loss.isfinite()
    assert loss > 1
    assert decoder.bias.grad.isfinite().all()


def test_missing_parts_are_named(student):
    hidden, head = student
    top = top_k.top_k(logits(1)[:M], 8)
    with pytest.raises(ValueError, match="soft targets for 13, teacher_top of 5"):
        fused_triple_loss(hidden, head, torch.arange(M), SOFT, teacher_top=top)
    with pytest.raises(ValueError, match="needs teacher_hidden"):
        fused_triple_loss(hidden, head, torch.arange(M), LossConfig(), teacher_top=top)
