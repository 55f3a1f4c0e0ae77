"""BERT-base beside its student, each in three engines: how small and how fast the two make it.

Random weights: size and speed need no training. Batch 1, 128 tokens, one thread; all take turns.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from distilkit.compress.engines import engine_costs
from distilkit.measure.inference_benchmark import random_pair

if TYPE_CHECKING:
    import pandas as pd


def bench_compression(*, runs: int = 20) -> pd.DataFrame:
    """Size, latency and memory of BERT-base and its 6-layer student, in PyTorch, ONNX and int8.

    Args:
        runs: timed passes of each.

    Returns:
        As :func:`distilkit.compress.engines.engine_costs` gives it, ``share_of_size`` added: of
        the first row, BERT in PyTorch.
    """
    with tempfile.TemporaryDirectory(prefix="distilkit-onnx-") as folder:
        table = engine_costs(random_pair(), folder, length=128, runs=runs, warmup=3)
    table.insert(4, "share_of_size", table["size_mb"] / table["size_mb"][0])
    return table
