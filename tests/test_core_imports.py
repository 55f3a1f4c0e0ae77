"""The core stays small: what a reader meets first imports only itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from check_imports import PACKAGE, faults

CORE = ("config", "student", "losses", "fused_loss", "masking", "training_loop", "distillation")


@pytest.mark.slow
def test_distillation_loads_the_core_and_nothing_else():
    code = (
        "import sys, distilkit.distillation\n"
        "print(*sorted(m for m in sys.modules if m.partition('.')[0] == 'distilkit'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert len(loaded) <= 12, loaded
    assert all(name.count(".") <= 1 for name in loaded), loaded


def test_sizes_and_places():
    def lines(path: Path) -> int:
        return len(path.read_text(encoding="utf-8").splitlines())

    assert sum(lines(PACKAGE / f"{name}.py") for name in CORE) <= 2000
    files = list(PACKAGE.rglob("*.py"))
    assert sum(map(lines, files)) <= 16_110
    assert {path.name: n for path in files if (n := lines(path)) > 500} == {}
    root = [path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")]
    assert len(root) <= 12, root


@pytest.mark.slow
def test_imports_run_one_way():
    assert faults() == []
