"""Speed of a model: latency, throughput, micro-batches of a training; `compare` adds the size.

The paper (Sanh et al. 2019, section 4.1, table 3) times a *classifier* at batch size 1 on a CPU.
A masked language model also projects each token to the vocabulary, which costs teacher and student
the same and lowers their ratio.

A ratio of times is meaningful only under equal conditions. So the models take turns run by run, and
a busy machine slows all of them alike.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from distilkit.config import TrainingConfig
from distilkit.families import positions
from distilkit.measure.size import BYTES_PER_MB, bytes_on_disk, parameter_count
from distilkit.processes import eval_mode, processes, to_device
from distilkit.student import student_from_teacher
from distilkit.training_loop import in_bf16, memory_named, parameter_groups

if TYPE_CHECKING:
    import pandas as pd

TIMED = 3  # micro-batches and updates for an estimate, after one that is not counted


def time_passes(
    models: Mapping[str, PreTrainedModel],
    *,
    batch_size: int = 1,
    length: int = 128,
    runs: int = 30,
    warmup: int = 5,
    threads: int | None = None,
) -> dict[str, np.ndarray]:
    """Time forward passes of each model, the models taking turns; name -> seconds [runs].

    The inputs have no padding. Each model runs `warmup` times before (allocator, kernel selection,
    caches). `threads` are torch's intra-op threads, None: unchanged.
    """
    counts = {"batch_size": batch_size, "length": length, "runs": runs, "threads": threads}
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} is {count}: it must be at least 1")
    for name, model in models.items():
        if length > positions(model):
            raise ValueError(
                f"length is {length}, but {name!r} has only {positions(model)} positions: "
                f"pass length={positions(model)} or less"
            )
    passes = {name: _forward(model, batch_size, length) for name, model in models.items()}
    with ready(models.values(), threads):
        return take_turns(passes, runs=runs, warmup=warmup)


def random_pair() -> dict[str, PreTrainedModel]:
    """Return BERT-base and its student, classifiers with random weights."""
    teacher = BertForSequenceClassification(BertConfig(num_labels=1)).eval()
    return {"teacher": teacher, "student": student_from_teacher(teacher)}


def compare(
    models: Mapping[str, PreTrainedModel],
    *,
    length: int = 128,
    threads: int | None = None,
    runs: int = 30,
    warmup: int = 5,
    batch_size: int = 32,
    throughput_runs: int = 5,
) -> pd.DataFrame:
    """Make one row a model: its size, its latency at batch size 1, its throughput at `batch_size`.

    Columns: model, parameters, size_mb (1e6 bytes), latency_ms_p50, latency_ms_p95,
    throughput_per_s (examples), threads, length (tokens).
    """
    import pandas as pd

    same: dict[str, Any] = {"length": length, "threads": threads}
    single = time_passes(models, runs=runs, warmup=warmup, **same)
    full = time_passes(models, batch_size=batch_size, runs=throughput_runs, warmup=1, **same)
    rows = []
    for name, model in models.items():
        p50, p95 = np.percentile(1e3 * single[name], (50, 95))
        row = {
            "model": name,
            "parameters": parameter_count(model),
            "size_mb": bytes_on_disk(model) / BYTES_PER_MB,
            "latency_ms_p50": p50,
            "latency_ms_p95": p95,
            "throughput_per_s": float(np.median(batch_size / full[name])),
            "threads": torch.get_num_threads() if threads is None else threads,
            "length": length,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def take_turns(
    passes: Mapping[str, Callable[[], Any]], *, runs: int, warmup: int
) -> dict[str, np.ndarray]:
    """Time every call, the calls taking turns: a, b, a, b, ...; name -> seconds [runs].

    A call must return only when its work is done; its result is freed after the clock has stopped.
    """
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(warmup + runs):
        for name, call in passes.items():
            start = perf_counter()
            output = call()
            seconds[name].append(perf_counter() - start)
            del output
    return {name: np.array(times[warmup:]) for name, times in seconds.items()}


@contextmanager
def ready(models: Iterable[nn.Module], threads: int | None) -> Iterator[None]:
    """Set eval mode, inference mode and a number of threads; restore all of it on exit."""
    threads_before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or threads_before)
        with eval_mode(*models), torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads_before)


def random_inputs(model: PreTrainedModel, batch_size: int, length: int) -> dict[str, Tensor]:
    """Draw input_ids and attention_mask, [B, L], on the model's device; the same at every call.

    The ids come from the upper part of the vocabulary. WordPiece keeps special and unused entries
    at the front (bert-base-uncased: the first 999).
    """
    vocabulary = model.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    first = min(1000, vocabulary // 2)
    ids = torch.randint(first, vocabulary, (batch_size, length), generator=generator)
    ids = ids.to(model.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def synchronize(device: torch.device | str) -> None:
    """Wait for the kernels that an accelerator still runs after the call has returned."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(device)


class Timing(NamedTuple):
    """The time of one micro-batch."""

    seconds: float  # wall clock
    processor_seconds: float  # all threads of this process


def time_micro_batch(step: Callable[[Any], Any], batch: Any, device: str | torch.device) -> Timing:
    """Time ``step(batch)``; the first call of a process is slower.

    The batch is on `device` already, so that no copy is timed. A GPU works asynchronously, so it is
    synchronised before each reading of the clock.
    """
    synchronize(device)
    processor, started = process_time(), perf_counter()
    step(batch)
    synchronize(device)
    return Timing(perf_counter() - started, process_time() - processor)


def gradient_step(
    model: nn.Module, loss: Callable[..., dict[str, Any]], precision: str
) -> Callable[[Mapping[str, Any]], Tensor]:
    """Return the forward and backward pass of a micro-batch, as the training loop runs it.

    The model is on its device and in training mode; loss and precision as for the loop.
    """
    device, bf16 = next(model.parameters()).device, in_bf16(precision)

    def step(batch: Mapping[str, Any]) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            value = loss(model, batch, batch["counts"])["loss"]
        value.backward()
        return value.detach()

    return step


def training_seconds(
    model: PreTrainedModel, loss: Any, data: Any, training: TrainingConfig, steps: int
) -> float:
    """Estimate the time of `steps` optimizer steps from a few micro-batches and updates.

    A copy of the model is trained. Loss and data are as for the training loop.
    """
    device = processes().device
    model = copy.deepcopy(model).to(device).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, training.weight_decay))
    compute_gradients = gradient_step(model, loss, training.precision)

    def update(_: None) -> None:
        optimizer.step()
        optimizer.zero_grad()

    ids = data.order(0, training.batch_size)
    size = min(training.micro_batch_size, len(ids))
    passes, updates = [], []
    with memory_named("a trial step", training):
        for number in range(TIMED + 1):
            batch = data.batch(0, np.resize(np.roll(ids, -number * size), size))
            passes.append(time_micro_batch(compute_gradients, to_device(batch, device), device))
            updates.append(time_micro_batch(update, None, device))
    of_pass, of_update = (np.median([t.seconds for t in each[1:]]) for each in (passes, updates))
    return steps * float(-(-training.batch_size // size) * of_pass + of_update)


def _forward(model: PreTrainedModel, batch_size: int, length: int) -> Callable[[], Any]:
    """Return a pass over the same batch at every call, until the device has finished."""
    inputs = random_inputs(model, batch_size, length)

    def forward() -> Any:
        output = model(**inputs)
        synchronize(model.device)
        return output

    return forward
