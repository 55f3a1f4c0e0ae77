"""SQuAD v1.1 as training data: question and passage in windows, and answers out of logits.

Rajpurkar et al. 2016 (arXiv 1606.05250), read as BERT's authors do (Devlin et al. 2019, section
4.2). Two differences from their code: `stride` is the number of tokens that two windows share, not
the step from one to the next, and a span may be taken from any window that holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from distilkit.data.examples import Examples
from distilkit.data.task_files import load_splits

if TYPE_CHECKING:
    from datasets import DatasetDict

HUB = "rajpurkar/squad"
COLUMNS = ("id", "question", "context", "answers")
LONGEST_ANSWER = 30  # tokens; BERT's authors' limit
CANDIDATES = 20  # starts, and ends, that are tried in each window


class Windows(NamedTuple):
    """A split's windows and where they come from."""

    examples: Examples  # labels [windows, 2]: first and last token of the answer; 0, 0 if not here
    of_example: np.ndarray  # [windows] number of the example
    offsets: list[np.ndarray]  # each [tokens, 2]: characters of the passage; -1 outside of it


def load_squad(source: str | Path = HUB) -> DatasetDict:
    """Load the splits ``train`` and ``validation``, from the Hub or ``<folder>/squad``.

    Raises:
        ValueError: columns that are not SQuAD's.
        FileNotFoundError: a folder without ``squad/train.parquet`` or ``squad/validation.parquet``.
    """
    return load_splits(source, "squad", ("train", "validation"), COLUMNS, (str(source),))


def windows(
    data: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 384,
    stride: int = 128,
    seed: int = 0,
) -> Windows:
    """Cut a split into windows ``[CLS] question [SEP] part of the passage [SEP]``.

    Args:
        data: with the columns ``question``, ``context`` and ``answers``.
        tokenizer: a fast one, which knows the characters of its tokens.
        max_length, stride: tokens of a window, and those that it shares with the next one.
        seed: of the order.

    Raises:
        ValueError: a slow tokenizer, a question that leaves the passage no room, an example
            without an answer, or one whose answer does not stand where it says.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            "SQuAD needs a fast tokenizer: answers are cut from the passage by characters"
        )
    questions = [question.lstrip() for question in data["question"][:]]
    longest = max(len(ids) for ids in tokenizer(questions, add_special_tokens=False)["input_ids"])
    if longest + tokenizer.num_special_tokens_to_add(pair=True) + stride >= max_length:
        raise ValueError(
            f"a question has {longest} tokens: max_length = {max_length} leaves the passage too "
            f"little room for windows that share {stride} tokens. Give more, or a model that has "
            "more positions (BERT's authors take 384)"
        )
    both = zip(data["context"][:], data["answers"][:], strict=True)
    answers = [_first_answer(i, context, answer) for i, (context, answer) in enumerate(both)]
    encoded = tokenizer(
        questions,
        list(data["context"][:]),
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    of_example = np.asarray(encoded["overflow_to_sample_mapping"])
    offsets, labels = [], np.zeros((len(of_example), 2), np.int64)
    for window, example in enumerate(of_example):
        passage = np.array([part == 1 for part in encoded.sequence_ids(window)])
        characters = np.where(passage[:, None], np.array(encoded["offset_mapping"][window]), -1)
        offsets.append(characters)
        start, end = answers[example]
        inside = np.flatnonzero(passage)
        if characters[inside[0], 0] <= start and characters[inside[-1], 1] >= end:
            first = inside[characters[inside, 0] <= start][-1]
            last = inside[characters[inside, 1] >= end][0]
            labels[window] = first, last
    examples = Examples(encoded, labels, pad_id=tokenizer.pad_token_id, seed=seed)
    return Windows(examples, of_example, offsets)


def best_answers(
    split: Windows, contexts: list[str], starts: list[np.ndarray], ends: list[np.ndarray]
) -> list[str]:
    """The most probable span of each passage over all its windows, as text.

    Args:
        contexts: [examples] passages.
        starts, ends: [windows] logits, each [tokens].

    Returns:
        [examples] texts; "" where no window allows a span.
    """
    best = [(-np.inf, "")] * len(contexts)
    for example, characters, start, end in zip(
        split.of_example, split.offsets, starts, ends, strict=True
    ):
        passage = characters[:, 0] >= 0
        firsts = _most_probable(start, passage)
        lasts = _most_probable(end, passage)
        length = lasts[None] - firsts[:, None] + 1
        score = np.where(
            (length >= 1) & (length <= LONGEST_ANSWER), start[firsts][:, None] + end[lasts], -np.inf
        )
        i, j = np.unravel_index(score.argmax(), score.shape)
        if score[i, j] > best[example][0]:
            text = contexts[example][characters[firsts[i], 0] : characters[lasts[j], 1]]
            best[example] = (score[i, j], text)
    return [text for _, text in best]


def _most_probable(logits: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    candidates = np.flatnonzero(allowed)
    return candidates[np.argsort(-logits[candidates], kind="stable")[:CANDIDATES]]


def _first_answer(example: int, context: str, answers: Mapping[str, Any]) -> tuple[int, int]:
    """Characters [start, end) of the answer that is trained on."""
    if not len(answers["text"]):
        raise ValueError(f"example {example} has no answer: SQuAD v1.1 always has one")
    start, text = int(answers["answer_start"][0]), answers["text"][0]
    if not text or context[start : start + len(text)] != text:
        raise ValueError(
            f"example {example}: {text!r} does not stand at character {start} of its passage"
        )
    return start, start + len(text)
