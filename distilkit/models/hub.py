"""Download a Hub checkpoint, verify its SHA-256, raise a clear error otherwise.

Download, retries, cache and ``HF_HUB_OFFLINE`` are huggingface_hub's. Added here: weights whose
SHA-256 is not the announced one are refused, and every error names the checkpoint and what to do.
"""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import constants, snapshot_download

from distilkit.checkpoint import file_sha256

_FILES = ["*.json", "*.txt", "*.model", "model*.safetensors"]  # configuration, tokenizer, weights
_OLD_WEIGHTS = "pytorch_model*.bin"  # of repositories that have no safetensors
_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch(checkpoint: str | Path) -> Path:
    """Return the folder of a checkpoint, downloaded from the Hub (once) and verified if needed.

    Requests time out after ``HF_HUB_DOWNLOAD_TIMEOUT`` seconds (10 by default), with some retries.

    Raises:
        FileNotFoundError: a path that does not exist.
        ConnectionError: the Hub has no such repository, cannot be reached, or, with
            ``HF_HUB_OFFLINE``, the checkpoint is not in the cache.
        ValueError: a file that is not the one that the Hub announced; it is deleted.
    """
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return folder
    a_path = folder.is_absolute() or str(checkpoint).startswith((".", "~"))
    if a_path or len(folder.parts) > 2:  # an id of the Hub is owner/name
        raise FileNotFoundError(f"no checkpoint at {checkpoint}")
    try:
        folder = Path(snapshot_download(str(checkpoint), allow_patterns=_FILES))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(str(checkpoint), allow_patterns=_OLD_WEIGHTS))
        if not any(folder.glob("*.safetensors")) and not any(folder.glob(_OLD_WEIGHTS)):
            raise FileNotFoundError("there are no weights in it that could be loaded")
    except Exception as error:  # four libraries' exceptions meet here, none of them is swallowed
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0].rstrip(".: ")
        raise ConnectionError(
            f"{checkpoint} could not be had from {constants.ENDPOINT}: {reason}. Look at "
            "its name and at the network, and try again: what has arrived is kept"
        ) from error
    for file in folder.rglob("*"):
        _refuse_altered(file, checkpoint)
    return folder


def _refuse_altered(file: Path, checkpoint: str | Path) -> None:
    """Compare a large file with its name in the cache: the SHA-256 that the Hub announced."""
    stored = file.resolve()
    if not (file.is_file() and _SHA256.fullmatch(stored.name)):
        return
    if file_sha256(stored) != stored.name:
        file.unlink(missing_ok=True)  # another process may have seen it too
        stored.unlink(missing_ok=True)
        raise ValueError(
            f"{checkpoint}: {file.name} is not the file that the Hub announced (its SHA-256 is "
            f"not {stored.name[:12]}...). It has been deleted; try again"
        )
