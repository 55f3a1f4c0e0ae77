"""Not a test: label efficiency on GLUE's SST-2 with a real encoder, run by hand.

    python tests/measurements/label_efficiency_sst2.py ENCODER DATA [--seeds 1 2 3]
        [--examples 4000] [--out FOLDER]

ENCODER is a folder with a BertModel and its tokenizer (all-MiniLM-L6-v2), DATA holds
glue/sst2/*.parquet. The student has layers 0, 2 and 5 of the encoder, as it was before any
fine-tuning: what it knows of SST-2 comes from labels and soft targets alone. SST-2's test set has
no labels. So learning rates are chosen on as many other training sentences as GLUE's validation set
has, and scores are on that validation set. Everything is a run in FOLDER/runs: an interrupted call
resumes.
"""

from __future__ import annotations

import argparse
import os
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
from transformers import AutoModel
from transformers.utils import logging

from distilkit.config import SCALES
from distilkit.models.loading import load_tokenizer
from distilkit.run import environment
from distilkit.student import student_from_teacher
from distilkit.study.arms import t_interval, write_table
from distilkit.study.label_efficiency import best_learning_rates, label_efficiency

# A narrow model and one epoch: a higher rate than BERT-base takes; its double is tried, too
TRAINING = replace(
    SCALES["base"].finetuning,
    epochs=1,
    batch_size=16,
    micro_batch_size=16,
    learning_rate=1e-4,
    precision="fp32",
)


def write_splits(source: Path, folder: Path, examples: int) -> None:
    """Write training, validation and test set: the last is GLUE's validation set."""
    test = pd.read_parquet(source / "validation.parquet")
    rows = pd.read_parquet(source / "train.parquet").sample(frac=1, random_state=0)
    validation, train = rows[: len(test)], rows[len(test) : len(test) + examples]
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in {"train": train, "validation": validation, "test": test}.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--examples", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=Path("labels_sst2"))
    options = parser.parse_args()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    print(environment(), flush=True)
    folder = options.out.resolve()
    os.environ["DISTILKIT_HOME"] = str(folder)
    write_splits(options.data / "glue" / "sst2", folder / "glue" / "sst2", options.examples)
    student = student_from_teacher(AutoModel.from_pretrained(options.encoder))
    student.save_pretrained(folder / "student")
    load_tokenizer(str(options.encoder)).save_pretrained(folder / "student")
    scale = replace(
        SCALES["base"],
        teacher=str(options.encoder.resolve()),
        glue=str(folder / "glue"),
        tasks=("sst2",),
        seeds=tuple(options.seeds),
        length=128,
        finetuning=TRAINING,
    )
    students = [folder / "student"] * len(options.seeds)
    table = label_efficiency(scale, students, out=folder / "labels.csv")
    table = write_table(table.assign(task="GLUE's SST-2"), folder / "labels.csv")
    by = best_learning_rates(table).groupby(["way", "labels"], sort=False)["score"]
    print(by.apply(lambda values: pd.Series(t_interval(values))).unstack().round(1).to_string())


if __name__ == "__main__":
    main()
