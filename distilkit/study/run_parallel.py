"""Independent runs in parallel: several processes for models too small for more than one core.

A step on a few short sentences hardly gains from a second thread. joblib's loky workers need no
``__main__`` guard.

Ctrl-C ends the workers at once, without a last checkpoint. Finished runs stay finished; the others
resume from their newest checkpoint.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tqdm.auto import tqdm

from distilkit.processes import processes, start_worker

MAX_WORKERS = 4  # each holds libraries, a model and its optimizer: 0.9 GB at the tiny scale


def run_parallel(call: Callable[..., Any], items: Sequence[tuple], title: str) -> list[Any]:
    """Return ``call(*item)`` for every item, in their order, with a progress bar.

    On a CPU in as many processes as PyTorch has threads (``OMP_NUM_THREADS``; at most
    :data:`MAX_WORKERS`), which share the threads. One after the other with an accelerator, in a
    group of processes, or with one thread. An exception drops the calls that have not begun.
    """
    workers, threads = workers_and_threads(len(items))
    if workers < 2:
        return [call(*item) for item in tqdm(items, title, unit="run")]
    from joblib import Parallel, delayed, parallel_config

    start = {"initializer": start_worker, "initargs": (os.getpid(),)}
    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=threads, **start):
        results = Parallel(return_as="generator")(delayed(call)(*item) for item in items)
        return list(tqdm(results, title, total=len(items), unit="run"))


def workers_and_threads(items: int) -> tuple[int, int]:
    """Return how many processes :func:`run_parallel` takes for so many items, and their threads."""
    threads = torch.get_num_threads()
    workers = min(MAX_WORKERS, threads, items)
    if workers < 2 or torch.accelerator.is_available() or processes().num_processes > 1:
        return 1, threads
    return workers, threads // workers
