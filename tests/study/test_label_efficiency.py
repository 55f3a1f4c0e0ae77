"""Few labels and many: the runs are what the table says, and each curve has one learning rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from fewer_rows import fewer_rows
from toy_models import first_layers

from distilkit.config import SCALES, SHIPPED
from distilkit.data.sources import load_teacher
from distilkit.plots.study import plot_label_efficiency
from distilkit.run import Run
from distilkit.student import student_from_teacher
from distilkit.study.label_efficiency import (
    ALL_TEXTS,
    LABELS,
    SAME_TEXTS,
    TEACHER,
    best_learning_rates,
    label_efficiency,
    teacher_gains,
)

RATES = (1e-3, 1e-4)


def run_of(home, way: str, count: int, seed: int = 1, rate: float = 1e-3) -> Run:
    return Run(home / "runs" / f"labels-tiny-{way}-{count}-{rate:g}-sst2-{seed}")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILKIT_HOME", str(home))
        fewer_rows(SHIPPED / "glue", home / "glue", 30)
        first_layers(SHIPPED / "teacher", home / "teacher", 2)
        scale = replace(SCALES["tiny"], teacher=str(home / "teacher"), glue=str(home / "glue"))
        scale = replace(scale, tasks=("sst2",), seeds=(1, 2))
        finetuning = replace(scale.finetuning, steps=None, epochs=1, batch_size=10)
        scale = replace(scale, finetuning=replace(finetuning, micro_batch_size=10))
        for seed in scale.seeds:  # layer 0 for seed 1, layer 1 for seed 2
            student = student_from_teacher(load_teacher(scale)[0], (seed - 1,))
            student.save_pretrained(home / f"student-{seed}")
        yield (
            home,
            scale,
            label_efficiency(
                scale,
                [home / "student-1", home / "student-2"],
                out=home / "labels.csv",
                counts=(0, 8, None),
                learning_rates=RATES,
            ),
        )


@pytest.mark.slow
def test_a_row_for_each_seed_way_count_and_rate(measured):
    home, _, table = measured
    keys = table[["seed", "way", "labels", "learning_rate"]]
    assert not keys.duplicated().any()
    students = table[table["way"] != TEACHER]
    counts = students.groupby("way")["labels"].agg(lambda values: sorted(set(values)))
    assert counts.to_dict() == {LABELS: [8, 30], SAME_TEXTS: [8, 30], ALL_TEXTS: [0, 8]}
    assert len(students) == 2 * 2 * 6
    pd.testing.assert_frame_equal(pd.read_csv(home / "labels.csv"), table, check_dtype=False)


@pytest.mark.parametrize("count", [-1, 10**9])
def test_a_number_of_labels_that_there_cannot_be(tmp_path, count):
    scale = replace(SCALES["tiny"], tasks=("sst2",))
    with pytest.raises(ValueError, match=f"training examples, not {count:,}"):
        label_efficiency(scale, ["none"], out=tmp_path / "labels.csv", counts=(count,))


@pytest.mark.slow
def test_finished_runs_are_read_again_and_all_is_one_count(measured):
    home, scale, table = measured
    before = {path: path.stat().st_mtime_ns for path in home.glob("runs/*/result.json")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILKIT_HOME", str(home))
        students = [home / "student-1", home / "student-2"]
        counts = (0, 8, 30, None)
        again = label_efficiency(
            scale, students, out=home / "same.csv", counts=counts, learning_rates=RATES
        )
    pd.testing.assert_frame_equal(again, table)
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.slow
def test_every_student_takes_as_many_steps_and_the_same_labels(measured):
    home, *_ = measured
    for way, count in ((LABELS, 8), (SAME_TEXTS, 8), (ALL_TEXTS, 8), (ALL_TEXTS, 0), (LABELS, 30)):
        assert run_of(home, way, count).result()["steps"] == 3
    digests = {way: run_of(home, way, 8).config()["data"]["train"] for way in (LABELS, SAME_TEXTS)}
    assert digests[LABELS] == digests[SAME_TEXTS]
    assert run_of(home, LABELS, 8, seed=2).config()["data"]["train"] != digests[LABELS]
    examples = {run_of(home, ALL_TEXTS, count).config()["examples"] for count in (0, 8)}
    assert examples == {30}
    students = [run_of(home, LABELS, 8, seed).config()["model"] for seed in (1, 2)]
    assert students[0] != students[1]
    assert run_of(home, LABELS, 8).config()["teacher"] is None
    assert run_of(home, SAME_TEXTS, 8).config()["teacher"]["name"].endswith("teacher-sst2-1/model")


@pytest.mark.slow
def test_more_labels_than_examples_are_refused(measured):
    home, scale, _ = measured
    both = [home / "student-1", home / "student-2"]
    with pytest.raises(ValueError, match="30 training examples"):
        label_efficiency(scale, both, out=home / "no.csv", counts=(31,))
    with pytest.raises(ValueError, match="2 seeds"):
        label_efficiency(scale, both[:1], out=home / "no.csv")


def toy_table(seeds=(1, 2, 3)) -> pd.DataFrame:
    """At 1e-3 the validation score is better on the mean, at 1e-4 with one seed."""
    rows = [
        ("sst2", seed, way, labels, rate, 80 + gain, 70 + gain + seed)
        for way, counts in ((LABELS, (16, 900)), (SAME_TEXTS, (16, 900)), (ALL_TEXTS, (0, 16)))
        for labels in counts
        for seed in seeds
        for rate, gain in ((1e-3, 3.0), (1e-4, 4.0 if seed == 1 else 0.0))
    ]
    rows += [("sst2", seed, TEACHER, 900, 1e-3, 95.0, 96.0) for seed in seeds]
    columns = ["task", "seed", "way", "labels", "learning_rate", "validation", "score"]
    return pd.DataFrame(rows, columns=columns).assign(metric="accuracy")


def test_a_curve_has_one_learning_rate_chosen_on_validation():
    table = toy_table()
    best = best_learning_rates(table[table["way"] != TEACHER])
    assert set(best["learning_rate"]) == {1e-3}
    most = best[best["labels"] == 900].groupby("way")["score"].mean()
    assert most[ALL_TEXTS] == most[SAME_TEXTS]


def test_tasks_of_different_size_have_their_last_points():
    small = toy_table()
    large = small.assign(task="rte", labels=small["labels"].replace(900, 1200))
    best = best_learning_rates(pd.concat([small, large]))
    last = best[best["way"] == ALL_TEXTS].groupby("task")["labels"].max()
    assert last.to_dict() == {"sst2": 900, "rte": 1200}


def test_the_gain_from_a_teacher_is_paired_by_seed():
    table = toy_table()
    chosen = table["learning_rate"] == 1e-3
    added = np.array([1.0, 4.0, 10.0])  # with one seed each
    few = chosen & (table["way"] == ALL_TEXTS) & (table["labels"] == 16)
    table.loc[few, "score"] += added
    gains = teacher_gains(table).set_index("labels")
    assert list(gains.index) == [16, 900]  # without labels there is one way
    sem = scipy.stats.sem(added)
    interval = scipy.stats.t.interval(0.95, 2, loc=5.0, scale=sem)
    assert gains.loc[16, ["mean", "low", "high"]].tolist() == pytest.approx([5.0, *interval])
    assert gains.loc[900, ["mean", "low", "high"]].tolist() == [0, 0, 0]
    assert set(gains["seeds"]) == {3}


def test_without_the_count_all_no_curve_is_filled_in():
    table = toy_table()
    few = table[(table["labels"] < 900) | (table["way"] == TEACHER)]
    best = best_learning_rates(few)
    both = best[(best["way"] == ALL_TEXTS) & (best["labels"] == 16)]
    assert sorted(both["seed"]) == [1, 2, 3]
    (axes,) = plot_label_efficiency(few).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "16"]


def test_a_panel_for_each_task_names_its_metric():
    tasks = ["sst2", "the kit's STS-B", "mine", "rte"]
    for count, lines in ((3, 1), (4, 2)):
        tables = [toy_table().assign(task=task) for task in tasks[:count]]
        tables[1]["metric"] = "pearson"
        axes = plot_label_efficiency(pd.concat(tables)).axes
        assert len(axes) == count
        assert axes[1].get_title(loc="left") == "Pearson on the kit's STS-B"
        assert len({each.get_subplotspec().rowspan.start for each in axes}) == lines
        assert [bool(each.get_ylabel()) for each in axes].count(True) == lines


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
@pytest.mark.slow
def test_the_figure_has_three_curves_and_bands_over_seeds(seeds):
    figure = plot_label_efficiency(toy_table(seeds))
    (axes,) = figure.axes
    curves = [line for line in axes.lines if line.get_marker() != "None"]
    assert len(curves) == 3
    assert len(axes.collections) == (3 if len(seeds) > 1 else 0)
    lengths = sorted(len(line.get_xdata()) for line in curves)
    assert lengths == [2, 2, 3]
    assert np.isclose(axes.lines[0].get_ydata()[0], 96)
