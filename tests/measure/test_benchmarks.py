"""The benchmarks: the textbook's step is the formula; FLOPs by hand; what the tables hold."""

from __future__ import annotations

import copy
import math
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_models import shake, small_bert
from transformers import BertConfig

from distilkit.cli.main import main
from distilkit.config import LossConfig
from distilkit.distillation import LanguageModelLoss
from distilkit.losses import IGNORE, triple_loss
from distilkit.masking import MaskedBlocks
from distilkit.measure import step_benchmark
from distilkit.measure.flops import flops_per_token, step_bytes
from distilkit.measure.latency import random_pair
from distilkit.measure.size import parameter_count
from distilkit.measure.step_benchmark import (
    VARIANTS,
    Work,
    batches,
    bench_step,
    load_pair,
    make_step,
    textbook_loss,
)
from distilkit.student import student_from_teacher

pytestmark = pytest.mark.slow

VOCABULARY = 205  # of small_bert


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Work:
    folder = tmp_path_factory.mktemp("teacher")
    small_bert(2).save_pretrained(folder)
    return Work(width=str(folder), batch_size=4, length=24, device="cpu")


@pytest.fixture(scope="module")
def pair():
    teacher = small_bert(2)
    student = student_from_teacher(teacher).eval()
    torch.manual_seed(7)
    shake(student)
    return student, teacher


def ragged_batch(tokenizer, seed: int) -> dict:
    """Rows of 6 to 20 tokens, padded, as both want them."""
    random = np.random.default_rng(seed)
    blocks = np.full((6, 20), tokenizer.pad_token_id, dtype=np.int32)
    for row in blocks:
        length = random.integers(6, 21)
        row[:length] = random.integers(5, 205, length)
        row[0], row[length - 1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    batch = MaskedBlocks(blocks, tokenizer, seed=seed).batch(0, np.arange(6))
    labels = torch.full((blocks.size,), IGNORE)
    labels[batch["rows"][: len(batch["targets"])]] = batch["targets"]
    return {**batch, "labels": labels.view(6, 20)}


@pytest.mark.parametrize("tokens", ["all", "masked"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_textbook_and_package_are_the_formula_in_float64(pair, tokenizer, tokens, seed):
    """Loss to 1e-6 and gradient to 2e-6 relative, on fresh ragged batches."""
    loss_config, batch = (
        LossConfig(restrict_kd_to_mask=tokens == "masked"),
        ragged_batch(tokenizer, seed),
    )
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    exact, exact_teacher = (copy.deepcopy(model).double() for model in pair)
    chosen = batch["attention_mask"].bool()
    out = [model(**inputs, output_hidden_states=True) for model in (exact, exact_teacher)]
    logits, hidden = (
        [o.logits[chosen] for o in out],
        [o.hidden_states[-1][chosen] for o in out],
    )
    expected = triple_loss(*logits, *hidden, batch["labels"][chosen], loss_config).loss
    expected.backward()
    reference = torch.cat([p.grad.flatten() for p in exact.parameters()])

    for variant in ("textbook", "package"):
        student = copy.deepcopy(pair[0])
        if variant == "textbook":
            loss = textbook_loss(student, pair[1], batch, loss_config)
        else:
            package_loss = LanguageModelLoss(loss_config, pair[1])
            loss = package_loss(student, batch, batch["counts"])["loss"]
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in student.parameters()]).double()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6), variant
        assert (gradient - reference).norm() <= 2e-6 * reference.norm(), variant


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_moves_the_weights_against_the_loss(variant, work):
    teacher, student = load_pair(work)
    step = make_step(variant, student.eval(), teacher, LossConfig())
    batch = next(batches(work, VOCABULARY))
    losses = [step(batch).item() for _ in range(60)]
    assert losses[-1] < losses[0]


def test_random_batches_are_full_blocks_with_15_percent_masked(work):
    source = batches(work, VOCABULARY)
    one, other = next(source), next(source)
    assert not torch.equal(one["input_ids"], other["input_ids"])
    again = next(batches(work, VOCABULARY))
    assert torch.equal(one["input_ids"], again["input_ids"])
    assert one["counts"] == {"examples": 4, "tokens": 96, "masked": 16}  # 4 of 24 each
    assert sorted(one["rows"].tolist()) == list(range(96))
    masked = one["rows"][:16]
    assert torch.equal(one["labels"].flatten()[masked], one["targets"])
    assert (one["labels"] != IGNORE).sum(1).tolist() == [4] * 4


@pytest.mark.parametrize("bf16", [True, False])
def test_the_bench_of_a_step_end_to_end(bf16, tmp_path, capsys, monkeypatch):
    """In this process, at few tokens."""
    monkeypatch.setattr(step_benchmark, "in_a_process", lambda _, function, *args: function(*args))
    monkeypatch.setitem(step_benchmark.MATMUL, "cpu", 64)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": bf16})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(step_benchmark, "bench_step", short(step_benchmark.bench_step))
    small_bert(2).save_pretrained(tmp_path / "teacher")
    assert main(["bench", "step", "--widths", str(tmp_path / "teacher"), "--steps", "2"]) == 0
    printed = capsys.readouterr().out
    variants = ["textbook", "fp32", *["bf16"] * bf16]
    table = [line.split() for line in printed.splitlines() if "/teacher," in line]
    found = [row[2] for row in table]
    assert found == variants * 2  # KD loss at all tokens, and at masked ones
    assert ("bfloat16" in printed) is not bf16  # what was left out is said
    for row in table:
        tokens_per_s, _, memory, _, ratio, low, high = map(float, row[3:])
        assert 0 < tokens_per_s < math.inf
        assert memory > 50
        assert low <= ratio <= high
        assert ratio == 1 or row[2] != "textbook"


def short(bench_step):
    return lambda works, steps: bench_step(
        [replace(work, batch_size=4, length=16) for work in works], steps=steps
    )


@pytest.mark.skipif(sys.platform == "win32", reason="fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of a process with threads
def test_each_measurement_has_a_process_of_its_own_and_a_failure_arrives():
    fork = multiprocessing.get_context("fork")  # which need not import everything again
    with ProcessPoolExecutor(1, fork) as pool:
        seen = {step_benchmark.in_a_process(pool, os.getpid) for _ in range(2)}
        assert len(seen | {os.getpid(), pool.submit(os.getpid).result()}) == 4
        with pytest.raises(FileNotFoundError):
            step_benchmark.in_a_process(pool, os.stat, "/nowhere")


def test_no_steps_are_refused_before_time_is_spent(work):
    with pytest.raises(ValueError, match="steps = 0"):
        bench_step([work], steps=0)
    with pytest.raises(ValueError, match="threads = 0"):
        bench_step([replace(work, threads=0)])


# ---- FLOPs and memory


def flops_by_hand(config: BertConfig, length: int, share: float) -> float:
    """Forward pass, per token: 2 operations a multiply-add, matrix products only."""
    h, inner, v = config.hidden_size, config.intermediate_size, config.vocab_size
    layer = 2 * (4 * h * h + 2 * h * inner) + 4 * length * h  # projections and FFN; attention
    head = 2 * h * h + 2 * h * v
    return config.num_hidden_layers * layer + share * head


@pytest.mark.parametrize(("length", "share"), [(128, 1.0), (512, 19 / 128)])
@pytest.mark.slow
def test_flops_at_bert_base_dimensions_are_those_counted_by_hand(length, share):
    """Forward of the teacher, forward and backward (twice the forward) of the student."""
    teacher, student = BertConfig(), BertConfig(num_hidden_layers=6)
    expected = flops_by_hand(teacher, length, share) + 3 * flops_by_hand(student, length, share)
    assert flops_per_token(teacher, student, length, share) == pytest.approx(expected, rel=1e-6)


def test_flops_of_a_distilbert_student_are_those_of_a_bert_of_its_size():
    teacher = small_bert(2)
    student = student_from_teacher(teacher).config
    expected = flops_by_hand(teacher.config, 24, 1.0)
    expected += 3 * flops_by_hand(
        BertConfig(**teacher.config.to_dict() | {"num_hidden_layers": 1}), 24, 1.0
    )
    assert flops_per_token(teacher.config, student, 24) == pytest.approx(expected, rel=1e-6)


def test_bytes_by_formula_hold_weights_and_grow_with_the_batch(work):
    teacher, student = load_pair(work)
    weights = 4 * (4 * parameter_count(student) + parameter_count(teacher))
    small, large = (step_bytes(teacher, student, batch, 64) for batch in (1, 8))
    assert weights < small < large


def test_the_random_pair_has_the_papers_dimensions():
    with torch.device("meta"):
        pair = random_pair()
    assert parameter_count(pair["teacher"]) == 109_483_009  # one output of 768 weights and a bias
    fewer = 1 - parameter_count(pair["student"]) / parameter_count(pair["teacher"])
    assert 0.38 < fewer < 0.41
