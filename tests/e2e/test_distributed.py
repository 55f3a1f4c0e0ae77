"""Two processes are one: same samples, masks and dropout, same weights; nobody waits for ever."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from forked import finish_ranks, start_ranks
from processes import children
from safetensors.torch import load_file
from toy_models import small_bert

from distilkit.cli.main import main
from distilkit.run import Run

pytestmark = pytest.mark.processes


@pytest.fixture
def given(home, tmp_path, texts, tokenizer):
    """A teacher, a text, and arguments of `distil` that name them."""
    torch.manual_seed(0)
    small_bert(4).save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    (tmp_path / "text.txt").write_text("".join(f"{text}\n" for text in texts))
    return [
        *("--teacher", str(tmp_path / "teacher"), "--text", str(tmp_path / "text.txt")),
        *("--batch-size", "20", "--micro-batch-size", "4", "--precision", "fp32"),
    ]


def launch(processes, *arguments, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start += [f"--nproc-per-node={processes}", "-m", "distilkit", *map(str, arguments)]
    return subprocess.Popen(start, env=environment, **options)


def finish(processes, *arguments):
    """What the command printed; one process is this one, which has its libraries loaded."""
    if processes == 1:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main([str(argument) for argument in arguments]) == 0
        return printed.getvalue()
    statuses, printed = finish_ranks(start_ranks(["-m", "distilkit", *arguments], processes))
    assert statuses == [0] * processes, printed
    return printed


def weights(home, name):
    return load_file(home / "runs" / name / "model" / "model.safetensors")


def rows(home, name):
    path = home / "runs" / name / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def assert_close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        # adding the same to all keys changes no attention: this gradient is 0 but for rounding,
        # and AdamW makes steps of full size of it
        if key.endswith(("k_lin.bias", "key.bias")):
            continue
        assert (value - theirs[key]).abs().max() < 1e-6, key


def test_two_processes_train_as_one_does(home, given):
    """Dropout is on, a step has five micro-batches, an epoch's last one fewer."""
    for processes in (1, 2):
        rest = ["--epochs", 8, "--name", f"by-{processes}"]
        out = finish(processes, "distil", *given, *rest)
        assert out.count("validation_loss") == 1  # process 0 alone tells
        assert "steps: 24" in out  # 45 blocks by 20, eight times: not the scale's own steps
    assert_close(weights(home, "by-1"), weights(home, "by-2"))
    one, two = rows(home, "by-1"), rows(home, "by-2")
    assert [(row["step"], row["split"]) for row in one] == [
        (row["step"], row["split"]) for row in two
    ]
    assert len(one) > 4
    for a, b in zip(one, two, strict=True):
        for key in a.keys() - {"split", "seconds", "tokens_per_second"}:
            # a small KL is a difference of logarithms, which float32 rounds to some 1e-7
            assert a[key] == pytest.approx(b[key], rel=1e-5, abs=5e-7), key


def test_evaluation_counts_every_example_once(home, given, tmp_path):
    """300 validation examples, shared by two, score as they do by one."""
    random = np.random.default_rng(0)
    for split, count in (("train", 64), ("validation", 300)):
        words = [" ".join(f"w{i}" for i in random.integers(0, 200, 12)) for _ in range(count)]
        lines = [f"{text},{'yes' if i % 2 else 'no'}" for i, text in enumerate(words)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    rest = ["--data", tmp_path / "train.csv", "--validation", tmp_path / "validation.csv"]
    rest += ["--label-column", "label", "--epochs", "1", "--batch-size", "16"]
    rest += ["--micro-batch-size", "8", "--precision", "fp32", "--seed", "3"]
    for processes in (1, 2):
        finish(processes, "finetune", tmp_path / "teacher", *rest, "--name", f"own-{processes}")
    one, two = (
        json.loads((home / "runs" / f"own-{n}" / "result.json").read_text()) for n in (1, 2)
    )
    assert one["scores"] == two["scores"]
    assert one["tokens"] == two["tokens"]
    assert_close(weights(home, "own-1"), weights(home, "own-2"))
    kept = [Run(home / "runs" / f"own-{n}").predictions()["validation"] for n in (1, 2)]
    assert np.abs(kept[0] - kept[1]).max() < 1e-5


def wait_for_steps(home, name, steps, process):
    while len(rows(home, name)) < steps:
        assert process.poll() is None, "it ended too early"
        time.sleep(0.05)


def test_a_killed_process_ends_the_others(home, given):
    process = launch(
        2, "distil", *given, "--steps", 100_000, "--name", "k", stderr=subprocess.DEVNULL
    )
    try:
        wait_for_steps(home, "k", 3, process)
        workers = children(process.pid)
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        assert process.wait(60) != 0  # raises if it does not end in a minute
        for worker in workers:
            with pytest.raises(ProcessLookupError):
                os.kill(worker, 0)
    finally:
        process.kill()
    assert not (home / "runs" / "k" / "result.json").exists()


def test_stopped_together_and_gone_on_with_by_one(home, given, capsys):
    arguments = ["distil", *given, "--steps", 40]
    ranks = start_ranks(["-m", "distilkit", *arguments, "--name", "stopped"])
    wait_for_steps(home, "stopped", 3, ranks[0])
    for rank in ranks:
        rank.send_signal(signal.SIGTERM)
    assert finish_ranks(ranks)[0] == [143, 143]
    (checkpoint,) = (home / "runs" / "stopped" / "checkpoints").iterdir()
    assert int(checkpoint.name.removeprefix("step-")) < 39
    assert main([*map(str, arguments), "--name", "stopped"]) == 2
    assert "processes 2, here 1" in capsys.readouterr().err
    finish(1, "--allow-inexact", *arguments, "--name", "stopped")
    finish(1, *arguments, "--name", "whole")
    assert_close(weights(home, "stopped"), weights(home, "whole"))
