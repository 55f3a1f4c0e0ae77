"""Labelled texts as training data for the loop, in batches padded to their own longest text."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from distilkit.data.question_answering import Passages
from distilkit.data.rows import Rows
from distilkit.losses import IGNORE as NOT_A_WORD  # the label of a token that no word begins with
from distilkit.masking import give_back, in_pieces

KINDS = {"input_ids": np.int32, "token_type_ids": np.uint8}
# Tokens, padding included, that a model reads at once where nothing is trained. More are no faster
# on a CPU, and its allocator keeps memory of every shape: 37 MB after 10,000 sentences read by
# all-MiniLM-L6-v2, but 317 MB with 2**12.
AT_ONCE_ON_CPU, AT_ONCE = 2**10, 2**14


class Examples:
    """Encoded texts and their labels.

    Args:
        encoded: ``input_ids`` and ``token_type_ids``: :class:`Rows`, or a list for each example.
        labels: [examples, ...]; or one [tokens] for each example, NOT_A_WORD where no word begins.
            An example (or word) without a label has -1, or NaN if labels are real.
        pad_id: what fills the shorter texts of a batch.
        seed: of the order.
        words: for each example with labels on words, the labels [words] of all its words, and the
            numbers of those that the tokens hold.
        passages: where the windows of question answering, the examples here, come from; labels are
            [windows, 2].
        teacher: the same texts in the ids of a teacher's tokenizer, and that tokenizer.
    """

    def __init__(
        self,
        encoded: Mapping[str, Any],
        labels: np.ndarray | list[np.ndarray],
        *,
        pad_id: int,
        seed: int,
        words: list[tuple[np.ndarray, np.ndarray]] | None = None,
        passages: Passages | None = None,
        teacher: tuple[Mapping[str, Any], PreTrainedTokenizerBase] | None = None,
    ) -> None:
        of = {k: v if isinstance(v := encoded[k], Rows) else Rows(d, v) for k, d in KINDS.items()}
        self.input_ids, self.token_type_ids = of["input_ids"], of["token_type_ids"]
        self.labels, self.words, self.passages = labels, words, passages
        self.lengths = self.input_ids.lengths
        self.pad_id, self.seed = pad_id, seed
        self.teacher = None
        if teacher is not None:
            ids, tokenizer = teacher
            self.teacher = Examples(ids, labels, pad_id=tokenizer.pad_token_id, seed=seed)

    @property
    def on_words(self) -> bool:
        """Tell whether words have labels, rather than examples."""
        return isinstance(self.labels, list)

    @property
    def targets(self) -> Any:
        """The labels that a prediction is compared with, in the data's order.

        [examples, ...]; or for each example those of all its words, or its acceptable answers.
        """
        if self.passages is not None:
            return self.passages.answers
        return [own for own, _ in self.words] if self.on_words else self.labels

    def digest(self) -> str:
        """SHA-256 of inputs and labels, for the run's configuration."""
        labels = self.labels if self.on_words else [self.labels]
        digest = hashlib.sha256()
        labels = [*labels, *(every for every, _ in self.words or ())]  # cut words are scored too
        for part in (*labels, self.lengths.astype(np.int64)):
            digest.update(part.tobytes())
        for rows in (self.input_ids, self.token_type_ids):
            for piece in in_pieces(rows.flat):
                digest.update(piece.astype(np.int64).tobytes())
        if self.passages is not None:
            digest.update(repr(self.passages.answers).encode())
        if self.teacher is not None:
            digest.update(self.teacher.digest().encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def order(self, epoch: int, batch_size: int) -> np.ndarray:
        """A permutation in which a batch holds texts of similar length, to save padding.

        Batches stay random: lengths are sorted only within random groups of 50 batches, and the
        batches of a group are shuffled again.
        """
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self))
        # the incomplete batch is left out, or it would always be the longest texts
        whole = len(self) // batch_size * batch_size
        for start in range(0, whole, 50 * batch_size):
            group = order[start : min(start + 50 * batch_size, whole)]
            group[:] = group[np.argsort(self.lengths[group], kind="stable")]
            group[:] = random.permutation(group.reshape(-1, batch_size)).ravel()
        return order

    def batch(self, epoch: int, ids: Sequence[int]) -> dict[str, Any]:
        """Return a micro-batch, the same in every epoch.

        Returns:
            ``input_ids``, ``attention_mask``, ``token_type_ids``: [B, L], L the longest text here.
            ``labels``: [N, ...], N = B examples; or N words, with their positions ``rows`` [N] in
            [B · L]. ``teacher``: the three inputs in the teacher's ids, if they are others.
            ``counts``: ``examples`` B, ``tokens``, ``targets`` N, and ``labels``, how many of these
            have a label.
        """
        batch: dict[str, Any] = self._inputs(ids)
        if self.on_words:
            labels = _padded(self.labels, ids, NOT_A_WORD).flatten().numpy()
            rows = np.flatnonzero(labels != NOT_A_WORD)
            labels, batch["rows"] = labels[rows], torch.from_numpy(rows)
        else:
            labels = self.labels[ids]
        if self.teacher is not None:
            batch["teacher"] = self.teacher._inputs(ids)
        batch["labels"] = torch.from_numpy(labels)
        batch["counts"] = {
            "examples": len(ids),
            "tokens": int(self.lengths[ids].sum()),
            "targets": len(labels),
            "labels": int(is_labelled(labels).sum()),
        }
        return batch

    def _inputs(self, ids: Sequence[int]) -> dict[str, Tensor]:
        lengths = self.lengths[ids]
        inputs = {
            "input_ids": _padded(self.input_ids, ids, self.pad_id),
            "attention_mask": torch.from_numpy(
                (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
            ),
            "token_type_ids": _padded(self.token_type_ids, ids, 0),
        }
        for each in (self.input_ids, self.token_type_ids):
            give_back(each.flat)
        return inputs


def _padded(rows: Any, ids: Sequence[int], value: int) -> Tensor:
    """Return some rows as a tensor [B, L], filled up with a value."""
    each = [torch.from_numpy(np.array(rows[i], np.int64)) for i in ids]
    return pad_sequence(each, batch_first=True, padding_value=value)


def by_length(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Split texts, longest first, into batches of at most `tokens`, padding included."""
    order, batches = np.argsort(-lengths, kind="stable"), []
    while len(order):  # the first text of a batch is its longest
        size = max(1, tokens // int(lengths[order[0]]))
        batches.append(order[:size])
        order = order[size:]
    return batches


def tokens_at_once(device: torch.device) -> int:
    """Return how many tokens a model on `device` should read at once where nothing is trained."""
    return AT_ONCE_ON_CPU if device.type == "cpu" else AT_ONCE


def is_labelled(labels: np.ndarray) -> np.ndarray:
    """Return [N]: which of the labels [N] or [N, C] are there, neither -1 nor NaN."""
    known = ~np.isnan(labels) if labels.dtype.kind == "f" else labels >= 0
    return known if known.ndim == 1 else known.all(-1)
