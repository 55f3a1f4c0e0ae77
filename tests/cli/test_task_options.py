"""finetune and doctor with data of one's own, as a reader types them."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from toy_models import small_bert
from transformers import BertForSequenceClassification

from distilkit.cli.main import main
from distilkit.config import home as home_folder
from distilkit.run import Run

SHORT = ("--steps", "2", "--batch-size", "8", "--micro-batch-size", "8", "--max-length", "16")


@pytest.fixture
def own(home, tokenizer, texts, monkeypatch):
    """A checkpoint, a file with labels and one without, in the working folder."""
    monkeypatch.chdir(home)
    small_bert().save_pretrained(home / "bert")
    tokenizer.save_pretrained(home / "bert")
    teams = ["shipping", "billing"] * (len(texts) // 2)
    frame = pd.DataFrame({"body": texts, "team": teams})
    frame[:80].to_csv(home / "tickets.csv", index=False)
    frame[80:][["body"]].to_json(home / "more.jsonl", orient="records", lines=True)
    (home / "even.txt").write_text("w1 w2\nw3 w4\n")
    return ("--data", "tickets.csv", "--text-column", "body")


def run(name: str) -> Run:
    return Run(home_folder() / "runs" / name)


@pytest.mark.slow
def test_labels_then_a_teacher_then_the_teacher_alone(own, home, capsys):
    labelled = (*own, "--label-column", "team")
    assert main(["finetune", "bert", *labelled, *SHORT, "--name", "teacher"]) == 0
    assert "billing, shipping" in capsys.readouterr().out
    config = json.loads((run("teacher").model / "config.json").read_text())
    assert config["id2label"] == {"0": "billing", "1": "shipping"}
    assert set(run("teacher").result()["scores"]) == {"validation", "test"}

    teacher = ("--teacher", str(run("teacher").model))
    more = ("--unlabelled", "more.jsonl", "even.txt")
    command = ["finetune", "bert", *labelled, *teacher, *more, *SHORT, "--name", "both"]
    assert main(command) == 0
    assert run("both").config()["examples"] == 64 + 40 + 2
    assert run("both").result()["teacher_scores"]["validation"]

    with pytest.warns(UserWarning, match="no training example has a label"):
        assert main(["finetune", "bert", *own, *teacher, *SHORT, "--name", "alone"]) == 0
    terms = [row for row in run("alone").rows() if row["split"] == "train"]
    assert all(row["task"] == 0 and row["soft_target"] > 0 for row in terms)


@pytest.mark.filterwarnings("ignore:.*config names no classes")
@pytest.mark.slow
def test_a_teacher_without_names_teaches_texts_without_labels(own, home):
    teacher = BertForSequenceClassification(small_bert().config)
    assert teacher.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    teacher.save_pretrained(home / "teacher")
    command = ["finetune", "bert", *own, "--teacher", "teacher", *SHORT, "--name", "nameless"]
    with pytest.warns(UserWarning, match="no training example has a label"):
        assert main(command) == 0
    assert run("nameless").result()["steps"] == 2


@pytest.mark.slow
def test_the_labels_take_the_teachers_order(own, home):
    labelled = (*own, "--label-column", "team", *SHORT)
    assert main(["finetune", "bert", *labelled, "--name", "teacher"]) == 0
    path = run("teacher").model / "config.json"
    config = json.loads(path.read_text())
    config["id2label"] = {"0": "shipping", "1": "billing"}
    config["label2id"] = {"shipping": 0, "billing": 1}
    path.write_text(json.dumps(config))
    command = ["finetune", "bert", *labelled, "--teacher", str(path.parent), "--name", "student"]
    assert main(command) == 0
    config = json.loads((run("student").model / "config.json").read_text())
    assert config["id2label"] == {"0": "shipping", "1": "billing"}


@pytest.mark.slow
def test_doctor_measures_data_model_and_teacher(own, capsys):
    labelled = (*own, "--label-column", "team")
    assert main(["finetune", "bert", *labelled, *SHORT, "--name", "teacher"]) == 0
    capsys.readouterr()
    teacher = ("--teacher", str(run("teacher").model))
    main(["doctor", "--checkpoint", "bert", *labelled, *teacher, "--batch-size", "8"])
    rows = capsys.readouterr().out.splitlines()
    checks = {row[4:].strip().partition(":")[0] for row in rows}
    assert {"data", "model", "texts", "teacher", "time"} <= checks


@pytest.mark.slow
def test_doctor_names_what_does_not_fit(own, home, tokenizer, capsys):
    labelled = (*own, "--label-column", "team")
    small_bert(vocab_size=100).save_pretrained(home / "small")
    tokenizer.save_pretrained(home / "small")
    assert main(["doctor", "--checkpoint", "small", *labelled]) == 1
    assert "BAD   model" in capsys.readouterr().out
    (home / "words.csv").write_text("body,team\n" + "xyz abc,billing\nfoo bar,shipping\n" * 20)
    command = ["doctor", "--checkpoint", "bert", "--data", "words.csv", *labelled[2:]]
    assert main(command) == 1
    assert "BAD   texts" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("--task", "sst2", "--text-column", "a"), "give --data"),
        (("--data", "tickets.csv", "--text-column", "text"), "'text', only body, team"),
        (("--data", "ticket.csv"), "ticket.csv"),
        (("--data", "tickets.csv", "--text-column", "body"), "teacher"),
        (("--data", "tickets.csv", "--name", "a/b"), "run name"),
    ],
)
def test_refused_in_words(own, command, message, capsys):
    assert main(["finetune", "bert", *command]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_texts_that_the_vocabulary_does_not_know(own, home, capsys):
    text = "unknown words " * 20
    (home / "words.csv").write_text("body,team\n" + f"{text},billing\n{text},shipping\n" * 40)
    command = ["finetune", "bert", "--data", "words.csv", *own[2:], "--label-column", "team"]
    assert main([*command, *SHORT, "--name", "unknown"]) == 2
    assert "[UNK]" in capsys.readouterr().err
    assert not run("unknown").path.exists()
