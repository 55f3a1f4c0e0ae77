"""How the cost of a step grows with sequence length, batch, layers and vocabulary.

From one small plan each of them is changed alone, and the times of all plans are taken in turns.
The exponent is the slope of a line through the logarithms: 1 doubles the cost when the plan
doubles, 0 leaves it alone. Below 1 a share that does not grow (the optimizer, the head) weighs in.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from distilkit.config import LossConfig
from distilkit.measure.flops import flops_per_token, step_bytes
from distilkit.measure.measure import BYTES_PER_MB, peak_memory_mb
from distilkit.measure.step_benchmark import (
    WARMUP,
    Work,
    batches,
    in_a_process,
    make_step,
    models,
    peak_of,
)

if TYPE_CHECKING:
    import pandas as pd

PLAN = Work(
    batch_size=8,
    length=64,
    shape={
        "num_hidden_layers": 4,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_attention_heads": 4,
        "vocab_size": 8192,
    },
)
DOUBLINGS = (0, 1, 2, 3)


def bench_growth(*, turns: int = 5, doublings: tuple[int, ...] = DOUBLINGS) -> pd.DataFrame:
    """Time and memory of the kit's step in float32 on a CPU, one thread, random weights.

    Args:
        turns: timed steps of each plan; two more warm up.
        doublings: how often each of the four is doubled; 0 is the plan itself.

    Returns:
        A row for each changed value: ``what``, ``value``, ``seconds`` (median), ``mib`` (peak of a
        process of its own, less that of one that has only loaded the libraries), ``formula_mib``
        (:func:`distilkit.measure.flops.step_bytes`), ``gflop``
        (:func:`distilkit.measure.flops.flops_per_token`), and, the same in all rows of a ``what``,
        ``time_exponent`` and ``memory_exponent``.

    Raises:
        ValueError: fewer than one turn or fewer than two points.
    """
    import pandas as pd

    if turns < 1 or len(set(doublings)) < 2:
        raise ValueError(f"turns = {turns}, doublings = {doublings}: give at least 1, and 2 points")
    plans = _plans(sorted(set(doublings)))
    different: list[Work] = []  # the plan itself stands in the table four times
    for work in plans.values():
        if work not in different:
            different.append(work)
    seconds = in_a_process(PLAN, _time, different, turns)
    idle = in_a_process(PLAN, peak_memory_mb) * BYTES_PER_MB / 2**20
    costs = []
    for work, took in zip(different, seconds, strict=True):
        teacher, student = models(work)
        tokens = work.batch_size * work.length
        flops = tokens * flops_per_token(teacher.config, student.config, work.length)
        costs.append(
            {
                "seconds": took,
                "mib": in_a_process(work, peak_of, work, "fp32")["peak_rss_mib"] - idle,
                "formula_mib": step_bytes(teacher, student, work.batch_size, work.length) / 2**20,
                "gflop": flops / 1e9,
            }
        )
    rows = [
        {"what": what, "value": value, **costs[different.index(work)]}
        for (what, value), work in plans.items()
    ]
    table = pd.DataFrame(rows).sort_values(["what", "value"], kind="stable", ignore_index=True)
    for column, name in (("seconds", "time_exponent"), ("mib", "memory_exponent")):
        slopes = {what: _slope(part.value, part[column]) for what, part in table.groupby("what")}
        table[name] = table.what.map(slopes)
    return table


def _plans(doublings: list[int]) -> dict[tuple[str, int], Work]:
    plans = {}
    for twice in doublings:
        factor = 2**twice
        plans["length", PLAN.length * factor] = replace(PLAN, length=PLAN.length * factor)
        plans["batch", PLAN.batch_size * factor] = replace(
            PLAN, batch_size=PLAN.batch_size * factor
        )
        for what, name in (("layers", "num_hidden_layers"), ("vocabulary", "vocab_size")):
            value = PLAN.shape[name] * factor
            plans[what, value] = replace(PLAN, shape={**PLAN.shape, name: value})
    return plans


def _time(works: list[Work], turns: int) -> list[float]:
    """Median seconds of a step of each plan, the plans taking turns."""
    torch.set_num_threads(1)
    steps, sources = [], []
    for work in works:
        teacher, student = models(work)
        steps.append(make_step("fp32", student, teacher, LossConfig()))
        sources.append(batches(work, teacher.config.vocab_size))
    took: list[list[float]] = [[] for _ in works]
    for turn in range(WARMUP + turns):
        for step, source, times in zip(steps, sources, took, strict=True):
            batch = next(source)
            started = time.perf_counter()
            step(batch)
            if turn >= WARMUP:
                times.append(time.perf_counter() - started)
    return [statistics.median(times) for times in took]


def _slope(values: pd.Series, costs: pd.Series) -> float:
    return float(np.polyfit(np.log(values), np.log(costs), 1)[0])
