"""What a scale names, loaded; and the command line's refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from toy_models import small_bert
from transformers import BertForMaskedLM

from distilkit.cli.main import main
from distilkit.config import SCALES
from distilkit.data import sources
from distilkit.data.documents import open_text
from distilkit.data.sources import load_blocks, load_task, load_teacher
from distilkit.measure import latency
from distilkit.measure.size import parameter_count
from distilkit.models.loading import load_tokenizer
from distilkit.run import Run
from distilkit.student import student_from_teacher

TINY = SCALES["tiny"]


@pytest.mark.slow
def test_the_tiny_scale_has_text_blocks_and_tasks(home):
    tokenizer = load_tokenizer(TINY.teacher)
    texts, held_out = (list(text.read()) for text in open_text(TINY.text))
    assert (len(texts), len(held_out)) == (2500, 200)
    assert not set(texts) & set(held_out)
    blocks, validation = load_blocks(TINY, tokenizer)
    assert blocks.blocks.shape[1] == validation.blocks.shape[1] == TINY.length
    assert not (blocks.blocks == tokenizer.unk_token_id).any()
    assert validation.weights is blocks.weights
    for task in TINY.tasks:
        test = "test_matched" if task == "mnli" else "test"
        assert {"train", test} <= {*load_task(TINY, task)}


@pytest.mark.slow
def test_shipped_teacher_is_a_plain_small_bert_in_float32(home):
    teacher, tokenizer = load_teacher(TINY)
    assert type(teacher) is BertForMaskedLM
    assert teacher.dtype == torch.float32
    assert not teacher.training
    assert 4000 <= teacher.config.vocab_size == len(tokenizer) <= 8000
    assert 6 <= teacher.config.num_hidden_layers <= 12
    assert 128 <= teacher.config.hidden_size <= 256
    files = [path for path in Path(TINY.teacher).iterdir() if path.suffix == ".safetensors"]
    assert sum(path.stat().st_size for path in files) <= 12e6
    student = student_from_teacher(teacher)
    assert 0.58 < parameter_count(student) / parameter_count(teacher) < 0.64


def test_a_teacher_and_a_text_of_ones_own(home, tokenizer, tmp_path):
    small_bert(2).half().save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    (tmp_path / "text.txt").write_text("".join(f"w{i} w{i + 1} w3\n" for i in range(120)))
    chosen = replace(
        TINY, teacher=str(tmp_path / "teacher"), text=str(tmp_path / "text.txt"), length=16
    )
    teacher, own_tokenizer = load_teacher(chosen)
    assert teacher.dtype.is_floating_point
    assert teacher.dtype.itemsize == 4  # a half-precision file is used in full precision
    texts, held_out = (list(text.read()) for text in open_text(chosen.text))
    assert len(texts) + len(held_out) == 120
    assert held_out == ["w1 w2 w3", "w51 w52 w3", "w101 w102 w3"]
    blocks, _ = load_blocks(chosen, own_tokenizer)
    assert blocks.blocks.shape[1] == 16


def test_a_missing_text_is_noticed_with_the_scale(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no text file at .*gone\.txt"):
        replace(TINY, text=str(tmp_path / "gone.txt"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["figures", "--scale", "huge"], "unknown scale 'huge'"),
        (["distil", "--text", "gone.txt", "--teacher", "x"], "no text file at gone.txt"),
        (["distil", "--temperature", "0"], "LossConfig.temperature = 0"),
        (["distil", "--mlm-weight", "-1"], "LossConfig.mlm_weight = -1"),
        (["study", "--scale", "huge"], "unknown scale 'huge'"),
        (["distil", "--learning-rate", "nan"], "TrainingConfig.learning_rate = nan"),
        (["finetune", "x", "--task", "snli"], "unknown task 'snli'"),
        (["finetune", "x", "--task", "sst2", "--glue", "/nowhere"], "folder"),
    ],
)
def test_wrong_input_ends_with_one_clear_line(home, capsys, monkeypatch, arguments, said):
    def too_late(*_):
        raise AssertionError("time was spent before the input was checked")

    monkeypatch.setattr(sources, "load_teacher", too_late)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_a_wrong_layer_is_refused_before_the_text_is_read(home, capsys, monkeypatch):
    monkeypatch.setattr(sources, "load_blocks", None)
    assert main(["distil", "--layers", "0", "9"]) == 2
    assert "[9] not in the teacher" in capsys.readouterr().err


@pytest.mark.slow
def test_an_encoder_teaches_once_it_has_a_head(home, tokenizer, tmp_path, capsys):
    """Its own step with its own result; before it, distillation is refused."""
    encoder = str(tmp_path / "encoder")
    small_bert(4).base_model.save_pretrained(encoder)
    tokenizer.save_pretrained(encoder)
    lines = (f"w{i % 199} w{i % 198} w3\n" for i in range(600))
    (tmp_path / "text.txt").write_text("".join(lines))
    text = ["--text", str(tmp_path / "text.txt")]
    short = ["--steps", "3", "--batch-size", "4", "--micro-batch-size", "4"]
    assert main(["distil", "--teacher", encoder, *text, *short]) == 2
    assert "no trained masked-word head" in capsys.readouterr().err
    assert main(["head", encoder, *text, *short]) == 0
    assert "validation_mlm:" in capsys.readouterr().out
    run = Run(home / "runs" / "tiny-head")
    assert run.config()["loss_config"]["kd_weight"] == 0
    assert run.config()["loss_config"]["cosine_layers"] == [[i, i] for i in range(5)]
    assert main(["head", str(run.model), *text]) == 2
    assert "has a masked-word head already" in capsys.readouterr().err
    assert main(["distil", "--teacher", str(run.model), *text, *short]) == 0


def test_measure_takes_a_half_precision_file_in_float32(home, tmp_path, capsys, monkeypatch):
    small_bert(1).half().save_pretrained(tmp_path / "half")
    seen = []

    def compare(models, **_):
        seen.extend(model.dtype for model in models.values())
        return pd.DataFrame({"model": list(models)})

    monkeypatch.setattr(latency, "compare", compare)
    assert main(["measure", str(tmp_path / "half")]) == 0
    assert seen == [torch.float32]


@pytest.mark.slow
def test_measure_prints_a_table(home, tmp_path, capsys):
    small_bert(1).save_pretrained(tmp_path / "a")
    assert main(["measure", str(tmp_path / "a"), "--length", "8"]) == 0
    assert "latency_ms_p50" in capsys.readouterr().out


def test_every_public_name_exists():
    import distilkit

    for name in distilkit.__all__:
        assert getattr(distilkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = distilkit.nothing


def test_tasks_come_from_the_real_data_through_the_same_door(shared_glue):
    chosen = replace(TINY, glue=str(shared_glue))
    data = load_task(chosen, "cola")
    assert len(data["train"]) == 8551
    assert isinstance(data["train"].to_pandas(), pd.DataFrame)


@pytest.mark.slow
def test_a_stream_is_dealt_out_by_the_micro_batches_that_were_asked_for(home, monkeypatch):
    seen = []

    def stop(chosen, tokenizer):
        seen.append(chosen.distillation)
        raise ValueError("far enough")

    monkeypatch.setattr(sources, "load_blocks", stop)
    assert main(["distil", "--batch-size", "8", "--micro-batch-size", "2"]) == 2
    assert (seen[0].batch_size, seen[0].micro_batch_size) == (8, 2)
