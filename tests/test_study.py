"""The study on a toy: every arm, every seed, resumed without training anything twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import small_bert
from safetensors.torch import load_file

from distilkit import study
from distilkit.__main__ import main
from distilkit.config import SCALES
from distilkit.figure_study import plot_study
from distilkit.run import Run
from distilkit.study import ARMS, arm_checkpoint, run_study

TINY = SCALES["tiny"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory, tokenizer):
    """A scale whose teacher has one word for each token of the fixture's tokenizer."""
    folder = tmp_path_factory.mktemp("teacher")
    small_bert(4, max_position_embeddings=128).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    text = folder / "text.txt"
    text.write_text("".join(f"w{i} w{i + 1} w{i + 2} w3 w{2 * i}\n" for i in range(90)))
    return replace(
        TINY,
        teacher=str(folder),
        text=str(text),
        tasks=("cola", "mnli"),
        length=16,
        distillation=replace(TINY.distillation, steps=6, batch_size=4, micro_batch_size=4),
        finetuning=replace(TINY.finetuning, steps=2),
    )


@pytest.fixture(scope="module")
def studied(toy, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILKIT_HOME", str(home))
        table = run_study(toy, (11, 12), out=home / "out" / "study.csv")
    return home, table


def test_a_row_per_arm_seed_and_task_and_the_file_says_the_same(studied):
    home, table = studied
    assert len(table) == len(ARMS) * 2 * 2
    assert list(dict.fromkeys(table.arm)) == list(ARMS)
    assert set(table.seed) == {11, 12}
    written = pd.read_csv(home / "out" / "study.csv")
    assert list(written) == ["arm", "seed", "task", "metric", "score", "train_seconds"]
    pd.testing.assert_frame_equal(written, table.round({"score": 4}), check_dtype=False)
    assert table.score.abs().max() <= 100


def test_scores_are_those_of_the_test_sets(studied):
    home, table = studied
    result = Run(home / "runs" / "study-tiny-distilled-mnli-12").result()
    assert list(result["scores"]) == ["test_matched"]
    row = table[(table.arm == "distilled") & (table.seed == 12) & (table.task == "mnli")]
    assert row.score.item() == pytest.approx(100 * result["scores"]["test_matched"]["accuracy"])


def test_arms_are_what_they_say(studied, toy):
    home, _ = studied
    runs = {arm: Run(home / "runs" / f"study-tiny-{arm}-11") for arm in ARMS}
    objective = {arm: run.config()["objective"] for arm, run in runs.items() if run.finished}
    assert set(objective) == {"distilled", "mlm_equal_steps", "mlm_equal_time", "random_init"}
    assert objective["distilled"] == objective["random_init"]
    assert objective["distilled"]["soft_target"] == toy.objective.soft_target
    for arm in ("mlm_equal_steps", "mlm_equal_time"):
        assert (objective[arm]["soft_target"], objective[arm]["cosine"]) == (0, 0)
    start = {arm: run.config()["model"]["sha256"] for arm, run in runs.items() if run.finished}
    assert start["distilled"] == start["mlm_equal_steps"] == start["mlm_equal_time"]
    assert start["random_init"] != start["distilled"]
    steps = {arm: run.result()["steps"] for arm, run in runs.items() if run.finished}
    assert steps["distilled"] == steps["mlm_equal_steps"] == steps["random_init"] == 6
    took = {arm: runs[arm].result()["seconds"] for arm in ("distilled", "mlm_equal_steps")}
    ratio = took["distilled"] / took["mlm_equal_steps"]
    assert steps["mlm_equal_time"] == pytest.approx(max(1, 6 * ratio), abs=0.51)
    scratch = home / "data" / "cache" / "study-tiny-scratch-11" / "model.safetensors"
    assert not np.array_equal(
        load_file(scratch)["vocab_transform.weight"],
        load_file(runs["distilled"].model / "model.safetensors")["vocab_transform.weight"],
    )


def test_seeds_differ(studied):
    home, _ = studied
    one, two = (
        load_file(home / "runs" / f"study-tiny-distilled-{seed}" / "model" / "model.safetensors")
        for seed in (11, 12)
    )
    assert not one["vocab_transform.weight"].equal(two["vocab_transform.weight"])


def test_a_second_call_only_reads(studied, toy, monkeypatch):
    home, table = studied
    monkeypatch.setenv("DISTILKIT_HOME", str(home))
    monkeypatch.setattr("distilkit.pretraining.train", None)
    monkeypatch.setattr("distilkit.finetuning.train", None)
    again = run_study(toy, (11, 12), out=home / "again.csv")
    pd.testing.assert_frame_equal(again, table)


def test_from_the_command_line(studied, tmp_path, monkeypatch, capsys):
    asked = []

    def run(scale, seeds, *, out):
        asked.append((scale, seeds, out))
        return studied[1]

    monkeypatch.setattr("distilkit.study.run_study", run)
    out = tmp_path / "study.csv"
    plan = ["study", "--steps", "7", "--epochs", "2", "--seeds", "11", "12", "--out", str(out)]
    assert main(plan) == 0
    said = capsys.readouterr().out
    assert said.count("points, 95 % interval") == len(ARMS) - 1
    assert main(["study"]) == 0
    (changed, seeds, to), (default, all_seeds, at_home) = asked
    assert (changed.distillation.steps, changed.finetuning.epochs) == (7, 2)
    assert (seeds, to) == ([11, 12], out)
    assert (default, tuple(all_seeds)) == (TINY, study.SEEDS)
    assert at_home == TINY.figures / "study.csv"
    assert main(["study", "--steps", "0"]) == 2
    assert "steps" in capsys.readouterr().err


def test_unknown_arm_and_missing_measurement(home, toy):
    with pytest.raises(ValueError, match="unknown arm 'best': give one of teacher, distilled"):
        arm_checkpoint("best", toy)
    with pytest.raises(RuntimeError, match="study-tiny-distilled-1 is not finished"):
        study._steps_in_equal_time(toy)


def test_figure_says_every_arm(studied):
    figure = plot_study(studied[1])
    left = figure.axes[0]
    labels = [label.get_text().replace("\n", "") for label in left.get_yticklabels()]
    assert [label.replace(" ", "") for label in labels] == list(ARMS)
    assert "2 seeds" in left.get_title(loc="left")
    with pytest.raises(ValueError, match="'distilled' and at least one other"):
        plot_study(studied[1][studied[1].arm == "teacher"])
