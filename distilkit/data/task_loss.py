"""The loss of fine-tuning on a task: against its labels, and against a teacher.

Each term has its own denominator over the optimizer step: the labels that are there, the targets
(labelled or not), the tokens. So an unlabelled example adds to the soft targets alone.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from distilkit.config import FinetuneLossConfig
from distilkit.data.tasks import UNLABELLED, Task
from distilkit.families import inputs_of, width_projections
from distilkit.losses import at_least_float32, check_temperature, soft_target_loss

PADDING = -1e4  # the logit of a padding position: its probability underflows, its gradient is 0


class TaskLoss(nn.Module):
    """The loss for the loop. Its only parameters are the cosine term's projections."""

    def __init__(
        self,
        task: Task,
        teacher: PreTrainedModel | None = None,
        loss_config: FinetuneLossConfig | None = None,
    ) -> None:
        super().__init__()
        self.task, self.loss_config = task, loss_config or FinetuneLossConfig()
        self._teacher = (teacher,)  # in a tuple: its parameters are not this module's
        self.pairs = self.loss_config.cosine_layers or ((-1, -1),)  # -1: the last hidden states
        self.projections = None

    def add_projections(self, model: PreTrainedModel, seed: int) -> None:
        """Add a linear map from the student's width to the teacher's for each pair, if needed."""
        self.projections = width_projections(model, self._teacher[0], len(self.pairs), seed)

    def forward(
        self, model: PreTrainedModel, batch: dict[str, Any], counts: dict[str, int]
    ) -> dict[str, Tensor]:
        """Return ``loss`` and its terms for a micro-batch, each divided by the step's `counts`.

        `batch` is one of :meth:`distilkit.data.examples.Examples.batch`. With ``teacher_logits``
        (:mod:`distilkit.data.teacher_logits`) in it no teacher is needed.
        """
        c, teacher = self.loss_config, self._teacher[0]
        aligned = teacher is not None and c.cosine_weight > 0
        logits, hidden = target_logits(self.task, model, batch, batch, aligned)
        task = label_loss(self.task, logits, batch["labels"]) / max(counts["labels"], 1)
        aims = batch.get("teacher_logits")
        if aims is None:
            if teacher is None:
                return {"loss": task, "task": task}
            inputs = batch.get("teacher", batch)
            with torch.no_grad():
                aims, teacher_hidden = target_logits(self.task, teacher, batch, inputs, aligned)
        soft_target = self._soft_targets(logits, aims, max(counts["targets"], 1))
        terms = {"task": task, "soft_target": soft_target}
        total = c.label_weight * task + c.kd_weight * soft_target
        if aligned:
            terms["cosine"] = self._cosine(hidden, teacher_hidden, batch, counts["tokens"])
            total = total + c.cosine_weight * terms["cosine"]
        return {"loss": total, **terms}

    def _soft_targets(self, logits: Tensor, teacher_logits: Tensor, count: int) -> Tensor:
        temperature = self.loss_config.temperature
        if self.task.regression:  # no classes to soften
            return F.mse_loss(logits, teacher_logits, reduction="sum") / count
        several = self.task.kind == "multi_label_classification"
        of = binary_soft_target_loss if several else soft_target_loss
        if self.task.on_spans:
            count *= 2  # of an example, start and end
        return of(logits, teacher_logits, temperature, count=count)

    def _cosine(
        self,
        student: tuple[Tensor, ...],
        teacher: tuple[Tensor, ...],
        batch: dict[str, Any],
        count: int,
    ) -> Tensor:
        """The mean over real tokens of 1 − cos, then over the pairs of layers."""
        is_real = batch["attention_mask"] > 0  # B, L; a selection by it would wait for the device
        maps = self.projections or [nn.Identity()] * len(self.pairs)
        sums = []
        for f, (layer, teacher_layer) in zip(maps, self.pairs, strict=True):
            aligned = at_least_float32(f(student[layer]))
            aim = at_least_float32(teacher[teacher_layer])
            distance = 1 - F.cosine_similarity(aligned, aim, dim=-1)  # B, L
            sums.append((distance * is_real).sum())
        return torch.stack(sums).mean() / max(count, 1)


def label_loss(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss against labels, summed over those that are there.

    Cross-entropy, for a span the mean of start's and end's; for several labels an example binary
    cross-entropy, their mean; for regression the squared error.

    Args:
        logits: [N, C], of spans [2 · N, L], float32 or more.
        labels: [N] classes, or [N, 2] first and last token, -1 where unknown; [N, C] of 0 and 1, or
            [N] reals, NaN where unknown.
    """
    if task.regression:
        values = logits[:, 0]
        # not a product with a mask: NaN times 0 is NaN, in the gradient too
        known = torch.where(labels.isnan(), values.detach(), labels.to(values.dtype))
        return F.mse_loss(values, known, reduction="sum")
    if task.kind == "multi_label_classification":
        is_known = ~labels.isnan().any(-1)
        targets = labels.nan_to_num().to(logits.dtype)
        each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(-1)
        return torch.where(is_known, each, 0).sum()
    loss = F.cross_entropy(logits, labels.flatten(), reduction="sum", ignore_index=UNLABELLED)
    return loss / 2 if task.on_spans else loss


def binary_soft_target_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, *, count: float
) -> Tensor:
    """``T² · Σ over rows of the mean over labels of KL(σ(t / T) ‖ σ(s / T)) / count``.

    The logits are [N, C], a Bernoulli distribution each; no gradient flows to the teacher's.
    """
    check_temperature(temperature)
    s = at_least_float32(student_logits) / temperature
    t = at_least_float32(teacher_logits.detach()) / temperature
    on = t.sigmoid() * (F.logsigmoid(t) - F.logsigmoid(s))
    off = (-t).sigmoid() * (F.logsigmoid(-t) - F.logsigmoid(-s))
    return temperature**2 * (on + off).mean(-1).sum() / max(count, 1)


def logits_of(model: PreTrainedModel, batch: dict[str, Any]) -> Tensor:
    """Return a model's logits: [B, C]; of words [B, L, C]; of start and end [B, L, 2]."""
    return _logits(model(**inputs_of(model, batch)))


def _logits(out: Any) -> Tensor:
    if "start_logits" in out:
        return torch.stack([out.start_logits, out.end_logits], dim=-1)
    return out.logits


def target_logits(
    task: Task,
    model: PreTrainedModel,
    batch: dict[str, Any],
    inputs: dict[str, Any],
    with_hidden: bool = False,
) -> tuple[Tensor, tuple[Tensor, ...] | None]:
    """Return the logits of the targets in a batch, and all hidden states [B, L, H] if wanted.

    [N, C]; for question answering [2 · B, L]: each example's start, then its end. `inputs` are the
    batch, or its part for a teacher that reads other token ids.
    """
    options = {"output_hidden_states": True} if with_hidden else {}
    out = model(**inputs_of(model, inputs), **options)
    logits = at_least_float32(_logits(out))
    if task.on_words:
        logits = logits.flatten(0, 1).index_select(0, batch["rows"])
    elif task.on_spans:
        is_padding = batch["attention_mask"][:, :, None] == 0  # B, L, 1
        logits = logits.masked_fill(is_padding, PADDING).transpose(1, 2).flatten(0, 1)
    return logits, out.hidden_states if with_hidden else None
