"""Hold out rows for validation and test, and count texts that stand on both sides."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SPLITS = ("train", "validation", "test")
HELD_OUT = 0.1  # of one table: for validation, and once more for test
LEAST_ROWS = 10  # of a table that is to be divided

Part = Mapping[str, list[Any]]  # column -> values


def divide(
    parts: Mapping[str, Part],
    by_class: bool,
    seed: int,
    notes: list[str],
    together: str | None = None,
) -> dict[str, Part]:
    """Give the data a validation split, and a test split where it is one table.

    Rows that are equal in the column `together` stay in one split.
    """
    if "validation" in parts:
        return {split: parts[split] for split in SPLITS if split in parts}
    train = parts["train"]
    number: dict[Any, int] = {}
    keys = train[together] if together else range(len(next(iter(train.values()))))
    of_row = np.array([number.setdefault(key, len(number)) for key in keys])
    rows = len(number)
    if rows < LEAST_ROWS:
        what = f"different values of {together!r}" if together else "rows"
        raise ValueError(f"{rows} {what} are too few to hold some out: give at least {LEAST_ROWS}")
    new = ("validation",) if "test" in parts else ("validation", "test")
    classes = np.zeros(rows, int)
    if by_class and "label" in train:
        classes = np.asarray(train["label"])
    # sorted by class, at random within; every tenth is held out, so each class gives its tenth
    order = np.random.default_rng(seed).permutation(rows)
    order = order[np.argsort(classes[order], kind="stable")]
    turn = np.arange(rows) % round(1 / HELD_OUT)
    rare = np.bincount(classes)[classes[order]] <= len(new)
    turn[rare] = len(new)  # a class of so few rows could be missing from the training data
    turn[order] = turn.copy()
    chosen = {split: np.flatnonzero(turn[of_row] == i) for i, split in enumerate(new)}
    chosen["train"] = np.flatnonzero(turn[of_row] >= len(new))
    shares = "80/10/10" if len(new) == 2 else "90/10"
    notes.append(f"split {shares} by seed {seed}" + (", by class" if classes.any() else ""))
    divided = {
        split: {name: [values[i] for i in chosen[split]] for name, values in train.items()}
        for split in SPLITS
        if split in chosen
    }
    return divided | {split: part for split, part in parts.items() if split not in divided}


def text_key(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return the texts of one example, for comparison."""
    return tuple(tuple(v) if isinstance(v, list) else v for v in values)


def text_keys(part: Mapping[str, Any], columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the texts of each example of a split."""
    return [text_key(values) for values in zip(*(part[c][:] for c in columns), strict=True)]


def count_duplicates(parts: Mapping[str, Part], columns: Sequence[str], notes: list[str]) -> None:
    """Note how many held-out texts are in the training data too."""
    train = set(text_keys(parts["train"], columns))
    for split, part in parts.items():
        if split != "train" and (twice := sum(key in train for key in text_keys(part, columns))):
            notes.append(
                f"{twice} of {len(part[columns[0]])} {split} texts are in the training data too: "
                "scores on them flatter"
            )
