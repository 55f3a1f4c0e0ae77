"""What a machine can do to a run: no memory left, no room on the disk, a signal at a bad moment."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, small_bert
from test_loop import Points, net, squared_error

from distilkit.config import Training
from distilkit.loop import train
from distilkit.run import Run, open_run

SMALL = Training(epochs=2, batch_size=8, micro_batch_size=4, precision="fp32", checkpoint_every=2)


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
from distilkit.__main__ import main
from distilkit import pretraining
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
    folder = tmp_path_factory.mktemp("given")
    small_bert(2).save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text("\n".join(texts * 40))
    return ["--teacher", str(folder / "teacher"), "--text", str(folder / "text.txt")]


@pytest.mark.faults
@pytest.mark.processes
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_AS and /proc")
def test_the_command_ends_with_what_to_try_and_not_with_a_traceback(home, given):
    sizes = ["--batch-size", "4096", "--micro-batch-size", "4096", "--steps", "2"]
    command = [sys.executable, "-c", LIMITED, str(ROOT), "distil", *given, *sizes]
    environment = os.environ | {"DISTILKIT_HOME": str(home)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 2, done.stderr
    assert "--micro-batch-size 2048" in done.stderr
    assert "Traceback" not in done.stderr
