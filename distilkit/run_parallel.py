"""Independent runs side by side: what several cores do with models too small for more than one.

A step on a few short sentences does not get faster with a second thread (a 3-layer student of
width 192, 8 pairs of sentences: 31 ms with one thread, 28 ms with two), but two runs side by side
take hardly longer than one. joblib's loky processes do it: they need no ``__main__`` guard.

Ctrl-C ends the workers at once, without the checkpoint that a run alone would leave first; what is
done stays done, and what had begun goes on from its last checkpoint when it is asked for again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import torch
from tqdm.auto import tqdm
from transformers.utils import logging

from distilkit.processes import processes

Result = TypeVar("Result")

MOST = 4  # each holds libraries, a model and its optimizer: 0.9 GB at the tiny scale


def run_parallel(
    call: Callable[..., Result], items: Sequence[tuple[Any, ...]], title: str
) -> list[Result]:
    """``call(*item)`` for every item, in their order, with a progress bar.

    On a CPU in as many processes as PyTorch has threads (``OMP_NUM_THREADS``; at most
    :data:`MOST`), which share the threads; one after the other with an accelerator, in one of
    several processes, or where there is one thread.

    Raises:
        Exception: what a call raised; calls that have not begun are dropped.
    """
    workers, threads = workers_and_threads(len(items))
    if workers < 2:
        return [call(*item) for item in tqdm(items, title, unit="run")]
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=threads):
        results = Parallel(return_as="generator")(
            delayed(_as_worker)(os.getpid(), call, item) for item in items
        )
        return list(tqdm(results, title, total=len(items), unit="run"))


def workers_and_threads(items: int) -> tuple[int, int]:
    """How many processes :func:`run_parallel` takes for so many items, and the threads of each."""
    threads = torch.get_num_threads()
    workers = min(MOST, threads, items)
    if workers < 2 or torch.accelerator.is_available() or processes().num_processes > 1:
        return 1, threads
    return workers, threads // workers


def _as_worker(parent: int, call: Callable[..., Result], item: tuple[Any, ...]) -> Result:
    end_with_parent(parent)
    _silence()
    return call(*item)


@cache
def end_with_parent(parent: int) -> None:
    """A parent that is killed cannot tell its workers, which would go on through all items."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@cache
def _silence() -> None:
    """A worker's own bars would be drawn over the one that counts."""
    shown = tqdm.__init__

    def hidden(bar: tqdm, *args: Any, **options: Any) -> None:
        shown(bar, *args, **{**options, "disable": True})

    tqdm.__init__ = hidden
    logging.disable_progress_bar()
