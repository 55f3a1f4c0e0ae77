"""The live view without a browser: what it reads of a run, and what Stop does."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from toy_models import small_bert

from distilkit import TrainingConfig, pretrain, training_view
from distilkit.config import MLM_ONLY
from distilkit.data.packing import pack
from distilkit.masking import MaskedBlocks
from distilkit.panels.training import MAX_POINTS, Stopped, panel_value
from distilkit.run import Run, open_run

TRAINING = TrainingConfig(
    steps=40, batch_size=4, micro_batch_size=4, learning_rate=1e-3, seed=0, log_interval=1
)


@pytest.fixture
def train(texts, tokenizer):
    blocks = MaskedBlocks(pack(texts, tokenizer, 16), tokenizer, seed=0)

    def train(training: TrainingConfig = TRAINING) -> Run:
        return pretrain(small_bert(2), blocks, training, loss_config=MLM_ONLY, name="live")

    return train


@pytest.mark.slow
def test_the_panel_ends_with_what_the_run_wrote(home, train, capsys):
    with training_view("live", about={"commit": "c"}) as panel:
        run = train()
    value = panel.value
    assert (value["name"], value["state"], value["steps"]) == ("live", "finished", 40)
    assert value["about"] == {"commit": "c"}
    assert "soft_target" not in value["train"]  # without weight it is logged as 0
    rows = run.metrics()
    for curve in ("step", "mlm", "loss", "learning_rate", "tokens_per_second"):
        assert value["train"][curve] == rows[curve].tolist()


@pytest.mark.slow
def test_a_run_by_epochs_knows_its_steps(home, train):
    with training_view("live") as panel:
        run = train(TrainingConfig(epochs=2, batch_size=16, micro_batch_size=16, seed=0))
    assert panel.value["steps"] == run.result()["steps"] == run.rows()[-1]["step"]


def test_stop_leaves_a_checkpoint_and_the_next_call_goes_on(home, train):
    def press(panel) -> None:
        while not (panel.value["train"]["step"] or [0])[-1]:
            time.sleep(0.02)
        for _ in range(3):  # as JupyterLab does: from another thread; and by an impatient reader
            panel._handle_custom_msg({"ask": "stop"}, [])

    shown = []

    def watched() -> None:
        with training_view("live") as panel:
            shown.append(panel)
            threading.Thread(target=press, args=(panel,), daemon=True).start()
            train(replace(TRAINING, steps=100_000))

    with pytest.raises(Stopped, match="live is stopped: run this cell again"):
        watched()
    (panel,) = shown
    assert panel.value["state"] == "stopped"
    run = Run(home / "runs" / "live")
    assert not run.finished
    assert list(run.checkpoints.iterdir())
    panel._handle_custom_msg({"ask": "stop"}, [])  # too late: it must not interrupt this test
    time.sleep(0.2)


def test_a_failure_is_shown_and_raised(home):
    with pytest.raises(RuntimeError, match="out of luck"):  # noqa: SIM117
        with training_view("live") as panel:
            raise RuntimeError("out of luck")
    assert panel.value["state"] == "failed"
    with training_view("live") as panel:
        pass  # trained under another name, or not at all
    assert panel.value["state"] == "not finished"
    with pytest.raises(ValueError, match="run name"), training_view("../x"):
        pass


@pytest.mark.slow
def test_long_curves_are_thinned_and_keep_their_ends(home):
    with open_run("long", {"training": {"steps": 5000}, "examples": 1}) as run:
        for step in range(1, 5001):
            run.log({"step": step, "split": "train", "loss": 1 / step})
    curve = panel_value(run, "running")["train"]
    assert len(curve["step"]) <= MAX_POINTS
    assert curve["step"][-1] == 5000
    assert curve["step"][0] < 20
    assert curve["loss"] == [1 / step for step in curve["step"]]
    assert set(np.diff(curve["step"])) == {13}
