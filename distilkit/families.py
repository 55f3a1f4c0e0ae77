"""Model families: where an architecture keeps its layers and its masked-language-model head.

One table a question. A family that is not in a table is refused, with the list of those that are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    PreTrainedModel,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
)

from distilkit.processes import seeded

# Class of a teacher -> class of its student. A RoBERTa has no token types to remove, so its
# student is a RoBERTa of fewer layers, as DistilRoBERTa is.
STUDENT_CLASS = {
    BertForMaskedLM: DistilBertForMaskedLM,
    BertForSequenceClassification: DistilBertForSequenceClassification,
    BertForTokenClassification: DistilBertForTokenClassification,
    RobertaForMaskedLM: RobertaForMaskedLM,
    RobertaForSequenceClassification: RobertaForSequenceClassification,
    RobertaForTokenClassification: RobertaForTokenClassification,
}

# Parts of a BERT layer -> the same parts of a DistilBERT layer; each has a weight and a bias.
BERT_TO_DISTILBERT = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}

# The same of the masked-language-model head; the decoder's bias is what forward adds.
BERT_HEAD_TO_DISTILBERT = {
    "transform.dense": "vocab_transform",
    "transform.LayerNorm": "vocab_layer_norm",
    "decoder": "vocab_projector",
}

# Key in the config of a pruned model: {"heads": [left in each layer], "units": [likewise]}
PRUNED = "pruned"


class Head(NamedTuple):
    """The two parts of a masked-language-model head; parameters of the model itself."""

    transform: Callable[[Tensor], Tensor]  # [N, H] -> [N, H]: dense, activation, LayerNorm
    decoder: nn.Linear  # [N, H] -> [N, V], tied to the word embeddings


def mlm_head(model: PreTrainedModel) -> Head:
    """Return the MLM head of a BERT, DistilBERT or RoBERTa, cut where the vocabulary begins.

    Raises:
        TypeError: the model has no MLM head that this function knows.
    """
    if hasattr(model, "cls") and hasattr(model.cls, "predictions"):
        return Head(model.cls.predictions.transform, model.cls.predictions.decoder)
    if hasattr(model, "vocab_projector"):
        return Head(
            lambda h: model.vocab_layer_norm(model.activation(model.vocab_transform(h))),
            model.vocab_projector,
        )
    if hasattr(model, "lm_head") and hasattr(model.lm_head, "dense"):
        head = model.lm_head
        return Head(lambda h: head.layer_norm(F.gelu(head.dense(h))), head.decoder)
    raise TypeError(
        f"{type(model).__name__} has no masked-language-model head: load the checkpoint with "
        "AutoModelForMaskedLM"
    )


def positions(model: nn.Module) -> int:
    """Return how many tokens a model can read at most; 2^31 without a table of positions.

    RoBERTa's table has 514 rows for 512 tokens: it counts from the padding id on.
    """
    rows = getattr(model.config, "max_position_embeddings", None) or 2**31
    embeddings = getattr(getattr(model, "base_model", None), "embeddings", None)
    padding = getattr(embeddings, "padding_idx", None)
    return rows if padding is None else rows - padding - 1


def check_cosine_layers(
    pairs: Sequence[tuple[int, int]] | None, student: PreTrainedModel, teacher: PreTrainedModel
) -> None:
    """Raise ValueError if a pair (student layer, teacher layer) names a layer that is not there."""
    for pair in pairs or ():
        for layer, each, who in zip(pair, (student, teacher), ("student", "teacher"), strict=True):
            if layer > each.config.num_hidden_layers:
                raise ValueError(
                    f"cosine_layers holds {pair}, but the {who} has "
                    f"{each.config.num_hidden_layers} layers"
                )


def width_projections(pairs: int, width: int, other: int, seed: int) -> nn.ModuleList | None:
    """Return a linear map [H] -> [H'] for each pair of hidden states; None where widths agree.

    They are trained with the student, then dropped (TinyBERT's W_h: Jiao et al. 2020, equation 8).
    """
    if width == other:
        return None
    with seeded(seed):
        return nn.ModuleList(nn.Linear(width, other, bias=False) for _ in range(pairs))


def inputs_of(model: PreTrainedModel, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a model's inputs from a batch.

    A DistilBERT has no token types, a RoBERTa only one, which it fills in itself.
    """
    names = ["input_ids", "attention_mask"]
    takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
    if takes_types and getattr(model.config, "type_vocab_size", 2) > 1:
        names.append("token_type_ids")
    return {name: batch[name] for name in names}
