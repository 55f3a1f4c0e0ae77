"""Store of teacher outputs on disk, part by part.

A folder holds about.json (what its key is made of), entries.bin, and parts.txt, the SHA-256 of each
part of entries.bin that is on disk. A killed build resumes after the last one. A damaged part is
reported, and written again with all after it.
"""

import errno
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from distilkit.checkpoint import free_bytes, not_written, write_atomically, write_json
from distilkit.config import home
from distilkit.processes import eval_mode, processes


def cache_folder(kind: str, about: Mapping[str, Any]) -> Path:
    """Return the folder of what `about` describes: ``data/cache/<kind>-<key>``."""
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]
    return home() / "data" / "cache" / f"{kind}-{key}"


def write_missing(
    folder: Path,
    about: Mapping[str, Any],
    sizes: Sequence[int],
    compute: Callable[[int, tqdm], bytes],
    teacher: PreTrainedModel,
    work: Sequence[int],
) -> None:
    """Compute and write the parts that are not on disk, or are damaged there.

    One process does it; others that want the same wait. The teacher is in eval mode and on
    accelerate's device meanwhile. ``compute(part, bar)`` returns a part of `sizes` bytes, and moves
    the bar on by its `work`. OSError if the disk is too small, before or during the work.
    """
    state = processes()  # before the lock: on first use all processes wait for one another here
    folder.mkdir(parents=True, exist_ok=True)
    file, size = folder / "entries.bin", sum(sizes)
    there = file.exists() and file.stat().st_size >= size
    if state.is_main_process and size >= 10**6 and not there:  # fewer are not worth a line
        tqdm.write(
            f"the teacher runs once: {size / 1e6:.1f} MB on disk in {folder}, mapped into memory",
            file=sys.stderr,
        )
    with filelock.FileLock(folder / ".lock"):
        if (done := _intact_parts(folder, sizes)) == len(sizes):
            return
        write_json(folder / "about.json", about)
        bar = tqdm(desc="run the teacher", total=sum(work), initial=sum(work[:done]), leave=False)
        with bar, eval_mode(teacher, device=state.device), torch.no_grad():
            _write(folder, sizes, done, lambda part: compute(part, bar))


def _intact_parts(folder: Path, sizes: Sequence[int]) -> int:
    """Count the intact parts; remove the hashes of the others."""
    names, file = folder / "parts.txt", folder / "entries.bin"
    try:
        lines = names.read_text().split("\n")[:-1]  # what follows the last line was cut off
        with file.open("rb") as content:
            for i, (name, size) in enumerate(zip(lines, sizes, strict=False)):
                if hashlib.sha256(content.read(size)).hexdigest() != name:
                    message = f"damaged teacher cache: part {i + 1} of {file} is not what was "
                    message += "written; it is built again from there on"
                    warnings.warn(message, stacklevel=4)
                    lines = lines[:i]
                    break
    except (FileNotFoundError, UnicodeDecodeError):
        lines = []
    if len(lines) < len(sizes):
        write_atomically(names, "".join(f"{line}\n" for line in lines).encode())
    return min(len(lines), len(sizes))


def _write(folder: Path, sizes: Sequence[int], done: int, compute: Callable[[int], bytes]) -> None:
    file, missing = folder / "entries.bin", sum(sizes[done:])
    try:
        if free_bytes(folder) < missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.touch()
        with file.open("r+b") as out, (folder / "parts.txt").open("a") as names:
            out.seek(sum(sizes[:done]))
            for part in range(done, len(sizes)):
                content = compute(part)
                out.write(content)
                _flush(out)
                names.write(f"{hashlib.sha256(content).hexdigest()}\n")
                _flush(names)
    except OSError as error:
        kept = "what is written is kept"
        raise not_written(error, "the teacher cache", folder, missing, kept) from error


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
