"""Predictions of masked-language models for a gap, at a temperature."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.families import positions
from distilkit.losses import softmax_with_temperature
from distilkit.processes import eval_mode


def fill_mask(
    models: Mapping[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    *,
    temperature: float = 1.0,
    top_k: int = 4,
) -> pd.DataFrame:
    """Tabulate the most probable words for the one gap in each sentence, with their probabilities.

    A row per sentence, a column per model of one vocabulary: ``"good 31 %, great 12 %, ..."``. The
    temperature changes the probabilities, not their order (Hinton et al. 2015, equation 1).
    """
    answers: dict[str, list[str]] = {name: [] for name in models}
    for name, model in models.items():
        for text in sentences:
            logits = mask_logits(model, tokenizer, text)
            best = softmax_with_temperature(logits, temperature).topk(top_k)
            words = pieces(tokenizer, best.indices.tolist())
            pairs = zip(words, best.values.tolist(), strict=True)
            # a number and its sign stay on one line
            shown = [f"{word} {100 * p:.0f}\N{NO-BREAK SPACE}%" for word, p in pairs]
            answers[name].append(", ".join(shown))
    return pd.DataFrame(answers, index=list(sentences))


def mask_logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentence: str
) -> torch.Tensor:
    """Return the logits at the gap of a sentence with one mask token, [V], on the CPU."""
    if sentence.count(tokenizer.mask_token) != 1:
        raise ValueError(f"{sentence!r}: write {tokenizer.mask_token} once, where the word is")
    longest = min(tokenizer.model_max_length, positions(model))
    options = {"truncation": True, "max_length": longest, "return_token_type_ids": False}
    inputs = tokenizer(sentence, return_tensors="pt", **options)
    at = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()
    if not len(at):
        raise ValueError(f"{sentence[:60]!r}...: too long, its {tokenizer.mask_token} was cut off")
    with eval_mode(model), torch.no_grad():
        return model(**inputs.to(model.device)).logits[0, int(at[0])].float().cpu()


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Return the tokens' texts; a vocabulary padded to a round number has ids without one."""
    tokens = tokenizer.convert_ids_to_tokens(list(ids))
    return [token or f"#{i}" for token, i in zip(tokens, ids, strict=True)]
