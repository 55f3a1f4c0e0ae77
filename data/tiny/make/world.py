"""Write the text and the nine tasks of the tiny scale, from a seed.

    python data/tiny/make/world.py --out FOLDER [--examples N] [--documents N] [--seed N]

With the defaults it writes what `data/tiny/text` and `data/tiny/glue` hold. The data is built so
that pretraining pays. The documents hold what the tasks ask for: who does what with which tool and
where, words of one meaning in one context, which adjectives praise and which blame, kinds of
things, and whom a pronoun means. No text of an evaluation set is a sentence that the teacher or a
student reads in pretraining.

Nothing here is GLUE's data. The files have GLUE's columns, label numbers and splits, and a column
`phenomenon`: what it takes to get an example right. Unlike GLUE's, the test sets have labels.

All chance comes from `random.Random(seed).random()`, whose numbers Python keeps equal between
versions and machines. Each split of each task has a stream of its own: another size for one task
leaves the text of every other unchanged.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import lexicon
import patterns
import pyarrow as pa
import pyarrow.parquet as pq
from inference import mnli, qnli, rte, wnli
from pairs import mrpc, qqp, stsb
from sentences import (
    ADJECTIVES,
    COMPARATIVE_WORDS,
    NAMES,
    NOUNS,
    SINGULAR,
    VERBS,
    cola,
    sst2,
)
from stories import texts
from words import COLOURS, NUMBERS, WHEN, Dice, Example, ing, participle, past, third

SEED, DOCUMENTS = 0, 2500  # some 10^5 tokens: soft targets count where text is scarce
TEACHER_SEED, TEACHER_DOCUMENTS = 1, 40_000  # what the committed teacher read

# Training examples of each task; each evaluation split gets EVALUATION_SHARE of that.
DEFAULT_EXAMPLES = {
    "cola": 1500,
    "sst2": 900,
    "mrpc": 1200,
    "qqp": 1200,
    "stsb": 1200,
    "mnli": 1200,
    "qnli": 1200,
    "rte": 1200,
    "wnli": 450,
}
EVALUATION_SHARE = 1 / 3

# The text columns of each task in GLUE's order; `label`, `idx` and `phenomenon` follow.
COLUMNS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "stsb": ("sentence1", "sentence2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
}
WRITERS: dict[str, Callable[[Dice, int, str], Example]] = {
    "cola": cola,
    "sst2": sst2,
    "mrpc": mrpc,
    "qqp": qqp,
    "stsb": stsb,
    "mnli": mnli,
    "qnli": qnli,
    "rte": rte,
    "wnli": wnli,
}
LABELS = {"stsb": 6, "mnli": 3}  # kinds of examples to balance; else 2
_SENTENCE_END = re.compile(r"(?<=[.?!]) ")


def splits(task: str) -> tuple[str, ...]:
    """The names of a task's splits, as in GLUE."""
    if task != "mnli":
        return ("train", "validation", "test")
    evaluation = ("validation_matched", "validation_mismatched", "test_matched", "test_mismatched")
    return ("train", *evaluation)


def task_examples(
    task: str, seed: int, sizes: Mapping[str, int], documents: int = DOCUMENTS
) -> dict[str, list[Example]]:
    """Examples by split; no texts stand in two splits or twice in one.

    The evaluation sets are drawn first, so that they do not depend on the size of the train set.
    """
    seen: set[tuple] = set()  # asked, never iterated
    # What teacher and student read. Evaluation sets must be new to both, or "seen before" would
    # mean "well-formed" in CoLA and "true" in WNLI.
    of_student = _sentences(seed, max(documents, DOCUMENTS))
    read = _sentences(TEACHER_SEED, TEACHER_DOCUMENTS) | of_student
    rows = {}
    for split in reversed(splits(task)):
        dice = Dice(seed, task, split)
        kinds = LABELS.get(task, 2)
        rows[split] = []
        for label in dice.shuffled(position % kinds for position in range(sizes[split])):
            for _ in range(200):
                example = WRITERS[task](dice, label, split)
                known = split != "train" and any(text in read for text in example.texts)
                if example.texts not in seen and not known:
                    break
            else:
                raise ValueError(
                    f"the grammar has no {sizes[split]} different examples of {task}/{split}; "
                    "ask for fewer"
                )
            seen.add(example.texts)
            rows[split].append(example)
    return {split: rows[split] for split in splits(task)}


@lru_cache(maxsize=2)
def _sentences(seed: int, documents: int) -> frozenset[str]:
    written = texts(seed, documents)["train"]
    return frozenset(sentence for text in written for sentence in _SENTENCE_END.split(text))


def vocabulary() -> list[str]:
    """Every word form of the world in lower case, sorted; lexicon and patterns decide it."""
    words = [*NOUNS, *SINGULAR, *ADJECTIVES, *COMPARATIVE_WORDS]
    for verb in VERBS:
        words += [verb, third(verb), past(verb), participle(verb), ing(verb)]
    lines = [*patterns.PRAISE, *patterns.BLAME, *patterns.REVIEW_PLAIN, *patterns.REVIEW_TURNED]
    lines += [*patterns.REVIEW_CONTRAST, *WHEN, *COLOURS, *NUMBERS, *NAMES]
    lines += [part for parts in patterns.REVIEWED.values() for part in parts]
    lines += [*patterns.REVIEWED, *(form for forms in patterns.QUESTIONS for form in forms)]
    for table in (lexicon.WEATHER, patterns.SOCIAL):
        lines += [line for row in table for line in row]
    for table in (patterns.WINOGRAD_PEOPLE, patterns.WINOGRAD_THINGS):
        lines += [line for row in table for line in row]
    lines.append(lexicon.FUNCTION_WORDS)
    for line in lines:
        words += re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", line).lower())
    return sorted({word.lower() for word in words})


def write(
    folder: Path,
    seed: int = SEED,
    documents: int = DOCUMENTS,
    examples: Mapping[str, int] | None = None,
) -> Path:
    """Write text and tasks into a new folder, which appears whole or not at all.

        text/{train,validation}.parquet     text
        glue/<task>/<split>.parquet         GLUE's columns, label, idx; phenomenon

    Args:
        folder: must not exist.
        seed: of the text and of each task.
        documents: number of training documents.
        examples: number of training examples by task; :data:`DEFAULT_EXAMPLES` where absent.

    Raises:
        ValueError: a number below 1, an unknown task, more examples than the grammar has.
        FileExistsError: there is such a folder.
    """
    sizes = DEFAULT_EXAMPLES | dict(examples or {})
    if unknown := sorted(set(sizes) - set(DEFAULT_EXAMPLES)):
        raise ValueError(f"examples: unknown task {unknown[0]!r}; known: {', '.join(WRITERS)}")
    for name, count in {"documents": documents, **sizes}.items():
        if count < 1:
            raise ValueError(f"{name} = {count}: give at least 1")
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists: name a new folder, or delete it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        new = Path(scratch) / "new"
        for split, written in texts(seed, documents).items():
            _save(new / "text" / f"{split}.parquet", {"text": pa.array(written, pa.string())})
        for task, train in sizes.items():
            evaluation = max(1, round(train * EVALUATION_SHARE))
            counts = {split: train if split == "train" else evaluation for split in splits(task)}
            for split, rows in task_examples(task, seed, counts, documents).items():
                _save(new / "glue" / task / f"{split}.parquet", _columns(task, rows))
        new.rename(folder)
    return folder


def _columns(task: str, rows: list[Example]) -> dict[str, pa.Array]:
    columns = {
        name: pa.array([example.texts[i] for example in rows], pa.string())
        for i, name in enumerate(COLUMNS[task])
    }
    label_type = pa.float32() if task == "stsb" else pa.int64()
    columns["label"] = pa.array([example.label for example in rows], label_type)
    columns["idx"] = pa.array(range(len(rows)), pa.int32())
    columns["phenomenon"] = pa.array([example.phenomenon for example in rows], pa.string())
    return columns


def _save(path: Path, columns: dict[str, pa.Array]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, compression="zstd", compression_level=19)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--examples", type=int, help="of each task (default: 450 to 1,500)")
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    sizes = None if options.examples is None else dict.fromkeys(WRITERS, options.examples)
    print(write(options.out, options.seed, options.documents, sizes))


if __name__ == "__main__":
    main()
