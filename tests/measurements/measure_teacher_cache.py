"""Measure: what a teacher cache costs, what it saves, and what it changes.

    python tests/measurements/measure_teacher_cache.py [--steps 300] [--seeds 1 2 3]

The shipped teacher, the tiny scale's text and training. Prints three tables: the time of a step
with the live teacher and with the cache, in turns in one process, with the cost of the build and
after how many students that pays; where students end that are distilled with and without it, as
T²·KL on held-out text against the live teacher; and what float16 changes.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="of the students that are trained")
    parser.add_argument("--plan", type=int, default=1000, help="steps whose cost is worked out")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=30, help="turns of the timing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="distilkit-cache-") as folder:
        os.environ["DISTILKIT_HOME"] = folder
        measure(options)
    return 0


def measure(options: argparse.Namespace) -> None:
    import torch

    from distilkit.config import scale
    from distilkit.data.sources import load_blocks, load_teacher
    from distilkit.data.teacher_cache import cached_teacher
    from distilkit.student import student_from_teacher

    tiny = scale("tiny")
    teacher, tokenizer = load_teacher(tiny)
    print(f"{torch.get_num_threads()} threads; objective {tiny.loss_config}")

    # 1. a step, live and cached, in turns; building them
    blocks, validation = load_blocks(tiny, tokenizer)
    training = dataclasses.replace(tiny.distillation, steps=options.rounds)
    since = time.perf_counter()
    cache = cached_teacher(teacher, blocks, training, tiny.loss_config)
    block_seconds = (time.perf_counter() - since) / cache.entries
    data = {"live": blocks, "cached": cache}
    times = step_times(student_from_teacher(teacher), teacher, data, training, tiny.loss_config)
    seen = options.plan * training.batch_size
    rows = []
    for name, took in times.items():
        live, median = statistics.median(times["live"]), statistics.median(took)
        ratios = [a / b for a, b in zip(times["live"], took, strict=True)]
        row = {"targets": name, "step ms": 1000 * median, "live / it": statistics.median(ratios)}
        if name != "live":
            build = block_seconds * seen
            saved = (live - median) * options.plan
            row |= {
                "range": f"{min(ratios):.2f} to {max(ratios):.2f}",
                f"build s ({options.plan} steps)": build,
                "MB": cache.entry_bytes * seen / 1e6,
                "saved s a student": saved,
                "pays after students": build / saved if saved > 0 else float("inf"),
            }
        rows.append(row)
    show(rows, 2)

    # 2. where students end
    student, rows = None, []
    for seed in options.seeds:
        row: dict[str, Any] = {"seed": seed}
        seeded = dataclasses.replace(
            tiny,
            distillation=dataclasses.replace(
                tiny.distillation, steps=options.steps, seed=seed, eval_interval=None
            ),
        )
        for name in ("live", "cached"):
            run = distilled(seeded, teacher, tokenizer, f"{name}-{seed}", name == "cached")
            row[name] = run.rows()[-1]["soft_target"]
            if name == "live" and student is None:
                student = type(student_from_teacher(teacher)).from_pretrained(run.model)
        rows.append(row)
        show(rows, 4, f"held-out T²·KL after {options.steps} steps")

    # 3. what float16 changes
    student = student or student_from_teacher(teacher)
    show(errors(teacher, student.eval(), validation), 5, "of the shipped teacher, held-out text")


def show(rows: list[dict[str, Any]], digits: int, title: str = "") -> None:
    import pandas as pd

    print(f"\n{title}\n{pd.DataFrame(rows).round(digits).to_string(index=False)}", flush=True)


def step_times(student, teacher, data, training, loss_config) -> dict[str, list[float]]:
    """Seconds of whole steps, reading the batch included, each kind of targets in turn."""
    import copy

    import torch

    from distilkit.distillation import LanguageModelLoss
    from distilkit.training_loop import parameter_groups

    loss = LanguageModelLoss(loss_config, teacher)
    models = {name: copy.deepcopy(student).train() for name in data}
    optimizers = {
        name: torch.optim.AdamW(parameter_groups(model, 0.0), lr=1e-4, fused=True)
        for name, model in models.items()
    }
    times: dict[str, list[float]] = {name: [] for name in data}
    size, names = training.batch_size, list(data)
    for turn in range(training.steps):
        ids = data["live"].order(0, size)[turn * size : (turn + 1) * size]
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            since = time.perf_counter()
            batch = data[name].batch(0, ids)
            loss(models[name], batch, batch["counts"])["loss"].backward()
            optimizers[name].step()
            optimizers[name].zero_grad(set_to_none=True)
            times[name].append(time.perf_counter() - since)
    return {name: took[3:] for name, took in times.items()}  # the first ones warm up


def distilled(scale, teacher, tokenizer, name, cached):
    from distilkit.data.sources import load_blocks
    from distilkit.data.teacher_cache import cached_teacher
    from distilkit.distillation import distil
    from distilkit.student import student_from_teacher

    blocks, validation = load_blocks(scale, tokenizer)
    cache = None
    if cached:
        cache = cached_teacher(teacher, blocks, scale.distillation, scale.loss_config)
    run = distil(
        student_from_teacher(teacher),
        teacher,
        cache or blocks,
        scale.distillation,
        name=name,
        loss_config=scale.loss_config,
        validation=validation,
    )
    if cache is not None:
        (cache.path / "entries.bin").unlink()
    return run


def errors(teacher, student, validation) -> list[dict[str, Any]]:
    """Averages over the tokens of 32 held-out blocks, at each temperature.

    ``lost``: nats from the teacher's distribution to that of its states in float16. ``KL``: teacher
    to student; ``ratio``: the KL from the float16 states over it. ``gradient``: of the student's
    logits, ‖float16 − exact‖ / ‖exact‖. ``error``: the largest of a probability.
    """
    import numpy as np
    import torch

    from distilkit.families import mlm_head

    batch = validation.batch(0, np.arange(32))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    head = mlm_head(teacher)
    with torch.no_grad():
        hidden = teacher.base_model(**inputs).last_hidden_state.flatten(0, 1)[batch["rows"]]
        z = student(**inputs).logits.flatten(0, 1)[batch["rows"]].double()
        t = head.decoder(head.transform(hidden))
        from_half = head.decoder(head.transform(hidden.half().float())).double()
    rows = []
    for temperature in (0.5, 1, 1.5, 2, 4, 8):
        p, q = (t.double() / temperature).softmax(-1), (z / temperature).softmax(-1)
        kl = torch.special.xlogy(p, p / q).sum(-1).mean()
        half = (from_half / temperature).softmax(-1)
        rows.append(
            {
                "T": float(temperature),
                "lost": torch.special.xlogy(p, p / half).sum(-1).mean(),
                "KL": kl,
                "ratio": torch.special.xlogy(half, half / q).sum(-1).mean() / kl,
                "gradient": (half - p).norm() / (q - p).norm(),
                "error": (half - p).abs().max(),
            }
        )
    return [{name: float(value) for name, value in row.items()} for row in rows]


if __name__ == "__main__":
    sys.exit(main())
