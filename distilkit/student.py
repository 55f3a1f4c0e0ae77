"""A student from a teacher: fewer layers, each copied; no token types, no pooler.

Sanh et al. 2019 (arXiv 1910.01108), section 3: "initialize the student from the teacher by taking
one layer out of two". And: "the token-type embeddings and the pooler are removed while the number
of layers is reduced by a factor of 2".
"""

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from numbers import Integral

import torch
from torch import Tensor
from transformers import DistilBertConfig, DistilBertForMaskedLM, PreTrainedModel

from distilkit.families import (
    BERT_HEAD_TO_DISTILBERT,
    BERT_TO_DISTILBERT,
    PRUNED,
    family_of,
    student_class,
)
from distilkit.processes import seeded

DISTILBERT_LAYERS = (0, 2, 4, 7, 9, 11)  # of 12; the authors' extraction script

_EPS = 1e-12  # of DistilBERT's layer norms; not in its config, so a teacher must have it too


def default_layers(teacher_layers: int, student_layers: int | None = None) -> tuple[int, ...]:
    """Return the default layer map: evenly spaced from the first layer to the last.

    Layer i of k is teacher layer ``round(i · (n − 1) / (k − 1))``; k is by default half of n. For
    12 -> 6 this is (0, 2, 4, 7, 9, 11), the authors' map. Halves, which 12 -> 6 does not have, are
    rounded down, since lower layers are harder to do without: 6 -> 3 gives (0, 2, 5).
    """
    n = teacher_layers
    k = max(1, n // 2) if student_layers is None else student_layers
    if not 1 <= k <= n:
        raise ValueError(f"student_layers = {k}: a teacher of {n} layers gives 1 to {n}")
    if k == 1:
        return (0,)
    return tuple(-(((k - 1) - 2 * i * (n - 1)) // (2 * (k - 1))) for i in range(k))


def named_layer_maps(
    teacher_layers: int, student_layers: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Return the layer maps with a name: the default, every second layer, the first, the last.

    For 12 -> 6 the default is the authors', and is called so. "Every second" is there where the
    student has half of the teacher's layers. Two names may mean the same map.
    """
    n, default = teacher_layers, default_layers(teacher_layers, student_layers)
    k = len(default)
    names = {"the authors'" if (n, default) == (12, DISTILBERT_LAYERS) else "default": default}
    for first in (0, 1):
        layers = tuple(range(first, n, 2))[:k]
        if len(layers) == k >= n // 2:
            names[f"every second from {first}"] = layers
    return names | {"first": tuple(range(k)), "last": tuple(range(n - k, n))}


def check_layers(layers: Sequence[int], teacher_layers: int) -> tuple[int, ...]:
    """Return the layer map as a tuple; ValueError if it does not fit the teacher."""
    layers = tuple(layers)
    wrong = [i for i in layers if isinstance(i, bool) or not isinstance(i, Integral)]
    if not layers or wrong:
        raise ValueError(f"layers = {layers}: give at least one whole number")
    outside = [i for i in layers if not 0 <= i < teacher_layers]
    if outside:
        raise ValueError(
            f"layers = {layers}: {outside} not in the teacher, whose {teacher_layers} layers are "
            f"numbered 0 to {teacher_layers - 1}"
        )
    if any(a >= b for a, b in pairwise(layers)):
        raise ValueError(f"layers = {layers}: name each layer once, in the teacher's order")
    return layers


def check_teacher(teacher: PreTrainedModel) -> type[PreTrainedModel]:
    """Return the class of the teacher's students; TypeError or ValueError if it can have none."""
    of_student = student_class(teacher)
    if hasattr(teacher.config, PRUNED):
        raise ValueError("the teacher is pruned: make the student first, then prune the student")
    if getattr(teacher.config, "is_decoder", False):
        raise ValueError("the teacher is a decoder (is_decoder = True); a student is an encoder")
    if of_student is not type(teacher):  # a BERT's is a DistilBERT
        c = teacher.config
        if c.layer_norm_eps != _EPS:
            raise ValueError(
                f"the teacher's layer_norm_eps is {c.layer_norm_eps:g}; DistilBERT's is fixed at "
                f"{_EPS:g}, so the student would not compute what the teacher computes"
            )
        if getattr(c, "position_embedding_type", "absolute") not in (None, "absolute"):
            raise ValueError(
                f"the teacher's position_embedding_type is {c.position_embedding_type!r}; "
                "DistilBERT has absolute positions only"
            )
    return of_student


def student_from_teacher(
    teacher: PreTrainedModel, layers: Sequence[int] | None = None
) -> PreTrainedModel:
    """Make a student whose layers are copies of the named teacher layers.

    A BERT's student is a DistilBERT. In every other family it is of the teacher's class, with
    everything else copied, a classifier's head too; the rest is about BERT.

    Copied: word and position embeddings, their LayerNorm, the layers, and the whole head of a
    masked-language model, token classifier or question answerer. BERT adds its segment-0 token-type
    vector to every token of a single text. DistilBERT has no token types, so the vector goes into
    the position embeddings. With ``layers = range(depth)`` the student's logits are the teacher's.

    Left out: the other token types and the pooler. A DistilBERT sequence classifier has another
    head (a ReLU layer on [CLS]), which is new, from PyTorch's global generator: call
    ``torch.manual_seed`` before.

    Args:
        teacher: of a family in :data:`distilkit.families.FAMILIES`, with one of its heads or none.
        layers: teacher layers to copy, 0-based and ascending; by default :func:`default_layers`.

    Returns:
        A student in eval mode, with the teacher's kind of head, device and dtype.
    """
    of_student, c = check_teacher(teacher), teacher.config
    if layers is None:
        layers = default_layers(c.num_hidden_layers)
    layers = check_layers(layers, c.num_hidden_layers)
    if of_student is type(teacher):
        return _with_layers(teacher, layers)

    config = DistilBertConfig(
        vocab_size=c.vocab_size,
        max_position_embeddings=c.max_position_embeddings,
        sinusoidal_pos_embds=False,  # true would overwrite or freeze what is copied
        n_layers=len(layers),
        n_heads=c.num_attention_heads,
        dim=c.hidden_size,
        hidden_dim=c.intermediate_size,
        dropout=c.hidden_dropout_prob,
        attention_dropout=c.attention_probs_dropout_prob,
        activation=c.hidden_act,
        initializer_range=c.initializer_range,
        pad_token_id=c.pad_token_id,
        tie_word_embeddings=c.tie_word_embeddings,
    )
    if of_student is not DistilBertForMaskedLM:
        config.id2label, config.label2id = dict(c.id2label), copy.copy(c.label2id)
        config.problem_type = c.problem_type

    student = of_student(config).to(teacher.dtype)
    state = teacher.state_dict()
    own, new = ("bert.", "distilbert.") if teacher.base_model is teacher else ("", "")
    copied = student_state_dict({own + name: v for name, v in state.items()}, layers)
    copied = {name.removeprefix(new): v for name, v in copied.items()}
    # the head of these two is BERT's: one linear map
    if of_student.__name__.endswith(("TokenClassification", "QuestionAnswering")):
        head = ("classifier.", "qa_outputs.")
        copied |= {k: v.clone() for k, v in state.items() if k.startswith(head)}
    missing, unexpected = student.load_state_dict(copied, strict=False)
    own_head = ("pre_classifier.", "classifier.")
    left = [name for name in missing if not name.startswith(own_head)]
    if left or unexpected:
        raise RuntimeError(f"not copied: {left}; not in a {of_student.__name__}: {unexpected}")
    student.tie_weights()
    return student.to(teacher.device).eval()


def _with_layers(teacher: PreTrainedModel, layers: tuple[int, ...]) -> PreTrainedModel:
    """Copy the model with these layers only; what layers share is copied like the rest."""
    family, config = family_of(teacher), copy.deepcopy(teacher.config)
    if family.needs_layer_0 and layers[0] != 0:
        raise ValueError(
            f"layers = {layers}: the first layer of a {type(teacher).__name__} differs from the "
            "others, so its layer map must begin with 0"
        )
    config.num_hidden_layers = len(layers)
    for name in family.per_layer:
        setattr(config, name, [getattr(config, name)[layer] for layer in layers])
    student = type(teacher)(config).to(teacher.dtype)
    stack = "" if teacher.base_model is teacher else f"{teacher.base_model_prefix}."
    stack += f"{family.layers}."
    state = {}
    for name, value in teacher.state_dict().items():
        number, _, part = name.removeprefix(stack).partition(".")
        if not name.startswith(stack):
            state[name] = value
        elif int(number) in layers:
            state[f"{stack}{layers.index(int(number))}.{part}"] = value
    student.load_state_dict(state)  # strict: nothing missing, nothing left over
    return student.to(teacher.device).eval()


def student_state_dict(
    teacher_state: Mapping[str, Tensor], layers: Sequence[int]
) -> dict[str, Tensor]:
    """Return the part of a BERT's state dict that its student copies, by DistilBERT's names."""
    names = {  # the teacher's -> the student's
        f"bert.embeddings.{part}": f"distilbert.embeddings.{part}"
        for part in ("word_embeddings", "position_embeddings", "LayerNorm")
    }
    for new, old in enumerate(layers):
        for part, student_part in BERT_TO_DISTILBERT.items():
            name = f"bert.encoder.layer.{old}.{part}"
            names[name] = f"distilbert.transformer.layer.{new}.{student_part}"
    names |= {f"cls.predictions.{part}": name for part, name in BERT_HEAD_TO_DISTILBERT.items()}
    state = {
        f"{new}.{kind}": teacher_state[f"{old}.{kind}"].detach().clone()
        for old, new in names.items()
        for kind in ("weight", "bias")
        if f"{old}.{kind}" in teacher_state  # an encoder has no head, embeddings have no bias
    }
    # every token has exactly one position, so the constant vector can live there
    token_type_0 = teacher_state["bert.embeddings.token_type_embeddings.weight"][0]  # H
    state["distilbert.embeddings.position_embeddings.weight"] += token_type_0
    return state


def random_student_like(student: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Return a model of the same class and shape with random weights (paper, table 4)."""
    if hasattr(student.config, PRUNED):
        raise ValueError("the student is pruned: give the student that it was pruned from")
    with seeded(seed):
        model = type(student)(student.config)
    return model.to(student.device).eval()
