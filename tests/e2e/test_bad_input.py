"""Everything wrong that a user can give: refused before a step is trained, in words that help.

Each case is a change to a small world that works (teacher, text, one task), a command, and what the
message must say. A command ends with status 2 and no traceback, and no optimizer step is taken.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_models import small_bert, teacher_and_text
from transformers import BertConfig, BertForSequenceClassification, BertModel

from distilkit import distillation as pretraining
from distilkit import finetuning
from distilkit.cli.main import main
from distilkit.data import sources

DISTIL = ("distil", "--teacher", "teacher", "--text", "text.txt", "--steps", "2")
FINETUNE = ("finetune", "teacher", "--task", "sst2", "--glue", "glue", "--epochs", "1")


@pytest.fixture(scope="module")
def world(tmp_path_factory, tokenizer, texts) -> Path:
    folder = tmp_path_factory.mktemp("world")
    teacher_and_text(folder, tokenizer, texts)
    labels = {0: "negative", 1: "positive"}
    classifier = BertForSequenceClassification(
        BertConfig(**small_bert(2).config.to_diff_dict() | {"id2label": labels})
    )
    classifier.save_pretrained(folder / "classifier")
    tokenizer.save_pretrained(folder / "classifier")
    (folder / "glue" / "sst2").mkdir(parents=True)
    for part, rows in (("train", 24), ("validation", 8)):
        table = pd.DataFrame({"sentence": texts[:rows], "label": [0, 1] * (rows // 2)})
        table["idx"] = range(rows)
        table.to_parquet(folder / "glue" / "sst2" / f"{part}.parquet")
    return folder


@pytest.fixture
def here(world, tmp_path, monkeypatch) -> Path:
    """A copy of the small world as the current folder; training is forbidden."""
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILKIT_HOME", str(tmp_path / "home"))

    def spent(*_, **__):
        raise AssertionError("time was spent")

    monkeypatch.setattr(pretraining, "train", spent)
    monkeypatch.setattr(finetuning, "train", spent)
    return tmp_path


# ---- what is changed


def text(name: str, content: str | bytes):
    def change(folder: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)

    return change


def parquet(name: str, **columns):
    return lambda folder: pd.DataFrame(columns).to_parquet(folder / name)


def task(part: str = "train", **columns):
    """The task's table with columns replaced; None removes one."""

    def change(folder: Path) -> None:
        file = folder / "glue" / "sst2" / f"{part}.parquet"
        table = pd.read_parquet(file)
        for name, values in columns.items():
            if values is None:
                del table[name]
            else:
                table[name] = (values * len(table))[: len(table)]
        table.to_parquet(file)

    return change


def config_of(model: str, **fields):
    def change(folder: Path) -> None:
        file = folder / model / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return change


def weights_of(model: str, edit):
    def change(folder: Path) -> None:
        file = folder / model / "model.safetensors"
        tensors = load_file(file)
        save_file(edit(tensors), file, metadata={"format": "pt"})

    return change


def truncated(name: str):
    def change(folder: Path) -> None:
        file = folder / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return change


def removed(*names: str):
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def encoder_only(folder: Path) -> None:
    BertModel(BertConfig(**small_bert(2).config.to_diff_dict())).save_pretrained(folder / "teacher")


class Plant:
    """Unpickled, it would leave a file behind."""

    def __reduce__(self):
        return open, ("planted", "w")


def pickled_weights(folder: Path) -> None:
    (folder / "teacher" / "model.safetensors").unlink()
    plant = pickle.dumps({"a": Plant()}, protocol=2)
    (folder / "teacher" / "pytorch_model.bin").write_bytes(plant)


def other_vocabulary(folder: Path) -> None:
    file = folder / "teacher" / "tokenizer.json"
    rules = json.loads(file.read_text())
    rules["model"]["vocab"] |= {f"more{i}": 205 + i for i in range(300)}
    file.write_text(json.dumps(rules))


def link_out(folder: Path) -> None:
    (folder / "home" / "runs").mkdir(parents=True)
    (folder / "elsewhere").mkdir()
    (folder / "home" / "runs" / "link").symlink_to(folder / "elsewhere")


def nothing(_folder: Path) -> None:
    pass


def swapped(tensors: dict) -> dict:
    name = "bert.encoder.layer.0.output.dense.weight"
    return tensors | {name: tensors[name].t().contiguous()}


def lacking(tensors: dict) -> dict:
    return {k: v for k, v in tensors.items() if "layer.1" not in k}


def not_finite(tensors: dict) -> dict:
    name = "bert.embeddings.word_embeddings.weight"
    return tensors | {name: torch.full_like(tensors[name], float("nan"))}


CASES = {
    # ---- configuration
    "steps 0": (nothing, (*DISTIL, "--steps", "0"), r"steps = 0.*at least 1"),
    "steps negative": (nothing, (*DISTIL, "--steps", "-3"), r"steps = -3"),
    "steps a fraction": (nothing, (*DISTIL, "--steps", "1.5"), r"--steps: invalid int value"),
    "steps in words": (nothing, (*DISTIL, "--steps", "many"), r"--steps: invalid int value"),
    "epochs 0": (nothing, (*FINETUNE, "--epochs", "0"), r"epochs = 0"),
    "epochs and steps": (nothing, (*DISTIL, "--epochs", "2"), r"--epochs: not allowed with.*steps"),
    "batch 0": (nothing, (*DISTIL, "--batch-size", "0"), r"batch_size = 0"),
    "micro-batch 0": (nothing, (*DISTIL, "--micro-batch-size", "0"), r"micro_batch_size = 0"),
    "rate nan": (nothing, (*DISTIL, "--learning-rate", "nan"), r"learning_rate = nan"),
    "rate negative": (nothing, (*DISTIL, "--learning-rate=-1e-4"), r"learning_rate = -0.0001"),
    "rate infinite": (nothing, (*DISTIL, "--learning-rate", "inf"), r"learning_rate = inf"),
    "rate in words": (nothing, (*DISTIL, "--learning-rate", "1e-4x"), r"invalid float value"),
    "precision unknown": (nothing, (*DISTIL, "--precision", "fp8"), r"invalid choice: 'fp8'"),
    "temperature 0": (nothing, (*DISTIL, "--temperature", "0"), r"temperature = 0"),
    "temperature negative": (nothing, (*DISTIL, "--temperature=-2"), r"temperature = -2"),
    "temperature nan": (nothing, (*DISTIL, "--temperature", "nan"), r"temperature = nan"),
    "weight negative": (nothing, (*DISTIL, "--cosine-weight=-1"), r"cosine_weight = -1"),
    "weights all 0": (
        nothing,
        (*DISTIL, "--cosine-weight", "0", "--mlm-weight", "0", "--kd-weight", "0"),
        r"weight",
    ),
    "target unknown": (nothing, (*DISTIL, "--mlm-target", "some"), r"invalid choice: 'some'"),
    "option unknown": (nothing, (*DISTIL, "--warmth", "3"), r"unrecognized arguments: --warmth"),
    "verb unknown": (nothing, ("distill",), r"invalid choice: 'distill'"),
    "scale unknown": (nothing, ("distil", "--scale", "huge"), r"huge.*tiny, small, base"),
    "layer beyond the teacher": (nothing, (*DISTIL, "--layers", "0", "9"), r"layer.*9"),
    "layer negative": (nothing, (*DISTIL, "--layers", "-1"), r"(layer.*-1|expected at least)"),
    "layers out of order": (nothing, (*DISTIL, "--layers", "1", "0"), r"layers.*1, 0"),
    "layer twice": (nothing, (*DISTIL, "--layers", "0", "0"), r"layers.*0, 0"),
    # ---- run names
    "name ..": (nothing, (*DISTIL, "--name", ".."), r"run name '\.\.'"),
    "name absolute": (nothing, (*DISTIL, "--name", "/tmp/x"), r"run name '/tmp/x'"),
    "name with a slash": (nothing, (*DISTIL, "--name", "a/../../b"), r"run name"),
    "name with NUL": (nothing, (*DISTIL, "--name", "a\0b"), r"run name 'a\\x00b'"),
    "name of 300": (nothing, (*DISTIL, "--name", "n" * 300), r"1 to 100 letters"),
    "name hidden": (nothing, (*DISTIL, "--name", ".hidden"), r"run name '.hidden'"),
    "name is markup": (nothing, (*DISTIL, "--name", "<script>"), r"run name '<script>'"),
    "length beyond the teacher": (nothing, (*DISTIL, "--length", "1024"), r"--length 64 or less"),
    "length 0 of blocks": (nothing, (*DISTIL, "--length", "0"), r"length = 0"),
    "rate 0": (nothing, (*DISTIL, "--learning-rate", "0"), r"learning_rate = 0"),
    "name links out": (link_out, (*DISTIL, "--name", "link"), r"outside"),
    # ---- text
    "text missing": (removed("text.txt"), DISTIL, r"no text file at text\.txt"),
    "text empty": (text("text.txt", ""), DISTIL, r"text\.txt"),
    "text blank": (text("text.txt", "\n" * 1_000_000), DISTIL, r"text\.txt"),
    "text of one line": (
        text("text.txt", "w1 w2 w3\n"),
        DISTIL,
        r"fewer than two documents",
    ),
    "text latin-1": (text("text.txt", b"w1 caf\xe9\nw2\n"), DISTIL, r"line 1 is not UTF-8"),
    "text binary": (text("text.txt", bytes(range(256)) * 9), DISTIL, r"text\.txt, line \d+ is not"),
    "text of another language": (
        text("text.txt", "".join(f"jedes Wort unbekannt w{i}\n" for i in range(120))),
        DISTIL,
        r"text\.txt.* 75% of .* are \[UNK\].*--text.*--teacher",
    ),
    "text of unknown words": (text("text.txt", "Wort\nWorte\n"), DISTIL, r"100% of 1 tokens"),
    "text of no tokens": (text("text.txt", "\x01\n\x02\n"), DISTIL, r"no tokens"),
    "text damaged in a folder": (
        lambda folder: [(folder / "f").mkdir(), (folder / "f" / "a.txt.gz").write_bytes(b"w1\n")],
        (*DISTIL, "--text", "f"),
        r"f/a\.txt\.gz is truncated or not gzip",
    ),
    "text of another kind": (
        text("text.csv", "text\nw1\n"),
        (*DISTIL, "--text", "text.csv"),
        r"text\.csv.*\.txt, \.jsonl, \.parquet",
    ),
    "folder without texts": (
        lambda folder: (folder / "empty").mkdir(),
        (*DISTIL, "--text", "empty"),
        r"no \.txt, \.jsonl, \.parquet, .* file in empty",
    ),
    "jsonl broken": (
        text("a.jsonl", '{"text": "w1"}\n{"text": \n'),
        (*DISTIL, "--text", "a.jsonl"),
        r"a\.jsonl, line 2, column 10 is not JSON",
    ),
    "jsonl without text": (
        text("a.jsonl", '{"body": "w1"}\n{"body": "w2"}\n'),
        (*DISTIL, "--text", "a.jsonl"),
        r"a\.jsonl has no 'text' in any line, only body",
    ),
    "parquet without text": (
        parquet("a.parquet", body=["w1", "w2"]),
        (*DISTIL, "--text", "a.parquet"),
        r"no column 'text', only body",
    ),
    "parquet of numbers": (
        parquet("a.parquet", text=[1, 2]),
        (*DISTIL, "--text", "a.parquet"),
        r"'text' holds int64",
    ),
    "parquet broken": (
        text("a.parquet", b"PAR1 nothing of the kind PAR1"),
        (*DISTIL, "--text", "a.parquet"),
        r"a\.parquet",
    ),
    "local text streamed": (nothing, (*DISTIL, "--stream", "8"), r"streaming is for"),
    # ---- models
    "teacher missing": (nothing, (*DISTIL, "--teacher", "./nobody"), r"no file or folder at"),
    "teacher without configuration": (
        removed("teacher/config.json"),
        DISTIL,
        r"teacher",
    ),
    "configuration broken": (truncated("teacher/config.json"), DISTIL, r"config\.json|JSON"),
    "configuration of another kind": (
        config_of("teacher", model_type="nothing-known"),
        DISTIL,
        r"nothing-known",
    ),
    "teacher is an encoder": (encoder_only, DISTIL, r"no trained masked-word head.*distilkit head"),
    "teacher is a classifier": (
        nothing,
        (*DISTIL, "--teacher", "classifier"),
        r"no trained masked-word head",
    ),
    "weights truncated": (truncated("teacher/model.safetensors"), DISTIL, r"model\.safetensors"),
    "weights gone": (removed("teacher/model.safetensors"), DISTIL, r"teacher"),
    "weights are a pickle": (pickled_weights, DISTIL, r"safetensors"),
    "weights of another shape": (weights_of("teacher", swapped), DISTIL, r"shape|size mismatch"),
    "weights of fewer layers": (weights_of("teacher", lacking), DISTIL, r"layer\.1"),
    "weights not finite": (weights_of("teacher", not_finite), DISTIL, r"not finite"),
    "tokenizer gone": (
        removed("teacher/tokenizer.json", "teacher/tokenizer_config.json"),
        DISTIL,
        r"tokenizer",
    ),
    "tokenizer of another model": (other_vocabulary, DISTIL, r"505.*205"),
    "head for what has one": (
        nothing,
        ("head", "teacher", "--text", "text.txt"),
        r"has a masked-word head already",
    ),
    # ---- tasks
    "task unknown": (nothing, (*FINETUNE, "--task", "sst3"), r"unknown task 'sst3'.*sst2"),
    "task missing": (nothing, (*FINETUNE, "--task", "rte"), r"glue/rte|rte"),
    "task folder missing": (
        nothing,
        (*FINETUNE, "--glue", "./nowhere"),
        r"no (file or )?folder (of tasks|at)",
    ),
    "task part missing": (
        removed("glue/sst2/validation.parquet"),
        FINETUNE,
        r"no validation\.parquet",
    ),
    "column missing": (task(sentence=None), FINETUNE, r"no column 'sentence'"),
    "labels missing": (task(label=None), FINETUNE, r"no column 'label'"),
    "label out of range": (
        task(label=[0, 1, 2]),
        FINETUNE,
        r"label 2 in row 2; labels are 0 .negative., 1",
    ),
    "label negative": (task(label=[-1, 0]), FINETUNE, r"label -1 in row 0"),
    "label of text": (task(label=["good", "bad"]), FINETUNE, r"label"),
    "validation label out of range": (task("validation", label=[0, 7]), FINETUNE, r"label 7"),
    "table broken": (truncated("glue/sst2/train.parquet"), FINETUNE, r"train\.parquet"),
    "teacher's labels in another order": (
        config_of("classifier", id2label={"0": "positive", "1": "negative"}),
        (*FINETUNE, "--teacher", "classifier"),
        r"positive.*negative",
    ),
    "teacher is not fine-tuned": (
        nothing,
        (*FINETUNE, "--teacher", "teacher"),
        r"classifier|fine-tuned",
    ),
    "examples negative": (nothing, (*FINETUNE, "--examples", "-4"), r"examples"),
    "length beyond the model": (nothing, (*FINETUNE, "--max-length", "9999"), r"9999|positions"),
    "length 0": (nothing, (*FINETUNE, "--max-length", "0"), r"max_length|length"),
    # ---- the others
    "measured without a checkpoint": (nothing, ("measure", "./nobody"), r"no file or folder at"),
    "measured beyond the positions": (
        nothing,
        ("measure", "teacher", "--length", "9999"),
        r"length is 9999",
    ),
    "measured with no threads": (
        nothing,
        ("measure", "teacher", "--threads", "0"),
        r"threads is 0",
    ),
    "doctor with half a question": (nothing, ("doctor", "--task", "sst2"), r"--checkpoint"),
    "doctor with the other half": (nothing, ("doctor", "--checkpoint", "teacher"), r"--task"),
    "bench of no steps": (nothing, ("bench", "step", "--steps", "0"), r"steps = 0"),
    "study without steps": (nothing, ("study", "--steps", "0"), r"steps = 0"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_before_time_is_spent(here, capsys, name):
    change, command, said = CASES[name]
    change(here)
    try:
        status = main(list(command))
    except SystemExit as exit:
        status = exit.code
    error = capsys.readouterr().err
    assert status == 2, error
    assert "Traceback" not in error
    last = " ".join(line for line in error.splitlines() if "distilkit" in line)
    assert re.search(said, last), error
    assert not list(here.glob("elsewhere/*"))
    assert not list(here.rglob("planted"))
    for run in here.glob("home/runs/*/"):
        assert not (run / "checkpoints").exists()


def test_the_table_is_long_enough():
    assert len(CASES) >= 60


BEFORE_THE_TEXT = [
    name for name in CASES if name.startswith(("name ", "length beyond the teacher"))
]
BEFORE_THE_TEXT += ["rate 0", "temperature 0", "layer beyond the teacher", "teacher is an encoder"]
BEFORE_THE_TEXT += ["tokenizer of another model", "weights truncated"]


@pytest.mark.parametrize("name", BEFORE_THE_TEXT)
def test_what_needs_no_text_is_refused_before_it_is_read(here, capsys, monkeypatch, name):
    monkeypatch.setattr(sources, "open_text", None)
    test_bad_input_is_refused_before_time_is_spent(here, capsys, name)


def test_what_was_read_is_told(here, capsys):
    rows = ({"text": text} for i in range(30) for text in (f"w1 w{i}", None, ""))
    (here / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(AssertionError, match="time was spent"):
        main([*DISTIL, "--text", "a.jsonl"])
    told = capsys.readouterr().err
    for part in ("30 documents in 1 file", "30 empty, 30 without text", " tokens, 0.0 % "):
        assert part in told


@pytest.mark.parametrize("command", [DISTIL, FINETUNE])
def test_the_small_world_works_without_a_change(here, command):
    """So each case is refused for what it changed."""
    with pytest.raises(AssertionError, match="time was spent"):
        main(list(command))
