"""The most probable words of several models at a masked position, with a slider for T.

The logits of a sentence are computed once. ``words.js`` applies the temperature in the browser
(Hinton et al. 2015, equation 1, over the whole vocabulary).
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.models.fill_mask import fill_mask, mask_logits, pieces
from distilkit.panels.panel import HIGHEST, LOWEST, Panel, check_slider

SENTENCES = (
    "it was a really {mask} movie .",
    "the president of the united {mask} spoke .",
    "she opened the {mask} and went into the house .",
    "a rose is a kind of {mask} .",
    "the dog chased the {mask} .",
)
TOP = 8  # words shown of each model


def words_panel(
    models: Mapping[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str] | None = None,
    *,
    temperature: float = 1.0,
    about: dict[str, Any] | None = None,
) -> Panel:
    """Show a sentence to choose or to type, and each model's most probable words for its gap at T.

    Args:
        models: name -> masked-language model; all of one vocabulary.
        sentences: to choose from, each with the mask token once; by default those of
            :data:`SENTENCES` that the tokenizer knows.
        about: more for the saved files' metadata.

    Returns:
        A widget; ``panel.value`` holds ``sentence`` and the models' ``answers``,
        ``panel.settings`` the ``temperature``. Errors in typed sentences show in the panel.
    """
    if not models or not (sentences is None or sentences):
        raise ValueError("models or sentences are empty: give at least one of each")
    mask = tokenizer.mask_token
    if sentences is None:
        known = [text.format(mask=mask) for text in SENTENCES]
        sentences = [s for s in known if not _unknown(tokenizer, s)] or [mask]

    for sentence in sentences:
        _check_words(tokenizer, sentence)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        sentence, answers = str(request["sentence"]).strip(), []
        _check_words(tokenizer, sentence)
        for name, model in models.items():
            logits = mask_logits(model, tokenizer, sentence)  # V
            order = logits.argsort(descending=True)
            ordered = logits[order].numpy().astype("<f4")
            words = pieces(tokenizer, order[:TOP].tolist())
            words = [tokenizer.convert_tokens_to_string([word]).strip() for word in words]
            encoded = base64.b64encode(ordered.tobytes()).decode()
            answers.append({"model": str(name), "words": words, "logits": encoded})
        return {"sentence": sentence, "answers": answers}

    def check(settings: dict[str, Any]) -> None:
        check_slider("temperature", settings["temperature"], LOWEST, HIGHEST)

    settings = {"temperature": float(temperature)}
    check(settings)
    value = {
        "sentences": list(sentences),
        "mask": mask,
        "about": about or {},
        **answer({"sentence": sentences[0]}),
    }
    still = fill_mask(models, tokenizer, [sentences[0]], temperature=temperature, top_k=TOP)
    still = still.to_html(escape=True, border=0)
    return Panel("words.js", value, settings, check=check, still=still, answer=answer)


def _unknown(tokenizer: PreTrainedTokenizerBase, sentence: str) -> list[str]:
    """List the words that the tokenizer silently replaces by [UNK]."""
    encoded = tokenizer(sentence, return_offsets_mapping=True)
    return [
        sentence[start:end]
        for i, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        if i == tokenizer.unk_token_id
    ]


def _check_words(tokenizer: PreTrainedTokenizerBase, sentence: str) -> None:
    if unknown := _unknown(tokenizer, sentence):
        words = ", ".join(repr(word) for word in dict.fromkeys(unknown))
        raise ValueError(f"{words}: unknown to this tokenizer, write another word")
