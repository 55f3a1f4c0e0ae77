"""JupyterLab and voila on 127.0.0.1 over a copy of the notebooks, for browser tests."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def jupyterlab(home: Path) -> Iterator[Callable[[str], str]]:
    """A server with its files in `home`; yields what makes an address of a notebook's name."""
    _copy_notebooks(home)
    settings = home / "settings"
    settings.mkdir()
    overrides = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
    (settings / "overrides.json").write_text(json.dumps(overrides))
    port, token = _free_port(), secrets.token_hex(16)
    command = [
        *("jupyterlab", "--no-browser", "--allow-root"),
        *("--ip=127.0.0.1", f"--port={port}", f"--IdentityProvider.token={token}"),
        *(f"--ServerApp.root_dir={home}", f"--LabApp.app_settings_dir={settings}"),
        *("--LabApp.expose_app_in_browser=True", f"--LabApp.workspaces_dir={home}/spaces"),
        f"--LabApp.user_settings_dir={home}/user",
    ]
    with _server(command, home, f"http://127.0.0.1:{port}/api?token={token}"):
        base = f"http://127.0.0.1:{port}/lab/workspaces/test/tree/notebooks"
        yield lambda notebook: f"{base}/{notebook}?token={token}&reset"


@contextmanager
def voila(home: Path, notebook: str) -> Iterator[str]:
    """A server that shows one notebook as a page, without its code; yields the address."""
    _copy_notebooks(home)
    port = _free_port()
    command = ["voila", str(home / "notebooks" / notebook), "--no-browser", f"--port={port}"]
    # any address below the root will do to see that it runs; the root starts a kernel
    with _server(command, home, f"http://127.0.0.1:{port}/voila/static/voila.js"):
        yield f"http://127.0.0.1:{port}/"


def _copy_notebooks(home: Path) -> None:
    shutil.copytree(ROOT / "notebooks", home / "notebooks")
    shutil.copytree(ROOT / "figures" / "gallery", home / "figures" / "gallery")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _server(command: list[str], home: Path, address: str) -> Iterator[None]:
    """A Jupyter server, running while the context is; `address` answers when it is ready."""
    folders = {
        name: str(home / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    with open(home / "log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=log,
            stderr=log,
            env={**os.environ, **folders, "DISTILKIT_HOME": str(home)},
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(address, timeout=5)
                break
            except urllib.error.HTTPError:
                break  # it answers
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, (home / "log").read_text()
                assert time.monotonic() < deadline, (home / "log").read_text()
                time.sleep(0.2)
        yield
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def open_and_run(page):
    """Runs all cells of the notebook that the page is opening."""
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget")
    page.wait_for_function(
        "window.jupyterapp.shell.currentWidget.sessionContext?.session?.kernel?.status === 'idle'"
    )
    # all cells in the page at once, wherever it is scrolled to
    page.evaluate(
        "window.jupyterapp.shell.currentWidget.content.notebookConfig = {"
        "...window.jupyterapp.shell.currentWidget.content.notebookConfig, windowingMode: 'none'}"
    )
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")


def write_notebook(path, *cells: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)
