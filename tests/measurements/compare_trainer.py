"""Not a test: distillation on a task against transformers' Trainer, run by hand.

    python tests/measurements/compare_trainer.py ENCODER SST2_FOLDER
        [--examples 10000] [--epochs 3] [--rounds 3] [--ways kit compress ...]

ENCODER (all-MiniLM-L6-v2) is fine-tuned on the examples once. Then a student of half its layers is
distilled from it, in turns: by this kit's `finetune`; by its `compress`, which also exports, scores
and times both models; and by a Trainer with the usual `compute_loss` (the teacher in the loop,
dynamic padding), once in random order and once grouped by length. Same examples, batch, learning
rate, steps and precision. Each is a process with a new home, from loading the two models to the
student's scores. Reported: seconds, peak memory, validation accuracy.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

WAYS = ("kit", "compress", "trainer", "trainer, grouped by length")
BATCH, RATE, TEMPERATURE = 32, 2e-4, 2.0


def data_of(folder: Path, examples: int) -> dict[str, Any]:
    from datasets import Dataset

    train, validation = (pd.read_parquet(folder / f"{s}.parquet") for s in ("train", "validation"))
    train = train.sample(frac=1, random_state=0)[:examples]
    return {
        split: Dataset.from_pandas(table[["sentence", "label"]], preserve_index=False)
        for split, table in (("train", train), ("validation", validation))
    }


def by_kit(teacher_folder: str, data: dict[str, Any], epochs: int, seed: int) -> dict[str, Any]:
    from distilkit.compress.compress import student_of
    from distilkit.finetuning import fine_tuned_on, finetune
    from distilkit.models.loading import load_tokenizer

    run = finetune(  # as `compress` calls it, which keeps no model for itself meanwhile
        student_of(fine_tuned_on(teacher_folder, "sst2"), seed=seed),
        load_tokenizer(teacher_folder),
        "sst2",
        data,
        training(epochs, seed),
        name="kit",
        teacher=fine_tuned_on(teacher_folder, "sst2"),
    )
    result = run.result()
    return {"steps": result["steps"], "accuracy": result["scores"]["validation"]["accuracy"]}


def by_compress(teacher_folder: str, data: dict[str, Any], epochs: int, seed: int) -> dict:
    from distilkit.compress.compress import compress
    from distilkit.config import home
    from distilkit.data.tasks import TASKS
    from distilkit.run import Run

    task, out = dataclasses.replace(TASKS["sst2"], data=data), home() / "compressed"
    compress(teacher_folder, task, out, training(epochs, seed), name="compressed")
    result = Run(home() / "runs" / "compressed").result()
    return {"steps": result["steps"], "accuracy": result["scores"]["validation"]["accuracy"]}


def training(epochs: int, seed: int) -> Any:
    from distilkit.config import TrainingConfig

    return TrainingConfig(
        epochs=epochs,
        batch_size=BATCH,
        micro_batch_size=BATCH,
        learning_rate=RATE,
        warmup_fraction=0.1,
        weight_decay=0.01,
        max_grad_norm=1.0,
        eps=1e-8,
        betas=(0.9, 0.999),
        precision="fp32",
        seed=seed,
        log_interval=10,
        checkpoint_interval=500,
    )


def by_trainer(
    teacher_folder: str, data: dict[str, Any], epochs: int, seed: int, grouped: bool
) -> dict[str, Any]:
    """The usual way: a Trainer whose loss asks the teacher for every batch."""
    import torch
    import torch.nn.functional as F
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    from distilkit.compress.compress import student_of

    tokenizer = AutoTokenizer.from_pretrained(teacher_folder)
    teacher = AutoModelForSequenceClassification.from_pretrained(teacher_folder).eval()
    student = student_of(teacher, seed=seed)

    class DistillationTrainer(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **_):
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            with torch.no_grad():
                wanted = teacher(**inputs).logits
            kl = F.kl_div(
                F.log_softmax(outputs.logits / TEMPERATURE, dim=-1),
                F.softmax(wanted / TEMPERATURE, dim=-1),
                reduction="batchmean",
            )
            loss = 0.5 * F.cross_entropy(outputs.logits, labels) + 0.5 * TEMPERATURE**2 * kl
            return (loss, outputs) if return_outputs else loss

    longest = min(128, teacher.config.max_position_embeddings)

    def encode(rows: dict[str, Any]) -> dict[str, Any]:
        return tokenizer(rows["sentence"], truncation=True, max_length=longest)

    encoded = {split: part.map(encode, batched=True) for split, part in data.items()}
    arguments = TrainingArguments(
        output_dir=f"{os.environ['DISTILKIT_HOME']}/trainer",
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=64,
        learning_rate=RATE,
        warmup_steps=0.1,  # of all steps
        weight_decay=0.01,
        seed=seed,
        use_cpu=True,
        report_to="none",
        logging_steps=10,
        save_steps=500,
        **({"train_sampling_strategy": "group_by_length"} if grouped else {}),
    )
    trainer = DistillationTrainer(
        model=student,
        args=arguments,
        train_dataset=encoded["train"],
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    trainer.train()
    found = trainer.predict(encoded["validation"])
    accuracy = (found.predictions.argmax(-1) == found.label_ids).mean()  # grouped: another order
    return {"steps": trainer.state.global_step, "accuracy": float(accuracy)}


def in_this_process(way: str, teacher: str, folder: Path, examples: int, epochs: int, seed: int):
    from distilkit.measure.size import peak_memory_mb

    start = time.perf_counter()
    data = data_of(folder, examples)
    if way in ("kit", "compress"):
        found = (by_kit if way == "kit" else by_compress)(teacher, data, epochs, seed)
    else:
        found = by_trainer(teacher, data, epochs, seed, grouped=way != "trainer")
    found |= {"seconds": time.perf_counter() - start, "peak_mb": peak_memory_mb()}
    print(json.dumps({"way": way, "seed": seed, **found}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:  # a process for one way
        given = (options.examples, options.epochs, options.seed)
        in_this_process(options.only, options.encoder, options.folder, *given)
        return

    from distilkit.finetuning import classifier, finetune
    from distilkit.models.loading import load_tokenizer

    teacher = finetune(
        classifier(options.encoder, "sst2", 0),
        load_tokenizer(options.encoder),
        "sst2",
        data_of(options.folder, options.examples),
        training(options.epochs, 0),
        name=f"trainer-teacher-{options.examples}-{options.epochs}",
    )
    rows = []
    for seed in range(1, options.rounds + 1):
        for way in options.ways:
            command = [sys.executable, __file__, teacher.model.resolve(), options.folder.resolve()]
            command += ["--examples", str(options.examples), "--epochs", str(options.epochs)]
            command += ["--only", way, "--seed", str(seed)]
            with tempfile.TemporaryDirectory() as home:  # no answers of an earlier round
                environment = os.environ | {"DISTILKIT_HOME": home}
                done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    ratios = table.pivot(index="seed", columns="way", values="seconds")
    print(table.groupby("way", sort=False)[["seconds", "peak_mb", "accuracy"]].mean().round(3))
    print(ratios.div(ratios[options.ways[0]], axis=0).agg(["median", "min", "max"]).round(2))


if __name__ == "__main__":
    main()
