"""Exports against the model itself: same logits, smaller int8 files, clear words."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from paths import ROOT
from toy_models import shake
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from distilkit.compress import onnx_export
from distilkit.compress.onnx_export import (
    export_onnx,
    onnx_logits,
    onnx_predict,
    onnx_session,
    quantize_onnx,
)
from distilkit.data.examples import Examples
from distilkit.finetuning import predict
from distilkit.measure.size import bytes_on_disk
from distilkit.student import student_from_teacher

pytestmark = pytest.mark.slow

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "max_position_embeddings": 40,
}


def classifier(kind: str, outputs: int = 3):
    torch.manual_seed(0)
    if kind == "roberta":
        config = RobertaConfig(**SHAPE, num_labels=outputs, type_vocab_size=1)
        model = RobertaForSequenceClassification(config)
    else:
        model = BertForSequenceClassification(BertConfig(**SHAPE, num_labels=outputs))
    shake(model)
    if kind == "distilbert":
        model = student_from_teacher(model, (0,))
        shake(model)
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """kind -> (model, float32 file, int8 file)."""
    folder = tmp_path_factory.mktemp("onnx")
    made = {}
    for kind in ("bert", "distilbert", "roberta"):
        model = classifier(kind)
        file = export_onnx(model, folder / "new" / f"{kind}.onnx")
        made[kind] = model, file, quantize_onnx(file, folder / f"{kind}.int8.onnx")
    return made


def examples(count: int = 40, most: int = 40) -> Examples:
    random = np.random.default_rng(0)
    ids = [random.integers(5, 300, random.integers(3, most + 1)).tolist() for _ in range(count)]
    types = [[0] * len(one) for one in ids]
    encoded = {"input_ids": ids, "token_type_ids": types}
    return Examples(encoded, random.integers(0, 3, count), pad_id=0, seed=0)


def compared(model, file, few: Examples) -> tuple[float, float]:
    """The share of equal answers, and the largest difference between two logits."""
    expected, found = predict(model, few)[0], onnx_predict(onnx_session(file), few)
    return (found.argmax(1) == expected.argmax(1)).mean(), np.abs(found - expected).max()


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
@pytest.mark.parametrize(("rows", "length"), [(1, 3), (5, 23), (3, 40)])
def test_float32_file_gives_the_models_logits(exported, kind, rows, length):
    """At sizes that it was not traced at, ragged, with both token types."""
    model, file, _ = exported[kind]
    if kind == "roberta":
        length = min(length, 38)  # it counts positions from the padding's id on
    random = torch.Generator().manual_seed(rows)
    ids = torch.randint(5, 300, (rows, length), generator=random)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for row in range(1, rows):
        batch["attention_mask"][row, length - 4 * row :] = 0
    batch["token_type_ids"] = torch.zeros_like(ids)
    if kind == "bert":
        batch["token_type_ids"][:, length // 2 :] = 1
    taken = batch if kind != "distilbert" else {k: batch[k] for k in list(batch)[:2]}
    with torch.no_grad():
        expected = model(**taken).logits.numpy()
    found = onnx_logits(onnx_session(file), batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


def test_modes_weights_and_global_state_stay_as_they_were(tmp_path):
    model = classifier("bert").train()
    model.bert.encoder.layer[0].attention.eval()
    modes = [module.training for module in model.modules()]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    export_onnx(model, tmp_path / "model.onnx")
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
def test_int8_file_is_valid_small_and_near(exported, kind):
    model, file, int8 = exported[kind]
    onnx.checker.check_model(onnx.load(int8))
    large = [w for w in onnx.load(int8).graph.initializer if np.prod(w.dims) >= 1000]
    kinds = {onnx.TensorProto.DataType.Name(w.data_type) for w in large}
    assert kinds <= {"INT8", "UINT8"}  # the embeddings too
    assert len(large) == 6 + 3  # a layer; words, positions, head
    assert file.stat().st_size - bytes_on_disk(model) < 60_000  # the graph, without notes
    assert b".py" not in file.read_bytes()
    assert int8.stat().st_size < 0.6 * file.stat().st_size
    few = examples(most=38)
    same, difference = compared(model, int8, few)
    exact, rounding = compared(model, file, few)
    assert exact == 1
    assert rounding < 1e-4 < difference < 1
    assert same > 0.8


def test_matrices_have_a_scale_for_each_channel(exported):
    graph = onnx.load(exported["distilbert"][2]).graph
    sizes = {
        name.dims[0] for name in graph.initializer if name.name.endswith("_scale") if name.dims
    }
    assert {32, 64} <= sizes


def test_answers_are_those_of_one_text_at_a_time(exported):
    """An int8 answer depends on the padding in its batch."""
    int8 = exported["bert"][2]
    few, session = examples(25), onnx_session(int8)
    for i, row in enumerate(onnx_predict(session, few)):
        batch = {
            "input_ids": np.array(few.input_ids[i], np.int64)[None],
            "token_type_ids": np.array(few.token_type_ids[i], np.int64)[None],
        }
        batch["attention_mask"] = np.ones_like(batch["input_ids"])
        np.testing.assert_array_equal(row, session.run(None, batch)[0][0])


def test_a_wrong_file_does_not_agree(exported):
    """The check can fail: the same architecture with other weights."""
    other = classifier("bert")
    shake(other, 0.5)
    same, difference = compared(other, exported["bert"][1], examples(30))
    assert same < 0.9
    assert difference > 0.1


def test_regression_gives_the_models_values(tmp_path):
    model = classifier("distilbert", outputs=1)
    assert compared(model, export_onnx(model, tmp_path / "one.onnx"), examples(5))[1] < 1e-4


def test_weights_that_do_not_fit_are_refused(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="an ONNX file holds less"):
        export_onnx(exported["bert"][0], tmp_path / "large.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_session_takes_the_threads_it_is_told(exported):
    options = onnx_session(exported["bert"][1], threads=2).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


SILENT = """
import distilkit, onnxruntime, sys
onnxruntime.InferenceSession(sys.argv[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="where the data wait for sending, elsewhere")
def test_no_usage_data_are_collected(exported, tmp_path):
    """ONNX Runtime would keep what it sends in a database under the home folder."""
    told = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "CI")}
    environment = {**told, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", SILENT, str(exported["bert"][1])]
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    assert list(tmp_path.rglob("*")) == []
