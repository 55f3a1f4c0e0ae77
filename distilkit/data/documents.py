"""Documents of a text, read one after another from local files or from the Hub.

No text is held in memory: the longest line of a .jsonl file is, and a page of a Parquet file. A
document of more than :data:`LONGEST` characters becomes several. Rows without text (null, no
`text`, white space) are skipped; for local files the end of the first reading logs how many. A text
without a validation part gives up some documents for it: the second of every fifty, 500 at most.
"""

import gzip
import hashlib
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from distilkit.checkpoint import file_sha256
from distilkit.data.packing import UNBROKEN, pieces
from distilkit.data.tables import by_split, check_columns, json_objects, text_lines
from distilkit.models.hub import load_hub_data, local_path

log = logging.getLogger("distilkit")
FILES = (".txt", ".jsonl", ".parquet", ".txt.gz", ".jsonl.gz")  # in lower or upper case
NO_TEXTS = ("", "readme", "license")  # stems of files next to data; a hidden file has none
LONGEST = 1_000_000  # characters of a document; longer ones are divided at a space
HELD_OUT_EVERY, HELD_OUT_AT_MOST = 50, 500
# Of a validation part: all of WikiText's (3,760 lines), but not the days' worth of a web corpus
VALIDATION_AT_MOST = 4000
_ROWS_AT_ONCE, _BYTES_AT_ONCE = 1000, 1 << 24  # of a Parquet file; whichever is less
Reader = Callable[..., Iterator[str]]  # the documents; of training text read(rank=0, world=1)


class Text(NamedTuple):
    """One part of a text, training or held out."""

    read: Reader
    identity: Callable[[], Any]  # what decides its content, for `json.dumps`; hashes local files


def open_text(source: str | Path, *, stream: bool = False) -> tuple[Text, Text]:
    """Open the training and the held-out part of a text.

    Args:
        source: a file, a folder of files (:func:`text_files`), or a dataset of the Hub as ``id`` or
            ``id:config``. A line of .txt is a document, a line of .jsonl an object with a `text`;
            both may be .gz. A .parquet file or Hub dataset has a column `text`.
        stream: read a Hub dataset over the network as it is needed; nothing is stored.
    """
    path = local_path(source)
    if path is None:
        return _open_hub(str(source), stream)
    if stream:
        raise ValueError(f"{source} is on this disk: streaming is for texts of the Hub")
    files, held_out = text_files(path)
    if path.is_dir():
        others = sorted(file.name for file in {*path.iterdir()} - {*files, *held_out})
        if others:
            more = f" and {len(others) - 5} more" if len(others) > 5 else ""
            log.warning("%s: not read: %s%s", source, ", ".join(others[:5]), more)
    if held_out:
        return _text_of(files), _at_most(_text_of(held_out), VALIDATION_AT_MOST)
    return _divided(*_text_of(files), str(source))


def _text_of(files: list[Path]) -> Text:
    """Read the documents of local files, in order; known by the files' names and contents."""
    tell = cache(log.info)  # once, however often the text is read

    def texts() -> Iterator[str]:
        rows: Counter[str] = Counter()
        for file in files:
            yield from read_file(file, rows)
        account = f"{rows['documents']:,} documents in {len(files):,} file(s)"
        skipped = [f"{rows[why]:,} {why}" for why in ("empty", "without text") if rows[why]]
        account += f"; rows skipped: {', '.join(skipped)}" if skipped else ""
        tell("%s: %s", files[0] if len(files) == 1 else files[0].parent, account)

    def documents(rank: int = 0, world: int = 1) -> Iterator[str]:
        return islice(texts(), rank, None, world)

    return Text(documents, lambda: [[file.name, file_sha256(file)] for file in files])


def _at_most(text: Text, documents: int) -> Text:
    return Text(lambda: islice(text.read(), documents), lambda: [text.identity(), documents])


def text_files(source: Path) -> tuple[list[Path], list[Path]]:
    """List the files to train on and those held out, each in the order of their names.

    A folder with files ``train`` and ``validation``, ``valid``, ``val`` or ``dev`` (or the Hub's
    ``train-00000-of-00002``) has a held-out part; its ``test`` files are left out. Otherwise all
    is training, apart from :data:`NO_TEXTS`.
    """
    files = [source]
    if source.is_dir():
        files = [file for file in source.iterdir() if _kind(file)]
        files = sorted(file for file in files if file.name.split(".")[0].lower() not in NO_TEXTS)
        if not files:
            others = ", ".join(sorted(file.name for file in source.iterdir())[:5]) or "nothing"
            raise FileNotFoundError(f"no {', '.join(FILES)} file in {source}, only {others}")
    parts: dict[str, list[Path]] = {}
    for file in files:
        _check_file(file)
        name = file.name[: -len(_kind(file))].lower()
        parts.setdefault(name.split("-")[0], []).append(file)
    parts = by_split(parts)
    if not {"train", "validation"} <= set(parts):
        return files, []
    if other := sorted(set(parts) - {"train", "validation", "test"}):
        raise ValueError(
            f"{source} holds train and validation files, and {parts[other[0]][0].name}: name it "
            "train-..., validation-... or test-..., or move it away"
        )
    return parts["train"], parts["validation"]


def _kind(file: Path) -> str:
    """Return the one of :data:`FILES` that the name ends in, or nothing."""
    name = file.name.lower()
    return next((kind for kind in FILES if name.endswith(kind)), "")


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"no text file at {file}: give one of {', '.join(FILES)}")
    if not _kind(file):
        raise ValueError(f"{file}: a text file ends in {', '.join(FILES)}, not {file.suffix!r}")


def read_file(path: Path, rows: Counter[str] | None = None) -> Iterator[str]:
    """Yield the documents of a local file that hold more than white space.

    `rows` counts ``documents``, and the rows skipped: ``empty``, ``without text``.
    """
    _check_file(path)
    rows = Counter() if rows is None else rows
    readers = {".txt": _lines, ".jsonl": _records, ".parquet": _rows}
    for text in readers[_kind(path).removesuffix(".gz")](path):
        if text is None:
            rows["without text"] += 1
        elif not text or text.isspace():
            rows["empty"] += 1
        else:
            for part in _parts(text):
                rows["documents"] += 1
                yield part


def _parts(text: str) -> Iterator[str]:
    return (part for part in pieces(text, LONGEST) if not part.isspace())


def _some_of_a_line(file: IO[str]) -> str:
    """Read a line; of a long one :data:`LONGEST` characters and the rest of the word."""
    line = file.readline(LONGEST)
    while LONGEST <= len(line) < LONGEST + UNBROKEN and not line[-1].isspace():
        if not (character := file.read(1)).strip():
            break  # the word's end; the space is not needed
        line += character
    return line


def _lines(path: Path) -> Iterator[str]:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            while line := _some_of_a_line(file):
                yield line.removesuffix("\n")
    except UnicodeDecodeError:  # it names a place in a buffer: find the line
        for _ in text_lines(path):
            pass
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or not gzip ({error}): compress it again") from None


def _records(path: Path) -> Iterator[str | None]:
    named, keys = False, None
    for number, record in json_objects(path):
        if record is None:
            yield ""
            continue
        where, text = f"{path}, line {number}", record.get("text")
        if not isinstance(text, str | None):
            raise ValueError(
                f"{where} holds a {type(text).__name__} in place of text: each line is an object "
                "with a string 'text'"
            )
        try:
            (text or "").encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{where} holds half a character, {text[error.start]!r} at {error.start} of its "
                "text: a \\u escape was cut; write the file again"
            ) from None
        named, keys = named or "text" in record, keys or list(record)
        yield text
    if not named and keys is not None:
        raise ValueError(f"{path} has no 'text' in any line, only {', '.join(keys)}: rename one")


def _rows(path: Path) -> Iterator[str | None]:
    import pyarrow
    import pyarrow.parquet

    try:
        # buffered, and not ahead: otherwise a whole row group is in memory
        file = pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from None
    with file:
        schema = file.schema_arrow
        check_columns(["text"], schema.names, path)
        kind = schema.field("text").type
        kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
        if kind not in (pyarrow.string(), pyarrow.large_string(), pyarrow.null()):
            raise ValueError(f"{path}: the column 'text' holds {kind}, not text")
        row = 0
        try:
            for batch in file.iter_batches(_rows_at_once(file.metadata), columns=["text"]):
                for value in batch.column(0):  # not to_pylist(), a second copy of them all
                    yield value.as_py()
                    row += 1
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}, row {row} cannot be read: {error}") from None


def _rows_at_once(metadata: Any) -> int:
    """Count the rows that fit :data:`_BYTES_AT_ONCE`, by the file's largest group of rows."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    row_bytes = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1)
    return int(min(_ROWS_AT_ONCE, max(1, _BYTES_AT_ONCE // max(1, row_bytes))))


def _open_hub(source: str, stream: bool) -> tuple[Text, Text]:
    from datasets.distributed import split_dataset_by_node

    name, _, config = source.partition(":")
    parts = load_hub_data(name, config or None, streaming=stream)
    if "train" not in parts:
        raise ValueError(f"{source} has no part 'train', only {', '.join(parts)}")

    def whole(part: str) -> Text:
        check_columns(["text"], parts[part].column_names or ["text"], f"{source}, {part}")
        data = parts[part].select_columns("text")

        def documents(rank: int = 0, world: int = 1) -> Iterator[str]:
            for row in split_dataset_by_node(data, rank, world):
                text = row["text"]
                if not isinstance(text, str | None):
                    raise ValueError(f"{source}, {part}: 'text' holds a {type(text).__name__}")
                if text and not text.isspace():
                    yield from _parts(text)

        # the fingerprint follows from the files' hashes; a stream has none
        identity = [source, part, getattr(parts[part], "_fingerprint", "stream")]
        return Text(documents, lambda: identity)

    train = whole("train")
    if "validation" not in parts:
        return _divided(*train, source)
    return train, _at_most(whole("validation"), VALIDATION_AT_MOST)


def _divided(documents: Reader, identity: Callable[[], Any], name: str) -> tuple[Text, Text]:
    """Divide documents that come in one part into training and held-out part.

    Training skips held-out documents by content. That works for any share of the documents, and a
    document that occurs twice is not in both parts.
    """

    def held_out() -> Iterator[str]:
        return islice(islice(documents(), 1, None, HELD_OUT_EVERY), HELD_OUT_AT_MOST)

    @cache
    def held_out_digests() -> set[bytes]:
        return {_digest(text) for text in held_out()}

    def train(rank: int = 0, world: int = 1) -> Iterator[str]:
        texts = documents(rank, world)
        return (text for text in texts if _digest(text) not in held_out_digests())

    if next(held_out(), None) is None:
        raise ValueError(
            f"{name} holds fewer than two documents: at least two are needed, one held out (a .txt "
            "file has a document a line)"
        )
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
        if _kind(file) == ".parquet":
            import pyarrow.parquet

            number += pyarrow.parquet.read_metadata(file).num_rows
            continue
        with file.open("rb") as raw:
            opened = gzip.GzipFile(fileobj=raw) if file.suffix.lower() == ".gz" else raw
            start = opened.read(1 << 22)
            read = max(1, raw.tell())  # bytes of the file
        lines = start.count(b"\n") + (not start.endswith(b"\n"))
        number += lines * file.stat().st_size / read
    return round(number)
