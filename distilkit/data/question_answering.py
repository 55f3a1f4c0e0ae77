"""Extractive question answering: passages in windows, and answers out of logits.

SQuAD v1.1 (Rajpurkar et al. 2016, arXiv 1606.05250), read as BERT's authors do (Devlin et al. 2019,
section 4.2). Unlike in their code, `STRIDE` is the number of tokens that two windows share, not
the step between them. And a span may be taken from any window that holds it.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from transformers import BatchEncoding, PreTrainedTokenizerBase

STRIDE = 128  # tokens that two windows share; a third of shorter windows
LONGEST_ANSWER = 30  # tokens; BERT's authors' limit
CANDIDATES = 20  # starts, and ends, that are tried in each window


class Passages(NamedTuple):
    """The passages that a split's windows come from."""

    of_window: np.ndarray  # [windows] number of the example
    offsets: list[np.ndarray]  # each [tokens, 2]: characters of the passage; -1 outside of it
    texts: list[str]  # [examples]
    answers: list[list[str]]  # [examples] the acceptable ones; none without a label


def joined(parts: Sequence[Passages]) -> Passages:
    """Return the passages of some splits as those of one."""
    firsts = np.cumsum([0, *(len(part.texts) for part in parts)])
    of_window = [part.of_window + first for part, first in zip(parts, firsts, strict=False)]
    lists = zip(*(part[1:] for part in parts), strict=True)
    return Passages(np.concatenate(of_window), *(list(chain.from_iterable(x)) for x in lists))


def windows(
    questions: Sequence[str],
    passages: Sequence[str],
    labels: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> tuple[BatchEncoding, np.ndarray, Passages]:
    """Cut examples into windows ``[CLS] question [SEP] part of the passage [SEP]``.

    Labels are as :func:`first_answer` takes them. Returns the encoded windows; the answer's first
    and last token, [windows, 2]; the passages. Tokens are 0, 0 if another window holds the answer,
    and -1, -1 without a label.
    """
    stride = min(STRIDE, max_length // 3)
    questions = [question.lstrip() for question in questions]
    longest = max(len(ids) for ids in tokenizer(questions, add_special_tokens=False)["input_ids"])
    if longest + tokenizer.num_special_tokens_to_add(pair=True) + stride >= max_length:
        raise ValueError(
            f"a question has {longest} tokens: max_length = {max_length} leaves the passage too "
            f"little room for windows that share {stride} tokens. Give more, or a model that has "
            "more positions (BERT's authors take 384)"
        )
    spans = [
        first_answer(passage, label, f"example {i}")
        for i, (passage, label) in enumerate(zip(passages, labels, strict=True))
    ]
    encoded = tokenizer(
        questions,
        list(passages),
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    of_window = np.asarray(encoded["overflow_to_sample_mapping"])
    offsets, numbers = [], np.zeros((len(of_window), 2), np.int64)
    for window, example in enumerate(of_window):
        passage = np.array([part == 1 for part in encoded.sequence_ids(window)])
        characters = np.array(encoded["offset_mapping"][window], np.int32)
        characters = np.where(passage[:, None], characters, -1)
        offsets.append(characters)
        if spans[example] is None:
            numbers[window] = -1
            continue
        start, end = spans[example]
        inside = np.flatnonzero(passage)
        if characters[inside[0], 0] <= start and characters[inside[-1], 1] >= end:
            first = inside[characters[inside, 0] <= start][-1]
            last = inside[characters[inside, 1] >= end][0]
            numbers[window] = first, last
    answers = [list(label["text"]) for label in labels]
    return encoded, numbers, Passages(of_window, offsets, list(passages), answers)


def best_answers(passages: Passages, logits: Sequence[np.ndarray]) -> list[str]:
    """Return the most probable span of each passage over all its windows, as text.

    `logits` are [windows], each [tokens, 2] of start and end; padding may follow. The text is ""
    where no window allows a span.
    """
    best = [(-np.inf, "")] * len(passages.texts)
    for example, characters, padded in zip(
        passages.of_window, passages.offsets, logits, strict=True
    ):
        start, end = padded[: len(characters)].T
        if not np.isfinite(start + end).all():
            raise FloatingPointError("the model's predictions are not finite")
        allowed = np.flatnonzero(characters[:, 0] >= 0)
        firsts, lasts = (
            allowed[np.argsort(-z[allowed], kind="stable")[:CANDIDATES]] for z in (start, end)
        )
        length = lasts[None] - firsts[:, None] + 1
        score = np.where(
            (length >= 1) & (length <= LONGEST_ANSWER), start[firsts][:, None] + end[lasts], -np.inf
        )
        i, j = np.unravel_index(score.argmax(), score.shape)
        if score[i, j] > best[example][0]:
            text = passages.texts[example][characters[firsts[i], 0] : characters[lasts[j], 1]]
            best[example] = (score[i, j], text)
    return [text for _, text in best]


def first_answer(passage: str, label: Any, where: str) -> tuple[int, int] | None:
    """Return the characters [start, end) of the answer that is trained on; None without one.

    `label` is ``{"text": [...], "answer_start": [...]}``, as in SQuAD on the Hub; `where` is the
    example's place. ValueError if the answer does not stand where it says.
    """
    keys = ("text", "answer_start")
    parts = [label.get(key) for key in keys] if isinstance(label, Mapping) else []
    if not parts or any(np.ndim(part) != 1 for part in parts) or len(parts[0]) != len(parts[1]):
        raise ValueError(
            f"{where}: the answer is {label!r}: give {{'text': [...], 'answer_start': [...]}}"
        )
    if not len(parts[0]):
        return None
    text, start = parts[0][0], int(parts[1][0])
    if not text or passage[start : start + len(text)] != text:
        raise ValueError(f"{where}: {text!r} does not stand at character {start} of its passage")
    return start, start + len(text)
