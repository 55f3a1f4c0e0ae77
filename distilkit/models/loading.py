"""Load a model or a tokenizer from a checkpoint, or raise a clear error.

The result is transformers' own object. Added here: the download is verified
(:mod:`distilkit.models.hub`), and no code of the checkpoint's author is run. What would end in a
traceback, random weights or an empty vocabulary is refused.
"""

import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from distilkit.config import SCALES, Scale, TrainingConfig
from distilkit.families import PRUNED
from distilkit.models.hub import fetch, local_path
from distilkit.models.pruning import read_pruned

WIDE = 512  # hidden size from which on the tiny scale's learning rate is too high
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


def load_model(
    kind: Any, checkpoint: str | Path, *, new: tuple[str, ...] = (), **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Call ``kind.from_pretrained`` in float32; return the model and its loading info.

    A pruned model, which ``from_pretrained`` cannot read, is read by
    :func:`distilkit.models.pruning.read_pruned`. Weights whose names begin like one of `new` may
    have another shape than the checkpoint's; they are then drawn at random. ValueError if weights
    cannot be read, have other shapes than config.json says, or are not finite.
    """
    folder = fetch(checkpoint)
    config = _config_in(folder, checkpoint)
    if config.get("pruned_heads"):  # version 5 would read it, and prune nothing
        raise ValueError(
            f"{checkpoint}: its heads were pruned by transformers 4 (config.json has "
            "pruned_heads), which version 5 cannot read. Give the model before pruning; "
            "distilkit.prune removes heads from it"
        )
    unreadable = (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError)
    try:
        if PRUNED in config:
            model, info = read_pruned(kind, folder, **options)
        else:
            model, info = kind.from_pretrained(
                folder,
                output_loading_info=True,
                dtype=torch.float32,  # a checkpoint in half precision is computed with in full
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # refused below
                **options,
            )
    except (*unreadable, FileNotFoundError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        raise ValueError(
            f"{checkpoint}: its weights cannot be read ({type(error).__name__}: {lines[0]}). Give "
            "a folder with model.safetensors as save_pretrained writes it, or fetch it again"
        ) from error
    if any(not name.startswith(new) for name, *_ in info["mismatched_keys"]):
        raise ValueError(
            f"{checkpoint}: some weights have another shape than its config.json says. Give both "
            "files as save_pretrained wrote them"
        )
    # the Hub's name, not that of a folder in the cache
    model.name_or_path = str(folder if local_path(checkpoint) else checkpoint)
    bad = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    if bad:
        raise ValueError(f"{checkpoint}: weights are not finite, for instance {bad[0]}")
    return model, info


def _config_in(folder: Path, checkpoint: str | Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        what = "is a folder without a model (config.json): give one by save_pretrained"
        raise FileNotFoundError(f"{checkpoint} {what}")
    return PreTrainedConfig.get_config_dict(folder)[0]


def finetuning_settings(checkpoint: str | Path, scale: Scale) -> TrainingConfig:
    """Return the settings to fine-tune a checkpoint with: the scale's, changed for a wide model.

    The tiny scale's learning rate is for models as narrow as its teacher. From :data:`WIDE` on a
    model gets batch size and rate of BERT's authors (Devlin et al. 2019, appendix A.3).
    """
    config = _config_in(fetch(checkpoint, weights=False), checkpoint)
    width = config.get("hidden_size") or config.get("dim") or 0  # DistilBERT's name for it
    settings, bert = scale.finetuning, SCALES["base"].finetuning
    if width < WIDE or settings != SCALES["tiny"].finetuning:  # another scale's, or the caller's
        return settings
    return replace(settings, batch_size=bert.batch_size, learning_rate=bert.learning_rate)


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder holds a vocabulary; without one transformers makes an empty one."""
    return any(file for pattern in VOCABULARIES for file in folder.glob(pattern))


def load_tokenizer(checkpoint: str | Path) -> PreTrainedTokenizerBase:
    """Load the checkpoint's tokenizer; FileNotFoundError if it holds none.

    Warns if it lower-cases and its vocabulary is that of a cased model.
    """
    folder = fetch(checkpoint, weights=False)
    if not has_tokenizer(folder):
        raise FileNotFoundError(
            f"{checkpoint} holds no tokenizer ({', '.join(VOCABULARIES)}): copy it there from the "
            "model it belongs to"
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if cased := _unreachable(tokenizer):
        warnings.warn(
            f"{checkpoint}: its tokenizer lower-cases, so {cased:,} capitalised entries of the "
            "vocabulary never occur: set do_lower_case to false in tokenizer_config.json, and "
            "lowercase in tokenizer.json",
            stacklevel=2,
        )
    return tokenizer


def _unreachable(tokenizer: PreTrainedTokenizerBase) -> int:
    """Count the entries with a capital that the tokenizer lower-cases; 0 if below 1 %."""
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    if normalizer is None or normalizer.normalize_str("A") != "a":
        return 0
    words = tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys()
    words -= {*tokenizer.all_special_tokens}
    cased = sum(word != word.lower() for word in words)
    return cased if cased > len(words) / 100 else 0
