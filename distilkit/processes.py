"""Processes, devices, memory and random generators: what every training and measurement shares."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import send_to_device
from torch import nn
from tqdm.auto import tqdm
from transformers.utils import logging


def processes() -> PartialState:
    """Return accelerate's handle on rank, world size and device; joins the group on first use.

    On CPU (no accelerator, or ``accelerate launch --cpu``) the processes talk through gloo.
    accelerate by itself would leave each of them alone.
    """
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return PartialState(cpu=on_cpu or not torch.accelerator.is_available())


# (batch, device) -> the batch with its tensors, those of nested dicts too, on that device
to_device = partial(send_to_device, non_blocking=True)


@contextmanager
def eval_mode(*models: nn.Module, device: torch.device | None = None) -> Iterator[None]:
    """Put models into eval mode and, if named, on `device`; restore both afterwards.

    Modes are restored module by module: a frozen part may be in eval mode inside a model in train
    mode. A model returns to the device of its first parameter.
    """
    places = [next(model.parameters()).device for model in models] if device else []
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
            if device:
                model.to(device)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for model, place in zip(models, places, strict=bool(device)):
            model.to(place)


@contextmanager
def seeded(seed: int | None = None) -> Iterator[None]:
    """Draw from PyTorch's global generators, seeded if `seed` is given.

    Those of the CPU and of the current CUDA device are restored afterwards.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        if seed is not None:
            torch.manual_seed(seed)
        yield


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Have glibc keep what one training step frees for the next, and return it afterwards.

    By default it maps and unmaps what is over 32 MiB, like the gradient of BERT's word embeddings.
    The kernel then clears these pages in every step, a tenth of the time of a small student. Where
    the user has set malloc's variables, they hold.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    tuned = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if tuned or not (hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")):
        yield
        return
    mmap_threshold, trim_threshold = -3, -1  # as malloc.h numbers them
    # before version 2.35 glibc takes at most 32 MiB
    libc.mallopt(mmap_threshold, 1 << 30) or libc.mallopt(mmap_threshold, 32 << 20)
    libc.mallopt(trim_threshold, -1)  # never
    try:
        yield
    finally:
        libc.mallopt(mmap_threshold, 32 << 20)  # where glibc's own adjustment ends
        libc.mallopt(trim_threshold, 64 << 20)
        libc.malloc_trim(0)


def start_worker(parent: int) -> None:
    """End this worker when its parent is gone, even killed; hide its bars, the parent has one."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    shown = tqdm.__init__

    def hidden(bar: tqdm, *args: Any, **options: Any) -> None:
        shown(bar, *args, **{**options, "disable": True})

    tqdm.__init__ = hidden
    logging.disable_progress_bar()


@contextmanager
def catch_signals(*, alone: bool) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM so that the step ends first; a second one acts at once.

    Each of several processes gets it twice, from the sender and from the launcher.
    """
    caught: list[int] = []

    def handler(number: int, _frame: Any) -> None:
        if caught and alone:
            raise KeyboardInterrupt
        caught.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield caught  # Python delivers signals to the main thread only
        return
    previous = {each: signal.signal(each, handler) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


def ignore_signals(_worker: int) -> None:
    """Ignore them in workers: a signal to the whole group lets the parent end its step."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
