"""Model families: where an architecture keeps its layers and its masked-language-model head.

One table, by transformers' ``config.model_type``. A family that is not in it is refused, with the
list of those that are.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from distilkit.processes import seeded

# What a teacher's class may be called after its family: BertForMaskedLM, ...
HEADS = (
    *("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"),
    "ForQuestionAnswering",
)
ENCODER = "Model"  # the same without a head: BertModel, ...


class Family(NamedTuple):
    """Names in the models of one architecture."""

    classes: str  # what the names of its classes begin with
    layers: str  # the list of layers, below the base model
    transform: tuple[str | Callable[[Tensor], Tensor], ...]  # of the MLM head, in order
    decoder: str  # of the MLM head, tied to the word embeddings
    student: str = ""  # as `classes`, of the students, if they are of another family
    per_layer: tuple[str, ...] = ()  # lists of the config with an entry for each layer
    needs_layer_0: bool = False  # it lacks a part of the others: no other can take its place


_BERT_HEAD = ("cls.predictions.transform",), "cls.predictions.decoder"
_ROBERTA_HEAD = ("lm_head.dense", F.gelu, "lm_head.layer_norm"), "lm_head.decoder"

FAMILIES = {
    "bert": Family("Bert", "encoder.layer", *_BERT_HEAD, student="DistilBert"),
    "camembert": Family("Camembert", "encoder.layer", *_ROBERTA_HEAD),
    "deberta-v2": Family("DebertaV2", "encoder.layer", *_BERT_HEAD),  # and v3
    "distilbert": Family(
        "DistilBert",
        "transformer.layer",
        ("vocab_transform", "activation", "vocab_layer_norm"),
        "vocab_projector",
    ),
    "electra": Family("Electra", "encoder.layer", ("generator_predictions",), "generator_lm_head"),
    "ernie": Family("Ernie", "encoder.layer", *_BERT_HEAD),
    "modernbert": Family(
        "ModernBert",
        "layers",
        ("head",),
        "decoder",
        per_layer=("layer_types",),
        needs_layer_0=True,  # the only one without a norm at its start: the embeddings have it
    ),
    "mpnet": Family("MPNet", "encoder.layer", *_ROBERTA_HEAD),
    "roberta": Family("Roberta", "encoder.layer", *_ROBERTA_HEAD),
    "xlm-roberta": Family("XLMRoberta", "encoder.layer", *_ROBERTA_HEAD),
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

    transform: Callable[[Tensor], Tensor]  # [N, H] -> [N, E]: dense, activation, LayerNorm
    decoder: nn.Linear  # [N, E] -> [N, V], tied to the word embeddings; E is H but in ELECTRA


def family_of(model: Any) -> Family | None:
    """Return the row of a model's family; None if the table has none."""
    return FAMILIES.get(getattr(getattr(model, "config", None), "model_type", None))


def student_class(teacher: PreTrainedModel) -> type[PreTrainedModel]:
    """Return the class of a teacher's students: its own, but DistilBERT for a BERT."""
    name, family = type(teacher).__name__, family_of(teacher)
    for head in (*HEADS, ENCODER) if family else ():
        # transformers imports a model's module when its class is first named
        if type(teacher) is getattr(transformers, family.classes + head):
            return getattr(transformers, (family.student or family.classes) + head)
    raise TypeError(
        f"a student cannot be made from a {name}: load the teacher with "
        f"AutoModel, {', '.join('AutoModel' + head for head in HEADS)}; its model_type must be "
        f"one of {', '.join(FAMILIES)}"
    )


def mlm_head(model: PreTrainedModel) -> Head:
    """Return a model's MLM head, cut where the vocabulary begins; TypeError if it has none."""
    family = family_of(model)
    try:
        decoder = model.get_submodule(family.decoder)
        parts = [
            model.get_submodule(part) if isinstance(part, str) else part
            for part in family.transform
        ]
    except AttributeError:
        raise TypeError(
            f"{type(model).__name__} has no masked-language-model head: load the checkpoint with "
            f"AutoModelForMaskedLM; its model_type must be one of {', '.join(FAMILIES)}"
        ) from None
    return Head(lambda hidden: reduce(lambda h, part: part(h), parts, hidden), decoder)


def positions(model: nn.Module) -> int:
    """Return how many tokens a model can read at most; 2^31 without a table of positions.

    RoBERTa's and MPNet's tables have 514 rows for 512 tokens: they count from the padding id on.
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


def width_projections(
    student: PreTrainedModel, teacher: PreTrainedModel, pairs: int, seed: int
) -> nn.ModuleList | None:
    """Return a linear map [H] -> [H'] for each pair of hidden states; None where widths agree.

    They are trained with the student, then dropped (TinyBERT's W_h: Jiao et al. 2020, equation 8).
    """
    width, other = student.config.hidden_size, teacher.config.hidden_size
    if width == other:
        return None
    with seeded(seed):
        return nn.ModuleList(nn.Linear(width, other, bias=False) for _ in range(pairs))


def inputs_of(model: PreTrainedModel, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a model's inputs from a batch.

    Several families have no token types, a RoBERTa only one, which it fills in itself.
    """
    names = ["input_ids", "attention_mask"]
    takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
    if takes_types and getattr(model.config, "type_vocab_size", 2) > 1:
        names.append("token_type_ids")
    return {name: batch[name] for name in names}
