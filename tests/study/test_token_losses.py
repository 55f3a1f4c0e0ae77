"""Losses token by token and the gradients' inner products, against the plain formulas."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from toy_models import small_bert

from distilkit import LossConfig, losses_on, student_from_teacher
from distilkit.data.packing import pack
from distilkit.losses import triple_loss
from distilkit.masking import MaskedBlocks
from distilkit.panels.losses import loss_panel
from distilkit.study.token_losses import TERMS, gradient_products, rows_of, targets_of, token_losses

QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
OBJECTIVES = [
    LossConfig(),
    LossConfig(restrict_kd_to_mask=True, temperature=3.0),
    LossConfig(mlm_target="teacher"),
]


@pytest.fixture(scope="module")
def teacher():
    return small_bert(4, max_position_embeddings=128, **QUIET)


@pytest.fixture(scope="module")
def student(teacher):
    return student_from_teacher(teacher)


@pytest.fixture(scope="module")
def blocks(texts, tokenizer) -> MaskedBlocks:
    return MaskedBlocks(pack(texts, tokenizer, 24)[-5:], tokenizer, seed=3)  # the last: padded


WEIGHTS = ("kd_weight", "mlm_weight", "cosine_weight")


@pytest.mark.parametrize("loss_config", OBJECTIVES)
def test_means_over_tokens_are_the_terms(student, teacher, blocks, loss_config):
    batch = blocks.batch(0, np.arange(len(blocks)))
    each = token_losses(student, teacher, batch, loss_config)
    whole = losses_on(student, blocks, loss_config, teacher)
    real = batch["attention_mask"].bool()
    masked = torch.zeros_like(real).flatten()
    masked[batch["rows"][: len(batch["targets"])]] = True
    masked = masked.view(real.shape)
    looks = {
        "soft_target": masked if loss_config.restrict_kd_to_mask else real,
        "mlm": masked,
        "cosine": real,
    }
    for term in TERMS:
        assert torch.equal(~each[term].isnan(), looks[term])
        assert each[term].nanmean().item() == pytest.approx(whole[term], rel=1e-5)


def test_lengths_and_cosines_of_gradients_follow_from_the_products(student, teacher, blocks):
    batch = blocks.batch(0, np.arange(3))
    loss_config = LossConfig()
    products = gradient_products(student, teacher, batch, loss_config)
    assert torch.equal(products, products.T)
    assert all(parameter.grad is None for parameter in student.parameters())
    for weights in ([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [5.0, 2.0, 1.0], [0.3, 7.0, 2.0]):
        chosen = LossConfig(**dict(zip(WEIGHTS, weights, strict=True)))
        with torch.no_grad():
            t, t_hidden = rows_of(teacher, batch)
        s, s_hidden = rows_of(student, batch)
        total = triple_loss(s, t, s_hidden, t_hidden, targets_of(batch), chosen)
        total.loss.backward()
        gradients = [p.grad for p in student.parameters() if p.grad is not None]
        square = sum(gradient.double().square().sum() for gradient in gradients)
        w = torch.tensor(weights, dtype=torch.float64)
        assert (w @ products @ w).item() == pytest.approx(square.item(), rel=1e-4)
        student.zero_grad()


@pytest.mark.slow
def test_panel_says_what_happened_to_each_token(student, teacher, blocks, tokenizer):
    panel = loss_panel(student, teacher, blocks, ids=[0, 4], epoch=2)
    value = json.loads(json.dumps(panel.value))
    assert panel.settings["weights"] == panel.value["start"]["weights"] == [5, 2, 1]
    real = originals_of(blocks, 2, [0, 4]) != tokenizer.pad_token_id
    assert value["counts"][0] == value["counts"][2] == real.sum()
    inputs, masked, originals = blocks.mask(2, np.array([0, 4]))
    for row, sentence in enumerate(value["sentences"]):
        assert len(sentence) == (originals[row] != tokenizer.pad_token_id).sum()
        for column, token in enumerate(sentence):
            assert token["word"] == tokenizer.convert_ids_to_tokens(int(inputs[row, column]))
            assert (token["fate"] != "") == masked[row, column]
            assert (token["losses"][1] is not None) == masked[row, column]
            if token["fate"]:
                original = tokenizer.convert_ids_to_tokens(int(originals[row, column]))
                assert token["original"] == original
                expected = "kept" if token["word"] == original else "replaced"
                assert token["fate"] == ("masked" if token["word"] == "[MASK]" else expected)
            for who, model in (("teacher", teacher), ("student", student)):
                real = sum(originals[row] != tokenizer.pad_token_id)
                with torch.no_grad():
                    alone = torch.from_numpy(inputs[row : row + 1, :real])
                    p = model(alone).logits[0, column].softmax(-1)
                best = p.topk(5)
                assert [word for word, _ in token[who]] == tokenizer.convert_ids_to_tokens(
                    best.indices.tolist()
                )
                assert [share for _, share in token[who]] == pytest.approx(
                    best.values.tolist(), abs=2e-5
                )
    fates = {token["fate"] for sentence in value["sentences"] for token in sentence}
    assert "masked" in fates


def test_long_blocks_are_cut_and_wrong_ones_refused(student, teacher, texts, tokenizer):
    long = MaskedBlocks(pack(texts, tokenizer, 100), tokenizer, seed=0)
    panel = loss_panel(student, teacher, long, ids=[1])
    assert len(panel.value["sentences"][0]) == 64
    assert all(math.isfinite(mean) for mean in panel.value["means"])
    with pytest.raises(ValueError, match="give block numbers from 0 to"):
        loss_panel(student, teacher, long, ids=[len(long)])
    with pytest.raises(ValueError, match="give block numbers"):
        loss_panel(student, teacher, long, ids=[])
    with pytest.raises(ValueError, match="weight = 20"):
        loss_panel(student, teacher, long, loss_config=LossConfig(mlm_weight=20.0))
    with pytest.raises(ValueError, match="leave out cosine_layers"):
        loss_panel(student, teacher, long, loss_config=LossConfig(cosine_layers=((0, 1),)))
    with pytest.raises(ValueError, match="weight = -1"):
        panel.settings = {**panel.settings, "weights": [1, -1, 1]}


def originals_of(blocks, epoch: int, ids: list[int]) -> np.ndarray:
    return blocks.mask(epoch, np.array(ids))[2]


@pytest.mark.browser
def test_weights_and_tokens_are_chosen_in_the_browser(student, teacher, blocks, alone, tmp_path):
    panel = loss_panel(student, teacher, blocks, ids=[0, 1])
    value = panel.value
    file = tmp_path / "panel.html"
    file.write_text(f'<!doctype html><meta charset="utf-8">{panel.to_html()}')
    problems: list[str] = []
    alone.on("pageerror", lambda error: problems.append(str(error)))
    alone.goto(file.as_uri())
    alone.wait_for_selector(".dk-panel svg")
    tokens = [token for sentence in value["sentences"] for token in sentence]
    assert alone.locator(".dk-token").count() == len(tokens)

    def said() -> str:
        return alone.locator(".dk-status").inner_text()

    def expected(weights) -> str:
        w = np.array(weights)
        loss = f"{float(w @ value['means']):.3g}"
        length = f"{math.sqrt(w @ np.array(value['products']) @ w):.3g}"
        return f"= {loss}, T = 2; its gradient has the length {length}."

    assert expected([5, 2, 1]) in said()
    boxes = alone.locator("input[type=number]")
    for number, weight in enumerate(("0", "3.5", "9")):
        boxes.nth(number).fill(weight)
    assert expected([0, 3.5, 9]) in said()
    boxes.nth(0).fill("-1")
    assert "give a number from 0 to 10" in alone.locator(".dk-problem").inner_text()
    boxes.nth(1).fill("4")  # a good number elsewhere does not mend it
    assert "give a number from 0 to 10" in alone.locator(".dk-problem").inner_text()
    alone.get_by_role("button", name="Reset").click()
    assert expected([5, 2, 1]) in said()

    alone.locator(".dk-token").first.click()
    for _ in range(3):
        alone.keyboard.press("ArrowRight")
    assert f"Chosen: “{tokens[3]['word']}”" in said()
    widths = alone.locator("rect[data-top=student]").evaluate_all(
        "bars => bars.map(bar => Number(bar.getAttribute('width')) / 170)"
    )
    assert widths == pytest.approx([p for _, p in tokens[3]["student"]], abs=1e-6)
    assert problems == []
