"""A process that answers with one model, and says how much memory it holds.

Run as a script, not imported: ``python -I process_memory.py MODEL LENGTH THREADS``. So a process
that has an ONNX file loads ONNX Runtime and NumPy and nothing else, as a small server would.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PASSES = 5


def answer_with_onnx(file: str, length: int, threads: int) -> object:
    """Pass a text through an ONNX file, some times; the session, which holds the weights."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs = {put.name: np.ones((1, length), dtype=np.int64) for put in session.get_inputs()}
    for _ in range(PASSES):
        session.run(None, inputs)
    return session


def answer_with_torch(folder: str, length: int, threads: int) -> object:
    """Pass a text through a checkpoint, some times; the model, which holds the weights."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import torch
    from transformers import AutoModelForSequenceClassification

    from distilkit.models.loading import load_model

    torch.set_num_threads(threads)
    model, _ = load_model(AutoModelForSequenceClassification, folder)
    ids = torch.ones(1, length, dtype=torch.long)
    with torch.inference_mode():
        for _ in range(PASSES):
            model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))
    return model


if __name__ == "__main__":
    import psutil

    given, *numbers = sys.argv[1:]
    answer = answer_with_onnx if given.endswith(".onnx") else answer_with_torch
    held = answer(given, *map(int, numbers))  # or it would be freed before memory is read
    print(json.dumps({"resident_mib": psutil.Process().memory_info().rss / 2**20}))
