"""Load what a scale names: teacher, text and tasks, from the Hub or from files."""

import multiprocessing
from collections.abc import Mapping
from typing import Any

import numpy as np
from transformers import AutoModel, AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from distilkit.config import Scale
from distilkit.data import task_files
from distilkit.data.block_cache import cached_blocks
from distilkit.data.block_stream import WINDOW, BlockStream
from distilkit.data.documents import log, open_text
from distilkit.data.tasks import Task
from distilkit.data.text_check import FEW_TOKENS, check_tokens, count_tokens
from distilkit.distillation import check_sizes
from distilkit.masking import MaskedBlocks, masking_weights
from distilkit.models.heads import check_encoder_weights
from distilkit.models.loading import load_model, load_tokenizer
from distilkit.processes import processes
from distilkit.run import run_folder


def load_teacher(scale: Scale) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the scale's teacher, in eval mode and float32, and its tokenizer.

    ValueError if the checkpoint lacks weights: transformers would draw a random head.
    """
    tokenizer = load_tokenizer(scale.teacher)
    teacher, info = load_model(AutoModelForMaskedLM, scale.teacher)
    if any(name.startswith("discriminator_predictions.") for name in info["unexpected_keys"]):
        raise ValueError(
            f"{scale.teacher} is an ELECTRA discriminator, which predicts no masked words: give "
            "the generator, or another encoder with a masked-word head"
        )
    if info["missing_keys"]:
        raise ValueError(
            f"{scale.teacher} has no trained masked-word head (it lacks for instance "
            f"{min(info['missing_keys'])}): give an encoder one with python -m distilkit head"
        )
    return teacher.eval(), tokenizer


def load_encoder(scale: Scale) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the encoder that the scale names as its teacher, without a head, and its tokenizer.

    ValueError if the checkpoint has a masked-word head already, or lacks weights.
    """
    encoder, info = load_model(AutoModel, scale.teacher)
    if any(name.startswith("cls.predictions.") for name in info["unexpected_keys"]):
        raise ValueError(
            f"{scale.teacher} has a masked-word head already: distil --teacher takes it"
        )
    check_encoder_weights(scale.teacher, encoder, info["missing_keys"])
    return encoder.eval(), load_tokenizer(scale.teacher)


def load_blocks(
    scale: Scale, tokenizer: PreTrainedTokenizerBase
) -> tuple[MaskedBlocks, MaskedBlocks]:
    """Load the scale's text as blocks for the loop: for training, and held out.

    A text is tokenized once, into ``data/cache/``; a streamed text as it is read. The numbers of
    tokens and the share of [UNK] are logged. ValueError if the tokenizer does not know the text.
    """
    train, held_out = open_text(scale.text, stream=scale.stream is not None)
    validation = cached_blocks(held_out.read, tokenizer, scale.length, source=held_out.identity())
    counts = count_tokens(validation, tokenizer)
    if counts.tokens >= FEW_TOKENS or not counts.maskable:  # first: it is short
        check_tokens(counts, f"{scale.text} (held out)", scale.teacher)
    seed, weights = scale.distillation.seed, None
    if scale.stream is None:
        blocks = counted = cached_blocks(
            train.read, tokenizer, scale.length, source=train.identity()
        )
    else:
        state, training = processes(), scale.distillation
        turn = state.num_processes * training.micro_batch_size
        if training.batch_size % turn:
            raise ValueError(
                f"TrainingConfig.batch_size = {training.batch_size}: a streamed text needs a "
                f"multiple of {turn}, a micro-batch of each process"
            )
        # asked only if needed: the question settles the method. A stream cannot be pickled
        if training.workers and (
            training.workers > 1 or multiprocessing.get_start_method() != "fork"
        ):
            raise ValueError(
                f"TrainingConfig.workers = {training.workers}: a streamed text is read by one "
                "process; give 0, or 1 where processes are forked"
            )
        share = {"rank": state.process_index, "world": state.num_processes}
        share["group"] = training.micro_batch_size
        blocks = BlockStream(train, tokenizer, scale.length, blocks=scale.stream, **share)
        # word counts have to be equal in all processes: they are those of the text's beginning
        first = BlockStream(train, tokenizer, scale.length, blocks=min(scale.stream, WINDOW))
        counted = first[np.arange(len(first))]
        weights = masking_weights(counted, len(tokenizer), tokenizer.all_special_ids)
    counts = count_tokens(counted, tokenizer)
    check_tokens(counts, scale.text, scale.teacher)
    log.info(
        "%s: %s tokens, %.1f %% of them [UNK], in %s blocks of %s%s",
        *(scale.text, f"{counts.tokens:,}", 100 * counts.unknown_share, f"{len(counted):,}"),
        *(scale.length, "" if scale.stream is None else ", the first ones"),
    )
    masked = MaskedBlocks(blocks, tokenizer, seed=seed, weights=weights)
    return masked, MaskedBlocks(validation, tokenizer, seed=0, weights=masked.weights)


def check_plan(
    scale: Scale,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    name: str | None = None,
) -> None:
    """Check run name, tokenizer and model before time is spent on the text.

    ValueError for an invalid name, a tokenizer that lacks a special token or exceeds the model's
    vocabulary, or blocks longer than its positions.
    """
    if name is not None:
        run_folder(name)
    for token in ("cls_token", "sep_token", "pad_token", "mask_token"):
        if getattr(tokenizer, token) is None:
            raise ValueError(
                f"the tokenizer of {scale.teacher} has no {token}: give a teacher with the "
                "tokenizer of a BERT or RoBERTa"
            )
    check_sizes(model, scale.length, len(tokenizer))


def load_task(scale: Scale, name: str | Task) -> Mapping[str, Any]:
    """Load a task's splits from the scale's folder or Hub data set."""
    return task_files.load(name, scale.glue)


def fewer_examples(train: Any, count: int | None) -> Any:
    """Select `count` training examples, the same for every seed and model; None: all."""
    if count is None:
        return train
    if count < 1:
        raise ValueError(f"--examples {count}: give at least 1")
    return train.shuffle(seed=0).select(range(min(count, len(train))))
