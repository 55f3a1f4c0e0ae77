"""Read tables of examples: .csv, .tsv, .jsonl and .parquet, each also .gz; folders; the Hub.

SQuAD's own .json is read as the table that the Hub has of it.

Values are Python's: text, number, list, or None. None is an empty field, a JSON null or missing
key, a Parquet null, or pandas' NaN. Each row knows its place.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from distilkit.models.hub import load_hub_data, local_path

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".json")
SQUAD_COLUMNS = ("question", "context", "answers")
# The first word of a file's name -> the split that it holds
SPLITS = {name: name for name in ("train", "validation", "test")}
SPLITS |= dict.fromkeys(("dev", "val", "valid"), "validation")
_DAMAGED_GZIP = (EOFError, OSError, zlib.error)  # cut off; a wrong checksum; wrong content
_LFS = b"version https://git-lfs"  # what git stores in place of a large file


@dataclass(frozen=True)
class Table:
    """The rows of one split."""

    columns: dict[str, list[Any]]
    where: str  # the file, or what else was read
    lines: Sequence[int]  # [rows] line of a file, or number of the row from 1 on
    unit: str = "row"  # "line" where `lines` are lines
    # column -> names in the order of their numbers, where the source says so
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int) -> str:
        """Say where a row stands, for a message."""
        return f"{self.where}, {self.unit} {self.lines[row]}"


def read_splits(data: Any, *, header: bool = True) -> tuple[dict[str, Table], list[str]]:
    """Read what :func:`distilkit.data.own_task.task_from` takes: a table a split, and notes.

    A Hub id may be ``id:config``. Without a `header` the columns of a .csv or .tsv are called "0",
    "1", ... Data in one part is called "train".
    """
    import datasets  # a machine that only trains may lack it
    import pandas as pd

    if isinstance(data, Mapping):
        if not data:
            raise ValueError("data is empty: give a table for each split")
        tables = {}
        for split, part in data.items():
            found, _ = read_splits(part, header=header)
            if len(found) != 1:
                raise ValueError(f"{split}: give one table, not the splits {', '.join(found)}")
            tables[split] = next(iter(found.values()))
            if not isinstance(part, (str, Path)):
                tables[split] = replace(tables[split], where=split)
        return tables, []
    if isinstance(data, datasets.Dataset):
        return {"train": _from_dataset(data)}, []
    if isinstance(data, pd.DataFrame):
        return {"train": _from_frame(data)}, []
    if not isinstance(data, (str, Path)):
        raise TypeError(
            f"data is a {type(data).__name__}: give a file, a folder, a Hub id, a datasets object "
            "or a pandas DataFrame"
        )
    path = local_path(data)
    if path is None:
        source, _, config = str(data).partition(":")
        found, _ = read_splits(load_hub_data(source, config or None))
        return {name: replace(part, where=f"{data}, {name}") for name, part in found.items()}, []
    if path.is_dir():
        return _from_folder(path, header)
    return {"train": read_table(path, header=header)}, []


def by_split(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Name the splits train, validation and test; a second one of these keeps its own name."""
    found: dict[str, Any] = {}
    for name, table in tables.items():
        split = SPLITS.get(name, name)
        found[name if split in found or split in tables else split] = table
    return found


def read_table(path: Path, *, header: bool = True) -> Table:
    """Read one file; see :func:`read_splits`."""
    kind = _kind(path)
    if kind is None:
        raise ValueError(f"{path}: give a {', '.join(SUFFIXES)} file; each may also be .gz")
    if kind == ".parquet":
        return replace(_from_dataset(read_parquet([path])), where=path.name)
    if kind == ".json":
        return _from_squad("".join(text_lines(path)), path)
    if kind == ".jsonl":
        return _from_jsonl(path)
    return _from_csv(text_lines(path), path, header)


def split_files(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """List a folder's data files by split, and the names of its other files.

    A file's split is the first word of its name, as in ``train.csv``, ``dev.tsv`` or
    ``test-00000-of-00002.parquet``. The Hub's layouts with a folder ``data`` are understood too.
    """
    splits: dict[str, list[Path]] = {}
    others = []
    for file in sorted(folder.iterdir()):
        if not file.is_file():
            continue
        word, underscore, rest = file.name.split(".")[0].split("-")[0].partition("_")
        if _kind(file) is None or word not in SPLITS:
            others.append(file.name)
        else:  # GLUE's MNLI has validation_matched and validation_mismatched
            splits.setdefault(SPLITS[word] + underscore + rest, []).append(file)
    if not splits and (folder / "data").is_dir():
        return split_files(folder / "data")
    return splits, others


def _from_folder(folder: Path, header: bool) -> tuple[dict[str, Table], list[str]]:
    files, others = split_files(folder)
    if "train" not in files:
        found = f", only {', '.join(others[:5])}" if others else ""
        raise FileNotFoundError(
            f"{folder} has no file called train with one of the endings {', '.join(SUFFIXES)}"
            f"{found}: name the files train, validation and test, or give one file"
        )
    notes = [f"{folder.name}: left out {', '.join(others)}"] if others else []
    tables = {}
    for split, paths in files.items():
        different = {path.name.lower().removesuffix(".gz") for path in paths}
        if len({_kind(path) for path in paths}) > 1 or len(different) < len(paths):
            names = ", ".join(path.name for path in paths)
            raise ValueError(f"{folder}: {names} are all {split}: leave one of them there")
        tables[split] = _joined([read_table(path, header=header) for path in paths])
    return tables, notes


def _joined(parts: list[Table]) -> Table:
    """Concatenate the parts of a split, in the columns that all of them have."""
    if len(parts) == 1:
        return parts[0]
    where = f"{parts[0].where} to {parts[-1].where}"
    if any(part.names != parts[0].names for part in parts):
        raise ValueError(f"{where}: they number their labels differently: write them in one order")
    names = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    columns = {name: [v for part in parts for v in part.columns[name]] for name in names}
    rows = range(1, 1 + sum(map(len, parts)))
    return Table(columns, where, rows, names=parts[0].names)


def _kind(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, with their ends."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        number += line.count(b"\r", 0, error.start)  # a "\r" alone may end lines too
        raise ValueError(
            f"{path}, line {number} is not UTF-8 (byte 0x{error.object[error.start]:02x}: "
            f"{error.reason}): save the file as UTF-8"
        ) from None
    except _DAMAGED_GZIP as error:
        raise ValueError(f"{path}, after line {number}: cannot be read ({error})") from None


def json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield line number and object of each line of a .jsonl file; None for a blank line."""
    for number, line in enumerate(text_lines(path), 1):
        where = f"{path}, line {number}"
        if not line.strip():
            yield number, None
            continue
        try:
            record = json.loads(line.rstrip("\r\n"))
        except (ValueError, RecursionError) as error:  # also numbers of 5,000 digits
            column = f", column {error.colno}" if hasattr(error, "colno") else ""
            why = getattr(error, "msg", error)
            raise ValueError(
                f"{where}{column} is not JSON ({why}): each line is a whole object"
            ) from None
        if not isinstance(record, dict):
            raise ValueError(
                f"{where} holds a {type(record).__name__}: each line is an object such as "
                '{"text": "...", "label": "..."}'
            )
        del line  # it may be long
        yield number, record


def _from_csv(lines: Iterator[str], path: Path, header: bool) -> Table:
    is_tsv, head = _kind(path) == ".tsv", []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    lines = chain(head, lines)
    csv.field_size_limit(2**31 - 1)
    if is_tsv:  # the format knows no quotes: a " is part of the text
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:  # where the comma is the decimal sign, spreadsheets write semicolons
        semicolons = "," not in head[-1] and ";" in head[-1] if head else False
        reader = csv.reader(lines, delimiter=";" if semicolons else ",", strict=True)
    rows: dict[int, list[str]] = {}  # by the line that each begins in
    start = 1
    try:
        for row in reader:
            if row:
                rows[start] = row
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path.name}, line {start}: {error}") from None
    if not rows:
        raise ValueError(f"{path.name} is empty")
    names = rows.pop(min(rows)) if header else [str(i) for i in range(len(rows[min(rows)]))]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{path.name} has two columns called {twice[0]!r}: rename one")
    for line, row in rows.items():
        if is_tsv:
            row += [""] * (len(names) - len(row))  # GLUE's QQP has rows that end early
        if len(row) != len(names):
            advice = "a text with a separator or a line break has to stand in quotes"
            if is_tsv:
                advice = "a text cannot hold a tab there: save it as .csv"
            raise ValueError(
                f"{path.name}, line {line} has {len(row)} fields, the first line {len(names)}: "
                f"{advice}"
            )
    columns = {name: [row[i] or None for row in rows.values()] for i, name in enumerate(names)}
    return Table(columns, path.name, list(rows), "line")


def _from_jsonl(path: Path) -> Table:
    records = {number: record for number, record in json_objects(path) if record is not None}
    if not records:
        raise ValueError(f"{path.name} is empty")
    names = dict.fromkeys(name for record in records.values() for name in record)
    columns = {name: [_value(record.get(name)) for record in records.values()] for name in names}
    return Table(columns, path.name, list(records), "line")


def _from_squad(text: str, path: Path) -> Table:
    """Read the questions of SQuAD's own file, in the columns of ``rajpurkar/squad``."""
    rows: list[tuple[Any, ...]] = []
    try:
        for document in json.loads(text)["data"]:
            for paragraph in document["paragraphs"]:
                for question in paragraph["qas"]:
                    answers = {
                        key: [answer[key] for answer in question.get("answers", ())]
                        for key in ("text", "answer_start")
                    }
                    rows.append((question["question"], paragraph["context"], answers))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name} is not in SQuAD's format ({type(error).__name__}: {error}): give other "
            "data as .jsonl"
        ) from None
    columns = {name: [row[i] for row in rows] for i, name in enumerate(SQUAD_COLUMNS)}
    return Table(columns, path.name, range(1, 1 + len(rows)), "question")


def read_parquet(paths: Sequence[Path]) -> Any:
    """Read Parquet files into one `datasets.Dataset`, which keeps the names of labels."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    tables = []
    for path in paths:
        try:
            with _open(path) as file:
                content = file.read()
            if not content.startswith(_LFS):
                tables.append(pyarrow.parquet.read_table(io.BytesIO(content)))
        except (pyarrow.ArrowException, *_DAMAGED_GZIP) as error:
            raise ValueError(f"{path} is not a readable Parquet file: {error}") from None
        if content.startswith(_LFS):
            raise ValueError(f"{path} is git's pointer to a large file: run `git lfs pull` there")
    return datasets.Dataset(pyarrow.concat_tables(tables))


def check_columns(wanted: Iterable[str], there: Collection[str], where: str | Path) -> None:
    """Raise ValueError, with the columns that are there, if one that is wanted is not."""
    if absent := [name for name in wanted if name not in there]:
        raise ValueError(f"{where}: no column {absent[0]!r}, only {', '.join(there)}")


def _from_dataset(data: Any) -> Table:
    from datasets import ClassLabel

    columns = {name: [_value(v) for v in data[name][:]] for name in data.column_names}
    names = {}
    for name, feature in data.features.items():
        inner = getattr(feature, "feature", feature)  # of a list
        if isinstance(inner, ClassLabel):
            names[name] = tuple(inner.names)
    return Table(columns, "the data", range(1, len(data) + 1), names=names)


def _from_frame(frame: Any) -> Table:
    import pandas as pd

    columns, names = {}, {}
    if not frame.columns.map(str).is_unique:
        raise ValueError(f"the data has two columns of one name: {', '.join(map(str, frame))}")
    for name, column in frame.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            names[str(name)] = tuple(str(value) for value in column.cat.categories)
            column = column.astype(object).map(str, na_action="ignore")
        values = column.astype(object).where(column.notna(), None)  # NA and NaT are nothing, too
        columns[str(name)] = [_value(v) for v in values.tolist()]
    return Table(columns, "the data", range(1, len(frame) + 1), names=names)


def _value(value: Any) -> Any:
    """Return a value with None for "nothing", and with arrays as lists."""
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        value = value.tolist()
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, dict):
        return {name: _value(each) for name, each in value.items()}
    if isinstance(value, Decimal):  # of databases
        value = float(value)
    if isinstance(value, float) and value != value:
        return None
    return None if isinstance(value, str) and not value else value


def shown(value: Any) -> str:
    """Return a value for a message, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
