"""Answers to GLUE's test sets, whose labels are not public, as files for GLUE's server.

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
from distilkit.data.classifier_checks import check_classifier
from distilkit.data.task_examples import task_examples
from distilkit.data.tasks import TASKS, Task
from distilkit.finetuning import answers, input_length, predict
from distilkit.models.vocabulary import check_vocabulary
from distilkit.processes import processes


def write_submission(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str,
    data: Mapping[str, Any],
    folder: str | Path,
    *,
    max_length: int | None = None,
) -> list[Path]:
    """Write a fine-tuned model's answers to the task's test set (MNLI: both); return the files.

    GLUE also wants a file ``AX.tsv`` (its diagnostic set) and one for every task; the server's site
    has samples for those that are missing.

    Args:
        task: one of GLUE's nine, on which the model was fine-tuned.
        data: its splits; the test set's column ``idx``, if there, numbers its examples.
        folder: where the files go; a file of the same name is replaced.
        max_length: as in the fine-tuning; by default 128, or as many as the model has positions.

    Raises:
        ValueError: a task that is not GLUE's, a model of another task, no test set.
    """
    glue = {name: known for name, known in TASKS.items() if known.submission}
    if task not in glue:
        raise ValueError(f"{task!r} is not in GLUE: give one of {', '.join(glue)}")
    known = glue[task]
    check_classifier(model, known, "classifier")
    check_vocabulary(model, tokenizer)
    max_length = input_length([model], max_length, known.max_length)
    missing = [split for split in known.test if split not in data]
    if missing:
        raise ValueError(f"the data of {task} has no {missing[0]!r}, only {', '.join(data)}")
    folder = Path(folder)
    written = []
    for split, name in zip(known.test, known.submission, strict=True):
        examples = task_examples(data[split], known, tokenizer, max_length=max_length, seed=0)
        logits, _ = predict(model, examples)
        if not np.isfinite(logits).all():
            raise FloatingPointError(f"{task}, {split}: the model's predictions are not finite")
        columns = getattr(data[split], "column_names", None) or list(data[split])
        numbers = data[split]["idx"] if "idx" in columns else range(len(examples))
        answers = sorted(zip(numbers, _answers(known, logits), strict=True))
        written.append(folder / name)
        if not processes().is_main_process:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["index\tprediction", *(f"{number}\t{answer}" for number, answer in answers)]
        write_atomically(folder / name, "".join(f"{line}\n" for line in lines).encode())
    return written


def _answers(task: Task, logits: np.ndarray) -> list[Any]:
    if task.regression:
        return [f"{value:.3f}" for value in logits[:, 0].clip(0, 5)]
    classes = answers(task, logits)
    return [task.labels[i] for i in classes] if task.submit_names else classes.tolist()
