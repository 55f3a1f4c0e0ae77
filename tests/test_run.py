"""Run folders: names, configs, one writer at a time, metrics that survive a crash, no secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from forked import Forked
from paths import ROOT
from processes import kill_when

from distilkit import run as run_module
from distilkit.cli import train
from distilkit.cli.main import main
from distilkit.run import EXACT, Run, RunBusy, environment, open_run, run_folder

CONFIG = {"kind": "toy", "training": {"steps": 3, "betas": (0.9, 0.98)}, "seed": 1}


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a/../../b",
        "/etc/x",
        "a\\b",
        "C:x",
        "a\0b",
        "\0",
        "a\nb",
        "a\n",
        " a",
        "a b",
        "~",
        "-rf",
        ".hidden",
        "_a",
        "é",
        "٣",
        "x" * 101,
        "x" * 300,
        None,
        7,
        b"a",
        Path("a"),
    ],
)
def test_bad_names_are_refused_before_anything_is_written(home, name):
    with pytest.raises(ValueError, match="run name"):
        run_folder(name)
    with pytest.raises(ValueError, match="run name"), open_run(name, CONFIG):
        pass
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "9", "tiny-teacher", "v1.2_b", "a..b", "x" * 100])
def test_good_names_are_folders_in_runs(home, name):
    assert run_folder(name) == home / "runs" / name
    with open_run(name, CONFIG) as run:
        assert run.path == home / "runs" / name
        assert run.name == name


# --- configs ------------------------------------------------------------------------------------


def test_a_new_run_writes_what_was_asked_and_where(home):
    with open_run("a", CONFIG) as run:
        assert run.config() == {
            "kind": "toy",
            "training": {"steps": 3, "betas": [0.9, 0.98]},
            "seed": 1,
        }
        assert run.environment()["python"] == sys.version.split()[0]
        assert not run.finished
        assert run.model == run.path / "model"
        with pytest.raises(FileNotFoundError, match="'a' is not finished"):
            run.result()


@pytest.mark.parametrize("state", ["new", "checkpoint", "finished"])
def test_the_same_config_reopens_and_keeps_everything(home, monkeypatch, state):
    with open_run("a", CONFIG) as run:
        run.log({"step": 1, "split": "train", "loss": 1.0})
        if state == "checkpoint":
            (run.checkpoints / "step-00000001").mkdir(parents=True)
        if state == "finished":
            run.finish({"loss": 1.0})
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    later = {**run.environment(), "started": "2999-01-01T00:00:00+00:00"}
    monkeypatch.setattr(run_module, "environment", lambda: later)
    with open_run("a", json.loads(json.dumps(CONFIG))) as again:
        assert again.path == run.path
    after = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    if state == "new":  # without a checkpoint it begins again, here and now
        assert run.environment() == later
        del before["environment.json"], after["environment.json"]
    assert after == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 2}, ["seed", "1", "2"]),
        ({"training": {"steps": 4, "betas": (0.9, 0.98)}}, ["training.steps", "3", "4"]),
        ({"training": {"steps": 3, "betas": (0.9, 0.99)}}, ["training.betas", "0.98", "0.99"]),
        ({"training": None}, ["training", "None"]),
        ({"more": 1}, ["more"]),
        ({"seed": "1"}, ["seed", "'1'"]),
    ],
)
def test_another_config_is_refused_with_the_key_that_differs(home, change, words):
    with open_run("a", CONFIG) as run:
        run.log({"step": 1, "split": "train"})
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    with (
        pytest.raises(ValueError, match="another config") as error,
        open_run("a", {**CONFIG, **change}),
    ):
        pass
    for word in words:
        assert word in str(error.value)
    assert "kind" not in str(error.value)  # what is the same is not listed
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before
    with open_run("a", CONFIG):  # and the lock was given back
        pass


def test_a_key_less_is_refused_too(home):
    with open_run("a", CONFIG):
        pass
    less = {key: value for key, value in CONFIG.items() if key != "seed"}
    with pytest.raises(ValueError, match="seed"), open_run("a", less):
        pass


def test_a_crash_between_config_and_environment_is_repaired(home, monkeypatch):
    """config.json first, then death: the run that goes on must still say where it ran."""

    def die() -> dict:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "environment", die)
        with pytest.raises(KeyboardInterrupt), open_run("a", CONFIG):
            pass
    with open_run("a", CONFIG) as run:
        assert run.environment()["torch"]


@pytest.mark.parametrize("key", EXACT)
def test_a_run_does_not_go_on_where_its_digits_would_change(home, monkeypatch, key):
    with open_run("a", CONFIG) as run:
        (run.checkpoints / "step-00000001").mkdir(parents=True)
    elsewhere = {**run.environment(), key: "another"}
    monkeypatch.setattr(run_module, "environment", lambda: elsewhere)
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    said = f"{key} .*, here another.*--allow-inexact"
    with pytest.raises(ValueError, match=said), open_run("a", CONFIG):
        pass
    assert before == {p.name: p.read_bytes() for p in run.path.iterdir() if p.is_file()}

    monkeypatch.setenv("DISTILKIT_ALLOW_INEXACT", "1")
    with open_run("a", CONFIG):
        pass
    (different,) = run.environment()["inexact"][0]  # what began elsewhere says so
    assert different.startswith(key)


def test_allowing_it_is_for_one_command(home, monkeypatch):
    monkeypatch.delenv("DISTILKIT_ALLOW_INEXACT", raising=False)
    seen = []

    def verb(_options):
        """Note what a run would read."""
        seen.append(os.environ["DISTILKIT_ALLOW_INEXACT"])

    monkeypatch.setitem(train.VERBS, "doctor", (verb, None))
    assert main(["--allow-inexact", "doctor"]) == main(["doctor", "--allow-inexact"]) == 0
    assert main(["doctor"]) == 0
    assert seen == ["1", "1", ""]


def test_other_conditions_do_not_matter_before_the_first_checkpoint_or_after_the_end(
    home, monkeypatch
):
    with open_run("a", CONFIG) as run:
        pass
    elsewhere = {**run.environment(), "torch_threads": 99}
    monkeypatch.setattr(run_module, "environment", lambda: elsewhere)
    with open_run("a", CONFIG):
        assert run.environment()["torch_threads"] == 99  # where it really begins
        run.finish({})
    monkeypatch.setattr(run_module, "environment", lambda: {**elsewhere, "torch_threads": 7})
    with open_run("a", CONFIG):
        assert run.environment()["torch_threads"] == 99


# --- one writer ---------------------------------------------------------------------------------


def test_a_second_opening_in_one_process_is_refused(home):
    """Otherwise two threads of a notebook would write into one file."""
    with (
        open_run("a", CONFIG),
        pytest.raises(RunBusy, match="another process"),
        open_run("a", CONFIG),
    ):
        pass
    with open_run("a", CONFIG):
        pass


def test_the_lock_is_released_after_an_exception(home):
    with pytest.raises(ZeroDivisionError), open_run("a", CONFIG):
        raise ZeroDivisionError
    with open_run("a", CONFIG):
        pass


HOLD = (
    "import sys, time; sys.path.insert(0, sys.argv[1])\n"
    "from pathlib import Path\n"
    "from distilkit.run import open_run\n"
    "with open_run('a', {'seed': 1}) as run:\n"
    "    (run.path / 'held').touch()\n"
    "    time.sleep(100)\n"
)


@pytest.mark.processes
@pytest.mark.faults
def test_a_second_process_is_refused_until_the_first_has_died(home):
    refused = []

    def ready() -> bool:
        if not (home / "runs" / "a" / "held").exists():
            return False
        with pytest.raises(RunBusy, match="being written") as error, open_run("a", {"seed": 1}):
            pass
        refused.append(str(error.value))
        return True

    assert kill_when(Forked(["-c", HOLD, str(ROOT)]), ready) == -signal.SIGKILL
    assert len(refused) == 1
    assert str(home / "runs" / "a") in refused[0]
    with open_run("a", {"seed": 1}) as run:  # the kernel gave the lock back with the process
        assert run.config() == {"seed": 1}


# --- finished -----------------------------------------------------------------------------------


def test_finish(home):
    with open_run("a", CONFIG) as run:
        (run.checkpoints / "step-00000001").mkdir(parents=True)
        assert not run.finished
        run.finish({"loss": 0.5, "scores": {"validation": {"accuracy": None}}})
        assert run.finished
    assert run.result() == {"loss": 0.5, "scores": {"validation": {"accuracy": None}}}
    with open_run("a", CONFIG) as again:
        assert again.finished
    assert not [path for path in run.path.iterdir() if "tmp" in path.name]


def test_predictions_are_kept_and_only_those_of_a_finished_run_are_given(home):
    logits = {"validation": np.array([[0.5, -1.0]], np.float32), "test": np.ones((0, 2), "f4")}
    with open_run("a", CONFIG) as run:
        run.keep_predictions(logits)
        with pytest.raises(FileNotFoundError, match="'a' is not finished"):
            run.predictions()
        run.finish({})
    kept = run.predictions()
    assert kept.keys() == logits.keys()
    assert all(np.array_equal(kept[split], logits[split]) for split in logits)
    (run.path / "predictions.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"damaged .*delete the folder"):
        run.predictions()
    (run.path / "predictions.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="'a' has no predictions"):
        run.predictions()


def test_a_result_that_is_not_json_does_not_finish_the_run(home):
    with open_run("a", CONFIG) as run:
        with pytest.raises(ValueError, match="JSON"):
            run.finish({"loss": float("nan")})
        assert not run.finished


# --- metrics ------------------------------------------------------------------------------------


def rows(*steps: int) -> list[dict]:
    return [{"step": k, "split": "train", "loss": 1 / k} for k in steps]


def filled(*steps: int) -> Run:
    with open_run("a", CONFIG) as run:
        for row in rows(*steps):
            run.log(row)
    return run


def test_metrics_round_trip_every_digit(home):
    run = filled(1, 2, 3)
    assert run.rows() == rows(1, 2, 3)
    assert [row["loss"].hex() for row in run.rows()] == [(1 / k).hex() for k in (1, 2, 3)]
    text = (run.path / "metrics.jsonl").read_text()
    assert [json.loads(line) for line in text.splitlines()] == rows(1, 2, 3)


def test_no_metrics_yet(home):
    with open_run("a", CONFIG) as run:
        assert run.rows() == []
        assert run.metrics().empty


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metrics_are_strict_json(home, value):
    run = filled(1)
    with pytest.raises(ValueError, match="JSON"):
        run.log({"step": 2, "split": "train", "loss": value})
    assert run.rows() == rows(1)


@pytest.mark.parametrize("cut", [1, 2, 10, 30])
def test_a_last_line_cut_off_is_left_out(home, cut):
    run = filled(1, 2, 3)
    path = run.path / "metrics.jsonl"
    whole = path.read_bytes()
    os.truncate(path, len(whole) - cut)
    assert run.rows() == rows(1, 2)
    run.truncate_metrics(3)  # as a resumed run does: the half line is gone for good
    run.log(rows(3)[0])
    assert path.read_bytes() == whole


def test_truncate_metrics(home):
    run = filled(1, 2, 3, 4)
    run.log({"step": 4, "split": "validation", "loss": 2.0})
    run.truncate_metrics(3)
    assert run.rows() == rows(1, 2, 3)
    run.truncate_metrics(0)
    assert run.rows() == []
    assert (run.path / "metrics.jsonl").read_text() == ""


def test_truncate_metrics_without_a_file(home):
    with open_run("a", CONFIG) as run:
        run.truncate_metrics(5)
        assert run.rows() == []


def test_a_crash_while_truncating_loses_nothing(home, monkeypatch):
    run = filled(1, 2, 3)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module.os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            run.truncate_metrics(1)
    assert run.rows() == rows(1, 2, 3)


def test_metrics_as_a_table_of_one_split(home):
    run = filled(1, 2)
    run.log({"step": 2, "split": "validation", "loss": 9.0, "mlm": 8.0})
    assert run.metrics().to_dict("records") == rows(1, 2)
    table = run.metrics("validation")
    assert list(table.columns) == ["step", "split", "loss", "mlm"]
    assert table.mlm.tolist() == [8.0]


# --- where it ran -------------------------------------------------------------------------------


def test_the_environment_holds_no_environment_variable(home, monkeypatch):
    canary = "hf_canary0123456789"
    for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "DISTILKIT_SECRET"):
        monkeypatch.setenv(name, canary)
    with open_run("a", CONFIG) as run:
        run.finish({})
    for path in run.path.rglob("*"):
        if path.is_file():
            assert canary not in path.read_text(), path
    text = json.dumps(environment())
    inherited = {value for value in os.environ.values() if len(value) >= 12}
    assert inherited, "nothing to look for"
    assert not [value for value in inherited if value in text]


def test_the_environment_says_versions_machine_and_commit(home):
    import torch
    import transformers

    found = environment()
    assert found["torch"] == torch.__version__
    assert found["transformers"] == transformers.__version__
    assert found["torch_threads"] == torch.get_num_threads()
    assert found["cpu_count"] == os.cpu_count()
    assert json.loads(json.dumps(found)) == found
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    expected = head[:12] if (ROOT / ".git").exists() else ""  # not that of one around this
    assert found["commit"].removesuffix("+changes") == (expected or "unknown")


def test_no_git_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert run_module.commit() == "unknown"


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "key"),
    [
        ({"objective": {"mlm": 2.0}}, "objective"),
        ({"task_objective": None}, "task_objective"),
        ({"training": {"steps": 3, "validate_every": 1}}, r"training\.validate_every"),
        ({"training": {"steps": 3, "log_every": 1}}, r"training\.log_every"),
    ],
)
def test_a_run_of_before_the_renaming_is_refused_by_name_and_never_half_read(home, old, key):
    folder = home / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **old}))
    (folder / "result.json").write_text('{"seconds": 1.0}')
    before = sorted(folder.iterdir())
    refusal = rf"run 'a' was made before .*{key}\b.*delete the folder .*a"
    for read in (Run(folder).config, Run(folder).result, Run(folder).predictions):
        with pytest.raises(ValueError, match=refusal):
            read()
    assert sorted(folder.iterdir()) == before
    with pytest.raises(ValueError, match=refusal), open_run("a", CONFIG):
        pytest.fail("it was opened")


def test_reading_changes_nothing(home):
    run = filled(1, 2)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in run.path.iterdir()}
    same = Run(run.path)
    assert same.config()
    assert same.environment()
    assert same.rows() == rows(1, 2)
    assert not same.finished
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in run.path.iterdir()} == before
