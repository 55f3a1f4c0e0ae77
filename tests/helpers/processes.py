"""Other processes, and the death of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

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


def client(code, cache, endpoint="http://127.0.0.1:9", timeout=240, **environment):
    """Run code in a new process: (exit status, standard output, standard error)."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    own |= {"HF_HOME": str(cache / "hf"), "DISTILKIT_HOME": str(cache), "HF_ENDPOINT": endpoint}
    own |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        env=own,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return done.returncode, done.stdout.strip(), done.stderr


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
