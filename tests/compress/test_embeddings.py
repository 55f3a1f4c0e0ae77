"""From a sentence-transformers folder to a smaller one, at toy size."""

from __future__ import annotations

import json
import weakref

import huggingface_hub
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import scipy.stats
import torch
from datasets import Dataset
from exported_once import exported_once
from sklearn.neighbors import NearestNeighbors
from toy_models import assert_same, small_bert, state_of
from toy_sentence_encoder import reference, save_sentence_encoder
from transformers import AutoModel

import distilkit.compress.embeddings as compression
from distilkit import checkpoint
from distilkit.cli.main import main
from distilkit.compress.embedding_scores import (
    columns_of,
    embed,
    encoded,
    measure_embeddings,
    nearest,
    shared,
)
from distilkit.compress.embeddings import (
    candidate_maps,
    compress_embeddings,
    distil_embeddings,
    embedding_loss,
    rank_layer_maps,
    teacher_embeddings,
)
from distilkit.config import TrainingConfig
from distilkit.data.own_task import task_from
from distilkit.data.tasks import Task
from distilkit.models.sentence_encoder import Pooling, load_sentence_encoder
from distilkit.run import Run
from distilkit.student import default_layers, student_from_teacher

QUICK = TrainingConfig(
    steps=12, batch_size=16, micro_batch_size=8, learning_rate=3e-3, seed=1, checkpoint_interval=3
)


@pytest.fixture(scope="module", autouse=True)
def each_model_exported_once(tmp_path_factory):
    with exported_once(tmp_path_factory):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    """A teacher's folder, with a card."""
    folder = save_sentence_encoder(tmp_path_factory.mktemp("st"), tokenizer)
    card = "---\nlicense: mit\nbase_model: owner/bert\nlanguage: en\n---\nabout"
    (folder / "README.md").write_text(card)
    return folder


@pytest.fixture(scope="module")
def pairs(texts) -> pd.DataFrame:
    scores = [i % 6 + 0.5 for i in range(30)]
    return pd.DataFrame({"one": texts[:30], "two": texts[30:60], "score": scores})


def task_of(pairs: pd.DataFrame):
    columns = {"text_columns": ("one", "two"), "label_column": "score"}
    return task_from(pairs, **columns, kind="regression", name="pairs")


@pytest.fixture(scope="module")
def small(tmp_path_factory, folder, texts, pairs):
    """home and the table of a compression into ``home/small``."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILKIT_HOME", str(home))
        yield home, compress_embeddings(folder, texts, home / "small", QUICK, pairs=task_of(pairs))


@pytest.mark.slow
def test_the_table(small, folder, pairs):
    _, table = small
    assert list(table.model) == ["teacher"] * 3 + ["student"] * 3
    rows = table.set_index(["model", "engine"])
    first = rows.loc["teacher", "torch fp32"]
    assert (first.difference, first.low, first.high) == (0, 0, 0)
    assert table.agreement.isna().all()  # of some ten held-out texts all are neighbours
    one, two = reference(folder, list(pairs.one)), reference(folder, list(pairs.two))
    expected = scipy.stats.spearmanr((one * two).sum(1), pairs.score).statistic
    assert first.score == pytest.approx(expected, abs=1e-3)
    assert rows.loc["teacher", "onnx fp32"].score == pytest.approx(expected, abs=1e-3)
    assert (table.low <= table.difference).all()
    assert (table.difference <= table.high).all()
    assert rows.parameters["student"].iloc[0] < rows.parameters["teacher"].iloc[0]


def test_the_teacher_is_freed_before_the_student_learns(home, folder, texts, monkeypatch):
    held, load = [], compression.load_sentence_encoder

    def loaded(checkpoint):
        found = load(checkpoint)
        held.append(weakref.ref(found[0]))
        return found

    def trained(*_):
        assert held
        assert not any(teacher() for teacher in held)
        raise InterruptedError

    monkeypatch.setattr(compression, "load_sentence_encoder", loaded)
    monkeypatch.setattr(compression, "train", trained)
    with pytest.raises(InterruptedError):
        compress_embeddings(folder, texts, home / "small", QUICK)


@pytest.mark.slow
def test_the_library_and_onnx_give_the_students_embeddings(small, texts):
    home, _ = small
    model, tokenizer, pooling = load_sentence_encoder(home / "small")
    assert model.config.num_hidden_layers == 2
    assert pooling == Pooling("mean", True, 24)
    expected = reference(home / "small", texts)
    found = embed(model, encoded(texts, tokenizer, pooling), pooling)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    session = onnxruntime.InferenceSession(home / "small" / "onnx" / "model.onnx")
    assert [node.name for node in session.get_outputs()] == ["last_hidden_state"]
    inputs = tokenizer(texts, truncation=True, padding=True, return_tensors="np")
    feeds = {node.name: inputs[node.name].astype("int64") for node in session.get_inputs()}
    (hidden,) = session.run(["last_hidden_state"], feeds)
    mask = inputs["attention_mask"][..., None]
    pooled = (hidden * mask).sum(1) / mask.sum(1)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-5)
    assert (home / "small" / "onnx" / "model_quantized.onnx").is_file()


@pytest.mark.slow
def test_the_card(small):
    home, _ = small
    card = huggingface_hub.ModelCard.load(home / "small" / "README.md")
    found = card.data.to_dict()
    assert found["license"] == "mit"
    assert found["base_model"] == "owner/bert"
    assert found["base_model_relation"] == "finetune"
    assert found["library_name"] == "sentence-transformers"
    assert found["pipeline_tag"] == "sentence-similarity"
    assert "last_hidden_state" in card.text
    for file in ("README.md", "compression.json", "config.json", "modules.json"):
        assert str(home) not in (home / "small" / file).read_text()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.slow
def test_training_brings_the_student_to_its_teacher(home, tmp_path, tokenizer, texts, normalize):
    folder = save_sentence_encoder(tmp_path, tokenizer, mode="max", normalize=normalize)
    teacher, tokenizer, pooling = load_sentence_encoder(folder)
    before = state_of(teacher)
    student = student_from_teacher(teacher, (0, 3))
    run = distil_embeddings(student, teacher, tokenizer, pooling, texts, QUICK, name="brought")
    examples = encoded(texts, tokenizer, pooling)
    target = torch.from_numpy(embed(teacher, examples, pooling))
    trained = AutoModel.from_pretrained(run.model)
    losses = [
        embedding_loss(torch.from_numpy(embed(model, examples, pooling)), target, 120, pooling)
        for model in (student, trained)
    ]
    assert losses[1] < 0.9 * losses[0]
    assert_same(before, state_of(teacher))


def test_the_losses_are_the_plain_ones():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 9, 5))
    found = [
        float(embedding_loss(torch.tensor(a), torch.tensor(b), 18, Pooling("mean", on, 8)))
        for on in (True, False)
    ]
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert found == pytest.approx([(1 - cosines).sum() / 18, ((a - b) ** 2).mean(1).sum() / 18])


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_killed_training_ends_the_same(home, folder, texts, monkeypatch):
    teacher, tokenizer, pooling = load_sentence_encoder(folder)
    student = student_from_teacher(teacher, (0, 3))
    given = (student, teacher, tokenizer, pooling, texts, QUICK)
    whole = distil_embeddings(*given, name="whole")
    save, asked = checkpoint.save, []

    def dies(folder, step, *more):
        save(folder, step, *more)
        if step == 6:
            raise Killed

    monkeypatch.setattr(checkpoint, "save", dies)
    with pytest.raises(Killed):
        distil_embeddings(*given, name="killed")
    monkeypatch.setattr(checkpoint, "save", save)
    teacher.register_forward_hook(lambda *_: asked.append(1))
    resumed = distil_embeddings(*given, name="killed")
    assert not asked  # the teacher's embeddings are on disk
    assert_same(*(state_of(AutoModel.from_pretrained(run.model)) for run in (whole, resumed)))


@pytest.mark.slow
def test_stored_embeddings(home, folder, texts, monkeypatch):
    monkeypatch.setattr(compression, "PART", 32)
    teacher, tokenizer, pooling = load_sentence_encoder(folder)
    examples = encoded(texts, tokenizer, pooling)
    expected = embed(teacher, examples, pooling)
    embeddings_of, passes = compression.embeddings_of, []

    def counted(*given):
        if len(passes) == 3:
            raise Killed
        passes.append(1)
        return embeddings_of(*given)

    monkeypatch.setattr(compression, "embeddings_of", counted)
    with pytest.raises(Killed):
        teacher_embeddings(teacher, examples, pooling)
    passes.clear()
    found = teacher_embeddings(teacher, examples, pooling)
    assert len(passes) == 1  # 4 parts, 3 of them before the kill
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    (file,) = (home / "data" / "cache").glob("embeddings-*/entries.bin")
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    passes.clear()
    with pytest.warns(UserWarning, match="part 4"):
        found = teacher_embeddings(teacher, examples, pooling)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert len(passes) == 1


@pytest.mark.slow
def test_layer_maps(folder, texts):
    assert candidate_maps(6) == [(0, 3, 5), (0, 2, 5)]
    assert candidate_maps(4, 4) == [(0, 1, 2, 3)]
    assert candidate_maps(4, 1) == [(0,)]
    even = candidate_maps(12)
    assert default_layers(12) in even
    assert len(even) == 5
    assert all(layers[0] == 0 and layers[-1] == 11 and len(layers) == 6 for layers in even)
    assert candidate_maps(24, 16) == [default_layers(24, 16)]
    with pytest.raises(ValueError, match="student_layers = 7"):
        candidate_maps(6, 7)

    teacher, tokenizer, pooling = load_sentence_encoder(folder)
    table = rank_layer_maps(teacher, encoded(texts, tokenizer, pooling), pooling, 3)
    assert sorted(table.layers) == [(0, 1, 3), (0, 2, 3)]
    assert table.cosine.is_monotonic_decreasing
    both = [
        embed(model, encoded(texts, tokenizer, pooling), pooling)
        for model in (teacher, student_from_teacher(teacher, table.layers[0]))
    ]
    assert table.cosine[0] == pytest.approx((both[0] * both[1]).sum(1).mean(), abs=1e-5)
    same = rank_layer_maps(teacher, encoded(texts, tokenizer, pooling), pooling, 4)
    assert same.cosine[0] == pytest.approx(1)


def test_pairs_without_a_score_are_left_out():
    of = {"one": ["a", "b"], "two": ["c", "d"]}
    data = {
        "train": Dataset.from_dict({**of, "label": [1.0, 2.0]}),
        "test": Dataset.from_dict({**of, "label": [-1.0, -1.0]}),
    }
    pairs = Task("pairs", "Pairs", ("one", "two"), (), "regression", data=data)
    first, second, scores = columns_of(pairs)
    assert (first, second, scores.tolist()) == (["a", "b"], ["c", "d"], [1.0, 2.0])


@pytest.mark.slow
def test_agreement_is_measured_on_enough_texts(home, folder, texts):
    model, tokenizer, pooling = load_sentence_encoder(folder)
    many = [f"{text} {i}" for i, text in enumerate(texts[:100])]
    models = {"teacher": model, "student": model}
    measured = measure_embeddings(models, tokenizer, pooling, many, None, home / "exported")
    assert measured.agreement[measured.engine != "onnx int8"].min() > 0.9
    assert measured.agreement.between(0, 1).all()


def test_neighbours_are_scikit_learns():
    a, b = np.random.default_rng(0).normal(size=(2, 60, 8)).astype(np.float32)
    sets = []
    for x in (a, b):
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        ids = NearestNeighbors(n_neighbors=11, metric="cosine").fit(x).kneighbors(x)[1][:, 1:]
        sets.append([set(row) for row in ids])
        assert [set(row) for row in nearest(x)] == sets[-1]
    common = np.mean([len(x & y) / 10 for x, y in zip(*sets, strict=True)])
    assert shared(nearest(a), nearest(b)) == pytest.approx(common)
    assert shared(nearest(a), nearest(a)) == 1


@pytest.mark.slow
def test_what_does_not_fit_is_refused(home, folder, texts, pairs):
    def refused(match: str, given=texts, **options) -> None:
        with pytest.raises(ValueError, match=match):
            compress_embeddings(folder, given, home / "small", QUICK, **options)

    refused("different texts", texts[:19])
    refused("different texts", texts[:70], pairs=task_of(pairs))
    refused("student_layers = 9", depth=9)
    refused("layers", layers=[3, 1])
    refused("max_length = 65", max_length=65)
    alone = task_from(pairs, text_columns="one", label_column="score", kind="regression")
    refused("two columns", pairs=alone)
    refused("two columns", pairs=task_from(pairs, text_columns=("one", "two")))
    assert not (home / "runs").exists()
    assert not (home / "small").exists()


@pytest.mark.slow
def test_the_command(home, folder, texts, pairs, monkeypatch, capsys):
    monkeypatch.chdir(home)
    pairs.to_csv("pairs.csv", index=False, header=False)
    pd.DataFrame({"a": texts[:40], "b": texts[40:80]}).to_csv("own.csv", index=False)
    (home / "more.txt").write_text("\n".join(texts[80:]))
    command = ("compress", str(folder), "--out", "half", "--unlabelled", "more.txt")
    data = ("--data", "own.csv", "--text-column", "a", "b", "--max-length", "16", "--depth", "1")
    scored = ("--pairs", "pairs.csv", "--pairs-columns", "0", "1", "2")
    quick = ("--steps", "3", "--batch-size", "8", "--micro-batch-size", "8", "--seed", "5")
    assert main([*command, *data, *scored, *quick]) == 0
    out, log = capsys.readouterr()
    assert "agreement" in out
    assert "cosine" in log  # of the layer map
    config = Run(home / "runs" / "half").config()
    assert config["training"]["seed"] == 5
    assert config["examples"] == 54  # 60 of 120 are in the pairs, 6 held out
    made = json.loads((home / "half" / "compression.json").read_text())
    assert (made["layers"], made["max_length"]) == ([0], 16)
    assert reference(home / "half", texts[:2]).shape == (2, 32)

    small_bert().save_pretrained(home / "bert")
    for wrong, match in (
        (["compress", str(folder), "--out", "x"], "--unlabelled"),
        ([*command[:3], "x", *command[4:], "--label-column", "a"], "--label-column"),
        ([*command[:3], "x", *command[4:], "--kd-weight", "1"], "--kd-weight"),
        (["compress", "bert", "--out", "x", *scored], "--pairs"),
        (["compress", "bert", "--out", "x"], "--task"),
    ):
        assert main(wrong) == 2
        assert match in capsys.readouterr().err
