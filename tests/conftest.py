"""Shared by the tests: an isolated home, tiny models, and where the measuring data may lie."""

from __future__ import annotations

import copy
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

from distilkit.data import tinyworld
from distilkit.run import Run

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"  # real GLUE tasks for measuring; not part of the project

os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the internet
# toy models gain nothing from more threads, and processes that spin for a core lose a lot
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A fresh DISTILKIT_HOME: runs, caches and figures of this test only."""
    monkeypatch.setenv("DISTILKIT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session", autouse=True)
def one_tiny_world(tmp_path_factory):
    """What a home's first use writes in seconds is copied; test_tinyworld tests the writing."""
    original = tmp_path_factory.mktemp("original") / "tinyworld"

    def write(folder: Path, **ordered) -> Path:
        if not ordered and not folder.exists():
            shutil.copytree(tinyworld.write(original), folder)
        return tinyworld.write(folder, **ordered)  # at once, if it is whole

    with pytest.MonkeyPatch.context() as patch:
        others = {name: getattr(tinyworld, name) for name in ("TASKS", "DEFAULT_EXAMPLES")}
        patch.setattr("distilkit.data.sources.tinyworld", SimpleNamespace(write=write, **others))
        yield


@pytest.fixture(scope="session")
def shared_glue() -> Path:
    folder = SHARED / "data" / "glue"
    if not folder.is_dir():
        pytest.skip(f"no measuring data at {folder}")
    return folder


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory) -> BertTokenizerFast:
    """205 entries: the special tokens and w0 to w199."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(200))]
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(vocabulary) + "\n")
    return BertTokenizerFast(vocab=str(path))


@pytest.fixture(scope="session")
def texts() -> list[str]:
    random = np.random.default_rng(0)
    return [
        " ".join(f"w{i}" for i in random.integers(0, 200, random.integers(3, 40)))
        for _ in range(120)
    ]


_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'-:;"
# a WordPiece vocabulary whose whole words are the tiny world's
WORDPIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_CHARACTERS]
WORDPIECES += [f"##{character}" for character in _CHARACTERS]
WORDPIECES += [word for word in tinyworld.vocabulary() if len(word) > 1]


def small_bert(layers: int = 4, vocab_size: int = 205, seed: int = 0, **more) -> BertForMaskedLM:
    """A BERT whose every weight, biases and norms too, differs from its initial value."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    shape |= {"max_position_embeddings": 64, "num_hidden_layers": layers} | more
    model = BertForMaskedLM(BertConfig(vocab_size=vocab_size, **shape)).eval()
    shake(model)
    return model


def shake(model: torch.nn.Module, size: float = 0.1) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * size)


# of a layer: the matrices that read the heads' outputs and the units' activations
_READERS = {
    "bert": ("encoder", "attention.output.dense", "output.dense"),
    "roberta": ("encoder", "attention.output.dense", "output.dense"),
    "distilbert": ("transformer", "attention.out_lin", "ffn.lin2"),
}


def zeroed(model, heads: dict[int, list[int]], units: dict[int, list[int]]):
    """A copy of the model in which nothing reads these heads and units."""
    model = copy.deepcopy(model)
    kind = model.config.model_type
    stack, after_heads, after_units = _READERS[kind]
    d = model.config.hidden_size // model.config.num_attention_heads
    with torch.no_grad():
        for part, removed, size in ((after_heads, heads, d), (after_units, units, 1)):
            for layer, numbers in removed.items():
                weight = model.get_parameter(f"{kind}.{stack}.layer.{layer}.{part}.weight")
                for number in numbers:
                    weight[:, number * size : (number + 1) * size] = 0
    return model


def teacher_and_text(folder: Path, tokenizer, texts: list[str]) -> list[str]:
    """A small teacher and a text in a folder, and the arguments of `distil` that name them."""
    small_bert(2).save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text("\n".join(texts))
    return ["--teacher", str(folder / "teacher"), "--text", str(folder / "text.txt")]


def children(pid: int) -> list[int]:
    """The processes that this one started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(number) for number in found.stdout.split()]


def kill_when(command: list[str], ready, signal_number=signal.SIGKILL, **options) -> int:
    """Start a command, send it a signal as soon as `ready()` is true, return its exit status."""
    process = subprocess.Popen([sys.executable, *command], **options)
    try:
        deadline = time.monotonic() + 120
        while not ready():
            assert process.poll() is None, f"ended too early, with {process.returncode}"
            assert time.monotonic() < deadline, "never became ready"
            time.sleep(0.002)
        process.send_signal(signal_number)
        return process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()


@contextmanager
def chromium_browser():
    """Chromium, without a window."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            break
    else:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")  # while it is open, no other test can run an event loop
def browser():
    with chromium_browser() as browser:
        yield browser


@pytest.fixture
def alone(browser):
    """A page in a browser without a network."""
    context = browser.new_context(offline=True)
    yield context.new_page()
    context.close()


def pytest_addoption(parser):
    parser.addoption(
        "--soak", action="store_true", help="the long form of the tests that have one (make soak)"
    )


@pytest.fixture
def soak(request) -> bool:
    """Whether the long form is wanted."""
    return request.config.getoption("--soak")


def frontier_table(scores: dict[str, float], seeds: tuple[int, ...]) -> pd.DataFrame:
    """Variants of these scores in two tasks and three engines, as run_frontier tabulates them."""
    random = np.random.default_rng(0)
    engines = {"torch fp32": (1, 1), "onnx fp32": (1.02, 0.6), "onnx int8": (0.26, 0.3)}
    rows = []
    for i, (variant, score) in enumerate(scores.items()):
        for task, seed, (engine, (size, speed)) in itertools.product(
            ("sst2", "stsb"), seeds, engines.items()
        ):
            rows.append(
                {
                    "variant": variant,
                    "engine": engine,
                    "seed": seed,
                    "task": task,
                    "score": score + random.normal(),
                    "same_answer": 0.99 if task == "sst2" else float("nan"),
                    "largest_difference": random.uniform(0, 0.1),
                    "parameters": 4_000_000 // (i + 1),
                    "size_mb": 16.0 * size / (i + 1),
                    "latency_ms_p50": 9.0 * speed / (i + 1),
                    "latency_ms_p95": 10.0 * speed / (i + 1),
                    "memory_mib": 70.0,
                    "length": 64,
                    "threads": 1,
                }
            )
    return pd.DataFrame(rows)


class Died(BaseException):
    """Stands for the end of the process: nothing of ours may catch it."""


def dying_at(step: int):
    """Run.log that dies right after it has written the row of `step`."""
    log = Run.log

    def patched(self, row):
        log(self, row)
        if row["step"] == step:
            raise Died

    return patched


def kernels_run_first(folder: Path, code: str) -> str:
    """An IPYTHONDIR whose kernels run `code` before their first cell."""
    startup = folder / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "first.py").write_text(code)
    return str(folder)


# For kernels: what is timed is timed for real, but at few tokens, in few turns and in the kernel.
SHORT_MEASURING = """
def _short():
    from distilkit.measure import step_benchmark as steps
    from distilkit.measure import latency
    compare, bench_step = latency.compare, steps.bench_step
    few = {"length": 8, "runs": 2, "warmup": 1, "batch_size": 2, "throughput_runs": 1}
    latency.compare = lambda models, **how: compare(models, **how | few)
    steps.bench_step = lambda works, steps: bench_step(works, steps=1)
    steps.in_a_process = lambda work, function, *arguments: function(*arguments)
_short()
"""
