"""Independent runs side by side: what several cores do with models too small for more than one.

A step on a few short sentences does not get faster with a second thread (a 3-layer student of
width 192, 8 pairs of sentences: 31 ms with one thread, 28 ms with two), but two runs side by side
take hardly longer than one. joblib's loky processes do it: they need no ``__main__`` guard and end
with their parent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import torch
from tqdm.auto import tqdm
from transformers.utils import logging

from distilkit.processes import processes

Result = TypeVar("Result")

MOST = 4  # each holds libraries, a model and its optimizer: some 0.6 GB at the tiny scale


def side_by_side(
    call: Callable[..., Result], items: Sequence[tuple[Any, ...]], title: str
) -> list[Result]:
    """``call(*item)`` for every item, in their order, with a progress bar.

    On a CPU in as many processes as PyTorch has threads (``OMP_NUM_THREADS``; at most
    :data:`MOST`), which share the threads; one after the other with an accelerator, in one of
    several processes, or where there is one thread.

    Raises:
        Exception: what a call raised; calls that have not begun are dropped.
    """
    threads = torch.get_num_threads()
    workers = min(MOST, threads, len(items))
    if workers < 2 or torch.accelerator.is_available() or processes().num_processes > 1:
        return [call(*item) for item in tqdm(items, title, unit="run")]
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=threads // workers):
        results = Parallel(return_as="generator")(delayed(_quietly)(call, item) for item in items)
        return list(tqdm(results, title, total=len(items), unit="run"))


def _quietly(call: Callable[..., Result], item: tuple[Any, ...]) -> Result:
    _silence()
    return call(*item)


@cache
def _silence() -> None:
    """A worker's own bars would be drawn over the one that counts."""
    shown = tqdm.__init__

    def hidden(bar: tqdm, *args: Any, **options: Any) -> None:
        shown(bar, *args, **{**options, "disable": True})

    tqdm.__init__ = hidden
    logging.disable_progress_bar()
