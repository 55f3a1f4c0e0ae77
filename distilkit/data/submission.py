"""Answers to GLUE's test sets, whose labels nobody has, in the files that GLUE's server takes.

Wang et al. 2019, section 3 ("evaluation"); https://gluebenchmark.com/faq: a zip of tab-separated
files, one a task and test set, with the columns ``index`` and ``prediction``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.checkpoint import write_atomically
from distilkit.data.tasks import Task, task_examples
from distilkit.data.tasks import task as task_named
from distilkit.finetuning import check_classifier, input_length, predict
from distilkit.processes import processes

FILES = {
    "cola": ("CoLA.tsv",),
    "mnli": ("MNLI-m.tsv", "MNLI-mm.tsv"),
    "mrpc": ("MRPC.tsv",),
    "qnli": ("QNLI.tsv",),
    "qqp": ("QQP.tsv",),
    "rte": ("RTE.tsv",),
    "sst2": ("SST-2.tsv",),
    "stsb": ("STS-B.tsv",),
    "wnli": ("WNLI.tsv",),
}
_BY_NAME = ("mnli", "qnli", "rte")  # their answers are words, the other tasks' numbers


def write_submission(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str,
    data: Mapping[str, Any],
    folder: str | Path,
    *,
    max_length: int | None = None,
) -> list[Path]:
    """A fine-tuned model's answers to the task's test set (MNLI: both), as GLUE takes them.

    GLUE also wants a file ``AX.tsv`` (its diagnostic set) and one for every task; the server's site
    has samples for those that are missing.

    Args:
        model: fine-tuned on the task.
        tokenizer: the model's.
        task: one of GLUE's nine.
        data: its splits; the test set's column ``idx``, if there, numbers its examples.
        folder: where the files go; a file of the same name is replaced.
        max_length: as in the fine-tuning; by default 128, or as many as the model has positions.

    Returns:
        The files.

    Raises:
        ValueError: a task that is not GLUE's, a model of another task, no test set.
    """
    if task not in FILES:
        raise ValueError(f"{task!r} is not in GLUE: give one of {', '.join(FILES)}")
    the_task = task_named(task)
    check_classifier(model, the_task)
    max_length = input_length([model], max_length, the_task.max_length)
    missing = [split for split in the_task.test if split not in data]
    if missing:
        raise ValueError(f"the data of {task} has no {missing[0]!r}, only {', '.join(data)}")
    folder = Path(folder)
    written = []
    for split, name in zip(the_task.test, FILES[task], strict=True):
        examples = task_examples(data[split], the_task, tokenizer, max_length=max_length, seed=0)
        logits, _ = predict(model, examples)
        if not np.isfinite(logits).all():
            raise FloatingPointError(f"{task}, {split}: the model's predictions are not finite")
        columns = getattr(data[split], "column_names", None) or list(data[split])
        numbers = data[split]["idx"] if "idx" in columns else range(len(examples))
        answers = sorted(zip(numbers, _answers(the_task, logits), strict=True))
        written.append(folder / name)
        if not processes().is_main_process:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["index\tprediction", *(f"{number}\t{answer}" for number, answer in answers)]
        write_atomically(folder / name, "".join(f"{line}\n" for line in lines).encode())
    return written


def _answers(the_task: Task, logits: np.ndarray) -> list[Any]:
    if the_task.regression:
        return [f"{value:.3f}" for value in logits[:, 0].clip(0, 5)]
    classes = logits.argmax(-1)
    if the_task.name in _BY_NAME:
        return [the_task.labels[i] for i in classes]
    return classes.tolist()
