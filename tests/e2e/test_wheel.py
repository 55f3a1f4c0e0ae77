"""A real wheel, installed in a fresh environment, used from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from paths import ROOT

pytestmark = pytest.mark.processes

RESOURCES = "distilkit/_resources/"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", str(folder)], cwd=ROOT, check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """An environment with this wheel, and every other package from the environment of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    install = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    offline = ["--no-index", "--no-deps", "--disable-pip-version-check", "-q"]
    subprocess.run([*install, *offline, str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # only a path, so no .pth file of the other environment is read: an editable install stays out
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture
def command(environment, tmp_path):
    """The installed console script, run in an empty folder."""

    def run(*arguments: str) -> str:
        outside = {"PYTHONPATH", "DISTILKIT_HOME", "DISTILKIT_SCALE"}
        done = subprocess.run(
            [environment / "bin" / "distilkit", *arguments],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name not in outside},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def installed(environment: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file of the environment but compiled modules."""
    files = (path for path in environment.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_the_wheel_carries_the_default_and_the_notebooks_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name.removeprefix(RESOURCES) for name in names if name.startswith(RESOURCES)}
    tracked = subprocess.run(
        ["git", "ls-files", "data/tiny", "data/results", "notebooks"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert inside == {name for name in tracked if not name.startswith("data/tiny/make")}
    assert {Path(name).parts[0].split("-")[0] for name in names} == {"distilkit"}
    assert wheel.stat().st_size < 10e6


def test_commands_run_in_an_empty_folder_and_write_only_there(command, environment, tmp_path):
    before = installed(environment)
    small = ["--steps", "2", "--batch-size", "2", "--micro-batch-size", "2", "--name", "first"]
    command("distil", *small)
    run = tmp_path / "runs" / "first"
    assert (run / "result.json").is_file()
    assert (run / "model" / "model.safetensors").is_file()
    assert "loss" in command("doctor")
    command("notebooks", "sequence")
    copies = sorted(path.name for path in (tmp_path / "sequence").iterdir())
    assert copies == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "data", "figures", "sequence"}
    assert installed(environment) == before
