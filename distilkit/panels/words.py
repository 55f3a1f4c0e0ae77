"""What models answer to a gap, side by side, at a temperature that the reader moves.

The logits of a sentence are computed once; what the slider does with them (Hinton et al. 2015,
equation 1, over the whole vocabulary) is done in the browser by ``words.js``.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from distilkit.config import Scale, home
from distilkit.data.sources import load_teacher
from distilkit.models.fill_mask import fill_mask, mask_logits, pieces
from distilkit.models.loading import load_model
from distilkit.panels.panel import HIGHEST, LOWEST, Panel, check_slider
from distilkit.run import Run, run_folder

SENTENCES = (
    "it was a really {mask} movie .",
    "the president of the united {mask} spoke .",
    "she opened the {mask} and went into the house .",
    "a rose is a kind of {mask} .",
    "the dog chased the {mask} .",
)
TOP = 8  # words of each model


def words_panel(
    models: Mapping[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str] | None = None,
    *,
    temperature: float = 1.0,
    about: dict[str, Any] | None = None,
    folder: Path | None = None,
) -> Panel:
    """A sentence to pick or to type, and the likeliest words of each model for its gap, at T.

    Args:
        models: name -> masked-language model; all of one vocabulary.
        tokenizer: theirs.
        sentences: to pick from, each with the mask token once; by default five.
        temperature: to begin with.
        about: more for the saved files' metadata.
        folder: where Save writes; by default the scale's ``figures/<scale>/``.

    Returns:
        A widget; ``panel.value`` holds ``sentence`` and what each model answers,
        ``panel.settings`` the ``temperature``.

    Raises:
        ValueError: no model, a temperature outside the slider, or one of `sentences` without the
            mask token or with unknown words. (What a reader types is judged in the panel.)
    """
    if not models:
        raise ValueError("models is empty: give at least one")
    mask = tokenizer.mask_token
    sentences = [text.format(mask=mask) for text in SENTENCES] if sentences is None else sentences

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        return _answers(models, tokenizer, str(asked["sentence"]).strip())

    for sentence in sentences:
        _check_words(tokenizer, sentence)

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
    options = {"check": check, "still": still, "answer": answer, "folder": folder}
    return Panel("words.js", value, settings, **options)


def words_of_run(scale: Scale, name: str | None = None, **options: Any) -> Panel:
    """:func:`words_panel` of the scale's teacher and of a run's model.

    Args:
        scale: whose teacher.
        name: of a finished pretraining or distillation; by default the one that ended last.
        options: for :func:`words_panel`.

    Returns:
        The panel; if there is no such run, if it is not finished, or if its model or a sentence
        does not fit the teacher and its tokenizer, one that says so.
    """
    try:
        run = _latest() if name is None else _finished(name)
        teacher, tokenizer = load_teacher(scale)
        model, info = load_model(AutoModelForMaskedLM, run.model)
        if info["missing_keys"]:
            raise ValueError(f"run {run.name!r} is no masked-language model: name a pretraining")
        if model.config.vocab_size != teacher.config.vocab_size:
            raise ValueError(
                f"run {run.name!r} has a vocabulary of {model.config.vocab_size:,}, the teacher of "
                f"the scale {scale.name} one of {teacher.config.vocab_size:,}: name another run"
            )
        models = {"teacher": teacher, f"run {run.name}": model.eval()}
        return words_panel(models, tokenizer, **options)
    except (ValueError, OSError) as error:
        said = f"<p>{html.escape(str(error))}</p>"
        return Panel("words.js", {"problem": str(error)}, still=said)


def _pretrained() -> list[Run]:
    """The finished pretrainings and distillations, the one that ended last at the end."""
    found = sorted((home() / "runs").glob("*/result.json"), key=lambda path: path.stat().st_mtime)
    every = [Run(path.parent) for path in found]
    return [run for run in every if run.result().get("kind") == "pretrain"]


def _latest() -> Run:
    if not (there := _pretrained()):
        raise ValueError("there is no finished run of a student yet: run notebook 04_pretraining")
    return there[-1]


def _finished(name: str) -> Run:
    run = Run(run_folder(name))
    if not (run.path / "config.json").is_file():
        there = ", ".join(other.name for other in _pretrained()) or "none"
        raise ValueError(f"there is no run {name!r}; finished pretrainings: {there}")
    if not run.finished:
        raise ValueError(f"run {name!r} is not finished: run its cell again, it goes on")
    return run


def _check_words(tokenizer: PreTrainedTokenizerBase, sentence: str) -> None:
    """A word without pieces would silently be read as [UNK]."""
    encoded = tokenizer(sentence, return_offsets_mapping=True)
    unknown = [
        sentence[start:end]
        for i, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        if i == tokenizer.unk_token_id
    ]
    if unknown:
        words = ", ".join(repr(word) for word in dict.fromkeys(unknown))
        raise ValueError(f"{words}: unknown to this tokenizer, write another word")


def _answers(
    models: Mapping[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, sentence: str
) -> dict[str, Any]:
    """Each model's likeliest words, and all its logits in descending order."""
    _check_words(tokenizer, sentence)
    answers = []
    for name, model in models.items():
        logits = mask_logits(model, tokenizer, sentence)  # V
        order = logits.argsort(descending=True)
        ordered = logits[order].numpy().astype("<f4")
        ids = order[:TOP].tolist()
        words = pieces(tokenizer, ids)
        answers.append(
            {
                "model": str(name),
                "words": [tokenizer.convert_tokens_to_string([word]).strip() for word in words],
                "logits": base64.b64encode(ordered.tobytes()).decode(),
            }
        )
    return {"sentence": sentence, "answers": answers}
