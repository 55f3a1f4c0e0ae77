"""Measure: does memory stay flat while unlabelled texts grow, and how fast are they read?

    python tests/measurements/measure_texts.py ENCODER TEXT [--sentences 10000 100000 1000000]

Writes so many different sentences, made from those of TEXT. A process of its own reads them, and
fine-tunes ENCODER on 40 labelled texts and all the sentences, with a teacher, for 20 steps. Prints
one table. Linux, which says what a process holds in /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

STEPS = 20


def write_sentences(source: Path, target: Path, count: int) -> None:
    """Write a sentence a line: those of `source` again and again, with a running number."""
    from distilkit.data.documents import read_file

    sentences = [s.strip() for text in read_file(source) for s in text.split(". ")]
    sentences = [s.replace("\n", " ") for s in sentences if 20 < len(s) < 120]
    with target.open("w", encoding="utf-8") as file:
        for number in range(count):
            file.write(f"{sentences[number % len(sentences)]} {number}\n")


def own_mib() -> float:
    """Memory of this process that is no mapped file, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def measure(encoder: str, text: str) -> dict[str, float]:
    """Read, tokenize and train; what that took."""
    from dataclasses import replace

    import pandas as pd

    from distilkit import finetuning
    from distilkit.config import SCALES
    from distilkit.data.own_task import task_from, unlabelled_from
    from distilkit.models.loading import load_tokenizer

    peak, done, seconds = [0.0], threading.Event(), {}

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], own_mib())

    tokenize = finetuning.task_examples

    def timed(*args, **kwargs):
        since = time.perf_counter()
        examples = tokenize(*args, **kwargs)
        seconds.setdefault("tokenize", (time.perf_counter() - since, int(examples.lengths.sum())))
        return examples

    finetuning.task_examples = timed
    rows = {"text": [f"number {i}" for i in range(40)], "label": ["a", "b"] * 20}
    task = task_from({"train": pd.DataFrame(rows)}, label_column="label", name="many")
    tokenizer = load_tokenizer(encoder)
    teacher, student = (finetuning.classifier(encoder, task, seed) for seed in (0, 1))
    training = replace(SCALES["tiny"].finetuning, steps=STEPS)
    before = own_mib()
    threading.Thread(target=watch, daemon=True).start()
    since = time.perf_counter()
    unlabelled = unlabelled_from(text, task)
    reading = time.perf_counter() - since
    data = {"train": task.data["train"]}
    more = {"teacher": teacher, "unlabelled": unlabelled, "keep_model": False}
    finetuning.finetune(student, tokenizer, task, data, training, name="many", **more)
    done.set()
    tokenizing, tokens = seconds["tokenize"]
    return {
        "texts": len(unlabelled),
        "read_seconds": round(reading, 2),
        "tokenize_seconds": round(tokenizing, 2),
        "tokens_M": round(tokens / 1e6, 2),
        "tokens_per_s": round(tokens / (reading + tokenizing), -3),
        "seconds_in_all": round(time.perf_counter() - since, 1),
        "own_before_MiB": round(before),
        "own_peak_MiB": round(peak[0]),
        "own_at_the_end_MiB": round(own_mib()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", help="folder or Hub id of an encoder and its tokenizer")
    parser.add_argument("text", type=Path, help="a .txt, .jsonl or .parquet file of prose")
    parser.add_argument("--sentences", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    parser.add_argument("--one", action="store_true", help="measure this text, print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.encoder, str(options.text))))
        return
    rows = []
    for count in options.sentences:
        with tempfile.TemporaryDirectory() as home:
            target = Path(home) / "texts.txt"
            write_sentences(options.text, target, count)
            done = subprocess.run(
                [sys.executable, __file__, options.encoder, str(target), "--one"],
                env=os.environ | {"DISTILKIT_HOME": home},
                stdout=subprocess.PIPE,
                check=True,
            )
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    import pandas as pd

    print(pd.DataFrame(rows).T.to_string(header=False))


if __name__ == "__main__":
    main()
