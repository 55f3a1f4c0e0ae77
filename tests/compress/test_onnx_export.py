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
    agreement,
    export_onnx,
    onnx_logits,
    onnx_predict,
    onnx_session,
    quantize_onnx,
)
from distilkit.data.examples import Examples
from distilkit.measure.size import bytes_on_disk
from distilkit.student import student_from_teacher

pytestmark = pytest.mark.slow

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
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
        model = student_from_teacher(model, (0, 1))
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
    model.bert.encoder.layer[1].eval()
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
    assert len(large) == 2 * 6 + 3  # layers; words, positions, head
    assert file.stat().st_size - bytes_on_disk(model) < 60_000  # the graph, without notes
    assert b".py" not in file.read_bytes()
    assert int8.stat().st_size < 0.6 * file.stat().st_size
    few = examples(most=38)
    stated = agreement(model, onnx_session(int8), few)
    exact = agreement(model, onnx_session(file), few)
    assert exact.same_answer == 1
    assert exact.largest_difference < 1e-4 < stated.largest_difference < 1
    assert stated.same_answer > 0.8


def test_matrices_have_a_scale_for_each_channel(exported):
    graph = onnx.load(exported["distilbert"][2]).graph
    sizes = {
        name.dims[0] for name in graph.initializer if name.name.endswith("_scale") if name.dims
    }
    assert {32, 64} <= sizes


def test_agreement_is_the_plain_formula(exported):
    model, _, int8 = exported["bert"]
    few, session = examples(25), onnx_session(int8)
    answers, difference = [], 0.0
    for i in range(25):
        batch = {
            "input_ids": torch.tensor(few.input_ids[i], dtype=torch.long)[None],
            "token_type_ids": torch.tensor(few.token_type_ids[i], dtype=torch.long)[None],
        }
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        with torch.no_grad():
            expected = model(**batch).logits[0].numpy()
        logits = session.run(None, {k: v.numpy() for k, v in batch.items()})[0][0]
        answers.append(logits.argmax() == expected.argmax())
        difference = max(difference, np.abs(logits - expected).max())
    found = agreement(model, session, few)
    assert found.examples == 25
    assert found.same_answer == pytest.approx(np.mean(answers))
    assert found.largest_difference == pytest.approx(difference, abs=1e-5)
    np.testing.assert_array_equal(found.logits, onnx_predict(session, few))


def test_a_wrong_file_does_not_agree(exported):
    """The check can fail: the same architecture with other weights."""
    session = onnx_session(exported["bert"][1])
    other = classifier("bert")
    shake(other, 0.5)
    found = agreement(other, session, examples(30))
    assert found.same_answer < 0.9
    assert found.largest_difference > 0.1
    with pytest.raises(ValueError, match="no examples"):
        agreement(other, session, examples(0))


def test_regression_has_no_answer_to_agree_on(tmp_path):
    model = classifier("distilbert", outputs=1)
    session = onnx_session(export_onnx(model, tmp_path / "one.onnx"))
    found = agreement(model, session, examples(5))
    assert np.isnan(found.same_answer)
    assert found.largest_difference < 1e-4
    with pytest.raises(ValueError, match=r"\(5, 1\), the model's \(5, 3\)"):
        agreement(classifier("distilbert"), session, examples(5))


def test_wrong_input_is_refused(exported, tmp_path, monkeypatch):
    model, file, _ = exported["bert"]
    with pytest.raises(FileNotFoundError, match=r"no file at .*gone.onnx"):
        onnx_session(tmp_path / "gone.onnx")
    with pytest.raises(FileNotFoundError, match=r"no file at .*gone.onnx"):
        quantize_onnx(tmp_path / "gone.onnx", tmp_path / "out.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match=r"text.onnx cannot be read"):
        onnx_session(tmp_path / "text.onnx")
    with pytest.raises(ValueError, match=r"text.onnx is not an ONNX file"):
        quantize_onnx(tmp_path / "text.onnx", tmp_path / "out.onnx")
    with pytest.raises(ValueError, match="threads = 0"):
        onnx_session(file, threads=0)
    with pytest.raises(ValueError, match="float32 on the CPU"):
        export_onnx(classifier("bert").half(), tmp_path / "half.onnx")
    monkeypatch.setattr(onnx_export, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="2 GB or more"):
        export_onnx(model, tmp_path / "large.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["text.onnx"]


def test_missing_packages_are_named(exported, tmp_path, monkeypatch):
    model, file, _ = exported["bert"]
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs onnx and onnxscript: pip install onnx onnxscript"):
        export_onnx(model, tmp_path / "model.onnx")
    with pytest.raises(ImportError, match="pip install onnx onnxruntime"):
        quantize_onnx(file, tmp_path / "int8.onnx")
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        onnx_session(file)


def test_a_session_takes_the_threads_it_is_told(exported):
    options = onnx_session(exported["bert"][1], threads=2).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_modules_import_without_the_packages_for_onnx():
    hidden = ["onnx", "onnxruntime", "onnxscript", "datasets", "evaluate", "ipywidgets"]
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n"
        "from distilkit.compress import engines, frontier, pareto"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


SILENT = """
import sys
from distilkit.compress.onnx_export import onnx_session
onnx_session(sys.argv[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="where the data wait for sending, elsewhere")
def test_no_usage_data_are_collected(exported, tmp_path):
    """ONNX Runtime would keep what it sends in a database under the home folder."""
    told = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "CI")}
    environment = {**told, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", SILENT, str(exported["bert"][1])]
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    assert list(tmp_path.rglob("*")) == []
