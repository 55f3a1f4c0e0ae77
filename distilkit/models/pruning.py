"""Structured pruning: remove attention heads and feed-forward units from a model.

Michel, Levy and Neubig 2019 (arXiv 1905.10650), section 2.3. The smaller model gives the logits of
the whole one with those heads and units set to 0. It is a plain Hugging Face model.

No Hugging Face config can say that layers have different numbers of heads and units. So the config
gets one attribute more, ``pruned``. Stock ``from_pretrained`` refuses such a folder (the shapes do
not match); everything in the kit that takes a checkpoint reads it.
"""

import copy
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from distilkit.families import BERT_TO_DISTILBERT, PRUNED, family_of
from distilkit.processes import seeded

# of a BERT layer, in the order of the class Layer
_PARTS = tuple(name for name in BERT_TO_DISTILBERT if not name.endswith("LayerNorm"))


class Layer(NamedTuple):
    """The parts of a layer that pruning cuts; the model's own modules. d is a head's size."""

    head_size: int
    into_heads: tuple[nn.Linear, nn.Linear, nn.Linear]  # query, key, value: [heads · d, H]
    out_of_heads: nn.Linear  # [H, heads · d]
    into_units: nn.Linear  # [units, H]
    out_of_units: nn.Linear  # [H, units]

    @property
    def heads(self) -> int:
        return self.out_of_heads.in_features // self.head_size

    @property
    def units(self) -> int:
        return self.out_of_units.in_features


def layers_of(model: PreTrainedModel) -> list[Layer]:
    """List the layers of a BERT, DistilBERT or RoBERTa, first to last.

    TypeError for another class, or matrices that are no plain ones (int8, adapters).
    """
    family = family_of(model)
    known = family is not None and family.classes in ("Bert", "DistilBert", "Roberta")
    if not (known and type(model).__name__.startswith(family.classes)):
        raise TypeError(
            f"pruning knows no {type(model).__name__}: give a BERT, DistilBERT or RoBERTa"
        )
    c, layers = model.config, []
    names = [BERT_TO_DISTILBERT[n] if c.model_type == "distilbert" else n for n in _PARTS]
    for layer in model.base_model.get_submodule(family.layers):
        parts = [layer.get_submodule(name) for name in names]
        if odd := [part for part in parts if type(part) is not nn.Linear]:
            raise TypeError(
                f"the model has a {type(odd[0]).__name__} in place of a plain nn.Linear: prune it "
                "before it is quantized or given adapters"
            )
        layers.append(Layer(c.hidden_size // c.num_attention_heads, tuple(parts[:3]), *parts[3:]))
    return layers


def prune(
    model: PreTrainedModel,
    heads: Mapping[int, Sequence[int]] | None = None,
    units: Mapping[int, Sequence[int]] | None = None,
) -> PreTrainedModel:
    """Copy a BERT, DistilBERT or RoBERTa without the named attention heads and feed-forward units.

    `heads` and `units` map a layer to those to remove, all numbered from 0. A layer may lose all of
    them; what is left of it then are the biases. A pruned model can be pruned again: the numbers
    are always those of the model that is given.
    """
    layers = layers_of(model)
    left_heads = _left("heads", heads or {}, [layer.heads for layer in layers])
    left_units = _left("units", units or {}, [layer.units for layer in layers])
    pruned = copy.deepcopy(model)
    _cut(pruned, left_heads, left_units)
    return pruned


def read_pruned(kind: Any, folder: Path, **options: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Read a pruned checkpoint for :func:`distilkit.models.loading.load_model`.

    Return the model, in float32 and eval mode, and transformers' loading info. Weights that the
    file lacks, or has in another shape, stay random. FileNotFoundError or SafetensorError if there
    are no weights to read.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **options)
        config.dtype = torch.float32
        with seeded():  # random weights are replaced, here or by the caller
            model = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
        layers, left = layers_of(model), getattr(config, PRUNED)
        kept = (
            [range(getattr(layer, part))[:n] for layer, n in zip(layers, left[part], strict=True)]
            for part in ("heads", "units")
        )
        _cut(model, *kept)
        if getattr(model.config, PRUNED) != left:
            raise ValueError(f"{PRUNED} = {left}, and the layers have fewer, or it is negative")
    except Exception as error:  # of three libraries; re-raised with the file's name
        raise ValueError(
            f"{folder / 'config.json'} makes no pruned model ({type(error).__name__}: {error})"
        ) from error
    state = load_file(folder / "model.safetensors")
    prefix = f"{model.base_model_prefix}."  # of the encoder's names where there is a head
    if model.base_model is model:
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    elif not any(name.startswith(prefix) for name in state):
        state = {prefix + name: value for name, value in state.items()}
    own = model.state_dict(keep_vars=True)
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    model.load_state_dict(fitting, strict=False)
    read = {id(own[name]) for name in fitting}  # a tied weight is stored once
    info = {
        "missing_keys": {name for name, value in own.items() if id(value) not in read},
        "unexpected_keys": state.keys() - own.keys(),
        "mismatched_keys": {(name,) for name in state.keys() & own.keys() - fitting.keys()},
    }
    return model.eval(), info


def _cut(
    model: PreTrainedModel, heads: Sequence[Sequence[int]], units: Sequence[Sequence[int]]
) -> None:
    """Leave these heads and units in each layer, in place; write their numbers into the config."""
    layers = layers_of(model)
    for layer, some_heads, some_units in zip(layers, heads, units, strict=True):
        d = layer.head_size
        of_heads = [head * d + i for head in some_heads for i in range(d)]
        for part in layer.into_heads:
            _select(part, 0, of_heads)
        _select(layer.out_of_heads, 1, of_heads)
        _select(layer.into_units, 0, some_units)
        _select(layer.out_of_units, 1, some_units)
    left = {"heads": [layer.heads for layer in layers], "units": [layer.units for layer in layers]}
    setattr(model.config, PRUNED, left)


def _select(linear: nn.Linear, dim: int, keep: Sequence[int]) -> None:
    """Leave these rows (dim 0, of the bias too) or columns (dim 1) of a matrix."""
    index = torch.tensor(keep, dtype=torch.long, device=linear.weight.device)
    names = ["weight", "bias"] if dim == 0 and linear.bias is not None else ["weight"]
    for name in names:
        old = getattr(linear, name)
        new = old.detach().index_select(dim, index)
        setattr(linear, name, nn.Parameter(new, requires_grad=old.requires_grad))
    linear.out_features, linear.in_features = linear.weight.shape


def _left(what: str, removed: Mapping[int, Sequence[int]], counts: Sequence[int]) -> list[list]:
    """List what remains in each layer after a removal; ValueError if it is not possible."""
    whole = [*removed, *(i for some in removed.values() for i in some)]
    if wrong := [i for i in whole if isinstance(i, bool) or not isinstance(i, Integral)]:
        raise ValueError(f"{what}: {wrong[0]!r} is no whole number; give {{layer: [{what}]}}")
    if outside := [layer for layer in removed if not 0 <= layer < len(counts)]:
        raise ValueError(
            f"{what}: no layer {outside[0]}; the model's {len(counts)} layers are numbered 0 to "
            f"{len(counts) - 1}"
        )
    for layer, some in removed.items():
        if outside := [i for i in some if not 0 <= i < counts[layer]]:
            raise ValueError(
                f"{what}: layer {layer} has {counts[layer]} of them, numbered from 0; there is no "
                f"number {outside[0]}"
            )
        if len(set(some)) < len(some):
            raise ValueError(f"{what}: layer {layer} names one twice: {sorted(some)}")
    gone = [set(removed.get(layer, ())) for layer in range(len(counts))]
    return [[i for i in range(n) if i not in out] for n, out in zip(counts, gone, strict=True)]
