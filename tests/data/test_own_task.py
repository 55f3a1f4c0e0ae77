"""A task from what a person has: every format and kind, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
from decimal import Decimal
from itertools import chain

import datasets
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import seqeval.metrics
import sklearn.metrics

from distilkit.data.own_task import task_from, unlabelled_from
from distilkit.data.tasks import Task, chance_score, scores

TEAMS = ("billing", "shipping", "other team")


def rows(count: int = 60) -> dict[str, list]:
    texts = [f"ticket {i}, with a comma" for i in range(count)]
    return {"body": texts, "team": [TEAMS[i % 3] for i in range(count)]}


def write(path, columns: dict[str, list], header: bool = True):
    """Write columns in the format of the path's name."""
    rows = zip(*columns.values(), strict=True)
    records = [dict(zip(columns, values, strict=True)) for values in rows]
    kind, opened = path.name.removesuffix(".gz").rpartition(".")[2], open
    if path.name.endswith(".gz"):
        opened = gzip.open
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        if opened is gzip.open:
            path.write_bytes(gzip.compress(path.read_bytes()))
        return path
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if kind == "jsonl":
            file.writelines(json.dumps(record) + "\n" for record in records)
        elif kind == "tsv":
            lines = [columns, *(record.values() for record in records)][not header :]
            file.writelines("\t".join(str(v) for v in line) + "\n" for line in lines)
        else:
            writer = csv.writer(file)
            writer.writerows([columns, *(r.values() for r in records)][not header :])
    return path


def teams(data, **options) -> Task:
    return task_from(data, text_columns="body", label_column="team", **options)


# --- where data comes from --------------------------------------------------------------------


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "CSV"])
@pytest.mark.slow
def test_every_format_gives_the_same_task(tmp_path, suffix, gz):
    task = teams(write(tmp_path / f"tickets.{suffix}{gz}", rows()))
    same = teams(pd.DataFrame(rows()), name="tickets")
    assert task == same
    assert task.name == "tickets"
    assert task.labels == tuple(sorted(TEAMS))
    assert task.kind == "single_label_classification"
    assert task.metrics == ("accuracy", "macro_f1", "matthews")
    for split in ("train", "validation", "test"):
        assert task.data[split].to_dict() == same.data[split].to_dict()


def test_datasets_objects_and_home_relative_paths(tmp_path, monkeypatch):
    data = datasets.Dataset.from_dict(rows())
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "own.csv", rows())
    assert teams(data) == teams("~/own.csv")
    parts = datasets.DatasetDict({"train": data, "validation": data.select(range(9))})
    task = teams(parts)
    assert {split: len(part) for split, part in task.data.items()} == {"train": 60, "validation": 9}
    assert any("9 of 9 validation" in note for note in task.notes)


def test_a_folder_with_splits_tells_what_it_left_out(tmp_path):
    for name in ("train.csv", "dev.csv", "test.csv"):
        write(tmp_path / name, rows())
    write(tmp_path / "old.csv", rows())
    (tmp_path / "README.md").write_text("about")
    task = teams(tmp_path)
    assert list(task.data) == ["train", "validation", "test"]
    assert any("old.csv" in note and "README.md" in note for note in task.notes)
    write(tmp_path / "train.csv.gz", rows())
    with pytest.raises(ValueError, match=r"train\.csv\.gz"):
        teams(tmp_path)


def test_shards_of_a_clone_from_the_hub(tmp_path):
    (tmp_path / "data").mkdir()
    both = rows(60)
    for i in range(2):
        part = {name: values[30 * i : 30 * i + 30] for name, values in both.items()}
        write(tmp_path / "data" / f"train-0000{i}-of-00002.parquet", part)
    whole = teams(pd.DataFrame(both))
    assert teams(tmp_path).data["train"]["body"][:] == whole.data["train"]["body"][:]


def test_a_missing_file_is_no_hub_name(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: pytest.fail("asked the Hub"))
    for name in ("tickets.csv", str(tmp_path / "nothing"), "./tickets"):
        with pytest.raises(FileNotFoundError):
            teams(name)


def test_a_name_goes_to_the_hub(monkeypatch):
    asked = []

    def load_dataset(*names):
        asked.append(names)
        return datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows())})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert teams("owner/tickets:small").name == "tickets-small"
    assert asked == [("owner/tickets", "small")]


def test_semicolons_quotes_and_line_breaks(tmp_path):
    path = tmp_path / "excel.csv"
    lines = [f'"one\n""two"" {i}";{TEAMS[i % 3]}' for i in range(30)]
    path.write_text("﻿body;team\n" + "\n".join(lines) + "\n", encoding="utf-8")
    assert teams(path).data["train"]["body"][0].startswith('one\n"two"')


def test_no_header(tmp_path):
    path = write(tmp_path / "bare.csv", rows(), header=False)
    task = task_from(path, text_columns=0, label_column=1)
    assert task.columns == ("0",)
    assert sum(map(len, task.data.values())) == 60


def test_a_git_lfs_pointer(tmp_path):
    path = tmp_path / "train.parquet"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match="git lfs pull"):
        teams(path)


# --- kinds and labels -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([3, 1, 2], ("1", "2", "3")),
        (["10", "9", "8"], ("8", "9", "10")),
        ([True, False, True], ("False", "True")),
        (["b ", "a", "b"], ("a", "b")),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_labels_of_any_type(tmp_path, suffix, labels, names):
    if suffix == "parquet" and any(isinstance(label, str) for label in labels):
        labels = [str(label) for label in labels]
    data = {"body": rows()["body"], "team": labels * 20}
    task = teams(write(tmp_path / f"own.{suffix}", data))
    assert task.labels == names
    for split in task.data.values():
        for text, number in zip(split["body"][:], split["label"][:], strict=True):
            label = data["team"][data["body"].index(text)]
            assert names[number] == str(label).strip()


def test_the_order_of_class_labels_categories_and_a_teacher():
    order = ("shipping", "other team", "billing")
    numbers = [order.index(team) for team in rows()["team"]]
    feature = datasets.ClassLabel(names=list(order))
    features = datasets.Features({"body": datasets.Value("string"), "team": feature})
    data = datasets.Dataset.from_dict({"body": rows()["body"], "team": numbers}, features)
    frame = pd.DataFrame(rows())
    categories = frame.assign(team=pd.Categorical(frame.team, categories=order))
    tasks = [teams(data), teams(categories), teams(frame, labels=order)]
    for task in tasks:
        assert task.labels == order
        assert task.data["train"].to_dict() == tasks[0].data["train"].to_dict()
    assert teams(frame, labels=(*order, "new")).labels == (*order, "new")
    with pytest.raises(ValueError, match="billing"):
        teams(frame, labels=order[:2])


def test_whole_numbers_with_gaps_from_pandas_stay_whole():
    twice = pd.concat([pd.DataFrame(rows()), pd.DataFrame(rows()).team], axis=1)
    with pytest.raises(ValueError, match="two columns of one name"):
        teams(twice)
    frame = pd.DataFrame({"body": rows()["body"], "team": [1.0, 2.0, float("nan")] * 20})
    task = teams(frame)
    assert task.labels == ("1", "2")
    assert any("20 of 60" in note for note in task.notes)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_regression_of_any_range(tmp_path, suffix):
    values = list(np.linspace(-3, 700, 60).round(2))
    data = {"body": rows()["body"], "team": values}
    task = teams(write(tmp_path / f"own.{suffix}", data))
    assert task.kind == "regression"
    assert task.labels == ()
    assert sorted(v for part in task.data.values() for v in part["label"][:]) == values


def test_star_ratings_are_classes_unless_said():
    data = pd.DataFrame({"body": rows()["body"], "team": [1, 2, 3, 4, 5] * 12})
    assert teams(data).labels == ("1", "2", "3", "4", "5")
    task = teams(data, kind="regression")
    assert task.kind == "regression"
    assert task.metrics == ("pearson", "spearman", "rmse")


def test_several_labels_as_lists_and_as_columns(tmp_path):
    lists = [[["toxic", "rude"], ["rude"], []][i % 3] for i in range(60)]
    path = write(tmp_path / "own.jsonl", {"body": rows()["body"], "team": lists})
    task = teams(path)
    flags = {name: [int(name in each) for each in lists] for name in ("rude", "toxic")}
    for suffix in ("csv", "parquet"):
        path = write(tmp_path / f"own.{suffix}", {"body": rows()["body"], **flags})
        columns = task_from(path, text_columns="body", label_column=["rude", "toxic"])
        assert columns.kind == task.kind == "multi_label_classification"
        assert columns.labels == task.labels == ("rude", "toxic")
        assert columns.data["test"]["label"][:] == task.data["test"]["label"][:]
    turned = task_from(
        path, text_columns="body", label_column=["rude", "toxic"], labels=["toxic", "rude"]
    )  # as a teacher has them
    assert turned.labels == ("toxic", "rude")
    assert np.array_equal(
        np.array(turned.data["test"]["label"][:])[:, ::-1], columns.data["test"]["label"][:]
    )
    with pytest.raises(ValueError, match="2 columns of labels"):
        task_from(
            path, text_columns="body", label_column=["rude", "toxic"], labels=["rude", "toxic", "c"]
        )
    bad = pd.DataFrame({"body": rows()["body"], **flags}).assign(toxic="2")
    with pytest.raises(ValueError, match="'2'"):
        task_from(bad, text_columns="body", label_column=["rude", "toxic"])


def test_words_and_tags(tmp_path):
    words = [["Ada", "lives", "in", f"Town{i}"] for i in range(20)]
    tags = [["B-person", "O", "O", "B-place"]] * 20
    path = write(tmp_path / "own.jsonl", {"words": words, "tags": tags})
    task = task_from(path, text_columns="words", label_column="tags")
    assert task.kind == "token_classification"
    assert task.labels == ("O", "B-person", "B-place")
    assert task.metrics == ("entity_f1",)
    assert set(map(tuple, task.data["test"]["label"][:])) == {(1, 0, 0, 2)}
    tags[7] = tags[7][:3]
    with pytest.raises(ValueError, match=r"own\.jsonl, line 8: 4 words and 3 labels"):
        task_from(
            write(path, {"words": words, "tags": tags}), text_columns="words", label_column="tags"
        )


def test_pairs(tmp_path):
    data = {"one": rows()["body"], "two": rows()["body"][::-1], "same": ["yes", "no"] * 30}
    task = task_from(
        write(tmp_path / "own.csv", data), text_columns=["one", "two"], label_column="same"
    )
    assert task.columns == ("one", "two")
    assert task.labels == ("no", "yes")


def test_without_labels(tmp_path):
    path = write(tmp_path / "own.csv", {"body": rows()["body"]})
    task = task_from(path, text_columns="body", label_column=None)
    assert task.data["train"].column_names == ["body"]


# --- splits -----------------------------------------------------------------------------------


def test_the_split_is_stratified_and_follows_its_seed():
    frame = pd.DataFrame({"body": [f"text {i}" for i in range(1000)], "team": "often"})
    frame.loc[:99, "team"] = "seldom"
    task = teams(frame)
    shares = {split: np.mean(np.array(part["label"][:]) == 1) for split, part in task.data.items()}
    assert {split: len(part) for split, part in task.data.items()} == {
        "train": 800,
        "validation": 100,
        "test": 100,
    }
    assert shares == pytest.approx({"train": 0.1, "validation": 0.1, "test": 0.1})
    texts = [text for part in task.data.values() for text in part["body"][:]]
    assert sorted(texts) == sorted(frame.body)
    assert teams(frame).data["test"]["body"][:] == task.data["test"]["body"][:]
    assert teams(frame, seed=1).data["test"]["body"][:] != task.data["test"]["body"][:]


@pytest.mark.slow
def test_a_rare_class_stays_in_the_training_data():
    frame = pd.DataFrame(rows(200))
    frame.loc[5, "team"] = "once"
    for seed in range(30):
        train = teams(frame, seed=seed).data["train"]
        assert len(set(train["label"][:])) == 4


def test_splits_by_other_names_are_used_or_named(tmp_path):
    parts = {"train": rows(40), "dev": rows(9), "more": rows(7)}
    task = teams({name: pd.DataFrame(part) for name, part in parts.items()})
    assert {k: len(v) for k, v in task.data.items()} == {"train": 40, "validation": 9}
    assert any("left out" in note and "more" in note for note in task.notes)
    both = {name: pd.DataFrame(rows(30)) for name in ("train", "valid", "validation")}
    assert any("left out" in note and "valid" in note for note in teams(both).notes)


def test_shards_need_not_have_the_same_keys(tmp_path):
    (tmp_path / "csv").mkdir()
    write(tmp_path / "train-0.jsonl", rows(30) | {"note": ["x"] * 30})
    write(tmp_path / "train-1.jsonl", rows(30) | {"other": ["y"] * 30})
    write(tmp_path / "validation.jsonl", rows(9))
    assert len(teams(tmp_path).data["train"]) == 60
    for number, name in enumerate(("team", "Team")):
        write(tmp_path / "csv" / f"train-{number}.csv", {"body": rows()["body"], name: ["a"] * 60})
    with pytest.raises(ValueError, match=r"train-1\.csv: no column 'team', only body"):
        teams(tmp_path / "csv")


def test_shards_that_number_their_classes_differently_are_refused(tmp_path):
    for i, names in enumerate((["a", "c"], ["a", "b", "c"])):
        label = datasets.ClassLabel(names=names)
        features = datasets.Features({"text": datasets.Value("string"), "label": label})
        part = datasets.Dataset.from_dict({"text": ["w1", "w2"], "label": [0, 1]}, features)
        part.to_parquet(tmp_path / f"train-{i}.parquet")
    with pytest.raises(ValueError, match=r"train-0\.parquet to train-1\.parquet"):
        task_from(tmp_path, label_column="label")


def test_a_category_may_have_spaces_around_it():
    frame = pd.DataFrame({"text": ["one", "two", "three"] * 20, "team": [" a", "b ", "a"] * 20})
    assert task_from(frame.astype({"team": "category"}), label_column="team").labels == ("a", "b")


def test_words_without_a_label_are_no_class():
    task = Task("w", "W", ("words",), ("a", "b"), "token_classification", ("accuracy",), "accuracy")
    assert chance_score(task, [[0, -1, -1], [1, 0, -1]]) == pytest.approx(2 / 3)


def test_only_the_validation_is_missing(tmp_path):
    write(tmp_path / "train.csv", rows(100))
    write(tmp_path / "test.csv", rows(10))
    task = teams(tmp_path)
    assert {k: len(v) for k, v in task.data.items()} == {"train": 90, "validation": 10, "test": 10}


# --- nothing wrong in silence -----------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_nulls_are_treated_alike_in_every_format(tmp_path, suffix):
    data = rows()
    data["body"][3], data["body"][7], data["team"][11] = None, "  ", None
    if suffix == "csv":
        data = {k: ["" if v is None else v for v in values] for k, values in data.items()}
    task = teams(write(tmp_path / f"own.{suffix}", data))
    assert sum(map(len, task.data.values())) == 57
    place = {"csv": "line 5", "jsonl": "line 4", "parquet": "row 4"}[suffix]
    assert any("2 of 60" in note and place in note for note in task.notes)
    assert any("1 of 60" in note and "label" in note for note in task.notes)


def test_too_many_empty_texts():
    data = pd.DataFrame(rows())
    data.loc[:20, "body"] = None
    with pytest.raises(ValueError, match="21 of 60"):
        teams(data)


@pytest.mark.parametrize("value", [7, 7.5, ["a", "b"], True, {"a": 1}])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_text_that_is_none(tmp_path, value, split):
    for name in ("train", "validation", "test"):
        data = rows()
        if name == split:
            data["body"][5] = value
        write(tmp_path / f"{name}.jsonl", data)
    with pytest.raises(ValueError, match=rf"{split}\.jsonl, line 6, column 'body'"):
        teams(tmp_path)


def test_a_column_of_numbers_is_no_text(tmp_path):
    path = write(tmp_path / "own.csv", {"id": range(60), **rows()})
    with pytest.raises(ValueError, match="'id' holds numbers"):
        task_from(path, text_columns="id", label_column="team")


@pytest.mark.parametrize("nothing", [None, "?", "", -1])
def test_a_test_split_without_labels(tmp_path, nothing):
    for name in ("train", "validation"):
        write(tmp_path / f"{name}.jsonl", rows())
    write(tmp_path / "test.jsonl", {"body": rows()["body"], "team": [nothing] * 60})
    if nothing == -1:
        for name in ("train", "validation"):
            feature = datasets.ClassLabel(names=list(TEAMS))
            features = datasets.Features({"body": datasets.Value("string"), "team": feature})
            numbers = [TEAMS.index(team) for team in rows()["team"]]
            data = datasets.Dataset.from_dict({"body": rows()["body"], "team": numbers}, features)
            (tmp_path / f"{name}.jsonl").unlink()
            data.to_parquet(tmp_path / f"{name}.parquet")
        (tmp_path / "test.jsonl").unlink()
        data.map(lambda _: {"team": -1}).to_parquet(tmp_path / "test.parquet")
    task = teams(tmp_path)
    assert len(task.data["test"]) == 60
    assert "label" not in task.data["test"].column_names


def test_an_unknown_label_in_the_validation(tmp_path):
    write(tmp_path / "train.csv", rows())
    data = rows()
    data["team"][2] = "sales"
    write(tmp_path / "validation.csv", data)
    with pytest.raises(ValueError, match=r"validation\.csv, line 4, column 'team'.*'sales'"):
        teams(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["one"] * 60, "one label only"),
        ([f"{i % 5},5" for i in range(60)], "'0,5' has a comma"),
        ([f"intent {i // 2}" for i in range(60)], "hold some out"),
        ([f"id {i}" for i in range(60)], "60 different values"),
        (["Billing", "billing"] * 30, "case"),
        ([0.5] * 60, "all labels"),
    ],
)
def test_labels_that_make_no_task(labels, message):
    with pytest.raises(ValueError, match=message):
        teams(pd.DataFrame({"body": rows()["body"], "team": labels}))


def test_columns_and_arguments_that_are_not_there():
    frame = pd.DataFrame(rows())
    with pytest.raises(ValueError, match="'text', only body, team"):
        task_from(frame)
    with pytest.raises(ValueError, match="'label', only body, team"):
        task_from(frame, text_columns="body", label_column="label")
    with pytest.raises(ValueError, match="kind = 'classes'"):
        teams(frame, kind="classes")
    with pytest.raises(ValueError, match="too few"):
        teams(frame.head(5))
    with pytest.raises(TypeError, match="list"):
        teams([1, 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"body,team\na,b,c\n", "line 2 has 3 fields"),
        (b"body,team\nfine,b\nbad \xff,b\n", "line 3 is not UTF-8"),
        (b'body,team\n"open,b\n', "line 2"),
        (b"", "empty"),
        (b"body,body\na,b\n", "two columns"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    path = tmp_path / "own.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        teams(path)


def test_damaged_json_and_gzip(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"body": "a", "team": "b"}\n\n{"body": "a", \n')
    with pytest.raises(ValueError, match=r"own\.jsonl, line 3"):
        teams(path)
    lines = b"".join(b"text %d,b\n" % i for i in range(9000))
    whole = gzip.compress(b"body,team\n" + lines)
    middle = len(whole) // 2
    for damaged in (whole[:-20], whole[:middle] + bytes(99) + whole[middle + 99 :]):
        for name in ("own.csv.gz", "own.parquet.gz"):
            path = tmp_path / name
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=name):
                teams(path)


# --- unlabelled texts -------------------------------------------------------------------------


def test_unlabelled_texts_leave_out_what_is_held_out(tmp_path):
    task = teams(pd.DataFrame(rows()))
    more = {"body": [*rows()["body"], "new one", "new one", None]}
    write(tmp_path / "more.jsonl", more)
    (tmp_path / "even.txt").write_text("a line\nanother\n\n")
    found = unlabelled_from([tmp_path / "more.jsonl", tmp_path / "even.txt"], task)
    held_out = {*task.data["validation"]["body"][:], *task.data["test"]["body"][:]}
    assert found.column_names == ["body"]
    assert not held_out & set(found["body"][:])
    assert len(found) == 48 + 3
    with pytest.raises(ValueError, match="validation or test"):
        unlabelled_from(pd.DataFrame({"body": sorted(held_out)}), task)


# --- metrics ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_entity_f1_is_what_seqeval_counts():
    random = np.random.default_rng(0)
    labels = ("O", "B-a", "I-a", "B-b", "I-b")
    task = Task("t", "t", ("words",), labels, "token_classification", ("entity_f1",), "entity_f1")
    for _ in range(100):
        lengths = random.integers(1, 12, random.integers(1, 6))
        true = [random.integers(0, 5, n) for n in lengths]
        guess = [np.where(random.random(len(t)) < 0.6, t, random.permutation(t)) for t in true]
        wanted = seqeval.metrics.f1_score(
            *([[labels[i] for i in s] for s in sentences] for sentences in (true, guess)),
            zero_division=0,
        )
        found = scores(task, [list(g) for g in guess], [list(t) for t in true])["entity_f1"]
        assert (found or 0) == pytest.approx(wanted)


def test_metrics_of_classes_several_labels_and_numbers():
    random = np.random.default_rng(1)
    x, y = random.integers(0, 4, (2, 200))
    task = Task("t", "t", ("a",), tuple("abcd"), metrics=("accuracy", "macro_f1"))
    found = scores(task, x, y)
    assert found["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(y, x, average="macro"))
    assert found["accuracy"] == pytest.approx((x == y).mean())
    several = Task(
        "t", "t", ("a",), tuple("abc"), "multi_label_classification", ("micro_f1", "macro_f1")
    )
    x, y = random.integers(0, 2, (2, 100, 3))
    found = scores(several, x, y)
    for average in ("micro", "macro"):
        wanted = sklearn.metrics.f1_score(y, x, average=average)
        assert found[f"{average}_f1"] == pytest.approx(wanted)
    numbers = Task("t", "t", ("a",), (), "regression", ("rmse",), "rmse")
    x, y = random.normal(size=(2, 50))
    wanted = sklearn.metrics.root_mean_squared_error(y, x)
    assert scores(numbers, x, y)["rmse"] == pytest.approx(wanted)


@pytest.mark.parametrize("score", ["accuracy", "micro_f1", "macro_f1"])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.slow
def test_the_best_constant_answer(score, several):
    random = np.random.default_rng(2)
    kind = "multi_label_classification" if several else "single_label_classification"
    task = Task("t", "t", ("a",), tuple("abcd"), kind, (score,), score)
    labels = random.choice(4, 300, p=[0.1, 0.5, 0.3, 0.1])
    constants = [np.full(300, k) for k in range(4)]
    if several:
        labels = (random.random((300, 4)) < [0.1, 0.5, 0.3, 0.7]).astype(int)
        combinations = [[(k >> i) & 1 for i in range(4)] for k in range(1, 16)]
        constants = [np.broadcast_to(each, labels.shape) for each in combinations]
    best = max(scores(task, answer, labels)[score] for answer in constants)
    assert chance_score(task, labels) == pytest.approx(best)


def test_a_single_class_is_right_by_every_average():
    task = Task("t", "t", ("a",), ("x", "y"), metrics=("micro_f1",), score="micro_f1")
    assert scores(task, [0, 0], [0, 0]) == {"micro_f1": 1.0}


def test_lists_that_are_no_names_of_labels():
    texts = [f"text {i}" for i in range(20)]
    flags = {"text": texts, "labels": [[1, 0, 0]] * 10 + [[0, 1, 1]] * 10}
    with pytest.raises(ValueError, match="lists of 0, 1: give a column for each"):
        task_from(pd.DataFrame(flags), label_column="labels")
    tags = {"text": texts, "labels": [["O", "B-x", "O"]] * 20}
    with pytest.raises(ValueError, match="Labels of words need lists of words"):
        task_from(pd.DataFrame(tags), label_column="labels")


def test_tags_of_which_one_is_of_no_entity_are_scored_by_word():
    words = {"words": [["a", "b", "c"]] * 20, "tags": [["B-x", "X", "O"]] * 20}
    task = task_from(pd.DataFrame(words), text_columns="words", label_column="tags")
    assert task.metrics == ("accuracy", "macro_f1")


def test_decimals_of_a_database_are_numbers():
    prices = {
        "text": [f"text {i}" for i in range(20)],
        "price": [Decimal(i) / 4 for i in range(20)],
    }
    task = task_from(pd.DataFrame(prices), label_column="price")
    assert task.regression
    assert sorted(chain(*(part["label"][:] for part in task.data.values())))[1] == 0.25


def test_a_test_set_without_the_label_column_is_told_of():
    train = {"text": [f"text {i}" for i in range(40)], "team": TEAMS[:2] * 20}
    test = {"text": ["more", "texts"], "Team": TEAMS[:2]}
    task = task_from(
        {"train": pd.DataFrame(train), "test": pd.DataFrame(test)}, label_column="team"
    )
    assert any("no column 'team'" in note for note in task.notes)


def test_a_data_set_of_the_hub_that_cannot_be_prepared(monkeypatch):
    def load_dataset(*_, **__):
        raise datasets.exceptions.DatasetGenerationError("wrong") from OSError("disk full")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ValueError, match="Hub's owner/x:y: OSError: disk full"):
        task_from("owner/x:y")


def test_blank_lines_of_a_table_are_no_rows(tmp_path):
    lines = [f'"one {i}";{TEAMS[i % 3]}' for i in range(30)]
    path = tmp_path / "blank.csv"
    path.write_text("\n".join(["", "body;team", "", *lines, ""]), encoding="utf-8")
    assert sum(map(len, teams(path).data.values())) == 30
    (tmp_path / "only.csv").write_text("\n\n")
    with pytest.raises(ValueError, match=r"only\.csv is empty"):
        teams(tmp_path / "only.csv")
    with pytest.raises(ValueError, match="data is empty"):
        teams({})
