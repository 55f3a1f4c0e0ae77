"""Measure: what a teacher cache costs, what it saves, and what it changes.

    python tests/measurements/measure_teacher_cache.py [--steps 300]
        [--seeds 1 2 3] [--k 16 64 none]

The shipped teacher, the tiny scale's text and training. Prints four tables: the time of a step with
the live teacher and with caches, in turns in one process; building and disk, and after how many
students that pays; what the kept distribution leaves out; and where students end that are distilled
with and without a cache, as T²·KL on held-out text against the live teacher.
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
    parser.add_argument(
        "--k", type=lambda k: None if k == "none" else int(k), nargs="+", default=[16, 64, None]
    )
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
    data, costs = {"live": blocks}, {}
    for k in options.k:
        since = time.perf_counter()
        cache = cached_teacher(teacher, blocks, training, tiny.loss_config, k=k)
        seconds = (time.perf_counter() - since) / cache.entries
        data[named(k)] = cache
        costs[named(k)] = {"seconds a block": seconds, "bytes a block": cache.record.itemsize}
    times = step_times(student_from_teacher(teacher), teacher, data, training, tiny.loss_config)
    seen = options.plan * training.batch_size
    rows = []
    for name, took in times.items():
        live, ours = statistics.median(times["live"]), statistics.median(took)
        ratios = [a / b for a, b in zip(times["live"], took, strict=True)]
        row = {"targets": name, "step ms": 1000 * ours, "live / it": statistics.median(ratios)}
        if name != "live":
            build = costs[name]["seconds a block"] * seen
            saved = (live - ours) * options.plan
            row |= {
                "range": f"{min(ratios):.2f} to {max(ratios):.2f}",
                f"build s ({options.plan} steps)": build,
                "MB": costs[name]["bytes a block"] * seen / 1e6,
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
        for name, k in {"live": 0, **{named(k): k for k in options.k}}.items():
            run = distilled(seeded, teacher, tokenizer, f"{name}-{seed}".replace("=", ""), name, k)
            row[name] = run.rows()[-1]["soft_target"]
            if name == "live" and student is None:
                student = type(student_from_teacher(teacher)).from_pretrained(run.model)
        rows.append(row)
        show(rows, 4, f"held-out T²·KL after {options.steps} steps")

    # 3. what is left out
    student = student or student_from_teacher(teacher)
    show(errors(teacher, student.eval(), validation), 5, "of the shipped teacher, held-out text")


def named(k: int | None) -> str:
    return "hidden" if k is None else f"k={k}"


def show(rows: list[dict[str, Any]], digits: int, title: str = "") -> None:
    import pandas as pd

    print(f"\n{title}\n{pd.DataFrame(rows).round(digits).to_string(index=False)}", flush=True)


def step_times(student, teacher, data, training, loss_config) -> dict[str, list[float]]:
    """Seconds of whole steps, reading the batch included, each kind of targets in turn."""
    import copy

    import torch

    from distilkit.distillation import language_model_loss
    from distilkit.training_loop import parameter_groups

    loss = language_model_loss(loss_config, teacher)
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


def distilled(scale, teacher, tokenizer, run_name, name, k):
    from distilkit.data.sources import load_blocks
    from distilkit.data.teacher_cache import cached_teacher
    from distilkit.distillation import distil
    from distilkit.student import student_from_teacher

    blocks, validation = load_blocks(scale, tokenizer)
    cache = None
    if name != "live":
        cache = cached_teacher(teacher, blocks, scale.distillation, scale.loss_config, k=k)
    run = distil(
        student_from_teacher(teacher),
        teacher,
        blocks,
        scale.distillation,
        name=run_name,
        loss_config=scale.loss_config,
        validation=validation,
        teacher_cache=cache,
    )
    if cache is not None:
        (cache.path / "entries.bin").unlink()
    return run


def errors(teacher, student, validation) -> list[dict[str, Any]]:
    """Averages over the tokens of 32 held-out blocks, at each k and temperature.

    ``rest``: mass outside the k. ``forgotten``: nats from the teacher's distribution to the same
    with its rest spread evenly, which is what one bucket does not say. ``KL``: teacher to student;
    ``seen``: the part of it that k + 1 outcomes see. ``gradient``: ‖theirs − full‖ / ‖full‖, of the
    gradients in the student's logits. ``error``: the largest of a kept probability, by float16 and
    between the temperatures at which the rest's mass is kept.
    """
    import numpy as np
    import torch

    from distilkit.data.top_k import TopK, at_temperature, top_k
    from distilkit.fused_loss import mlm_head

    batch = validation.batch(0, np.arange(32))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    head = mlm_head(teacher)
    with torch.no_grad():
        hidden = teacher.base_model(**inputs).last_hidden_state.flatten(0, 1)[batch["rows"]]
        z = student(**inputs).logits.flatten(0, 1)[batch["rows"]].double()
        t = head.decoder(head.transform(hidden))
        from_half = head.decoder(head.transform(hidden.half().float())).double()
    rows, v = [], t.shape[-1]
    for temperature in (0.5, 1, 1.5, 2, 4, 8):
        p, q = (t.double() / temperature).softmax(-1), (z / temperature).softmax(-1)
        kl = torch.special.xlogy(p, p / q).sum(-1).mean()
        for k in (8, 16, 64, 256):
            top = top_k(t, k)
            ids, ours, rest = at_temperature(
                TopK(top.ids, top.logits.half(), top.rest), v, temperature
            )
            ours, rest = ours.double(), rest.double()
            even = (rest / (v - k))[:, None].repeat(1, v).scatter(1, ids, ours)
            q_top, q_rest = q.gather(1, ids), q.scatter(1, ids, 0.0).sum(-1)
            seen = (ours * (ours / q_top).log()).sum(-1) + rest * (rest / q_rest).log()
            gradient = (q * (1 - rest / q_rest)[:, None]).scatter(1, ids, q_top - ours)
            rows.append(
                {
                    "kept": f"k={k}",
                    "T": temperature,
                    "rest": rest.mean(),
                    "forgotten": torch.special.xlogy(p, p / even).sum(-1).mean(),
                    "KL": kl,
                    "seen": seen.mean() / kl,
                    "gradient": (gradient - (q - p)).norm() / (q - p).norm(),
                    "error": (ours - p.gather(1, ids)).abs().max(),
                }
            )
        ours = (from_half / temperature).softmax(-1)
        rows.append(
            {
                "kept": "hidden",
                "T": temperature,
                "rest": 0.0,
                "forgotten": torch.special.xlogy(p, p / ours).sum(-1).mean(),
                "KL": kl,
                "seen": torch.special.xlogy(ours, ours / q).sum(-1).mean() / kl,
                "gradient": (ours - p).norm() / (q - p).norm(),
                "error": (ours - p).abs().max(),
            }
        )
    return [{k: x if isinstance(x, str) else float(x) for k, x in row.items()} for row in rows]


if __name__ == "__main__":
    sys.exit(main())
