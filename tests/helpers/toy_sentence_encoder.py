"""Toy sentence-embedding models, as sentence-transformers saves them."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from toy_models import small_bert
from transformers import BertModel


def save_sentence_encoder(
    folder: Path, tokenizer, *, mode: str = "mean", normalize: bool = True, length: int = 24
) -> Path:
    """Save an encoder of four layers; texts of more than `length` tokens are cut."""
    bert = small_bert()
    encoder = BertModel(bert.config, add_pooling_layer=False)
    encoder.load_state_dict(bert.bert.state_dict())
    encoder.save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    transformer = Transformer(str(folder / "encoder"), max_seq_length=length)
    modules = [transformer, Pooling(32, mode), *([Normalize()] if normalize else [])]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "teacher"))
    return folder / "teacher"


def reference(folder: Path, texts: list[str]):
    """The library's own embeddings [N, H]."""
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(texts)
