"""The study on a toy: every arm, every seed, resumed without training anything twice."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fewer_rows import fewer_rows
from safetensors.torch import load_file
from toy_models import small_bert
from transformers import BertForMaskedLM, BertForSequenceClassification

from distilkit import distillation, finetuning
from distilkit.cli.main import main
from distilkit.config import SCALES, SHIPPED, FinetuneLossConfig
from distilkit.data.sources import load_task
from distilkit.measure import latency
from distilkit.plots.study import plot_study
from distilkit.run import Run, as_json, fingerprint
from distilkit.student import named_layer_maps, student_from_teacher
from distilkit.study import cost, study
from distilkit.study.conditions import ARMS, SEEDS
from distilkit.study.cost import Cost, Step
from distilkit.study.study import (
    COLUMNS,
    join_studies,
    measured_split,
    run_study,
)

pytestmark = pytest.mark.slow

TINY = SCALES["tiny"]


# A kind of arm each; the others differ in settings only
TRAINED = (
    *("teacher", "distilled", "mlm_equal_steps", "mlm_equal_time", "random_init", "scratch"),
    *("without_mlm", "last_layers", "distilled_twice"),
)


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
        glue=str(fewer_rows(SHIPPED / "glue", folder / "glue", 35)),
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
        table = run_study(toy, (11, 12), TRAINED, out=home / "out" / "study.csv")
    return home, table


def test_a_row_per_arm_seed_and_task_and_the_file_says_the_same(studied):
    home, table = studied
    assert len(table) == len(TRAINED) * 2 * 2
    assert tuple(dict.fromkeys(table.arm)) == TRAINED
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


@pytest.mark.parametrize(
    ("arm", "changed"),
    [
        ("random_init", {}),
        ("every_other", {}),
        ("without_soft_target", {"kd_weight": 0}),
        ("without_cosine", {"cosine_weight": 0}),
        ("without_mlm", {"mlm_weight": 0}),
        ("copied_soft_targets", {"mlm_weight": 0, "cosine_weight": 0}),
        ("random_cosine", {"kd_weight": 0, "mlm_weight": 0}),
        ("random_mlm", {"kd_weight": 0, "mlm_weight": 1, "cosine_weight": 0}),
        ("temperature_1", {"temperature": 1}),
        ("temperature_4", {"temperature": 4}),
        ("temperature_8", {"temperature": 8}),
        ("weights_1_1_1", {"kd_weight": 1, "mlm_weight": 1, "cosine_weight": 1}),
        ("weights_5_2_1", {"kd_weight": 5, "mlm_weight": 2, "cosine_weight": 1}),
        ("random_without_mlm", {"mlm_weight": 0}),
        ("random_temperature_8", {"temperature": 8}),
    ],
)
def test_an_arm_has_the_loss_that_it_says(toy, arm, changed):
    assert ARMS[arm].random_init == arm.startswith("random_")
    assert as_json(ARMS[arm].loss_config(toy)) == as_json(toy.loss_config) | changed


def test_arms_copy_the_layers_that_they_say():
    maps = named_layer_maps(4)
    for arm, layers in {
        "first_layers": (0, 1),
        "last_layers": (2, 3),
        "every_other": (0, 2),
    }.items():
        assert maps[ARMS[arm].layers] == layers


def test_runs_are_what_their_arms_say(studied, toy):
    home, _ = studied
    runs = {arm: Run(home / "runs" / f"study-tiny-{arm}-11") for arm in TRAINED}
    loss_config = {arm: run.config()["loss_config"] for arm, run in runs.items() if run.finished}
    assert set(TRAINED) - set(loss_config) == {"teacher", "scratch", "distilled_twice"}
    assert all(loss_config[arm] == as_json(ARMS[arm].loss_config(toy)) for arm in loss_config)
    assert loss_config["distilled"] == as_json(toy.loss_config)
    start = {arm: run.config()["model"]["sha256"] for arm, run in runs.items() if run.finished}
    assert start["distilled"] == start["mlm_equal_steps"] == start["mlm_equal_time"]
    of_teacher = BertForMaskedLM.from_pretrained(toy.teacher)
    for arm, layers in {"distilled": (0, 3), "last_layers": (2, 3)}.items():
        assert start[arm] == fingerprint(student_from_teacher(of_teacher, layers))["sha256"]
    assert start["random_init"] not in {start["distilled"], start["last_layers"]}
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


def test_who_is_distilled_twice_learns_from_the_fine_tuned_teacher(studied):
    home, _ = studied
    once, twice, teacher = (
        Run(home / "runs" / f"study-tiny-{arm}-cola-11")
        for arm in ("distilled", "distilled_twice", "teacher")
    )
    assert once.config()["model"] == twice.config()["model"]
    assert once.config()["teacher"] is None
    assert twice.config()["loss_config"] == as_json(FinetuneLossConfig())
    kept = BertForSequenceClassification.from_pretrained(teacher.model)
    assert twice.config()["teacher"] == fingerprint(kept) | {"name": str(teacher.model)}
    assert not once.model.is_dir()


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
    monkeypatch.setattr(distillation, "train", None)
    monkeypatch.setattr(finetuning, "train", None)
    again = run_study(toy, (11, 12), TRAINED, out=home / "again.csv")
    pd.testing.assert_frame_equal(again, table)


def test_from_the_command_line(studied, tmp_path, monkeypatch, capsys):
    asked = []

    def run(scale, seeds, arms, *, out, teacher_cache, dry):
        asked.append((scale, seeds, arms, out))
        return None if dry else studied[1]

    monkeypatch.setattr(study, "run_study", run)
    out = tmp_path / "study.csv"
    plan = ["study", "--steps", "7", "--epochs", "2", "--seeds", "11", "12", "--out", str(out)]
    assert main(plan) == 0
    said = capsys.readouterr().out
    assert said.count("points, 95 % interval") == len(TRAINED) - 1
    assert main(["study"]) == 0
    (changed, seeds, all_arms, to), (default, all_seeds, _, at_home) = asked
    assert tuple(all_arms) == tuple(ARMS)
    assert main(["study", "--arms", "teacher", "without_mlm", "--dry-run"]) == 0
    assert asked[-1][2] == ["teacher", "without_mlm"]
    assert (changed.distillation.steps, changed.finetuning.epochs) == (7, 2)
    assert (seeds, to) == ([11, 12], out)
    assert (default, tuple(all_seeds)) == (TINY, SEEDS)
    assert at_home == TINY.figures / "study.csv"
    assert main(["study", "--steps", "0"]) == 2
    assert "steps" in capsys.readouterr().err
    few = ["study", "--tasks", "cola", "stsb", "--precision", "bf16", "--glue", "folder"]
    assert main(few) == 0
    parts, _, _, to = asked[-1]
    assert (parts.tasks, parts.distillation.precision) == (("cola", "stsb"), "bf16")
    assert (parts.glue, changed.glue) == ("folder", TINY.glue)
    assert (parts.finetuning, to) == (TINY.finetuning, TINY.figures / "parts.csv")
    assert parts.name != TINY.name  # the whole study's runs have another training


def test_one_arm_is_one_command_and_the_parts_make_the_table(studied, toy, tmp_path, monkeypatch):
    """On two machines: the parts are what the whole plan says, and join in any order."""
    table = studied[1]
    monkeypatch.setenv("DISTILKIT_HOME", str(tmp_path))
    parts = []
    for arm in ("without_mlm", "distilled_twice"):
        parts.append(tmp_path / f"{arm}.csv")
        alone = run_study(toy, (12,), (arm,), out=parts[-1])
        assert set(alone.arm) == {arm}
    joined = join_studies(parts, out=tmp_path / "joined.csv")
    whole = table[(table.seed == 12) & table.arm.isin(["without_mlm", "distilled_twice"])]
    same = ["arm", "seed", "task", "metric", "score"]
    pd.testing.assert_frame_equal(
        joined[same].sort_values(same).reset_index(drop=True),
        whole[same].sort_values(same).reset_index(drop=True).round({"score": 4}),
    )
    with pytest.raises(ValueError, match="without_mlm, seed 12, cola is there twice"):
        join_studies([*parts, parts[0]], out=tmp_path / "joined.csv")
    part, other = pd.read_csv(parts[1]), tmp_path / "other.csv"
    part.drop(columns="seed").to_csv(other, index=False)
    with pytest.raises(ValueError, match="is no table of a study"):
        join_studies([other], out=tmp_path / "joined.csv")
    part.query("task != 'cola'").to_csv(other, index=False)
    with pytest.raises(ValueError, match="distilled_twice, seed 12, cola is missing"):
        join_studies([parts[0], other], out=tmp_path / "joined.csv")
    assert list(pd.read_csv(tmp_path / "joined.csv")) == COLUMNS  # the old one stands
    assert main(["study", "--join", *map(str, parts), "--out", str(tmp_path / "by.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "by.csv")) == 4


def test_arms_may_share_what_the_teacher_says(studied, toy, tmp_path, monkeypatch):
    """All of a seed but those whose time is measured; one cache, about the same student."""
    monkeypatch.setenv("DISTILKIT_HOME", str(tmp_path))
    arms = ("distilled", "without_mlm", "temperature_8")
    table = run_study(toy, (12,), arms, out=tmp_path / "study.csv", teacher_cache=True)
    assert len(table) == 6
    kept = {arm: Run(tmp_path / "runs" / f"study-tiny-{arm}-12").config() for arm in arms}
    assert "teacher_cache" not in kept["distilled"]
    assert kept["without_mlm"]["teacher_cache"] == kept["temperature_8"]["teacher_cache"]
    assert len(list((tmp_path / "data" / "cache").glob("teacher-*"))) == 1
    cached, live = (
        load_file(at / "runs" / "study-tiny-without_mlm-12" / "model" / "model.safetensors")
        for at in (tmp_path, studied[0])
    )
    for name, weight in cached.items():
        assert (weight - live[name]).abs().max() < 0.05 * live[name].abs().max(), name
    (cache,) = (tmp_path / "data" / "cache").glob("teacher-*")
    shutil.rmtree(cache)  # who only reads what is finished does not ask the teacher again
    again = run_study(toy, (12,), arms, out=tmp_path / "study.csv", teacher_cache=True)
    pd.testing.assert_frame_equal(again, table)
    assert not cache.exists()


def test_the_cost_is_said_before_and_what_is_left_while_it_runs(
    home, toy, tmp_path, capsys, monkeypatch
):
    """Counted by hand: a distillation and two fine-tunings of each arm, and what they need."""
    out = tmp_path / "study.csv"
    assert run_study(toy, (12,), ("mlm_equal_time", "scratch"), out=out, dry=True) is None
    said = capsys.readouterr().out
    assert "left to do: pretrainings 3, fine-tunings 4, 1 at once" in said
    assert not (home / "runs").exists() or not list((home / "runs").glob("study*"))
    monkeypatch.setattr(latency, "TIMED", 1)
    run_study(toy, (12,), ("mlm_equal_time", "scratch"), out=out)
    said = capsys.readouterr().out
    assert said.index("time    about") < said.index("% done, about")
    run_study(toy, (12,), ("mlm_equal_time", "scratch"), out=out)
    assert "everything is there already" in capsys.readouterr().out


def test_the_cost_is_printed_with_the_time_of_all_workers():
    steps = [Step("distil", "distilled", seed, None, True) for seed in (1, 2)]
    cost = Cost(dict.fromkeys(steps, 5400.0), workers=2)
    assert "about 1 h 30 min" in str(cost)


def test_unknown_arm_and_missing_measurement(home, toy):
    with pytest.raises(FileNotFoundError, match="'study-tiny-distilled-1' is not finished"):
        study._steps_in_equal_time(toy)
    with pytest.raises(ValueError, match="unknown arm 'best': give one of teacher, distilled"):
        run_study(toy, (1,), ("distilled", "best"), out=home / "study.csv")


def test_glue_is_measured_on_validation_sets_and_unlabelled_ones_are_refused_first(toy, home):
    """GLUE's own test sets have no labels; the tiny scale's have."""
    assert measured_split(toy) == "test"
    assert measured_split(SCALES["base"]) == "validation"
    (home / "glue" / "cola").mkdir(parents=True)
    for part, labels in (("train", [0, 1]), ("validation", [-1, -1])):
        rows = pd.DataFrame({"sentence": ["w1 w2"] * 2, "label": labels, "idx": [0, 1]})
        rows.to_parquet(home / "glue" / "cola" / f"{part}.parquet")
    hub = replace(toy, glue=str(home / "glue"), tasks=("cola",))
    assert measured_split(hub) == "validation"
    with pytest.raises(ValueError, match="no labelled examples in 'validation'"):
        run_study(hub, (1,), ("distilled",), out=home / "study.csv")
    assert not (home / "runs").exists()


def test_figure_says_every_arm(studied):
    figure = plot_study(studied[1])
    left = figure.axes[0]
    labels = [label.get_text().replace("\n", "") for label in left.get_yticklabels()]
    assert [label.replace(" ", "") for label in labels] == list(TRAINED)
    assert left.get_title(loc="left") == "Dots: 2 seeds; bar: median"
    some = studied[1].query("arm == 'distilled' or seed == 11")
    assert plot_study(some).axes[0].get_title(loc="left") == "Dots: 1 to 2 seeds; bar: median"
    assert "2 seeds" in left.get_title(loc="left")
    with pytest.raises(ValueError, match="'distilled' and at least one other"):
        plot_study(studied[1][studied[1].arm == "teacher"])


def test_what_was_trained_otherwise_is_refused_before_anything_is_trained(
    studied, toy, tmp_path, monkeypatch
):
    monkeypatch.setenv("DISTILKIT_HOME", str(studied[0]))
    monkeypatch.setattr(study, "run_parallel", None)
    longer = replace(toy, distillation=replace(toy.distillation, steps=7))
    with pytest.raises(ValueError, match=r"study-tiny-distilled-11 was begun with steps = 6"):
        run_study(longer, (11, 12), ("distilled",), out=studied[0] / "no.csv")
    longer = replace(toy, finetuning=replace(toy.finetuning, steps=3))
    with pytest.raises(ValueError, match=r"was begun with steps = 2, here 3"):
        run_study(longer, (11, 12), ("teacher",), out=studied[0] / "no.csv")
    for task in toy.tasks:
        rows = load_task(toy, task)["train"].select(range(30))
        (tmp_path / task).mkdir()
        for split in ("train", "validation"):
            rows.to_parquet(tmp_path / task / f"{split}.parquet")
    fewer = replace(toy, glue=str(tmp_path))
    with pytest.raises(ValueError, match=r"begun with examples = \d+, here 30"):
        study.study_steps({11: fewer}, ("teacher",))


def test_how_many_are_left_does_not_decide_the_threads(studied, toy, monkeypatch):
    """One that is left of many goes on as it began: beside the others, with as few threads."""
    monkeypatch.setenv("DISTILKIT_HOME", str(studied[0]))
    run = studied[0] / "runs" / "study-tiny-distilled-11"
    aside, seen, shared = run.with_name("aside"), [], []

    def stop(call, items, title):
        seen.extend(items)
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run_parallel", stop)
    monkeypatch.setattr(cost, "workers_and_threads", lambda items: shared.append(items) or (1, 1))
    run.rename(aside)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_study(toy, (11, 12), ("distilled", "random_init"), out=studied[0] / "no.csv")
    finally:
        aside.rename(run)
    assert len(seen) == 4  # two arms, two seeds
    assert shared == [4 + 4 * len(toy.tasks)]  # the cost is of as many at once


def test_a_part_of_a_study_needs_a_file_of_its_own(home, capsys):
    assert main(["study", "--arms", "without_mlm"]) == 2
    assert "name its file with --out" in capsys.readouterr().err
