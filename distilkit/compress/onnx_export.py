"""Export a model to ONNX and to int8, and run the files.

Quantization is ONNX Runtime's dynamic one: int8 weights; activations are quantized during the
pass, with one scale for each tensor. An int8 answer therefore depends slightly on the texts and the
padding in its batch, so measurements here use one text at a time. PyTorch's ``quantize_dynamic`` is
deprecated and leaves the embeddings in float32, which doubles the file.
"""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from distilkit.checkpoint import atomic_file
from distilkit.data.examples import Examples
from distilkit.families import inputs_of, positions
from distilkit.finetuning import by_target
from distilkit.processes import eval_mode

MOST_BYTES = 2 * 10**9  # of one ONNX file: protobuf counts in 31 bits
_LENGTH = 16  # tokens of the traced example; the file accepts any length


def check_exportable(model: PreTrainedModel) -> None:
    """Raise ValueError for weights that do not fit into one ONNX file."""
    if sum(weight.numel() for weight in model.parameters()) * 4 >= MOST_BYTES:
        who = model.name_or_path or type(model).__name__
        raise ValueError(f"{who}: an ONNX file holds less than 2 GB of weights in float32")


def export_onnx(model: PreTrainedModel, file: Path) -> Path:
    """Write a classifier or an encoder, in float32 on the CPU, for batches of any size and length.

    Inputs, int64 [B, L]: ``input_ids``, ``attention_mask`` and, for a BERT, ``token_type_ids``.
    Outputs, float32: ``logits`` [B, C], of tokens [B, L, C]; for spans ``start_logits`` and
    ``end_logits`` [B, L]. Without a head ``last_hidden_state`` [B, L, H], which
    sentence-transformers, optimum and transformers.js pool. The file is written atomically.
    ValueError for weights of 2 GB and more.
    """
    import onnx

    check_exportable(model)
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
    # torchvision is neither installed nor needed
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with eval_mode(model), warnings.catch_warnings():  # the exporter changes the model's mode
        # the exporter copies objects of a class that torch deprecates
        warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec", FutureWarning)
        # all inputs share the names "batch" and "length", on purpose
        warnings.filterwarnings("ignore", "# The axis name: ", UserWarning)
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


def quantize_onnx(file: Path, out: Path) -> Path:
    """Write the int8 version of an ONNX file: matrices and embedding tables.

    Weights get a scale for each output channel, embedding tables one scale each. The formats are
    ONNX Runtime's defaults (signed weights, unsigned activations): exact sums on processors with
    VNNI instructions; on older x86 processors sums may saturate. `out` is written atomically,
    `file` stays.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    graph = onnx.load(file)
    # The exporter's shapes name dimensions in a way that ONNX Runtime's shape inference refuses.
    del graph.graph.value_info[:]
    add_pre_process_metadata(graph)  # already simplified: suppresses the advice to do so
    with atomic_file(out) as part:
        quantize_dynamic(graph, part, per_channel=True, weight_type=QuantType.QInt8)
    return out


def onnx_session(file: str | Path, threads: int = 1) -> Any:
    """Open an ONNX file for inference on the CPU, with so many threads within an operation.

    Operations run one after another, and waiting threads do not spin, which would slow other models
    measured in turns with this one.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def onnx_logits(session: Any, batch: Mapping[str, Any]) -> np.ndarray:
    """Return logits [B, C], of tokens [B, L, C], or an encoder's hidden states [B, L, H].

    Start and end of an answer are [B, L, 2]. Names that the file lacks are ignored.
    """
    inputs = {node.name: np.asarray(batch[node.name]) for node in session.get_inputs()}
    outputs = session.run(None, inputs)
    return outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)


def onnx_predict(session: Any, examples: Examples) -> Any:
    """Return a split's logits as :func:`distilkit.finetuning.predict` does, one text at a time."""
    batches = (examples.batch(0, [i]) for i in range(len(examples)))
    return by_target([onnx_logits(session, batch)[0] for batch in batches], examples)
