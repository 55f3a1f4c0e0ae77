"""Checkpoints: written whole or not at all, verified before use.

A checkpoint is a folder ``step-00000123`` of safetensors and JSON files, with the SHA-256 of each
in ``manifest.json``. It is flushed to disk and renamed before an older one is removed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

if TYPE_CHECKING:
    from torch import Tensor  # to import it takes seconds, and figures need only a file's writer

KEEP = 2  # the newest, and one before it should the newest turn out damaged


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a file so that a reader sees the old one or the new one; return its path."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)
    return path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path`, flushed to disk, if the block succeeds."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        fsync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """Return the free space on the disk of a folder, which may not be there yet."""
    folder = folder.absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free


def not_written(error: Exception, what: str, folder: Path, size: int, kept: str) -> OSError:
    """Return an error that says what could not be written, its bytes, and the room there is."""
    return OSError(
        getattr(error, "errno", None) or errno.EIO,
        f"{what} could not be written: {error}. It takes {size / 1e6:.1f} MB, "
        f"{free_bytes(folder) / 1e6:.1f} MB are free on that disk; {kept}. Make room (or lift the "
        "limit on file sizes) and run again",
        str(folder),
    )


def save(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> Path:
    """Write a checkpoint of `step` into `folder` and remove all but the newest :data:`KEEP`.

    `tensors` are named tensors by file stem, `state` is written as JSON. OSError if it could not be
    written (a full disk): what was there before is intact.
    """
    from safetensors.torch import save_file

    final = folder / f"step-{step:08d}"
    temporary = folder / f".tmp-{step:08d}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".tmp-*"):
            shutil.rmtree(leftover)
        temporary.mkdir()
        for stem, named in tensors.items():
            plain = {name: value.detach().contiguous() for name, value in named.items()}
            save_file(plain, temporary / f"{stem}.safetensors")
        write_json(temporary / "state.json", dict(state))
        hashes = {file.name: file_sha256(file) for file in temporary.iterdir()}
        write_json(temporary / "manifest.json", hashes)
        for file in temporary.iterdir():
            fsync(file)
        fsync(temporary)
        if final.exists():  # damaged, or the run would have resumed after it
            shutil.rmtree(final)
        os.rename(temporary, final)
        fsync(folder)
        for later in _newest_first(folder):
            if later.name > final.name:  # damaged too, or the run would have resumed from there
                shutil.rmtree(later)
        for old in _newest_first(folder)[KEEP:]:
            shutil.rmtree(old)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        size = sum(v.nbytes for named in tensors.values() for v in named.values())
        kept = "the one before it is intact"
        raise not_written(error, f"the checkpoint of step {step}", folder, size, kept) from error
    return final


def load_newest(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """Return the newest intact checkpoint as ``(tensors, state)``; warn of damaged ones."""
    from safetensors.torch import load_file

    for checkpoint in _newest_first(folder):
        try:
            manifest = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
            for name, sha256 in manifest.items():
                if file_sha256(checkpoint / name) != sha256:
                    raise ValueError(f"{name} is not what was written")
            if "state.json" not in manifest:
                raise ValueError("manifest.json is incomplete")
        except (OSError, ValueError, AttributeError) as error:
            warnings.warn(f"damaged checkpoint not used: {checkpoint}: {error}", stacklevel=2)
            continue
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        files = [checkpoint / name for name in sorted(manifest) if name.endswith(".safetensors")]
        return {file.stem: load_file(file) for file in files}, state
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder
    # Windows flushes only what is open for writing
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
