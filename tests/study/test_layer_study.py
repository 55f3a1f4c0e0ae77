"""Students of several maps, trained on a toy: which, resumed, scored as they should be."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from toy_models import small_bert, teacher_and_text
from transformers import DistilBertForMaskedLM

from distilkit import distillation
from distilkit.cli.main import main
from distilkit.config import RESULTS, SCALES
from distilkit.data import sources
from distilkit.data.sources import load_blocks, load_teacher
from distilkit.distillation import losses_on
from distilkit.run import Run
from distilkit.student import named_layer_maps
from distilkit.study import layer_study
from distilkit.study.layer_search import probe_of, score_layer_maps
from distilkit.study.layer_study import plan, rank_correlation, read_trained, score_and_train

TINY = SCALES["tiny"]
SEEDS = (11, 12)


@pytest.fixture(scope="module")
def toy(tmp_path_factory, tokenizer, texts):
    folder = tmp_path_factory.mktemp("toy")
    teacher_and_text(folder, tokenizer, texts)
    small_bert(4).save_pretrained(folder / "teacher")
    return replace(
        TINY,
        teacher=str(folder / "teacher"),
        text=str(folder / "text.txt"),
        length=16,
        distillation=replace(TINY.distillation, steps=4, batch_size=4, micro_batch_size=4),
    )


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILKIT_HOME", str(home))
        table = score_and_train(toy, SEEDS, out=home / "out" / "maps.csv")
    return home, table


def made_up_scores(depth: int, k: int) -> pd.DataFrame:
    maps = list(combinations(range(depth), k))
    names = {layers: name for name, layers in named_layer_maps(depth, k).items()}
    table = pd.DataFrame({"layers": maps, "name": [names.get(layers, "") for layers in maps]})
    return table.assign(rank=table.index + 1)


def test_plan_of_a_small_teacher_trains_every_map():
    scores = made_up_scores(6, 3)
    todo = plan(scores, (1, 2, 3))
    assert [layers for layers, seed in todo if seed == 1] == list(scores.layers)
    again = {layers for layers, seed in todo if seed == 3}
    assert again == {(0, 1, 2), (0, 2, 5), (0, 2, 4), (1, 3, 5), (3, 4, 5)}  # (0,1,2): rank 1 too
    assert len(set(todo)) == len(todo) == 20 + 2 * 5


def test_plan_of_a_large_one_takes_maps_from_the_whole_ranking():
    scores = made_up_scores(12, 6)
    todo = plan(scores, (1, 2))
    ranks = scores.set_index("layers")["rank"]
    first = [ranks[layers] for layers, seed in todo if seed == 1]
    spread = np.linspace(1, 924, layer_study.SPREAD)
    assert all(min(abs(rank - wanted) for rank in first) < 1 for wanted in spread)
    assert len(first) <= layer_study.SPREAD + 5
    assert {layers for layers, seed in todo if seed == 2} >= set(named_layer_maps(12).values())


@pytest.mark.slow
def test_a_row_a_student_before_and_after(trained, toy, monkeypatch):
    home, table = trained
    monkeypatch.setenv("DISTILKIT_HOME", str(home))
    assert read_trained(home / "out" / "maps.csv").equals(table)
    assert not list((home / "out").glob("*.part"))
    assert table.groupby("layers").size().sum() == len(table)
    assert set(table.layers) == set(combinations(range(4), 2))
    assert set(table.seed) == set(SEEDS)
    assert set(table.steps) == {4}
    teacher, tokenizer = load_teacher(toy)
    blocks, held_out = load_blocks(toy, tokenizer)
    scores = score_layer_maps(teacher, probe_of(blocks), loss_config=toy.loss_config)
    scores = scores.set_index("layers")
    for row in table.itertuples():
        for name in ("soft_target", "masked_accuracy"):
            cut = scores.loc[[row.layers], name].item()
            assert getattr(row, f"{name}_cut") == pytest.approx(cut, abs=1e-4)
        written = "-".join(map(str, row.layers))
        run = Run(home / "runs" / f"layers-tiny-4-steps-{written}-seed-{row.seed}")
        assert run.config()["training"]["seed"] == row.seed
        student = DistilBertForMaskedLM.from_pretrained(run.model).eval()
        after = losses_on(student, held_out, toy.loss_config, teacher)["soft_target"]
        assert row.soft_target == pytest.approx(after, abs=1e-4)
    one, two = (table[table.seed == seed].set_index("layers").soft_target for seed in SEEDS)
    assert (one[two.index] != two).all()


def test_a_second_call_only_reads(trained, toy, monkeypatch):
    home, table = trained
    monkeypatch.setenv("DISTILKIT_HOME", str(home))
    monkeypatch.setattr(distillation, "train", None)
    assert score_and_train(toy, SEEDS, out=home / "again.csv").equals(table)


def test_rank_correlation_is_of_the_first_seed():
    table = pd.DataFrame(
        {
            "seed": [7, 7, 7, 7, 8, 8],
            "soft_target_cut": [1.0, 2.0, 3.0, 4.0, 1.0, 4.0],
            "soft_target": [0.1, 0.3, 0.2, 0.9, 9.0, 0.0],
        }
    )
    expected = spearmanr([1, 2, 3, 4], [0.1, 0.3, 0.2, 0.9]).statistic
    assert rank_correlation(table, "soft_target_cut", "soft_target") == pytest.approx(expected)
    assert np.isnan(
        rank_correlation(table.assign(soft_target=1.0), "soft_target_cut", "soft_target")
    )


def test_from_the_command_line(trained, toy, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DISTILKIT_HOME", str(tmp_path))
    monkeypatch.setitem(SCALES, "tiny", toy)
    assert main(["layers", "--student-layers", "1"]) == 0
    said = capsys.readouterr().out
    assert all(f"({layer},)" in said for layer in range(4))
    assert "masked_accuracy" in said
    asked = []

    def run(scale, *, student_layers, out, name):
        asked.append((scale.distillation.steps, student_layers, out, name))
        return trained[1]

    monkeypatch.setattr(layer_study, "score_and_train", run)
    out = tmp_path / "maps.csv"
    assert main(["layers", "--train", "7", "--student-layers", "2", "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("rank correlation") == 2
    assert main(["layers", "--train", "8", "--name", "mine"]) == 0
    own = toy.figures / "layer_maps.csv"
    assert asked == [(7, 2, out, None), (8, None, own, "mine")]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--student-layers", "5"], "a teacher of 4 layers gives 1 to 4"),
        (["--student-layers", "0", "--train", "3"], "a teacher of 4 layers gives 1 to 4"),
        (["--train", "0"], "TrainingConfig.steps = 0"),
        (["--out", "x.csv"], "--train"),
    ],
)
def test_wrong_input_is_refused_before_time_is_spent(wrong, says, toy, home, monkeypatch, capsys):
    monkeypatch.setitem(SCALES, "tiny", toy)
    monkeypatch.setattr(sources, "load_blocks", None)
    monkeypatch.setattr(layer_study, "load_blocks", None)
    assert main(["layers", *wrong]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.slow
def test_the_shipped_table_is_of_the_shipped_teacher(home):
    table = read_trained(RESULTS / "layer_maps.csv")
    teacher, tokenizer = load_teacher(TINY)
    blocks, _ = load_blocks(TINY, tokenizer)
    scores = score_layer_maps(teacher, probe_of(blocks), loss_config=TINY.loss_config)
    assert [(row.layers, row.seed) for row in table.itertuples()] == plan(scores, layer_study.SEEDS)
    scores = scores.set_index("layers")
    for name in ("soft_target", "masked_accuracy"):
        cut = scores.loc[list(table.layers), name]
        np.testing.assert_allclose(table[f"{name}_cut"], cut, atol=4e-3)  # another machine's digits
