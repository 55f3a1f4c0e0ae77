"""The verb compress: from a fine-tuned model to a smaller one, in one command."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from distilkit.cli.options import HELP, add_fields, add_training, chosen_scale, given
from distilkit.cli.task_options import add_task, chosen_task, unlabelled_texts
from distilkit.config import GLUE_TASKS, SCALES, FinetuneLossConfig


def _compress_options(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", help=f"{HELP['teacher']} of a fine-tuned model")
    parser.add_argument("--out", required=True, type=Path, help="new folder for the small model")
    add_task(parser, ", ".join(GLUE_TASKS), required=True)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--depth", type=int, help="layers of the student (default: half)")
    which.add_argument("--layers", type=int, nargs="+", help="teacher layers to copy, 0-based")
    parser.add_argument("--scale", help=f"{', '.join(SCALES)} (default: DISTILKIT_SCALE or tiny)")
    add_fields(parser, "scale", "glue")
    parser.add_argument("--max-length", type=int, help="tokens (default: 128)")
    parser.add_argument("--name", help="of the run folder (default: the new folder's)")
    parser.add_argument("--licence", help="of the teacher, for the model card")
    parser.add_argument("--push", metavar="ID", help="upload the folder to the Hub under this name")
    loss = parser.add_argument_group("distillation")
    add_fields(loss, "finetune_loss", "label_weight", "kd_weight", "temperature")
    add_training(parser, "finetuning")
    add_fields(parser, "finetuning", "seed")


def compress(options: Namespace) -> int:
    """Cut a fine-tuned model's layers, distil, measure, and write a folder to hand over."""
    from dataclasses import replace as changed

    from distilkit.cli.task_doctor import print_checks, task_doctor
    from distilkit.compress.compress import compress as run
    from distilkit.compress.compress import student_of
    from distilkit.compress.hand_over import check_out, push
    from distilkit.data.sources import load_task
    from distilkit.run import run_folder

    chosen = chosen_scale(options)
    name = options.name or options.out.name
    run_folder(name)
    check_out(options.out, name)
    task = chosen_task(options, options.checkpoint)
    if task.data is None:
        task = changed(task, data=load_task(chosen, task))
    unlabelled = unlabelled_texts(options, task)
    checks = task_doctor(
        task,
        options.checkpoint,
        chosen.finetuning,
        teacher=options.checkpoint,
        cut=lambda teacher: student_of(teacher, options.layers, options.depth),
        unlabelled=unlabelled,
        max_length=options.max_length,
    )
    if not print_checks(checks):
        return 1
    table = run(
        options.checkpoint,
        task,
        options.out,
        chosen.finetuning,
        layers=options.layers,
        depth=options.depth,
        unlabelled=unlabelled,
        loss_config=FinetuneLossConfig(**given(options, "finetune_loss")),
        max_length=options.max_length,
        name=name,
        licence=options.licence,
    )
    shown = table.drop(columns=["split", "threads", "latency_ms_p95"])
    print(shown.round(3).to_string(index=False))
    print(options.out)
    if options.push:
        print(push(options.out, options.push))
    return 0


VERBS = {"compress": (compress, _compress_options)}
