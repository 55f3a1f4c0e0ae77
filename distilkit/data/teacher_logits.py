"""A teacher's logits for a task's training texts, computed once for all epochs, students and seeds.

A teacher has no dropout, so its logits depend on the texts alone. They are float32, in
``data/cache/logits-<key>/`` (:mod:`distilkit.data.teacher_store`), longest text first. Shapes: [C]
of a text, [words, C] of its labelled words, [tokens, 2] of a window in question answering.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from distilkit.config import TrainingConfig
from distilkit.data.examples import NOT_A_WORD, Examples, by_length, tokens_at_once
from distilkit.data.task_loss import PADDING, target_logits
from distilkit.data.tasks import Task
from distilkit.data.teacher_store import cache_folder, write_missing
from distilkit.processes import processes, to_device
from distilkit.run import fingerprint
from distilkit.training_loop import in_bf16, total_steps

_FORMAT = 1  # changes with what is written
PART = 2**15  # tokens, padding included, that are written and hashed together


def sees_every_text(examples: Examples, training: TrainingConfig) -> bool:
    """Tell whether a training is an epoch or more, so that no logit is computed in vain."""
    return total_steps(len(examples), training) * training.batch_size >= len(examples)


class TeacherLogits:
    """Source of batches in place of its :class:`Examples`, with the teacher's logits.

    They are computed, or found, when it is made. The teacher, fine-tuned on the task, returns to
    its own mode and device; its precision is the training's.
    """

    def __init__(
        self, examples: Examples, task: Task, teacher: PreTrainedModel, training: TrainingConfig
    ) -> None:
        self.examples, self.task = examples, task
        bf16 = in_bf16(training.precision)
        about = {
            "format": _FORMAT,
            "teacher": fingerprint(teacher),
            "examples": examples.digest(),
            "bf16": bf16,
        }
        self.path = cache_folder("logits", about)
        lengths = (examples.teacher or examples).lengths
        parts = by_length(lengths, PART)
        rows = np.broadcast_to(np.int8(1), len(examples))  # takes no memory
        if task.on_spans:
            rows = lengths
        elif task.on_words:
            rows = np.array([(labels != NOT_A_WORD).sum() for labels in examples.labels])
        order = np.concatenate(parts)
        ends = np.empty(len(order), np.int64)
        ends[order] = np.cumsum(rows[order])
        self.rows, self.ends = rows, ends  # [examples] of the file: how many, and the end of these
        self.shape = (int(rows.sum()), task.outputs)
        sizes = [4 * int(rows[part].sum()) * task.outputs for part in parts]

        def compute(number: int, bar: tqdm) -> bytes:
            part, content = parts[number], b""
            for batch in by_length(lengths[part], tokens_at_once(processes().device)):
                content += self._answers(teacher, part[batch], bf16).tobytes()
                bar.update(int(lengths[part[batch]].sum()))
            return content

        work = [int(lengths[part].sum()) for part in parts]
        write_missing(self.path, about, sizes, compute, teacher, work)

    def __len__(self) -> int:
        return len(self.examples)

    def order(self, epoch: int, batch_size: int) -> np.ndarray:
        return self.examples.order(epoch, batch_size)

    def batch(self, epoch: int, ids: Sequence[int]) -> dict[str, Any]:
        """:meth:`Examples.batch`, and ``teacher_logits`` as the loss takes them."""
        batch = self.examples.batch(epoch, ids)
        batch.pop("teacher", None)  # the inputs of a teacher with other ids
        # opened again for every batch: no process holds pages that it has read
        file = np.memmap(self.path / "entries.bin", np.float32, mode="r", shape=self.shape)
        each = [file[end - n : end] for n, end in zip(self.rows[ids], self.ends[ids], strict=True)]
        if self.task.on_spans:
            logits = np.full((len(ids), 2, batch["input_ids"].shape[1]), PADDING, np.float32)
            for padded, own in zip(logits, each, strict=True):
                padded[:, : len(own)] = own.T
            logits = logits.reshape(2 * len(ids), -1)
        else:
            logits = np.concatenate(each)
        return batch | {"teacher_logits": torch.from_numpy(logits)}

    def _answers(self, teacher: PreTrainedModel, ids: np.ndarray, bf16: bool) -> np.ndarray:
        """Compute the rows of some texts."""
        device = processes().device
        batch = to_device(self.examples.batch(0, ids), device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            inputs = batch.get("teacher", batch)
            logits = target_logits(self.task, teacher, batch, inputs)[0].cpu().numpy()
        if not np.isfinite(logits).all():
            raise FloatingPointError(
                f"{self.task.name}: the teacher's logits are not finite (training examples "
                f"{ids[:5].tolist()} ...): give another teacher"
            )
        if self.task.on_spans:  # [2 · B, L]
            pairs = zip(logits.reshape(len(ids), 2, -1), self.examples.lengths[ids], strict=True)
            logits = np.concatenate([z[:, :length].T for z, length in pairs])
        return logits.astype(np.float32, copy=False)
