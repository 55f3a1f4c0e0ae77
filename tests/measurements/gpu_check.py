"""Not a test: what a GPU makes of training, fine-tuning and a teacher's answers, run by hand.

    python tests/measurements/gpu_check.py [--toy] [--out gpu_check.json]      (make gpu-check)

Random weights and random words: no network, no packages beyond torch, transformers, accelerate and
pandas. With --toy everything is small, so that it runs on a CPU in a minute; its numbers mean
nothing.

Measured: a distillation step of BERT-base's shape (`bench step`), at blocks of 512 tokens; the same
with `torch.compile`; a teacher's logits of texts; the fine-tuning of a student on them, with the
host's waits for the device in each step; and the training loop's own step, as `distil` runs it.
MFU is FLOPs a second over the peak that the maker states for bfloat16 without sparsity.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from distilkit.config import LossConfig, TrainingConfig
from distilkit.data.task_examples import task_examples
from distilkit.data.task_loss import TaskLoss
from distilkit.data.tasks import get_task
from distilkit.data.teacher_logits import TeacherLogits
from distilkit.distillation import pretrain
from distilkit.masking import MaskedBlocks
from distilkit.measure import step_benchmark
from distilkit.measure.latency import time_micro_batch
from distilkit.measure.step_benchmark import Work, batches, bench_step, load_pair, make_step
from distilkit.processes import seeded
from distilkit.run import environment, open_run
from distilkit.student import student_from_teacher
from distilkit.training_loop import train

PEAKS = {"H200": 989.5e12, "H100": 989.5e12, "A100": 312e12}  # FLOP/s, bfloat16, dense
TURNS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toy", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.toy:
        parser.error("no GPU here: give --toy to try the script on the CPU")
    found: dict[str, Any] = {"environment": environment(), "toy": options.toy}
    checks = [steps, compiled_step, distillation, fine_tuning]
    with tempfile.TemporaryDirectory() as home:
        os.environ["DISTILKIT_HOME"] = home
        for check in checks:
            started = time.perf_counter()
            try:
                found[check.__name__] = check(device, options.toy)
            except Exception as error:  # one that fails must not cost the others
                found[check.__name__] = {"failed": f"{type(error).__name__}: {error}"}
            found[check.__name__]["check_seconds"] = round(time.perf_counter() - started, 1)
            print(check.__name__, json.dumps(found[check.__name__], indent=1), flush=True)
            options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def works(device: str, toy: bool) -> list[Work]:
    sizes = {"batch_size": 2, "length": 16} if toy else {"batch_size": 32, "length": 512}
    width = "toy" if toy else "base"
    step_benchmark.WIDTHS["toy"] = (2, 32, 2, 32)
    return [Work(width=width, tokens=t, device=device, **sizes) for t in ("all", "masked")]


def peak() -> float | None:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((flops for chip, flops in PEAKS.items() if chip in name), None)


def mfu(tokens_per_s: float, mflop_per_token: float) -> float | None:
    return peak() and tokens_per_s * mflop_per_token * 1e6 / peak()


def steps(device: str, toy: bool) -> dict[str, Any]:
    """`bench step`: the textbook's step and the fused one, at all tokens and at masked ones."""
    if toy:  # its processes import a module without the toy width
        step_benchmark.in_a_process = lambda _, function, *arguments: function(*arguments)
        step_benchmark.MATMUL["cpu"] = 64
    rows = bench_step(works(device, toy), steps=2 if toy else TURNS).to_dict("records")
    for row in rows:
        row["mfu"] = mfu(row["tokens_per_s"], row["mflop_per_token"])
    return {"rows": rows}


def compiled_step(device: str, toy: bool) -> dict[str, Any]:
    """The fused step in bfloat16 with both encoders compiled, in turns with the plain one."""
    rows = []
    for work in works(device, toy):
        teacher, student = load_pair(work)
        pairs = {"plain": (teacher, student), "compiled": copy.deepcopy((teacher, student))}
        started = time.perf_counter()
        for model in pairs["compiled"]:
            model.base_model.compile(backend="eager" if toy else "inductor")
        step = {name: make_step("bf16", s, t, work.loss_config) for name, (t, s) in pairs.items()}
        seconds: dict[str, list[float]] = {name: [] for name in step}
        source = batches(work, teacher.config.vocab_size)
        for turn in range(2 if toy else 2 + TURNS):
            batch = next(source)
            for name, each in step.items():
                timing = time_micro_batch(each, batch, work.device)
                seconds[name].append(timing.seconds)
            if turn == 0:
                compiling = time.perf_counter() - started
        plain, compiled = (np.median(seconds[name][-TURNS:]) for name in ("plain", "compiled"))
        tokens = work.batch_size * work.length
        row = {"work": work.name, "tokens_per_s_plain": tokens / plain, "faster": plain / compiled}
        rows.append(row | {"first_step_seconds": compiling})
        torch.compiler.reset()
    return {"rows": rows}


def distillation(device: str, toy: bool) -> dict[str, Any]:
    """`pretrain` as the command runs it: its tokens/s, and the host's waits in each step."""
    work = works(device, toy)[0]
    teacher, student = load_pair(work)
    random = np.random.default_rng(0)
    blocks = random.integers(1000, 30_000, (4096 // work.length * 32, work.length))
    blocks[:, 0], blocks[:, -1] = 2, 3
    masked = MaskedBlocks(blocks.astype(np.int32), tokenizer(), seed=0)
    training = TrainingConfig(
        steps=4,
        batch_size=2 * work.batch_size,
        micro_batch_size=work.batch_size,
        learning_rate=1e-4,
        precision="auto",
        log_interval=1000,
        checkpoint_interval=1000,
    )

    def run(count: int) -> Any:
        changed = replace(training, steps=count)
        name = f"distil-{count}"
        return pretrain(
            student, masked, changed, name=name, loss_config=LossConfig(), teacher=teacher
        ).result()

    return per_step(run, 2 if toy else 20)


def fine_tuning(device: str, toy: bool) -> dict[str, Any]:
    """A teacher's logits of texts, once; then a student's fine-tuning on labels and logits."""
    shape = {"vocab_size": 30_522}
    if toy:
        small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
        shape |= {"num_hidden_layers": 2, **small}
    with seeded(0):
        teacher = BertForSequenceClassification(BertConfig(**shape)).eval()
    student = student_from_teacher(teacher)
    random, count = np.random.default_rng(0), 200 if toy else 50_000
    lengths = random.integers(4, 60, count)
    texts = [" ".join(f"w{i}" for i in random.integers(0, 30_000, n)) for n in lengths]
    data = {"sentence": texts, "label": random.integers(0, 2, count).tolist()}
    task = get_task("sst2")
    examples = task_examples(data, task, tokenizer(), max_length=128, seed=0)
    training = TrainingConfig(
        epochs=1, batch_size=128, micro_batch_size=128, learning_rate=1e-4, precision="auto"
    )
    training = replace(training, log_interval=1000, checkpoint_interval=1000)
    started = time.perf_counter()
    source = TeacherLogits(examples, task, teacher.to(device), training)
    seconds = time.perf_counter() - started
    tokens = int(examples.lengths.sum())
    found = {"teacher_tokens_per_s": tokens / seconds, "teacher_texts_per_s": count / seconds}

    def run(steps: int) -> Any:
        with open_run(f"finetune-{steps}", {"steps": steps}, None) as opened:
            loss = TaskLoss(task, teacher)
            changed = replace(training, steps=steps)
            return train(copy.deepcopy(student), source, loss, changed, opened)

    return found | per_step(run, 2 if toy else 100)


def per_step(run: Any, count: int) -> dict[str, Any]:
    """Cost of a step: the difference of two runs, so that start and end do not count."""
    run(1)  # whatever is done once
    results = [waits(run, length) for length in (count, 2 * count)]
    (short, few), (long, many) = results
    seconds = (long["seconds"] - short["seconds"]) / count
    tokens = (long["tokens"] - short["tokens"]) / count
    row = {"seconds_per_step": seconds, "tokens_per_s": tokens / seconds}
    return row | {"host_waits_per_step": None if many is None else (many - few) / count}


def waits(run: Any, count: int) -> tuple[dict[str, Any], int | None]:
    """Run, and count the host's waits for the GPU; None without one."""
    if not torch.cuda.is_available():
        return run(count), None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            result = run(count)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return result, sum("synchroniz" in str(each.message) for each in caught)


def tokenizer() -> BertTokenizerFast:
    """30,005 entries: the special tokens and w0 to w29999."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(30_000))]
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})


if __name__ == "__main__":
    main()
