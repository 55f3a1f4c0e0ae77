"""From a fine-tuned model to a folder to hand over, at toy size."""

from __future__ import annotations

import json
import shutil
import weakref
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics
from datasets import Dataset
from exported_once import exported_once
from huggingface_hub import RepoUrl
from toy_models import small_bert
from transformers import pipeline

import distilkit.compress.compress as compression
from distilkit import finetuning
from distilkit.compress.compress import compress
from distilkit.compress.hand_over import check_out, model_card, push
from distilkit.compress.held_out import (
    agreement,
    disagreements,
    held_out,
    paired_difference,
    score_function,
)
from distilkit.config import SHIPPED, TrainingConfig
from distilkit.data.own_task import task_from
from distilkit.data.tasks import TASKS, Task, scores
from distilkit.finetuning import classifier, fine_tuned_on, finetune
from distilkit.run import Run

QUICK = TrainingConfig(steps=3, batch_size=8, micro_batch_size=8, learning_rate=1e-3, seed=1)
ROWS = 120
TEXTS = [f"word{i} again" for i in range(ROWS)]


def table(kind: str, texts: list[str]) -> pd.DataFrame:
    labels = {
        "classes": [["no", "yes", "maybe"][i % 3] for i in range(ROWS)],
        "labels": [[["a"], ["a", "b"], []][i % 3] for i in range(ROWS)],
        "regression": [i / 7 for i in range(ROWS)],
        "words": [["B-x" if j % 3 == 0 else "O" for j, _ in enumerate(t.split())] for t in texts],
    }
    column = [t.split() for t in texts] if kind == "words" else texts
    return pd.DataFrame({"body": column, "answer": labels[kind]})


def fine_tuned(home, tokenizer, texts: list[str], kind: str) -> tuple[Task, str]:
    """A task, and the folder of a model fine-tuned on it, with a card."""
    small_bert(2).save_pretrained(home / "bert")
    task = task_from(table(kind, texts), text_columns="body", label_column="answer", name=kind)
    model = classifier(home / "bert", task, seed=0)
    run = finetune(model, tokenizer, task, task.data, QUICK, name=f"teacher-{kind}")
    card = "---\nlicense: mit\nbase_model: owner/bert\nlanguage: en\n---\nabout"
    (run.model / "README.md").write_text(card)
    return task, str(run.model)


@pytest.fixture(scope="module", autouse=True)
def each_model_exported_once(tmp_path_factory):
    with exported_once(tmp_path_factory):
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory, tokenizer, texts):
    """home, task, teacher, and the table of a compression into ``home/small``."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILKIT_HOME", str(home))
        task, teacher = fine_tuned(home, tokenizer, texts, "classes")
        yield home, task, teacher, compress(teacher, task, home / "small", QUICK, depth=1)


def check_folder(folder, result) -> None:
    assert result[["model", "engine"]].apply(tuple, axis=1).nunique() == len(result) == 6
    first = result.iloc[0]
    assert (first.difference, first.low, first.high) == (0, 0, 0)
    assert first.agreement == pytest.approx(1)
    assert (result.low <= result.difference).all()
    assert (result.difference <= result.high).all()
    same = result.set_index(["model", "engine"]).score
    assert same["teacher", "torch fp32"] == pytest.approx(same["teacher", "onnx fp32"])
    for name in ("config.json", "model.safetensors", "onnx/model_quantized.onnx", "README.md"):
        assert (folder / name).is_file()
    assert json.loads((folder / "config.json").read_text())["n_layers"] == 1
    assert pd.read_csv(folder / "scores.csv").shape[0] == 6


@pytest.mark.slow
def test_a_classifier_becomes_a_folder(small):
    home, _, _, result = small
    check_folder(home / "small", result)


def test_the_teacher_is_freed_before_the_student_learns(small, home, monkeypatch):
    _, task, teacher, _ = small
    held, load = [], compression.fine_tuned_on

    def loaded(*arguments):
        found = load(*arguments)
        held.append(weakref.ref(found))
        return found

    def trained(*_):
        assert held
        assert not any(model() for model in held)
        raise InterruptedError

    epoch = replace(QUICK, steps=None, epochs=1)  # else the teacher is asked in every step
    monkeypatch.setattr(compression, "fine_tuned_on", loaded)
    monkeypatch.setattr(finetuning, "train", trained)
    with pytest.raises(InterruptedError):
        compress(teacher, task, home / "again", epoch, depth=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["labels", "words"])
def test_so_do_other_kinds(home, tokenizer, texts, kind):
    task, teacher = fine_tuned(home, tokenizer, texts, kind)
    check_folder(home / "other", compress(teacher, task, home / "other", QUICK, depth=1))


@pytest.mark.slow
def test_pipeline_and_onnx_give_the_same_labels(small, tokenizer):
    home, task, *_ = small
    texts = task.data["test"]["body"][:]
    model = pipeline("text-classification", str(home / "small"), truncation=True)
    session = onnxruntime.InferenceSession(home / "small" / "onnx" / "model.onnx")
    limit = json.loads((home / "small" / "compression.json").read_text())["max_length"]
    for text, answer in zip(texts, model(texts), strict=True):
        inputs = tokenizer(text, truncation=True, max_length=limit, return_tensors="np")
        feeds = {node.name: inputs[node.name] for node in session.get_inputs()}
        logits = session.run(["logits"], feeds)[0]
        assert task.labels[logits.argmax()] == answer["label"]


@pytest.mark.slow
def test_without_labels_agreement_is_what_there_is(small):
    home, task, teacher, _ = small
    texts = [text for part in task.data.values() for text in part["body"][:]]
    alone = task_from(pd.DataFrame({"text": texts}), labels=task.labels, name="alone")
    with pytest.warns(UserWarning, match="no training example has a label"):
        result = compress(teacher, alone, home / "alone", QUICK, depth=1)
    assert "score" not in result
    assert result.agreement[0] == pytest.approx(1)
    assert result.calibration_error.between(0, 1).all()


@pytest.mark.slow
def test_the_card_and_the_upload(small, monkeypatch):
    home, task, *_ = small
    made = huggingface_hub.ModelCard.load(home / "small" / "README.md")
    found = made.data.to_dict()
    assert found["license"] == "mit"
    assert found["base_model"] == "owner/bert"
    assert found["base_model_relation"] == "finetune"
    assert found["pipeline_tag"] == "text-classification"
    for file in ("README.md", "compression.json", "config.json", "scores.csv"):
        assert str(home) not in (home / "small" / file).read_text()
    assert all(label in made.text for label in task.labels)

    calls = []
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "create_repo",
        lambda _, name, **more: calls.append(name) or RepoUrl(f"https://huggingface.co/me/{name}"),
    )
    monkeypatch.setattr(
        huggingface_hub.HfApi, "upload_folder", lambda _, **given: calls.append(given)
    )
    assert push(home / "small", "small") == "https://huggingface.co/me/small"
    assert (calls[0], calls[1]["repo_id"]) == ("small", "me/small")  # the owner's, not named
    assert calls[1]["folder_path"] == home / "small"


def test_words_without_a_label_are_not_scored():
    labels = [[0, 1, -1], [-1, 2]]
    answers = [[0, 1, 2], [2, 2]]
    for metric, names in (("entity_f1", ("O", "B-x", "I-x")), ("accuracy", ("a", "b", "c"))):
        task = Task("w", "W", ("words",), names, "token_classification", (metric,), metric)
        assert score_function(task, answers, labels)(np.arange(2)) == 1.0
        few = [[0, 1, -1], [-1, -1]]  # a draw may hold no label
        found = paired_difference(task, answers, [[1, 1, 1], [0, 0]], few)
        assert np.isfinite([found["low"], found["high"]]).all()


def test_the_interval_holds_the_difference_where_all_answers_differ():
    task = Task("t", "T", ("text",), ("a", "b"))
    found = paired_difference(task, np.ones(3, int), np.zeros(3, int), np.zeros(3, int))
    assert found["low"] <= found["difference"] == -1 <= found["high"] < 0.1


@pytest.mark.slow
def test_the_run_remembers_its_teacher_and_a_moved_one_is_the_same(small):
    home, task, teacher, _ = small
    assert Run(home / "runs" / "small").config()["teacher"]["name"] == teacher
    shutil.copytree(teacher, home / "moved")
    rows = (home / "runs" / "small" / "metrics.jsonl").read_bytes()
    compress(home / "moved", task, home / "small", QUICK, depth=1)
    assert (home / "runs" / "small" / "metrics.jsonl").read_bytes() == rows


def of_kind(kind: str) -> tuple[Task, np.ndarray]:
    """A task of eight test texts, and logits of a teacher that is sure of class 0, or says 0."""
    task = task_from(table(kind, TEXTS), text_columns="body", label_column="answer")
    return task, np.tile([5.0] + [-5.0] * (task.outputs - 1), (len(task.data["test"]), 1))


@pytest.mark.parametrize("kind", ["classes", "labels", "regression"])
def test_the_worst_disagreement_comes_first(kind, monkeypatch):
    task, sure = of_kind(kind)
    other = sure.copy()
    other[3] = other[3, ::-1]  # another answer
    other[5] *= 0.1 if task.outputs > 1 else 1.1  # the same answer, less sure
    if task.regression:
        other[3] = -5
    given = iter([(sure, None), (other, None)])
    module = "distilkit.compress.held_out"
    monkeypatch.setattr(f"{module}.predict", lambda model, examples: next(given))
    monkeypatch.setattr(f"{module}.task_examples", lambda *_, **__: None)
    monkeypatch.setattr(f"{module}.input_length", lambda *_: 8)
    found = disagreements(None, None, None, task, count=3)
    texts = task.data["test"]["body"]
    assert list(found["body"][:2]) == [texts[3], texts[5]]
    assert list(found["distance"]) == sorted(found["distance"], reverse=True)
    assert found["distance"][2] == 0
    assert found["teacher"][0] != found["student"][0]
    if kind == "classes":
        assert found["distance"][0] == pytest.approx(np.tanh(5), abs=1e-4)
        assert (found["teacher"][0], found["student"][0]) == (task.labels[0], task.labels[-1])


def test_other_words_and_spans_count(monkeypatch):
    module = "distilkit.compress.held_out"
    monkeypatch.setattr(f"{module}.task_examples", lambda *_, **__: None)
    monkeypatch.setattr(f"{module}.input_length", lambda *_: 8)
    words = Task("w", "W", ("words",), ("O", "B-x"), "token_classification", data={})
    words.data["test"] = Dataset.from_dict({"words": [["a", "b"], ["c", "d"]]})
    yes, no = [-1.0, 1.0], [1.0, -1.0]
    given = iter([([np.array([no, no]), np.array([no, no])], None)] * 1
                 + [([np.array([no, no]), np.array([no, yes])], None)])  # fmt: skip
    monkeypatch.setattr(f"{module}.predict", lambda *_: next(given))
    found = disagreements(None, None, None, words)
    assert list(found["distance"]) == [0.5, 0]
    assert list(found.iloc[0])[:3] == [["c", "d"], "O O", "O B-x"]

    spans = Task("q", "Q", ("question", "context"), (), "question_answering", data={})
    spans.data["test"] = Dataset.from_dict({"question": ["?", "!"], "context": ["x y", "z"]})
    texts = iter([(["x", "z"], None), (["y", "z"], None)])
    monkeypatch.setattr(f"{module}.predict", lambda *_: next(texts))
    found = disagreements(None, None, None, spans)
    assert list(found["distance"]) == [1, 0]
    assert list(found.iloc[0])[:4] == ["?", "x y", "x", "y"]


@pytest.mark.slow
def test_a_model_agrees_with_itself(small, tokenizer):
    home, task, teacher, _ = small
    models = [fine_tuned_on(path, task) for path in (teacher, home / "small")]
    assert (disagreements(models[0], models[0], tokenizer, task).distance < 1e-6).all()
    found = disagreements(*models, tokenizer, task, count=4)
    assert list(found) == ["body", "label", "teacher", "student", "distance"]
    assert len(found) == 4
    assert found["distance"].between(0, 1).all()


@pytest.mark.slow
def test_a_finished_run_is_read_again(small):
    home, task, teacher, first = small
    rows = (Run(home / "runs" / "small").path / "metrics.jsonl").read_text()
    again = compress(teacher, task, home / "small", QUICK, depth=1)
    assert (Run(home / "runs" / "small").path / "metrics.jsonl").read_text() == rows
    with pytest.raises(FileExistsError, match="'small'"):
        compress(teacher, task, home / "small", QUICK, depth=2, name="another")
    columns = ["score", "difference", "low", "high", "agreement"]
    pd.testing.assert_frame_equal(first[columns], again[columns])


@pytest.mark.slow
def test_what_does_not_fit_is_refused_and_nothing_written_over(home, tokenizer, texts):
    task, teacher = fine_tuned(home, tokenizer, texts, "classes")
    with pytest.raises(ValueError, match="student_layers = 9"):
        compress(teacher, task, home / "small", QUICK, depth=9)
    with pytest.raises(ValueError, match="layers"):
        compress(teacher, task, home / "small", QUICK, layers=[3, 1])
    with pytest.raises(ValueError, match="lacks"):
        compress(home / "bert", task, home / "small", QUICK)
    assert not (home / "small").exists()
    (home / "mine").mkdir()
    (home / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="mine"):
        compress(teacher, task, home / "mine", QUICK)
    assert (home / "mine" / "thesis.txt").read_text() == "years of work"


def test_what_cannot_end_well_is_refused_before_the_training(home, tokenizer, texts, monkeypatch):
    task, teacher = fine_tuned(home, tokenizer, texts, "classes")
    with monkeypatch.context() as patch:
        patch.setattr("distilkit.compress.onnx_export.MOST_BYTES", 1000)
        with pytest.raises(ValueError, match="an ONNX file holds less"):
            compress(teacher, task, home / "small", QUICK)
    with monkeypatch.context() as patch:
        two = SimpleNamespace(num_processes=2)
        patch.setattr("distilkit.compress.hand_over.processes", lambda: two)
        with pytest.raises(ValueError, match="in one process"):
            compress(teacher, task, home / "small", QUICK)
    with pytest.raises(ValueError, match="no held-out split"):
        held_out(replace(task, data={"train": task.data["train"]}))
    assert not (home / "runs" / "small").exists()


def test_the_held_out_split_may_have_another_name():
    split = Dataset.from_dict({"premise": ["a"], "hypothesis": ["b"], "label": [0]})
    unlabelled = split.remove_columns("label")
    data = {"train": split, "validation_matched": split, "test_matched": unlabelled}
    assert held_out(replace(TASKS["mnli"], data=data)) == "validation_matched"


def test_one_text_has_no_interval():
    task = Task("t", "t", ("a",), ("no", "yes"))
    found = paired_difference(task, np.array([1]), np.array([0]), np.array([1]))
    assert found["difference"] == 1
    assert np.isnan([found["low"], found["high"]]).all()


@pytest.mark.parametrize("pair", [False, True])
def test_the_card_says_what_the_student_learnt_from(pair):
    columns = ("one", "two") if pair else ("one",)
    split = Dataset.from_dict({name: ["a"] for name in columns})
    task = Task("t", "t", columns, ("no", "yes"), data={"train": split})
    rows = [{"model": "teacher", "split": "test", "parameters": 1, "threads": 1, "length": 8}]
    run = SimpleNamespace(config=lambda: {"training": {"seed": 1}}, result=lambda: {"steps": 2})
    about = {"checkpoint": str(SHIPPED / "teacher"), "layers": (0,), "max_length": 8}
    card = str(model_card(small_bert(1), pd.DataFrame(rows), task, run, about, None))
    assert "2 steps on the teacher's soft targets followed" in card
    task = Task("t", "t", columns, ("no", "yes"), data={"train": {"label": [0, 1]}})
    alone = {"loss_config": {"label_weight": 1, "kd_weight": 0}, **run.config()}
    run = SimpleNamespace(config=lambda: alone, result=run.result)
    card = str(model_card(small_bert(1), pd.DataFrame(rows), task, run, about, None))
    assert "2 steps on the labels followed" in card
    assert ("text_pair" in card) == pair


def test_the_interval_is_the_paired_bootstraps():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    teacher = np.where(random.random(400) < 0.9, labels, 1 - labels)
    student = np.where(random.random(400) < 0.8, labels, 1 - labels)
    task = Task("t", "t", ("a",), ("no", "yes"))
    found = paired_difference(task, student, teacher, labels)
    gains = (student == labels).astype(float) - (teacher == labels)
    assert found["difference"] == pytest.approx(gains.mean())
    half = scipy.stats.norm.ppf(0.975) * gains.std() / np.sqrt(400)
    assert found["low"] == pytest.approx(gains.mean() - half, abs=0.01)
    assert found["high"] == pytest.approx(gains.mean() + half, abs=0.01)


def test_the_folder_is_not_that_of_the_run_which_is_named_by_it(home):
    with pytest.raises(ValueError, match="is the folder of the run"):
        check_out(home / "runs" / "small", None)
    with pytest.raises(ValueError, match="is the folder of the run"):
        check_out(home / "runs" / "small" / "model", "small")
    with pytest.raises(ValueError, match=r"'my model!'.*Without --name"):
        check_out(home / "my model!", None)


@pytest.mark.parametrize("score", ["accuracy", "micro_f1", "macro_f1"])
@pytest.mark.parametrize("kind", ["single_label", "multi_label", "token"])
def test_the_score_is_that_of_the_training(kind, score):
    random = np.random.default_rng(3)
    shape = (60,) if kind == "single_label" else (60, 3)
    predicted, labels = random.integers(0, 2 if kind == "multi_label" else 3, (2, *shape))
    task = Task("t", "t", ("a",), tuple("abc"), f"{kind}_classification", (score,), score)
    found = paired_difference(task, predicted, predicted, labels)["score"]
    assert found == pytest.approx(scores(task, predicted, labels)[score])


def test_entities_are_resampled_by_sentence():
    random = np.random.default_rng(1)
    labels = ("O", "B-a", "I-a")
    task = Task("t", "t", ("w",), labels, "token_classification", ("entity_f1",), "entity_f1")
    true = [random.integers(0, 3, 9) for _ in range(50)]
    student = [np.where(random.random(9) < 0.7, t, 0) for t in true]
    found = paired_difference(task, student, true, true)
    from seqeval.metrics import f1_score

    names = [[[labels[i] for i in s] for s in sentences] for sentences in (true, student)]
    assert found["difference"] == pytest.approx(f1_score(*names) - 1)
    assert found["low"] < found["difference"] < found["high"] < 0


def test_agreement_of_every_kind():
    random = np.random.default_rng(2)
    x, y = random.integers(0, 3, (2, 50))
    assert agreement(Task("t", "t", ("a",), tuple("abc")), x, y) == pytest.approx(
        sklearn.metrics.accuracy_score(x, y)
    )
    a, b = random.normal(size=(2, 50))
    assert agreement(Task("t", "t", ("a",), (), "regression"), a, b) == pytest.approx(
        np.corrcoef(a, b)[0, 1]
    )
