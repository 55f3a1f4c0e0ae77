"""Time a few micro-batches: the one clock behind the cost estimates and the step benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from distilkit.measure.latency import synchronize
from distilkit.training_loop import in_bf16


class Timing(NamedTuple):
    """The time of one micro-batch."""

    seconds: float  # wall clock
    processor_seconds: float  # all threads of this process


def time_micro_batches(
    step: Callable[[Any], Any], batches: Iterable[Any], device: str | torch.device
) -> list[Timing]:
    """Call `step` with each micro-batch and time the calls, one by one.

    The first call of a process is slower: discard it, or call once before.

    Args:
        batches: on `device` already, so that no copy is timed.
        device: a GPU works asynchronously, so it is synchronised before each reading of the clock.
    """
    timings = []
    for batch in batches:
        synchronize(device)
        processor, started = time.process_time(), time.perf_counter()
        step(batch)
        synchronize(device)
        timings.append(Timing(time.perf_counter() - started, time.process_time() - processor))
    return timings


def gradient_step(
    model: nn.Module, loss: Callable[..., dict[str, Any]], precision: str
) -> Callable[[Mapping[str, Any]], None]:
    """The forward and backward pass of a micro-batch, as the training loop runs it.

    The model is on its device and in training mode; loss and precision as for the loop.
    """
    device, bf16 = next(model.parameters()).device, in_bf16(precision)

    def step(batch: Mapping[str, Any]) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            value = loss(model, batch, batch["counts"])["loss"]
            value.backward()

    return step
