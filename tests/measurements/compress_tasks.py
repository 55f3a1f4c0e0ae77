"""Not a test: `compress` on real tasks and a real encoder, run by hand.

    python tests/measurements/compress_tasks.py ENCODER DATA sst2|banking77|wnut17
        [--seeds 1 2 3] [--out FOLDER]

ENCODER is a folder with a BertModel and its tokenizer (all-MiniLM-L6-v2), DATA holds
glue/sst2/*.parquet and own/*. Each seed fine-tunes the encoder as the teacher; students have half
its layers. Students with a teacher go through `compress`: layers copied from the fine-tuned
teacher. Those without one have the encoder's layers and a new head: what somebody without a
teacher has. Validation sets are a tenth of the training rows (WNUT-17 has its own); scores are on
the test set, used once. Everything is a run in runs/: an interrupted call resumes. FOLDER gets the
table and the compressed models.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from transformers.utils import logging

from distilkit.compress.compress import compress, measure, student_of
from distilkit.compress.engines import TORCH
from distilkit.config import FinetuneLossConfig, TrainingConfig
from distilkit.data.own_task import task_from
from distilkit.data.tasks import Task
from distilkit.finetuning import classifier, fine_tuned_on, finetune
from distilkit.models.loading import load_tokenizer
from distilkit.run import Run, environment, run_folder

TRAINING = TrainingConfig(
    batch_size=32,
    micro_batch_size=32,
    learning_rate=2e-4,
    warmup_fraction=0.1,
    weight_decay=0.01,
    max_grad_norm=1.0,
    eps=1e-8,
    precision="fp32",
    log_interval=10,
    checkpoint_interval=100,
)
TEXT_ONLY = FinetuneLossConfig(label_weight=0.0, kd_weight=1.0)


@dataclass(frozen=True)
class Arm:
    """A student: its data, further texts, and whether the teacher's soft targets train it."""

    name: str
    task: Task
    taught: bool
    unlabelled: Any = None
    loss_config: FinetuneLossConfig | None = None


def _some(table: pd.DataFrame, column: str, per_class: int) -> pd.DataFrame:
    """The same number of rows of each label; rows differ from seed to seed by `table`'s order."""
    return table.groupby(column, sort=False).head(per_class)


def sst2(data: Path, seed: int) -> tuple[Task, TrainingConfig, list[Arm]]:
    """10,000 rows of SST-2 as a CSV would hold them; its validation set as the test set."""
    names = {0: "negative", 1: "positive"}
    splits = {s: pd.read_parquet(data / f"glue/sst2/{s}.parquet") for s in ("train", "validation")}
    for table in splits.values():
        table["opinion"] = table.pop("label").map(names)
    rows = splits["train"].sample(frac=1, random_state=seed)
    train, others = rows[:10_000], rows[10_000:30_000]

    def task(train: pd.DataFrame, name: str, label: str | None = "opinion") -> Task:
        files = {"train": train, "test": splits["validation"]}
        known = None if label else list(names.values())
        return task_from(
            files, text_columns="sentence", label_column=label, labels=known, name=name
        )

    every, few = task(train, "sst2"), task(_some(train, "opinion", 100), "sst2-200")
    texts = others[["sentence"]]
    arms = [
        Arm("all labels, no teacher", every, False),
        Arm("all labels, teacher", every, True),
        Arm("200 labels, no teacher", few, False),
        Arm("200 labels, teacher, 20,000 texts", few, True, texts),
        Arm("no labels, teacher", every, True, None, TEXT_ONLY),
    ]
    return every, replace(TRAINING, epochs=2, seed=seed), arms


def banking77(data: Path, seed: int) -> tuple[Task, TrainingConfig, list[Arm]]:
    """77 intents of customers; ten labels of each, the other texts without."""
    table = pd.read_csv(data / "own/banking77_train.csv").sample(frac=1, random_state=seed)
    test = pd.read_csv(data / "own/banking77_test.csv")
    few = _some(table, "category", 10)

    def task(train: pd.DataFrame, name: str) -> Task:
        files = {"train": train, "test": test}
        return task_from(files, label_column="category", name=name)

    every, ten = task(table, "banking77"), task(few, "banking77-10")
    others = table.drop(few.index)[["text"]]
    arms = [
        Arm("all labels, no teacher", every, False),
        Arm("all labels, teacher", every, True),
        Arm("10 labels a class, no teacher", ten, False),
        Arm("10 labels a class, teacher, other texts", ten, True, others),
    ]
    return every, replace(TRAINING, epochs=4, seed=seed), arms


def wnut17(data: Path, seed: int) -> tuple[Task, TrainingConfig, list[Arm]]:
    """Words and tags: six kinds of new and rare entities."""
    files = {s: data / f"own/wnut17_{s}.jsonl" for s in ("train", "validation", "test")}
    task = task_from(files, text_columns="words", label_column="tags", name="wnut17")
    arms = [
        Arm("all labels, no teacher", task, False),
        Arm("all labels, teacher", task, True),
    ]
    return task, replace(TRAINING, epochs=4, seed=seed), arms


CASES: dict[str, Callable[..., tuple[Task, TrainingConfig, list[Arm]]]] = {
    "sst2": sst2,
    "banking77": banking77,
    "wnut17": wnut17,
}


def rows_of(case: str, encoder: Path, data: Path, seed: int, out: Path) -> Iterator[dict[str, Any]]:
    """Train the teacher and every student of a seed; a row for each model and engine."""
    task, training, arms = CASES[case](data, seed)
    name = f"{case}-{seed}"
    tokenizer = load_tokenizer(encoder)
    model = classifier(encoder, task, seed)
    teacher_run = finetune(model, tokenizer, task, task.data, training, name=f"{name}-teacher")
    steps = teacher_run.result()["steps"]  # the same number for every student
    training = replace(training, steps=steps)
    for number, arm in enumerate(arms):
        run = f"{name}-{number}"
        if arm.taught:
            table = compress(
                teacher_run.model,
                arm.task,
                out / "compressed" / run,
                training,
                unlabelled=arm.unlabelled,
                loss_config=arm.loss_config,
                name=run,
            )
        else:
            student = student_of(classifier(encoder, arm.task, seed), seed=seed)
            done = finetune(student, tokenizer, arm.task, arm.task.data, training, name=run)
            models = [fine_tuned_on(each.model, arm.task) for each in (teacher_run, done)]
            with tempfile.TemporaryDirectory() as folder:
                table = measure(*models, tokenizer, arm.task, Path(folder), arm.task.max_length)
        results = {"teacher": teacher_run.result(), "student": Run(run_folder(run)).result()}
        for metric in task.metrics[1:]:  # in PyTorch, where the runs are scored
            by_model = {model: each["scores"]["test"][metric] for model, each in results.items()}
            table[metric] = table["model"].map(by_model).where(table["engine"] == TORCH)
        table.insert(0, "arm", arm.name)
        if number:  # the teacher's rows are there already
            table = table[table["model"] == "student"]
        table.loc[table["model"] == "teacher", "arm"] = "teacher"
        yield from table.assign(case=case, seed=seed, steps=steps).to_dict("records")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("compressed"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    print(environment(), flush=True)
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        rows += rows_of(options.case, options.encoder, options.data, seed, options.out)
        table = pd.DataFrame(rows)
        table.to_csv(options.out / f"compress_{options.case}.csv", index=False)
        columns = ["arm", "engine", "score", "difference", "low", "high", "agreement"]
        print(table[table["seed"] == seed][columns].round(4).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
