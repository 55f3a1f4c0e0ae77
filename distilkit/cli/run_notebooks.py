"""Run the numbered notebooks one after the other without a browser, and show where they are.

nbclient executes; this module picks the interpreter, stops the kernel whatever happens, and turns
what a cell prints (or draws as a tqdm bar) into progress on the terminal. Per notebook: a fresh
kernel, its folder as the working directory, DISTILKIT_SCALE in the environment, and an executed
copy in `out`. The sources, stored without outputs, are only read.

A notebook may say how long it takes: `metadata["distilkit"]["minutes"][scale]`, minutes as a
number, on any machine. Only the proportions matter once the first minutes have been seen.
"""

from __future__ import annotations

import asyncio
import html
import math
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, TextIO

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from distilkit.checkpoint import write_atomically

REPOSITORY = Path(__file__).resolve().parents[2]

QUIET_LOG_S = 10.0  # off a terminal: at most one line in so many seconds
REFRESH_S = 1.0  # on a terminal: how often the clock in the status line moves
NESTED_BARS = 3  # so many lines under the status line, and it moves to the bottom again
SOURCE_LINES = 8  # of a failed cell, in the error
TRACEBACK_LINES = 15  # of its traceback, the last ones

ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class NotebookFailed(RuntimeError):
    """A notebook stopped the sequence: which, where, why, and the executed part to look at.

    Attributes:
        notebook: the source file.
        cell: number of the code cell, the n of `In [n]`; 0 when the kernel did not start.
        source: the whole source of that cell.
        reason: one line.
        traceback: the cell's traceback without colours; empty if the kernel died or time ran out.
        saved: the executed part.
    """

    def __init__(
        self, notebook: Path, cell: int, source: str, reason: str, traceback: str, saved: Path
    ) -> None:
        self.notebook, self.cell, self.source = notebook, cell, source
        self.reason, self.traceback, self.saved = reason, traceback, saved
        where = f"code cell {cell} (In [{cell}])" if cell else "the start of its kernel"
        parts = [f"{notebook.name} failed at {where}: {reason}"]
        lines = source.strip().splitlines()
        if lines:
            more = ["..."] if len(lines) > SOURCE_LINES else []
            parts += ["", *(f"    {line}" for line in lines[:SOURCE_LINES] + more)]
        if traceback:
            parts += ["", *traceback.splitlines()[-TRACEBACK_LINES:]]
        parts += ["", f"The executed part is in {saved}"]
        super().__init__("\n".join(parts))


def run_notebooks(
    notebooks: Sequence[Path] | None = None,
    *,
    out: Path,
    scale: str = "tiny",
    timeout_s: float | None = None,
    stream: TextIO | None = None,
) -> list[Path]:
    """Execute notebooks in order, each in a fresh kernel of this interpreter.

    Args:
        notebooks: in the order to run; None: `notebooks/<number>*.ipynb` of the repository.
        out: folder of the executed copies (made if missing); an earlier copy is replaced.
        scale: handed to the kernels as DISTILKIT_SCALE.
        timeout_s: longest time for any one cell, in seconds; None: no limit.
        stream: where progress goes; None: stderr.

    Returns the executed copies, in order.

    Raises NotebookFailed at the first cell that raises, runs out of time, or loses its kernel;
    ValueError before anything runs if a copy would replace a source or another copy.
    Ctrl-C stops the kernel, saves the executed part, and raises KeyboardInterrupt; a SIGTERM (of
    `timeout`, of a CI that cancels) does the same and raises SystemExit(143).
    """
    paths = numbered_notebooks() if notebooks is None else [Path(path) for path in notebooks]
    out = Path(out)
    _check(paths, out, timeout_s)
    loaded = [nbformat.read(path, as_version=4) for path in paths]
    progress = Progress(
        [path.name for path in paths],
        [_minutes(notebook, scale) for notebook in loaded],
        stream=sys.stderr if stream is None else stream,
    )
    out.mkdir(parents=True, exist_ok=True)
    saved = []
    for path, notebook in zip(paths, loaded, strict=True):
        copy = out / path.name
        # asyncio.run turns Ctrl-C into a cancellation, so the kernel is stopped on the way out.
        try:
            asyncio.run(_run_one(path, notebook, copy, scale, timeout_s, progress))
        except asyncio.CancelledError:  # by _cancel_on_sigterm: nobody else could
            raise SystemExit(128 + signal.SIGTERM) from None
        saved.append(copy)
    progress.end()
    return saved


def numbered_notebooks(folder: Path = REPOSITORY / "notebooks") -> list[Path]:
    """The notebooks of a folder whose names start with a number, in the order of the numbers."""
    numbers = {path: re.match(r"\d+", path.name) for path in folder.glob("*.ipynb")}
    numbered = [path for path, number in numbers.items() if number]
    if not numbered:
        raise FileNotFoundError(
            f"no numbered notebooks in {folder}: run from a checkout of the repository, "
            "or name the notebooks"
        )
    return sorted(numbered, key=lambda path: (int(numbers[path].group()), path.name))


def _check(paths: Sequence[Path], out: Path, timeout_s: float | None) -> None:
    if not paths:
        raise ValueError("no notebooks to run: name at least one, or pass None for all of them")
    if timeout_s is not None and timeout_s <= 0:
        raise ValueError(f"timeout_s is {timeout_s}: pass seconds above 0, or None for no limit")
    names = [path.name for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)}: named twice, and the copies would share one file")
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"no such notebook: {path}")
        copy = out / path.name
        if copy.exists() and copy.samefile(path):
            raise ValueError(f"out is {out}, where {path.name} itself lies: pass another folder")


def _minutes(notebook: NotebookNode, scale: str) -> float | None:
    """What the notebook's metadata expects at this scale; None if it says nothing usable."""
    node: Any = notebook.metadata
    for key in ("distilkit", "minutes", scale):
        node = node.get(key) if isinstance(node, Mapping) else None
    usable = isinstance(node, (int, float)) and not isinstance(node, bool)
    return float(node) if usable and math.isfinite(node) and node > 0 else None


# ---- one notebook, one kernel


async def _run_one(
    path: Path,
    notebook: NotebookNode,
    copy: Path,
    scale: str,
    timeout_s: float | None,
    progress: Progress,
) -> None:
    client = _Client(
        notebook,
        progress=progress,
        timeout=None if timeout_s is None else math.ceil(timeout_s),
        coalesce_streams=True,  # a bar is saved as its last state, not as all of them
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # no advice on encryption at each start
    )
    _cancel_on_sigterm()
    progress.start_notebook(sum(map(client.runs, notebook.cells)))
    ticking = asyncio.create_task(_tick(progress))
    try:
        await client.async_execute(cwd=str(path.resolve().parent), env=_environment(scale))
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        reason, traceback = _explain(error, client, timeout_s)
        source = client.cell.source if client.cell else ""
        progress.stop(f"{path.name} failed")
        raise NotebookFailed(path, client.number, source, reason, traceback, copy) from None
    except asyncio.CancelledError:
        progress.stop(f"stopped; the executed part of {path.name} is in {copy}")
        raise
    finally:
        ticking.cancel()
        client.set_widgets_metadata()  # nbclient does so for finished notebooks only
        _for_readers_without_a_kernel(notebook)
        _write(notebook, copy)
    progress.end_notebook()


def _cancel_on_sigterm() -> None:
    # Python would end on the spot and leave the kernel's own children (data loaders) behind.
    with suppress(RuntimeError, NotImplementedError):  # not the main thread; Windows
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)


async def _tick(progress: Progress) -> None:
    while True:
        await asyncio.sleep(REFRESH_S)
        progress.tick()


def _environment(scale: str) -> dict[str, str]:
    environment = {**os.environ, "DISTILKIT_SCALE": scale}
    # The kernel imports the distilkit that is running here, installed or not.
    paths = [str(REPOSITORY), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment.pop("MPLBACKEND", None)  # a backend chosen outside would hide the inline pictures
    # The debugger's word on frozen modules would stand above every notebook.
    environment.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    return environment


def _explain(error: Exception, client: _Client, timeout_s: float | None) -> tuple[str, str]:
    """One line, and the cell's traceback if it left one."""
    if isinstance(error, CellExecutionError):
        outputs = [out for out in client.cell.outputs if out["output_type"] == "error"]
        traceback = ANSI.sub("", "\n".join(outputs[-1]["traceback"])) if outputs else str(error)
        first = (error.evalue.strip().splitlines() or [""])[0]
        return f"{error.ename}: {ANSI.sub('', first)}", traceback
    if isinstance(error, CellTimeoutError):
        return f"the cell ran longer than {timeout_s:g} s (timeout_s)", ""
    if client.number == 0:
        return str(error), ""
    return f"its kernel died{_death(client.exit_code)}", ""


def _death(code: int | None) -> str:
    if code is None:
        return ""
    if code >= 0:
        return f" with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    # The usual sender of this one is the system, to the process with most memory.
    hint = "; often the machine ran out of memory" if name == "SIGKILL" else ""
    return f", killed by {name}{hint}"


def _for_readers_without_a_kernel(notebook: NotebookNode) -> None:
    """A panel's HTML moves by itself; its widget, which would be preferred, asks for a kernel."""
    for cell in notebook.cells:
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            if "text/html" in data:
                data.pop("application/vnd.jupyter.widget-view+json", None)


def _write(notebook: NotebookNode, copy: Path) -> None:
    """Whole or not at all: a reader of `copy` never sees half a file."""
    write_atomically(copy, f"{nbformat.writes(notebook)}\n".encode())


class _ThisInterpreter(KernelSpecManager):
    """Every kernel name means ipykernel under `sys.executable`.

    jupyter_client would look the name up in ~/.local/share/jupyter first, where `python3` may stand
    for some other environment.
    """

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(resource_dir=str(RESOURCES), **get_kernel_dict())


class _Client(NotebookClient):
    """nbclient, with a kernel of this interpreter, live output, and Ctrl-C that cancels."""

    def __init__(self, notebook: NotebookNode, *, progress: Progress, **options: Any) -> None:
        super().__init__(notebook, **options)
        self.progress = progress
        self.cell: NotebookNode | None = None  # the running code cell
        self.number = 0  # and its number among the code cells, from 1
        self.exit_code: int | None = None  # of a kernel that died
        self._bars: dict[str, str] = {}  # tqdm's right-hand text widget -> its left-hand one

    def runs(self, cell: NotebookNode) -> bool:
        """Whether nbclient executes the cell."""
        skipped = self.skip_cells_with_tag in cell.metadata.get("tags", [])
        return cell.cell_type == "code" and bool(cell.source.strip()) and not skipped

    @asynccontextmanager
    async def async_setup_kernel(self, **options: Any) -> AsyncIterator[None]:
        """A kernel that is gone at the end, however the end comes.

        nbclient's own version answers Ctrl-C by closing the kernel under the running cell.
        """
        km = self.km = AsyncKernelManager(kernel_spec_manager=_ThisInterpreter())
        kc = None
        finished = False
        try:
            await self.async_start_new_kernel(**options)
            try:
                kc = await self.async_start_new_kernel_client()
            except RuntimeError as error:
                raise DeadKernelError(str(error)) from error
            yield
            finished = True
        except DeadKernelError:
            # nbclient reads any cancellation of a cell as the kernel's death.
            if await km.is_alive():
                raise asyncio.CancelledError from None
            self.exit_code = await km.provisioner.poll()
            raise
        finally:
            if kc is not None:
                kc.stop_channels()
            # Time for its exit handlers if all went well; else it may be deep in a computation.
            await km.shutdown_kernel(now=not finished)
            self.km = self.kc = None

    async def async_execute_cell(
        self, cell: NotebookNode, cell_index: int, *args: Any, **options: Any
    ) -> NotebookNode:
        if self.runs(cell):
            self.cell, self.number = cell, self.number + 1
            self.progress.start_cell(cell.source)
        elif cell.cell_type == "markdown":
            self.progress.read_markdown(cell.source)
        done = await super().async_execute_cell(cell, cell_index, *args, **options)
        if self.runs(cell):
            self.progress.end_cell()
        return done

    def process_message(
        self, msg: dict[str, Any], cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        if msg["msg_type"] == "stream":
            self.progress.text(msg["content"]["text"], source=msg["content"]["name"])
        result = super().process_message(msg, cell, cell_index)
        if msg["msg_type"] in ("comm_open", "comm_msg"):
            self._watch_bar(msg["content"])
        return result

    def _watch_bar(self, content: dict[str, Any]) -> None:
        """Show a `tqdm.auto` bar, which ipywidgets draws: a box of text, bar, text."""
        state = content["data"].get("state", {})
        children = [child.removeprefix("IPY_MODEL_") for child in state.get("children") or []]
        models = [self.widget_state.get(child, {}).get("_model_name") for child in children]
        if models == ["HTMLModel", "FloatProgressModel", "HTMLModel"]:
            self._bars[children[2]] = children[0]
        right = content["comm_id"]
        if right in self._bars and "value" in state:
            left = self.widget_state[self._bars[right]].get("value", "")
            line = html.unescape(f"{left}|{state['value']}").replace("\u2007", " ")
            self.progress.text(f"\r{line}", source="bar")


# ---- what the reader of the terminal sees


class Progress:
    """Which notebook, which cell, what it prints, how long it has taken and may still take.

    On a terminal: what a cell writes goes out as it comes, above one status line whose clock runs
    (or under it, while a bar is drawn). Elsewhere (a log file, CI): a line at both ends of a
    notebook, between them at most one in `QUIET_LOG_S` seconds with the last thing the cell wrote.
    """

    def __init__(
        self,
        names: Sequence[str],
        minutes: Sequence[float | None],
        *,
        stream: TextIO,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.names, self.stream, self.clock = names, stream, clock
        self.live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.estimate = Estimate(minutes)
        self.started = self.notebook_started = clock()
        self.notebook = -1  # index of the running one
        self.cells = self.cell = 0
        self.section = self.first_line = ""
        # On a terminal: where the cursor is.
        self._column_0 = True  # at the start of a line
        self._on_status = False  # at the end of our status line
        self._under_status: int | None = None  # so many lines under it, first is 0; None: lost
        self._source = ""  # who wrote there last
        # In a log:
        self._logged = -math.inf  # when the last line was written
        self._tail = ""  # the last line of the cell

    # -- what happens

    def start_notebook(self, cells: int) -> None:
        self.notebook += 1
        self.cells, self.cell = cells, 0
        self.section = self.first_line = self._tail = ""
        self.notebook_started = self.clock()
        self._line(self._status())

    def read_markdown(self, source: str) -> None:
        headings = re.findall(r"^#+\s+(.+?)\s*#*$", source, flags=re.MULTILINE)
        if headings:
            self.section = headings[-1]
            if self.live:
                self._line(f"  {self.section}")

    def start_cell(self, source: str) -> None:
        self.cell += 1
        self.first_line = source.strip().splitlines()[0]
        self._tail = ""
        self.tick()

    def end_cell(self) -> None:
        if self.live and not self._on_status and not self._column_0:
            self._write("\n")  # a bar ends without one
        self._under_status = None  # that line now belongs to what is under it

    def text(self, text: str, source: str = "stdout") -> None:
        """Something the running cell wrote to stdout or stderr, or a whole line that is a bar."""
        if not self.live:
            lines = re.split(r"[\r\n]+", ANSI.sub("", self._tail + text))
            self._tail = next((line for line in reversed(lines) if line.strip()), "")[-2000:]
            self._tail += "\n" if text.endswith(("\r", "\n")) else ""
            self.tick()
            return
        under = self._under_status
        if source != self._source and not (self._on_status or self._column_0):
            self._write("\n")  # the bar's own line end may arrive later, on the other stream
            under = None if under is None else under + 1
        self._source = source
        is_bar = text.startswith("\r")
        if is_bar and self._column_0 and under is None:
            self.tick()
        if self._on_status:  # a bar leaves it standing above itself, other text takes its place
            self._write("\n" if is_bar else "\r\x1b[K")
            under = 0 if is_bar else None
        self._write(
            text + "\x1b[K" if source == "bar" else text
        )  # a line may be shorter than before
        if under is not None:  # nested bars go down and come back up
            under += text.count("\n") - text.count("\x1b[A")
            self._under_status = under if 0 <= under <= NESTED_BARS else None

    def tick(self) -> None:
        """Time has passed."""
        if not self.live:
            if self.clock() - self._logged >= QUIET_LOG_S:
                tail = self._tail.strip()
                self._line(self._status() + (f" · {tail}" if tail else ""))
            return
        # A wrapped line could not be drawn over.
        status = self._status()[: shutil.get_terminal_size().columns - 1]
        if self._under_status is not None:  # up, write, and back to where the bar was
            under, column_0 = self._under_status, self._column_0
            self._write(f"\x1b7\x1b[{under + 1}A\r{status}\x1b[K\x1b8")
            self._under_status, self._column_0 = under, column_0
        elif self._on_status or self._column_0:
            self._write(f"\r{status}\x1b[K")
            self._on_status = True

    def end_notebook(self) -> None:
        name, now = self.names[self.notebook], self.clock()
        took = now - self.notebook_started
        self.estimate.finish(took)
        self.notebook_started, self.cell = now, 0
        self._line(f"{name} done in {duration(took)} · {self._times()}")

    def end(self) -> None:
        notebooks = "1 notebook" if len(self.names) == 1 else f"{len(self.names)} notebooks"
        self._line(f"{notebooks} done in {duration(self.clock() - self.started)}")

    def stop(self, message: str) -> None:
        self._line(f"{message} · {duration(self.clock() - self.started)} elapsed")

    # -- how it is said

    def _status(self) -> str:
        what = self.section or self.first_line
        parts = [
            f"[{self.notebook + 1}/{len(self.names)}] {self.names[self.notebook]}",
            f"cell {self.cell}/{self.cells}",
            self._times(),
            *([what] if what else []),  # last: it is what a narrow terminal may cut
        ]
        return " · ".join(parts)

    def _times(self) -> str:
        now = self.clock()
        done = max(self.cell - 1, 0) / self.cells if self.cells else 0.0
        left = self.estimate.left_s(now - self.notebook_started, done)
        said = "time left not known yet" if left is None else f"about {duration(left)} left"
        return f"{duration(now - self.started)} elapsed, {said}"

    def _line(self, text: str) -> None:
        """A line that stays."""
        if self._on_status:
            text = f"\r{text}\x1b[K"
        elif not self._column_0:
            text = f"\n{text}"
        self._write(text + "\n")
        self._logged = self.clock()

    def _write(self, text: str) -> None:
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        self.stream.write(text.encode(encoding, "replace").decode(encoding))
        self.stream.flush()
        self._on_status, self._under_status = False, None
        self._column_0 = text.endswith("\n")


class Estimate:
    """Seconds left, from the notebooks' expected minutes and the pace seen so far.

    The pace is measured over expected time, so seconds really taken per second expected.
    Notebooks that expect nothing count as the average of those that do; if none does, all count
    the same and only their number is used.
    """

    PRIOR = 0.1  # a tenth of the whole, at the expected pace, stands against a short first notebook

    def __init__(self, minutes: Sequence[float | None]) -> None:
        known = [60 * each for each in minutes if each is not None]
        average = sum(known) / len(known) if known else 1.0
        self.expected = [average if each is None else 60 * each for each in minutes]
        self.prior = self.PRIOR * sum(self.expected) if known else 0.0
        self.finished = 0
        self.taken = 0.0

    def finish(self, seconds: float) -> None:
        """The running notebook ended after so many seconds."""
        self.finished += 1
        self.taken += seconds

    def left_s(self, running_s: float, cells_done: float) -> float | None:
        """Seconds to the end of the last notebook; None as long as nothing is known.

        Args:
            running_s: how long the running notebook has been at it.
            cells_done: share of its code cells that are finished, 0 to 1.
        """
        if self.finished == len(self.expected):
            return 0.0
        before = sum(self.expected[: self.finished]) + self.prior
        current, *later = self.expected[self.finished :]
        if before:
            pace = (self.taken + self.prior) / before
            # A notebook past its time says that the pace is at least this.
            pace = max(pace, (self.taken + self.prior + running_s) / (before + current))
        elif cells_done > 0:
            pace = running_s / cells_done / current
        else:
            return None
        # Past its expected time a notebook is taken to need a tenth more, not to be over.
        at_least = 0.1 * running_s * (1 - cells_done)
        return max(pace * current - running_s, at_least) + pace * sum(later)


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
