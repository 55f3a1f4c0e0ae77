"""A task from the user's own data: a file, a folder, a Hub id, a table in memory."""

import hashlib
import re
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np

from distilkit.data.labels import ENTITY_TAG, Labels, as_number, is_missing, meaning_of, numbers_of
from distilkit.data.rows import temporary_files
from distilkit.data.tables import SQUAD_COLUMNS, Table, by_split, check_columns, read_splits, shown
from distilkit.data.tasks import TASKS, Kind, Task

METRICS = {  # by kind; the first is the score
    "single_label_classification": ("accuracy", "macro_f1", "matthews"),
    "multi_label_classification": ("micro_f1", "macro_f1"),
    "regression": ("pearson", "spearman", "rmse"),
    "token_classification": ("entity_f1",),
    "question_answering": ("f1", "exact_match"),
}
MOST_MISSING = 0.2  # of the rows may lack a text
SPLITS = ("train", "validation", "test")
HELD_OUT = 0.1  # of one table: for validation, and once more for test
LEAST_ROWS = 10  # of a table that is to be divided
ROWS_AT_ONCE = 1000  # of texts without labels

Part = Mapping[str, list[Any]]  # column -> values


def task_from(
    data: Any,
    *,
    text_columns: str | int | Sequence[str | int] | None = None,
    label_column: str | int | Sequence[str | int] | None = None,
    labels: Sequence[str] | None = None,
    kind: Kind | None = None,
    name: str | None = None,
    max_length: int | None = None,
    seed: int = 0,
) -> Task:
    """Make a task of the user's own texts and labels.

    Args:
        data: a .csv, .tsv, .jsonl or .parquet file (each also .gz), or a folder with ``train``,
            ``validation`` and ``test`` files. Or a Hub id, a `datasets` object, a pandas
            DataFrame, or a mapping of split to one of these. One table is split 80/10/10: by
            `seed`, with the same share of each class. A missing validation split is a tenth of
            the training rows.
        text_columns: the column with the texts, by default ``text``; two for pairs. Numbers from
            0 on, as for `label_column`, if a .csv or .tsv has no header. Lists of words make a
            token classification.
        label_column: the column with the labels; lists of names, or several columns of 0 and 1,
            make a multi-label task. None: no labels, only a transfer set for a teacher.
        labels: all label names in the order of their numbers, for instance a teacher's. By
            default the data's own order (ClassLabel, pandas categories), else sorted.
        kind: by default inferred. Labels with decimals make a regression, others, whole numbers
            too, classes. Unless columns are named, ``question``, ``context`` and ``answers`` make
            a question answering.
        name: of the task, and so of its runs; by default the file's.
        max_length: tokens, by default 128, or 384 for a question and a part of its passage.
        seed: of the split.

    Returns:
        The task. Its splits are in ``task.data``, with the texts under their own names and
        ``label`` in numbers. What was read and left out is in ``task.notes``.

    Raises:
        FileNotFoundError, ValueError, TypeError: what is wrong, with file, line and column.
    """
    columns = _names("text" if text_columns is None else text_columns)
    targets = _names(label_column)
    if not 1 <= len(columns) <= 2:
        raise ValueError(f"text_columns = {text_columns!r}: give one column of texts, or two")
    if "label" in columns:
        raise ValueError("a column of texts is called 'label': rename it, the labels go there")
    if kind is not None and kind not in get_args(Kind):
        raise ValueError(f"kind = {kind!r}: give one of {', '.join(get_args(Kind))}")
    given = [*_listed(text_columns), *_listed(label_column)]
    tables, notes = read_splits(data, header=not (given and all(isinstance(c, int) for c in given)))
    tables = by_split(tables)
    if others := [split for split in tables if split not in SPLITS]:
        notes.append(f"left out the splits {', '.join(others)}")
    if "train" not in tables:
        raise ValueError(f"the data has no split 'train', only {', '.join(tables)}")
    there = set(tables["train"].columns)
    if not given and set(SQUAD_COLUMNS) <= there and "text" not in there:
        kind, columns, targets = "question_answering", SQUAD_COLUMNS[:2], SQUAD_COLUMNS[2:]
    on_spans = kind == "question_answering"
    if on_spans and (len(columns) != 2 or len(targets) > 1):
        raise ValueError(
            "question_answering needs two columns of texts, question and passage, and one of "
            f"answers: the columns are {', '.join((*columns, *targets))}"
        )

    on_words = _holds_lists(tables["train"], columns)
    usable: dict[str, tuple[Table, list[int]]] = {}
    for split in [split for split in SPLITS if split in tables]:
        table = tables[split]
        wanted = columns if split == "test" else (*columns, *targets)
        check_columns(wanted, table.columns, table.where)
        rows = _rows_with_text(table, columns, on_words, notes)
        _check_not_numbers(table, columns, rows)
        rows = _rows_with_label(split, table, rows, targets, notes)
        if not rows:
            raise ValueError(f"{table.where}: no row is left to use. {'. '.join(notes)}")
        usable[split] = (table, rows)
    if targets:
        meaning = meaning_of(*usable["train"], targets, on_words, kind, labels)
    else:
        kind = kind or ("token_classification" if on_words else "single_label_classification")
        meaning = Labels(kind, () if on_spans else tuple(labels or ()))
        notes.append("no labels: a teacher's soft targets are all there is to learn from")
    parts: dict[str, Part] = {}
    for split, (table, rows) in usable.items():
        parts[split] = {c: [table.columns[c][row] for row in rows] for c in columns}
        if targets and set(targets) <= set(table.columns):
            if numbers := numbers_of(table, rows, targets, meaning, columns):
                parts[split]["label"] = numbers
            else:
                notes.append(f"{table.where}: no labels, so it cannot be scored")
        elif targets:
            absent = next(name for name in targets if name not in table.columns)
            notes.append(f"{table.where}: no column {absent!r}, so it cannot be scored")
    by_class = meaning.kind == "single_label_classification"
    parts = divide(parts, by_class, seed, notes, together=columns[1] if on_spans else None)
    count_duplicates(parts, columns, notes)
    name = name or _default_name(data)
    metrics = METRICS[meaning.kind]
    entities = [name == "O" or ENTITY_TAG.match(name) for name in meaning.names]
    if on_words and not (entities and all(entities)):
        metrics = ("accuracy", "macro_f1")  # parts of speech, for instance
    return Task(
        name=name,
        title=name,
        columns=columns,
        labels=meaning.names,
        kind=meaning.kind,
        metrics=metrics,
        score=metrics[0],
        max_length=max_length or (TASKS["squad"].max_length if on_spans else 128),
        data=_as_datasets(parts, columns, meaning),
        digest=_digest(parts, meaning),
        notes=(_summary(parts, columns, meaning), *notes),
    )


def _summary(parts: Mapping[str, Part], columns: Sequence[str], meaning: Labels) -> str:
    counts = ", ".join(f"{split} {len(part[columns[0]]):,}" for split, part in parts.items())
    names = ", ".join(meaning.names[:8]) + (", ..." if len(meaning.names) > 8 else "")
    labels = f", {len(meaning.names)} labels ({names})" if meaning.names else ""
    return f"{meaning.kind.replace('_', ' ')}{labels}; examples: {counts}"


def unlabelled_from(
    sources: Any | Sequence[Any], task: Task, *, text_columns: str | Sequence[str] | None = None
) -> Any:
    """Read further texts for a teacher's soft targets; labels that they have are not used.

    Args:
        sources: what :func:`task_from` takes, or a list of it; also .txt, a text a line.
        task: its text columns are looked for, unless `text_columns` says others.

    Returns:
        A `datasets.Dataset` with the task's text columns, each text once, in a file mapped into
        memory. Texts of the task's validation and test splits are left out.
    """
    import datasets
    import pyarrow

    names = task.columns if text_columns is None else _names(text_columns)
    if len(names) != len(task.columns):
        raise ValueError(f"text_columns = {text_columns!r}: give {len(task.columns)} of them")
    splits = {split: part for split, part in (task.data or {}).items() if split != "train"}
    held_out = [_digest_of(key) for p in splits.values() for key in text_keys(p, task.columns)]
    kind = pyarrow.list_(pyarrow.string()) if task.on_words else pyarrow.string()
    schema = pyarrow.schema(dict.fromkeys(task.columns, kind))
    digests = array("Q")
    # a file mapped into memory, for texts may be millions; it has a name only while it is written
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = f"{folder}/texts.arrow"
        with pyarrow.ipc.new_stream(file, schema) as out:
            rows = _text_rows(sources, names, task.on_words)
            while some := list(islice(rows, ROWS_AT_ONCE)):
                digests.extend(_digest_of(text_key(values)) for values in some)
                columns = map(pyarrow.array, zip(*some, strict=True), schema.types)
                with temporary_files():
                    out.write_batch(pyarrow.record_batch(list(columns), schema))
        texts = pyarrow.ipc.open_stream(pyarrow.memory_map(file)).read_all()
    if not digests:
        raise ValueError(f"{sources}: no text in the column {' or '.join(names)}: give more")
    keys, first = np.unique(digests, return_index=True)
    first = np.sort(first[~np.isin(keys, np.array(held_out, np.uint64))])
    if not len(first):
        raise ValueError("the unlabelled texts are all in the validation or test split: give more")
    # without a name, datasets would copy all texts to make one of them
    of_texts = hashlib.blake2b(digests, digest_size=8).hexdigest()
    return datasets.Dataset(texts, fingerprint=of_texts).select(first)


def _text_rows(
    sources: Any | Sequence[Any], names: Sequence[str], on_words: bool
) -> Iterator[tuple[Any, ...]]:
    """Yield the texts of each row."""
    from distilkit.data.documents import read_file

    for source in sources if isinstance(sources, (list, tuple)) else [sources]:
        if isinstance(source, (str, Path)) and str(source).lower().endswith((".txt", ".txt.gz")):
            lines = read_file(Path(source).expanduser())
            parts = iter(lambda lines=lines: list(islice(lines, ROWS_AT_ONCE)), [])
            tables = (Table({names[0]: part}, str(source), range(len(part))) for part in parts)
        else:
            bare = all(name.isdecimal() for name in names)  # `task_from` without a header
            parts, _ = read_splits(source, header=not bare)
            first = [next(iter(c), None) for c in next(iter(parts.values())).columns.values()]
            if bare and ("label" in first or first == [str(i) for i in range(len(first))]):
                parts, _ = read_splits(source)  # there is one, and its names are numbers
            tables = iter(parts.values())
        for number, table in enumerate(tables):
            check_columns(names, table.columns, table.where)
            rows = _rows_with_text(table, names, on_words, [])
            if number == 0:  # a later part of a file may be one line, such as a year
                _check_not_numbers(table, names, rows)
            for row in rows:
                yield tuple(table.columns[name][row] for name in names)


def _digest_of(key: tuple[Any, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest())


def _listed(columns: Any) -> list[Any]:
    if columns is None:
        return []
    return [columns] if isinstance(columns, (str, int)) else list(columns)


def _names(columns: Any) -> tuple[str, ...]:
    return tuple(str(column) for column in _listed(columns))


def _default_name(data: Any) -> str:
    if isinstance(data, Mapping) and isinstance(data.get("train"), (str, Path)):
        data = data["train"]
    stem = Path(data).name.split(".")[0] if isinstance(data, (str, Path)) else ""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-") or "own"


def _holds_lists(table: Table, columns: Sequence[str]) -> bool:
    """Tell whether the texts are lists of words."""
    check_columns(columns, table.columns, table.where)
    first = next((v for v in table.columns[columns[0]] if v is not None), None)
    if not isinstance(first, list):
        return False
    if len(columns) > 1:
        raise ValueError(f"{', '.join(columns)}: lists of words are labelled alone, not in pairs")
    return True


def _rows_with_text(
    table: Table, columns: Sequence[str], on_words: bool, notes: list[str]
) -> list[int]:
    """Return the rows that have all their texts; ValueError for a value that is no text."""
    rows, empty = [], []
    for row in range(len(table)):
        values = [table.columns[column][row] for column in columns]
        for column, value in zip(columns, values, strict=True):
            _check_text(value, on_words, f"{table.place(row)}, column {column!r}")
        if all(value and (on_words or not value.isspace()) for value in values):
            rows.append(row)
        else:
            empty.append(row)
    if empty:
        notes.append(
            f"{table.where}: {len(empty)} of {len(table)} rows without text left out, the first "
            f"in {table.unit} {table.lines[empty[0]]}"
        )
        if len(empty) > MOST_MISSING * len(table):
            raise ValueError(
                f"{notes[-1]}: that is over {MOST_MISSING:.0%}. Is {' or '.join(columns)} the "
                "column of texts?"
            )
    return rows


def _check_not_numbers(table: Table, columns: Sequence[str], rows: Sequence[int]) -> None:
    for column in columns:
        if rows and all(as_number(table.columns[column][row]) is not None for row in rows):
            raise ValueError(
                f"{table.where}: the column {column!r} holds numbers, not texts: name another"
            )


def _check_text(value: Any, on_words: bool, where: str) -> None:
    if value is None:
        return
    if on_words:
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise ValueError(f"{where} holds {shown(value)}, not a list of words")
    elif not isinstance(value, str):
        raise ValueError(f"{where} holds {shown(value)}, not a text")
    for text in value if on_words else [value]:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where} holds half a character: {text!r}") from None


def _rows_with_label(
    split: str, table: Table, rows: list[int], targets: Sequence[str], notes: list[str]
) -> list[int]:
    """Return the rows with a label; all of a test split that has none, as GLUE's."""
    if not targets or not set(targets) <= set(table.columns):
        return rows
    with_label = [
        row for row in rows if not any(is_missing(table.columns[name][row]) for name in targets)
    ]
    if split == "test" and not with_label:
        return rows
    if missing := sorted(set(rows) - set(with_label)):
        advice = "" if split == "test" else "; a teacher can use them as unlabelled texts"
        notes.append(
            f"{table.where}: {len(missing)} of {len(table)} rows without a label left out, the "
            f"first in {table.unit} {table.lines[missing[0]]}{advice}"
        )
    return with_label


def _as_datasets(parts: Mapping[str, Part], columns: Sequence[str], meaning: Labels) -> Any:
    import datasets

    one = datasets.Value("string")
    texts = datasets.List(one) if meaning.kind == "token_classification" else one
    classes = datasets.ClassLabel(names=list(meaning.names)) if meaning.names else None
    label = {
        "single_label_classification": classes,
        "token_classification": datasets.List(classes) if classes else None,
        "multi_label_classification": datasets.List(datasets.Value("float32")),
        "regression": datasets.Value("float64"),
        "question_answering": {
            "text": datasets.List(one),
            "answer_start": datasets.List(datasets.Value("int64")),
        },
    }[meaning.kind]
    result = {}
    for split, part in parts.items():
        features = dict.fromkeys(columns, texts)
        if "label" in part:
            features["label"] = label
        result[split] = datasets.Dataset.from_dict(dict(part), datasets.Features(features))
    return datasets.DatasetDict(result)


def _digest(parts: Mapping[str, Part], meaning: Labels) -> str:
    digest = hashlib.sha256(repr(meaning).encode())
    for split, part in parts.items():
        for name, values in part.items():
            digest.update(repr((split, name)).encode())
            for value in values:  # one by one: the text of a whole column may be large
                digest.update(repr(value).encode() + b"\n")
    return digest.hexdigest()


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
    if any(not len(of_split) for of_split in chosen.values()):
        raise ValueError(
            "most labels have too few rows to hold some out: give a validation and a test file"
        )
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
