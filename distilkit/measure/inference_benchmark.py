"""Cost of a forward pass: latency at batch 1, throughput at batch 32, by length and threads.

The models take turns pass by pass (:mod:`distilkit.measure.latency`). The paper's protocol is a
second table: one pass over the STS-B development set at batch size 1 on the CPU (Sanh et al. 2019,
section 4, table 3).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distilkit.measure.latency import latency_ms, ready, throughput_per_s
from distilkit.measure.size import parameter_count
from distilkit.processes import to_device
from distilkit.student import student_from_teacher

LENGTHS = (32, 128, 512)


def random_pair() -> dict[str, PreTrainedModel]:
    """BERT-base and its student, classifiers with random weights: speed needs no training."""
    teacher = BertForSequenceClassification(BertConfig(num_labels=1)).eval()
    return {"teacher": teacher, "student": student_from_teacher(teacher)}


def bench_inference(
    models: Mapping[str, PreTrainedModel],
    *,
    lengths: Sequence[int] = LENGTHS,
    threads: Sequence[int] | None = None,
    runs: int = 10,
    batches: int = 2,
) -> pd.DataFrame:
    """Measure latency at batch 1 and throughput at batch 32, the models taking turns.

    Args:
        models: name -> model, the teacher first.
        lengths: tokens a sequence, no padding.
        threads: numbers of CPU threads; by default 1 and as many as PyTorch uses.
        runs, batches: timed passes at batch 1, after 3 to warm up, and at batch 32, after 1.

    Returns:
        A row for each model, length and number of threads: ``p50_ms``, ``p95_ms``, ``faster``
        (the first model's p50 over this one's), ``per_s`` (median examples a second) with
        ``per_s_low`` and ``per_s_high``, ``parameters``.

    Raises:
        ValueError: as :func:`distilkit.measure.latency.latency_ms` does.
    """
    rows = []
    numbers = sorted({1, torch.get_num_threads()}) if threads is None else threads
    for number, length in tqdm([*product(numbers, lengths)], "threads × lengths"):
        latency = latency_ms(models, length=length, runs=runs, warmup=3, threads=number)
        throughput = throughput_per_s(models, length=length, runs=batches, threads=number)
        first = next(iter(latency.values()))
        for name, model in models.items():
            row = {
                "threads": number,
                "length": length,
                "model": name,
                "p50_ms": latency[name].p50_ms,
                "p95_ms": latency[name].p95_ms,
                "faster": first.p50_ms / latency[name].p50_ms,
                "per_s": throughput[name].median_per_s,
                "per_s_low": throughput[name].min_per_s,
                "per_s_high": throughput[name].max_per_s,
                "parameters": parameter_count(model),
            }
            rows.append(row)
    return pd.DataFrame(rows)


def bench_pass(
    models: Mapping[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    *,
    threads: int = 1,
) -> pd.DataFrame:
    """Time one pass over pairs of sentences at batch size 1: the paper's protocol.

    The models, the teacher first, take turns pair by pair; tokenization is timed separately.

    Returns:
        A row a model: ``seconds``, ``p50_ms``, ``p95_ms`` of a pair, ``faster`` (the first model's
        seconds over this one's), ``pairs``, ``tokenization_s`` (of all pairs), ``threads``.

    Raises:
        ValueError: no models or no pairs.
    """
    if not models or not len(pairs):
        raise ValueError(f"{len(models)} models and {len(pairs)} pairs: give at least one of each")
    started = time.perf_counter()
    longest = min(model.config.max_position_embeddings for model in models.values())
    inputs = [_inputs(tokenizer, pair, longest) for pair in pairs]
    tokenization = time.perf_counter() - started
    warmup = inputs[:3]
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with ready(models.values(), threads):
        for number, pair_inputs in enumerate([*warmup, *inputs]):
            for name, model in models.items():
                on_device = to_device(pair_inputs, model.device)
                started = time.perf_counter()
                model(**on_device).logits.cpu()  # the copy waits for the device
                if number >= len(warmup):
                    seconds[name].append(time.perf_counter() - started)
    first = sum(next(iter(seconds.values())))
    rows = []
    for name, times in seconds.items():
        row = {
            "model": name,
            "seconds": sum(times),
            "p50_ms": 1e3 * float(np.percentile(times, 50)),
            "p95_ms": 1e3 * float(np.percentile(times, 95)),
            "faster": first / sum(times),
            "pairs": len(pairs),
            "tokenization_s": tokenization,
            "threads": threads,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _inputs(
    tokenizer: PreTrainedTokenizerBase, pair: tuple[str, str], longest: int
) -> dict[str, Tensor]:
    """Ids and mask, both [1, L]; no token types: the student has none, and they cost nothing."""
    encoded: Any = tokenizer(*pair, truncation=True, max_length=longest, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}
