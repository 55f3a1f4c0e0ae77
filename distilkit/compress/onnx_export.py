"""Export a model to ONNX and to int8, and compare the files with the PyTorch model.

Quantization is ONNX Runtime's dynamic one: int8 weights; activations are quantized during the
pass, with one scale for each tensor. An int8 answer therefore depends slightly on the texts and the
padding in its batch, so measurements here use one text at a time. PyTorch's ``quantize_dynamic`` is
deprecated and leaves the embeddings in float32, which doubles the file.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel

from distilkit.checkpoint import atomic_file
from distilkit.data.examples import Examples
from distilkit.families import inputs_of, positions
from distilkit.finetuning import by_target, predict
from distilkit.processes import eval_mode

if TYPE_CHECKING:
    import onnxruntime

MOST_BYTES = 2 * 10**9  # of one ONNX file: protobuf counts in 31 bits
_LENGTH = 16  # tokens of the traced example; the file accepts any length


@dataclass(frozen=True)
class Agreement:
    """Difference between the answers of a file and of the model, over a split of N examples."""

    examples: int
    same_answer: float  # share of examples, or words; NaN for regression
    largest_difference: float  # between two logits; NaN for spans
    logits: Any  # of the file, as :func:`distilkit.finetuning.predict` gives them


def export_onnx(model: PreTrainedModel, file: str | Path) -> Path:
    """Write a classifier or an encoder as one ONNX file for batches of any size and length.

    Inputs, int64 [B, L]: ``input_ids``, ``attention_mask`` and, for a BERT, ``token_type_ids``.
    Outputs, float32: ``logits`` [B, C], of tokens [B, L, C]; for spans ``start_logits`` and
    ``end_logits`` [B, L]. Without a head ``last_hidden_state`` [B, L, H], which
    sentence-transformers, optimum and transformers.js pool. The file is written atomically.
    ValueError for weights in another precision, on another device, or of 2 GB and more.
    """
    check_packages("onnx", "onnxscript")
    import onnx

    weights = list(model.parameters())
    if any(w.dtype != torch.float32 or w.device.type != "cpu" for w in weights):
        raise ValueError(
            "export_onnx needs a model in float32 on the CPU: call model.float().cpu() first"
        )
    if sum(w.numel() for w in weights) * 4 >= MOST_BYTES:
        raise ValueError("the weights are 2 GB or more: they do not fit into one ONNX file")
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = 2, min(_LENGTH, positions(model))
    names = ("input_ids", "attention_mask", "token_type_ids")
    # One tensor given twice is traced as one input, and the ids would serve as the mask.
    inputs = inputs_of(model, {name: torch.ones(shape, dtype=torch.long) for name in names})
    outputs = ["logits"]
    if type(model).__name__.endswith("ForQuestionAnswering"):
        outputs = ["start_logits", "end_logits"]
    elif model.base_model is model:
        outputs = ["last_hidden_state"]
    batch = torch.export.Dim("batch")
    length = torch.export.Dim("length", max=positions(model))
    with eval_mode(model), _exporter_warnings_off():  # the exporter changes the model's mode
        program = torch.onnx.export(
            model,
            (),
            kwargs=inputs,
            dynamo=True,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes={name: {0: batch, 1: length} for name in inputs},
            verbose=False,
        )
    if len(program.model.graph.outputs) > len(outputs):  # a pooler's
        del program.model.graph.outputs[len(outputs) :]
        program.optimize()
    graph = program.model_proto
    for node in graph.graph.node:  # each carries its source lines and their path on this machine
        del node.metadata_props[:]
    with atomic_file(file) as part:
        onnx.save(graph, part)
    return file


def quantize_onnx(file: str | Path, out: str | Path) -> Path:
    """Write the int8 version of an ONNX file: matrices and embedding tables.

    Weights get a scale for each output channel, embedding tables one scale each. The formats are
    ONNX Runtime's defaults (signed weights, unsigned activations): exact sums on processors with
    VNNI instructions; on older x86 processors sums may saturate. `out` is written atomically,
    `file` stays.
    """
    check_packages("onnx", "onnxruntime")
    import onnx
    from google.protobuf.message import DecodeError
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    try:
        graph = onnx.load(_existing(file))
    except DecodeError as error:
        raise ValueError(
            f"{file} is not an ONNX file ({error}): write it with export_onnx"
        ) from error
    # The exporter's shapes name dimensions in a way that ONNX Runtime's shape inference refuses.
    del graph.graph.value_info[:]
    add_pre_process_metadata(graph)  # already simplified: suppresses the advice to do so
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as part:
        quantize_dynamic(graph, part, per_channel=True, weight_type=QuantType.QInt8)
    return out


def onnx_session(file: str | Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open an ONNX file for inference on the CPU, with so many threads within an operation.

    Operations run one after another, and waiting threads do not spin, which would slow other models
    measured in turns with this one.
    """
    check_packages("onnxruntime")
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    if threads < 1:
        raise ValueError(f"threads = {threads}: give at least 1")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            _existing(file), options, providers=["CPUExecutionProvider"]
        )
    except (states.InvalidProtobuf, states.InvalidGraph, states.Fail) as error:
        raise ValueError(f"{file} cannot be read by ONNX Runtime ({error})") from error


def onnx_logits(session: onnxruntime.InferenceSession, batch: Mapping[str, Any]) -> np.ndarray:
    """Return logits [B, C], of tokens [B, L, C], or an encoder's hidden states [B, L, H].

    Start and end of an answer are [B, L, 2]. Names that the file lacks are ignored.
    """
    inputs = {node.name: np.asarray(batch[node.name]) for node in session.get_inputs()}
    outputs = session.run(None, inputs)
    return outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)


def onnx_predict(session: onnxruntime.InferenceSession, examples: Examples) -> Any:
    """Return a split's logits as :func:`distilkit.finetuning.predict` does, one text at a time."""
    batches = (examples.batch(0, [i]) for i in range(len(examples)))
    return by_target([onnx_logits(session, batch)[0] for batch in batches], examples)


def agreement(
    model: PreTrainedModel, session: onnxruntime.InferenceSession, examples: Examples
) -> Agreement:
    """Compare the answers of a file with the model's on each example.

    A float32 file differs by rounding only; int8 changes some answers.
    """
    if not len(examples):
        raise ValueError("no examples to compare on: give at least one")
    expected, _ = predict(model, examples)
    logits = onnx_predict(session, examples)
    if examples.passages is not None:  # texts
        same = np.mean([a == b for a, b in zip(logits, expected, strict=True)])
        return Agreement(len(expected), float(same), float("nan"), logits)
    x, y = (np.concatenate(z) if examples.on_words else z for z in (logits, expected))
    if x.shape != y.shape:
        raise ValueError(
            f"the file's logits are {x.shape}, the model's {y.shape}: export this model"
        )
    if examples.on_words:  # those of words that were cut off are NaN
        x, y = x[~np.isnan(x[:, 0])], y[~np.isnan(y[:, 0])]
    same = (x.argmax(1) == y.argmax(1)).mean() if x.shape[1] > 1 else float("nan")
    return Agreement(len(examples), float(same), float(np.abs(x - y).max()), logits)


def check_packages(*packages: str) -> None:
    """Raise an ImportError that says what to install, if a package (default: all) is missing."""
    required = packages or ("onnx", "onnxscript", "onnxruntime")
    missing = [name for name in required if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"compression to ONNX needs {' and '.join(missing)}: pip install {' '.join(missing)}"
        )


def _existing(file: str | Path) -> Path:
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"no file at {file}")
    return file


@contextmanager
def _exporter_warnings_off() -> Iterator[None]:
    """Silence the exporter's warnings about its own internals."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    with warnings.catch_warnings():
        # the exporter copies objects of a class that torch deprecates
        warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec", FutureWarning)
        # all inputs share the names "batch" and "length", on purpose
        warnings.filterwarnings("ignore", "# The axis name: ", UserWarning)
        registration.setLevel(logging.ERROR)  # torchvision is neither installed nor needed
        try:
            yield
        finally:
            registration.setLevel(level)
