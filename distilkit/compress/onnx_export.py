"""A classifier as an ONNX file, its int8 version, and whether both still say what torch says.

Sanh et al. 2019, section 5: distillation, pruning and quantization can be combined. Quantization
here is ONNX Runtime's dynamic one: weights are int8, with a scale for each output channel;
activations are turned into int8 as they come, with a scale of their tensor. So an int8 answer
depends a little on the texts and the padding that share its batch, and what is measured here is
measured one text at a time, as a server that answers at once would.

PyTorch's own ``torch.ao.quantization.quantize_dynamic`` does not serve here. At bert-base
dimensions, one thread, the int8 student took 28 ms with it and 25 ms with ONNX Runtime (in turns),
but it leaves the embeddings in float32: 139 MB in place of 68, 0.32 of BERT's size in place of
0.15. And it is deprecated.
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
from distilkit.families import positions
from distilkit.finetuning import inputs_of, predict
from distilkit.processes import eval_mode

if TYPE_CHECKING:
    import onnxruntime

MOST_BYTES = 2 * 10**9  # of one ONNX file: protobuf counts in 31 bits
_LENGTH = 16  # tokens of the example that is traced; files take any length


@dataclass(frozen=True)
class Agreement:
    """How far a file's answers are from the model's, over a whole split."""

    examples: int
    same_answer: float  # share with the same arg-max; NaN for regression, which has none
    largest_difference: float  # between two logits
    logits: np.ndarray  # [examples, C], the file's


def export_onnx(model: PreTrainedModel, file: str | Path) -> Path:
    """Write a classifier as one ONNX file for batches of any size and length.

    Inputs are int64 [B, L]: ``input_ids``, ``attention_mask`` and, for a BERT, ``token_type_ids``;
    the output is ``logits`` [B, C], float32. The file is whole or it is not there.

    Args:
        model: a sequence classifier in float32 on the CPU; stays as it is.
        file: to write; its folder is made.

    Raises:
        ValueError: weights in another precision, on another device, or of 2 GB and more.
        ImportError: ``onnx`` or ``onnxscript`` is missing.
    """
    check_packages("onnx", "onnxscript")
    import onnx

    weights = list(model.parameters())
    if any(w.dtype != torch.float32 or w.device.type != "cpu" for w in weights):
        raise ValueError(
            "export_onnx takes a model in float32 on the CPU: call model.float().cpu() before"
        )
    if sum(w.numel() for w in weights) * 4 >= MOST_BYTES:
        raise ValueError("the weights are 2 GB or more: they do not fit into one ONNX file")
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = 2, min(_LENGTH, positions(model))
    names = ("input_ids", "attention_mask", "token_type_ids")
    # a tensor each: one tensor given twice is traced as one input, and the mask would be the words
    inputs = inputs_of(model, {name: torch.ones(shape, dtype=torch.long) for name in names})
    batch = torch.export.Dim("batch")
    length = torch.export.Dim("length", max=positions(model))
    with eval_mode(model), _quiet():  # the exporter changes the mode of what it is given
        program = torch.onnx.export(
            model,
            (),
            kwargs=inputs,
            dynamo=True,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_shapes={name: {0: batch, 1: length} for name in inputs},
            verbose=False,
        )
    graph = program.model_proto
    for node in graph.graph.node:  # each with the lines of source that it came from, and their path
        del node.metadata_props[:]
    with atomic_file(file) as part:
        onnx.save(graph, part)
    return file


def quantize_onnx(file: str | Path, out: str | Path) -> Path:
    """Write the int8 version of an ONNX file: matrices, and the embeddings, which are most of it.

    Weights get a scale for each output channel, embedding tables one for the table. The formats
    are ONNX Runtime's defaults (signed weights, unsigned activations): without rounding errors of
    its own on processors with VNNI instructions; on older x86 ones sums may saturate.

    Args:
        file: as :func:`export_onnx` writes it; stays as it is.
        out: to write; whole, or not there.

    Raises:
        FileNotFoundError: there is no `file`.
        ValueError: it is no ONNX file.
        ImportError: ``onnx`` or ``onnxruntime`` is missing.
    """
    check_packages("onnx", "onnxruntime")
    import onnx
    from google.protobuf.message import DecodeError
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    try:
        graph = onnx.load(_existing(file))
    except DecodeError as error:
        raise ValueError(f"{file} is no ONNX file ({error}): write it with export_onnx") from error
    # The exporter's shapes name dimensions in a way that ONNX Runtime's shape inference refuses.
    del graph.graph.value_info[:]
    add_pre_process_metadata(graph)  # the exporter has simplified it: no advice to do that first
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as part:
        quantize_dynamic(graph, part, per_channel=True, weight_type=QuantType.QInt8)
    return out


def onnx_session(file: str | Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """An ONNX file, ready to answer on the CPU.

    Args:
        file: as :func:`export_onnx` or :func:`quantize_onnx` writes it.
        threads: that share one operation; operations follow one another, and threads that wait do
            not spin, which would slow whatever is measured beside it.

    Raises:
        FileNotFoundError: there is no `file`.
        ValueError: fewer than one thread, or no file that ONNX Runtime can read.
        ImportError: ``onnxruntime`` is missing.
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
    """The logits [B, C] of a batch; it may hold more than the file takes (token types, labels).

    Args:
        session: :func:`onnx_session`.
        batch: tensors or arrays [B, L] by name.
    """
    inputs = {put.name: np.asarray(batch[put.name]) for put in session.get_inputs()}
    return session.run(["logits"], inputs)[0]


def onnx_predict(
    session: onnxruntime.InferenceSession, examples: Examples, batch_size: int = 1
) -> np.ndarray:
    """The logits [examples, C] of a split, in the data's order, one text at a time by default."""
    by_length = np.argsort(examples.lengths, kind="stable")
    found: list[Any] = [None] * len(examples)
    for start in range(0, len(by_length), batch_size):
        ids = by_length[start : start + batch_size]
        for i, logits in zip(ids, onnx_logits(session, examples.batch(0, ids)), strict=True):
            found[i] = logits
    return np.stack(found)


def agreement(
    model: PreTrainedModel, session: onnxruntime.InferenceSession, examples: Examples
) -> Agreement:
    """Compare a file's answers with the model's on every example.

    A float32 file differs by rounding alone; what int8 changes is stated, and is not nothing.

    Args:
        model: in PyTorch.
        session: its export.
        examples: for instance a validation set (:func:`distilkit.data.tasks.task_examples`).

    Raises:
        ValueError: no examples, or another number of outputs.
    """
    if not len(examples):
        raise ValueError("no examples to compare on: give at least one")
    theirs, _ = predict(model, examples)
    ours = onnx_predict(session, examples)
    if ours.shape != theirs.shape:
        raise ValueError(f"the file's logits are {ours.shape}, the model's {theirs.shape}")
    same = float("nan")
    if ours.shape[1] > 1:
        same = float((ours.argmax(1) == theirs.argmax(1)).mean())
    return Agreement(len(examples), same, float(np.abs(ours - theirs).max()), ours)


def check_packages(*packages: str) -> None:
    """ImportError that says what to install, before time is spent (by default: all)."""
    wanted = packages or ("onnx", "onnxscript", "onnxruntime")
    missing = [name for name in wanted if find_spec(name) is None]
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
def _quiet() -> Iterator[None]:
    """Without what the exporter says to its own authors."""
    about_vision = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = about_vision.level
    with warnings.catch_warnings():
        # copies of its own, of a class that it deprecates
        warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec", FutureWarning)
        # all inputs share the names "batch" and "length": that is meant
        warnings.filterwarnings("ignore", "# The axis name: ", UserWarning)
        about_vision.setLevel(logging.ERROR)  # torchvision is not installed, nor needed
        try:
            yield
        finally:
            about_vision.setLevel(level)
