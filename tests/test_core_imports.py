"""The core stays small: what a reader meets first imports only itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from check_imports import PACKAGE, faults

CORE = ("config", "student", "losses", "fused_loss", "masking", "training_loop", "distillation")


HEAVY = ["transformers", "datasets", "evaluate", "ipywidgets", "matplotlib", "pandas"]
FOR_TRAINING = ["pandas", "matplotlib", "sklearn", "nbclient"]  # what it does without
FOR_ALL = ["onnx", "onnxruntime", "onnxscript", "datasets", "evaluate", "ipywidgets"]

IN_TURN = f"""
import json, sys
import distilkit
heavy = [name for name in {HEAVY} if name in sys.modules]
import distilkit.distillation
core = [name for name in sys.modules if name.partition(".")[0] == "distilkit"]
hidden = {FOR_TRAINING + FOR_ALL}
early = [name for name in hidden if name in sys.modules]
sys.modules.update(dict.fromkeys(hidden))
import distilkit.student, distilkit.losses, distilkit.fused_loss, distilkit.masking
import distilkit.training_loop, distilkit.finetuning, distilkit.run, distilkit.checkpoint
import distilkit.measure.latency, distilkit.measure.size
import distilkit.data.sources, distilkit.study.layer_search
for name in {FOR_TRAINING}:
    del sys.modules[name]
import distilkit.compress.engines, distilkit.compress.frontier, distilkit.compress.pareto
print(json.dumps({{"heavy": heavy, "core": core, "early": early}}))
"""


@pytest.mark.processes
def test_what_imports_load_and_do_without():
    """In one fresh process; hidden packages are as on a machine that only trains."""
    command = [sys.executable, "-c", IN_TURN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert (loaded["heavy"], loaded["early"]) == ([], [])
    assert len(loaded["core"]) <= 12, loaded["core"]
    assert all(name.count(".") <= 1 for name in loaded["core"]), loaded["core"]


def test_sizes_and_places():
    def lines(path: Path) -> int:
        return len(path.read_text(encoding="utf-8").splitlines())

    assert sum(lines(PACKAGE / f"{name}.py") for name in CORE) <= 2000
    files = list(PACKAGE.rglob("*.py"))
    assert sum(map(lines, files)) <= 16_000
    assert {path.name: n for path in files if (n := lines(path)) > 500} == {}
    root = [path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")]
    assert len(root) <= 12, root


@pytest.mark.slow
def test_imports_run_one_way():
    assert faults() == []
