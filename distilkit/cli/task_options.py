"""Options for the task: a name of the table, or the user's own data."""

from argparse import ArgumentParser, Namespace
from typing import Any

from distilkit.data.tasks import Task, get_task

_FORMATS = ".csv, .tsv, .jsonl or .parquet file, SQuAD's .json (all also .gz), folder, or Hub id"
_KINDS = {  # the command's words -> a task's kind
    "classes": "single_label_classification",
    "labels": "multi_label_classification",
    "regression": "regression",
    "words": "token_classification",
    "answers": "question_answering",
}


def add_task(parser: ArgumentParser, names: str, *, required: bool) -> None:
    """Add ``--task`` with these names in its help, and the options for the user's own data."""
    which = parser.add_mutually_exclusive_group(required=required)
    which.add_argument("--task", help=names)
    which.add_argument("--data", help=f"your own: {_FORMATS}")
    own = parser.add_argument_group("your own data")
    own.add_argument("--validation", metavar="FILE", help="default: a tenth of the data, by class")
    own.add_argument(
        "--test", metavar="FILE", help="default: a tenth of the data, if neither is given"
    )
    own.add_argument(
        "--text-column",
        nargs="+",
        metavar="COLUMN",
        help="name (default: text), two for pairs; numbers from 0 on without a header",
    )
    own.add_argument(
        "--label-column",
        nargs="+",
        metavar="COLUMN",
        help="name; several columns of 0 and 1 for several labels; none: a teacher's answers alone",
    )
    own.add_argument("--kind", choices=_KINDS, help="default: what the labels look like")
    own.add_argument(
        "--unlabelled", nargs="+", metavar="FILE", help="further texts for the teacher, also .txt"
    )


def chosen_task(options: Namespace, teacher: str | None) -> Task:
    """Return the task of the options; its labels are in the order of the teacher's, if named."""
    from distilkit.data.own_task import task_from

    if options.data is None:
        refuse_own_data(options)
        return get_task(options.task)
    files = {"train": options.data, "validation": options.validation, "test": options.test}
    files = {split: file for split, file in files.items() if file is not None}
    kind, labels = _meaning_of(teacher, options) if teacher else (None, None)
    if options.kind is not None:
        kind = _KINDS[options.kind]
    elif options.label_column is not None:
        kind = None  # the data says; a teacher that does not fit is refused later, in words
    return task_from(
        options.data if len(files) == 1 else files,
        text_columns=as_columns(options.text_column),
        label_column=as_columns(options.label_column),
        labels=labels,
        kind=kind,
    )


def refuse_own_data(options: Namespace) -> None:
    """Raise ValueError for an option that says something about data that are not given."""
    for name in ("validation", "test", "text_column", "label_column", "kind", "unlabelled"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is of your own data: give --data")


def unlabelled_texts(options: Namespace, task: Task) -> Any:
    """Return the texts of ``--unlabelled`` as a data set, None without."""
    from distilkit.data.own_task import unlabelled_from

    return unlabelled_from(options.unlabelled, task) if options.unlabelled else None


def plain_texts(options: Namespace) -> list[str]:
    """Return the texts of ``--data`` and ``--unlabelled``; two columns are not pairs."""
    from distilkit.compress.embedding_scores import TEXTS
    from distilkit.data.own_task import task_from, unlabelled_from

    if options.data is None and options.unlabelled is None:
        raise ValueError("no texts to learn from: give them by --unlabelled or --data")
    columns, texts = as_columns(options.text_column or ["text"]), []
    if options.data is not None:
        task = task_from(options.data, text_columns=columns)
        texts += [t for part in task.data.values() for name in task.columns for t in part[name][:]]
    for name in columns if options.unlabelled else ():
        texts += unlabelled_from(options.unlabelled, TEXTS, text_columns=name)["text"][:]
    return texts


def as_columns(names: list[str] | None) -> list[str | int] | None:
    """Return column names as :func:`task_from` takes them; digits are numbers."""
    return None if names is None else [int(n) if n.isdecimal() else n for n in names]


def _meaning_of(checkpoint: str, options: Namespace) -> tuple[str | None, list[str] | None]:
    """Return kind and label names of a fine-tuned checkpoint, None where it does not say.

    Without labels in the data, names such as LABEL_0 will do: no order has to be the same.
    """
    from transformers import AutoConfig

    from distilkit.data.classifier_checks import is_named
    from distilkit.models.hub import fetch

    config = AutoConfig.from_pretrained(fetch(checkpoint))
    names = [str(name) for _, name in sorted(config.id2label.items())]
    if config.num_labels == 1:
        return "regression", None
    will_do = options.label_column is None or is_named(config)
    return config.problem_type, names if will_do else None
