"""The notebook runner on small notebooks, in real kernels."""

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
from ipykernel import kernelspec
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from distilkit.cli import run_notebooks as runner
from distilkit.cli.main import main
from distilkit.cli.run_notebooks import NotebookFailed, numbered_notebooks, run_notebooks

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, *sources: str) -> Path:
    """A notebook; sources that start with # and a blank are markdown headings."""
    cells = [
        new_markdown_cell(source) if source.startswith("# ") else new_code_cell(source)
        for source in sources
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)
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
    def isatty(self):
        return True


def kernels_of(process: psutil.Process) -> list[psutil.Process]:
    children = [each for each in process.children() if each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in children if "ipykernel_launcher" in each.cmdline()]


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
    assert log.index("02_second.ipynb: 0/4 cells") < log.index("01_first.ipynb: 2/4 cells")


@pytest.mark.notebooks
def test_the_kits_notebooks_find_the_package_imported_and_no_name_of_it(tmp_path, monkeypatch):
    """The second kernel gets ready while the first notebook runs."""
    ready = tmp_path / "ready"
    ready.mkdir()
    wait = (
        "import os, time\nfor _ in range(600):\n"
        f"    if len(os.listdir({str(ready)!r})) == 2: break\n"
        "    time.sleep(0.1)\nelse: raise TimeoutError"
    )
    paths = [
        write(tmp_path / "01.ipynb", wait),
        write(tmp_path / "02.ipynb", "import sys; print('distilkit' in sys.modules, dir())"),
    ]
    code, count = re.subn("import distilkit.*?;", "import distilkit;", runner.IMPORTED_AHEAD)
    assert count == 1  # the package alone: the libraries would take each kernel seconds
    signed = f"; import os; open(f'{ready}/{{os.getpid()}}', 'w').close(); del os"
    monkeypatch.setattr(runner, "IMPORTED_AHEAD", code + signed)
    monkeypatch.setattr(runner, "numbered_notebooks", lambda: paths)
    _, copy = run_notebooks(out=tmp_path / "out", stream=io.StringIO())
    imported, names = printed(copy).split(maxsplit=1)
    assert imported == "True"
    assert "distilkit" not in names


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
    with pytest.raises(NotebookFailed) as caught:
        run_notebooks(paths, out=tmp_path / "out", stream=io.StringIO())
    error, saved = str(caught.value), tmp_path / "out" / "01_bad.ipynb"
    first = "01_bad.ipynb failed at code cell 2 (In [2]): ZeroDivisionError: division by zero\n"
    assert error.startswith(first)
    assert bad in error
    assert "Traceback (most recent call last)" in error
    assert "\x1b" not in error
    assert error.endswith(f"The executed part is in {saved}")
    assert list((tmp_path / "out").iterdir()) == [saved]
    assert printed(saved) == "so far\n"
    assert nbformat.read(saved, as_version=4).cells[4].execution_count is None
    assert is_gone(int(pid.read_text()))
    assert not kernels_of(psutil.Process())  # nor that of the second notebook


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
    with pytest.raises(NotebookFailed, match=r"code cell 2 .*its kernel died") as caught:
        run_notebooks([path], out=tmp_path / "out", stream=io.StringIO())
    assert reason in str(caught.value)
    assert f"    {code}\n" in str(caught.value)
    assert printed(tmp_path / "out" / "01.ipynb") == "alive\n"


@pytest.mark.notebooks
def test_a_kernel_that_cannot_start_is_reported(tmp_path, monkeypatch):
    def broken():
        argv = [sys.executable, "-c", "raise SystemExit(3)", "{connection_file}"]
        return {"argv": argv, "display_name": "broken", "language": "python"}

    monkeypatch.setattr(kernelspec, "get_kernel_dict", broken)
    path = write(tmp_path / "01.ipynb", "1")
    with pytest.raises(NotebookFailed, match=r"at the start of its kernel: .*died"):
        run_notebooks([path], out=tmp_path / "out", stream=io.StringIO())


@pytest.mark.notebooks
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_progress_names_notebook_and_cell_and_gives_a_sign_of_life(tmp_path, monkeypatch, stream):
    """In a log lines without carriage returns, on a terminal one line that is drawn again."""
    monkeypatch.setattr(runner, "LOG_REFRESH_S", 0.2)
    monkeypatch.setattr(runner, "REFRESH_S", 0.2)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")
    paths = [
        write(tmp_path / "01_a.ipynb", "# Title", "", "import time; time.sleep(2)"),
        write(tmp_path / "02_b.ipynb", "1", "2"),
    ]
    shown = stream()
    run_notebooks(paths, out=tmp_path / "out", stream=shown)
    text = shown.getvalue()
    assert ("\r" in text) == (stream is Terminal)
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    assert all(len(line) < 70 for line in lines)
    assert len([line for line in lines if re.match(r"01_a.* 0/3 cells .*In \[1\]", line)]) > 3
    assert re.search(r"02_b\.ipynb: .*2/3 cells \[\d\d:\d\d<\d\d:\d\d, In \[2\]\]", text)
    assert "3/3 cells" in lines[-1]


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
    after = write(tmp_path / "02.ipynb", "1")
    code = (  # in the background of a script SIGINT is ignored, and so it is in its children
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path; from distilkit.cli.run_notebooks import run_notebooks\n"
        f"paths = [Path({str(path)!r}), Path({str(after)!r})]\n"
        f"run_notebooks(paths, out=Path({str(tmp_path / 'out')!r}))"
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
        [ahead] = {each.pid for each in kernels_of(psutil.Process(process.pid))} - {kernel}
        process.send_signal(signum)
        code = process.wait(timeout=60)
        errors = log.read_text()
        assert code == {signal.SIGTERM: 143}.get(signum, -signum)
        assert is_gone(kernel)
        assert is_gone(ahead)
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


def test_what_is_imported_ahead_exists():
    names: dict = {}
    exec(runner.IMPORTED_AHEAD, names)
    assert names.keys() == {"__builtins__"}
    assert "distilkit.finetuning" in runner.IMPORTED_AHEAD  # and with it torch and transformers


def test_repository_notebooks_come_by_number():
    assert [path.name[:2] for path in numbered_notebooks()] == [f"{i:02}" for i in range(1, 11)]


def test_nothing_runs_when_nothing_is_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ipynb"):
        run_notebooks([tmp_path / "none.ipynb"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_notebooks_are_copied_and_nothing_is_replaced(tmp_path, capsys):
    folder = tmp_path / "some" / "folder"
    assert main(["notebooks", str(folder)]) == 0
    sources = numbered_notebooks()
    assert len(sources) >= 9
    assert sorted(folder.iterdir()) == [folder / path.name for path in sources]
    assert all((folder / path.name).read_bytes() == path.read_bytes() for path in sources)
    assert capsys.readouterr().out.splitlines() == [str(folder / path.name) for path in sources]

    kept = folder / sources[2].name
    for other in set(folder.iterdir()) - {kept}:
        other.unlink()
    kept.write_text("my own")
    assert main(["notebooks", str(folder)]) == 2
    assert f"already has {kept.name}: name another folder" in capsys.readouterr().err
    assert list(folder.iterdir()) == [kept]
    assert kept.read_text() == "my own"
