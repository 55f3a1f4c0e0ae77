"""Compression of a fine-tuned model: a smaller student, in a folder to hand over.

The steps: cut, distil, score on held-out texts, export, measure, write.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.compress.engines import TORCH, each_engine
from distilkit.compress.hand_over import check_out, write_folder
from distilkit.compress.held_out import agreement, calibration, held_out, paired_difference
from distilkit.compress.onnx_export import check_exportable, onnx_predict
from distilkit.config import FinetuneLossConfig, TrainingConfig
from distilkit.data.task_examples import is_scored, task_examples
from distilkit.data.tasks import Task
from distilkit.finetuning import answers, fine_tuned_on, finetune, input_length, predict
from distilkit.models.loading import load_tokenizer
from distilkit.processes import seeded
from distilkit.student import default_layers, student_from_teacher


def compress(
    checkpoint: str | Path,
    task: Task,
    out: str | Path,
    training: TrainingConfig,
    *,
    layers: Sequence[int] | None = None,
    depth: int | None = None,
    unlabelled: Any = None,
    loss_config: FinetuneLossConfig | None = None,
    max_length: int | None = None,
    name: str | None = None,
    licence: str | None = None,
) -> pd.DataFrame:
    """Distil a fine-tuned model into one with fewer layers, and write it to a folder.

    The training is the run `name`; interrupted, it resumes. `out` gets the weights, tokenizer and
    config, ONNX files in float32 and int8, the table and a model card.

    Args:
        checkpoint: Hub id or folder of a model fine-tuned on the task: the teacher.
        task: with its data (:func:`distilkit.data.own_task.task_from`). Without labels the student
            learns from the teacher's answers alone, and agreement is all that is measured.
        out: a folder that is not there yet, or an earlier one of the same run, which is replaced.
        training: how long, in which batches.
        layers, depth: teacher layers to copy; or their number, evenly spaced (by default half).
        unlabelled: further texts (:func:`distilkit.data.own_task.unlabelled_from`).
        loss_config: by default 0.5 for labels and soft targets each, T = 2.
        max_length: tokens; by default the task's, or as many as the model reads.
        name: of the run; by default the folder's.
        licence: of the teacher, for the card; by default what the teacher's card says.

    Returns:
        A row for teacher and student in each engine: ``model, engine``, the task's ``score`` on the
        held-out ``split``, ``calibration_error``. Against the teacher in PyTorch: ``difference``
        with its 95 % interval ``low, high``, and ``agreement``. And the costs of
        :func:`distilkit.compress.engines.engine_costs`.
    """
    out, name = check_out(out, name)
    held_out(task)  # refuses a task without one, before time is spent
    teacher, tokenizer = fine_tuned_on(checkpoint, task), load_tokenizer(checkpoint)
    check_exportable(teacher)
    if layers is None:
        layers = default_layers(teacher.config.num_hidden_layers, depth)
    length = input_length([teacher], max_length, task.max_length)
    del teacher  # loaded again for each use: nobody holds it while the student is trained
    run = finetune(
        student_of(fine_tuned_on(checkpoint, task), layers, seed=training.seed),
        tokenizer,
        task,
        task.data,
        training,
        name=name,
        teacher=fine_tuned_on(checkpoint, task),
        unlabelled=unlabelled,
        loss_config=loss_config,
        max_length=length,
    )
    teacher, student = fine_tuned_on(checkpoint, task), fine_tuned_on(run.model, task)
    with tempfile.TemporaryDirectory(prefix="distilkit-compress-") as folder:
        table = measure(teacher, student, tokenizer, task, Path(folder), length)
        about = {"checkpoint": str(checkpoint), "layers": tuple(layers), "max_length": length}
        files = Path(folder) / "1"  # of the second model
        write_folder(out, student, tokenizer, files, table, task, run, about, licence)
    return table


def student_of(
    teacher: PreTrainedModel,
    layers: Sequence[int] | None = None,
    depth: int | None = None,
    *,
    seed: int = 0,
) -> PreTrainedModel:
    """Return the student with these layers, or so many; a new head is drawn from `seed`."""
    if layers is None:
        layers = default_layers(teacher.config.num_hidden_layers, depth)
    with seeded(seed):  # a DistilBERT's classifier has a layer that no BERT has
        return student_from_teacher(teacher, layers)


def measure(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    folder: Path,
    max_length: int,
) -> pd.DataFrame:
    """Score and time teacher and student in each engine; the files are exported to `folder`."""
    split = held_out(task)
    scored = is_scored(task, task.data[split], split)
    examples = task_examples(task.data[split], task, tokenizer, max_length=max_length, seed=0)
    models = {"teacher": teacher, "student": student}
    rows, reference, labels = [], None, examples.targets
    for costs, runner in each_engine(models, examples, folder):
        in_torch = costs["engine"] == TORCH
        values = predict(runner, examples)[0] if in_torch else onnx_predict(runner, examples)
        row = {"model": costs["model"], "engine": costs["engine"], "split": split}
        given = answers(task, values)
        reference = given if reference is None else reference  # the teacher's, in PyTorch
        if scored:
            row |= paired_difference(task, given, reference, labels)
        row["agreement"] = agreement(task, given, reference)
        row["calibration_error"] = calibration(task, values, reference)
        rows.append(row | costs)
    return pd.DataFrame(rows)
