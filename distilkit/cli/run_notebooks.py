"""Run the numbered notebooks one after the other without a browser, or copy them.

Each gets a fresh kernel of this interpreter, its own folder as the working directory, and an
executed copy. While one runs, the next one's kernel starts and imports the libraries. The sources,
stored without outputs, are only read.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import shutil
import signal
import sys
import textwrap
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from distilkit.checkpoint import write_atomically
from distilkit.config import home, resource

IMPORTED_FROM = Path(__file__).resolve().parents[2]  # the checkout, or site-packages

# What the kit's notebooks import takes seconds. No name stays behind: a notebook imports its own.
# Whether the parent has ended meanwhile, ipykernel asks too late
IMPORTED_AHEAD = (
    "import os; parent = os.getppid(); "
    "import distilkit.cli.setup_notebook, distilkit.finetuning, distilkit.panels.training; "
    "os.getppid() == parent or os._exit(1); del distilkit, os, parent"
)
START_S = 600  # for a kernel, its imports included: a slow disk or a virus scanner needs minutes
REFRESH_S = 2.0  # between two updates of the bar on a terminal
LOG_REFRESH_S = 10.0  # between two lines in a log, however long the cell

ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class NotebookFailed(RuntimeError):
    """Error of a failed notebook, with place, cause and executed copy."""


def run_notebooks(
    notebooks: Sequence[Path] | None = None,
    *,
    out: Path,
    scale: str = "tiny",
    stream: TextIO | None = None,
) -> list[Path]:
    """Execute notebooks in order, by default the numbered ones; return the copies in `out`.

    An earlier copy is replaced. Progress goes to `stream`, by default stderr. Ctrl-C, and SIGTERM
    (exit status 143), stop the kernel and save the executed part first. NotebookFailed if a cell
    raises or loses its kernel.
    """
    paths = numbered_notebooks() if notebooks is None else notebooks
    loaded = [nbformat.read(path, as_version=4) for path in paths]
    out.mkdir(parents=True, exist_ok=True)
    copies = [out / path.name for path in paths]
    code = (c for notebook in loaded for c in notebook.cells if c.cell_type == "code")
    cells = sum(bool(cell.source.strip()) for cell in code)
    with _progress_bar(cells, paths[0].name, sys.stderr if stream is None else stream) as bar:
        ahead = IMPORTED_AHEAD if notebooks is None else ""
        plan = list(zip(paths, loaded, copies, strict=True))
        # asyncio.run turns Ctrl-C into a cancellation, so kernels are stopped on the way out
        try:
            asyncio.run(_run_all(plan, scale, ahead, bar))
        except asyncio.CancelledError:  # by SIGTERM, nothing else cancels
            raise SystemExit(128 + signal.SIGTERM) from None
    return copies


def numbered_notebooks() -> list[Path]:
    """List the kit's notebooks, whose names start with two digits and ``_``, in order."""
    numbered = sorted(resource("notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not numbered:
        raise FileNotFoundError(f"no notebooks in {resource('notebooks')}: install the kit again")
    return numbered


def copy_notebooks(folder: Path) -> list[Path]:
    """Copy the numbered notebooks into a folder, made if missing; no file is replaced."""
    copies = {path: folder / path.name for path in numbered_notebooks()}
    present = [copy.name for copy in copies.values() if copy.exists()]
    if present:
        raise FileExistsError(
            f"{folder} already has {', '.join(present)}: name another folder, or move them away"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return [shutil.copyfile(path, copy) for path, copy in copies.items()]


def _progress_bar(cells: int, first: str, stream: TextIO) -> tqdm:
    """Make a bar over all code cells on a terminal; a line each time it is drawn in a log."""
    live = stream.isatty() and os.environ.get("TERM") != "dumb"
    bar = "{bar} " if live else ""
    return tqdm(
        total=cells,
        desc=f"{first}: ",
        file=stream if live else _Lines(stream),
        ncols=shutil.get_terminal_size().columns - 1 if live else None,
        bar_format="{desc}" + bar + "{n_fmt}/{total_fmt} cells [{elapsed}<{remaining}{postfix}]",
        mininterval=math.inf,  # drawn when a cell starts, and by _Client.show_time
    )


class _Lines:
    """A stream for tqdm that writes what is drawn as lines, without carriage returns."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.flush = stream, stream.flush

    def write(self, text: str) -> None:
        if line := text.strip():
            self.stream.write(f"{line}\n")


async def _run_all(
    notebooks: Sequence[tuple[Path, NotebookNode, Path]], scale: str, imports: str, bar: tqdm
) -> None:
    """Run (path, notebook, copy) in order; while one runs, the kernel of the next gets ready."""
    # Python would end at once and leave the kernels' own children (data loaders) behind
    with suppress(RuntimeError, NotImplementedError):  # not the main thread; Windows
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    kernels: deque[AsyncKernelManager] = deque()
    ending: list[asyncio.Task[None]] = []
    try:
        for at, (path, notebook, copy) in enumerate(notebooks):
            for soon, *_ in notebooks[at + len(kernels) : at + 2]:
                # Without folders to look in, python3 is this interpreter, not a kernel of the user
                specs = KernelSpecManager(kernel_dirs=[])
                kernels.append(AsyncKernelManager(kernel_spec_manager=specs))
                await _start(kernels[-1], soon, scale, imports)
            await _run_one(path, notebook, copy, kernels[0], bar)
            # Its exit handlers take a second or two: the next notebook does not wait for them
            ending.append(asyncio.create_task(kernels.popleft().shutdown_kernel()))
    finally:
        for kernel in kernels:  # at once: it may be deep in a computation
            await kernel.shutdown_kernel(now=True)
        if ending:
            await asyncio.wait(ending)


async def _start(kernel: AsyncKernelManager, path: Path, scale: str, imports: str) -> None:
    options = [
        "--IPKernelApp.log_level=ERROR",  # no advice on encryption at each start
        "--HistoryManager.hist_file=:memory:",
        *([f"--IPKernelApp.exec_lines={imports}"] if imports else []),
    ]
    folder = str(path.resolve().parent)
    await kernel.start_kernel(extra_arguments=options, cwd=folder, env=_environment(scale))


async def _run_one(
    path: Path, notebook: NotebookNode, copy: Path, kernel: AsyncKernelManager, bar: tqdm
) -> None:
    bar.set_description(path.name, refresh=False)
    bar.set_postfix_str("kernel starts")
    client = _Client(notebook, kernel, bar=bar, coalesce_streams=True)  # save a bar's last state
    clock = asyncio.create_task(client.show_time())
    try:
        await client.async_execute()
    except (CellExecutionError, DeadKernelError) as error:
        n = client.number
        where = f"code cell {n} (In [{n}])" if n else "the start of its kernel"
        raise NotebookFailed(
            f"{path.name} failed at {where}: {_explain(error, client)}"
            f"The executed part is in {copy}"
        ) from None
    except asyncio.CancelledError:
        bar.write(f"stopped; the executed part of {path.name} is in {copy}", file=bar.fp)
        raise
    finally:
        clock.cancel()
        client.set_widgets_metadata()  # nbclient does so for finished notebooks only
        prefer_html(notebook)
        write_atomically(copy, f"{nbformat.writes(notebook)}\n".encode())


def _environment(scale: str) -> dict[str, str]:
    environment = {**os.environ, "DISTILKIT_SCALE": scale, "DISTILKIT_HOME": str(home().resolve())}
    # The kernel imports the distilkit that is running here, installed or not
    paths = [str(IMPORTED_FROM), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment.pop("MPLBACKEND", None)  # a backend chosen outside would hide the inline pictures
    # Else the debugger prints a note on frozen modules above every notebook
    environment.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    return environment


def _explain(error: CellExecutionError | DeadKernelError, client: _Client) -> str:
    """Say why in one line, with the cell and its traceback below."""
    if isinstance(error, CellExecutionError):  # its text holds the cell
        first = (error.evalue.strip().splitlines() or [""])[0]
        return ANSI.sub("", f"{error.ename}: {first}\n\n{error}\n\n")
    if client.cell is None:
        return f"{error}\n\n"
    code = client.exit_code
    how = "" if code is None else f" with exit code {code}"
    if code is not None and code < 0:
        how = f", killed by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:  # mostly by the system, the process with most memory
            how += "; often the machine ran out of memory"
    return f"its kernel died{how}\n\n{textwrap.indent(client.cell.source, '    ')}\n\n"


def prefer_html(notebook: NotebookNode) -> None:
    """Remove a panel's widget view where there is HTML: the widget needs a kernel."""
    for cell in notebook.cells:
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            if "text/html" in data:
                data.pop("application/vnd.jupyter.widget-view+json", None)


class _Client(NotebookClient):
    """nbclient on a started kernel, with a progress bar, and Ctrl-C that cancels."""

    def __init__(
        self, notebook: NotebookNode, kernel: AsyncKernelManager, *, bar: tqdm, **options: Any
    ) -> None:
        hooks = {"on_cell_execute": self._cell_starts, "on_cell_executed": lambda **_: bar.update()}
        super().__init__(notebook, kernel, startup_timeout=START_S, **hooks, **options)
        self.bar = bar
        self.cell: NotebookNode | None = None  # the running code cell
        self.number = 0  # and its number among the code cells, from 1
        self.exit_code: int | None = None  # of a kernel that died

    def _cell_starts(self, cell: NotebookNode, cell_index: int) -> None:
        self.cell, self.number = cell, self.number + 1
        self.bar.set_postfix_str(f"In [{self.number}]")

    async def show_time(self) -> None:
        """Redraw the bar from time to time, so that its clock moves during a long cell."""
        while True:
            await asyncio.sleep(LOG_REFRESH_S if isinstance(self.bar.fp, _Lines) else REFRESH_S)
            self.bar.refresh()

    @asynccontextmanager
    async def async_setup_kernel(self, **_: Any) -> AsyncIterator[None]:
        """Connect to the kernel; whoever started it ends it.

        nbclient's own version answers Ctrl-C by closing the kernel under the running cell.
        """
        km, kc = self.km, None
        try:
            try:
                kc = await self.async_start_new_kernel_client()
            except RuntimeError as error:
                raise DeadKernelError(str(error)) from error
            yield
        except DeadKernelError:
            # nbclient reads any cancellation of a cell as the kernel's death
            if await km.is_alive():
                raise asyncio.CancelledError from None
            self.exit_code = await km.provisioner.poll()
            raise
        finally:
            if kc is not None:
                kc.stop_channels()
            self.km = self.kc = None
