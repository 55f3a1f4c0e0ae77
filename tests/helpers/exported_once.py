"""ONNX exports that are made once for all models of a shape: each takes seconds, however small."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from filelock import FileLock
from onnx import numpy_helper

from distilkit.compress import engines
from distilkit.processes import seeded

# of a config: what no graph depends on
_OTHER = {"id2label", "label2id", "problem_type", "_name_or_path", "num_labels", "dtype"}


@contextmanager
def exported_once(tmp_path_factory) -> Iterator[None]:
    """Models of one shape, whatever their number of classes, share one export by all workers.

    The first is exported with random weights, which tell where each weight of a model belongs. The
    tests compare what a file answers with what its model does, so a wrong place would show.
    """
    folder, export = tmp_path_factory.getbasetemp(), engines.export_onnx
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "exports"
    folder.mkdir(exist_ok=True)

    def filled(model, file: Path) -> Path:
        template = folder / f"{_shape(model)}.onnx"
        with FileLock(template.with_suffix(".lock")):
            if not template.is_file():
                other = copy.deepcopy(model)
                with seeded(0), torch.no_grad():
                    for weight in other.parameters():
                        weight.normal_()
                places = _places(onnx.load(export(other, template)), other)
                template.with_suffix(".json").write_text(json.dumps(places))
        places = json.loads(template.with_suffix(".json").read_text())
        if places is None:
            return export(model, file)
        graph, weights = onnx.load(template), model.state_dict()
        for initializer in graph.graph.initializer:
            if initializer.name in places:
                name, turned = places[initializer.name]
                value = weights[name].numpy()
                value = np.ascontiguousarray(value.T if turned else value)
                initializer.CopyFrom(numpy_helper.from_array(value, initializer.name))
        for output in graph.graph.output:
            if output.name == "logits":
                output.type.tensor_type.shape.dim[-1].dim_value = model.config.num_labels
        del graph.graph.value_info[:]
        file.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(graph, file)
        return file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "export_onnx", filled)
        yield


def _shape(model) -> str:
    """Name what the graph depends on: class, config, and shapes but for the number of classes."""
    config = {k: v for k, v in model.config.to_dict().items() if k not in _OTHER}
    shapes = {name: [*weight.shape] for name, weight in model.state_dict().items()}
    for name, shape in shapes.items():
        if name.startswith(("classifier.", "qa_outputs.")) and shape[0] == model.config.num_labels:
            shape[0] = None
    meaning = json.dumps([type(model).__name__, config, shapes], sort_keys=True, default=str)
    return hashlib.sha256(meaning.encode()).hexdigest()[:20]


def _places(graph, model) -> dict[str, tuple[str, bool]] | None:
    """Map each weight of a graph to its name in the model and whether it is transposed there.

    None if a weight was computed from others.
    """
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    places = {}
    for initializer in graph.graph.initializer:
        value = numpy_helper.to_array(initializer)
        for name, weight in weights.items():
            for turned in (False, True):
                if np.array_equal(weight.T if turned else weight, value):
                    places[initializer.name] = name, turned
        if value.dtype == np.float32 and value.size > 1 and initializer.name not in places:
            return None
    return places
