"""Download a Hub checkpoint, verify its SHA-256, raise a clear error otherwise.

Download, retries, cache and ``HF_HUB_OFFLINE`` are huggingface_hub's. Added here: weights whose
SHA-256 is not the announced one are refused, and every error names the checkpoint and what to do.
"""

import os
import re
import warnings
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download

from distilkit.checkpoint import file_sha256

# configuration, tokenizer, and the card with the licence
_FILES = ["*.json", "*.txt", "*.model", "README.md"]
_WEIGHTS = "model*.safetensors"
_OLD_WEIGHTS = "pytorch_model*.bin"  # of repositories that have no safetensors
_SHA256 = re.compile(r"[0-9a-f]{64}")
# No name on the Hub ends like this; a dot alone does not tell ("owner/model-v1.5")
_FILE_SUFFIXES = {".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".gz", ".safetensors"}


def load_hub_data(*names: str | None, **options: Any) -> Any:
    """Call ``datasets.load_dataset``; ValueError with the cause if the data cannot be prepared."""
    import datasets  # a machine that only trains may lack it

    try:
        return datasets.load_dataset(*names, **options)
    except (RuntimeError, datasets.exceptions.DatasetsError) as error:
        why = error.__cause__ or error
        name = ":".join(filter(None, names))
        raise ValueError(f"the Hub's {name}: {type(why).__name__}: {why}") from error


def local_path(source: str | Path) -> Path | None:
    """Return the file or folder at `source`, ``~`` expanded; None for a name on the Hub.

    What is on this disk comes before the Hub. FileNotFoundError if nothing is there and `source`
    looks like a path: absolute, from ``.``, ``..`` or ``~``, of three or more parts, or with a
    file's suffix.
    """
    path = Path(os.path.expanduser(source))  # unlike Path.expanduser, leaves ~nobody unchanged
    given = str(source).strip()
    if given and path.exists():
        return path
    if (
        given in ("", "..")
        or given.startswith(("./", "../", "~"))
        or path.is_absolute()
        or len(path.parts) > 2  # a name on the Hub is NAME or OWNER/NAME
        or path.suffix.lower() in _FILE_SUFFIXES
    ):
        raise FileNotFoundError(
            f"no file or folder at {str(source)!r}: correct the path, or give the name of a model "
            "or data set on the Hub"
        )
    return None


def fetch(checkpoint: str | Path, *, weights: bool = True) -> Path:
    """Return the folder of a checkpoint, downloaded from the Hub (once) and verified if needed.

    Without `weights` only the small files are downloaded, as for a tokenizer.
    Requests time out after ``HF_HUB_DOWNLOAD_TIMEOUT`` seconds (10 by default), with some retries.

    Raises:
        FileNotFoundError, NotADirectoryError: a path that does not exist, of a run, or of a file.
        ConnectionError: the Hub has no such repository, cannot be reached, or, with
            ``HF_HUB_OFFLINE``, the checkpoint is not in the cache.
        ValueError: a file that is not the one that the Hub announced; it is deleted.
    """
    if folder := local_path(checkpoint):
        if not folder.is_dir():
            raise NotADirectoryError(f"{checkpoint} is a file: give the folder of a checkpoint")
        if (folder / "environment.json").is_file():
            raise FileNotFoundError(f"{checkpoint} is the folder of a run: give {folder / 'model'}")
        return folder
    try:
        files = [*_FILES, _WEIGHTS] if weights else _FILES
        folder = Path(snapshot_download(str(checkpoint), allow_patterns=files))
        if weights and not any(folder.glob(_WEIGHTS)):
            folder = Path(snapshot_download(str(checkpoint), allow_patterns=_OLD_WEIGHTS))
            if not any(folder.glob(_OLD_WEIGHTS)):
                raise FileNotFoundError("no loadable weights, there or in the cache")
    except Exception as error:  # four libraries' exceptions meet here, none of them is swallowed
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0].rstrip(".: ")
        raise ConnectionError(
            f"{checkpoint} could not be downloaded from {constants.ENDPOINT}: {reason}. Check name "
            "and network, then retry; partial downloads are kept"
        ) from error
    stored = [file for name in (_WEIGHTS, _OLD_WEIGHTS) for file in folder.glob(name)]
    if weights and not all(file.is_symlink() for file in stored):
        why = "the SHA-256 of its weights was not checked, since this cache has no links"
        warnings.warn(f"{checkpoint}: {why}", stacklevel=2)
    for file in folder.rglob("*"):
        stored = file.resolve()
        if not (file.is_file() and _SHA256.fullmatch(stored.name)):
            continue  # a large file's name in the cache is the SHA-256 that the Hub announced
        if file_sha256(stored) != stored.name:
            file.unlink(missing_ok=True)  # another process may have seen it too
            stored.unlink(missing_ok=True)
            raise ValueError(
                f"{checkpoint}: {file.name} is not the file that the Hub announced (its SHA-256 is "
                f"not {stored.name[:12]}...). It has been deleted; try again"
            )
    return folder
