"""Check that a model reads the token ids that a tokenizer writes: by content, not by size."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from transformers import PreTrainedTokenizerBase

from distilkit.models.loading import has_tokenizer, load_tokenizer

_SPECIAL = ("pad_token_id", "unk_token_id", "cls_token_id", "sep_token_id", "mask_token_id")


def difference(a: PreTrainedTokenizerBase, b: PreTrainedTokenizerBase) -> str | None:
    """Name a token that two tokenizers number differently; None if there is none.

    Ids that only one of them has are no difference.
    """
    tokens = {i: token for token, i in b.get_vocab().items()}
    for token, i in sorted(a.get_vocab().items(), key=lambda item: item[1]):
        if tokens.get(i, token) != token:
            return f"id {i} is {token!r} in one and {tokens[i]!r} in the other"
    for name in _SPECIAL:
        one, other = getattr(a, name, None), getattr(b, name, None)
        if None not in (one, other) and one != other:
            return f"{name} is {one} in one and {other} in the other"
    return None


def saved_tokenizer(model: Any) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer saved with a model, from its folder or the Hub's cache; None without."""
    folder = _folder(model)
    return load_tokenizer(folder) if folder and has_tokenizer(folder) else None


def _folder(model: Any) -> Path | None:
    """Return the folder that a model was loaded from; None if it is gone, or there was none."""
    name = getattr(model, "name_or_path", "")
    if not name or Path(name).is_dir():
        return Path(name) if name else None
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _was_resized(model: Any) -> bool:
    """Tell whether a model's vocabulary has another size than in its folder: tokens were added."""
    file = (_folder(model) or Path()) / "config.json"
    rows = getattr(model.config, "vocab_size", None)
    return file.is_file() and json.loads(file.read_text("utf-8")).get("vocab_size", rows) != rows


def check_vocabulary(model: Any, tokenizer: PreTrainedTokenizerBase, who: str = "model") -> None:
    """Raise ValueError unless the model reads the ids that the tokenizer writes.

    Compared with the rows of its embeddings and, where one is saved with it, with its tokenizer.
    """
    rows = getattr(model.config, "vocab_size", None)
    highest = max(tokenizer.get_vocab().values())
    if rows is not None and highest >= rows:
        raise ValueError(
            f"the tokenizer has ids up to {highest}, but the {who}'s embeddings have {rows} rows: "
            f"give the tokenizer that belongs to the {who}"
        )
    saved = saved_tokenizer(model)
    wrong = difference(tokenizer, saved) if saved is not None else None
    if wrong:
        raise ValueError(
            f"the {who} was saved with another vocabulary than the given tokenizer's ({wrong}): "
            f"give the tokenizer in {model.name_or_path}"
        )


def own_tokenizer(
    teacher: Any, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedTokenizerBase | None:
    """Return the teacher's tokenizer if the teacher reads other ids; None if it reads the same.

    It is the one saved with the teacher. Without one the model's `tokenizer` is assumed; ValueError
    if the teacher does not read its ids.
    """
    other = saved_tokenizer(teacher)
    fits = other is None or len(tokenizer) <= len(other) or _was_resized(teacher)
    if other is None or (fits and not difference(tokenizer, other)):
        check_vocabulary(teacher, tokenizer, "teacher")
        return None
    return other
