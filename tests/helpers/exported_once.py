"""ONNX exports that are made once: each takes seconds, however small the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distilkit.compress import engines
from distilkit.run import fingerprint


@contextmanager
def exported_once(folder: Path) -> Iterator[None]:
    """A model that was exported before, bit for bit, is copied from this folder."""
    export, exported = engines.export_onnx, {}

    def copied(model, file: Path) -> Path:
        key = json.dumps([type(model).__name__, fingerprint(model)], sort_keys=True)
        if key not in exported:
            exported[key] = export(model, folder / f"{len(exported)}.onnx")
        file.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(exported[key], file))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "export_onnx", copied)
        yield
