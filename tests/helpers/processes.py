"""Other processes, and the death of one."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import time

from forked import Forked

from distilkit.run import Run


def children(pid: int) -> list[int]:
    """The processes that this one started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(number) for number in found.stdout.split()]


def kill_when(process, ready, signal_number=signal.SIGKILL) -> int:
    """Send a process a signal as soon as `ready()` is true, return its exit status."""
    try:
        deadline = time.monotonic() + 120
        while not ready():
            assert process.poll() is None, f"ended too early, with {process.poll()}"
            assert time.monotonic() < deadline, "never became ready"
            time.sleep(0.002)
        process.send_signal(signal_number)
        return process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()


# They read the environment when they are imported, so a client imports them itself.
_FRESH = """
import sys, warnings
warnings.simplefilter("ignore")
packages = {"accelerate", "distilkit", "huggingface_hub", "tokenizers", "transformers"}
for name in [*sys.modules]:
    if name.partition(".")[0] in packages:
        del sys.modules[name]
"""


def client(code, cache, endpoint="http://127.0.0.1:9", timeout=240, **environment):
    """Run code in a new process: (exit status, standard output, standard error)."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    own |= {"HF_HOME": str(cache / "hf"), "DISTILKIT_HOME": str(cache), "HF_ENDPOINT": endpoint}
    own |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment}
    errors = cache / f"stderr-{time.monotonic_ns()}"
    process = Forked(["-c", _FRESH + textwrap.dedent(code)], own, errors=errors)
    try:
        return process.wait(timeout), process.output().strip(), errors.read_text()
    finally:
        process.kill()


class Died(BaseException):
    """Stands for the end of the process: nothing of ours may catch it."""


def dying_at(step: int):
    """Run.log that dies right after it has written the row of `step`."""
    log = Run.log

    def patched(self, row):
        log(self, row)
        if row["step"] == step:
            raise Died

    return patched
