"""Toy teachers and students, and blocks of tokens for them."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM

from distilkit.masking import MaskedBlocks


def small_bert(layers: int = 4, vocab_size: int = 205, seed: int = 0, **more) -> BertForMaskedLM:
    """A BERT whose every weight, biases and norms too, differs from its initial value."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    shape |= {"max_position_embeddings": 64, "num_hidden_layers": layers} | more
    model = BertForMaskedLM(BertConfig(vocab_size=vocab_size, **shape)).eval()
    shake(model)
    return model


def shake(model: torch.nn.Module, size: float = 0.1) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * size)


def first_layers(checkpoint: Path, folder: Path, layers: int) -> Path:
    """A copy of a BERT's folder with its first layers alone."""
    shutil.copytree(checkpoint, folder)
    model = BertForMaskedLM.from_pretrained(folder)
    model.bert.encoder.layer = model.bert.encoder.layer[:layers]
    model.config.num_hidden_layers = layers
    model.save_pretrained(folder)
    return folder


# of a layer: the matrices that read the heads' outputs and the units' activations
_READERS = {
    "bert": ("encoder", "attention.output.dense", "output.dense"),
    "roberta": ("encoder", "attention.output.dense", "output.dense"),
    "distilbert": ("transformer", "attention.out_lin", "ffn.lin2"),
}


def zeroed(model, heads: dict[int, list[int]], units: dict[int, list[int]]):
    """A copy of the model in which nothing reads these heads and units."""
    model = copy.deepcopy(model)
    kind = model.config.model_type
    stack, after_heads, after_units = _READERS[kind]
    d = model.config.hidden_size // model.config.num_attention_heads
    with torch.no_grad():
        for part, removed, size in ((after_heads, heads, d), (after_units, units, 1)):
            for layer, numbers in removed.items():
                weight = model.get_parameter(f"{kind}.{stack}.layer.{layer}.{part}.weight")
                for number in numbers:
                    weight[:, number * size : (number + 1) * size] = 0
    return model


def teacher_and_text(folder: Path, tokenizer, texts: list[str]) -> list[str]:
    """A small teacher and a text in a folder, and the arguments of `distil` that name them."""
    small_bert(2).save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text("\n".join(texts))
    return ["--teacher", str(folder / "teacher"), "--text", str(folder / "text.txt")]


def ragged(tokenizer, n: int = 11, length: int = 24) -> MaskedBlocks:
    """Blocks with 5 to `length` real tokens each."""
    generator = np.random.default_rng(1)
    blocks = np.full((n, length), tokenizer.pad_token_id, dtype=np.int32)
    for row in blocks:
        real = generator.integers(5, length + 1)
        row[:real] = generator.integers(5, 205, real)
        row[0], row[real - 1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    return MaskedBlocks(blocks, tokenizer, seed=1)


def state_of(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(a, b) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
