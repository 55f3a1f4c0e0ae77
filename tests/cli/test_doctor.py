"""The doctor says good of what is good, and names each thing that is not."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from hub_server import Fault, HubServer
from huggingface_hub import constants
from processes import client
from toy_models import small_bert
from transformers import BertForSequenceClassification, BertTokenizerFast

from distilkit.cli import doctor as doctor_module
from distilkit.cli.doctor import doctor
from distilkit.cli.main import main
from distilkit.config import SCALES

TINY = SCALES["tiny"]


def write_text(path):
    path.write_text("".join(f"w{i} w{i + 1} w{2 * i} w3 w4 w5\n" for i in range(90)))


def found_by(scale):
    return doctor(scale).set_index("check")


@pytest.mark.slow
def test_the_tiny_scale_is_in_good_health(home, monkeypatch, capsys):
    table = found_by(TINY)
    monkeypatch.setattr(doctor_module, "doctor", lambda _: table.reset_index())  # it takes a while
    assert table.good.all(), table.to_string()
    assert len(table) == 7
    assert "the Hub answers" not in table.index  # nobody needs it
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.count("good  ") == 7
    assert "steps at" in out


@pytest.mark.slow
def test_a_teacher_that_knows_nothing(home, tmp_path, tokenizer):
    small_bert(4).save_pretrained(tmp_path / "t")
    tokenizer.save_pretrained(tmp_path / "t")
    write_text(tmp_path / "a.txt")
    plan = replace(TINY, teacher=str(tmp_path / "t"), text=str(tmp_path / "a.txt"), length=16)
    table = found_by(plan)
    assert not table.good["teacher beats chance on masked tokens"]
    assert table.good["student can overfit one batch"]
    assert main(["doctor", "--teacher", plan.teacher, "--text", plan.text]) == 1


def test_a_tokenizer_of_another_model(home, tmp_path):
    small_bert(4).save_pretrained(tmp_path / "t")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(300))]
    BertTokenizerFast(vocab={w: i for i, w in enumerate(words)}).save_pretrained(tmp_path / "t")
    table = found_by(replace(TINY, teacher=str(tmp_path / "t")))
    assert list(table.good) == [False]
    assert "305 entries, the BertForMaskedLM 205: they do not belong" in table.measurement.iloc[0]


@pytest.mark.slow
def test_a_plan_too_large_for_the_machine(home):
    table = found_by(replace(TINY, distillation=replace(TINY.distillation, micro_batch_size=10**8)))
    assert not table.good["memory"]


@pytest.mark.slow
def test_a_micro_batch_that_was_tried_and_does_not_fit(home, monkeypatch):
    """As on a GPU: PyTorch's own error becomes the memory's row, and nothing else."""
    module = importlib.import_module("distilkit.cli.doctor")
    real = module.LanguageModelLoss

    def full(loss_config, teacher=None):
        loss = real(loss_config, teacher)

        def fails(model, batch, counts):
            if len(batch["input_ids"]) == TINY.distillation.micro_batch_size:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return loss(model, batch, counts)

        return fails

    monkeypatch.setattr(module, "LanguageModelLoss", full)
    monkeypatch.setattr(module, "TRIAL_SECONDS", float("inf"))  # on a busy machine too
    monkeypatch.setattr(module, "OVERFIT_SECONDS", 600)
    table = found_by(TINY)
    assert list(table.index[~table.good]) == ["memory"]
    assert "was tried and does not fit" in table.measurement["memory"]


@pytest.mark.parametrize("kind", ["blind", "swapped", "good"])
@pytest.mark.slow
def test_a_classifier_that_is_to_teach(home, tmp_path, tokenizer, kind, capsys):
    """Its labels in the task's order, and better than the commonest answer."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 150)
    sentences = [
        f"w{label} " + " ".join(f"w{k}" for k in random.integers(2, 99, 4)) for label in labels
    ]
    (tmp_path / "glue" / "sst2").mkdir(parents=True)
    for split in ("train", "validation"):
        data = pd.DataFrame({"sentence": sentences, "label": labels})
        data.to_parquet(tmp_path / "glue" / "sst2" / f"{split}.parquet")
    names = ["negative", "positive"] if kind != "swapped" else ["positive", "negative"]
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        small_bert(1, num_labels=2, id2label=dict(enumerate(names))).config
    ).eval()
    if kind == "good":  # the first word's embedding, copied through, says the label
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        batch = tokenizer(sentences, return_tensors="pt", padding=True)
        for _ in range(30):
            optimizer.zero_grad()
            model(**batch, labels=torch.from_numpy(labels)).loss.backward()
            optimizer.step()
    model.save_pretrained(tmp_path / "c")
    small_bert(2).save_pretrained(tmp_path / "t")
    tokenizer.save_pretrained(tmp_path / "t")
    folders = {"--checkpoint": "t", "--teacher": "c", "--glue": "glue"}
    named = [word for name, folder in folders.items() for word in (name, str(tmp_path / folder))]
    assert main(["doctor", "--task", "sst2", *named]) == (kind != "good")
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "teacher: " in line]
    assert row.startswith("good" if kind == "good" else "BAD"), row
    assert ("another order" in row) == (kind == "swapped")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regression", "classes", "labels"])
def test_a_teacher_of_any_kind_is_measured(home, tmp_path, tokenizer, capsys, kind):
    """Not trained, so at chance; its config names no classes, as those of many models."""
    random = np.random.default_rng(0)
    columns = {
        "regression": {"grade": random.random(80)},
        "classes": {"team": [f"team {i % 3}" for i in range(80)]},
        "labels": {name: random.integers(0, 2, 80) for name in ("rude", "toxic")},
    }[kind]
    table = pd.DataFrame({"text": [f"w{i} w{2 * i} w{3 * i}" for i in range(80)], **columns})
    table.to_csv(tmp_path / "own.csv", index=False)
    outputs = {"regression": 1, "classes": 3, "labels": 2}[kind]
    torch.manual_seed(0)
    model = BertForSequenceClassification(small_bert(1, num_labels=outputs).config)
    model.save_pretrained(tmp_path / "c")
    small_bert(2).save_pretrained(tmp_path / "t")
    for folder in ("c", "t"):
        tokenizer.save_pretrained(tmp_path / folder)
    command = ["doctor", "--data", str(tmp_path / "own.csv"), "--label-column", *columns]
    command += ["--checkpoint", str(tmp_path / "t"), "--teacher", str(tmp_path / "c")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "teacher at chance"
        assert main(command) in (0, 1)  # an untrained regression may correlate by chance
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "teacher: " in line]
    assert "8 examples" in row or "another scale" in row, row


def test_rows_are_taken_from_a_whole_split():
    sorted_by_label = Dataset.from_dict({"label": [0] * 2000 + [1] * 2000})
    assert 0.4 < np.mean(doctor_module._few(sorted_by_label)["label"][:]) < 0.6
    assert len(doctor_module._few(sorted_by_label.select(range(3)))) == 3


def test_options_for_data_that_are_not_given_are_refused(home, capsys):
    assert main(["doctor", "--text-column", "body"]) == 2
    assert "--text-column" in capsys.readouterr().err


def test_a_home_that_is_not_there_yet(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILKIT_HOME", str(tmp_path / "new" / "home"))
    plan = SimpleNamespace(student=small_bert(1), scale=replace(TINY, stream=1))
    assert doctor_module._disk(plan).good


@pytest.mark.processes
@pytest.mark.hub
def test_a_stalled_hub_is_given_up(tmp_path):
    (tmp_path / "models").mkdir()
    code = "from distilkit.cli import doctor\nfrom distilkit.cli.main import main\n"
    code += "doctor.HUB_SECONDS = 1\nraise SystemExit(main(['doctor', '--scale', 'small']))"
    with HubServer(tmp_path, faults=[Fault(".", "stall:100", 1000)]) as hub:
        status, out, _ = client(code, tmp_path, hub.endpoint)
    assert status == 1
    assert out.startswith("BAD   the Hub answers: http://127.0.0.1")
    assert "set HF_HUB_OFFLINE=1" in out


def test_a_hub_where_nobody_listens(monkeypatch, capsys):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert main(["doctor", "--scale", "small"]) == 1
    assert "BAD   the Hub answers: http://127.0.0.1:9: ConnectError" in capsys.readouterr().out
