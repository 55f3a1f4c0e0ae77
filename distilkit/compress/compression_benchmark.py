"""BERT-base and its student in three engines: size and speed of distillation with quantization.

Random weights: size and speed need no training. Batch 1, 128 tokens, one thread, in turns.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from distilkit.compress.engines import engine_costs
from distilkit.measure.inference_benchmark import random_pair

if TYPE_CHECKING:
    import pandas as pd


def bench_compression(*, runs: int = 20) -> pd.DataFrame:
    """Measure BERT-base and its 6-layer student in PyTorch, ONNX and int8.

    Args:
        runs: timed passes of each.

    Returns:
        The table of :func:`distilkit.compress.engines.engine_costs`, with ``share_of_size`` of
        the first row, BERT in PyTorch.
    """
    with tempfile.TemporaryDirectory(prefix="distilkit-onnx-") as folder:
        table = engine_costs(random_pair(), folder, length=128, runs=runs, warmup=3)
    table.insert(4, "share_of_size", table["size_mb"] / table["size_mb"][0])
    return table
