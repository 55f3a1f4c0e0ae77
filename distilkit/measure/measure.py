"""How large and how fast: parameters, bytes on disk, latency, throughput, tokenization, memory.

The paper (Sanh et al. 2019, section 4.1, table 3) compares parameters and the time of one pass over
the STS-B development set on a CPU at batch size 1. What is timed there is a *classifier*, so to put
a number beside the paper's, pass `BertForSequenceClassification` and
`DistilBertForSequenceClassification` (`num_labels=1`). A masked language model also projects every
token to the vocabulary: at bert-base dimensions that is 24 M multiplications a token on top of the
teacher's 85 M and the student's 43 M, the same for both, and it pulls the ratio down (one CPU
thread, 128 tokens, batch 1, measured with this module: 1.6 instead of the classifiers' 2.0).

A ratio of times means something only if both models met the same machine. Hence: the models take
turns run by run, so a busy neighbour slows all of them alike; the number of threads is fixed and
reported; the device is synchronised; tokenization is timed apart. 1 MB is 1e6 bytes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from distilkit.processes import eval_mode

if TYPE_CHECKING:
    import pandas as pd

BYTES_PER_MB = 1e6


@dataclass(frozen=True)
class Latency:
    """Time of one forward pass over one batch, in milliseconds."""

    p50_ms: float
    p95_ms: float
    runs: int  # timed passes, warm-up not counted
    threads: int  # torch's intra-op threads during the passes
    batch_size: int
    length: int  # tokens a sequence, no padding
    device: str


@dataclass(frozen=True)
class Throughput:
    """Examples a second over full batches: median and range of the runs."""

    median_per_s: float
    min_per_s: float
    max_per_s: float
    runs: int
    threads: int
    batch_size: int
    length: int
    device: str


@dataclass(frozen=True)
class Tokenization:
    """Time to tokenize one text, in milliseconds, over the texts given."""

    p50_ms: float
    p95_ms: float
    texts: int


# ---- size


def parameter_count(model: nn.Module) -> int:
    """Number of parameters, shared ones once (word embeddings and tied decoder are one matrix).

    Works on the meta device too. An int8 model of `torch.ao` keeps its weights in packed objects
    that are no parameters: count before quantizing.
    """
    seen: dict[Any, int] = {}
    for parameter in model.parameters():
        # Two Parameter objects can share memory; meta and empty tensors have no address to compare.
        address = parameter.data_ptr()
        key = (parameter.device, address, parameter.shape) if address else id(parameter)
        seen[key] = parameter.numel()
    return sum(seen.values())


def bytes_on_disk(model: PreTrainedModel) -> int:
    """Bytes of the weights that `save_pretrained` writes (all `*.safetensors` shards).

    Saved to a temporary folder that is removed again; the model and its config stay as they were.

    Raises ValueError for a model without `save_pretrained` or without weights (meta device).
    """
    if not isinstance(model, PreTrainedModel):
        raise ValueError(
            f"{type(model).__name__} has no save_pretrained: pass a transformers model, "
            "or take the size of the file you export (an int8 or ONNX file) with Path.stat()"
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError("the model is on the meta device and has no weights: build it on the CPU")
    config = dict(vars(model.config))  # save_pretrained writes its dtype and architectures into it
    try:
        with tempfile.TemporaryDirectory(prefix="distilkit-size-") as folder:
            model.save_pretrained(folder)
            return sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    finally:
        vars(model.config).clear()
        vars(model.config).update(config)


# ---- time


def latency_ms(
    models: Mapping[str, nn.Module],
    *,
    batch_size: int = 1,
    length: int = 128,
    runs: int = 30,
    warmup: int = 5,
    threads: int | None = None,
    seed: int = 0,
) -> dict[str, Latency]:
    """Time one forward pass of each model, the models taking turns.

    Args:
        models: name -> model, each taking `input_ids` and `attention_mask` of shape [B, L].
        batch_size: B, sequences a pass.
        length: L, tokens a sequence; no padding, so every token is work.
        runs: timed passes a model.
        warmup: passes a model before the clock counts (allocator, kernel selection, caches).
        threads: torch's intra-op threads; None leaves the number as it is. Put back afterwards.
        seed: of the random token ids; torch's global generator is not touched.

    Raises ValueError for no models, a count below 1, or a length beyond a model's positions.
    """
    seconds, used = _take_turns(models, batch_size, length, runs, warmup, threads, seed)
    return {
        name: Latency(
            p50_ms=1e3 * float(np.percentile(times, 50)),
            p95_ms=1e3 * float(np.percentile(times, 95)),
            runs=runs,
            threads=used,
            batch_size=batch_size,
            length=length,
            device=str(_device(models[name])),
        )
        for name, times in seconds.items()
    }


def throughput_per_s(
    models: Mapping[str, nn.Module],
    *,
    batch_size: int = 32,
    length: int = 128,
    runs: int = 5,
    warmup: int = 1,
    threads: int | None = None,
    seed: int = 0,
) -> dict[str, Throughput]:
    """Examples a second in full batches, the models taking turns. Arguments as in `latency_ms`."""
    seconds, used = _take_turns(models, batch_size, length, runs, warmup, threads, seed)
    result = {}
    for name, times in seconds.items():
        rates = batch_size / np.asarray(times)
        result[name] = Throughput(
            median_per_s=float(np.median(rates)),
            min_per_s=float(rates.min()),
            max_per_s=float(rates.max()),
            runs=runs,
            threads=used,
            batch_size=batch_size,
            length=length,
            device=str(_device(models[name])),
        )
    return result


def tokenization_ms(
    tokenizer: Any, texts: Sequence[str], *, length: int | None = None
) -> Tokenization:
    """Time the tokenizer alone, one text a call, after one pass over all texts as a warm-up.

    Args:
        tokenizer: anything called as `tokenizer(text)`.
        texts: at least one.
        length: cut to so many tokens, as before a model; None cuts nothing.
    """
    if isinstance(texts, str) or not len(texts):
        raise ValueError("texts must be a non-empty sequence of strings: pass [text]")
    options = {} if length is None else {"truncation": True, "max_length": length}
    for text in texts:
        tokenizer(text, **options)
    times = []
    for text in texts:
        start = perf_counter()
        tokenizer(text, **options)
        times.append(perf_counter() - start)
    return Tokenization(
        p50_ms=1e3 * float(np.percentile(times, 50)),
        p95_ms=1e3 * float(np.percentile(times, 95)),
        texts=len(texts),
    )


def take_turns(
    passes: Mapping[str, Callable[[], Any]], *, runs: int, warmup: int
) -> dict[str, list[float]]:
    """Seconds of every timed call by name; the calls take turns: a, b, a, b, ...

    Args:
        passes: name -> what is timed; it returns when it is done, and what it returns is freed only
            after the clock has stopped.
        runs: timed turns.
        warmup: turns before the clock counts.
    """
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for turn in range(warmup + runs):
        for name, once in passes.items():
            start = perf_counter()
            output = once()
            elapsed = perf_counter() - start
            del output
            if turn >= warmup:
                seconds[name].append(elapsed)
    return seconds


# ---- memory


def peak_memory_mb() -> float | None:
    """Most resident memory this process has ever held, in MB; None where the system does not say.

    It never goes down (but for about 1 MB of the system's own rounding): to compare two models,
    measure each in a process of its own.
    """
    if sys.platform.startswith("linux"):
        # Not getrusage: there, a child starts with the peak of the process that started it.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / BYTES_PER_MB  # the file's "kB" are KiB
    elif sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / BYTES_PER_MB  # bytes on macOS
    return None


# ---- all together


def compare(
    models: Mapping[str, PreTrainedModel],
    *,
    length: int = 128,
    threads: int | None = None,
    runs: int = 30,
    warmup: int = 5,
    batch_size: int = 32,
    throughput_runs: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a model: its size, its latency at batch size 1, its throughput at `batch_size`.

    Columns: model, parameters, size_mb (1e6 bytes), latency_ms_p50, latency_ms_p95,
    throughput_per_s (examples), threads, length (tokens).
    """
    import pandas as pd

    latency = latency_ms(
        models, length=length, runs=runs, warmup=warmup, threads=threads, seed=seed
    )
    throughput = throughput_per_s(
        models,
        batch_size=batch_size,
        length=length,
        runs=throughput_runs,
        threads=threads,
        seed=seed,
    )
    return pd.DataFrame(
        [
            {
                "model": name,
                "parameters": parameter_count(model),
                "size_mb": bytes_on_disk(model) / BYTES_PER_MB,
                "latency_ms_p50": latency[name].p50_ms,
                "latency_ms_p95": latency[name].p95_ms,
                "throughput_per_s": throughput[name].median_per_s,
                "threads": latency[name].threads,
                "length": length,
            }
            for name, model in models.items()
        ]
    )


# ---- in the engine room


def _take_turns(
    models: Mapping[str, nn.Module],
    batch_size: int,
    length: int,
    runs: int,
    warmup: int,
    threads: int | None,
    seed: int,
) -> tuple[dict[str, list[float]], int]:
    """Seconds of every timed pass by model, and the threads used. Order: a, b, a, b, ..."""
    _check(models, batch_size, length, runs, warmup, threads)
    passes = {name: _pass(model, batch_size, length, seed) for name, model in models.items()}
    with ready(models.values(), threads):
        seconds = take_turns(passes, runs=runs, warmup=warmup)
        used = torch.get_num_threads()
    return seconds, used


def _pass(model: nn.Module, batch_size: int, length: int, seed: int) -> Callable[[], Any]:
    """One forward pass over the same batch at every call."""
    inputs = random_inputs(model, batch_size, length, seed)
    device = inputs["input_ids"].device

    def once() -> Any:
        output = model(**inputs)
        _synchronize(device)  # kernels run on after the call has returned
        return output

    return once


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def ready(models: Iterable[nn.Module], threads: int | None) -> Iterator[None]:
    """Eval mode, no gradients, a fixed number of threads; all of it put back, whatever happens."""
    threads_before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        with eval_mode(*models), torch.inference_mode():
            yield
    finally:
        if threads is not None:
            torch.set_num_threads(threads_before)


def random_inputs(model: nn.Module, batch_size: int, length: int, seed: int) -> dict[str, Tensor]:
    """input_ids and attention_mask, both [B, L], on the model's device.

    The ids come from the upper part of the vocabulary: a WordPiece vocabulary keeps its special and
    unused entries at the front (bert-base-uncased: the first 999).
    """
    vocabulary = model.config.vocab_size
    generator = torch.Generator().manual_seed(seed)
    first = min(1000, vocabulary // 2)
    ids = torch.randint(first, vocabulary, (batch_size, length), generator=generator)
    ids = ids.to(_device(model))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _device(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _check(
    models: Mapping[str, nn.Module],
    batch_size: int,
    length: int,
    runs: int,
    warmup: int,
    threads: int | None,
) -> None:
    if not isinstance(models, Mapping) or not models:
        raise ValueError('no models to measure: pass a mapping such as {"student": student}')
    counts = {"batch_size": batch_size, "length": length, "runs": runs}
    if threads is not None:
        counts["threads"] = threads
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}: it must be at least 1")
    if warmup < 0:
        raise ValueError(f"warmup is {warmup}: it must be 0 or more")
    for name, model in models.items():
        config = getattr(model, "config", None)
        if getattr(config, "vocab_size", None) is None:
            raise ValueError(
                f"{name!r} has no config.vocab_size, so no token ids can be drawn for it: "
                "pass a transformers model"
            )
        if _device(model).type == "meta":
            raise ValueError(f"{name!r} is on the meta device and cannot run: build it on the CPU")
        positions = getattr(config, "max_position_embeddings", None)
        if positions is not None and length > positions:
            raise ValueError(
                f"length is {length}, but {name!r} has only {positions} positions: "
                f"pass length={positions} or less"
            )
