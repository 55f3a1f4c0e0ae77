"""A teacher's answers on disk: what they are, what their key is made of, what befalls them."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from forked import Forked, finish_ranks, start_ranks
from processes import kill_when
from safetensors.torch import load_file
from toy_models import assert_same, ragged, small_bert

from distilkit import checkpoint
from distilkit.config import MLM_ONLY, LossConfig, TrainingConfig
from distilkit.data import teacher_cache, teacher_store
from distilkit.data.packing import pack
from distilkit.data.teacher_cache import cached_teacher
from distilkit.distillation import LanguageModelLoss, distil
from distilkit.masking import MaskedBlocks
from distilkit.student import student_from_teacher

TOY = TrainingConfig(
    steps=4,
    batch_size=8,
    micro_batch_size=4,
    learning_rate=1e-3,
    seed=5,
    precision="fp32",
    checkpoint_interval=2,
)
NO_COSINE = LossConfig(cosine_weight=0)
MASKED = LossConfig(cosine_weight=0, restrict_kd_to_mask=True)
LOSSES = {"paper": LossConfig(), "no cosine": NO_COSINE, "masked": MASKED}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(teacher_cache, "PART", 6)


@pytest.fixture(scope="module")
def teacher():
    return small_bert(2)


@pytest.fixture
def blocks(tokenizer) -> MaskedBlocks:
    """11 blocks of 24, most of them padded: 4 steps of 8 are two epochs."""
    return ragged(tokenizer)


def asked(monkeypatch, teacher) -> list[int]:
    """Grows with every batch that the teacher reads."""
    calls, forward = [], teacher.base_model.forward

    def counting(*arguments, **inputs):
        calls.append(len(inputs["input_ids"]))
        return forward(*arguments, **inputs)

    monkeypatch.setattr(teacher.base_model, "forward", counting)
    return calls


def content(cache) -> bytes:
    return (cache.path / "entries.bin").read_bytes()


# --- what is kept -------------------------------------------------------------------------------


def test_a_batch_holds_the_teachers_last_hidden_states(home, teacher, blocks):
    cache = cached_teacher(teacher, blocks, TOY)
    for epoch in (0, 1):
        for ids in np.split(blocks.order(epoch, 8)[:8], [3, 4]):  # as micro-batches of any size
            batch, plain = cache.batch(epoch, ids), blocks.batch(epoch, ids)
            for name in ("input_ids", "attention_mask", "rows", "targets"):
                assert torch.equal(batch[name], plain[name])
            assert batch["counts"] == plain["counts"]
            inputs = {name: plain[name] for name in ("input_ids", "attention_mask")}
            with torch.no_grad():
                hidden = teacher.base_model(**inputs).last_hidden_state.flatten(0, 1)
            assert batch["teacher_hidden"].dtype == torch.float16
            torch.testing.assert_close(
                batch["teacher_hidden"].float(), hidden[plain["rows"]], rtol=1e-3, atol=1e-4
            )


@pytest.mark.parametrize(
    "loss_config",
    [
        LossConfig(),
        LossConfig(temperature=4, restrict_kd_to_mask=True, mlm_target="teacher"),
        LossConfig(cosine_weight=0, mlm_weight=0, temperature=1.0),
        LossConfig(kd_weight=0),
    ],
    ids=["paper", "masked", "soft targets", "cosine"],
)
@pytest.mark.slow
def test_losses_and_gradients_are_the_live_ones(home, teacher, blocks, loss_config):
    """Equal but for float16; two micro-batches."""
    cache = cached_teacher(teacher, blocks, TOY)
    loss = LanguageModelLoss(loss_config, teacher)
    ids = blocks.order(0, 8)[:8]
    counts = blocks.batch(0, ids)["counts"]
    found = []
    for data in (blocks, cache):
        student = student_from_teacher(small_bert(2, seed=7)).eval()
        terms = [loss(student, data.batch(0, some), counts) for some in (ids[:3], ids[3:])]
        sum(term["loss"] for term in terms).backward()
        gradients = torch.cat([p.grad.flatten() for p in student.parameters()])
        found.append(
            ({name: sum(term[name].item() for term in terms) for name in terms[0]}, gradients)
        )
    (live, live_gradient), (kept, kept_gradient) = found
    assert kept == pytest.approx(live, rel=2e-3, abs=1e-6)
    assert (kept_gradient - live_gradient).norm() < 5e-3 * live_gradient.norm()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.slow
def test_the_teacher_is_not_asked_again(home, teacher, blocks, loss, monkeypatch):
    calls = asked(monkeypatch, teacher)
    cache = cached_teacher(teacher, blocks, TOY, LOSSES[loss])
    assert sum(calls) == 24  # 22 blocks in 4 steps, in parts of 6
    again = cached_teacher(teacher, blocks, TOY, LOSSES[loss])
    student = student_from_teacher(teacher)
    for seed in (1, 2):
        distil(
            student,
            teacher,
            again,
            replace(TOY, seed=seed),
            name=f"s{seed}",
            loss_config=LOSSES[loss],
        )
    assert sum(calls) == 24
    assert again.key == cache.key
    assert teacher.training is False


def test_a_longer_training_goes_on_after_a_shorter_one(home, teacher, blocks, monkeypatch):
    short = cached_teacher(teacher, blocks, replace(TOY, steps=1), NO_COSINE)
    before, calls = content(short), asked(monkeypatch, teacher)
    long = cached_teacher(teacher, blocks, TOY, NO_COSINE)
    assert long.path == short.path
    assert content(long).startswith(before)
    assert sum(calls) == 24 - 12
    cached_teacher(teacher, blocks, replace(TOY, steps=1), NO_COSINE)
    assert sum(calls) == 24 - 12
    other = content(long)
    for file in long.path.glob("*.*"):
        file.unlink()
    assert content(cached_teacher(teacher, blocks, TOY, NO_COSINE)) == other


@pytest.mark.slow
def test_entries_are_those_that_a_training_sees(tokenizer, home, teacher, blocks):
    for training in (TOY, replace(TOY, steps=7), replace(TOY, steps=None, epochs=3)):
        seen = []
        cache = cached_teacher(teacher, blocks, training, NO_COSINE)
        batch = cache.batch

        def spy(epoch, ids, batch=batch, seen=seen):
            seen.extend((epoch, int(i)) for i in ids)
            return batch(epoch, ids)

        cache.batch = spy
        distil(
            student_from_teacher(teacher),
            teacher,
            cache,
            training,
            name=f"{training.steps}",
            loss_config=NO_COSINE,
        )
        assert len(seen) == len(set(seen)) == cache.entries
        places = [int(cache._entries_of(epoch, np.array([i]))[0]) for epoch, i in seen]
        assert places == list(range(cache.entries))


# --- the key ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_key_changes_with_what_the_answers_depend_on(home, teacher, texts, tokenizer):
    packed = pack(texts, tokenizer, 24)[:8]
    blocks = MaskedBlocks(packed, tokenizer, seed=0)
    once = replace(TOY, steps=1)

    def key(teacher=teacher, blocks=blocks, loss_config=NO_COSINE, training=once):
        return cached_teacher(teacher, blocks, training, loss_config).key

    other_text = packed.copy()
    other_text[3, 5] = other_text[3, 5] % 100 + 6
    another = small_bert(2)
    with torch.no_grad():
        another.bert.embeddings.word_embeddings.weight[9, 0] += 1e-3
    keys = [
        key(),
        key(teacher=another),
        key(blocks=MaskedBlocks(other_text, tokenizer, seed=0, weights=blocks.weights)),
        key(blocks=MaskedBlocks(packed, tokenizer, seed=1)),
        key(blocks=MaskedBlocks(packed, tokenizer, seed=0, weights=blocks.weights**2)),
    ]
    assert len(set(keys)) == len(keys)
    # what the answers do not depend on
    assert key(training=replace(once, seed=99, learning_rate=1.0, steps=2)) == keys[0]
    assert key(loss_config=replace(NO_COSINE, temperature=7.0, kd_weight=1.0)) == keys[0]
    assert key(teacher=small_bert(2), blocks=MaskedBlocks(packed, tokenizer, seed=0)) == keys[0]
    assert key(loss_config=LossConfig(restrict_kd_to_mask=True)) == keys[0]


# --- what may happen to the files ---------------------------------------------------------------


@pytest.mark.parametrize("damage", ["bit", "short", "gone", "name", "names", "binary", "torn"])
def test_damage_is_named_and_mended(home, teacher, blocks, damage, monkeypatch):
    cache = cached_teacher(teacher, blocks, TOY, NO_COSINE)
    file, names = cache.path / "entries.bin", cache.path / "parts.txt"
    good, size = content(cache), 6 * cache.entry_bytes
    kept = {"bit": 2, "short": 3, "name": 1, "torn": 3}.get(damage, 0)  # of 4 parts
    if damage == "bit":
        changed = bytearray(good)
        changed[2 * size + 7] ^= 4
        file.write_bytes(changed)
    elif damage == "short":
        file.write_bytes(good[:-1])
    elif damage == "gone":
        file.unlink()
    elif damage == "name":
        lines = names.read_text().split("\n")
        names.write_text("\n".join([lines[0], lines[2], *lines[2:]]))
    elif damage == "names":
        names.unlink()
    elif damage == "binary":
        names.write_bytes(b"\xff\xfe\x00")
    else:  # killed while the last name was written
        names.write_text(names.read_text()[:-9])
    calls = asked(monkeypatch, teacher)
    if damage in ("bit", "short", "name"):
        with pytest.warns(UserWarning, match=f"damaged teacher cache: part {kept + 1} of .*bin"):
            cached_teacher(teacher, blocks, TOY, NO_COSINE)
    else:
        cached_teacher(teacher, blocks, TOY, NO_COSINE)
    assert sum(calls) == (4 - kept) * 6
    assert content(cache) == good
    cached_teacher(teacher, blocks, TOY, NO_COSINE)
    assert sum(calls) == (4 - kept) * 6


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_build_that_was_ended_goes_on(home, teacher, blocks, after, monkeypatch):
    whole = content(cached_teacher(teacher, blocks, replace(TOY, seed=8), NO_COSINE))
    for file in home.rglob("teacher-*/*.*"):
        file.unlink()
    answers = teacher_cache._answers
    monkeypatch.setattr(teacher_cache, "_answers", _then_die(answers, after))
    with pytest.raises(KeyboardInterrupt):
        cached_teacher(teacher, blocks, TOY, NO_COSINE)
    monkeypatch.setattr(teacher_cache, "_answers", answers)
    calls = asked(monkeypatch, teacher)
    assert content(cached_teacher(teacher, blocks, TOY, NO_COSINE)) == whole
    assert sum(calls) == (4 - after) * 6


def _then_die(answers, after):
    left = iter(range(after))

    def dying(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return answers(*arguments)

    return dying


CHILD = """
import sys, time
sys.path[:0] = {tests!r}
from toy_models import small_bert
from toy_models import ragged
from test_teacher_cache import NO_COSINE, TOY
from transformers import BertTokenizerFast
from distilkit.data import teacher_cache, teacher_store
teacher_cache.PART = 6
flush = teacher_store._flush
def slowly(file):
    flush(file)
    time.sleep(0.05)
teacher_store._flush = slowly
tokenizer = BertTokenizerFast(vocab={vocabulary!r})
teacher_cache.cached_teacher(small_bert(2), ragged(tokenizer), TOY, NO_COSINE)
"""


@pytest.mark.faults
@pytest.mark.parametrize("parts", [1, 3])
def test_a_killed_build_goes_on(home, tmp_path, teacher, tokenizer, blocks, parts, monkeypatch):
    vocabulary = tmp_path / "vocab.txt"
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    vocabulary.write_text("\n".join(words) + "\n")
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(tests=list(sys.path), vocabulary=str(vocabulary)))

    def ready():
        files = list(home.rglob("parts.txt"))
        return bool(files) and files[0].read_text().count("\n") >= parts

    assert kill_when(Forked([script]), ready) == -signal.SIGKILL
    names = next(home.rglob("parts.txt")).read_text()
    assert parts <= names.count("\n") < 4
    calls = asked(monkeypatch, teacher)
    cache = cached_teacher(teacher, blocks, TOY, NO_COSINE)
    assert sum(calls) == 6 * (4 - names.count("\n"))
    found = content(cache)
    for file in cache.path.glob("*.*"):
        file.unlink()
    assert content(cached_teacher(teacher, blocks, TOY, NO_COSINE)) == found


def _in_a_process(teacher, blocks, results):
    torch.set_num_threads(1)
    answers = teacher_cache._answers

    def slowly(*arguments):
        results.put("asked")
        time.sleep(0.05)
        return answers(*arguments)

    teacher_cache._answers = slowly
    results.put(content(cached_teacher(teacher, blocks, TOY, NO_COSINE)))


@pytest.mark.slow
def test_of_two_builders_one_asks_and_both_get_the_answers(home, teacher, blocks):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    builders = [
        context.Process(target=_in_a_process, args=(teacher, blocks, results)) for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    got = [results.get(timeout=60) for _ in range(4 + 2)]
    for builder in builders:
        builder.join(60)
        assert builder.exitcode == 0
    assert got.count("asked") == 4
    found = {x for x in got if x != "asked"}
    assert len(found) == 1


def test_a_disk_that_is_too_small_is_told_before_the_teacher_is_asked(
    home, teacher, blocks, monkeypatch
):
    calls = asked(monkeypatch, teacher)
    monkeypatch.setattr(teacher_store, "free_bytes", lambda _: 1000)
    monkeypatch.setattr(checkpoint, "free_bytes", lambda _: 1000)
    with pytest.raises(OSError, match=r"It takes 0\.\d MB, 0\.0 MB are free") as error:
        cached_teacher(teacher, blocks, TOY, NO_COSINE)
    assert error.value.errno == errno.ENOSPC
    assert not calls


def test_a_disk_that_fills_up_keeps_what_is_written(home, teacher, blocks, monkeypatch):
    flush, left = teacher_store._flush, iter(range(5))

    def full(file):
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(file)

    monkeypatch.setattr(teacher_store, "_flush", full)
    with pytest.raises(OSError, match=r"No space left.*what is written is kept"):
        cached_teacher(teacher, blocks, TOY, NO_COSINE)
    monkeypatch.setattr(teacher_store, "_flush", flush)
    calls = asked(monkeypatch, teacher)
    cached_teacher(teacher, blocks, TOY, NO_COSINE)
    assert sum(calls) == 6 * 1  # the third part's name was written, though nobody was told


# --- wrong use ----------------------------------------------------------------------------------


def test_what_the_cache_does_not_hold_is_refused(home, teacher, blocks):
    cache = cached_teacher(teacher, blocks, TOY)
    student = student_from_teacher(small_bert(2, attention_probs_dropout_prob=0.0))
    deep = LossConfig(cosine_layers=((1, 2),))
    with pytest.raises(ValueError, match="last states only"):
        distil(student, teacher, cache, TOY, name="no", loss_config=deep)
    assert not (home / "runs" / "no").exists()


def test_a_cache_of_something_else_is_refused(home, teacher, blocks):
    cache = cached_teacher(teacher, blocks, TOY)
    student = student_from_teacher(teacher)

    def run(teacher=teacher, training=TOY):
        distil(student, teacher, cache, training, name="no")

    with pytest.raises(ValueError, match="another teacher"):
        run(teacher=small_bert(2, seed=3))
    with pytest.raises(ValueError, match="sees 30 blocks, the teacher cache holds 22"):
        run(training=replace(TOY, steps=5))
    assert not (home / "runs" / "no").exists()


@pytest.mark.parametrize(
    ("loss_config", "words"),
    [
        (MLM_ONLY, "needs no teacher"),
        (LossConfig(cosine_layers=((1, 1),)), "cosine_layers"),
    ],
)
def test_what_cannot_be_kept_is_refused(home, teacher, blocks, loss_config, words):
    with pytest.raises(ValueError, match=words):
        cached_teacher(teacher, blocks, TOY, loss_config)
    assert not (home / "data").exists()


def test_numbers_that_float16_does_not_hold_are_refused(home, blocks):
    teacher = small_bert(2)
    with torch.no_grad():
        teacher.bert.encoder.layer[-1].output.LayerNorm.weight.mul_(1e6)
    with pytest.raises(
        ValueError, match=r"hidden states are not finite in float16 \(epoch 0, samples"
    ):
        cached_teacher(teacher, blocks, TOY)


# --- training with it ---------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.slow
def test_a_run_with_a_cache_goes_on_bit_for_bit(home, teacher, blocks, loss, monkeypatch):
    cache = cached_teacher(teacher, blocks, TOY, LOSSES[loss])
    student = student_from_teacher(teacher)  # with dropout
    options = {"loss_config": LOSSES[loss], "validation": blocks}
    whole = distil(student, teacher, cache, TOY, name="whole", **options)
    batch, left = cache.batch, iter(range(4))

    def dying(*arguments):
        if next(left, None) is None:
            raise RuntimeError("died")
        return batch(*arguments)

    monkeypatch.setattr(cache, "batch", dying)
    with pytest.raises(RuntimeError, match="died"):
        distil(student, teacher, cache, TOY, name="ended", **options)
    monkeypatch.setattr(cache, "batch", batch)
    ended = distil(student, teacher, cache, TOY, name="ended", **options)
    assert_same(
        load_file(ended.model / "model.safetensors"), load_file(whole.model / "model.safetensors")
    )
    assert ended.config()["teacher_cache"] == cache.key
    with pytest.raises(ValueError, match="teacher_cache"):  # another computation, another run
        distil(student, teacher, blocks, TOY, name="whole", **options)


@pytest.mark.slow
def test_workers_read_the_same(home, teacher, blocks):
    cache = cached_teacher(teacher, blocks, TOY)
    weights = []
    for workers in (0, 2):
        run = distil(
            student_from_teacher(teacher),
            teacher,
            cache,
            replace(TOY, workers=workers),
            name=f"by-{workers}",
        )
        weights.append(load_file(run.model / "model.safetensors"))
    assert_same(*weights)


PROCESS = """
import sys
sys.path[:0] = {tests!r}
from toy_models import small_bert
from toy_models import ragged
from test_teacher_cache import TOY
from transformers import BertTokenizerFast
from distilkit.distillation import distil
from distilkit.student import student_from_teacher
from distilkit.data import teacher_cache
teacher_cache.PART = 6
blocks = ragged(BertTokenizerFast(vocab={vocabulary!r}))
teacher = small_bert(2)
cache = teacher_cache.cached_teacher(teacher, blocks, TOY)
distil(student_from_teacher(teacher), teacher, cache, TOY, name="two")
"""


@pytest.mark.processes
def test_two_processes_build_one_cache_and_train_as_one_does(
    home, tmp_path, teacher, tokenizer, blocks
):
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    script = tmp_path / "process.py"
    text = PROCESS.format(tests=list(sys.path), vocabulary=str(tmp_path / "vocab.txt"))
    script.write_text(text)
    statuses, printed = finish_ranks(start_ranks([script]))
    assert statuses == [0, 0], printed
    cache = cached_teacher(teacher, blocks, TOY)
    run = distil(student_from_teacher(teacher), teacher, cache, TOY, name="one")
    one = load_file(run.model / "model.safetensors")
    two = load_file(home / "runs" / "two" / "model" / "model.safetensors")
    for name, value in one.items():
        if not name.endswith("k_lin.bias"):  # its gradient is 0 but for rounding
            assert (value - two[name]).abs().max() < 1e-6, name
    assert len(list(home.rglob("entries.bin"))) == 1
