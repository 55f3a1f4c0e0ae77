"""Not a test: the whole recipe on a real encoder, real text and real GLUE tasks, run by hand.

    python tests/measurements/real_recipe.py ENCODER TEXT GLUE_FOLDER
        [--seeds 1 2 3] [--examples 10000] [--steps 1500]

ENCODER is a folder with a BertModel and its tokenizer (for instance all-MiniLM-L6-v2), TEXT a text
file, GLUE_FOLDER holds <task>/train.parquet and validation.parquet. The encoder gets a masked-word
head, which is trained on the text while its hidden states are held in place. A student of half its
layers is distilled on the same text; controls are the same student on masked words alone for as
many steps, and its shape from random weights. All four are fine-tuned; the three students also with
the soft targets of the fine-tuned teacher. With --shallower, students of 2 and 1 layers are left in
runs/ too. Scores go to figures/base/real_recipe.csv. Hours on a CPU: everything is a run in runs/,
and an interrupted call goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForMaskedLM,
    DistilBertForMaskedLM,
)

from distilkit import classifier, distil, finetune, home, pretrain
from distilkit.config import MLM_ONLY, SCALES, FinetuneLossConfig, TrainingConfig
from distilkit.data.block_cache import cached_blocks
from distilkit.data.documents import open_text
from distilkit.data.task_files import load
from distilkit.data.tasks import get_task
from distilkit.masking import MaskedBlocks
from distilkit.measure.latency import compare
from distilkit.models.heads import masked_lm_from_encoder, train_head
from distilkit.student import default_layers, random_student_like, student_from_teacher
from distilkit.study.arms import macro_scores

TASKS = ("sst2", "cola", "mrpc")
LENGTH = 128
PRETRAINING = TrainingConfig(
    batch_size=16,
    micro_batch_size=16,
    learning_rate=3e-4,
    eps=1e-8,
    seed=1,
    precision="bf16",
    log_interval=10,
    eval_interval=250,
    checkpoint_interval=100,
)
# few examples and a narrow model: more steps, and larger ones, than BERT-base takes
FINETUNING = replace(
    SCALES["base"].finetuning,
    batch_size=16,
    micro_batch_size=16,
    learning_rate=2e-4,
    precision="fp32",
)


def students(
    folder: Path, blocks: MaskedBlocks, validation: MaskedBlocks, steps: int, shallower: bool
) -> dict[str, Path]:
    """The three students' folders; shallower students are only left in runs/."""
    training = replace(PRETRAINING, steps=steps, learning_rate=5e-4)
    teacher = BertForMaskedLM.from_pretrained(folder).eval()
    student = student_from_teacher(teacher)
    data = {"validation": validation}
    distilled = distil(student, teacher, blocks, training, name="real-distilled", **data)
    for depth in (2, 1) if shallower else ():
        layers = default_layers(teacher.config.num_hidden_layers, depth)
        half, name = replace(training, steps=steps // 2), f"real-distilled-depth{depth}"
        distil(student_from_teacher(teacher, layers), teacher, blocks, half, name=name, **data)
    control = pretrain(student, blocks, training, loss_config=MLM_ONLY, name="real-mlm", **data)
    scratch = home() / "data" / "cache" / "real-scratch"
    random_student_like(student, seed=0).save_pretrained(scratch)
    return {"distilled": distilled.model, "mlm_equal_steps": control.model, "scratch": scratch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder")
    parser.add_argument("text")
    parser.add_argument("glue")
    parser.add_argument(
        "--examples",
        type=int,
        nargs="+",
        default=[10_000],
        help=f"of a task, at most: one number, or one for each of {', '.join(TASKS)}",
    )
    parser.add_argument("--steps", type=int, default=1500, help="of the head, and of each student")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--shallower",
        action="store_true",
        help="distil students of 2 and 1 layers too, in half as many steps, for the frontier",
    )
    options = parser.parse_args()
    examples = options.examples * (len(TASKS) if len(options.examples) == 1 else 1)
    if len(examples) != len(TASKS):
        parser.error(f"--examples: give one number, or {len(TASKS)}")
    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    train, held_out = (
        cached_blocks(text.read, tokenizer, LENGTH, source=text.identity())
        for text in open_text(options.text)
    )
    blocks = MaskedBlocks(train, tokenizer, seed=PRETRAINING.seed)
    validation = MaskedBlocks(held_out[:200], tokenizer, seed=0, weights=blocks.weights)
    encoder = AutoModel.from_pretrained(options.encoder, dtype=torch.float32)
    model = masked_lm_from_encoder(encoder, PRETRAINING.seed)
    training = replace(PRETRAINING, steps=options.steps)
    folder = train_head(model, blocks, training, name="real-head", validation=validation).model
    places = folder, blocks, validation
    arms = {"teacher": folder, **students(*places, options.steps, options.shallower)}

    rows = []
    for seed in options.seeds:
        for name, most in zip(TASKS, examples, strict=True):
            data = load(name, options.glue)
            few = data["train"].shuffle(seed=0)
            data["train"] = few.select(range(min(most, len(few))))
            fine_tuning, fine_teacher = replace(FINETUNING, seed=seed), None
            for arm, checkpoint in arms.items():
                for soft in (False, True) if fine_teacher is not None else (False,):
                    run = finetune(
                        classifier(checkpoint, name, seed),
                        tokenizer,
                        name,
                        data,
                        fine_tuning,
                        name=f"real-{arm}-{'soft' if soft else 'labels'}-{name}-{seed}",
                        teacher=fine_teacher if soft else None,
                        loss_config=FinetuneLossConfig() if soft else None,
                        keep_model=arm == "teacher",
                    )
                    score = run.result()["scores"]["validation"][get_task(name).score]
                    points = float("nan") if score is None else 100 * score  # None: undefined
                    rows.append((arm + " + soft targets" * soft, name, seed, points))
                if arm == "teacher":
                    fine_teacher = AutoModelForSequenceClassification.from_pretrained(run.model)
    table = pd.DataFrame(rows, columns=["arm", "task", "seed", "score"])
    macro = macro_scores(table).assign(task="macro")  # undefined where a task's score is
    table = pd.concat([table, macro])
    table.to_csv(SCALES["base"].figures / "real_recipe.csv", index=False)
    by = table.groupby(["arm", "task"], sort=False).score.agg(["median", "min", "max"])
    print(by.round(1).unstack("task").swaplevel(axis=1).sort_index(axis=1).to_string())
    models = {
        "teacher": BertForMaskedLM.from_pretrained(arms["teacher"]).eval(),
        "student": DistilBertForMaskedLM.from_pretrained(arms["distilled"]).eval(),
    }
    print(compare(models, length=128, threads=1).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
