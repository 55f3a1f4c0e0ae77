"""A sentence-transformers folder: an encoder, and the pooling of its hidden states.

Reimers and Gurevych 2019 (arXiv 1908.10084), section 3. Read and written without their library.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from distilkit.checkpoint import write_json
from distilkit.families import inputs_of, positions
from distilkit.losses import at_least_float32
from distilkit.models.heads import check_encoder_weights
from distilkit.models.hub import fetch
from distilkit.models.loading import load_model, load_tokenizer
from distilkit.processes import seeded

MODULES = "modules.json"  # lists what a text passes through, in order
SETTINGS = "config_sentence_transformers.json"  # prompts, similarity
_READS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
_MODES = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens"}  # -> in older files


@dataclass(frozen=True)
class Pooling:
    """Pooling of hidden states into an embedding."""

    mode: str  # "mean" or "max" over the text's tokens, or "cls": its first token
    normalize: bool  # to length 1
    max_length: int  # tokens; longer texts are cut


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return embeddings [B, H], in float32 or more, of hidden states [B, L, H].

    `mask` is [B, L], 0 at padding, which stands on the right.
    """
    hidden, is_real = at_least_float32(hidden), mask.unsqueeze(-1) > 0  # B, L, 1
    if pooling.mode == "cls":
        embedding = hidden[:, 0]
    elif pooling.mode == "max":
        embedding = hidden.masked_fill(~is_real, -torch.inf).amax(1)
    else:
        embedding = (hidden * is_real).sum(1) / is_real.sum(1)
    return F.normalize(embedding, dim=-1) if pooling.normalize else embedding


def embeddings_of(model: PreTrainedModel, batch: Mapping[str, Tensor], pooling: Pooling) -> Tensor:
    """Return an encoder's embeddings [B, H] of a batch of token ids [B, L]."""
    hidden = model(**inputs_of(model, batch)).last_hidden_state
    return pool(hidden, batch["attention_mask"], pooling)


def is_sentence_encoder(checkpoint: str | Path) -> bool:
    """Tell whether a checkpoint is one of sentence-transformers."""
    return (fetch(checkpoint) / MODULES).is_file()


def load_sentence_encoder(
    checkpoint: str | Path,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Pooling]:
    """Load a sentence-transformers checkpoint: the encoder in float32, tokenizer, pooling.

    ValueError for modules other than Transformer, Pooling (mean, max, [CLS]) and Normalize, for
    texts that are changed before tokenization, shortened embeddings, missing weights.
    """
    folder = fetch(checkpoint)
    if not (folder / MODULES).is_file():
        raise FileNotFoundError(
            f"{checkpoint} has no {MODULES}: give a model that sentence-transformers saved"
        )
    modules = _json(folder / MODULES)
    names = [module["type"].rpartition(".")[2] for module in modules]
    if names not in _READS or not all(m["type"].startswith("sentence_tr") for m in modules):
        raise ValueError(
            f"{checkpoint}: its modules are {', '.join(module['type'] for module in modules)}: "
            "give a model of Transformer, Pooling and, if there is one, Normalize"
        )
    inner = folder / modules[0]["path"]
    reading = _json(inner / "sentence_bert_config.json")
    if reading.get("do_lower_case"):
        raise ValueError(
            f"{checkpoint}: sentence_bert_config.json has do_lower_case: set it to false if the "
            "tokenizer lower-cases, as most do; other such models cannot be compressed"
        )
    if prompt := _json(folder / SETTINGS).get("default_prompt_name"):
        raise ValueError(
            f"{checkpoint} puts the prompt {prompt!r} before each text: set default_prompt_name "
            f"in {SETTINGS} to null, and give texts that begin with the prompt"
        )
    if width := _json(folder / SETTINGS).get("truncate_dim"):
        raise ValueError(
            f"{checkpoint} cuts its embeddings to {width} numbers: set truncate_dim in {SETTINGS} "
            "to null; only whole embeddings are compressed"
        )
    mode = _mode(checkpoint, _json(folder / modules[1]["path"] / "config.json"))
    with seeded(0):  # a pooler that the checkpoint lacks is drawn; no embedding reads it
        model, info = load_model(AutoModel, inner)
    check_encoder_weights(checkpoint, model, info["missing_keys"])
    tokenizer = load_tokenizer(inner)
    longest = reading.get("max_seq_length") or tokenizer.model_max_length
    length = min(longest, positions(model))
    return model.eval(), tokenizer, Pooling(mode, len(modules) == 3, length)


def save_modules(
    folder: Path, model: PreTrainedModel, pooling: Pooling, settings: str | Path
) -> None:
    """Add to a folder with an encoder and its tokenizer what sentence-transformers reads.

    `settings` is the checkpoint whose prompts and similarity hold for this model too.
    """
    types = ["Transformer", "Pooling", *(["Normalize"] if pooling.normalize else [])]
    modules = []
    for i, name in enumerate(types):
        path, kind = f"{i}_{name}" if i else "", f"sentence_transformers.models.{name}"
        modules.append({"idx": i, "name": str(i), "path": path, "type": kind})
        (folder / path).mkdir(exist_ok=True)
    write_json(folder / MODULES, modules)
    old = {f"pooling_mode_{name}": mode == pooling.mode for mode, name in _MODES.items()}
    width = {"word_embedding_dimension": model.config.hidden_size}
    source = fetch(settings)
    given = _json(source / _json(source / MODULES)[1]["path"] / "config.json")
    prompts = {"include_prompt": given.get("include_prompt", True)}
    write_json(folder / "1_Pooling" / "config.json", width | old | prompts)
    reading = {"max_seq_length": pooling.max_length, "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", reading)
    if more := _json(source / SETTINGS):
        write_json(folder / SETTINGS, more)


def _mode(checkpoint: str | Path, config: dict[str, Any]) -> str:
    """Return the pooling mode, as newer files name it."""
    named = config.get("pooling_mode")
    if named is None:  # older files have a switch for each mode
        old = {f"pooling_mode_{name}": mode for mode, name in _MODES.items()}
        named = [old.get(key, key) for key, on in config.items() if on is True and "mode" in key]
    modes = [named] if isinstance(named, str) else list(named)
    if len(modes) != 1 or modes[0] not in _MODES:
        raise ValueError(
            f"{checkpoint} pools by {' and '.join(modes)}: give a model that pools by one of "
            f"{', '.join(_MODES)}"
        )
    return modes[0]


def _json(file: Path) -> Any:
    """Return the content of a JSON file; an empty object if there is none."""
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): fetch it again") from None
