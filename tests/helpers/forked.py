"""Python processes that start at once, forked from one that has imported the libraries.

Every process needs seconds to import torch and transformers, and the tests start dozens.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "distilkit.cli.setup_notebook",
        "distilkit.cli.train",
        "distilkit.distillation",
        "distilkit.finetuning",
        "distilkit.data.sources",
        "distilkit.panels.temperature",
        "distilkit.plots.study",
        "ipykernel.kernelapp",
        "scipy.stats",
    ]
)


class Forked:
    """``python COMMAND`` with the methods of a Popen; `output()` is what it has printed.

    That is stdout and stderr, or stdout alone if `errors`, a file for stderr, is given.
    """

    stdin = stdout = stderr = None

    def __init__(
        self,
        command: list[str],
        env: dict[str, str] | None = None,
        cwd: str | None = None,
        errors: Path | None = None,
    ) -> None:
        descriptor, self._output = tempfile.mkstemp()
        os.close(descriptor)
        environment = dict(os.environ if env is None else env)
        files = self._output, str(errors or self._output)
        arguments = [*map(str, command)], environment, cwd or os.getcwd(), files
        self._process = _CONTEXT.Process(target=_become, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float = 120) -> int:
        self._process.join(timeout)
        if self.poll() is None:
            raise TimeoutError(f"still running after {timeout} s: {self.output()}")
        return self.poll()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # ended since
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def output(self) -> str:
        return Path(self._output).read_text()


def start_ranks(command: list[str], processes: int = 2) -> list[Forked]:
    """The processes that ``torchrun COMMAND`` starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    size = {"WORLD_SIZE": f"{processes}", "LOCAL_WORLD_SIZE": f"{processes}"}
    group = os.environ | size | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    ranks = [{"RANK": f"{rank}", "LOCAL_RANK": f"{rank}"} for rank in range(processes)]
    return [Forked(command, group | rank) for rank in ranks]


def finish_ranks(ranks: list[Forked]) -> tuple[list[int], str]:
    """Their exit statuses, and what they printed together."""
    try:
        return [rank.wait() for rank in ranks], "".join(rank.output() for rank in ranks)
    finally:
        for rank in ranks:
            rank.kill()


def _become(
    command: list[str], environment: dict[str, str], cwd: str, files: tuple[str, str]
) -> None:
    # loader workers come from the same server: another would import everything again
    multiprocessing.forkserver._forkserver.ensure_running = lambda: None
    os.setsid()  # a signal to its group reaches it and its children alone
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    os.environ.clear()
    os.environ.update(environment)
    for stream, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream)
    try:
        _run(*command)
    except KeyboardInterrupt:  # as the interpreter ends
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def _run(first: str, *rest: str) -> None:
    if first == "-c":
        sys.argv = [first, *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif first == "-m":
        sys.argv = [*rest]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")
