"""GLUE's own downloads, and clones of the Hub's layout, read like the Hub's data set."""

from __future__ import annotations

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from distilkit.data.task_files import load
from distilkit.data.tasks import TASKS

# As the files begin; a text may hold a single quotation mark
OFFICIAL = {
    "CoLA/train.tsv": 'gj04\t1\t\tThey ran.\ngj04\t0\t*\tThey "ran\n',
    "CoLA/dev.tsv": "gj04\t1\t\tShe left.\n",
    "CoLA/test.tsv": "index\tsentence\n0\tBill left.\n",
    "SST-2/train.tsv": 'sentence\tlabel\na " fine film \t1\na dull one \t0\n',
    "SST-2/dev.tsv": "sentence\tlabel\ngood \t1\n",
    "SST-2/test.tsv": "index\tsentence\n0\tuneven .\n1\tfine .\n",
    "MRPC/train.tsv": "﻿Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tOne.\tOne too.\n",
    "MRPC/dev.tsv": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t7\t8\tOne.\tTwo.\n",
    "QQP/train.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    "1\t2\t3\tWho?\tWhat?\t0\n4\t5\t6\tWho?\n7\t8\t9\tWho?\tWho is?\t1\n",
    "QQP/dev.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tWho?\tWhat?\t0\n",
    "RTE/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tnot_entailment\n",
    "RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tentailment\n",
    "STS-B/train.tsv": "index\tgenre\tsentence1\tsentence2\tscore\n0\tnews\tA.\tB.\t3.800\n",
    "STS-B/dev.tsv": "index\tgenre\tsentence1\tsentence2\tscore\n0\tnews\tA.\tB.\t5.000\n",
    "MNLI/train.tsv": "index\tsentence1\tsentence2\tlabel1\tgold_label\n"
    "0\tA.\tB.\tneutral\tneutral\n1\tA.\tC.\tneutral\tcontradiction\n",
    "MNLI/dev_matched.tsv": "index\tsentence1\tsentence2\tgold_label\n0\tA.\tB.\tentailment\n",
    "MNLI/dev_mismatched.tsv": "index\tsentence1\tsentence2\tgold_label\n0\tA.\tB.\tneutral\n",
}


@pytest.fixture
def downloads(tmp_path):
    for name, content in OFFICIAL.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def test_official_downloads(downloads):
    cola = load("cola", downloads)
    assert cola["train"].to_dict() == {"sentence": ["They ran.", 'They "ran'], "label": [1, 0]}
    assert cola["test"].to_dict() == {"sentence": ["Bill left."]}
    sst2 = load("sst2", downloads)
    assert sst2["train"]["sentence"][:] == ['a " fine film ', "a dull one "]
    mrpc = load("mrpc", downloads)["train"].to_dict()
    assert mrpc == {"sentence1": ["One."], "sentence2": ["One too."], "label": [1]}
    assert load("rte", downloads)["train"]["label"][:] == [1]
    assert load("stsb", downloads)["validation"]["label"][:] == [5.0]
    mnli = load("mnli", downloads)
    assert mnli["train"]["label"][:] == [1, 2]
    assert list(mnli) == ["validation_matched", "validation_mismatched", "train"]


def test_a_question_that_is_missing_takes_its_row_along(downloads):
    train = load("qqp", downloads)["train"]
    assert train["question2"][:] == ["What?", "Who is?"]
    assert train["label"][:] == [0, 1]


def test_a_label_that_is_none(downloads):
    path = downloads / "RTE" / "train.tsv"
    path.write_text(path.read_text().replace("not_entailment", "maybe"))
    with pytest.raises(ValueError, match=r"train\.tsv, line 2.*'maybe'"):
        load("rte", downloads)


def test_a_clone_of_the_hubs_layout(tmp_path):
    folder = tmp_path / "sst2"
    folder.mkdir()
    feature = datasets.ClassLabel(names=list(TASKS["sst2"].labels))
    features = datasets.Features({"sentence": datasets.Value("string"), "label": feature})
    for split, count in (("train", 2), ("validation", 1)):
        for i in range(count):
            part = datasets.Dataset.from_dict(
                {"sentence": [f"{split} {i}"], "label": [i]}, features
            )
            part.to_parquet(folder / f"{split}-0000{i}-of-0000{count}.parquet")
    data = load("sst2", tmp_path)
    assert data["train"].to_dict() == {"sentence": ["train 0", "train 1"], "label": [0, 1]}
    assert data["train"].features["label"].names == ["negative", "positive"]


@pytest.mark.parametrize("value", [None, 7, ["a"]])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_texts_are_checked_in_every_split(tmp_path, split, value):
    folder = tmp_path / "sst2"
    folder.mkdir()
    for name in ("train", "validation", "test"):
        texts = [["a"], ["a"]] if isinstance(value, list) else ["a", "b"]
        texts = [7, 7] if value == 7 else texts
        texts = ["a", None] if value is None else texts
        table = {"sentence": texts if name == split else ["a", "b"], "label": [0, 1]}
        pyarrow.parquet.write_table(pyarrow.table(table), folder / f"{name}.parquet")
    row = 1 if value is None else 0
    with pytest.raises(ValueError, match=rf"{split}: the column 'sentence' holds .* in row {row}"):
        load("sst2", tmp_path)


def test_two_files_of_one_split_are_refused(downloads):
    (downloads / "SST-2" / "train-old.tsv").write_text(OFFICIAL["SST-2/train.tsv"])
    with pytest.raises(ValueError, match=r"train-old\.tsv, train\.tsv are one split"):
        load("sst2", downloads)
