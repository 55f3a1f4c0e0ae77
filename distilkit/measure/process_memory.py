"""Script: run one model in this process and print its resident memory in MiB.

Run, not imported: ``python -P process_memory.py MODEL LENGTH THREADS``. So a process with an ONNX
file loads ONNX Runtime and NumPy and nothing else, as a small server would.
"""

import sys
from pathlib import Path

PASSES = 5


def run_onnx(file: str, length: int, threads: int) -> object:
    """Run :data:`PASSES` passes of an ONNX file; return the session, which holds the weights."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs = {node.name: np.ones((1, length), dtype=np.int64) for node in session.get_inputs()}
    for _ in range(PASSES):
        session.run(None, inputs)
    return session


def run_torch(folder: str, length: int, threads: int) -> object:
    """Run :data:`PASSES` passes of a checkpoint; return the model, which holds the weights."""
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

    path, *numbers = sys.argv[1:]
    run = run_onnx if path.endswith(".onnx") else run_torch
    model = run(path, *map(int, numbers))  # keeps the weights alive until memory is read
    print(psutil.Process().memory_info().rss / 2**20)
