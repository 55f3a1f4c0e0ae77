"""Verbs before and after a training: doctor, runs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from distilkit.cli.options import add_scale, add_training, chosen_scale, given
from distilkit.cli.task_options import add_task, chosen_task, unlabelled_texts
from distilkit.config import Scale, home

if TYPE_CHECKING:
    import pandas as pd


def _doctor_options(parser: ArgumentParser) -> None:
    add_scale(parser, "teacher", "text", "glue", "length")
    parser.add_argument(
        "--checkpoint",
        help="with --task or --data: the model to fine-tune, and --teacher its fine-tuned teacher",
    )
    add_task(parser, "to fine-tune on", required=False)
    add_training(parser, "finetuning", "fine-tuning")


def doctor(options: Namespace) -> int:
    """Check teacher, text, tasks and machine before a training (less than a minute)."""
    from distilkit.cli.doctor import doctor as examine
    from distilkit.cli.doctor import print_checks

    chosen = chosen_scale(options)
    if options.data is None and options.task is None:
        if options.checkpoint is not None:
            raise ValueError("--checkpoint: give the task, --task or --data, too")
        table = examine(chosen)
    else:
        table = _doctor_of_task(options, chosen)
    return 0 if print_checks(table) else 1


def _doctor_of_task(options: Namespace, chosen: Scale) -> pd.DataFrame:
    from distilkit.cli.doctor import task_doctor
    from distilkit.data.sources import load_task

    if options.checkpoint is None:
        raise ValueError("--task, --data: give --checkpoint, the model to fine-tune, too")
    teacher = given(options, "scale").get("teacher")
    task = chosen_task(options, teacher)
    unlabelled = unlabelled_texts(options, task)
    task = replace(task, data=load_task(chosen, task))
    return task_doctor(
        task, options.checkpoint, chosen.finetuning, teacher=teacher, unlabelled=unlabelled
    )


def runs(_options: Namespace) -> None:
    """List the run folders."""
    from distilkit.run import runs as all_runs

    table = all_runs()
    print(table.to_string(index=False) if len(table) else f"no runs in {home() / 'runs'}")


VERBS = {"doctor": (doctor, _doctor_options), "runs": (runs, None)}
