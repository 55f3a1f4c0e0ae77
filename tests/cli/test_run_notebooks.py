"""The sequence on small notebooks in real kernels; progress and estimate without any."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from distilkit.cli import run_notebooks as sequence
from distilkit.cli.run_notebooks import (
    Estimate,
    NotebookFailed,
    Progress,
    duration,
    numbered_notebooks,
    run_notebooks,
)

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, *sources: str, minutes: dict | None = None) -> Path:
    """A notebook; sources that start with # and a blank are markdown headings."""
    cells = [
        new_markdown_cell(source) if source.startswith("# ") else new_code_cell(source)
        for source in sources
    ]
    notebook = new_notebook(cells=cells)
    if minutes is not None:
        notebook.metadata["distilkit"] = {"minutes": minutes}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def printed(path: Path) -> str:
    """All that the cells of an executed copy printed."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = [out for cell in cells if cell.cell_type == "code" for out in cell.outputs]
    return "".join(out["text"] for out in outputs if out["output_type"] == "stream")


def is_gone(pid: int, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True  # ended; its parent has not asked yet
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


class Terminal(io.StringIO):
    """A terminal that understands what progress and bars send: \\r, \\n, and four sequences."""

    def __init__(self):
        super().__init__()
        self.lines, self.row, self.column, self.kept = [""], 0, 0, (0, 0)

    def isatty(self):
        return True

    def write(self, text):
        for part in re.findall(r"\x1b\[K|\x1b\[\d*A|\x1b7|\x1b8|[^\x1b]", text):
            line = self.lines[self.row]
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self.row, self.column = self.row + 1, 0
                if self.row == len(self.lines):
                    self.lines.append("")
            elif part == "\x1b[K":
                self.lines[self.row] = line[: self.column]
            elif part.endswith("A") and len(part) > 1:
                self.row -= int(part[2:-1] or 1)
                assert self.row >= 0
            elif part == "\x1b7":
                self.kept = (self.row, self.column)
            elif part == "\x1b8":
                self.row, self.column = self.kept
            else:
                line = line.ljust(self.column)
                self.lines[self.row] = line[: self.column] + part + line[self.column + 1 :]
                self.column += 1
        return super().write(text)

    def shown(self):
        return [line for line in self.lines if line]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


# ---- in kernels


@pytest.mark.notebooks
def test_notebooks_run_in_order_in_their_folder_with_this_interpreter(tmp_path):
    report = (
        "import json, os, sys\n"
        "seen = {'python': sys.executable, 'pid': os.getpid(), 'cwd': os.getcwd(),"
        " 'scale': os.environ['DISTILKIT_SCALE'],"
        " 'fresh': 'left_over' not in globals()}\n"
        f"with open({str(tmp_path / 'seen')!r}, 'a') as file: print(json.dumps(seen), file=file)\n"
        "left_over = 1"
    )
    show = "from importlib.util import find_spec; print(find_spec('distilkit').origin); 6 * 7"
    paths = [
        write(tmp_path / folder / name, "# Title", report, show)
        for folder, name in (("a", "02_second.ipynb"), ("b", "01_first.ipynb"))
    ]
    sources = [path.read_bytes() for path in paths]
    stream = io.StringIO()

    saved = run_notebooks(paths, out=tmp_path / "out", scale="small", stream=stream)

    seen = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert [each["cwd"] for each in seen] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert {each["python"] for each in seen} == {sys.executable}
    assert {each["scale"] for each in seen} == {"small"}
    assert all(each["fresh"] for each in seen)
    assert len({each["pid"] for each in seen}) == 2
    assert all(is_gone(each["pid"]) for each in seen)
    assert [path.read_bytes() for path in paths] == sources
    assert saved == [tmp_path / "out" / path.name for path in paths]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        path.name for path in paths
    )
    for copy in saved:
        last = nbformat.read(copy, as_version=4).cells[-1]
        assert last.execution_count == 2
        assert Path(printed(copy).strip()) == ROOT / "distilkit" / "__init__.py"
        assert last.outputs[-1]["data"]["text/plain"] == "42"
    log = stream.getvalue()
    assert log.index("[1/2] 02_second.ipynb") < log.index("[2/2] 01_first.ipynb")
    assert "cell 0/2" in log
    assert " left" in log
    assert "2 notebooks done" in log


@pytest.mark.notebooks
def test_a_kernelspec_of_the_user_does_not_shadow_this_interpreter(tmp_path, monkeypatch):
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = ["/bin/false", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    path = write(tmp_path / "01.ipynb", "import sys; print(sys.executable)")
    [copy] = run_notebooks([path], out=tmp_path / "out", stream=io.StringIO())
    assert printed(copy).strip() == sys.executable


@pytest.mark.notebooks
def test_a_cell_that_raises_ends_the_sequence_and_says_where(tmp_path):
    pid = tmp_path / "pid"
    bad = "def deep(n):\n    return 1 / n\nprint('so far')\ndeep(0)"
    paths = [
        write(
            tmp_path / "01_bad.ipynb",
            "# Start",
            f"import os; open({str(pid)!r}, 'w').write(str(os.getpid()))",
            "",
            bad,
            "print('never')",
        ),
        write(tmp_path / "02_after.ipynb", "1"),
    ]
    stream = io.StringIO()
    with pytest.raises(NotebookFailed) as caught:
        run_notebooks(paths, out=tmp_path / "out", stream=stream)
    error = caught.value
    assert (error.notebook, error.cell, error.source) == (paths[0], 2, bad)
    assert error.reason == "ZeroDivisionError: division by zero"
    for part in ("01_bad.ipynb", "In [2]", "    def deep(n):", "ZeroDivisionError", "return 1 / n"):
        assert part in str(error)
    assert "\x1b" not in str(error)
    assert str(error.saved) in str(error)
    assert list((tmp_path / "out").iterdir()) == [error.saved]
    assert printed(error.saved) == "so far\n"
    assert nbformat.read(error.saved, as_version=4).cells[4].execution_count is None
    assert "01_bad.ipynb failed" in stream.getvalue()
    assert is_gone(int(pid.read_text()))


@pytest.mark.notebooks
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("import os; os._exit(7)", "exit code 7"),
    ],
)
def test_a_kernel_that_dies_is_reported(tmp_path, code, reason):
    path = write(tmp_path / "01.ipynb", "print('alive')", code, "print('never')")
    with pytest.raises(NotebookFailed, match="its kernel died") as caught:
        run_notebooks([path], out=tmp_path / "out", stream=io.StringIO())
    assert reason in caught.value.reason
    assert (caught.value.cell, caught.value.source) == (2, code)
    assert printed(caught.value.saved) == "alive\n"


@pytest.mark.notebooks
def test_a_kernel_that_cannot_start_is_reported(tmp_path, monkeypatch):
    def broken():
        argv = [sys.executable, "-c", "raise SystemExit(3)", "{connection_file}"]
        return {"argv": argv, "display_name": "broken", "language": "python"}

    monkeypatch.setattr(sequence, "get_kernel_dict", broken)
    path = write(tmp_path / "01.ipynb", "1")
    with pytest.raises(NotebookFailed, match=r"at the start of its kernel: .*died") as caught:
        run_notebooks([path], out=tmp_path / "out", stream=io.StringIO())
    assert (caught.value.cell, caught.value.source) == (0, "")


@pytest.mark.notebooks
def test_a_cell_out_of_time_is_reported_and_its_kernel_gone(tmp_path):
    pid = tmp_path / "pid"
    path = write(
        tmp_path / "01.ipynb",
        f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)",
    )
    with pytest.raises(NotebookFailed, match=r"longer than 2 s \(timeout_s\)"):
        run_notebooks([path], out=tmp_path / "out", timeout_s=2, stream=io.StringIO())
    assert is_gone(int(pid.read_text()))


@pytest.mark.notebooks
def test_output_reaches_the_terminal_before_the_cell_ends(tmp_path):
    """The cell waits for a file that only the arrival of its output makes."""
    go = tmp_path / "go"
    wait = (
        f"import os, sys, time\nfor _ in range(600):\n    if os.path.exists({str(go)!r}): break\n"
        "    time.sleep(0.05)\nelse: raise RuntimeError('its output never arrived')"
    )
    stdout = "print('step 1', flush=True)\n" + wait
    bar = (
        "import time\nfrom tqdm import tqdm\n"
        "for _ in tqdm(range(100_000_000), desc='plain', mininterval=0.05):\n"
        f"    time.sleep(0.05)\n    if __import__('os').path.exists({str(go) + '2'!r}): break"
    )
    widget = bar.replace("from tqdm ", "from tqdm.auto ").replace("plain", "drawn")
    widget = widget.replace(str(go) + "2", str(go) + "3")

    class Watching(Terminal):
        def write(self, text):
            written = super().write(text)
            everything = self.getvalue()
            for mark, file in (
                ("step 1\n", "go"),
                (r"plain: .* 3/1000", "go2"),
                (r"drawn: .* 3/1000", "go3"),
            ):
                if re.search(mark, everything):
                    (tmp_path / file).touch()
            return written

    stream = Watching()
    path = write(tmp_path / "01_live.ipynb", "# Training", stdout, bar, widget)
    [copy] = run_notebooks([path], out=tmp_path / "out", timeout_s=60, stream=stream)
    shown = "\n".join(stream.shown())
    assert "[1/1] 01_live.ipynb" in shown
    assert "Training" in shown
    assert "1 notebook done" in shown
    assert printed(copy).count("plain:") == 1  # saved as its last state


@pytest.mark.notebooks
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_kernel_outlives_an_interrupted_sequence(tmp_path, signum):
    pid = tmp_path / "pid"
    # The kernel's own child, as a data loader's worker: it may not stay behind either.
    cell = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"text = f'{{os.getpid()}} {{child.pid}}'\n"
        f"open({str(pid) + '.part'!r}, 'w').write(text)\n"
        f"os.replace({str(pid) + '.part'!r}, {str(pid)!r}); time.sleep(600)"
    )
    path = write(tmp_path / "01.ipynb", "print('before')", cell)
    code = (
        "from pathlib import Path; from distilkit.cli.run_notebooks import run_sequence\n"
        f"run_sequence([Path({str(path)!r})], out=Path({str(tmp_path / 'out')!r}))"
    )
    log = tmp_path / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=stderr)
    try:
        deadline = time.monotonic() + 120
        while not pid.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kernel, child = map(int, pid.read_text().split())
        process.send_signal(signum)
        code = process.wait(timeout=60)
        errors = log.read_text()
        assert code == {signal.SIGTERM: 143}.get(signum, -signum)
        assert is_gone(kernel)
        if signum != signal.SIGKILL:  # against which nothing helps: the kernel notices and ends
            assert is_gone(child)
            assert errors.rstrip().endswith("KeyboardInterrupt") == (signum == signal.SIGINT)
            assert "NotebookFailed" not in errors
            assert "stopped; the executed part of 01.ipynb" in errors
            assert "never retrieved" not in errors
            assert "destroyed" not in errors
            assert printed(tmp_path / "out" / "01.ipynb") == "before\n"
    finally:
        process.kill()
        process.wait()
        if pid.exists():
            for each in map(int, pid.read_text().split()):
                if psutil.pid_exists(each):
                    os.kill(each, signal.SIGKILL)


# ---- without kernels


def test_repository_notebooks_come_by_number(tmp_path):
    for name in ("10_last.ipynb", "02_b.ipynb", "00_a.ipynb", "notes.ipynb", "03.txt"):
        (tmp_path / name).touch()
    names = [path.name for path in numbered_notebooks(tmp_path)]
    assert names == ["00_a.ipynb", "02_b.ipynb", "10_last.ipynb"]
    with pytest.raises(FileNotFoundError, match="no numbered notebooks"):
        numbered_notebooks(tmp_path / "empty")


def test_nothing_runs_when_a_copy_would_replace_a_file_or_nothing_is_there(tmp_path):
    one, other = write(tmp_path / "a" / "01.ipynb", "1"), write(tmp_path / "b" / "01.ipynb", "1")
    source = one.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for out in (tmp_path / "a", tmp_path / "link"):
        with pytest.raises(ValueError, match="pass another folder"):
            run_notebooks([one], out=out)
    with pytest.raises(ValueError, match="named twice"):
        run_notebooks([one, other], out=tmp_path / "out")
    with pytest.raises(ValueError, match="no notebooks"):
        run_notebooks([], out=tmp_path / "out")
    with pytest.raises(ValueError, match="timeout_s is 0"):
        run_notebooks([one], out=tmp_path / "out", timeout_s=0)
    with pytest.raises(FileNotFoundError, match="no such notebook"):
        run_notebooks([tmp_path / "none.ipynb"], out=tmp_path / "out")
    assert one.read_bytes() == source
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"distilkit": {"minutes": {"tiny": 1.5}}}, 1.5),
        ({"distilkit": {"minutes": {"base": 1.5}}}, None),
        ({"distilkit": {"minutes": 3}}, None),
        ({"distilkit": {"minutes": {"tiny": "soon"}}}, None),
        ({"distilkit": {"minutes": {"tiny": 0}}}, None),
        ({"distilkit": {"minutes": {"tiny": True}}}, None),
        ({}, None),
    ],
)
def test_expected_minutes_are_read_for_the_scale(metadata, expected):
    notebook = new_notebook(metadata=metadata)
    assert sequence._minutes(notebook, "tiny") == expected


def test_estimate_follows_the_expected_minutes_and_then_the_pace():
    estimate = Estimate([1, 3, 6])
    assert estimate.left_s(0, 0) == pytest.approx(600)
    assert estimate.left_s(30, 0.5) == pytest.approx(570)
    estimate.finish(120)  # twice the expected
    twice = estimate.left_s(0, 0)
    assert 540 < twice < 2 * 540  # between the expected pace and the one seen
    assert estimate.left_s(60, 0.1) == pytest.approx(twice - 60)
    estimate.finish(360)
    assert estimate.left_s(0, 0) > twice * 6 / 9  # seen again: believed more
    estimate.finish(720)
    assert estimate.left_s(0, 0) == 0


def test_estimate_of_a_notebook_past_its_time_grows_with_it():
    estimate = Estimate([1, 1])
    assert estimate.left_s(600, 0.5) > estimate.left_s(300, 0.5) > 60
    estimate.finish(600)
    assert estimate.left_s(10_000, 0.5) > 0
    assert estimate.left_s(10_000, 1) == 0


def test_estimate_without_expected_minutes_counts_notebooks_alike():
    estimate = Estimate([None, None, None])
    assert estimate.left_s(5, 0) is None
    assert estimate.left_s(10, 0.5) == pytest.approx(10 + 2 * 20)
    estimate.finish(30)
    assert estimate.left_s(0, 0) == pytest.approx(60)
    assert estimate.left_s(12, 0.9) == pytest.approx(48)


def test_a_notebook_without_minutes_counts_as_the_average_of_the_others():
    assert Estimate([2, None, 4]).left_s(0, 0) == pytest.approx(9 * 60)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_read_as_a_person_says_them(seconds, text):
    assert duration(seconds) == text


def test_a_log_stays_short_and_says_where_the_cell_is():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(["01_a.ipynb"], [10.0], stream=stream, clock=clock)
    progress.start_notebook(3)
    progress.read_markdown("Words\n\n## The loss\nmore")
    progress.start_cell("x = 1")
    for step in range(1000):  # 100 s, ten bars a second
        clock.now += 0.1
        progress.text(f"\r\x1b[1m{step + 1}/1000\x1b[0m")
    progress.end_cell()
    progress.end_notebook()
    progress.end()
    lines = stream.getvalue().splitlines()
    assert 10 <= len(lines) <= 14
    assert lines[0].startswith("[1/1] 01_a.ipynb · cell 0/3 · 0 s elapsed, about 10 min 00 s left")
    assert "cell 1/3" in lines[3]
    assert "The loss" in lines[3]
    assert re.search(r"· \d+/1000$", lines[3])
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert lines[-1] == "1 notebook done in 1 min 40 s"


def test_a_silent_cell_still_gives_a_log_a_sign_of_life():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(["01_a.ipynb"], [None], stream=stream, clock=clock)
    progress.start_notebook(2)
    progress.start_cell("# a comment\ntrain()")
    for _ in range(60):
        clock.now += 1
        progress.tick()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 7
    assert lines[0].endswith("0 s elapsed, time left not known yet")
    assert "cell 1/2 · 1 min 00 s elapsed" in lines[-1]
    assert lines[-1].endswith("# a comment")


def test_a_terminal_shows_output_above_one_running_status_line():
    clock, terminal = Clock(), Terminal()
    progress = Progress(["01_a.ipynb"], [1.0], stream=terminal, clock=clock)
    progress.start_notebook(2)
    progress.read_markdown("# Loss")
    progress.start_cell("x = 1")
    for second in range(3):
        clock.now += 1
        progress.tick()
        progress.text(f"line {second}\n")
        progress.tick()
    shown = terminal.shown()
    assert [line[:13] for line in shown[:2]] == ["[1/1] 01_a.ip", "  Loss"]
    assert shown[2:5] == ["line 0", "line 1", "line 2"]
    assert len(shown) == 6
    assert "cell 1/2 · 3 s elapsed, about 57 s left · Loss" in shown[5]


def test_a_bar_right_after_a_print_has_the_clock_above_it():
    clock, terminal = Clock(), Terminal()
    progress = Progress(["01_a.ipynb"], [1.0], stream=terminal, clock=clock)
    progress.start_notebook(1)
    progress.start_cell("x = 1")
    progress.text("loading\n")
    progress.text("\r 1/3", source="bar")
    clock.now += 7
    progress.tick()
    assert terminal.shown()[1] == "loading"
    assert "7 s elapsed" in terminal.shown()[2]
    assert terminal.shown()[3] == " 1/3"
    progress.end_cell()
    progress.start_cell("y = 2")
    assert "x = 1" in terminal.shown()[2]
    assert "y = 2" in terminal.shown()[4]


@pytest.mark.parametrize("nested", [False, True])
def test_a_terminal_keeps_the_clock_running_above_a_bar(nested):
    clock, terminal = Clock(), Terminal()
    progress = Progress(["01_a.ipynb"], [1.0], stream=terminal, clock=clock)
    progress.start_notebook(1)
    progress.start_cell("x = 1")
    for second in range(1, 4):
        clock.now += 1
        progress.text(f"\repoch {second}/3")
        if nested:  # as tqdm does, and the pieces may arrive apart
            progress.text("\n")
            progress.tick()
            progress.text(f"\rstep {second}")
            progress.text("\x1b[A")
        progress.tick()
    assert terminal.shown()[1].startswith("[1/1] 01_a.ipynb · cell 1/1 · 3 s elapsed, about 57 s")
    assert terminal.shown()[2:] == ["epoch 3/3", "step 3"][: 1 + nested]
    progress.text("\n" * (1 + nested))
    clock.now += 1
    progress.tick()
    assert "4 s elapsed" in terminal.shown()[1]
    for line in range(9):  # a long table afterwards: the status comes down again
        progress.text(f"row {line}\n")
        progress.tick()
    clock.now += 1
    progress.tick()
    assert "5 s elapsed" in terminal.shown()[-1]
    assert terminal.shown()[2 : 12 + nested] == [
        *["epoch 3/3", "step 3"][: 1 + nested],
        *(f"row {line}" for line in range(9)),
    ]
    progress.end_cell()
    progress.end_notebook()
    assert len(terminal.shown()) == 13 + nested
    assert terminal.shown()[-1].startswith("01_a.ipynb done in 5 s")


def test_a_table_after_a_bar_starts_on_its_own_line():
    """The bar's line end comes on stderr and may be overtaken by what stdout says next."""
    terminal = Terminal()
    progress = Progress(["01_a.ipynb"], [1.0], stream=terminal, clock=Clock())
    progress.start_notebook(1)
    progress.start_cell("x = 1")
    progress.text("\r 3/3", source="stderr")
    progress.text("a table\n", source="stdout")
    progress.text("\n", source="stderr")
    progress.text("\r a longer bar", source="bar")
    progress.text("\r a bar", source="bar")
    progress.text("the end\n", source="stdout")
    shown = [line for line in terminal.shown() if not line.startswith("[1/1]")]
    assert shown == [" 3/3", "a table", " a bar", "the end"]


def test_a_status_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    progress = Progress(["01_a.ipynb"], [1.0], stream=terminal, clock=Clock())
    progress.start_notebook(1)
    progress.start_cell("x" * 100)
    assert len(terminal.shown()[-1]) == 39


def test_progress_survives_a_stream_that_cannot_write_every_letter():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    progress = Progress(["01_é.ipynb"], [None], stream=stream, clock=Clock())
    progress.start_notebook(1)
    progress.stop("bar █")
    assert b"01_?.ipynb" in raw.getvalue()
