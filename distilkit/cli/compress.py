"""The verb compress: from a fine-tuned model to a smaller one, in one command."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

import pandas as pd

from distilkit.cli.options import (
    HELP,
    add_fields,
    add_scale,
    add_training,
    chosen_scale,
    given,
    settings_for,
)
from distilkit.cli.task_options import (
    add_task,
    as_columns,
    chosen_task,
    plain_texts,
    unlabelled_texts,
)
from distilkit.config import GLUE_TASKS, FinetuneLossConfig

_SHARED = ("layers", "depth", "max_length", "name", "licence")  # by both kinds of model


def _compress_options(parser: ArgumentParser) -> None:
    what = "fine-tuned or sentence-transformers model"
    parser.add_argument("checkpoint", help=f"{HELP['teacher']} of a {what}")
    out = "folder for the small model, new or an earlier one, which is replaced"
    parser.add_argument("--out", required=True, type=Path, help=out)
    add_task(parser, ", ".join(GLUE_TASKS), required=False)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--depth", type=int, help="layers of the student (default: half)")
    which.add_argument("--layers", type=int, nargs="+", help="teacher layers to copy, 0-based")
    add_scale(parser, "glue")
    parser.add_argument("--max-length", type=int, help="tokens (default: the task's or model's)")
    parser.add_argument("--name", help="of the run folder (default: the new folder's)")
    parser.add_argument("--licence", help="of the teacher, for the model card")
    parser.add_argument(
        "--push", metavar="ID", help="upload to the Hub under this name; a new model is public"
    )
    pairs = parser.add_argument_group(
        "a sentence-transformers model",
        "Texts, no labels. By default 3 epochs in batches of 64 at 5e-4, whatever the scale.",
    )
    pairs.add_argument("--pairs", metavar="FILE", help="scored pairs of texts, for Spearman")
    pairs.add_argument(
        "--pairs-columns",
        nargs=3,
        metavar=("TEXT", "TEXT", "SCORE"),
        default=["sentence1", "sentence2", "score"],
        help="names (default: sentence1 sentence2 score); numbers from 0 on without a header",
    )
    loss = parser.add_argument_group("distillation")
    add_fields(loss, "finetune_loss", "label_weight", "kd_weight", "temperature")
    add_training(parser, "finetuning")
    add_fields(parser, "finetuning", "seed")


def compress(options: Namespace) -> int:
    """Cut a model's layers, distil, measure, and write a folder to hand over."""
    from huggingface_hub import get_token
    from huggingface_hub.utils import validate_repo_id

    from distilkit.models.sentence_encoder import is_sentence_encoder

    if options.push:
        validate_repo_id(options.push)
        if get_token() is None:
            raise ValueError("--push: nobody is logged in: run hf auth login, or set HF_TOKEN")
    if is_sentence_encoder(options.checkpoint):
        return _compress_embeddings(options)
    if options.pairs is not None:
        raise ValueError(
            f"--pairs is for sentence embeddings, and {options.checkpoint} has no modules.json: "
            "leave it out, or give a sentence-transformers model"
        )
    if options.task is None and options.data is None:
        raise ValueError("the model's task is unknown: give --task or --data")

    from distilkit.cli.doctor import print_checks, task_doctor
    from distilkit.compress.compress import compress as run
    from distilkit.compress.compress import student_of
    from distilkit.compress.hand_over import check_out
    from distilkit.data.sources import load_task

    chosen = chosen_scale(options)
    check_out(options.out, options.name)
    task = chosen_task(options, options.checkpoint)
    if task.data is None:
        task = replace(task, data=load_task(chosen, task))
    unlabelled = unlabelled_texts(options, task)
    training = settings_for(options, options.checkpoint)
    checks = task_doctor(
        task,
        options.checkpoint,
        training,
        teacher=options.checkpoint,
        cut=lambda teacher: student_of(teacher, options.layers, options.depth),
        unlabelled=unlabelled,
        max_length=options.max_length,
    )
    print_checks(checks)
    # a teacher at chance is only warned of; without "time" the checks ended early
    others = checks.good[checks.check != "teacher"]
    if not others.all() or "time" not in set(checks.check):
        return 1
    table = run(
        options.checkpoint,
        task,
        options.out,
        training,
        unlabelled=unlabelled,
        loss_config=FinetuneLossConfig(**given(options, "finetune_loss")),
        **{name: getattr(options, name) for name in _SHARED},
    )
    return _hand_over(table, options)


def _compress_embeddings(options: Namespace) -> int:
    """Compress a sentence-transformers model, which learns from texts alone."""
    from distilkit.compress.embeddings import TRAINING, compress_embeddings
    from distilkit.data.own_task import task_from

    of_classifiers = ["task", "label_column", "kind", "validation", "test", "scale", "scale.glue"]
    of_classifiers += [name for name in vars(options) if name.startswith("finetune_loss.")]
    for name in of_classifiers:
        if getattr(options, name) is not None:
            option = name.rpartition(".")[2].replace("_", "-")
            raise ValueError(
                f"--{option} is for classifiers, and {options.checkpoint} makes sentence "
                "embeddings: leave it out"
            )
    pairs = None
    if options.pairs is not None:
        *texts, score = as_columns(options.pairs_columns)
        pairs = task_from(options.pairs, text_columns=texts, label_column=score, kind="regression")
    table = compress_embeddings(
        options.checkpoint,
        plain_texts(options),
        options.out,
        replace(TRAINING, **given(options, "finetuning")),
        pairs=pairs,
        **{name: getattr(options, name) for name in _SHARED},
    )
    return _hand_over(table, options)


def _hand_over(table: pd.DataFrame, options: Namespace) -> int:
    from distilkit.compress.hand_over import push

    shown = table.drop(columns=["split", "threads", "latency_ms_p95"])
    print(shown.round(3).to_string(index=False))
    print(options.out)
    if options.push:
        print(push(options.out, options.push))
    return 0


VERBS = {"compress": (compress, _compress_options)}
