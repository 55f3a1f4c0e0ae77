"""Kernels that start prepared."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forked import Forked
from jupyter_client.provisioning import local_provisioner


@contextmanager
def forked_kernels() -> Iterator[None]:
    """Kernels are forked from a process that has imported the libraries; else they are real."""

    def launch(command: list[str], *, env=None, cwd=None, **_) -> Forked:
        kernel = Forked(command[1:], env, cwd)
        while os.getpgid(kernel.pid) != kernel.pid:  # Jupyter kills the group that it finds
            time.sleep(0.001)
        return kernel

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_provisioner, "launch_kernel", launch)
        yield


def kernels_run_first(folder: Path, code: str) -> str:
    """An IPYTHONDIR whose kernels run `code` before their first cell."""
    startup = folder / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "first.py").write_text(code)
    return str(folder)


# For kernels: what is timed is timed for real, but at few tokens, in few turns and in the kernel.
SHORT_MEASURING = """
def _short():
    from dataclasses import replace
    from distilkit.measure import latency
    from distilkit.measure import step_benchmark as steps
    compare, bench_step = latency.compare, steps.bench_step
    few = {"length": 8, "runs": 2, "warmup": 1, "batch_size": 2, "throughput_runs": 1}
    latency.compare = lambda models, **how: compare(models, **how | few)
    steps.bench_step = lambda works, steps: bench_step(
        [replace(work, batch_size=2, length=16) for work in works], steps=1
    )
    steps.in_a_process = lambda _, function, *arguments: function(*arguments)
    steps.MATMUL["cpu"] = 64
    latency.TIMED = 1
_short()
"""
