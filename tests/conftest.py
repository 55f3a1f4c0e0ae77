"""Fixtures and options of all tests; plain functions that they share lie in `helpers/`."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from browsers import chromium_browser
from paths import ROOT
from transformers import BertTokenizerFast

SHARED = ROOT.parent / "shared"  # real GLUE tasks for measuring; not part of the project

# jsonschema, for nbformat: parses a grammar for seconds at import, for a check that it goes without
sys.modules.setdefault("rfc3987_syntax", None)
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the internet
# toy models gain nothing from more threads, and processes that spin for a core lose a lot
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


# With `--dist loadfile` a file stays with one worker: the long ones start first, in this order,
# so that no worker begins one when the other has nothing left.
LONGEST = [
    "e2e/test_notebooks.py",
    "e2e/test_hub_scales.py",
    "e2e/test_browser.py",
    "compress/test_frontier.py",
    "compress/test_compress.py",
    "compress/test_onnx_export.py",
    "e2e/test_faults.py",
    "e2e/test_distributed.py",
    "test_training_loop.py",
    "test_finetuning.py",
    "e2e/test_wheel.py",
    "study/test_study.py",
    "cli/test_run_notebooks.py",
    "cli/test_doctor.py",
    "plots/test_plots.py",
    "test_families.py",
    "compress/test_embeddings.py",
    "study/test_label_efficiency.py",
    "e2e/test_readme.py",
    "study/test_run_parallel.py",
    "e2e/test_fuzz.py",
    "data/test_packing.py",
    "study/test_paper_comparison.py",
    "data/test_tiny_data.py",
]


def pytest_collection_finish() -> None:
    """What the libraries hold stays: the garbage collector leaves it out, and runs less often."""
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {ROOT / "tests" / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A fresh DISTILKIT_HOME: runs, caches and figures of this test only."""
    monkeypatch.setenv("DISTILKIT_HOME", str(tmp_path))
    return tmp_path


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
