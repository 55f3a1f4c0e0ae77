"""Not a test: half of a sentence-embedding model, on real text, run by hand.

    python tests/measurements/compress_embeddings.py ENCODER DATA
        [--seeds 1 2 3] [--sentences 30000] [--out FOLDER]

ENCODER is all-MiniLM-L6-v2 as sentence-transformers saves it. DATA holds text/train.parquet, of
which so many sentences are taken; own/stsb_train.csv, both columns, without scores; and
own/stsb_dev.csv, which is scored. Each seed goes through `compress_embeddings`, in one epoch.
Compared with it: the student as cut, and the same student trained alike from random weights.
Minutes are those of `compress_embeddings` alone: layer map, teacher's embeddings, training,
scores, export. They mean something on a quiet machine, and if nothing was resumed. Each seed has a
home of its own in FOLDER, so that the teacher's embeddings are computed each time.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import scipy.stats
from sklearn.preprocessing import normalize
from transformers import AutoModel

from distilkit.compress.embedding_scores import (
    columns_of,
    embed,
    encoded,
    nearest,
    shared,
)
from distilkit.compress.embeddings import (
    TRAINING,
    compress_embeddings,
    distil_embeddings,
    divide,
)
from distilkit.compress.engines import TORCH
from distilkit.data.own_task import task_from
from distilkit.models.sentence_encoder import load_sentence_encoder
from distilkit.run import Run, environment, run_folder
from distilkit.student import random_student_like, student_from_teacher

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
CHARACTERS = range(20, 401)  # of a sentence; others are headings, tables, or badly divided
LENGTH = 128  # tokens


def sentences(data: Path, count: int) -> list[str]:
    """Draw sentences of the text, and add those of STS-B's training pairs."""
    text = pyarrow.parquet.read_table(data / "text" / "train.parquet").column("text")
    parts = (SENTENCE_END.split(" ".join(each.split())) for each in text.to_pylist())
    found = [part for each in parts for part in each if len(part) in CHARACTERS]
    with open(data / "own" / "stsb_train.csv", encoding="utf-8", newline="") as file:
        pairs = [text for row in csv.reader(file) for text in row[:2]]
    return [*pairs, *random.Random(0).sample(found, count)]


def scores(
    models: dict[str, Any], tokenizer: Any, pooling: Any, texts: list[str], pairs: Any
) -> list[dict[str, Any]]:
    """Spearman of each model in PyTorch, and how many neighbours it shares with the first."""
    firsts, seconds, labels = columns_of(pairs)
    examples = encoded([*texts, *firsts, *seconds], tokenizer, pooling)
    parts = np.cumsum([len(texts), len(firsts)])
    rows: list[dict[str, Any]] = []
    reference = None
    for name, model in models.items():
        found = normalize(embed(model.eval(), examples, pooling))
        held_out, first, second = np.split(found, parts)
        neighbours = nearest(held_out)
        reference = neighbours if reference is None else reference
        score = scipy.stats.spearmanr((first * second).sum(1), labels).statistic
        row = {"model": name, "engine": TORCH, "split": "held-out", "score": score}
        rows.append(row | {"agreement": shared(neighbours, reference)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sentences", type=int, default=30_000)
    parser.add_argument("--out", type=Path, default=Path("embeddings"))
    options = parser.parse_args()

    texts = sentences(options.data, options.sentences)
    pairs = task_from(
        options.data / "own" / "stsb_dev.csv",
        text_columns=(0, 1),
        label_column=2,
        kind="regression",
    )
    tables = []
    for seed in options.seeds:
        os.environ["DISTILKIT_HOME"] = str((options.out / f"seed-{seed}").resolve())
        folder = options.out / f"seed-{seed}" / "half"
        folder.parent.mkdir(parents=True, exist_ok=True)
        training = replace(TRAINING, epochs=1, seed=seed)
        began = time.perf_counter()
        table = compress_embeddings(
            options.encoder, texts, folder, training, pairs=pairs, max_length=LENGTH, depth=3
        )
        minutes = (time.perf_counter() - began) / 60

        teacher, tokenizer, pooling = load_sentence_encoder(options.encoder)
        pooling = replace(pooling, max_length=LENGTH)
        layers = pd.read_json(folder / "compression.json", typ="series")["layers"]
        cut = student_from_teacher(teacher, layers)
        learnt, held_out = divide(texts, pairs)
        given = (teacher, tokenizer, pooling, learnt, training)
        run = distil_embeddings(random_student_like(cut, seed), *given, name="random")
        controls = {"as cut": cut, "random": AutoModel.from_pretrained(run.model)}
        read = (tokenizer, pooling, held_out, pairs)
        table = pd.concat([table, pd.DataFrame(scores({"teacher": teacher} | controls, *read)[1:])])
        result = Run(run_folder("half")).result()
        table = table.assign(
            retained=table["score"] / table["score"].iloc[0],
            seed=seed,
            layers="-".join(map(str, layers)),
            steps=result["steps"],
            training_minutes=result["seconds"] / 60,
            minutes=minutes,
            commit=environment()["commit"],
        )
        print(table.round(4).to_string(index=False), flush=True)
        tables.append(table)
        pd.concat(tables).to_csv(options.out / "embeddings.csv", index=False)


if __name__ == "__main__":
    main()
