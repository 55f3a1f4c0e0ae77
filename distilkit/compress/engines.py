"""One model in three engines: PyTorch, ONNX Runtime in float32, ONNX Runtime in int8."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from distilkit.compress.onnx_export import export_onnx, onnx_logits, onnx_session, quantize_onnx
from distilkit.data.examples import Examples
from distilkit.measure import process_memory
from distilkit.measure.latency import random_inputs, random_pair, ready, take_turns, time_passes
from distilkit.measure.size import BYTES_PER_MB, bytes_on_disk, parameter_count

TORCH, FP32, INT8 = ENGINES = ("torch fp32", "onnx fp32", "onnx int8")
# as optimum and transformers.js call them
FILES = {FP32: "model.onnx", INT8: "model_quantized.onnx"}
TIMED_PASSES = 50
THREADS = 1  # of each timed model
EXPORT_PASSES = 260  # of BERT-base take as long as the exports and the six processes


def export_engines(model: PreTrainedModel, folder: str | Path) -> dict[str, Path]:
    """Write a model for ONNX Runtime, in float32 and in int8; engine -> file."""
    files = {engine: Path(folder) / name for engine, name in FILES.items()}
    quantize_onnx(export_onnx(model, files[FP32]), files[INT8])
    return files


def engine_costs(
    models: Mapping[str, PreTrainedModel],
    folder: str | Path,
    *,
    length: int,
    runs: int = 30,
    warmup: int = 5,
    memory: bool = True,
) -> pd.DataFrame:
    """Measure size, latency at batch 1 and memory of each model in each engine, taking turns.

    The models, in float32 on the CPU, are exported to folders "0", "1", ... in `folder`. The text
    has `length` tokens, no padding. With `memory` a process is started for each (some seconds).

    Returns a row for each model and engine: ``model, engine, parameters, size_mb, latency_ms_p50,
    latency_ms_p95, faster, faster_low, faster_high, memory_mib, length, threads``. ``faster`` is
    the first row's time over this row's: the median over turns, with its quartiles.
    """
    folders = {name: Path(folder) / f"{i}" for i, name in enumerate(models)}
    rows, passes = [], {}
    for name, model in models.items():
        files: dict[str, Path] = {TORCH: folders[name], **export_engines(model, folders[name])}
        for engine, file in files.items():
            size = bytes_on_disk(model) if engine == TORCH else file.stat().st_size
            passes[name, engine] = _one_pass(model, engine, file, length)
            row = {"model": name, "engine": engine, "parameters": parameter_count(model)}
            rows.append(row | {"size_mb": size / BYTES_PER_MB})
    with ready(models.values(), THREADS):
        seconds = take_turns(passes, runs=runs, warmup=warmup)
    first = seconds[rows[0]["model"], rows[0]["engine"]]
    for row in rows:
        name, engine = row["model"], row["engine"]
        times = seconds[name, engine]
        p50, p95 = np.percentile(1e3 * times, (50, 95))
        low, middle, high = np.percentile(first / times, (25, 50, 75))
        row |= {"latency_ms_p50": p50, "latency_ms_p95": p95}
        row |= {"faster": middle, "faster_low": low, "faster_high": high}
        if memory:
            file = folders[name] / FILES.get(engine, "torch")
            if engine == TORCH:
                models[name].save_pretrained(file)
            row["memory_mib"] = resident_mib(file, length=length)
        row |= {"length": length, "threads": THREADS}
    return pd.DataFrame(rows)


def each_engine(
    models: Mapping[str, PreTrainedModel], examples: Examples, folder: Path
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield each model's costs in each engine, and what answers: the model or an ONNX session.

    The costs are a row of :func:`engine_costs` for a text of median length, without memory.
    """
    typical = int(np.median(examples.lengths))
    costs = engine_costs(models, folder, length=typical, runs=TIMED_PASSES, memory=False)
    for number, row in enumerate(costs.to_dict("records")):
        if row["engine"] == TORCH:
            yield row, models[row["model"]]
        else:
            file = folder / f"{number // len(ENGINES)}" / FILES[row["engine"]]
            yield row, onnx_session(file, torch.get_num_threads())


def bench_compression(*, runs: int = 20) -> pd.DataFrame:
    """Measure BERT-base and its 6-layer student, random weights, in each engine at 128 tokens.

    Returns the table of :func:`engine_costs`, with ``share_of_size`` of the first row.
    """
    models = random_pair()
    one = {"": models["teacher"]}
    seconds = time_passes(one, length=128, runs=5, warmup=1, threads=THREADS)[""]
    minutes = (EXPORT_PASSES + 3 * runs) * np.median(seconds) / 60
    print(f"6 engines, {runs} passes of each: about {max(1, round(minutes))} min")
    with tempfile.TemporaryDirectory(prefix="distilkit-onnx-") as folder:
        table = engine_costs(models, folder, length=128, runs=runs, warmup=3)
    table.insert(4, "share_of_size", table["size_mb"] / table["size_mb"][0])
    return table


def resident_mib(model: str | Path, *, length: int) -> float:
    """Measure the resident memory in MiB of a new process that loads a model and runs five passes.

    A folder of ``save_pretrained`` is run by PyTorch; an ``.onnx`` file by ONNX Runtime, in a
    process that never loads PyTorch.
    """
    script = process_memory.__file__
    command = [sys.executable, "-P", script, str(model), str(length), str(THREADS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise ValueError(f"{model}: the process that should run it failed ({reason})")
    return float(done.stdout.splitlines()[-1])


def _one_pass(model: PreTrainedModel, engine: str, file: Path, length: int) -> Callable[[], Any]:
    """Return one pass over a text of random tokens; the model has to be in eval mode."""
    inputs = random_inputs(model, 1, length)  # [1, L]
    if engine == TORCH:
        return lambda: model(**inputs)
    session = onnx_session(file, THREADS)
    batch = {name: value.numpy() for name, value in inputs.items()}
    batch["token_type_ids"] = np.zeros_like(batch["input_ids"])
    return lambda: onnx_logits(session, batch)
