"""Measure: does memory stay flat while the corpus grows, and how fast is it tokenized and masked?

    python tests/measurements/measure_corpus.py TEACHER TEXT [--megabytes 10 100 1000]

Writes texts of these sizes, by repetition with variation of a given one, into a temporary home;
each is tokenized into mapped blocks by a process of its own, which then draws and masks 200 batches
all over the corpus. Prints one table. Linux, which says what a process holds in /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCHES, BATCH = 200, 32


def write_text(source: Path, target: Path, megabytes: int) -> None:
    """The documents of `source` again and again, each with a running number in another place."""
    from distilkit.data.documents import read_file

    texts = [text.replace("\n", " ") for text in read_file(source)]
    written = number = 0
    with target.open("w", encoding="utf-8") as file:
        while written < megabytes * 1e6:
            words = texts[number % len(texts)].split()
            words.insert(number % (len(words) + 1), str(number))
            line = " ".join(words) + "\n"
            written += file.write(line)
            number += 1


def held() -> dict[str, float]:
    """What this process holds now and held at most, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    wanted = {"VmHWM": "peak", "RssAnon": "own", "RssFile": "mapped"}
    return {name: int(fields[key].split()[0]) / 1024 for key, name in wanted.items()}


def measure(teacher: str, text: str, length: int) -> dict[str, float]:
    """Tokenize a text into mapped blocks and mask batches of it; what that took."""
    import numpy as np
    from transformers import AutoTokenizer

    from distilkit.data.block_cache import cached_blocks
    from distilkit.data.documents import open_text
    from distilkit.masking import MaskedBlocks

    tokenizer = AutoTokenizer.from_pretrained(teacher)
    before = held()
    train, _ = open_text(text)
    started = time.perf_counter()
    blocks = cached_blocks(train.read, tokenizer, length, source=train.identity())
    seconds = time.perf_counter() - started
    tokenized = held()
    masked = MaskedBlocks(blocks, tokenizer, seed=0)
    order = masked.order(0, BATCH)
    started = time.perf_counter()
    for i in range(BATCHES):
        masked.batch(0, order[np.arange(i * BATCH, (i + 1) * BATCH) % len(order)])
    masking = time.perf_counter() - started
    after = held()
    return {
        "text_MB": round(Path(text).stat().st_size / 1e6),
        "tokens_M": round(blocks.size / 1e6, 1),
        "tokenized_tokens_per_s": round(blocks.size / seconds, -3),
        "masked_tokens_per_s": round(BATCHES * BATCH * length / masking, -3),
        "own_before_MiB": round(before["own"]),
        "own_after_tokenizing_MiB": round(tokenized["own"]),
        "own_after_training_reads_MiB": round(after["own"]),
        "mapped_file_MiB": round(after["mapped"]),
        "peak_MiB": round(after["peak"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("teacher", help="folder or Hub id whose tokenizer is used")
    parser.add_argument("text", type=Path, help="a .txt, .jsonl or .parquet file to vary")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--one", action="store_true", help="measure this text, print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.teacher, str(options.text), options.length)))
        return
    rows = []
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory() as home:
            target = Path(home) / "text.txt"
            write_text(options.text, target, megabytes)
            command = [sys.executable, __file__, options.teacher, str(target), "--one"]
            done = subprocess.run(
                [*command, "--length", str(options.length)],
                env=os.environ | {"DISTILKIT_HOME": home},
                stdout=subprocess.PIPE,
                check=True,
            )
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    import pandas as pd

    print(pd.DataFrame(rows).T.to_string(header=False))


if __name__ == "__main__":
    main()
