"""Documents of a text, read one after another from local files or from the Hub.

No text is held in memory. A text without a validation part gives up some documents for it: the
second of every fifty, 500 at most.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from distilkit.checkpoint import file_sha256
from distilkit.models.hub import local_path

FILES = (".txt", ".jsonl", ".parquet")
HELD_OUT_EVERY, HELD_OUT_AT_MOST = 50, 500
# Of a validation part: all of WikiText's (3,760 lines), but not the days' worth of a web corpus
VALIDATION_AT_MOST = 4000
_ROWS_AT_ONCE = 1000
Reader = Callable[..., Iterator[str]]  # read(rank=0, world=1): the documents, from the first on


class Text(NamedTuple):
    """One part of a text, training or held out."""

    read: Reader
    identity: Callable[[], Any]  # what decides its content, for `json.dumps`; hashes local files


def open_text(source: str | Path, *, stream: bool = False) -> tuple[Text, Text]:
    """Open the training and the held-out part of a text.

    Args:
        source: a file (.txt: a document a line; .jsonl: an object with a `text` a line; .parquet:
            a column `text`), a folder of such files, or a dataset of the Hub as ``id`` or
            ``id:config`` (a column `text`). The parts ``train`` and ``validation`` of a folder
            (:func:`text_files`) or dataset are taken as they are.
        stream: read a Hub dataset over the network as it is needed; nothing is stored.

    Raises:
        FileNotFoundError: no such file, or a folder without any.
        ValueError: a file of another kind, no `text`, a `stream` of local files, or an ambiguous
            folder (:func:`text_files`).
    """
    path = local_path(source)
    if path is None:
        return _open_hub(str(source), stream)
    if stream:
        raise ValueError(f"{source} is on this disk: streaming is for texts of the Hub")
    files, held_out = text_files(path)
    if held_out:
        return _text_of(files), _at_most(_text_of(held_out), VALIDATION_AT_MOST)
    return _divided(*_text_of(files), str(source))


def _text_of(files: list[Path]) -> Text:
    """The documents of local files, in order; known by the files' names and contents."""

    def documents(rank: int = 0, world: int = 1) -> Iterator[str]:
        texts = (text for file in files for text in read_file(file))
        return islice(texts, rank, None, world)

    return Text(documents, lambda: [[file.name, file_sha256(file)] for file in files])


def _at_most(text: Text, documents: int) -> Text:
    def first(rank: int = 0, world: int = 1) -> Iterator[str]:
        return islice(islice(text.read(), documents), rank, None, world)

    return Text(first, lambda: [text.identity(), documents])


def text_files(source: str | Path) -> tuple[list[Path], list[Path]]:
    """List the files to train on and those held out, each in the order of their names.

    A folder with files called ``train`` and ``validation`` (or ``train-00000-of-00002``, as the Hub
    names them) has a held-out part, and its ``test`` files are left out. Otherwise all is training.

    Raises:
        FileNotFoundError: no such file, or a folder without any.
        ValueError: a folder with ``train`` and ``validation`` that holds text of another name.
    """
    source = Path(source)
    files = [source]
    if source.is_dir():
        files = sorted(file for file in source.iterdir() if file.suffix in FILES)
        if not files:
            raise FileNotFoundError(f"no {', '.join(FILES)} file in {source}")
    parts: dict[str, list[Path]] = {}
    for file in files:
        _check_file(file)
        parts.setdefault(file.stem.split("-")[0], []).append(file)
    if not {"train", "validation"} <= set(parts):
        return files, []
    if other := sorted(set(parts) - {"train", "validation", "test"}):
        raise ValueError(
            f"{source} holds train and validation files, and {parts[other[0]][0].name}: name it "
            "train-..., validation-... or test-..., or move it away"
        )
    return parts["train"], parts["validation"]


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"no text file at {file}: give a .txt, .jsonl or .parquet file")
    if file.suffix not in FILES:
        raise ValueError(
            f"{file}: a text file ends in .txt, .jsonl or .parquet, not {file.suffix!r}"
        )


def read_texts(path: str | Path) -> list[str]:
    """Read the documents of a local file into a list; ValueError if it holds no text."""
    texts = list(read_file(Path(path)))
    if not texts:
        raise ValueError(f"{path} holds no text")
    return texts


def read_file(path: Path) -> Iterator[str]:
    """Yield the documents of a local file that hold more than white space.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another kind, or has no `text`.
    """
    _check_file(path)
    readers = {".txt": _lines, ".jsonl": _records, ".parquet": _rows}
    return (text for text in readers[path.suffix](path) if text and not text.isspace())


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        try:
            for line in file:
                yield line.removesuffix("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text: {error}") from None


def _records(path: Path) -> Iterator[str]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from None
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise ValueError(
                f"{path}, line {number} has no text: each line is an object with a string 'text'"
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{path}, line {number} holds half a character: {text!r}") from None
        yield text


def _rows(path: Path) -> Iterator[str | None]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is no Parquet file that can be read: {error}") from None
    with file:
        schema = file.schema_arrow
        if "text" not in schema.names:
            raise ValueError(f"{path} has no column 'text', only {', '.join(schema.names)}")
        kind = schema.field("text").type
        kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
        if kind not in (pyarrow.string(), pyarrow.large_string()):
            raise ValueError(f"{path}: the column 'text' holds {kind}, not text")
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=["text"]):
            yield from batch.column(0).to_pylist()


def _open_hub(source: str, stream: bool) -> tuple[Text, Text]:
    import datasets  # a machine that only trains may lack it
    from datasets.distributed import split_dataset_by_node

    name, _, config = source.partition(":")
    parts = datasets.load_dataset(name, config or None, streaming=stream)
    for part in ("train", "validation"):
        columns = parts[part].column_names if part in parts else None
        if columns is not None and "text" not in columns:
            raise ValueError(f"{source}, {part}: no column 'text', only {', '.join(columns)}")
    if "train" not in parts:
        raise ValueError(f"{source} has no part 'train', only {', '.join(parts)}")

    def whole(part: str) -> Text:
        data = parts[part].select_columns("text")

        def documents(rank: int = 0, world: int = 1) -> Iterator[str]:
            texts = (row["text"] for row in split_dataset_by_node(data, rank, world))
            return (text for text in texts if text and not text.isspace())

        # the fingerprint follows from the files' hashes; a stream has none
        identity = [source, part, getattr(parts[part], "_fingerprint", "stream")]
        return Text(documents, lambda: identity)

    train = whole("train")
    if "validation" not in parts:
        return _divided(*train, source)
    return train, _at_most(whole("validation"), VALIDATION_AT_MOST)


def _divided(documents: Reader, identity: Callable[[], Any], name: str) -> tuple[Text, Text]:
    """Divide documents that come in one part into training and held-out part.

    Training skips held-out documents by content: that works for any share of the documents, and a
    document that occurs twice is not in both parts.
    """

    def held_out(rank: int = 0, world: int = 1) -> Iterator[str]:
        chosen = islice(islice(documents(), 1, None, HELD_OUT_EVERY), HELD_OUT_AT_MOST)
        return islice(chosen, rank, None, world)

    @cache
    def held_out_digests() -> set[bytes]:
        return {_digest(text) for text in held_out()}

    def train(rank: int = 0, world: int = 1) -> Iterator[str]:
        empty = True
        for text in documents(rank, world):
            if _digest(text) not in held_out_digests():
                empty = False
                yield text
        if empty:
            raise ValueError(
                f"{name}: process {rank} of {world} finds no document that is not held out"
            )

    if next(held_out(), None) is None:
        raise ValueError(f"{name} holds one document: at least two are needed, one held out")
    rule = [HELD_OUT_EVERY, HELD_OUT_AT_MOST]
    return (
        Text(train, lambda: [identity(), "train", rule]),
        Text(held_out, lambda: [identity(), "held out", rule]),
    )


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def about_how_many(source: str | Path) -> int | None:
    """Estimate the number of training documents of a local text; None for the Hub's."""
    path = local_path(source)
    if path is None:
        return None
    number = 0.0
    for file in text_files(path)[0]:
        if file.suffix == ".parquet":
            import pyarrow.parquet

            number += pyarrow.parquet.read_metadata(file).num_rows
            continue
        with file.open("rb") as opened:
            start = opened.read(1 << 22)
        lines = start.count(b"\n") + (not start.endswith(b"\n"))
        number += lines * file.stat().st_size / max(1, len(start))
    return round(number)
