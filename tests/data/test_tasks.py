"""The nine tasks: the table against GLUE's facts, the metrics against the libraries themselves."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import scipy.stats
import sklearn.metrics
import torch
from toy_models import shake, small_bert
from transformers import BertForSequenceClassification

from distilkit.config import GLUE_TASKS
from distilkit.data.task_examples import task_examples
from distilkit.data.task_files import load
from distilkit.data.tasks import TASKS, get_task, scores

# Columns and label names: data set card of nyu-mll/glue. Metrics: Wang et al. 2019, table 1.
FACTS = {
    "cola": ("sentence", "unacceptable acceptable", "matthews"),
    "sst2": ("sentence", "negative positive", "accuracy"),
    "mrpc": ("sentence1 sentence2", "not_equivalent equivalent", "accuracy f1"),
    "qqp": ("question1 question2", "not_duplicate duplicate", "accuracy f1"),
    "stsb": ("sentence1 sentence2", "", "pearson spearman"),
    "mnli": ("premise hypothesis", "entailment neutral contradiction", "accuracy"),
    "qnli": ("question sentence", "entailment not_entailment", "accuracy"),
    "rte": ("sentence1 sentence2", "entailment not_entailment", "accuracy"),
    "wnli": ("sentence1 sentence2", "not_entailment entailment", "accuracy"),
}


# --- the table ----------------------------------------------------------------------------------


def test_nine_tasks():
    assert set(FACTS) == set(GLUE_TASKS)
    assert tuple(TASKS) == (*GLUE_TASKS, "imdb", "squad")


@pytest.mark.parametrize("name", FACTS)
def test_the_table_says_what_glue_says(name):
    row, (columns, labels, metrics) = TASKS[name], FACTS[name]
    assert row.name == name
    assert row.columns == tuple(columns.split())
    assert row.labels == tuple(labels.split())  # the order is that of the numbers 0, 1, 2
    assert row.metrics == tuple(metrics.split())
    assert row.score in row.metrics
    assert row.regression is (name == "stsb")
    parts = ("matched", "mismatched") if name == "mnli" else ("",)
    for split in ("validation", "test"):
        assert getattr(row, split) == tuple(f"{split}_{p}".strip("_") for p in parts)


def test_unknown_task():
    for ask in (get_task, lambda name: load(name, "/nowhere"), lambda name: scores(name, [0], [0])):
        with pytest.raises(ValueError, match=r"unknown task 'sst-2'.*cola.*wnli"):
            ask("sst-2")


# --- the metrics --------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    """Any socket is an error, and so is any look-up of a name."""

    def blocked(*_, **__):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket, "socket", blocked)
    monkeypatch.setattr(socket, "create_connection", blocked)
    monkeypatch.setattr(socket, "getaddrinfo", blocked)


def directly(name: str, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Formulas by hand where they are short, the libraries elsewhere."""
    if name == "stsb":
        return {
            "pearson": np.corrcoef(x, y)[0, 1],
            "spearman": scipy.stats.spearmanr(x, y)[0],
        }
    accuracy = sum(a == b for a, b in zip(x, y, strict=True)) / len(x)
    if name == "cola":
        return {"matthews": sklearn.metrics.matthews_corrcoef(y, x)}
    if name in ("mrpc", "qqp"):
        true = sum(a == b == 1 for a, b in zip(x, y, strict=True))
        return {"accuracy": accuracy, "f1": 2 * true / (x.sum() + y.sum())}
    return {"accuracy": accuracy}


def random_answers(name: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    if name == "stsb":
        y = np.round(generator.uniform(0, 5, n), 1)  # with ties
        return y + generator.normal(size=n), y
    classes = len(FACTS[name][1].split())
    y = generator.integers(0, classes, n)
    return np.where(generator.random(n) < 0.5, y, generator.integers(0, classes, n)), y


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FACTS)
def test_metrics(no_network, name, seed):
    x, y = random_answers(name, 200, seed)
    found = scores(name, x, y)
    wanted = directly(name, x, y)
    assert list(found) == list(wanted)
    assert all(type(value) is float for value in found.values())
    assert found == pytest.approx(wanted, rel=0, abs=1e-9)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("name", FACTS)
def test_all_right_and_all_wrong(no_network, name):
    _, y = random_answers(name, 50, 1)
    assert scores(name, y, y) == pytest.approx(dict.fromkeys(TASKS[name].metrics, 1.0))
    wrong = -y if name == "stsb" else (y + 1) % len(TASKS[name].labels)
    assert max(scores(name, wrong, y).values()) <= 0


def test_two_evaluations_do_not_mix(no_network):
    one, zero = np.ones(4, dtype=int), np.zeros(4, dtype=int)
    assert scores("rte", one, one) == {"accuracy": 1.0}
    assert scores("rte", zero, one) == {"accuracy": 0.0}
    assert scores("rte", one, one) == {"accuracy": 1.0}


@pytest.mark.slow
def test_large_evaluations(no_network):
    x, y = random_answers("qqp", 40_430, 0)  # QQP's validation set
    assert scores("qqp", x, y) == pytest.approx(directly("qqp", x, y), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "x", "y", "wanted"),
    [
        ("cola", [1, 1, 1], [0, 1, 1], {"matthews": None}),
        ("cola", [0, 1, 1], [1, 1, 1], {"matthews": None}),
        ("cola", [1, 0, 1, 0], [1, 1, 0, 0], {"matthews": 0.0}),  # defined, and 0
        ("mrpc", [0, 0], [0, 0], {"accuracy": 1.0, "f1": None}),
        ("mrpc", [0, 0], [1, 0], {"accuracy": 0.5, "f1": 0.0}),
        ("qqp", [1, 0], [0, 0], {"accuracy": 0.5, "f1": 0.0}),
        ("stsb", [2.0, 2.0, 2.0], [1.0, 2.0, 3.0], {"pearson": None, "spearman": None}),
        ("stsb", [1.0, 2.0, 3.0], [4.0, 4.0, 4.0], {"pearson": None, "spearman": None}),
        ("stsb", [1.0], [4.0], {"pearson": None, "spearman": None}),
        ("stsb", [1.0, 2.0], [4.0, 5.0], {"pearson": 1.0, "spearman": 1.0}),
    ],
)
def test_undefined_is_none(no_network, name, x, y, wanted):
    assert scores(name, np.array(x), np.array(y)) == pytest.approx(wanted, nan_ok=False)


# --- loading ------------------------------------------------------------------------------------


def columns_of(name: str, n: int = 6, seed: int = 0) -> dict[str, list]:
    generator = np.random.default_rng(seed)
    words = [[f"w{i}" for i in generator.integers(0, 200, 5)] for _ in range(n)]
    found = {c: [f"{c} " + " ".join(w) for w in words] for c in FACTS[name][0].split()}
    labels = FACTS[name][1].split()
    found["label"] = [i % len(labels) for i in range(n)] if labels else [i % 6 for i in range(n)]
    if not labels:
        found["label"] = [float(x) for x in found["label"]]
    found["idx"] = list(range(n))
    return found


def write(folder: Path, name: str, **splits) -> Path:
    (folder / name).mkdir(parents=True, exist_ok=True)
    for split, columns in splits.items():
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / name / f"{split}.parquet")
    return folder


def whole(folder: Path, name: str, **replaced) -> Path:
    splits = {"train": columns_of(name), **dict.fromkeys(TASKS[name].validation, columns_of(name))}
    return write(folder, name, **{**splits, **replaced})


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.slow
def test_a_folder_of_parquet_files(no_network, tmp_path, name):
    source = whole(tmp_path, name)
    for form in (source, str(source)):
        data = load(name, form)
        assert set(data) == {"train", *TASKS[name].validation}
        assert {k: list(data["train"][k]) for k in columns_of(name)} == columns_of(name)


def test_a_home_relative_folder(no_network, tmp_path, monkeypatch):
    whole(tmp_path / "tasks", "rte")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load("rte", "~/tasks")["train"]) == 6


def test_what_the_datasets_library_writes_keeps_its_label_names(no_network, tmp_path):
    features = datasets.Features(
        {
            "sentence": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["negative", "positive"]),
        }
    )
    (tmp_path / "sst2").mkdir()
    written = datasets.Dataset.from_dict({"sentence": ["a", "b"], "label": [0, 1]}, features)
    for split in ("train", "validation"):
        written.to_parquet(tmp_path / "sst2" / f"{split}.parquet")
    assert load("sst2", tmp_path)["train"].features["label"].names == ["negative", "positive"]


def test_unlabelled_test_sets_are_loaded(no_network, tmp_path):
    unlabelled = columns_of("rte") | {"label": [-1] * 6}
    data = load("rte", whole(tmp_path, "rte", test=unlabelled))
    assert list(data["test"]["label"]) == [-1] * 6


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("sst2", {"train": 67_349, "validation": 872}),
        ("cola", {"train": 8_551, "validation": 1_043}),
        ("mrpc", {"train": 3_668, "validation": 408, "test": 1_725}),
    ],
)
@pytest.mark.slow
def test_real_glue_through_the_same_door(no_network, shared_glue, name, rows):
    data = load(name, shared_glue)
    assert {split: len(part) for split, part in data.items()} == rows
    share = np.mean(data["train"]["label"])  # of label 1, as published
    assert share == pytest.approx({"sst2": 0.558, "cola": 0.704, "mrpc": 0.674}[name], abs=0.01)


def test_missing_split(no_network, tmp_path):
    write(tmp_path, "rte", train=columns_of("rte"))
    with pytest.raises(FileNotFoundError, match=r"rte has no validation\.parquet"):
        load("rte", tmp_path)
    write(tmp_path, "mnli", train=columns_of("mnli"), validation_matched=columns_of("mnli"))
    with pytest.raises(FileNotFoundError, match=r"no validation_mismatched\.parquet"):
        load("mnli", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"sst2 has no train\.parquet"):
        load("sst2", tmp_path)


def test_missing_folder(no_network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in (tmp_path / "no", str(tmp_path / "no"), "./no", "../no", "~/no-such-folder"):
        with pytest.raises(FileNotFoundError, match="no file or folder"):
            load("rte", source)


def test_a_task_with_a_hub_of_its_own_comes_from_there(tmp_path, monkeypatch):
    asked = []

    def load_dataset(*where):
        asked.append(where)
        raise ConnectionError("as far as it goes")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    for source in (str(tmp_path), "nyu-mll/glue"):
        with pytest.raises(ConnectionError):
            load("imdb", source)
    assert asked == [(TASKS["imdb"].hub,)] * 2
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        load("imdb", str(tmp_path / "no"))


@pytest.mark.parametrize("name", FACTS)
def test_missing_column(no_network, tmp_path, name):
    for column in (*TASKS[name].columns, "label"):
        less = {k: v for k, v in columns_of(name).items() if k != column}
        source = whole(tmp_path / column, name, train=less)
        with pytest.raises(ValueError, match=f"train: no column '{column}', only .*idx"):
            load(name, source)


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        ("sst2", 2, r"label 2 in row 4; labels are 0 \(negative\), 1 \(positive\)"),
        ("sst2", -1, r"label -1 in row 4"),
        ("mnli", 3, r"2 \(contradiction\)"),
        ("stsb", 5.1, r"label 5\.1 in row 4; labels are 0 to 5"),
        ("stsb", -1.0, r"labels are 0 to 5"),
        ("stsb", float("nan"), r"label nan in row 4"),
        ("sst2", None, r"row 4"),
    ],
)
@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.slow
def test_label_out_of_range(no_network, tmp_path, name, label, message, split):
    wrong = columns_of(name)
    wrong["label"][4] = label
    split = TASKS[name].validation[-1] if split == "validation" else split
    with pytest.raises(ValueError, match=message) as error:
        load(name, whole(tmp_path, name, **{split: wrong}))
    assert split in str(error.value)


def test_no_examples(no_network, tmp_path):
    with pytest.raises(ValueError, match="validation: no examples"):
        load("rte", whole(tmp_path, "rte", validation=columns_of("rte", 0)))


# --- examples for the loop ----------------------------------------------------------------------


def some(n: int = 230, *, pairs: bool = False, seed: int = 0) -> dict[str, list]:
    generator = np.random.default_rng(seed)

    def text() -> str:
        return " ".join(f"w{i}" for i in generator.integers(0, 200, generator.integers(1, 25)))

    names = ("sentence1", "sentence2") if pairs else ("sentence",)
    found = {name: [text() for _ in range(n)] for name in names}
    return {**found, "label": generator.integers(0, 2, n).tolist()}


def examples(tokenizer, n: int = 230, *, pairs: bool = False, max_length: int = 60):
    row = TASKS["rte" if pairs else "sst2"]
    return task_examples(some(n, pairs=pairs), row, tokenizer, max_length=max_length, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [False, True])
def test_padding_has_no_influence_on_the_logits(tokenizer, pairs):
    bert = small_bert(2)
    model = BertForSequenceClassification(bert.config).eval()
    shake(model, 0.3)
    data = examples(tokenizer, 20, pairs=pairs)
    ids = np.arange(20)
    together = data.batch(0, ids)
    assert together["input_ids"].shape == (20, data.lengths.max())
    assert (together["attention_mask"].sum(1).numpy() == data.lengths).all()
    assert data.lengths.min() < data.lengths.max() - 10
    names = ("input_ids", "attention_mask", "token_type_ids")
    with torch.no_grad():
        batch = model(**{name: together[name] for name in names}).logits
        for i in ids:
            plain = tokenizer(
                *(some(20, pairs=pairs)[c][i] for c in TASKS["rte" if pairs else "sst2"].columns),
                return_tensors="pt",
            )
            alone = model(**plain).logits[0]
            assert (batch[i] - alone).abs().max() < 1e-5
    assert batch.std(0).min() > 1e-2  # the texts do matter


def test_a_batch_is_what_the_tokenizer_says(tokenizer):
    data, texts = examples(tokenizer, 20, pairs=True), some(20, pairs=True)
    ids = np.array([7, 2, 11])
    batch = data.batch(0, ids)
    encoded = tokenizer(
        [texts["sentence1"][i] for i in ids],
        [texts["sentence2"][i] for i in ids],
        padding=True,
        return_tensors="pt",
    )
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(batch[name], encoded[name]), name
    assert batch["labels"].tolist() == [texts["label"][i] for i in ids]
    tokens = int(encoded["attention_mask"].sum())
    assert batch["counts"] == {"examples": 3, "tokens": tokens, "targets": 3, "labels": 3}
    again = data.batch(5, ids)
    assert all(torch.equal(batch[n], again[n]) for n in batch if n != "counts")


def test_pairs_have_token_types_and_single_texts_none(tokenizer):
    data = examples(tokenizer, 20, pairs=True)
    row = data.batch(0, np.array([4]))
    types, ids = row["token_type_ids"][0], row["input_ids"][0]
    first = ids.tolist().index(tokenizer.sep_token_id) + 1
    assert types.tolist() == [0] * first + [1] * (len(ids) - first)
    assert 0 < first < len(ids)
    assert not examples(tokenizer).batch(0, np.arange(9))["token_type_ids"].any()


def test_long_texts_are_cut(tokenizer):
    data = examples(tokenizer, pairs=True, max_length=16)
    assert data.lengths.max() == 16
    assert all(ids[-1] == tokenizer.sep_token_id for ids in data.input_ids)
    assert all((ids == tokenizer.sep_token_id).sum() == 2 for ids in data.input_ids)


def test_regression_has_real_labels(tokenizer):
    columns = some(4, pairs=True) | {"label": [0.0, 2.5, 3.75, 5.0]}
    data = task_examples(columns, TASKS["stsb"], tokenizer, max_length=60, seed=0)
    assert data.batch(0, np.arange(4))["labels"].tolist() == [0.0, 2.5, 3.75, 5.0]
    assert data.batch(0, np.arange(4))["labels"].dtype == torch.float32


@pytest.mark.parametrize("batch_size", [1, 4, 7, 230, 500])
@pytest.mark.parametrize("n", [1, 5, 230, 701])
@pytest.mark.slow
def test_order_is_a_permutation_of_its_own_for_each_epoch(tokenizer, n, batch_size):
    data = examples(tokenizer, n)
    orders = [data.order(epoch, batch_size).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(n)) for order in orders)
    assert orders[0] == data.order(0, batch_size).tolist()
    if n > 5 and batch_size < n:
        assert orders[0] != orders[1] != orders[2] != orders[0]


def test_order_leaves_little_padding_and_batches_in_random_order(tokenizer):
    data, size = examples(tokenizer, 701), 8
    order = data.order(0, size)
    batches = [data.lengths[order[i : i + size]] for i in range(0, 701, size)]
    padding = sum((b.max() - b).sum() for b in batches)
    plain = np.random.default_rng(0).permutation(701)
    parts = [data.lengths[plain[i : i + size]] for i in range(0, 701, size)]
    assert padding < sum((b.max() - b).sum() for b in parts) / 5
    means = [b.mean() for b in batches[:-1]]
    trend = scipy.stats.spearmanr(range(len(means)), means)[0]
    assert abs(trend) < 0.5  # not from short to long


def test_the_longest_texts_do_not_always_come_last(tokenizer):
    """What fills no batch ends an epoch, at the schedule's lowest rate: it must be any text."""
    data, size = examples(tokenizer, 30), 8
    last = [set(data.order(epoch, size)[24:].tolist()) for epoch in range(40)]
    assert len(set.union(*last)) > 20
    assert len(set.intersection(*last)) < 6
