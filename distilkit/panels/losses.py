"""The three losses of each token of a few sentences.

:mod:`distilkit.study.token_losses` computes the values once. Choosing a token and moving the
weights is done in the browser by ``losses.js``.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.config import LossConfig
from distilkit.masking import MaskedBlocks
from distilkit.models.fill_mask import pieces
from distilkit.panels.panel import Panel, check_slider
from distilkit.study.token_losses import TERMS, gradient_products, rows_of, token_losses

TOP = 5  # words of teacher and student at a token
MAX_WEIGHT = 10.0  # end of the weights' sliders
MAX_TOKENS = 64  # shown of a sentence


def loss_panel(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    blocks: MaskedBlocks,
    *,
    loss_config: LossConfig | None = None,
    ids: Sequence[int] = (0, 1, 2, 3),
    epoch: int = 0,
    about: dict[str, Any] | None = None,
) -> Panel:
    """Show blocks of text token by token: masked, kept or replaced, with the losses of each.

    A chosen token shows the five most probable words of teacher and student. Three sliders set the
    weights. Each term's share of the total, the norm of its gradient with respect to the student's
    parameters, and the cosines between the gradients follow.

    Args:
        student, teacher: masked-language models of one vocabulary.
        blocks: masked text; blocks longer than 64 tokens are cut there.
        loss_config: the temperature and the first values of the weights.
        ids: block numbers.
        epoch: whose masks are shown.
        about: more for the saved files' metadata.

    Returns:
        A widget; ``panel.value`` holds all that is shown, ``panel.settings`` the ``weights``, the
        chosen ``token`` and the term that sets the colours.
    """
    ids = np.asarray(ids, dtype=np.int64)
    if not len(ids) or ids.min() < 0 or ids.max() >= len(blocks):
        raise ValueError(f"ids = {ids.tolist()}: give block numbers from 0 to {len(blocks) - 1}")
    loss_config = loss_config or LossConfig()
    if loss_config.cosine_layers:
        raise ValueError(
            "loss_config: the panel shows the last layers' cosine: leave out cosine_layers"
        )
    settings = {
        "weights": [loss_config.kd_weight, loss_config.mlm_weight, loss_config.cosine_weight],
        "shown": "total",
    }
    batch = blocks.batch_of(*(each[:, :MAX_TOKENS] for each in blocks.mask(epoch, ids)))
    each = token_losses(student, teacher, batch, loss_config)
    sentences = _sentences(student, teacher, batch, each, blocks.tokenizer)
    losses = [token["losses"][1] or 0.0 for sentence in sentences for token in sentence]
    settings["token"] = losses.index(max(losses))  # the largest MLM loss

    def check(settings: dict[str, Any]) -> None:
        for weight in settings["weights"]:
            check_slider("weight", weight, 0.0, MAX_WEIGHT)

    check(settings)
    value = {
        "terms": TERMS,
        "means": [each[term].nanmean().nan_to_num().item() for term in TERMS],
        "counts": [int((~each[term].isnan()).sum()) for term in TERMS],
        "products": gradient_products(student, teacher, batch, loss_config).tolist(),
        "temperature": loss_config.temperature,
        "sentences": sentences,
        "about": about or {},
    }
    still = f"<p>{html.escape(blocks.tokenizer.decode(batch['input_ids'][0]))}</p>"
    return Panel("losses.js", value, settings, check=check, still=still)


def _sentences(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batch: dict[str, Any],
    each: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerBase,
) -> list[list[dict[str, Any]]]:
    """Describe each token as JSON: word, fate, losses, the most probable words of both models."""
    ids = batch["input_ids"]
    originals = dict(zip(batch["rows"].tolist(), batch["targets"].tolist(), strict=False))
    probable = {}
    for model in (teacher, student):
        with torch.no_grad():
            best = rows_of(model, batch)[0].float().softmax(-1).topk(TOP)
        words = [pieces(tokenizer, row) for row in best.indices.tolist()]
        pairs = [
            [[word, round(p, 5)] for word, p in zip(*row, strict=True)]
            for row in zip(words, best.values.tolist(), strict=True)
        ]
        probable[id(model)] = dict(zip(batch["rows"].tolist(), pairs, strict=True))
    places = sorted(probable[id(teacher)])  # flat positions without padding
    sentences: list[list[dict[str, Any]]] = [[] for _ in ids]
    for place in places:
        row, column = divmod(place, ids.shape[1])
        shown, original = int(ids[row, column]), originals.get(place)
        losses = [each[term][row, column].item() for term in TERMS]
        token = {
            "word": tokenizer.convert_ids_to_tokens(shown),
            "fate": _fate(shown, original, tokenizer.mask_token_id),
            "original": None if original is None else tokenizer.convert_ids_to_tokens(original),
            "losses": [None if math.isnan(loss) else round(loss, 6) for loss in losses],
            "teacher": probable[id(teacher)][place],
            "student": probable[id(student)][place],
        }
        sentences[row].append(token)
    return sentences


def _fate(shown: int, original: int | None, mask: int) -> str:
    if original is None:
        return ""
    if shown == mask:
        return "masked"
    return "kept" if shown == original else "replaced"
