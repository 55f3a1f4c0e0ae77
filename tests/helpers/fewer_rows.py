"""A data folder with fewer rows: what is scored takes a second instead of a minute."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq


def fewer_rows(source: Path, folder: Path, rows: int) -> Path:
    """A copy of a folder of Parquet files, each cut after so many rows."""
    for file in source.rglob("*.parquet"):
        copy = folder / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pq.read_table(file).slice(0, rows), copy)
    return folder
