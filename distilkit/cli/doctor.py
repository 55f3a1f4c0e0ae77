"""Checks before a long run: do teacher, tokenizer, text, student and machine fit the plan?

Nothing trained here is kept. All checks together take less than a minute, apart from the download
of a teacher that is not in the cache.
"""

from __future__ import annotations

import copy
import math
import os
import shutil
import time
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import httpx
import numpy as np
import pandas as pd
import psutil
import torch
from huggingface_hub import constants
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distilkit.checkpoint import KEEP
from distilkit.config import MLM_ONLY, Scale, home
from distilkit.data.documents import about_how_many
from distilkit.data.packing import pack
from distilkit.data.sources import load_teacher, load_text
from distilkit.data.text_check import UNKNOWN_AT_MOST, count_tokens
from distilkit.distillation import LanguageModelLoss, losses_on
from distilkit.families import positions
from distilkit.masking import MaskedBlocks
from distilkit.measure.flops import step_bytes
from distilkit.measure.latency import gradient_step, time_micro_batches
from distilkit.measure.size import parameter_count
from distilkit.models.hub import local_path
from distilkit.processes import processes, to_device
from distilkit.student import student_from_teacher
from distilkit.study.held_out_text import unigram_loss
from distilkit.training_loop import steps_per_epoch

HUB_SECONDS = 10  # the Hub's deadline
DOCUMENTS = 400  # of the text that are read
OVERFIT_STEPS, OVERFIT_SECONDS = 40, 15
OVERFIT_RATIO = 0.7  # largest ratio of a repeated batch's last loss to its first
TRIAL_SECONDS = 10  # a whole micro-batch is tried if it is expected to take no longer
_GIB = 2**30


class Check(NamedTuple):
    """A row of the table."""

    check: str
    measurement: str
    good: bool


class Plan(NamedTuple):
    """A scale and what it names."""

    scale: Scale
    teacher: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    student: PreTrainedModel
    train: np.ndarray  # blocks of the first documents, [N, L]
    held_out: np.ndarray  # the same of the held-out text


def doctor(scale: Scale) -> pd.DataFrame:
    """Check a plan; a row a :class:`Check`."""
    checks = [_hub()] if _needs_hub(scale) else []
    if all(check.good for check in checks):
        checks += _checks(scale)
    return pd.DataFrame(checks, columns=Check._fields)


def _checks(scale: Scale) -> list[Check]:
    teacher, tokenizer = load_teacher(scale)
    vocabulary = _vocabulary(teacher, tokenizer)
    sizes = f"{scale.length} tokens, {positions(teacher)} positions"
    length = Check("blocks fit the teacher", sizes, scale.length <= positions(teacher))
    if not (vocabulary.good and length.good):
        # the others would fail somewhere inside a model
        return [check for check in (vocabulary, length) if not check.good]
    sample = replace(scale, stream=None if local_path(scale.text) else 1)
    blocks = (
        pack(islice(text.read(), DOCUMENTS), tokenizer, scale.length) for text in load_text(sample)
    )
    plan = Plan(scale, teacher, tokenizer, student_from_teacher(teacher), *blocks)
    text = _text(plan)
    if not text.good:
        return [vocabulary, length, text]
    tokens_per_s, micro_batch_bytes = _speed(plan)
    return [
        vocabulary,
        length,
        text,
        _masked_tokens(plan),
        _overfits(plan),
        _memory(plan, micro_batch_bytes),
        _disk(plan),
        _time(plan, tokens_per_s),
    ]


def _needs_hub(scale: Scale) -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False
    return not all(local_path(name) for name in (scale.teacher, scale.glue, scale.text))


def _hub() -> Check:
    where, check = constants.ENDPOINT, "the Hub answers"
    started = time.perf_counter()
    try:
        # Headers only: a server that sends the page byte by byte must not block
        with httpx.stream("GET", where, timeout=HUB_SECONDS, follow_redirects=True) as response:
            if response.status_code < 500:
                return Check(check, f"{where} in {time.perf_counter() - started:.1f} s", True)
        why = f"status {response.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = f"{type(error).__name__}: {error}"
    advice = "with everything in the cache, set HF_HUB_OFFLINE=1; or name folders and files"
    return Check(check, f"{where}: {why}; {advice}", False)


def _vocabulary(teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Check:
    names = ("cls_token", "sep_token", "pad_token", "mask_token")
    missing = [name for name in names if getattr(tokenizer, name) is None]
    entries, rows = len(tokenizer), teacher.config.vocab_size
    sizes = f"{entries} entries, {rows} rows" + (f", no {', '.join(missing)}" if missing else "")
    # A model's table may be padded to a round number, but not by much
    fits = entries <= rows < entries + 1024 and not missing
    return Check("tokenizer and teacher have one vocabulary", sizes, fits)


def _text(plan: Plan) -> Check:
    train, held_out = (count_tokens(part, plan.tokenizer) for part in (plan.train, plan.held_out))
    measurement = f"{train.unknown_share:.1%} of {train.tokens:,} tokens are [UNK]"
    good = train.unknown_share <= UNKNOWN_AT_MOST and min(train.maskable, held_out.maskable) > 0
    return Check("tokenizer knows the text", measurement, good)


def _masked_tokens(plan: Plan) -> Check:
    """Compare the teacher with a model that knows the tokens' frequencies only."""
    tokenizer, few = plan.tokenizer, plan.held_out[: max(1, 2048 // plan.scale.length)]
    # Without smoothing: tokens are masked as often as they occur
    masks = MaskedBlocks(plan.train, tokenizer, seed=0, smoothing=0)
    blocks = MaskedBlocks(few, tokenizer, seed=0, weights=masks.weights)
    chance = unigram_loss(masks, blocks)
    loss = losses_on(plan.teacher, blocks, MLM_ONLY, batch_size=4)["mlm"]
    losses = f"loss {loss:.2f} nats, by frequency alone {chance:.2f}"
    return Check("teacher beats chance on masked tokens", losses, loss < chance - 0.5)


def _overfits(plan: Plan) -> Check:
    few = plan.train[:2, :64].copy()
    batch = MaskedBlocks(few, plan.tokenizer, seed=0).batch(0, np.arange(len(few)))
    model, loss = copy.deepcopy(plan.student).eval(), LanguageModelLoss(MLM_ONLY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    losses, deadline = [], time.perf_counter() + OVERFIT_SECONDS
    while len(losses) < OVERFIT_STEPS and (len(losses) < 5 or time.perf_counter() < deadline):
        optimizer.zero_grad()
        value = loss(model, batch, batch["counts"])["loss"]
        value.backward()
        optimizer.step()
        losses.append(value.item())
    change = f"loss {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps on one batch"
    return Check("student can overfit one batch", change, losses[-1] < OVERFIT_RATIO * losses[0])


def _memory(plan: Plan, micro_batch_bytes: float | None) -> Check:
    device, size = processes().device, plan.scale.distillation.micro_batch_size
    if micro_batch_bytes is None:
        needed = step_bytes(plan.teacher, plan.student, size, plan.scale.length)
    else:  # weights, gradients and AdamW's two moments come on top
        weights = 16 * parameter_count(plan.student) + 4 * parameter_count(plan.teacher)
        needed = weights + micro_batch_bytes
    free = free_memory(device)
    if needed < math.inf:
        measurement = f"about {needed / _GIB:.1f} GiB for a micro-batch of {size}, "
    else:
        measurement = f"a micro-batch of {size} was tried and does not fit: "
    measurement += f"{free / _GIB:.1f} GiB free on {device.type}"
    return Check("memory", measurement, needed < free)


def _disk(plan: Plan) -> Check:
    # Weights and two moments, of each checkpoint that is kept and of the one that is written
    needed = (12 * (KEEP + 1) + 4) * parameter_count(plan.student)
    if not plan.scale.stream:
        needed += 2 * (_blocks_per_epoch(plan) or 0) * plan.scale.length  # the block cache
    free = shutil.disk_usage(home()).free
    return Check("disk", f"{needed / _GIB:.1f} GiB, {free / _GIB:.1f} GiB free", needed < free)


def _time(plan: Plan, tokens_per_s: float) -> Check:
    training, blocks = plan.scale.distillation, _blocks_per_epoch(plan)
    steps = training.steps
    if steps is None and blocks:
        steps = training.epochs * steps_per_epoch(blocks, training)
    if steps is None:
        estimate = f"{tokens_per_s:,.0f} tokens/s; their number is known after tokenization"
    else:
        hours = steps * training.batch_size * plan.scale.length / tokens_per_s / 3600
        estimate = f"{steps:,} steps at {tokens_per_s:,.0f} tokens/s: about {hours:,.2f} hours"
    return Check("time of the distillation", estimate, True)


def _speed(plan: Plan) -> tuple[float, float | None]:
    """Tokens/s of the loss and its gradient; on a GPU also the bytes of a micro-batch."""
    training, device = plan.scale.distillation, processes().device
    masked = MaskedBlocks(plan.train, plan.tokenizer, seed=0)
    model = copy.deepcopy(plan.student).to(device).train()
    loss = LanguageModelLoss(plan.scale.loss_config, plan.teacher.to(device).eval())
    step = gradient_step(model, loss, training.precision)

    def seconds(examples: int) -> float:
        batch = to_device(masked.batch(0, np.arange(examples) % len(masked)), device)
        return time_micro_batches(step, [batch], device)[0].seconds

    seconds(1)  # the first is slower
    examples, duration_s, taken_bytes = 1, seconds(1), None
    if duration_s * training.micro_batch_size < TRIAL_SECONDS:
        cuda = device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        try:
            duration_s = seconds(training.micro_batch_size)
            examples = training.micro_batch_size
            if cuda:
                taken_bytes = torch.cuda.max_memory_allocated() - before
        except torch.OutOfMemoryError:
            taken_bytes = math.inf  # it does not fit: _memory reports it
    plan.teacher.to("cpu")
    return examples * plan.scale.length / duration_s, taken_bytes


def free_memory(device: torch.device) -> float:
    """Return the free bytes of a device; of the CPU, those that the system has to give."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what was just measured is free again
        return torch.cuda.mem_get_info()[0]
    return psutil.virtual_memory().available


def _blocks_per_epoch(plan: Plan) -> int | None:
    """Estimate the blocks of an epoch; None where that takes reading the whole text."""
    if plan.scale.stream:
        return plan.scale.stream
    documents = about_how_many(plan.scale.text)
    return None if documents is None else round(len(plan.train) * max(1.0, documents / DOCUMENTS))
