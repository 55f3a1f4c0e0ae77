"""What a scale names, loaded: teacher, text and tasks, from the Hub, from files, or made here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distilkit import glue, tinyworld
from distilkit.config import Scale, home
from distilkit.corpus import MaskedBlocks, pack, read_texts

if TYPE_CHECKING:
    from datasets import DatasetDict

VALIDATION_EVERY = 50  # one document in fifty is held out of a text that has no validation part


def tiny_world() -> Path:
    """The folder of the embedded tiny world, written on first use (some seconds)."""
    return tinyworld.write(home() / "data" / "cache" / "tinyworld")


def load_tokenizer(scale: Scale) -> PreTrainedTokenizerBase:
    """The teacher's tokenizer."""
    return AutoTokenizer.from_pretrained(scale.teacher)


def load_teacher(scale: Scale) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The scale's teacher, in eval mode and float32, and its tokenizer."""
    tokenizer = load_tokenizer(scale)
    teacher = AutoModelForMaskedLM.from_pretrained(scale.teacher, dtype=torch.float32)
    return teacher.eval(), tokenizer


def load_text(scale: Scale) -> tuple[list[str], list[str]]:
    """The documents of the scale's text: for training, and held out."""
    if scale.text is None:
        folder = tiny_world() / "text"
        return read_texts(folder / "train.parquet"), read_texts(folder / "validation.parquet")
    if Path(scale.text).suffix in (".txt", ".jsonl", ".parquet"):
        texts = read_texts(scale.text)
    else:
        import datasets

        name, _, config = scale.text.partition(":")
        data = datasets.load_dataset(name, config or None)
        texts, held_out = (
            [text for text in data[split]["text"] if text and not text.isspace()]
            if split in data
            else []
            for split in ("train", "validation")
        )
        if held_out:
            return texts, held_out
    if len(texts) < 2:
        raise ValueError(f"{scale.text} holds one document: at least two are needed, one held out")
    every = min(VALIDATION_EVERY, len(texts))
    train = [text for i, text in enumerate(texts) if (i + 1) % every]
    return train, texts[every - 1 :: every]


def load_blocks(
    scale: Scale, tokenizer: PreTrainedTokenizerBase
) -> tuple[MaskedBlocks, MaskedBlocks]:
    """The scale's text as blocks for the loop: for training, and held out."""
    train, held_out = load_text(scale)
    blocks = MaskedBlocks(
        pack(train, tokenizer, scale.length),
        tokenizer,
        seed=scale.distillation.seed,
    )
    validation = MaskedBlocks(
        pack(held_out, tokenizer, scale.length), tokenizer, seed=0, weights=blocks.weights
    )
    return blocks, validation


def load_task(scale: Scale, name: str) -> DatasetDict:
    """A GLUE task's splits from where the scale takes them."""
    return glue.load(name, scale.glue if scale.glue is not None else tiny_world() / "glue")
