"""Measure: does a distillation in bfloat16 end where the same one in float32 does?

    python tests/measurements/measure_precision.py TEACHER TEXT [--steps 300] [--seeds 1 2 3]
        [--batch-size 8] [--length 128]

For each seed the same student is distilled twice on the same batches, and both are validated in
float32 on the same held-out masks. Prints the table after each seed and ends with status 1 where
the validation losses differ by more than 1 %.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("teacher")
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="distilkit-precision-") as folder:
        os.environ["DISTILKIT_HOME"] = folder
        return measure(options)


def measure(options: argparse.Namespace) -> int:
    import pandas as pd
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    from distilkit import distil, losses_on
    from distilkit.config import LossConfig, TrainingConfig
    from distilkit.data.block_cache import cached_blocks
    from distilkit.data.documents import open_text
    from distilkit.masking import MaskedBlocks
    from distilkit.student import student_from_teacher

    tokenizer = AutoTokenizer.from_pretrained(options.teacher)
    teacher = AutoModelForMaskedLM.from_pretrained(options.teacher, dtype=torch.float32).eval()
    train, held_out = (
        cached_blocks(text.read, tokenizer, options.length, source=text.identity())
        for text in open_text(options.text)
    )
    rows = []
    for seed in options.seeds:
        blocks = MaskedBlocks(train, tokenizer, seed=seed)
        validation = MaskedBlocks(held_out[:100], tokenizer, seed=0, weights=blocks.weights)
        row: dict[str, float] = {"seed": seed}
        for precision in ("fp32", "bf16"):
            training = TrainingConfig(
                steps=options.steps,
                batch_size=options.batch_size,
                micro_batch_size=options.batch_size,
                learning_rate=5e-4,
                seed=seed,
                precision=precision,
            )
            run = distil(
                student_from_teacher(teacher), teacher, blocks, training, name=f"{precision}-{seed}"
            )
            student = type(student_from_teacher(teacher)).from_pretrained(run.model)
            row[precision] = losses_on(student, validation, LossConfig(), teacher)["loss"]
        row["apart_percent"] = 100 * abs(row["bf16"] / row["fp32"] - 1)
        rows.append(row)
        print(pd.DataFrame(rows).round(4).to_string(index=False), flush=True)
    return int(max(row["apart_percent"] for row in rows) > 1)


if __name__ == "__main__":
    sys.exit(main())
