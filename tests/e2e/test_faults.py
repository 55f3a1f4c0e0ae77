"""What a machine can do to a run: no memory left, no room on the disk, a signal at a bad moment."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys

import pandas as pd
import pytest
import torch
from forked import Forked, finish_ranks, start_ranks
from paths import ROOT
from toy_models import teacher_and_text
from toy_regression import Points, net, squared_error

from distilkit import checkpoint, config, finetuning
from distilkit import distillation as pretraining
from distilkit import run as run_module
from distilkit.checkpoint import file_sha256
from distilkit.cli.main import main
from distilkit.config import SCALES, TrainingConfig
from distilkit.data import block_cache
from distilkit.run import Run, open_run
from distilkit.training_loop import train

TINY = dataclasses.replace(
    SCALES["tiny"],
    length=16,
    distillation=dataclasses.replace(
        SCALES["tiny"].distillation, eval_interval=2, checkpoint_interval=2, log_interval=1
    ),
)
SMALL = TrainingConfig(
    epochs=2, batch_size=8, micro_batch_size=4, precision="fp32", checkpoint_interval=2
)


# ---- memory


@pytest.mark.faults
@pytest.mark.parametrize(("micro", "advice"), [(4, "--micro-batch-size 2 "), (1, "the smallest")])
def test_a_memory_that_is_too_small_is_told_what_to_try(home, micro, advice):
    """The allocator really refuses; the batch and everything else stay as they were asked for."""
    model, seen = net(), []

    def loss(model, batch, counts):
        seen.append(1)
        if len(seen) > 3 * 8 // micro:
            torch.empty(10**15)
        return squared_error(model, batch, counts)

    training = dataclasses.replace(SMALL, micro_batch_size=micro)
    with pytest.raises(MemoryError) as error, open_run("m", {"kind": "toy"}) as run:
        train(model, Points(), loss, training, run)
    said = str(error.value)
    assert "step 4" in said
    assert f"micro-batches of {micro}" in said
    assert advice in said
    if micro > 1:
        assert "batch stays 8" in said
    assert os.listdir(Run(home / "runs" / "m").checkpoints) == ["step-00000002"]


def test_another_runtime_error_stays_what_it_is(home):
    def loss(model, batch, counts):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not"), open_run("m", {}) as run:
        train(net(), Points(), loss, SMALL, run)


LIMITED = """
import resource, sys, warnings
sys.path.insert(0, sys.argv[1])
from distilkit.cli.main import main
from distilkit import distillation as pretraining
real = pretraining.train
def limited(*arguments, **options):
    held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 400 * 2**20,) * 2)
    return real(*arguments, **options)
pretraining.train = limited
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory, tokenizer, texts):
    return teacher_and_text(tmp_path_factory.mktemp("given"), tokenizer, texts)


@pytest.mark.faults
@pytest.mark.processes
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_AS and /proc")
def test_the_command_ends_with_what_to_try_and_not_with_a_traceback(home, tokenizer, texts):
    given = teacher_and_text(home, tokenizer, texts * 40)
    sizes = ["--batch-size", "4096", "--micro-batch-size", "4096", "--steps", "2"]
    limited = Forked(["-c", LIMITED, str(ROOT), "distil", *given, *sizes])
    assert limited.wait() == 2, limited.output()
    assert "--micro-batch-size 2048" in limited.output()
    assert "Traceback" not in limited.output()


# ---- signals


MOMENTS = {  # where, the how-manieth call
    "tokenization": (block_cache, "write_json", 1),
    "training": (pretraining, "fused_triple_loss", 9),
    "evaluation": (pretraining, "_mean_losses", 1),
    "saving": (checkpoint, "save", 2),
    "writing the model": (run_module, "write_json", 3),  # result.json
}


def short(given) -> list[str]:
    return ["distil", *given, "--batch-size", "8", "--micro-batch-size", "4", "--steps", "6"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, given) -> tuple[str, list[int]]:
    """Hash of the weights, and the steps of the rows, of a run that no signal reaches."""
    home = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILKIT_HOME", str(home))
        patch.setattr(config, "SCALES", {"tiny": TINY})
        assert main([*short(given), "--name", "never"]) == 0
        return ended(Run(home / "runs" / "never"))


def ended(run: Run) -> tuple[str, list[int]]:
    return file_sha256(run.model / "model.safetensors"), [row["step"] for row in run.rows()]


@pytest.fixture
def interruptible():
    """SIGINT as a process has it by itself; what runs these tests may have switched it off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_any_moment_ends_with_its_status_and_can_be_gone_on_from(
    home, given, uninterrupted, monkeypatch, interruptible, moment, number
):
    owner, name, wanted = MOMENTS[moment]
    real, calls = getattr(owner, name), []

    def signalled(*arguments, **options):
        calls.append(1)
        if len(calls) == wanted:
            os.kill(os.getpid(), number)
        return real(*arguments, **options)

    command = [*short(given), "--name", "signalled"]
    monkeypatch.setattr(config, "SCALES", {"tiny": TINY})
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, signalled)
        try:
            status = main(command)
        except SystemExit as exit:
            status = exit.code
    assert status == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert len(calls) >= wanted
    assert not Run(home / "runs" / "signalled").finished

    assert main(command) == 0
    assert ended(Run(home / "runs" / "signalled")) == uninterrupted


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["model_entry", "TaskLoss", "predict"])
def test_a_signal_while_fine_tuning_or_its_evaluation(
    home, given, tmp_path, texts, monkeypatch, interruptible, name, number
):
    """Before the loop, in it, and while GLUE's validation set is read."""
    for part in ("train", "validation"):
        (tmp_path / "glue" / "sst2").mkdir(parents=True, exist_ok=True)
        rows = {"sentence": texts[:40], "label": [0, 1] * 20, "idx": range(40)}
        pd.DataFrame(rows).to_parquet(tmp_path / "glue" / "sst2" / f"{part}.parquet")
    command = ["finetune", given[1], "--task", "sst2", "--glue", str(tmp_path / "glue")]
    command += ["--steps", "4", "--batch-size", "8", "--micro-batch-size", "8"]
    real, calls = getattr(finetuning, name), []

    def signalled(*arguments, **options):
        os.kill(os.getpid(), number)
        return real(*arguments, **options)

    def in_the_second_step(*arguments, **options):
        loss = real(*arguments, **options)

        def told(*batch):
            calls.append(1)
            if len(calls) == 2:
                os.kill(os.getpid(), number)
            return loss(*batch)

        return told

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, name, in_the_second_step if name == "TaskLoss" else signalled)
        try:
            status = main([*command, "--name", "signalled"])
        except SystemExit as exit:
            status = exit.code
    assert status == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert not Run(home / "runs" / "signalled").finished
    kept = list(Run(home / "runs" / "signalled").checkpoints.glob("step-*"))
    assert len(kept) == (name != "model_entry")
    for each in ("signalled", "never"):
        assert main([*command, "--name", each]) == 0
    ours, theirs = (Run(home / "runs" / each) for each in ("signalled", "never"))
    assert ours.result()["scores"] == theirs.result()["scores"]
    assert file_sha256(ours.model / "model.safetensors") == file_sha256(
        theirs.model / "model.safetensors"
    )


# ---- not finite, on one of two


POISONED = """
import math, sys
from distilkit import distillation as pretraining
from distilkit.cli.main import main
from distilkit.processes import processes
real, calls = pretraining.fused_triple_loss, []
def poisoned(*arguments, **options):
    calls.append(1)
    terms = real(*arguments, **options)
    ill = processes().process_index == 1 and len(calls) == 5
    return terms._replace(loss=terms.loss * math.nan) if ill else terms
pretraining.fused_triple_loss = poisoned
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.faults
@pytest.mark.processes
def test_what_is_not_finite_on_one_process_stops_all_before_the_update(home, given):
    command = ["-c", POISONED, "distil", *given, "--batch-size", "8", "--micro-batch-size", "4"]
    statuses, printed = finish_ranks(start_ranks([*command, "--steps", "9", "--name", "ill"]))
    assert 0 not in statuses
    assert printed.count("is not finite; nothing was updated") == 2  # both say it
    assert "step 5 (epoch 0, samples [" in printed
    run = Run(home / "runs" / "ill")
    assert not run.finished
    assert all(row["step"] < 5 for row in run.rows())
