"""The compression frontier on a toy: every variant and engine, nothing trained twice."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from exported_once import exported_once
from fewer_rows import fewer_rows
from scipy.stats import pearsonr
from toy_models import small_bert
from transformers import ElectraConfig, ElectraForMaskedLM

from distilkit import finetuning
from distilkit.cli.main import main
from distilkit.compress import engines, frontier
from distilkit.compress.engines import (
    bench_compression,
    engine_costs,
    export_engines,
    resident_mib,
)
from distilkit.compress.frontier import (
    COLUMNS,
    Plan,
    encoded,
    pruned_student,
    recovery,
    run_frontier,
)
from distilkit.compress.pareto import frontier_points
from distilkit.config import SCALES, SHIPPED
from distilkit.data.own_task import task_from
from distilkit.data.sources import load_task
from distilkit.data.tasks import Task
from distilkit.finetuning import classifier, fine_tuned_on, predict
from distilkit.measure.latency import time_passes
from distilkit.measure.size import bytes_on_disk
from distilkit.models.loading import load_tokenizer
from distilkit.models.pruning import layers_of
from distilkit.run import Run, fingerprint
from distilkit.student import student_from_teacher

pytestmark = pytest.mark.slow

TINY = SCALES["tiny"]
VARIANTS = ["teacher", "1 layer", "1 layer, 50 % kept"]


@pytest.fixture(scope="module", autouse=True)
def each_model_exported_once(tmp_path_factory):
    with exported_once(tmp_path_factory):
        yield


@pytest.fixture(scope="module")
def toy(tmp_path_factory, tokenizer):
    """A teacher of 2 layers and two students of 1: exporting takes a second a layer."""
    folder = tmp_path_factory.mktemp("toy")
    teacher = small_bert(2)
    teacher.save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    students = []
    for i, layers in enumerate(((0,), (1,))):
        students.append(folder / f"student-{i}")
        student_from_teacher(teacher, layers).save_pretrained(students[-1])
    scale = replace(
        TINY,
        teacher=str(folder / "teacher"),
        glue=str(fewer_rows(SHIPPED / "glue", folder / "glue", 60)),
        tasks=("sst2", "stsb"),
        seeds=(3,),
        length=16,
        finetuning=replace(TINY.finetuning, steps=6),
    )
    return scale, students


@pytest.fixture(scope="module")
def made(toy, tmp_path_factory):
    """The home and the table. Memory, a process for each engine, is not measured."""
    scale, students = toy
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILKIT_HOME", str(home))
        patch.setattr(engines, "resident_mib", lambda *_, **__: 64.0)
        patch.setattr(frontier, "KEEP_RATIOS", (0.5,))
        table = run_frontier(scale, students, out=home / "out" / "f.csv", examples=20)
    return home, table


def test_a_row_for_everything_and_the_file_says_the_same(made):
    home, table = made
    assert list(table) == list(COLUMNS)
    keys = list(zip(table.task, table.seed, table.variant, table.engine, strict=True))
    assert keys == list(itertools.product(("sst2", "stsb"), (3,), VARIANTS, engines.ENGINES))
    pd.testing.assert_frame_equal(pd.read_csv(home / "out" / "f.csv"), table, check_dtype=False)
    assert table.score.between(-100, 100).all()
    assert table.same_answer.isna().equals(table.task == "stsb")
    assert (table.latency_ms_p50 <= table.latency_ms_p95).all()
    assert len(frontier_points(table)) == 9


def test_variants_have_the_shapes_that_they_are_named_for(made):
    _, table = made
    shapes = table.drop_duplicates("variant").set_index("variant")
    assert shapes.depth.tolist() == [2, 1, 1]
    assert shapes.heads.tolist() == [8, 4, 2]
    assert shapes.units.tolist() == [128, 64, 32]
    first = table[table.task == "sst2"].drop_duplicates(["variant", "engine"])
    sizes = first.pivot(index="variant", columns="engine", values="size_mb")
    assert (sizes["onnx int8"] < sizes["onnx fp32"]).all()
    assert sizes["torch fp32"]["1 layer, 50 % kept"] < sizes["torch fp32"]["1 layer"]
    assert shapes.parameters["1 layer, 50 % kept"] < shapes.parameters["1 layer"]


def test_scores_and_agreement_are_of_the_whole_validation_set(made, toy, monkeypatch):
    home, table = made
    monkeypatch.setenv("DISTILKIT_HOME", str(home))
    scale, _ = toy
    tokenizer = load_tokenizer(scale.teacher)
    for task, variant in (("sst2", "1 layer, 50 % kept"), ("stsb", "teacher")):
        slug = {"1 layer, 50 % kept": "1-layer-50-kept"}.get(variant, variant)
        run = Run(home / "runs" / f"frontier-tiny-{slug}-{task}-3")
        held_out = load_task(scale, task)["validation"]
        model = fine_tuned_on(run.model, task)
        logits, labels = predict(model, encoded(model, tokenizer, task, held_out))
        assert len(labels) == len(held_out)
        exact = (
            np.mean(logits.argmax(1) == labels)
            if task == "sst2"
            else pearsonr(logits[:, 0].astype(np.float64), labels)[0]
        )
        rows = table[(table.task == task) & (table.variant == variant) & (table.seed == 3)]
        rows = rows.set_index("engine")
        assert rows.score["torch fp32"] == pytest.approx(100 * exact, abs=1e-5)
        assert rows.score["onnx fp32"] == pytest.approx(100 * exact, abs=0.02)
        assert rows.largest_difference["onnx fp32"] < 1e-4
        assert rows.largest_difference["onnx int8"] > 1e-4


def test_trainings_are_what_they_say(made):
    home, _ = made
    runs = {path.name: Run(path) for path in (home / "runs").glob("*")}
    assert len(runs) == 3 * 2
    whole = runs["frontier-tiny-1-layer-sst2-3"].config()
    pruned = runs["frontier-tiny-1-layer-50-kept-sst2-3"].config()
    assert (whole["training"]["steps"], pruned["training"]["steps"]) == (6, 2)
    assert (whole["teacher"], whole["examples"]) == (None, 20)
    assert pruned["teacher"]["sha256"]
    assert pruned["loss_config"]["kd_weight"] > 0
    folder = runs["frontier-tiny-1-layer-50-kept-stsb-3"].model
    config = json.loads((folder / "config.json").read_text())
    assert sum(config["pruned"]["heads"]) == 2


def test_of_two_students_of_one_depth_each_seed_gets_the_next(toy, home):
    scale, students = toy
    scale = replace(scale, seeds=(5, 6, 7))
    plan = Plan(scale, "mine", frontier._by_depth(scale, students), 20)
    assert plan.students == ((1, tuple(map(str, students))),)
    for seed, student in zip(scale.seeds, (*students, students[0]), strict=True):
        frontier._fine_tune(plan, "1 layer", "sst2", seed)
        config = Run(home / "runs" / f"mine-1-layer-sst2-{seed}").config()
        assert config["model"] == fingerprint(classifier(student, "sst2", seed))


def test_a_second_call_only_reads(made, toy, monkeypatch):
    home, table = made
    scale, students = toy
    monkeypatch.setenv("DISTILKIT_HOME", str(home))
    monkeypatch.setattr(finetuning, "train", None)
    monkeypatch.setattr(frontier, "export_engines", None)
    monkeypatch.setattr(frontier, "KEEP_RATIOS", (0.5,))
    costs = table.drop_duplicates(["variant", "engine"])
    monkeypatch.setattr(frontier, "_costs", lambda *_: costs[["variant", "engine", *COLUMNS[12:]]])
    again = run_frontier(scale, students, out=home / "again.csv", examples=20)
    pd.testing.assert_frame_equal(again, table)


def test_nothing_is_cut_from_the_control(toy, home):
    scale, students = toy
    model = classifier(students[1], "sst2", 0)
    data, tokenizer = load_task(scale, "sst2"), load_tokenizer(scale.teacher)
    same = pruned_student(model, tokenizer, "sst2", data, keep_ratio=1.0)
    weights = same.state_dict()
    assert all(weights[name].equal(value) for name, value in model.state_dict().items())
    assert frontier.KEEP_RATIOS[0] == 1


def test_recovery_is_a_third():
    assert recovery(replace(TINY.finetuning, steps=None, epochs=3)).epochs == 1
    assert recovery(replace(TINY.finetuning, steps=90)).steps == 30
    assert recovery(replace(TINY.finetuning, steps=1)).steps == 1


def test_what_matters_least_goes(toy, home):
    """A head that nothing reads is the first to go."""
    scale, students = toy
    model = classifier(students[1], "sst2", 0)
    layer = layers_of(model)[0]
    layer.out_of_heads.weight.data[:, : layer.head_size] = 0
    data = load_task(scale, "sst2")
    cut = pruned_student(model, load_tokenizer(scale.teacher), "sst2", data, keep_ratio=0.75)
    assert [one.heads for one in layers_of(cut)] == [3]
    kept = layers_of(cut)[0].into_heads[0].weight
    assert kept.equal(layer.into_heads[0].weight[layer.head_size :])


def test_costs_take_turns_and_are_counted_from_the_first_row(toy, tmp_path):
    _, students = toy
    model = classifier(students[0], "sst2", 0)
    table = engine_costs({"a": model}, tmp_path, length=8, runs=4, warmup=1)
    assert table.engine.tolist() == list(engines.ENGINES)
    assert table.faster[0] == table.faster_low[0] == table.faster_high[0] == 1
    assert (table.faster_low <= table.faster).all()
    assert table.size_mb[0] == bytes_on_disk(model) / 1e6
    assert table.size_mb[2] == (tmp_path / "0" / "model_quantized.onnx").stat().st_size / 1e6
    # a process without PyTorch is far smaller than one with it
    assert 10 < table.memory_mib[2] < 0.6 * table.memory_mib[0]
    # and one whose model has 64 MiB more of embeddings holds them
    config = copy.deepcopy(model.config)
    config.vocab_size += 2**19  # of 32 numbers
    larger = type(model)(config).eval()
    files = export_engines(larger, tmp_path / "b").values()
    more = [resident_mib(file, length=8) for file in files] - table.memory_mib[1:]
    assert more.tolist() == pytest.approx([64, 16], rel=0.1)
    (tmp_path / "broken.onnx").write_text("no model")
    with pytest.raises(ValueError, match=r"broken.onnx: the process .* failed"):
        resident_mib(tmp_path / "broken.onnx", length=8)


def test_bench_at_toy_size(toy, monkeypatch, capsys):
    _, students = toy
    pair = {"teacher": classifier(students[1], "sst2", 0)}
    monkeypatch.setattr(engines, "random_pair", lambda: pair)
    costs = []

    def measured(models, folder, **options):
        costs.append(options)
        return engine_costs(models, folder, **{**options, "length": 8}, memory=False)

    def briefly(models, **options):
        return time_passes(models, **{**options, "length": 8})

    monkeypatch.setattr(engines, "engine_costs", measured)
    monkeypatch.setattr(engines, "time_passes", briefly)
    table = bench_compression(runs=2)
    assert costs == [{"length": 128, "runs": 2, "warmup": 3}]
    assert table.share_of_size.tolist() == pytest.approx(table.size_mb / table.size_mb[0])
    monkeypatch.setattr(engines, "engine_costs", lambda *_, **__: table)
    table = table.drop(columns="share_of_size")
    assert main(["bench", "compression"]) == 0
    assert "share_of_size" in capsys.readouterr().out


def test_from_the_command_line(made, toy, monkeypatch, capsys, tmp_path):
    asked = []

    def run(scale, students, **options):
        asked.append((scale, students, options))
        return made[1]

    monkeypatch.setattr(frontier, "run_frontier", run)
    plan = ["frontier", "--tasks", "sst2", "--seeds", "4", "5", "--students", "a", "b"]
    plan += ["--examples", "9", "--epochs", "2", "--out", str(tmp_path / "f.csv"), "--name", "mine"]
    assert main([*plan, "--teacher", "t", "--glue", "g"]) == 0
    ((scale, students, options),) = asked
    assert (scale.tasks, scale.seeds, scale.teacher, scale.glue) == (("sst2",), (4, 5), "t", "g")
    assert (students, scale.finetuning.epochs) == (["a", "b"], 2)
    assert options == {"out": tmp_path / "f.csv", "examples": 9, "name": "mine"}
    assert "largest_difference" in capsys.readouterr().out
    assert main([*plan, "--text", "t.txt"]) == 2
    assert "leave it or --students out" in capsys.readouterr().err
    assert main(["frontier", "--tasks", "sst3"]) == 2
    assert "sst3" in capsys.readouterr().err


def test_wrong_input_is_refused_before_anything_is_trained(toy, home, monkeypatch):
    scale, students = toy
    monkeypatch.setattr(finetuning, "train", None)
    out = home / "f.csv"
    small_bert(2, vocab_size=150).save_pretrained(home / "other")
    with pytest.raises(ValueError, match="a vocabulary of 150, the teacher"):
        run_frontier(scale, [home / "other"], out=out)
    shape = {"embedding_size": 16, "hidden_size": 16, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 200}
    ElectraForMaskedLM(ElectraConfig(**shape)).save_pretrained(home / "electra")
    load_tokenizer(scale.teacher).save_pretrained(home / "electra")
    unprunable = replace(scale, teacher=str(home / "electra"))
    with pytest.raises(TypeError, match="pruning knows no ElectraForMaskedLM"):
        run_frontier(unprunable, out=home / "f.csv")
    with pytest.raises(ValueError, match="students is empty"):
        run_frontier(scale, [], out=out)
    with pytest.raises(ValueError, match="--examples 0"):
        run_frontier(scale, students, out=out, examples=0)
    assert not (home / "runs").exists()


def test_its_own_students_are_a_half_a_third_and_a_sixth(monkeypatch, toy, tmp_path):
    scale, _ = toy
    small_bert(6).save_pretrained(tmp_path)
    load_tokenizer(scale.teacher).save_pretrained(tmp_path)
    asked = []
    monkeypatch.setattr(frontier, "run_parallel", lambda _, items, __: asked.extend(items) or "abc")
    found = frontier._distilled(replace(scale, teacher=str(tmp_path)), "mine")
    assert [(depth, name) for _, depth, name in asked] == [(3, "mine"), (2, "mine"), (1, "mine")]
    assert found == ((3, ("a",)), (2, ("b",)), (1, ("c",)))


def task_of(kind: str) -> Task:
    """Eight examples; half of the texts, and each passage, are too long for 20 tokens."""
    many = " ".join(f"w{i}" for i in range(30))
    if kind == "words":
        columns = {"text": [["w1", "w2", "w3"], many.split()] * 4}
        columns["tags"] = [["O", "B-X", "I-X"], ["B-X"] * 30] * 4
        named = {"label_column": "tags"}
    else:
        columns = {"question": [f"w{i}" for i in range(8)], "context": [many] * 8}
        columns["answers"] = [{"text": ["w20 w21"], "answer_start": [70]}] * 8
        named = {}
    frame = pd.DataFrame(columns)
    parts = {"train": frame, "validation": frame}
    return task_from(parts, name=kind, max_length=20, **named)


@pytest.mark.parametrize("kind", ["words", "answers"])
def test_words_and_answers_are_measured_too(home, toy, kind):
    scale, students = toy
    task = task_of(kind)
    plan = Plan(replace(scale, tasks=(task,)), "f", ((1, (str(students[0]),)),), None)
    frontier._fine_tune(plan, "1 layer", task, 3)
    rows = frontier._measure(plan, "1 layer", task, 3)
    assert [row["engine"] for row in rows] == list(engines.ENGINES)
    assert rows[1]["score"] == rows[0]["score"]
    assert rows[1]["same_answer"] == 1
    assert all(0 <= row["same_answer"] <= 1 for row in rows)
    model = fine_tuned_on(plan.run("1 layer", task, 3).model, task)
    cut = pruned_student(model, load_tokenizer(scale.teacher), task, task.data, 0.5)
    assert [layer.heads for layer in layers_of(cut)] == [2]
