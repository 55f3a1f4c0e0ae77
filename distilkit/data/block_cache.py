"""Blocks of a text on disk: tokenized once, and mapped into memory.

Memory does not grow with the text. A killed tokenization resumes after the last finished part. A
second process that needs the same blocks waits for the first.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from distilkit.checkpoint import not_written, write_json
from distilkit.data.packing import stream_blocks
from distilkit.data.teacher_store import cache_folder

_FORMAT = 3  # changes with what is written


def cached_blocks(
    documents: Callable[[], Iterable[str]],
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    *,
    source: Any,
) -> np.ndarray:
    """Load the blocks of the documents from ``data/cache/``, or make them.

    `source` identifies the text, for ``json.dumps``. Returns [blocks, L], mapped from the file,
    read-only; uint16 if the vocabulary fits, else int32.
    """
    meaning = {"format": _FORMAT, "source": source, "length": length}
    meaning["tokenizer"] = tokenizer_digest(tokenizer)
    folder = cache_folder("blocks", meaning)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "blocks.bin"
    with filelock.FileLock(folder / ".lock"):
        state = _state(folder, file)
        if not state["complete"]:
            _write(documents, tokenizer, length, folder, file, state)
            state = _state(folder, file)
    return np.memmap(file, _type(tokenizer), mode="r", shape=(state["blocks"], length))


def _type(tokenizer: PreTrainedTokenizerBase) -> type:
    """Choose two bytes a token for up to 65,536 entries, as BERT and RoBERTa have."""
    return np.uint16 if len(tokenizer) <= 1 << 16 else np.int32


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what decides how a text becomes token ids."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = tokenizer.get_vocab() if backend is None else json.loads(backend.to_str())
    if backend is not None:  # an earlier call's settings, or those that it was saved with
        rules |= {"truncation": None, "padding": None}
    special = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]
    name = type(tokenizer).__name__
    return hashlib.sha256(f"{name} {special} {json.dumps(rules)}".encode()).hexdigest()


def _state(folder: Path, file: Path) -> dict[str, Any]:
    """Read the state of the build; an empty one if the file is shorter than it says."""
    empty = {"complete": False, "blocks": 0, "bytes": 0, "documents": 0, "carry": []}
    try:
        state = json.loads((folder / "state.json").read_text())
    except (FileNotFoundError, ValueError):  # JSON's and Unicode's
        return empty
    return state if file.is_file() and file.stat().st_size >= state["bytes"] else empty


def _write(
    documents: Callable[[], Iterable[str]],
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    folder: Path,
    file: Path,
    state: dict[str, Any],
) -> None:
    texts = islice(documents(), state["documents"], None)
    parts = stream_blocks(
        texts, tokenizer, length, documents=state["documents"], carry=state["carry"]
    )
    bar = tqdm(desc="tokenize", unit=" docs", initial=state["documents"], leave=False)
    with bar, file.open("ab", buffering=0) as out:  # closing it writes nothing more
        out.truncate(state["bytes"])  # what a killed process wrote after its last state
        for part in parts:
            blocks = part.blocks.astype(_type(tokenizer))
            try:
                content = memoryview(blocks.tobytes())
                while content:
                    content = content[out.write(content) :]
                os.fsync(out.fileno())
            except OSError as error:
                what, kept = "some blocks of a text", "what is written is kept"
                raise not_written(error, what, folder, blocks.nbytes, kept) from error
            bar.update(part.documents - state["documents"])
            state["blocks"] += len(blocks)
            state["bytes"] += blocks.nbytes
            state |= {"documents": part.documents, "carry": part.carry.tolist()}
            write_json(folder / "state.json", state | {"complete": part.last})
