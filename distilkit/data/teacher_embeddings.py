"""A teacher's embeddings of texts, computed once and stored for every student and seed.

``data/cache/embeddings-<key>/``: about.json (what the key is made of), entries.bin (float32, in the
order of the texts), and parts.txt, the SHA-256 of each part that is on disk. A killed build resumes
after the last part, and a damaged part is computed again, with all that follow.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import filelock
import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from distilkit.checkpoint import write_json
from distilkit.config import home
from distilkit.data.examples import Examples
from distilkit.models.sentence_encoder import Pooling, embeddings_of
from distilkit.processes import eval_mode, processes, to_device
from distilkit.run import fingerprint

PART = 1024  # texts that are written and hashed together
_BATCH = 64  # texts that the teacher reads at once


def teacher_embeddings(
    teacher: PreTrainedModel, examples: Examples, pooling: Pooling
) -> np.ndarray:
    """Return embeddings [N, H], float32, mapped from disk; what is missing there is computed.

    Texts of similar length share a batch; the longest come first, so that what does not fit into
    memory fails at once. The teacher returns to its own mode and device.

    Raises:
        OSError: the disk is too small; says how much it takes.
    """
    about = {"teacher": fingerprint(teacher), "texts": examples.digest(), **asdict(pooling)}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]
    path = home() / "data" / "cache" / f"embeddings-{key}"
    shape = len(examples), teacher.config.hidden_size
    by_length = np.argsort(-examples.lengths, kind="stable")
    parts = [by_length[i : i + PART] for i in range(0, len(by_length), PART)]
    path.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path / ".lock"):  # of several processes the first one computes
        write_json(path / "about.json", about)
        entries = _entries(path / "entries.bin", shape)
        names = path / "parts.txt"
        done = _intact(names, entries, parts)
        with (
            tqdm(desc="run the teacher", total=shape[0], unit="text", leave=False) as bar,
            eval_mode(teacher, device=processes().device),
            torch.no_grad(),
            names.open("a") as out,
        ):
            bar.update(sum(map(len, parts[:done])))
            for part in parts[done:]:
                for ids in (part[i : i + _BATCH] for i in range(0, len(part), _BATCH)):
                    batch = to_device(examples.batch(0, ids), teacher.device)
                    entries[ids] = embeddings_of(teacher, batch, pooling).cpu().numpy()
                    bar.update(len(ids))
                entries.flush()
                out.write(f"{_hash(entries[part])}\n")
                out.flush()
    return np.memmap(path / "entries.bin", np.float32, mode="r", shape=shape)


def _entries(file: Path, shape: tuple[int, int]) -> np.memmap:
    """The file for writing, made if it is not there; a full disk would end the process later."""
    size = 4 * shape[0] * shape[1]
    if not file.is_file() or file.stat().st_size != size:
        if (free := shutil.disk_usage(file.parent).free) < size:
            raise OSError(
                errno.ENOSPC,
                f"{os.strerror(errno.ENOSPC)}: the teacher's embeddings take {size / 1e6:.1f} MB, "
                f"{free / 1e6:.1f} MB are free. Make room, or give fewer texts",
                str(file),
            )
        return np.memmap(file, np.float32, mode="w+", shape=shape)
    return np.memmap(file, np.float32, mode="r+", shape=shape)


def _intact(names: Path, entries: np.memmap, parts: list[np.ndarray]) -> int:
    """Count the intact parts; remove the names of the others."""
    lines = names.read_text().splitlines() if names.is_file() else []
    good = 0
    for line, part in zip(lines, parts, strict=False):
        if line != _hash(entries[part]):
            break
        good += 1
    names.write_text("".join(f"{line}\n" for line in lines[:good]))
    return good


def _hash(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()
