"""The benchmarks: the textbook's step is the formula; FLOPs by hand; what the tables hold."""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import os
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_models import shake, small_bert
from transformers import AutoTokenizer, BertConfig

from distilkit.cli.main import main
from distilkit.config import LossConfig
from distilkit.distillation import LanguageModelLoss
from distilkit.losses import IGNORE, triple_loss
from distilkit.masking import MaskedBlocks
from distilkit.measure import step_benchmark
from distilkit.measure.flops import flops_per_token, step_bytes
from distilkit.measure.inference_benchmark import bench_inference, bench_pass, random_pair
from distilkit.measure.size import parameter_count
from distilkit.measure.step_benchmark import (
    LARGE_MALLOC,
    VARIANTS,
    Work,
    batches,
    bench_step,
    in_a_process,
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


def test_a_text_and_a_checkpoint(tmp_path, tokenizer, texts, work):
    small_bert(2).save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    (tmp_path / "text.txt").write_text("\n".join(texts))
    work = replace(work, width=str(tmp_path / "teacher"), text=str(tmp_path / "text.txt"))
    teacher, _ = load_pair(work)
    batch = next(batches(work, teacher.config.vocab_size))
    words = AutoTokenizer.from_pretrained(tmp_path / "teacher").convert_ids_to_tokens(
        batch["input_ids"][0]
    )
    assert words[0] == "[CLS]"
    assert sum(word.startswith("w") for word in words) > 12


def test_the_bench_of_a_step_end_to_end(tmp_path, capsys, monkeypatch):
    """In this process; that a new one gets the allocator's settings is the next test."""
    monkeypatch.setattr(step_benchmark, "in_a_process", lambda _, function, *args: function(*args))
    monkeypatch.setitem(step_benchmark.MATMUL, "cpu", 64)
    small_bert(2).save_pretrained(tmp_path / "teacher")
    path = tmp_path / "step.json"
    options = ["--widths", str(tmp_path / "teacher"), "--tokens", "masked", "--steps", "2"]
    options += ["--batch-size", "4", "--length", "16", "--json", str(path)]
    assert main(["bench", "step", *options, "--malloc", "large", "--device", "cpu"]) == 0
    rows = json.loads(path.read_text())
    assert [row["variant"] for row in rows] == ["textbook", "fp32", "bf16"]
    for row in rows:
        assert row["work"] == f"{tmp_path / 'teacher'}, masked, large malloc"
        for name in ("tokens_per_s", "cpu_s_per_ktok", "share_of_peak", "ratio_to_textbook"):
            assert 0 < row[name] < math.inf, name
        assert row["peak_rss_mib"] > 50
        assert row["ratio_low"] <= row["ratio_to_textbook"] <= row["ratio_high"]
    assert rows[0]["ratio_to_textbook"] == 1
    printed = capsys.readouterr().out
    assert re.search(r"ratio_to_textbook", printed)
    numbers = [float(number) for number in re.findall(r"\d+\.\d+", printed)]
    assert round(rows[1]["ratio_to_textbook"], 2) in numbers


def settings() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in LARGE_MALLOC}


@pytest.mark.processes
def test_the_allocator_is_set_only_where_the_work_says_so(work, monkeypatch):
    fork = multiprocessing.get_context("fork")  # it inherits the settings too, and starts at once
    monkeypatch.setattr(step_benchmark.multiprocessing, "get_context", lambda _: fork)
    assert in_a_process(replace(work, malloc="large"), settings) == LARGE_MALLOC
    assert set(in_a_process(work, settings).values()) == {None}
    assert set(settings().values()) == {None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps = 0"),
        ({"path": "/nowhere/at/all.json"}, "no folder /nowhere/at"),
    ],
)
def test_wrong_input_is_refused_before_time_is_spent(options, message, work):
    with pytest.raises(ValueError, match=message):
        bench_step([work], **options)


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
    assert step_bytes(teacher, student, 8, 64, fused_attention=True) < large


# ---- inference


def test_inference_by_length_and_threads(work):
    teacher, student = load_pair(work)
    table = bench_inference(
        {"teacher": teacher, "student": student.eval()},
        lengths=(8, 16),
        threads=(1,),
        runs=3,
        batches=1,
    )
    assert table[["length", "model"]].to_numpy().tolist() == [
        [8, "teacher"],
        [8, "student"],
        [16, "teacher"],
        [16, "student"],
    ]
    assert (table.p50_ms <= table.p95_ms).all()
    assert table[table.model == "teacher"].faster.tolist() == [1, 1]
    assert (table.per_s_low <= table.per_s).all()


def test_the_papers_pass_over_pairs(tokenizer, work):
    teacher, student = load_pair(work)
    pairs = [("w1 w2", "w3"), ("w4", "w5 w6 w7"), ("w8 " * 80, "w9 " * 80)]  # the last is cut
    table = bench_pass({"teacher": teacher, "student": student}, tokenizer, pairs)
    assert table.model.tolist() == ["teacher", "student"]
    assert table.pairs.tolist() == [3, 3]
    assert table.faster[0] == 1
    assert table.faster[1] == pytest.approx(table.seconds[0] / table.seconds[1])
    with pytest.raises(ValueError, match="0 pairs"):
        bench_pass({"teacher": teacher}, tokenizer, [])


def test_the_random_pair_has_the_papers_dimensions():
    with torch.device("meta"):
        pair = random_pair()
    assert parameter_count(pair["teacher"]) == 109_483_009  # one output of 768 weights and a bias
    fewer = 1 - parameter_count(pair["student"]) / parameter_count(pair["teacher"])
    assert 0.38 < fewer < 0.41
