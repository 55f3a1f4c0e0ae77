"""Trackers show what metrics.jsonl holds, and are no part of what a run is."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys

import numpy as np
import pytest
from forked import Forked
from processes import kill_when
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from toy_regression import Points, net, squared_error

from distilkit import run as run_module
from distilkit.config import TrainingConfig
from distilkit.run import Run, as_json, open_run
from distilkit.training_loop import train

TRAINING = TrainingConfig(
    steps=8,
    batch_size=6,
    micro_batch_size=6,
    precision="fp32",
    eval_interval=3,
    checkpoint_interval=3,
    log_with="tensorboard",
)
KILLED_AFTER = """
import json, sys, time
sys.path[:0] = json.loads(sys.argv[1])
from distilkit.run import Run
import test_trackers
log = Run.log
def slow_after_five(self, row):
    log(self, row)
    time.sleep(60 if row["step"] == 5 else 0)
Run.log = slow_after_five
test_trackers.trained("toy")
"""


def trained(name: str, training: TrainingConfig = TRAINING) -> Run:
    with open_run(name, {"training": as_json(training)}, training.log_with) as run:
        if not run.finished:
            run.finish(train(net(), Points(), squared_error, training, run, validate=validated))
    return run


def validated(_model) -> dict[str, float]:
    return {"loss": 0.1}


def events(run: Run) -> dict[tuple[str, int], list[float]]:
    """Every value in the event files, by tag and step."""
    found: dict[tuple[str, int], list[float]] = {}
    for path in sorted((run.path / "tensorboard").glob("events.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                numbers = found.setdefault((value.tag, event.step), [])
                numbers.append(float(np.float32(value.tensor.float_val[0])))
    return found


def logged(run: Run) -> dict[tuple[str, int], list[float]]:
    """The same of metrics.jsonl; event files hold float32."""
    return {
        (f"{row['split']}/{name}", row["step"]): [float(np.float32(value))]
        for row in run.rows()
        for name, value in row.items()
        if name not in ("step", "split")
    }


@pytest.mark.slow
def test_tensorboard_shows_what_metrics_jsonl_holds(home):
    run = trained("toy")
    assert {step for _, step in logged(run)} == set(range(1, 9))
    assert {tag for tag, _ in events(run)} >= {"train/loss", "validation/loss"}
    assert events(run) == logged(run)


@pytest.mark.processes
def test_after_a_kill_no_step_is_there_twice(home):
    killed = Run(home / "runs" / "toy")
    child = Forked(["-c", KILLED_AFTER, json.dumps(sys.path)])
    reached = kill_when(child, lambda: any(row["step"] == 5 for row in killed.rows()))
    assert reached == -signal.SIGKILL
    assert not killed.finished
    run = trained("toy")  # from the checkpoint of step 3: steps 4 and 5 are trained again
    assert [row["step"] for row in run.rows() if row["split"] == "train"] == list(range(1, 9))
    assert events(run) == logged(run)


def test_a_finished_run_is_found_with_and_without_a_tracker(home):
    run = trained("toy", dataclasses.replace(TRAINING, log_with=None))
    before = (run.path / "result.json").read_bytes()
    assert "log_with" not in run.config()["training"]
    trained("toy")
    assert (run.path / "result.json").read_bytes() == before
    assert not (run.path / "tensorboard").exists()


def test_a_missing_package_is_named_before_anything_is_trained(home, monkeypatch):
    monkeypatch.setattr(run_module, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="pip install wandb"):
        trained("toy", dataclasses.replace(TRAINING, log_with="wandb"))
    assert Run(home / "runs" / "toy").rows() == []
    trained("toy", dataclasses.replace(TRAINING, log_with=None))  # the lock was released


@pytest.mark.parametrize("package", ["wandb", "trackio"])
def test_other_trackers_get_the_runs_name_config_and_rows(home, monkeypatch, package):
    calls = []

    class Recorder:
        def __init__(self, project, **more):
            calls.append((project, more))

        def start(self):
            pass

        def log(self, values, step):
            calls.append((step, values))

        def finish(self):
            calls.append("finished")

    monkeypatch.setattr(run_module, "find_spec", lambda name: name)
    monkeypatch.setitem(run_module.LOGGER_TYPE_TO_CLASS, package, Recorder)
    run = trained("toy", dataclasses.replace(TRAINING, log_with=package))
    assert calls[0] == ("distilkit", {"name": "toy", "config": run.config()})
    shown = {(tag, step): [value] for step, row in calls[1:-1] for tag, value in row.items()}
    exact = {key: [float(np.float32(value)) for value in values] for key, values in shown.items()}
    assert exact == logged(run)
    assert calls[-1] == "finished"
