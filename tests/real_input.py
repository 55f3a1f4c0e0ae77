"""Not a test: the kit on a real pretrained encoder and real SST-2, to be run by hand.

    python tests/real_input.py ENCODER GLUE_FOLDER [--examples 10000] [--seeds 1 2 3]

ENCODER is a folder with a BertModel and its tokenizer (for instance all-MiniLM-L6-v2), GLUE_FOLDER
holds sst2/train.parquet and sst2/validation.parquet. A BertForSequenceClassification teacher is
fine-tuned; a student of half its layers, copied from it, is fine-tuned with and without the
teacher's soft targets; accuracies, sizes and latencies are printed. Runs land in runs/, and an
interrupted call goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import pandas as pd
import torch
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    DistilBertForSequenceClassification,
)

from distilkit import compare, finetune, sequence_classifier, start, student_from_teacher
from distilkit.config import SCALES, TaskObjective
from distilkit.glue import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder")
    parser.add_argument("glue")
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    start("base")
    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    data = load("sst2", options.glue)
    data["train"] = data["train"].shuffle(seed=0).select(range(options.examples))
    training = replace(SCALES["base"].finetuning, epochs=2, learning_rate=5e-5, precision="fp32")

    def accuracy(run) -> float:
        return 100 * run.result()["scores"]["validation"]["accuracy"]

    teacher_run = finetune(
        sequence_classifier(options.encoder, "sst2", seed=0),
        tokenizer,
        "sst2",
        data,
        training,
        name="real-teacher",
    )
    teacher = BertForSequenceClassification.from_pretrained(teacher_run.model).eval()
    rows = [{"arm": "teacher", "seed": 0, "accuracy": accuracy(teacher_run)}]
    for seed in options.seeds:
        torch.manual_seed(seed)  # the student's classification head is new
        student = student_from_teacher(teacher)
        for arm, soft in (("student, labels only", False), ("student, soft targets", True)):
            run = finetune(
                student,
                tokenizer,
                "sst2",
                data,
                replace(training, seed=seed, epochs=2),
                name=f"real-student-{'soft' if soft else 'labels'}-{seed}",
                teacher=teacher if soft else None,
                objective=TaskObjective() if soft else None,
            )
            rows.append({"arm": arm, "seed": seed, "accuracy": accuracy(run)})
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    print(table.groupby("arm", sort=False).accuracy.agg(["median", "min", "max"]).round(2))
    models = {
        "teacher": teacher,
        "student": DistilBertForSequenceClassification.from_pretrained(run.model).eval(),
    }
    print(compare(models, length=128, threads=1).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
