"""Fine-tuning on SQuAD v1.1, with or without a teacher: the paper's second distillation.

Sanh et al. 2019, section 4.1 and table 2 ("DistilBERT (D)"): the teacher of the fine-tuning is a
BERT that is fine-tuned on SQuAD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering, PreTrainedModel, PreTrainedTokenizerBase

from distilkit.config import FinetuneLossConfig, TrainingConfig
from distilkit.data.squad import Windows, best_answers, windows
from distilkit.families import inputs_of
from distilkit.finetuning import (
    by_example,
    check_loss_config,
    input_length,
    run_finetuning,
)
from distilkit.losses import at_least_float32, soft_target_loss
from distilkit.models.heads import with_new_head
from distilkit.models.vocabulary import check_vocabulary, own_tokenizer
from distilkit.run import Run, run_folder

MAX_LENGTH, STRIDE = 384, 128  # tokens of a window, and shared by two
BATCH = 32  # windows a forward pass, where nothing is trained
_PADDING = -1e4  # the logit of a padding position: its probability underflows, its gradient is 0


def question_answerer(checkpoint: str | Path, seed: int) -> PreTrainedModel:
    """Load a checkpoint with a new head for start and end of an answer, drawn from `seed`."""
    return with_new_head(AutoModelForQuestionAnswering, checkpoint, seed)


def finetune_squad(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Mapping[str, Any],
    training: TrainingConfig,
    *,
    name: str,
    teacher: PreTrainedModel | None = None,
    loss_config: FinetuneLossConfig | None = None,
    max_length: int | None = None,
    stride: int | None = None,
) -> Run:
    """Train a copy of a question answerer on SQuAD; exact match and F1 in the run's result.

    Arguments as for :func:`distilkit.finetuning.finetune`, but:

    Args:
        model: with start and end logits (``AutoModelForQuestionAnswering``); not changed.
        data: ``train`` and ``validation`` (:func:`distilkit.data.squad.load_squad`).
        max_length, stride: of the windows; by default 384 and 128, or fewer if a model has fewer
            positions.

    Raises:
        ValueError: a loss configuration without a teacher, windows longer than a model's
            positions, a tokenizer that is not the models'.
    """
    run_folder(name)  # refuses a name before texts are read
    loss_config = check_loss_config(loss_config, teacher)
    if teacher is not None and loss_config.cosine_weight > 0:
        raise ValueError("FinetuneLossConfig.cosine_weight: not for SQuAD, give 0")
    check_vocabulary(model, tokenizer)
    if teacher is not None and own_tokenizer(teacher, tokenizer) is not None:
        raise ValueError(
            "the teacher reads other token ids than the model, so the places of an answer differ: "
            "give a teacher with the model's tokenizer"
        )
    models = (model,) if teacher is None else (model, teacher)
    max_length = input_length(models, max_length, MAX_LENGTH)
    stride = min(STRIDE, max_length // 3) if stride is None else stride
    shape = {"max_length": max_length, "stride": stride}
    examples = windows(data["train"], tokenizer, seed=training.seed, **shape).examples
    held_out = windows(data["validation"], tokenizer, **shape)
    digests = {"train": examples.digest(), "validation": held_out.examples.digest()}
    return run_finetuning(
        model,
        tokenizer,
        examples,
        training,
        answer_loss(teacher, loss_config),
        lambda trained: ({"validation": squad_scores(trained, held_out, data["validation"])}, {}),
        name=name,
        task="squad",
        teacher=teacher,
        loss_config=loss_config,
        config={"data": digests, **shape},
    )


def answer_loss(
    teacher: PreTrainedModel | None = None, loss_config: FinetuneLossConfig | None = None
) -> Callable[[nn.Module, dict[str, Any], dict[str, int]], dict[str, Tensor]]:
    """The loss for the loop: the mean of start's and end's cross-entropy, and of their T²·KL.

    As in the authors' ``run_squad_w_distillation.py``, except that padding is left out.
    """

    def loss(
        model: PreTrainedModel, batch: dict[str, Any], counts: dict[str, int]
    ) -> dict[str, Tensor]:
        count = 2 * counts["examples"]  # two labels an example: start and end
        logits = start_and_end(model, batch)  # 2·B, L
        labels = batch["labels"].T.flatten()  # 2·B
        against_labels = F.cross_entropy(logits, labels, reduction="sum") / count
        if teacher is None:
            return {"loss": against_labels, "task": against_labels}
        with torch.no_grad():
            targets = start_and_end(teacher, batch)  # 2·B, L
        soft_target = soft_target_loss(logits, targets, loss_config.temperature, count=count)
        total = loss_config.label_weight * against_labels + loss_config.kd_weight * soft_target
        return {"loss": total, "task": against_labels, "soft_target": soft_target}

    return loss


def start_and_end(model: PreTrainedModel, batch: Mapping[str, Any]) -> Tensor:
    """Logits [2·B, L] of the answer's first token, then of its last; -1e4 at padding."""
    out = model(**inputs_of(model, batch))
    logits = at_least_float32(torch.cat([out.start_logits, out.end_logits]))
    return logits.masked_fill(batch["attention_mask"].repeat(2, 1) == 0, _PADDING)


def squad_scores(
    model: PreTrainedModel, split: Windows, data: Mapping[str, Any]
) -> dict[str, float | None]:
    """``exact_match`` and ``f1`` of a model on a split, each between 0 and 1."""
    from distilkit.data.metrics import SquadMetric  # `evaluate` is needed only here

    examples = split.examples

    def outputs(batch: dict[str, Tensor]) -> Tensor:
        return start_and_end(model, batch).unflatten(0, (2, -1)).transpose(0, 1)  # B, 2, L

    padded = by_example(model, examples, outputs, BATCH)
    logits = [each[:, :n] for each, n in zip(padded, examples.lengths, strict=True)]
    starts, ends = zip(*logits, strict=True)
    if not all(np.isfinite(each).all() for each in logits):
        raise FloatingPointError("squad: the model's predictions are not finite")
    answers = best_answers(split, list(data["context"][:]), starts, ends)
    references = [list(answer["text"]) for answer in data["answers"][:]]
    return SquadMetric().compute(predictions=answers, references=references)
