"""Not a test: forward and backward pass on a quiet machine and beside a busy process, run by hand.

    python tests/measurements/measure_busy.py [--spins default kit 1000] [--busy 0 1] [--rounds 3]
        [--steps 20]

For each number of spins that OpenMP's threads wait at a barrier before they sleep
(GOMP_SPINCOUNT; "default": libgomp's own, "kit": what importing distilkit sets), a process of its
own times the micro-batches of the tiny scale's distillation and fine-tuning (no optimizer), quiet
and with busy loops beside it. The settings take turns. Reported are seconds of a pass, and the
ratio to the quiet time of the first setting.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import pandas as pd

SPINNING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
BUSY = "while True: pass"


def seconds_a_step(steps: int) -> dict[str, float]:
    """Median seconds of a distillation and a fine-tuning step; runs in a process of its own."""
    import numpy as np

    from distilkit.config import SCALES, FinetuneLossConfig
    from distilkit.data.sources import load_blocks, load_task, load_teacher
    from distilkit.data.task_examples import task_examples
    from distilkit.data.task_loss import TaskLoss
    from distilkit.data.tasks import get_task
    from distilkit.distillation import LanguageModelLoss
    from distilkit.finetuning import classifier
    from distilkit.measure.latency import gradient_step, time_micro_batch
    from distilkit.student import student_from_teacher

    tiny = SCALES["tiny"]
    teacher, tokenizer = load_teacher(tiny)
    student = student_from_teacher(teacher).train()
    blocks, _ = load_blocks(tiny, tokenizer)
    size = tiny.distillation.micro_batch_size
    batches = [blocks.batch(0, np.arange(i * size, (i + 1) * size)) for i in range(steps)]
    loss = LanguageModelLoss(tiny.loss_config, teacher.eval())

    task = get_task("sst2")
    examples = task_examples(
        load_task(tiny, task)["train"], task, tokenizer, max_length=tiny.length, seed=1
    )
    few = tiny.finetuning.batch_size
    order = examples.order(0, few)
    texts = [examples.batch(0, order[i * few : (i + 1) * few]) for i in range(8 * steps)]
    heads = [classifier(tiny.teacher, task, seed).eval() for seed in (1, 2)]
    kinds = {
        "distillation": (student, loss, batches),
        "fine-tuning": (heads[0].train(), TaskLoss(task, heads[1], FinetuneLossConfig()), texts),
    }
    found = {}
    for kind, (model, of_model, given) in kinds.items():
        step = gradient_step(model, of_model, "fp32")
        timings = [time_micro_batch(step, batch, "cpu") for batch in given]
        found[kind] = float(np.median([timing.seconds for timing in timings[2:]]))
    return found


def measure(spins: str, busy: int, steps: int) -> dict[str, float]:
    """The same in a new process with this setting, beside so many busy ones."""
    environment = {k: v for k, v in os.environ.items() if k not in SPINNING}
    first = "import torch; " if spins == "default" else ""  # then the kit sets nothing
    if spins not in ("default", "kit"):
        environment["GOMP_SPINCOUNT"] = spins
    code = (
        f"{first}import json, measure_busy; print(json.dumps(measure_busy.seconds_a_step({steps})))"
    )
    environment["PYTHONPATH"] = os.pathsep.join(
        [os.path.dirname(os.path.abspath(__file__)), environment.get("PYTHONPATH", "")]
    )
    beside = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
    finally:
        for process in beside:
            process.kill()
            process.wait()
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spins", nargs="+", default=["default", "kit"])
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    if 0 not in options.busy:
        parser.error("--busy: 0 has to be among the numbers, for the ratios")
    rows = []
    for _ in range(options.rounds):
        for busy in options.busy:
            for spins in options.spins:
                found = measure(spins, busy, options.steps)
                rows.append({"spins": spins, "busy": busy, **found})
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows).groupby(["spins", "busy"], sort=False).median()
    quiet = table.xs(0, level="busy").loc[options.spins[0]]
    print(table.round(4), (table / quiet).round(2), sep="\n\n")


if __name__ == "__main__":
    main()
