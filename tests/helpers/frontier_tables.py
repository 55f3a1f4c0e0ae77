"""Tables as a run of the frontier writes them."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd


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
