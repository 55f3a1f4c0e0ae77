"""Encode a task's split as training data for the loop; find and check its labels."""

import warnings
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
from transformers import BatchEncoding, PreTrainedTokenizerBase

from distilkit.data.examples import KINDS, NOT_A_WORD, Examples, is_labelled
from distilkit.data.question_answering import Passages, joined, windows
from distilkit.data.rows import Rows
from distilkit.data.tasks import UNLABELLED, Task

TEXTS_AT_ONCE = 1000  # that the tokenizer reads


def task_examples(
    data: Any,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    seed: int,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    unlabelled: Any = None,
) -> Examples:
    """Encode a split as training data for the loop.

    Args:
        data: a split with the task's columns; without ``label``, as GLUE's test sets may be, no
            example has a label.
        tokenizer: the model's; a fast one for token classification and question answering.
        max_length: longer inputs are cut, the longer text of a pair first; passages into windows.
        seed: of the order.
        teacher_tokenizer: of a teacher that reads other token ids. Only where texts have labels.
        unlabelled: more texts in the task's columns, which come last; labels are not read.
    """
    if (task.on_words or task.on_spans) and not tokenizer.is_fast:
        raise ValueError(
            f"{task.name}: labels inside a text need a fast tokenizer, and "
            f"{type(tokenizer).__name__} is not one: load it with AutoTokenizer"
        )
    if task.on_words:
        words, text = tokenizer(["a", "a"], is_split_into_words=True), tokenizer("a a")
        if words["input_ids"] != text["input_ids"]:
            warnings.warn(
                f"{task.name}: the tokenizer reads words as if no space stood before them. Unless "
                "the model was trained so, set add_prefix_space to true: for a RoBERTa in "
                "tokenizer_config.json, for others in tokenizer.json",
                stacklevel=1,  # once, however many splits
            )
    own = {name: Rows(kind) for name, kind in KINDS.items()}
    teachers = {name: Rows(kind) for name, kind in KINDS.items()}
    labels: list[Any] = []
    words: list[Any] = []
    passages: list[Passages] = []
    for texts, given in _pieces(task, data, unlabelled):
        if task.on_spans:
            encoded, numbers, passage = windows(*texts, given, tokenizer, max_length)
            passages.append(passage)
        else:
            encoded = _encode(texts, task, tokenizer, max_length)
        if task.on_words:
            numbers, of_words = _labels_of_tokens(encoded, texts[0], given)
            words += of_words
        elif not task.on_spans:
            numbers = _labels_of_texts(task, given, len(texts[0]))
        labels.append(numbers)
        for name, rows in own.items():
            rows.extend(encoded[name])
        if teacher_tokenizer is not None:
            encoded = _encode(texts, task, teacher_tokenizer, max_length)
            for name, rows in teachers.items():
                rows.extend(encoded[name])
    if not labels:
        raise ValueError(f"{task.name}: the split has no examples")
    return Examples(
        own,
        list(chain.from_iterable(labels)) if task.on_words else np.concatenate(labels),
        pad_id=tokenizer.pad_token_id,
        seed=seed,
        words=words if task.on_words else None,
        passages=joined(passages) if task.on_spans else None,
        teacher=None if teacher_tokenizer is None else (teachers, teacher_tokenizer),
    )


def _pieces(task: Task, data: Any, unlabelled: Any) -> Iterator[tuple[list[list[Any]], Any]]:
    """Yield texts, a list a column, and their labels or None, some examples at a time."""
    for part, own in ((data, True), (unlabelled, False)):
        count = 0 if part is None else len(part[task.columns[0]])
        has_labels = own and "label" in column_names(part)
        # an error in a labelled passage counts the examples from the first one on
        at_once = max(1, count) if task.on_spans and own else TEXTS_AT_ONCE
        for start in range(0, count, at_once):
            rows = slice(start, start + at_once)
            # sliced: a Column of datasets hands out its rows one by one, fifty times slower
            texts = [list(part[column][rows]) for column in task.columns]
            labels = part["label"][rows] if has_labels else None
            if task.on_spans and labels is None:
                labels = [{"text": [], "answer_start": []}] * len(texts[0])
            yield texts, labels


def column_names(data: Any) -> list[str]:
    """Return the columns of a `datasets` object or of a mapping."""
    return getattr(data, "column_names", None) or list(data)


def _encode(
    texts: list[list[Any]], task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> BatchEncoding:
    return tokenizer(
        *texts,
        is_split_into_words=task.on_words,
        truncation=True,
        max_length=max_length,
        return_token_type_ids=True,
    )


def _labels_of_texts(task: Task, labels: Any, count: int) -> np.ndarray:
    """Return [examples], or [examples, labels] where an example has several."""
    if labels is not None:
        return _numbers(task, labels)
    several = task.kind == "multi_label_classification"
    none, kind = (np.nan, np.float32) if several or task.regression else (UNLABELLED, np.int64)
    return np.full((count, len(task.labels)) if several else (count,), none, kind)


def _numbers(task: Task, labels: Any) -> np.ndarray:
    """Return labels as numbers; a class that is missing (None, NaN) becomes -1."""
    advice = "give the classes' numbers, or make the task by task_from"
    try:
        values = np.asarray(labels, np.float64)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise ValueError(f"{task.name}: labels are no numbers ({error}): {advice}") from None
    if task.kind != "single_label_classification":
        return values.astype(np.float32)
    values = np.where(np.isnan(values), UNLABELLED, values)
    if (wrong := values[np.isinf(values) | (values != values.round())]).size:
        raise ValueError(f"{task.name}: the label {wrong[0]:g} is no class: {advice}")
    return values.astype(np.int64)


def _labels_of_tokens(
    encoded: BatchEncoding, words: list[Any], labels: Any
) -> tuple[list[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
    """Return for each example [L]: a word's label at its first token, NOT_A_WORD elsewhere.

    Also return all word labels, and the indices of words that have a token: long texts are cut, and
    the tokenizer drops some characters.
    """
    result, of_words = [], []
    for i, sentence in enumerate(words):
        own = [UNLABELLED] * len(sentence) if labels is None else labels[i]
        numbers = np.full(len(encoded["input_ids"][i]), NOT_A_WORD, np.int64)
        before, read = None, []
        for position, word in enumerate(encoded.word_ids(i)):
            if word is not None and word != before:
                numbers[position] = own[word]
                read.append(word)
            before = word
        result.append(numbers)
        of_words.append((np.array(own, np.int64), np.array(read, np.int64)))
    return result, of_words


def labelled(task: Task, split: Any) -> np.ndarray:
    """Return [examples]: which of a split have a label; on words, which have one on any word."""
    count = len(split[task.columns[0]])
    if "label" not in column_names(split):
        return np.zeros(count, dtype=bool)
    _check_order(task, split)
    labels = split["label"][:]
    if task.on_spans:
        return np.array([len(label["text"]) > 0 for label in labels], dtype=bool)
    if task.on_words:
        return np.array([any(label >= 0 for label in words) for words in labels], dtype=bool)
    values = _numbers(task, labels)
    if task.regression and (values == UNLABELLED).all():  # STS-B's test set on the Hub
        return np.zeros(count, dtype=bool)
    return is_labelled(values)


def _check_order(task: Task, split: Any) -> None:
    """Raise ValueError if the data numbers a class otherwise than the task."""
    features = getattr(split, "features", None)  # of a frame, a column may be called so
    feature = features.get("label") if isinstance(features, Mapping) else None
    names = getattr(getattr(feature, "feature", feature), "names", None) or []
    for number, name in enumerate(names):
        if name in task.labels and task.labels.index(name) != number:
            raise ValueError(
                f"{task.name}: {name!r} is {number} in the data, whose labels are {names}, and "
                f"{task.labels.index(name)} in the task. Renumber them, and cast the column to "
                f"ClassLabel(names={list(task.labels)})"
            )


def is_scored(task: Task, split: Any, name: str) -> bool:
    """Tell whether a split has labels to be scored on; GLUE's test sets have none.

    ValueError if some examples have a label and others have none.
    """
    known = labelled(task, split)
    if known.any() and not known.all() and not task.on_words:
        raise ValueError(
            f"{task.name}, {name}: {int((~known).sum())} of {len(known)} examples have no label: "
            "leave them out of a split that is scored"
        )
    return bool(known.any())


def check_labels(task: Task, examples: Examples, split: str) -> None:
    """Raise ValueError if an encoded example has a label that the task does not have.

    On an accelerator such a label ends the process without saying which it was.
    """
    if task.on_spans:
        return  # compared with the passage already
    for values in examples.targets if task.on_words else [examples.labels]:
        allowed = "finite numbers, 0 or 1 for each of several labels"
        if task.regression:
            wrong = np.isinf(values)
        elif task.kind == "multi_label_classification":
            wrong = ~(np.isin(values, (0, 1)) | np.isnan(values))
        else:
            allowed = f"0 to {task.outputs - 1}, or {UNLABELLED} for none"
            wrong = (values < UNLABELLED) | (values >= task.outputs)
        if wrong.any():
            raise ValueError(f"{task.name}, {split}: label {values[wrong][0]}: give {allowed}")
