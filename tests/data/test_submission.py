"""GLUE's files: right names, the header, every test example once, labels as GLUE spells them."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from toy_models import small_bert

from distilkit.cli.main import main
from distilkit.config import GLUE_TASKS
from distilkit.data.submission import write_submission
from distilkit.data.task_examples import task_examples
from distilkit.data.tasks import TASKS
from distilkit.finetuning import classifier, predict


@pytest.fixture
def checkpoint(tmp_path, tokenizer):
    torch.manual_seed(0)
    small_bert(1).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def unlabelled(name, n=23, seed=0):
    random = np.random.default_rng(seed)
    columns = {
        column: [" ".join(f"w{k}" for k in random.integers(0, 200, 6)) for _ in range(n)]
        for column in TASKS[name].columns
    }
    return columns | {"label": [-1] * n, "idx": list(range(n))[::-1]}


def test_files_are_named_as_glue_names_them():
    names = [name for task in TASKS.values() for name in task.submission]
    assert " ".join(names) == (
        "CoLA.tsv MNLI-m.tsv MNLI-mm.tsv MRPC.tsv QNLI.tsv QQP.tsv RTE.tsv SST-2.tsv STS-B.tsv "
        "WNLI.tsv"
    )


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.reader(opened, delimiter="\t"))


@pytest.mark.parametrize("name", GLUE_TASKS)
def test_every_test_example_is_answered_once(checkpoint, tokenizer, tmp_path, name):
    model = classifier(checkpoint, name, 1)
    data = {split: unlabelled(name, seed=i) for i, split in enumerate(TASKS[name].test)}
    files = write_submission(model, tokenizer, name, data, tmp_path / "out")
    assert [file.name for file in files] == list(TASKS[name].submission)
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == sorted(TASKS[name].submission)
    for split, file in zip(TASKS[name].test, files, strict=True):
        header, *found = rows(file)
        assert header == ["index", "prediction"]
        assert [int(index) for index, _ in found] == list(range(23))
        examples = task_examples(data[split], TASKS[name], tokenizer, max_length=128, seed=0)
        logits, labels = predict(model, examples)
        assert (labels == -1).all()
        answers = [answer for _, answer in found][::-1]  # idx counts down
        if name == "stsb":
            expected = [min(5, max(0, value)) for value in logits[:, 0]]
            assert [float(a) for a in answers] == pytest.approx(expected, abs=5e-4)
        elif name in ("mnli", "qnli", "rte"):
            assert answers == [TASKS[name].labels[i] for i in logits.argmax(1)]
        else:
            assert [int(a) for a in answers] == logits.argmax(1).tolist()


def test_a_test_set_without_labels_and_numbers(checkpoint, tokenizer, tmp_path):
    data = unlabelled("sst2")
    del data["label"], data["idx"]
    model = classifier(checkpoint, "sst2", 1)
    (file,) = write_submission(model, tokenizer, "sst2", {"test": data}, tmp_path)
    assert [row[0] for row in rows(file)] == ["index", *map(str, range(23))]


def test_what_cannot_be_submitted(checkpoint, tokenizer, tmp_path):
    model = classifier(checkpoint, "sst2", 1)
    with pytest.raises(ValueError, match="'imdb' is not in GLUE"):
        write_submission(model, tokenizer, "imdb", {}, tmp_path / "out")
    with pytest.raises(ValueError, match="has no 'test', only train"):
        write_submission(model, tokenizer, "sst2", {"train": unlabelled("sst2")}, tmp_path / "out")
    with pytest.raises(ValueError, match="mnli has 3 output"):
        write_submission(model, tokenizer, "mnli", {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_by_the_command_line(home, checkpoint, tokenizer, tmp_path, capsys):
    classifier(checkpoint, "rte", 1).save_pretrained(tmp_path / "rte")
    tokenizer.save_pretrained(tmp_path / "rte")
    out = tmp_path / "out"
    assert main(["submit", str(checkpoint), "--task", "rte", "--out", str(out)]) == 2
    assert "it is not fine-tuned yet" in capsys.readouterr().err
    assert main(["submit", str(tmp_path / "rte"), "--task", "rte", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "RTE.tsv")
    answers = rows(out / "RTE.tsv")[1:]
    assert {answer for _, answer in answers} <= {"entailment", "not_entailment"}
