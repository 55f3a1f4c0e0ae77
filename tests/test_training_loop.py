"""The loop against plain formulas, and against death: what a killed run ends in, bit for bit."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import json
import math
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from forked import Forked
from processes import Died, dying_at, kill_when
from safetensors.torch import load_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from toy_models import assert_same, small_bert, state_of
from toy_regression import Points, net, squared_error
from transformers import (
    BertForSequenceClassification,
    BertTokenizerFast,
    DistilBertForSequenceClassification,
)

from distilkit import checkpoint
from distilkit import training_loop as loop
from distilkit.config import LossConfig, TrainingConfig
from distilkit.distillation import LanguageModelLoss, distil
from distilkit.finetuning import classifier, finetune
from distilkit.masking import MaskedBlocks
from distilkit.run import Run, open_run
from distilkit.student import student_from_teacher
from distilkit.training_loop import (
    NonFiniteLoss,
    learning_rate,
    parameter_groups,
    steps_per_epoch,
    total_steps,
    train,
)

TOY = TrainingConfig(
    epochs=3,
    batch_size=6,
    micro_batch_size=2,
    learning_rate=1e-2,
    betas=(0.9, 0.98),
    eps=1e-6,
    weight_decay=0.01,
    warmup_fraction=0.25,
    max_grad_norm=1.0,
    seed=5,
    precision="fp32",
    checkpoint_interval=5,
)


# --- toys ---------------------------------------------------------------------------------------


def fit(model, data, loss, training: TrainingConfig, name: str = "toy", **more) -> Run:
    with open_run(name, {"name": name}) as run:
        train(model, data, loss, training, run, **more)
    return run


def toy_tokenizer() -> BertTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(200))]
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})


def ragged_blocks(tokenizer, n: int, *, seed: int = 0, length: int = 16) -> MaskedBlocks:
    """Blocks with 6 to `length` real tokens each: unequal counts in every micro-batch."""
    generator = np.random.default_rng(seed)
    blocks = np.full((n, length), tokenizer.pad_token_id, dtype=np.int32)
    for row in blocks:
        real = generator.integers(6, length + 1)
        row[:real] = generator.integers(5, 205, real)
        row[0], row[real - 1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    return MaskedBlocks(blocks, tokenizer, seed=seed)


def toy_task(n: int, seed: int = 0) -> dict[str, list]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n).tolist()
    texts = [
        " ".join(
            f"w{i + 100 * label}" for i in generator.integers(0, 100, generator.integers(3, 9))
        )
        for label in labels
    ]
    return {"sentence": texts, "label": labels}


def toy_run(kind: str, name: str, training: TrainingConfig) -> Run:
    """A small run of the real thing, dropout 0.1; the same in this process and in a child."""
    tokenizer = toy_tokenizer()
    if kind == "distil":
        teacher = small_bert(2)
        return distil(
            student_from_teacher(teacher),
            teacher,
            ragged_blocks(tokenizer, 22),
            training,
            name=name,
            validation=ragged_blocks(tokenizer, 5, seed=1),
        )
    folder = Path(os.environ["DISTILKIT_HOME"]) / "checkpoint"
    if not folder.is_dir():
        small_bert(2).save_pretrained(folder)
    data = {"train": toy_task(22), "validation": toy_task(7, seed=1)}
    model = classifier_from(folder)
    return finetune(model, tokenizer, "sst2", data, training, name=name)


def classifier_from(folder: Path):
    import transformers

    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # a new head is meant
    try:
        return classifier(folder, "sst2", seed=3)
    finally:
        transformers.logging.set_verbosity(level)


def child(kind: str, name: str, accumulation: int, workers: int) -> None:
    """What a child process runs: every step lasts long enough to be hit in."""
    log = Run.log

    def slow(self, row):
        log(self, row)
        time.sleep(0.1)

    Run.log = slow
    (Path(os.environ["DISTILKIT_HOME"]) / "pid").write_text(str(os.getpid()))
    toy_run(kind, name, toy_training(accumulation, workers))


def toy_training(accumulation: int, workers: int) -> TrainingConfig:
    return dataclasses.replace(
        TOY, micro_batch_size=TOY.batch_size // accumulation, workers=workers, eval_interval=4
    )


def child_command(*arguments) -> list[str]:
    code = "import json, sys; sys.path[:0] = json.loads(sys.argv[1]); "
    code += "import test_training_loop as t; t.child(*json.loads(sys.argv[2]))"
    return ["-c", code, json.dumps(sys.path), json.dumps(arguments)]


def weights_sha256(run: Run) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(load_file(run.model / "model.safetensors").items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def numbers(run: Run) -> list[dict[str, str]]:
    """The rows of metrics.jsonl without the clock, floats to their last bit."""
    clock = ("seconds", "tokens_per_second")
    return [
        {k: v.hex() if isinstance(v, float) else v for k, v in row.items() if k not in clock}
        for row in run.rows()
    ]


# --- how many steps, and how large --------------------------------------------------------------


@pytest.mark.parametrize("examples", range(1, 15))
@pytest.mark.parametrize("batch_size", [1, 3, 4, 20])
def test_steps_counted_one_by_one(examples, batch_size):
    training = dataclasses.replace(TOY, epochs=2, batch_size=batch_size)
    counted, left = 0, examples
    while left > 0:
        left, counted = left - batch_size, counted + 1
    assert steps_per_epoch(examples, training) == counted
    assert total_steps(examples, training) == 2 * counted
    assert total_steps(examples, dataclasses.replace(training, steps=7)) == 7


def test_every_sample_once_an_epoch_and_a_ragged_end(home):
    """22 samples in batches of 6: 6, 6, 6, 4, each in micro-batches of at most 4."""
    seen = []

    def loss(model, batch, counts):
        seen.append((batch["ids"].tolist(), counts))
        return squared_error(model, batch, counts)

    data = Points(22)
    run = fit(net(), data, loss, dataclasses.replace(TOY, epochs=2, micro_batch_size=4))
    assert [len(ids) for ids, _ in seen] == [4, 2, 4, 2, 4, 2, 4] * 2
    half = len(seen) // 2
    for epoch, part in enumerate((seen[:half], seen[half:])):
        ids = [i for micro, _ in part for i in micro]
        assert ids == data.order(epoch, 6).tolist()
        assert sorted(ids) == list(range(22))
    for a in (0, 2, 4):  # two micro-batches of a step: the counts of both together
        both = seen[a][0] + seen[a + 1][0]
        tokens = sum(int(data.tokens[i]) for i in both)
        assert seen[a][1] == seen[a + 1][1] == {"examples": 6, "tokens": tokens}
    assert seen[6][1]["examples"] == 4
    assert [row["step"] for row in run.rows()] == list(range(1, 9))


@pytest.mark.parametrize(
    ("steps", "warmup", "table"),
    [
        (10, 0.2, [0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        (4, 0.0, [1, 0.75, 0.5, 0.25]),
        (4, 1.0, [0.25, 0.5, 0.75, 1]),
        (1, 0.05, [1]),
        (5, 0.2, [1, 1, 0.75, 0.5, 0.25]),
    ],
)
def test_learning_rate_by_hand(steps, warmup, table):
    training = dataclasses.replace(TOY, learning_rate=8.0, warmup_fraction=warmup)
    assert [learning_rate(k, steps, training) for k in range(steps)] == [8 * x for x in table]


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.1, 1 / 3, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 19, 100])
def test_learning_rate_rises_and_falls_on_two_lines(steps, warmup):
    training = dataclasses.replace(TOY, learning_rate=3e-4, warmup_fraction=warmup)
    rates = [learning_rate(k, steps, training) for k in range(steps)]
    assert rates == [learning_rate(k, steps, training) for k in range(steps)]
    assert all(0 < rate <= 3e-4 for rate in rates)
    assert max(rates) == 3e-4
    top = rates.index(3e-4)
    bends = [b - 2 * a + c for c, a, b in zip(rates, rates[1:], rates[2:], strict=False)]
    at = {i + 1 for i, bend in enumerate(bends) if abs(bend) > 1e-12}
    assert at <= {top, top + 1}  # straight everywhere else
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


# --- what decays --------------------------------------------------------------------------------


def four_models():
    bert = small_bert(2)
    more = {"classifier_dropout": 0.0}
    bert_classifier = BertForSequenceClassification(
        bert.config.__class__(**{**bert.config.to_dict(), **more})
    )
    student = student_from_teacher(bert)
    return bert, student, bert_classifier, DistilBertForSequenceClassification(student.config)


@pytest.mark.parametrize("which", range(4), ids=["bert", "student", "bert-cls", "student-cls"])
def test_biases_and_norms_do_not_decay_and_nothing_is_lost(which):
    model = four_models()[which]
    model.train()
    decaying, plain = parameter_groups(model, 0.1)
    assert (decaying["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    norms = {id(p) for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    names = {id(p): name for name, p in model.named_parameters()}  # tied ones once
    wanted = {i for i, name in names.items() if i in norms or name.endswith("bias")}
    assert {id(p) for p in plain["params"]} == wanted
    assert {id(p) for p in decaying["params"]} == names.keys() - wanted
    assert len(plain["params"]) + len(decaying["params"]) == len(names)
    kinds = " ".join(names[id(p)] for p in plain["params"])
    if which == 1:
        for norm in ("sa_layer_norm", "output_layer_norm", "vocab_layer_norm", "LayerNorm"):
            assert f"{norm}.weight" in kinds
    if which == 0:
        assert "cls.predictions.transform.LayerNorm.weight" in kinds


@pytest.mark.slow
def test_frozen_parameters_are_left_out(home):
    model = net()
    model[0].requires_grad_(False)
    before = state_of(model)
    assert sum(len(g["params"]) for g in parameter_groups(model, 0.1)) == 2
    fit(model, Points(), squared_error, TOY)
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[3].weight, before["3.weight"])


# --- accumulated gradients are the whole batch's ------------------------------------------------


def plain_triple_loss(student, teacher, blocks, epoch, ids, loss_config):
    """The paper's formulas on the whole batch: full logits, plain means, no chunks."""
    input_ids, masked, originals = (torch.from_numpy(x) for x in blocks.mask(epoch, ids))
    real = originals != blocks.pad_id
    options = {"attention_mask": real.long(), "output_hidden_states": True}
    s = student(input_ids, **options)
    with torch.no_grad():
        t = teacher(input_ids, **options)
    t_scale = loss_config.temperature
    log_p = (t.logits[real] / t_scale).log_softmax(-1)
    log_q = (s.logits[real] / t_scale).log_softmax(-1)
    soft = t_scale**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    mlm = -s.logits[masked].log_softmax(-1).gather(1, originals[masked][:, None]).mean()
    a, b = s.hidden_states[-1][real], t.hidden_states[-1][real]
    cosine = (1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).mean()
    total = (
        loss_config.kd_weight * soft
        + loss_config.mlm_weight * mlm
        + loss_config.cosine_weight * cosine
    )
    return {"loss": total, "soft_target": soft, "mlm": mlm, "cosine": cosine}


NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "tolerance", "micro"),
    [
        (torch.float64, 1e-10, 1),
        (torch.float64, 1e-10, 3),
        (torch.float64, 1e-10, 4),
        (torch.float64, 1e-10, 10),
        (torch.float32, 1e-6, 3),
    ],
)
def test_accumulated_updates_equal_those_of_whole_batches(
    home, monkeypatch, tokenizer, dtype, tolerance, micro
):
    """26 blocks of unequal length in batches of 10, 10 and 6, two epochs, against plain AdamW."""
    teacher = small_bert(2, **NO_DROPOUT).to(dtype)
    student = student_from_teacher(teacher, [0])
    reference = copy.deepcopy(student).double()
    exact_teacher = copy.deepcopy(teacher).double()
    blocks, loss_config = ragged_blocks(tokenizer, 26), LossConfig()
    training = dataclasses.replace(
        TOY,
        epochs=2,
        batch_size=10,
        micro_batch_size=micro,
        eps=0.1,  # near plain gradient descent: an error in a gradient stays one of that size
        max_grad_norm=2.0,
    )
    seen = []
    clip = nn.utils.clip_grad_norm_

    def recording(parameters, *arguments, **options):
        gradients = {n: p.grad.clone() for n, p in student.named_parameters()}
        seen.append((state_of(student), gradients))
        return clip(parameters, *arguments, **options)

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", recording)
    run = fit(student, blocks, LanguageModelLoss(loss_config, teacher), training)
    assert len(seen) == 6

    named = dict(reference.named_parameters())
    decaying = [p for n, p in named.items() if "layer_norm" not in n.lower() and "bias" not in n]
    decaying = [p for p in decaying if not any(p is q for q in norm_parameters(reference))]
    others = [p for p in named.values() if not any(p is q for q in decaying)]
    adamw = torch.optim.AdamW(
        [{"params": decaying, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        betas=training.betas,
        eps=training.eps,
    )
    reference.train()  # dropout is 0
    w = round(0.25 * 6)
    for step in range(6):
        epoch, at = divmod(step, 3)
        ids = np.random.default_rng([blocks.seed, epoch]).permutation(26)[10 * at : 10 * (at + 1)]
        assert len(ids) == (6 if at == 2 else 10)

        # 1. the gradient, at the very weights the loop had
        probe = copy.deepcopy(reference)
        probe.load_state_dict({k: v.double() for k, v in seen[step][0].items()})
        plain_triple_loss(probe, exact_teacher, blocks, epoch, ids, loss_config)["loss"].backward()
        for name, parameter in probe.named_parameters():
            got = seen[step][1][name].double()
            scale = max(1.0, parameter.grad.abs().max().item())
            assert (got - parameter.grad).abs().max() <= tolerance * scale, (step, name)

        # 2. the update, from the reference's own weights
        adamw.zero_grad()
        terms = plain_triple_loss(reference, exact_teacher, blocks, epoch, ids, loss_config)
        terms["loss"].backward()
        norm = math.sqrt(sum((p.grad**2).sum().item() for p in named.values()))
        for parameter in named.values():
            parameter.grad *= min(1.0, 2.0 / (norm + 1e-6))  # as PyTorch clips
        for group in adamw.param_groups:
            rise, fall = (step + 1) / w, (6 - step) / (6 - w)
            group["lr"] = 1e-2 * (rise if step < w else fall)
        adamw.step()
        row = run.rows()[step]
        # float32's losses are sums of some hundred terms of about 5
        loose = 1e-5 if dtype is torch.float32 else 1e-6
        assert row["grad_norm"] == pytest.approx(norm, rel=loose)
        assert norm > 2.0  # it was clipped
        for term, value in terms.items():
            assert row[term] == pytest.approx(value.item(), rel=loose), term
    for name, parameter in student.named_parameters():
        assert (parameter.double() - named[name]).abs().max() <= 10 * tolerance, name


def norm_parameters(model) -> list[nn.Parameter]:
    return [p for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()]


# --- dropout and random numbers -----------------------------------------------------------------


@pytest.mark.slow
def test_dropout_in_the_student_and_none_in_the_teacher(home, tokenizer):
    teacher = small_bert(2)
    student = student_from_teacher(teacher)
    still_teacher, still_student = copy.deepcopy(teacher).eval(), copy.deepcopy(student).eval()
    teacher.train()  # the caller forgot: distil must see to it
    seen = {"teacher": [], "student": []}

    def watch(who: str, still: nn.Module):
        def hook(module, arguments, options, output):
            if who == "student" and not torch.is_grad_enabled():
                return  # validation
            still.load_state_dict(module.state_dict())
            with torch.no_grad():
                quiet = still(*arguments, **options).last_hidden_state
            gap = (quiet - output.last_hidden_state).detach().abs().max().item()
            seen[who].append((gap, output.last_hidden_state.requires_grad))

        return hook

    teacher.bert.register_forward_hook(watch("teacher", still_teacher.bert), with_kwargs=True)
    student.distilbert.register_forward_hook(
        watch("student", still_student.distilbert), with_kwargs=True
    )
    training = dataclasses.replace(TOY, steps=3)
    distil(student, teacher, ragged_blocks(tokenizer, 22), training, name="toy")
    assert len(seen["teacher"]) == len(seen["student"]) == 9
    assert all(gap == 0 and not gradient for gap, gradient in seen["teacher"])
    assert all(gap > 1e-2 and gradient for gap, gradient in seen["student"])
    assert not any(p.grad is not None for p in teacher.parameters())
    gaps = [gap for gap, _ in seen["student"]]
    assert len(set(gaps)) == len(gaps)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.slow
def test_the_callers_random_numbers_stay_as_they_were(home, workers):
    model, data = net(), Points()
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    fit(model, data, squared_error, dataclasses.replace(TOY, workers=workers))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]


@pytest.mark.slow
def test_the_callers_random_numbers_do_not_matter(home):
    ends = []
    for i in range(2):
        model = net()
        torch.manual_seed(i)
        np.random.seed(i)  # noqa: NPY002
        fit(model, Points(), squared_error, TOY, name=f"toy{i}")
        ends.append(state_of(model))
    assert_same(*ends)
    model = net()
    fit(model, Points(), squared_error, dataclasses.replace(TOY, seed=6), name="other")
    assert not torch.equal(model[0].weight, ends[0]["0.weight"])


def test_after_an_error_too_they_stay_as_they_were(home):
    def fail(*_):
        torch.rand(1)
        raise ZeroDivisionError

    model = net()
    before = torch.get_rng_state()
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ZeroDivisionError):
        fit(model, Points(), fail, TOY)
    assert torch.equal(torch.get_rng_state(), before)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


# --- killed and gone on -------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.processes
@pytest.mark.parametrize(
    ("kind", "accumulation", "workers"),
    [("distil", 3, 2), ("finetune", 1, 0)],
)
def test_a_killed_run_ends_like_one_that_was_not(home, kind, accumulation, workers):
    training = toy_training(accumulation, workers)
    whole = toy_run(kind, "whole", training)
    killed = Run(home / "runs" / "killed")

    def ready() -> bool:
        saved = (killed.checkpoints / "step-00000005").is_dir()
        return saved and any(row["step"] == 7 for row in killed.rows())

    child = Forked(child_command(kind, "killed", accumulation, workers))
    assert kill_when(child, ready) == -signal.SIGKILL
    assert not killed.finished
    found = checkpoint.load_newest(killed.checkpoints)
    assert found[1]["step"] == 5
    last = max(row["step"] for row in killed.rows())
    assert 7 <= last < 12  # 4 steps an epoch: step 7 is in the second's middle

    again = toy_run(kind, "killed", training)
    assert again.finished
    assert weights_sha256(again) == weights_sha256(whole)
    assert numbers(again) == numbers(whole)
    assert [row["step"] for row in again.rows() if row["split"] == "train"] == list(range(1, 13))
    if kind == "distil":
        steps = [row["step"] for row in again.rows() if row["split"] == "validation"]
        assert steps == [4, 8, 12]
    clock = ("seconds",)
    ends = [{k: v for k, v in r.result().items() if k not in clock} for r in (whole, again)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("reseeded", [True, False])
@pytest.mark.parametrize("at", [6, 10, 11])
@pytest.mark.slow
def test_exact_resume_comes_from_seeding_every_step(home, monkeypatch, reseeded, at):
    """The control: without the loop's seeding the same test fails."""
    starts = [net(), net()]

    def fresh_process() -> None:
        torch.manual_seed(11)

    if not reseeded:
        monkeypatch.setattr("distilkit.training_loop._seed_dropout", lambda *_: None)
    fresh_process()
    whole = fit(starts[0], Points(), squared_error, TOY, name="whole")

    fresh_process()
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", dying_at(at))
        with pytest.raises(Died):
            fit(starts[1], Points(), squared_error, TOY, name="killed")
    resumed = net(seed=99)  # its weights come from the checkpoint
    fresh_process()
    killed = fit(resumed, Points(), squared_error, TOY, name="killed")
    assert [row["step"] for row in killed.rows()] == list(range(1, 13))
    same = all(
        torch.equal(a, b) for a, b in zip(starts[0].parameters(), resumed.parameters(), strict=True)
    )
    assert same is reseeded
    assert (numbers(killed) == numbers(whole)) is reseeded


@pytest.mark.parametrize("at", range(1, 13))
@pytest.mark.slow
def test_killed_at_every_step(home, monkeypatch, at):
    model = net()
    whole = fit(model, Points(), squared_error, TOY, name="whole")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", dying_at(at))
        with pytest.raises(Died):
            fit(net(), Points(), squared_error, TOY, name="killed")
    other = net()
    killed = fit(other, Points(), squared_error, TOY, name="killed")
    assert_same(state_of(other), state_of(model))
    assert numbers(killed) == numbers(whole)


@pytest.mark.slow
def test_killed_again_and_again(home, monkeypatch):
    model = net()
    whole = fit(model, Points(), squared_error, TOY, name="whole")
    for at in (3, 7, 6, 12, 11):
        with monkeypatch.context() as patch:
            patch.setattr(Run, "log", dying_at(at))
            with pytest.raises(Died):
                fit(net(), Points(), squared_error, TOY, name="killed")
    other = net()
    killed = fit(other, Points(), squared_error, TOY, name="killed")
    assert_same(state_of(other), state_of(model))
    assert numbers(killed) == numbers(whole)


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_steps_and_not_exactness(home, monkeypatch):
    model = net()
    whole = fit(model, Points(), squared_error, TOY, name="whole")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", dying_at(11))
        with pytest.raises(Died):
            fit(net(), Points(), squared_error, TOY, name="killed")
    folder = home / "runs" / "killed" / "checkpoints"
    assert sorted(f.name for f in folder.iterdir()) == ["step-00000005", "step-00000010"]
    os.truncate(folder / "step-00000010" / "optimizer.safetensors", 100)
    other = net()
    with pytest.warns(UserWarning, match=r"optimizer\.safetensors"):
        killed = fit(other, Points(), squared_error, TOY, name="killed")
    assert_same(state_of(other), state_of(model))
    assert numbers(killed) == numbers(whole)


def test_a_run_at_its_end_is_not_trained_on(home):
    model = net()
    run = fit(model, Points(), squared_error, TOY)

    def never(*_):
        raise AssertionError("trained on")

    other = net()
    fit(other, Points(), never, TOY)
    assert_same(state_of(other), state_of(model))
    assert not other.training
    assert [row["step"] for row in run.rows()] == list(range(1, 13))


def test_a_checkpoint_of_another_model_is_refused(home):
    fit(net(), Points(), squared_error, TOY)
    with pytest.raises(ValueError, match="another model"):
        fit(nn.Linear(3, 1), Points(), squared_error, TOY)


@pytest.mark.slow
def test_workers_change_nothing(home):
    ends, rows = [], []
    for workers in (0, 2):
        model = net()
        training = dataclasses.replace(TOY, workers=workers)
        rows.append(numbers(fit(model, Points(), squared_error, training, name=f"w{workers}")))
        ends.append(state_of(model))
    assert_same(*ends)
    assert rows[0] == rows[1]


# --- Ctrl-C and SIGTERM -------------------------------------------------------------------------


def signalling(at: int, *numbers: int):
    """A loss that gets signals in the first micro-batch of step `at` (1-based)."""
    calls = []

    def loss(model, batch, counts):
        calls.append(1)
        if len(calls) == 3 * (at - 1) + 1:
            for number in numbers:
                os.kill(os.getpid(), number)
        return squared_error(model, batch, counts)

    return loss


@pytest.mark.parametrize(
    ("number", "error", "status"),
    [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 143)],
)
@pytest.mark.slow
def test_a_signal_ends_the_step_saves_and_can_be_gone_on_from(home, number, error, status):
    data = Points(18)  # 3 steps an epoch, 3 micro-batches each
    model = net()
    whole = fit(model, data, squared_error, TOY, name="whole")
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(error) as caught:
        fit(net(), data, signalling(7, number), TOY, name="stopped")
    if status:
        assert caught.value.code == status
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    stopped = Run(home / "runs" / "stopped")
    assert checkpoint.load_newest(stopped.checkpoints)[1]["step"] == 7  # the step was ended
    assert [row["step"] for row in stopped.rows()] == list(range(1, 8))
    other = net()
    fit(other, data, squared_error, TOY, name="stopped")
    assert_same(state_of(other), state_of(model))
    assert numbers(stopped) == numbers(whole)


def test_a_second_signal_ends_at_once(home):
    with pytest.raises(KeyboardInterrupt):
        fit(net(), Points(18), signalling(3, signal.SIGINT, signal.SIGINT), TOY)
    run = Run(home / "runs" / "toy")
    assert checkpoint.load_newest(run.checkpoints) is None
    assert [row["step"] for row in run.rows()] == [1, 2]


def test_a_signal_in_the_last_step_is_not_swallowed(home):
    """Otherwise Ctrl-C in a sweep of short runs is lost, and the next run starts."""
    with pytest.raises(KeyboardInterrupt):
        fit(net(), Points(18), signalling(9, signal.SIGINT), TOY)
    run = Run(home / "runs" / "toy")
    assert checkpoint.load_newest(run.checkpoints)[1]["step"] == 9


@pytest.mark.faults
@pytest.mark.processes
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)]
)
def test_a_signal_to_the_whole_group_as_a_terminal_sends_it(home, number, status):
    """The data loader's workers get it too; their death must not cost the checkpoint."""
    killed = Run(home / "runs" / "stopped")

    def ready() -> bool:
        if not any(row["step"] == 7 for row in killed.rows()):
            return False
        os.killpg(int((home / "pid").read_text()), number)
        return True

    command = child_command("distil", "stopped", 3, 2)
    nothing = 0  # the group has got its signal already
    assert kill_when(Forked(command), ready, nothing) == status
    stopped_at = checkpoint.load_newest(killed.checkpoints)[1]["step"]
    assert 7 <= stopped_at < 12
    again = toy_run("distil", "stopped", toy_training(3, 2))
    whole = toy_run("distil", "whole", toy_training(3, 0))
    assert weights_sha256(again) == weights_sha256(whole)
    assert numbers(again) == numbers(whole)


def test_in_a_thread_there_are_no_signals_and_it_trains(home):
    """Jupyter's widgets call back in threads."""
    model, errors = net(), []

    def target() -> None:
        try:
            fit(model, Points(), squared_error, TOY)
        except BaseException as error:
            errors.append(error)

    before = state_of(model)
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert errors == []
    assert not torch.equal(model[0].weight, before["0.weight"])


# --- not finite ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("poison", ["times nan", "plus inf", "plus nan", "minus inf"])
@pytest.mark.parametrize("micro", [2, 6])
def test_a_non_finite_loss_raises_and_touches_nothing(home, poison, micro):
    """Step 7 of 12 is poisoned; `plus` leaves the gradients finite, and must be seen all the same.

    With log_every = 100 no row is due, so it is not the logging that notices.
    """
    data, model, seen = Points(22), net(), []
    training = dataclasses.replace(TOY, micro_batch_size=micro, log_interval=100)
    victim = int(data.order(1, 6)[6 * 2])  # first sample of step 7, in epoch 1

    def loss(model, batch, counts):
        seen.append(state_of(model))
        terms = squared_error(model, batch, counts)
        if victim in batch["ids"] and len(seen) > len(data) // micro + 1:
            other = {"times nan": math.nan, "plus nan": math.nan, "plus inf": math.inf}
            if poison == "times nan":
                terms["loss"] = terms["loss"] * math.nan
            else:
                terms["loss"] = terms["loss"] + other.get(poison, -math.inf)
        return terms

    with pytest.raises(NonFiniteLoss) as error:
        fit(model, data, loss, training)
    message = str(error.value)
    assert "step 7" in message
    assert "epoch 1" in message
    for i in data.order(1, 6)[12:18]:
        assert f"{i}" in message
    assert_same(state_of(model), seen[-1])  # the weights of before the step

    run = Run(home / "runs" / "toy")
    assert checkpoint.load_newest(run.checkpoints)[1]["step"] == 5
    # with the cause gone, it ends as if nothing had been
    other, never_ill = net(), net()
    fit(other, data, squared_error, training)
    fit(never_ill, data, squared_error, training, name="healthy")
    assert_same(state_of(other), state_of(never_ill))


def test_where_looking_costs_a_wait_nothing_is_updated_until_somebody_looks(home, monkeypatch):
    """A GPU's queue, played on the CPU: step 7 is poisoned, the checkpoint of step 10 notices."""
    monkeypatch.setattr(loop, "_is_async", lambda device: True)
    data, model, seen = Points(22), net(), []

    def loss(model, batch, counts):
        seen.append(state_of(model))
        terms = squared_error(model, batch, counts)
        return {"loss": terms["loss"] * (math.nan if len(seen) == 7 else 1.0)}

    training = dataclasses.replace(TOY, micro_batch_size=TOY.batch_size, log_interval=100)
    with pytest.raises(NonFiniteLoss, match=r"step 7 \(epoch 1, samples"):
        fit(model, data, loss, training)
    assert len(seen) == 10
    assert_same(state_of(model), seen[6])
    assert_same(state_of(model), seen[-1])
    assert checkpoint.load_newest(Run(home / "runs" / "toy").checkpoints)[1]["step"] == 5


WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")


class CountWaits(TorchDispatchMode):
    """How often a number is asked for that a GPU would have to finish its queue for."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::").partition(".")[0]
        if name in WAITS:
            self.waits.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("queues", [True, False])
@pytest.mark.slow
def test_a_step_waits_for_the_device_only_where_it_logs(home, tokenizer, monkeypatch, queues):
    monkeypatch.setattr(loop, "_is_async", lambda device: queues)
    teacher = small_bert(2)
    student = student_from_teacher(teacher)
    ids = np.random.default_rng(0).integers(5, 205, (64, 16)).astype(np.int32)
    data = MaskedBlocks(ids, tokenizer, seed=0)

    number = itertools.count()

    def waits(steps):
        training = dataclasses.replace(
            TOY, steps=steps, log_interval=10, checkpoint_interval=10, eval_interval=None
        )
        name = f"waits-{queues}-{next(number)}"
        with open_run(name, {"name": name}) as opened, CountWaits() as counted:
            loss = LanguageModelLoss(LossConfig(), teacher)
            train(copy.deepcopy(student), data, loss, training, opened)
        return len(counted.waits)

    ten, twenty, thirty = (waits(steps) for steps in (10, 20, 30))
    ten_more = twenty - ten
    assert thirty - twenty == ten_more
    assert ten_more > 0  # the counter sees the logging, so it would see a wait in every step
    assert ten_more < 10 if queues else ten_more >= 10


def test_many_samples_are_named_in_part(home):
    def loss(model, batch, counts):
        return {"loss": squared_error(model, batch, counts)["loss"] * math.nan}

    training = dataclasses.replace(TOY, batch_size=50, micro_batch_size=50)
    with pytest.raises(NonFiniteLoss, match="and 30 more"):
        fit(net(), Points(60), loss, training)


# --- precision ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_bf16_runs_on_cpu_and_one_process_can_switch(home, tokenizer):
    teacher = small_bert(2)
    blocks, losses = ragged_blocks(tokenizer, 12), {}
    for name, precision in (("a", "fp32"), ("b", "bf16"), ("c", "fp32"), ("d", "bf16")):
        training = dataclasses.replace(TOY, steps=4, precision=precision)
        run = distil(student_from_teacher(teacher), teacher, blocks, training, name=name)
        losses[name] = [row["loss"] for row in run.rows()]
        weights = load_file(run.model / "model.safetensors").values()
        assert {w.dtype for w in weights} == {torch.float32}
    assert losses["a"] == losses["c"]
    assert losses["b"] == losses["d"]
    assert losses["a"] != losses["b"]  # it was bf16
    assert losses["b"] == pytest.approx(losses["a"], rel=0.02)


def test_precision_auto_is_fp32_without_a_gpu(home, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert loop.make_accelerator("auto").mixed_precision == "no"
    assert loop.make_accelerator("bf16").mixed_precision == "bf16"
    assert loop.make_accelerator("fp32").mixed_precision == "no"


# --- metrics.jsonl ------------------------------------------------------------------------------


def strictly(text: str) -> dict:
    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_the_rows_of_metrics_jsonl(home):
    data = Points(22)
    run = fit(net(dropout=0.0), data, squared_error, TOY)
    text = (run.path / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    rows = [strictly(line) for line in text.splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    keys = "step split loss twice learning_rate grad_norm tokens seconds tokens_per_second"
    assert all(set(row) == set(keys.split()) for row in rows)
    order = [i for epoch in range(3) for i in np.array_split(data.order(epoch, 6), [6, 12, 18])]
    tokens = np.cumsum([data.tokens[ids].sum() for ids in order])
    assert [row["tokens"] for row in rows] == tokens.tolist()
    assert tokens[-1] == 3 * data.tokens.sum()
    rates = [1 / 3, 2 / 3, 1, *(k / 9 for k in range(9, 0, -1))]
    assert [row["learning_rate"] for row in rows] == pytest.approx([1e-2 * r for r in rates])
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    for row in rows:
        assert row["twice"] == pytest.approx(2 * row["loss"], rel=1e-6)
        assert row["grad_norm"] > 0
    first = net(dropout=0.0)
    x, y = torch.from_numpy(data.x[order[0]]), torch.from_numpy(data.y[order[0]])
    assert rows[0]["loss"] == pytest.approx(((first(x)[:, 0] - y) ** 2).mean().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("every", "steps"), [(1, list(range(1, 13))), (5, [5, 10, 12]), (6, [6, 12]), (50, [12])]
)
def test_log_every(home, every, steps):
    run = fit(net(), Points(), squared_error, dataclasses.replace(TOY, log_interval=every))
    assert [row["step"] for row in run.rows()] == steps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("every", "steps"), [(None, [12]), (1, list(range(1, 13))), (5, [5, 10, 12]), (6, [6, 12])]
)
def test_validation_rows(home, every, steps):
    modes = []

    def validate(model):
        modes.append((model.training, torch.is_grad_enabled()))
        return {"loss": model[0].weight.sum().item()}

    model = net()
    training = dataclasses.replace(TOY, eval_interval=every)
    run = fit(model, Points(), squared_error, training, validate=validate)
    table = run.metrics("validation")
    assert table.step.tolist() == steps
    assert list(table.columns) == ["step", "split", "loss"]
    assert table.loss.iloc[-1] == model[0].weight.sum().item()
    assert set(modes) == {(False, False)}
    assert len(run.metrics()) == 12


@pytest.mark.slow
def test_validation_does_not_disturb_training(home):
    ends = []
    for every in (None, 1):
        model = net()
        training = dataclasses.replace(TOY, eval_interval=every)

        def validate(model):
            torch.rand(7)
            return {"loss": 1.0}

        fit(model, Points(), squared_error, training, name=f"v{every}", validate=validate)
        ends.append(state_of(model))
    assert_same(*ends)


def test_what_train_returns(home):
    model = net()
    with open_run("toy", {}) as run:
        summary = train(model, Points(), squared_error, TOY, run)
    assert summary["steps"] == 12
    assert summary["tokens"] == run.rows()[-1]["tokens"]
    assert summary["seconds"] >= 0
    assert not model.training


@pytest.mark.parametrize(("gpu", "native"), [("cpu", True), ("cuda", False), ("cuda", True)])
def test_auto_is_bf16_where_the_gpu_computes_in_it(monkeypatch, gpu, native):
    """A T4 only emulates bfloat16, slower than it computes in float32."""
    place = SimpleNamespace(device=torch.device(gpu))
    monkeypatch.setattr(loop, "processes", lambda: place)
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )
    assert loop.in_bf16("auto") is (gpu == "cuda" and native)
    assert loop.in_bf16("bf16")
    assert not loop.in_bf16("fp32")
