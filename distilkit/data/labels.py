"""Meaning of a label column: the kind of task, the names in order, and the numbers."""

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from distilkit.data.question_answering import first_answer
from distilkit.data.tables import Table, shown
from distilkit.data.tasks import UNLABELLED, Kind

MOST_LABELS = 1000
ENTITY_TAG = re.compile(r"[BIESLU]-.")


class Labels(NamedTuple):
    """Meaning of a label column."""

    kind: Kind
    names: tuple[str, ...]  # in the order of their numbers; none without classes


def is_missing(value: Any) -> bool:
    """Tell whether a value stands for "no label"."""
    if isinstance(value, dict):  # the answers to a question
        return not value.get("text")
    return value is None or (isinstance(value, str) and value.strip() in ("", "?"))


def as_number(value: Any) -> float | None:
    """Return a number, or a text that is one, as float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def meaning_of(
    table: Table,
    rows: Sequence[int],
    targets: Sequence[str],
    on_words: bool,
    kind: Kind | None,
    labels: Sequence[str] | None,
) -> Labels:
    """Infer the labels' kind, and their names in order."""
    if kind == "question_answering":
        return Labels(kind, ())
    values = [table.columns[targets[0]][row] for row in rows]
    lists = sum(isinstance(value, list) for value in values)
    if on_words:
        seen: Kind = "token_classification"
    elif len(targets) > 1 or lists:
        seen = "multi_label_classification"
    else:
        numbers = [as_number(value) for value in values]
        if kind is None and all(re.fullmatch(r"[+-]?\d+,\d+", str(value)) for value in values):
            raise ValueError(
                f"{table.where}, column {targets[0]!r}: {values[0]!r} has a comma: write decimals "
                "with a point, or say that they are classes (kind)"
            )
        has_decimals = None not in numbers and any(number % 1 for number in numbers)
        seen = "regression" if has_decimals else "single_label_classification"
    both = {seen, kind} == {"regression", "single_label_classification"}
    if kind not in (None, seen) and not both:
        raise ValueError(
            f"{table.where}: the column {targets[0]!r} looks like {seen}, not like {kind}: change "
            "the columns, or leave out kind"
        )
    kind = kind or seen
    if kind == "regression":
        numbers = {as_number(value) for value in values}
        if len(numbers) < 2 and None not in numbers:  # other texts are refused with their line
            raise ValueError(f"{table.where}: all labels are {values[0]!r}: nothing to learn")
        return Labels(kind, ())
    if len(targets) > 1:
        names = tuple(targets)
    elif targets[0] in table.names:
        names = tuple(dict.fromkeys(map(_label_name, table.names[targets[0]])))
    else:
        names = _sorted_names(
            chain.from_iterable(v if isinstance(v, list) else [v] for v in values)
        )
    lengths = {len(value) for value in values if isinstance(value, list)} - {1}
    flags = len(lengths) == 1 and names and {"0", "1", "False", "True"} >= set(names)
    tags = names and all(name == "O" or ENTITY_TAG.match(name) for name in names)
    if lists and not on_words and labels is None and (flags or tags):
        raise ValueError(
            f"{table.where}, column {targets[0]!r} holds lists of {', '.join(names)}: give a "
            "column for each label, or lists of a text's labels. Labels of words need lists of "
            "words in place of texts"
        )
    _check_names(names, values, kind, table, targets, in_order=labels is not None)
    if labels is not None:
        names = _given_order(names, labels, table, targets)
        if len(targets) not in (1, len(names)):
            raise ValueError(f"labels = {names}: there are {len(targets)} columns of labels")
    return Labels(kind, names)


def _label_name(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _sorted_names(values: Iterable[Any]) -> tuple[str, ...]:
    """Sort label names: numbers by size, False before True, O before the tags of entities."""
    names = {_label_name(value) for value in values if value is not None}
    if all(as_number(name) is not None for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    if all(name == "O" or ENTITY_TAG.match(name) for name in names):
        return tuple(sorted(names, key=lambda tag: (tag != "O", tag[2:], tag)))
    return tuple(sorted(names))


def _given_order(
    names: tuple[str, ...], labels: Sequence[str], table: Table, targets: Sequence[str]
) -> tuple[str, ...]:
    labels = tuple(_label_name(label) for label in labels)
    if absent := sorted(set(names) - set(labels)):
        raise ValueError(
            f"{table.where}, column {targets[0]!r}: {absent[0]!r} is not among the labels "
            f"{', '.join(labels)}"
        )
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels = {labels}: name each once")
    return labels


def _check_names(
    names: tuple[str, ...],
    values: list[Any],
    kind: Kind,
    table: Table,
    targets: Sequence[str],
    *,
    in_order: bool,
) -> None:
    """Refuse names that look like a mistake; if `in_order`, listed by the user, only too many."""
    where = f"{table.where}, column {targets[0]!r}"
    if len(names) < 2 and kind != "multi_label_classification" and not in_order:
        raise ValueError(f"{where}: one label only, {names[0]!r}: at least two are needed")
    different = len({str(value) for value in values})
    texts = kind == "single_label_classification" and different > 20
    if len(names) > MOST_LABELS or (texts and different > len(values) / 2):
        scale = kind == "single_label_classification"
        advice = " For numbers on a scale give kind='regression'." if scale else ""
        raise ValueError(
            f"{where}: {different} different values in {len(values)} rows, too many for classes: "
            f"check label_column.{advice}"
        )
    lower: dict[str, str] = {}
    for name in () if in_order else names:
        if (other := lower.setdefault(name.lower(), name)) != name:
            raise ValueError(
                f"{where}: the labels {other!r} and {name!r} differ in case only: make them one, "
                "or list them in labels=[...]"
            )


def numbers_of(
    table: Table, rows: list[int], targets: Sequence[str], meaning: Labels, columns: Sequence[str]
) -> list[Any] | None:
    """Return the labels of these rows as numbers; None if no row has one."""
    number_of = {name: i for i, name in enumerate(meaning.names)}
    several = len(targets) > 1
    values = [[table.columns[name][row] for name in targets] for row in rows]
    if all(is_missing(value) for row in values for value in row):
        return None
    if meaning.kind == "question_answering":
        passages = table.columns[columns[1]]
        for row, (label,) in zip(rows, values, strict=True):
            first_answer(passages[row], label, f"{table.place(row)}, column {targets[0]!r}")
        return [{name: label[name] for name in ("text", "answer_start")} for (label,) in values]
    names = table.names.get(targets[0], ())
    if not several and names and all(value == [UNLABELLED] for value in values):
        return None

    def number(value: Any, where: str) -> int:
        if names and isinstance(value, int) and 0 <= value < len(names):
            value = names[value]
        label_number = number_of.get(_label_name(value))
        if label_number is None:
            raise ValueError(
                f"{where}: the label {shown(value)} does not occur in the training data; its "
                f"labels are {', '.join(meaning.names[:20])}"
            )
        return label_number

    result: list[Any] = []
    for row, value in zip(rows, values, strict=True):
        where = f"{table.place(row)}, column {targets[0]!r}"
        first = value[0]
        if meaning.kind == "regression":
            as_float = as_number(first)
            if as_float is None or not np.isfinite(as_float):
                raise ValueError(f"{where} holds {shown(first)}, not a finite number")
            result.append(as_float)
        elif meaning.kind == "single_label_classification":
            if isinstance(first, list):
                raise ValueError(f"{where} holds a list: give one label in each row")
            result.append(number(first, where))
        elif several:
            flags = {
                name: _flag(v, f"{table.place(row)}, column {name!r}")
                for name, v in zip(targets, value, strict=True)
            }
            result.append([flags[name] for name in meaning.names])  # maybe a teacher's order
        else:
            if not isinstance(first, list):
                raise ValueError(f"{where} holds {shown(first)}, not a list of labels")
            numbers = [number(each, where) for each in first]
            if meaning.kind == "token_classification":
                words = table.columns[columns[0]][row]
                if len(words) != len(numbers):
                    raise ValueError(
                        f"{table.place(row)}: {len(words)} words and {len(numbers)} labels"
                    )
                result.append(numbers)
            else:
                result.append([float(i in numbers) for i in range(len(meaning.names))])
    return result


def _flag(value: Any, where: str) -> float:
    text = str(value).strip().lower()
    if text in ("1", "1.0", "true"):
        return 1.0
    if text in ("0", "0.0", "false"):
        return 0.0
    raise ValueError(f"{where} holds {shown(value)}: of several label columns each is 0 or 1")
