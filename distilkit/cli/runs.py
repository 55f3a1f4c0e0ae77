"""Verbs before and after a training: doctor, runs, submit."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from distilkit.cli.options import add_scale, add_training, chosen_scale, given
from distilkit.cli.task_options import add_task, chosen_task, unlabelled_texts
from distilkit.config import GLUE_TASKS, Scale, home

if TYPE_CHECKING:
    import pandas as pd


def _doctor_options(parser: ArgumentParser) -> None:
    add_scale(parser, "teacher", "text", "glue", "length")
    parser.add_argument(
        "--checkpoint",
        help="with --task: a classifier that is to be a teacher; with --data: the "
        "model to fine-tune, and --teacher its fine-tuned teacher",
    )
    add_task(parser, "of the classifier", required=False)
    add_training(parser, "finetuning", "fine-tuning on --data")


def doctor(options: Namespace) -> int:
    """Check teacher, text, tasks and machine before a training (less than a minute)."""
    from distilkit.cli.task_doctor import print_checks

    chosen = chosen_scale(options)
    if options.data is not None:
        table = _doctor_of_own_data(options, chosen)
    else:
        from distilkit.cli.doctor import doctor as examine

        table = examine(chosen, task=options.task, checkpoint=options.checkpoint)
    return 0 if print_checks(table) else 1


def _doctor_of_own_data(options: Namespace, chosen: Scale) -> pd.DataFrame:
    from distilkit.cli.task_doctor import task_doctor

    if options.checkpoint is None:
        raise ValueError("--data: give --checkpoint, the model to fine-tune, too")
    teacher = given(options, "scale").get("teacher")
    task = chosen_task(options, teacher)
    unlabelled = unlabelled_texts(options, task)
    return task_doctor(
        task,
        options.checkpoint,
        chosen.finetuning,
        teacher=teacher,
        unlabelled=unlabelled,
    )


def runs(_options: Namespace) -> None:
    """List the run folders."""
    from distilkit.run import runs as all_runs

    table = all_runs()
    print(table.to_string(index=False) if len(table) else f"no runs in {home() / 'runs'}")


def _submit_options(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="folder of the fine-tuned model")
    parser.add_argument("--task", required=True, help=", ".join(GLUE_TASKS))
    add_scale(parser, "glue")
    parser.add_argument("--out", required=True, help="folder for the .tsv files")
    parser.add_argument("--max-length", type=int, help="tokens, as in fine-tuning (default 128)")


def submit(options: Namespace) -> None:
    """Write a fine-tuned model's answers to a GLUE test set in the form GLUE's server takes."""
    from distilkit.data.sources import load_task
    from distilkit.data.submission import write_submission
    from distilkit.finetuning import fine_tuned_on
    from distilkit.models.loading import load_tokenizer

    data = load_task(chosen_scale(options), options.task)
    model = fine_tuned_on(options.checkpoint, options.task)
    tokenizer = load_tokenizer(options.checkpoint)
    files = write_submission(
        model, tokenizer, options.task, data, options.out, max_length=options.max_length
    )
    for file in files:
        print(file)


VERBS = {
    "doctor": (doctor, _doctor_options),
    "runs": (runs, None),
    "submit": (submit, _submit_options),
}
