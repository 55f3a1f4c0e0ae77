"""Teacher and student embeddings of the same texts: Spearman on pairs, nearest neighbours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.preprocessing import normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.compress.engines import TORCH, each_engine
from distilkit.compress.held_out import paired_difference
from distilkit.compress.onnx_export import onnx_logits
from distilkit.data.examples import Examples
from distilkit.data.task_examples import is_scored, task_examples
from distilkit.data.tasks import Task
from distilkit.finetuning import by_example
from distilkit.models.sentence_encoder import Pooling, embeddings_of, pool

NEIGHBOURS = 10  # of each text
# A text's target is a row of numbers: the teacher's embedding
TEXTS = Task("texts", "Texts", ("text",), (), "regression")
SPEARMAN = Task("pairs", "Pairs", ("text", "text"), (), "regression", score="spearman")


def encoded(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, pooling: Pooling, seed: int = 0
) -> Examples:
    """Return texts as examples without labels, cut to the pooling's length."""
    length = pooling.max_length
    return task_examples({"text": texts}, TEXTS, tokenizer, max_length=length, seed=seed)


def embed(model: PreTrainedModel, examples: Examples, pooling: Pooling) -> np.ndarray:
    """Return a model's embeddings [N, H] of texts."""
    return np.stack(by_example(model, examples, lambda b: embeddings_of(model, b, pooling)))


def embed_onnx(session: Any, examples: Examples, pooling: Pooling) -> np.ndarray:
    """Return the embeddings [N, H] of an open ONNX file, one text at a time."""
    rows = []
    for batch in (examples.batch(0, [i]) for i in range(len(examples))):
        hidden = torch.from_numpy(onnx_logits(session, batch))
        rows.append(pool(hidden, batch["attention_mask"], pooling)[0].numpy())
    return np.stack(rows)


def measure_embeddings(
    models: Mapping[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    pooling: Pooling,
    texts: Sequence[str],
    pairs: Task | None,
    folder: Path,
) -> pd.DataFrame:
    """Score and time encoders in each engine, exported to `folder`; the first is the teacher.

    See :func:`distilkit.compress.embeddings.compress_embeddings` for the table.
    """
    firsts, seconds, labels = columns_of(pairs)
    examples = encoded([*texts, *firsts, *seconds], tokenizer, pooling)
    parts = np.cumsum([len(texts), len(firsts)])
    rows, reference = [], None
    for costs, runner in each_engine(models, examples, folder):
        found = (embed if costs["engine"] == TORCH else embed_onnx)(runner, examples, pooling)
        row = {"model": costs["model"], "engine": costs["engine"], "split": "held-out"}
        held_out, first, second = np.split(normalize(found), parts)
        given = nearest(held_out), (first * second).sum(1)
        reference = reference or given  # the teacher's, in PyTorch
        if pairs is not None:
            row |= paired_difference(SPEARMAN, given[1], reference[1], labels)
        few = len(held_out) < 10 * NEIGHBOURS  # chance alone would make them agree
        row["agreement"] = np.nan if few else shared(given[0], reference[0])
        rows.append(row | costs)
    return pd.DataFrame(rows)


def columns_of(pairs: Task | None) -> tuple[list[str], list[str], np.ndarray]:
    """Return both texts of all scored pairs, and the scores. No split is trained on."""
    if pairs is None:
        return [], [], np.empty(0)
    data = (pairs.data or {}).items()  # GLUE's test set has no scores
    splits = [split for name, split in data if is_scored(pairs, split, name)]
    if len(pairs.columns) != 2 or not pairs.regression or not splits:
        raise ValueError(
            f"{pairs.name}: give pairs as two columns of texts and a column of numbers: "
            'task_from(file, text_columns=(..., ...), label_column=..., kind="regression")'
        )
    first, second = (
        [text for split in splits for text in split[column][:]] for column in pairs.columns
    )
    return first, second, np.concatenate([np.asarray(split["label"][:]) for split in splits])


def nearest(embeddings: np.ndarray) -> np.ndarray:
    """Return [N, k]: for each text the other texts with the highest cosines."""
    cosines = embeddings @ embeddings.T
    np.fill_diagonal(cosines, -np.inf)
    k = min(NEIGHBOURS, len(embeddings) - 1)
    return np.argpartition(-cosines, k - 1, axis=1)[:, :k]


def shared(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean share of neighbours [N, k] that two models have in common."""
    return float((one[:, :, None] == other[:, None]).any(2).mean())
