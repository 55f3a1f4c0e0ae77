"""Load checkpoints with a new or a fine-tuned head; train a new MLM head."""

import copy
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedModel
from transformers.utils import logging as hf_logging

from distilkit.config import LossConfig, TrainingConfig
from distilkit.distillation import distil
from distilkit.families import PRUNED
from distilkit.masking import MaskedBlocks
from distilkit.models.loading import load_model
from distilkit.processes import seeded
from distilkit.run import Run

HEAD = ("classifier.", "pre_classifier.", "score.", "qa_outputs.")  # names of a head's weights
POOLERS = re.compile(r"pooler\.|^head\.")  # what a head reads; a checkpoint may have it, or not
HEAD_SCALE = 0.02 * 768  # standard deviation of a new head's weights, times the width: BERT-base's


def with_new_head(kind: type, checkpoint: str | Path, seed: int, **config: Any) -> PreTrainedModel:
    """Load a checkpoint in float32 as an auto class of transformers, with a new head from `seed`.

    A head that the checkpoint has is left out; its pooler stays. The head's weights are normal with
    standard deviation ``0.02 · 768 / width``: BERT's 0.02 at BERT-base's width. At a width of 192,
    with 0.02, the logits hardly differ between inputs, and a short fine-tuning does not make up for
    it. ValueError if the checkpoint lacks weights other than the head's.
    """
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()  # its table of missing weights is checked below instead
    try:
        with seeded():  # transformers draws a head too, which is replaced below
            model, info = load_model(kind, checkpoint, new=HEAD, **config)
    finally:
        hf_logging.set_verbosity(verbosity)
    missing = info["missing_keys"]
    check_encoder_weights(checkpoint, model, missing)
    generator = torch.Generator("cpu").manual_seed(seed)
    for name, parameter in model.named_parameters():
        if not (name in missing or name.startswith(HEAD)):
            continue
        if parameter.dim() > 1:
            width = parameter.shape[1]
            drawn = torch.empty_like(parameter, device="cpu")
            torch.nn.init.normal_(drawn, std=HEAD_SCALE / width, generator=generator)
            parameter.data.copy_(drawn)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    return model


def check_encoder_weights(
    checkpoint: str | Path, model: PreTrainedModel, missing: Iterable[str]
) -> None:
    """Raise ValueError if a checkpoint lacks weights other than those of a head or pooler."""
    lost = sorted(n for n in missing if not (n.startswith(HEAD) or POOLERS.search(n)))
    if lost:
        raise ValueError(
            f"{checkpoint} lacks {len(lost)} weights of a {type(model).__name__} (for instance "
            f"{lost[0]}): it is no checkpoint of that architecture"
        )


def fine_tuned(kind: type, checkpoint: str | Path) -> PreTrainedModel:
    """Load a fine-tuned checkpoint in float32, as a teacher or to measure it.

    ValueError if it lacks weights, which transformers would draw at random, or has another head.
    """
    model, info = load_model(kind, checkpoint)
    if missing := info["missing_keys"]:
        new = any(name.startswith(HEAD) for name in missing)
        why = "its folder is incomplete (save the model whole), or of another architecture"
        raise ValueError(
            f"{checkpoint} lacks weights of a {type(model).__name__} (for instance "
            f"{min(missing)}): {'it is not fine-tuned yet' if new else why}"
        )
    saved = (model.config.architectures or [type(model).__name__])[0]
    purpose = type(model).__name__.partition("For")[2]
    if "For" in saved and saved.partition("For")[2] != purpose:
        raise ValueError(f"{checkpoint} was saved as a {saved}: its head is not for {purpose}")
    return model


def masked_lm_from_encoder(encoder: BertModel, seed: int) -> BertForMaskedLM:
    """Put a new MLM head on a copy of an encoder, so that it can be a teacher.

    Many published encoders (sentence embedders, for instance) come without this head.
    :func:`train_head` trains it. The decoder is tied to the encoder's word embeddings, as in BERT;
    the pooler is left out.
    """
    if type(encoder) is not BertModel:
        raise TypeError(
            f"an MLM head can be given to a BertModel, not to a {type(encoder).__name__}"
        )
    if hasattr(encoder.config, PRUNED):
        raise ValueError("the encoder is pruned: give the one before pruning")
    with seeded(seed):
        model = BertForMaskedLM(BertConfig.from_dict(encoder.config.to_dict()))
    state = {k: v for k, v in encoder.state_dict().items() if not k.startswith("pooler.")}
    model.bert.load_state_dict(state)
    model.tie_weights()
    return model.to(encoder.dtype).eval()


def train_head(
    model: BertForMaskedLM,
    blocks: MaskedBlocks,
    training: TrainingConfig,
    *,
    name: str,
    validation: MaskedBlocks | None = None,
) -> Run:
    """Train a new MLM head, while a cosine loss keeps hidden states close to the original encoder.

    All weights are trained. By MLM only the encoder would forget before the head can predict
    (learning without forgetting: Li and Hoiem 2016, arXiv 1606.09282).
    """
    same = tuple((layer, layer) for layer in range(model.config.num_hidden_layers + 1))
    loss_config = LossConfig(kd_weight=0.0, mlm_weight=1.0, cosine_weight=5.0, cosine_layers=same)
    before = copy.deepcopy(model)
    return distil(
        model, before, blocks, training, name=name, loss_config=loss_config, validation=validation
    )
