"""What models answer to a gap, side by side, at a temperature that the reader moves.

The logits of a sentence are computed once; what the slider does with them (Hinton et al. 2015,
equation 1, over the whole vocabulary) is done in the browser by ``panel_words.js``.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from distilkit.config import Scale, home
from distilkit.mask_filling import fill_mask, mask_logits
from distilkit.panel import Panel
from distilkit.run import Run, run_folder
from distilkit.sources import load_teacher

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
        folder: where Save writes; by default the current scale's ``figures/<scale>/``.

    Returns:
        A widget; ``panel.value`` holds ``sentence``, ``temperature`` and what each model answers.

    Raises:
        ValueError: no model, or one of `sentences` without the mask token or with unknown words.
            (What a reader types is judged in the panel.)
    """
    if not models:
        raise ValueError("models is empty: give at least one")
    mask = tokenizer.mask_token
    sentences = [text.format(mask=mask) for text in SENTENCES] if sentences is None else sentences

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        return _answers(models, tokenizer, str(asked["sentence"]).strip())

    for sentence in sentences:
        _check_words(tokenizer, sentence)
    value = {
        "sentences": list(sentences),
        "mask": mask,
        "temperature": float(temperature),
        "about": about or {},
        **answer({"sentence": sentences[0]}),
    }
    still = fill_mask(models, tokenizer, [sentences[0]], temperature=temperature, top_k=TOP)
    still = still.to_html(escape=True, border=0)
    return Panel("panel_words.js", value, still=still, answer=answer, folder=folder)


def words_of_run(scale: Scale, name: str | None = None, **options: Any) -> Panel:
    """:func:`words_panel` of the scale's teacher and of a run's model.

    Args:
        scale: whose teacher.
        name: of a finished pretraining or distillation; by default the one that ended last.
        options: for :func:`words_panel`.

    Returns:
        The panel; if there is no such run, or it is not finished, one that says so.
    """
    try:
        run = _latest() if name is None else run_folder(name)
        model = AutoModelForMaskedLM.from_pretrained(_finished(run).model).eval()
    except (ValueError, OSError) as error:
        said = f"<p>{html.escape(str(error))}</p>"
        return Panel("panel_words.js", {"problem": str(error)}, still=said)
    teacher, tokenizer = load_teacher(scale)
    return words_panel({"teacher": teacher, run.name: model}, tokenizer, **options)


def _latest() -> Path:
    """The folder of the finished pretraining or distillation that ended last."""
    ended = {
        path.stat().st_mtime: path.parent
        for path in (home() / "runs").glob("*/result.json")
        if Run(path.parent).result().get("kind") == "pretrain"
    }
    if not ended:
        raise ValueError("there is no finished run of a student yet: run notebook 04_pretraining")
    return ended[max(ended)]


def _finished(folder: Path) -> Run:
    run = Run(folder)
    if not folder.is_dir():
        there = ", ".join(path.name for path in sorted(folder.parent.glob("*"))) or "none"
        raise ValueError(f"there is no run {run.name!r}; there are: {there}")
    if not run.finished:
        raise ValueError(f"run {run.name!r} is not finished: run its cell again, it goes on")
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
        words = tokenizer.convert_ids_to_tokens(order[:TOP].tolist())
        answers.append(
            {
                "model": str(name),
                "words": [tokenizer.convert_tokens_to_string([word]).strip() for word in words],
                "logits": base64.b64encode(ordered.tobytes()).decode(),
            }
        )
    return {"sentence": sentence, "answers": answers}
