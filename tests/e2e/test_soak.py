"""Again and again: killed at random moments, and the whole sequence many times in one process.

``make soak`` kills 30 times and repeats the sequence 20 times; without it, 5 times and no kill.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from paths import ROOT
from processes import children
from toy_models import small_bert, teacher_and_text

from distilkit import distil, finetune, plot_losses, save_figure
from distilkit.checkpoint import file_sha256
from distilkit.config import TrainingConfig
from distilkit.data.packing import pack
from distilkit.finetuning import classifier
from distilkit.masking import MaskedBlocks
from distilkit.measure import latency
from distilkit.run import Run
from distilkit.student import student_from_teacher

pytestmark = pytest.mark.faults
TRAINING = TrainingConfig(
    epochs=1,
    batch_size=8,
    micro_batch_size=4,
    learning_rate=1e-3,
    precision="fp32",
    log_interval=1,
    checkpoint_interval=3,
)


@pytest.fixture(scope="module")
def given(tmp_path_factory, tokenizer, texts) -> list[str]:
    named = teacher_and_text(tmp_path_factory.mktemp("given"), tokenizer, texts * 20)
    sizes = ["--batch-size", "8", "--micro-batch-size", "4", "--steps", "60"]
    return [*named, *sizes]


def start(home: Path, given: list[str], name: str, processes: int) -> subprocess.Popen:
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command += ["distilkit", "distil", *given, "--name", name]
    environment = os.environ | {"DISTILKIT_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def digits(home: Path, name: str) -> tuple[str, list[str]]:
    """SHA-256 of the weights, and every logged number but the clock's."""
    run = Run(home / "runs" / name)
    rows = [
        json.dumps(
            {
                key: value.hex() if isinstance(value, float) else value
                for key, value in row.items()
                if "second" not in key
            }
        )
        for row in run.rows()
    ]
    return file_sha256(run.model / "model.safetensors"), rows


@pytest.mark.processes
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_random_moments(tmp_path, given, soak, processes):
    """SIGKILL to all of the processes, whatever they are doing; then the same command again."""
    if not soak:
        pytest.skip("in the long form only (make soak); test_training_loop kills at one moment")
    kills, chance = 15, random.Random(processes)
    began = time.perf_counter()
    assert start(tmp_path, given, "whole", processes).wait(300) == 0
    lasted = time.perf_counter() - began
    for number in range(kills):
        name = f"killed-{number}"
        process = start(tmp_path, given, name, processes)
        try:
            process.wait(chance.uniform(0.3, 0.95) * lasted)  # quicker than the first: not killed
        except subprocess.TimeoutExpired:
            for each in [*children(process.pid), process.pid]:
                os.kill(each, signal.SIGKILL)
            process.wait()
        if not Run(tmp_path / "runs" / name).finished:
            assert start(tmp_path, given, name, processes).wait(300) == 0
        assert digits(tmp_path, name) == digits(tmp_path, "whole")


def held() -> tuple[float, int]:
    """Resident MB of this process, and its open files."""
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    resident = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
    return resident, len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc says what is held")
def test_the_sequence_again_and_again_in_one_process(home, tokenizer, texts, soak):
    """Cut, distil, fine-tune, measure, draw: memory and open files stay where they were."""
    from datasets import Dataset

    teacher = small_bert(4)
    blocks = MaskedBlocks(pack(texts, tokenizer, 32), tokenizer, seed=0)
    rows = {"sentence": texts[:40], "label": [0, 1] * 20, "idx": list(range(40))}
    data = {part: Dataset.from_dict(rows) for part in ("train", "validation")}
    settled, times = [], 20 if soak else 5
    for number in range(times):
        student = student_from_teacher(teacher)
        run = distil(
            student, teacher, blocks, TRAINING, name=f"distilled-{number}", validation=blocks
        )
        finetune(
            classifier(run.model, "sst2", 0),
            tokenizer,
            "sst2",
            data,
            replace(TRAINING, workers=0),
            name=f"fine-{number}",
        )
        latency.compare({"teacher": teacher, "student": student}, length=16, runs=2, warmup=1)
        save_figure(plot_losses(run.metrics()), "losses", home / "figures")
        settled.append(held())
    first, last = settled[2], settled[-1]  # two rounds fill caches
    assert last[1] == first[1], settled
    assert last[0] < first[0] * 1.05 + 5, settled
