"""Rows of numbers in temporary files, so that millions of texts take little memory."""

import errno
import tempfile
import weakref
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

IN_MEMORY = 2**22  # bytes of a `Rows`; more go to a file


class Rows:
    """Rows of whole numbers, of different lengths, end to end in one array.

    Above :data:`IN_MEMORY` bytes the array is a temporary file mapped into memory. Rows can be
    added until they are read.
    """

    def __init__(self, dtype: type[np.integer], rows: Sequence[Sequence[int]] = ()) -> None:
        self._dtype, self._ends = np.dtype(dtype), array("q", [0])
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - as long as the rows
        weakref.finalize(self, self._file.close)
        self.extend(rows)

    def extend(self, rows: Sequence[Sequence[int]]) -> None:
        """Append rows."""
        ends = self._ends[-1] + np.cumsum([len(row) for row in rows], dtype=np.int64)
        self._ends.frombytes(ends.tobytes())
        with temporary_files():
            self._file.write(np.fromiter(chain.from_iterable(rows), self._dtype).tobytes())
            self._file.flush()

    @cached_property
    def flat(self) -> np.ndarray:
        """Return all rows as one read-only array."""
        if self._file.tell() > IN_MEMORY:
            return np.memmap(self._file, self._dtype, mode="r")
        self._file.seek(0)
        return np.frombuffer(self._file.read(), self._dtype)

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self._ends).astype(np.int32)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.flat[self._ends[i] : self._ends[i + 1]]

    def __getstate__(self) -> dict[str, Any]:
        # for a process that is not forked: a file cannot be sent, its content can
        return {**vars(self), "flat": self.flat, "_file": None}


@contextmanager
def temporary_files() -> Iterator[None]:
    """Name the folder of temporary files in the error of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            where = f"make room in {tempfile.gettempdir()}, or set TMPDIR to another folder"
            error.strerror = f"{error.strerror} for temporary files: {where}"
        raise
