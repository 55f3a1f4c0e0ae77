"""What a forward pass costs: latency alone, throughput in batches, by length and threads.

The models take turns pass by pass (:mod:`distilkit.measure.latency`). The paper's protocol is a
second table: one pass over the STS-B development set, one pair at a time, on the CPU (Sanh et al.
2019, section 4, table 3).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
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
from distilkit.student import student_from_teacher

if TYPE_CHECKING:
    import pandas as pd

LENGTHS = (32, 128, 512)


def random_pair() -> dict[str, PreTrainedModel]:
    """BERT-base and its student as classifiers with random weights: speed needs no training."""
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
    """Latency at batch 1 and throughput at batch 32, the models in turns.

    Args:
        models: name -> model, the teacher first: ratios are to the first one.
        lengths: tokens a sequence, no padding.
        threads: numbers of CPU threads; by default 1 and all that PyTorch uses.
        runs: timed passes at batch 1, after 3 that warm up.
        batches: timed passes at batch 32, after one.

    Returns:
        A row for each model, length and number of threads: ``p50_ms``, ``p95_ms``, ``faster``
        (the first model's p50 over this one's), ``per_s`` (median examples a second) with
        ``per_s_low`` and ``per_s_high``, ``parameters``.

    Raises:
        ValueError: no models, a count below 1, or a length beyond a model's positions.
    """
    import pandas as pd

    rows = []
    used = sorted({1, torch.get_num_threads()}) if threads is None else threads
    for number, length in tqdm([*product(used, lengths)], "threads × lengths"):
        alone = latency_ms(models, length=length, runs=runs, warmup=3, threads=number)
        full = throughput_per_s(models, length=length, runs=batches, threads=number)
        first = next(iter(alone.values()))
        for name, model in models.items():
            rows.append(
                {
                    "threads": number,
                    "length": length,
                    "model": name,
                    "p50_ms": alone[name].p50_ms,
                    "p95_ms": alone[name].p95_ms,
                    "faster": first.p50_ms / alone[name].p50_ms,
                    "per_s": full[name].median_per_s,
                    "per_s_low": full[name].min_per_s,
                    "per_s_high": full[name].max_per_s,
                    "parameters": parameter_count(model),
                }
            )
    return pd.DataFrame(rows)


def bench_pass(
    models: Mapping[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    *,
    threads: int = 1,
) -> pd.DataFrame:
    """The paper's protocol: seconds of one pass over pairs of sentences, one at a time.

    The models take turns pair by pair; tokenization is timed apart.

    Args:
        models: name -> model, the teacher first.
        tokenizer: of all of them.
        pairs: for instance the STS-B development set's.
        threads: of the CPU.

    Returns:
        A row a model: ``seconds``, ``p50_ms``, ``p95_ms`` of a pair, ``faster`` (the first model's
        seconds over this one's), ``pairs``, ``tokenization_s`` (of all pairs), ``threads``.

    Raises:
        ValueError: no models or no pairs.
    """
    import pandas as pd

    if not models or not len(pairs):
        raise ValueError(f"{len(models)} models and {len(pairs)} pairs: give at least one of each")
    started = time.perf_counter()
    longest = min(model.config.max_position_embeddings for model in models.values())
    inputs = [_inputs(tokenizer, pair, longest) for pair in pairs]
    tokenization = time.perf_counter() - started
    took: dict[str, list[float]] = {name: [] for name in models}
    with ready(models.values(), threads):
        for number, given in enumerate([*inputs[:3], *inputs]):  # the first three warm up
            for name, model in models.items():
                here = {key: value.to(model.device) for key, value in given.items()}
                started = time.perf_counter()
                model(**here).logits.cpu()
                if number >= len(inputs[:3]):
                    took[name].append(time.perf_counter() - started)
    first = sum(next(iter(took.values())))
    return pd.DataFrame(
        [
            {
                "model": name,
                "seconds": sum(times),
                "p50_ms": 1e3 * float(np.percentile(times, 50)),
                "p95_ms": 1e3 * float(np.percentile(times, 95)),
                "faster": first / sum(times),
                "pairs": len(pairs),
                "tokenization_s": tokenization,
                "threads": threads,
            }
            for name, times in took.items()
        ]
    )


def _inputs(
    tokenizer: PreTrainedTokenizerBase, pair: tuple[str, str], longest: int
) -> dict[str, Tensor]:
    """[1, L] ids and mask. No token types: the student has none, and they cost nothing."""
    given: Any = tokenizer(*pair, truncation=True, max_length=longest, return_tensors="pt")
    return {name: given[name] for name in ("input_ids", "attention_mask")}
