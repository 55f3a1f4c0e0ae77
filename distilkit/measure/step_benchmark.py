"""What one distillation step costs: the textbook's, and the kit's in two precisions.

The three variants take turns batch by batch on the same batches, so a busy machine slows all of
them alike and the ratio of their times means something. Peak memory is taken from a process of its
own for each variant. Nothing is downloaded unless a Hub id is named: random weights and random
tokens cost what trained ones do.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    PreTrainedModel,
)
from transformers.utils import logging

from distilkit.config import LossConfig, TrainingConfig
from distilkit.data.documents import open_text
from distilkit.distillation import LanguageModelLoss
from distilkit.losses import IGNORE
from distilkit.masking import MASKED_SHARE, MaskedBlocks, pack
from distilkit.measure.flops import flops_per_token
from distilkit.measure.micro_batch_timing import time_micro_batches
from distilkit.measure.size import BYTES_PER_MB, peak_memory_mb
from distilkit.models.loading import load_model, load_tokenizer
from distilkit.processes import end_with_parent, seeded, to_device
from distilkit.student import student_from_teacher
from distilkit.training_loop import parameter_groups

if TYPE_CHECKING:
    import pandas as pd

WIDTHS = {  # teachers: layers, width, heads, tokens a step on a CPU
    "384-wide": (6, 384, 12, 4096),
    "base": (12, 768, 12, 1024),
}
VARIANTS = {"textbook": "fp32", "fp32": "fp32", "bf16": "bf16"}  # what each computes in
WARMUP = 2
MATMUL = {"cpu": 2048, "cuda": 8192}  # side of the square matrices whose product is the peak
# glibc gives every large block back to the system and takes it anew, page by page, zeroed. The
# textbook's step makes many such blocks; with these settings it keeps them.
LARGE_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
_MIB = 2**20


@dataclass(frozen=True)
class Work:
    """What is measured: models, tokens of a step, which tokens get soft targets, allocator."""

    width: str = "384-wide"  # a key of WIDTHS, or a teacher's Hub id or folder
    shape: dict[str, int] | None = None  # BertConfig's fields that differ from the width's
    tokens: str = "all"  # where the KD loss counts: "all" or "masked"
    malloc: str = "default"  # "default" or "large" thresholds
    batch_size: int = 32  # sequences
    length: int = 128  # tokens a sequence
    text: str | None = None  # real tokens, as for open_text; None: random ones
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")
    threads: int = 1

    @property
    def name(self) -> str:
        return f"{self.width}, {self.tokens}, {self.malloc} malloc"


# ---- the three variants


def textbook_loss(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batch: dict[str, Any],
    loss_config: LossConfig,
) -> Tensor:
    """The triple loss as it is usually written: the reference that the kit is measured against.

    Both models give logits for all tokens; boolean masks are expanded over the vocabulary and
    select from them; softmax and losses see all that is selected.

    Args:
        student, teacher: masked language models.
        batch: ``input_ids``, ``attention_mask``, both [B, L], ``labels`` [B, L] with -100 where
            nothing is masked.
        objective: weights, temperature, which tokens.

    Returns:
        Scalar, in float32.
    """
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        theirs = teacher(**inputs, output_hidden_states=True)
    ours = student(**inputs, output_hidden_states=True)
    labels, temperature = batch["labels"], loss_config.temperature

    chosen = labels != IGNORE if loss_config.restrict_kd_to_mask else batch["attention_mask"].bool()
    chosen = chosen.unsqueeze(-1).expand_as(ours.logits)  # B, L, V
    student_logits = ours.logits.masked_select(chosen).view(-1, ours.logits.shape[-1])
    teacher_logits = theirs.logits.masked_select(chosen).view(-1, theirs.logits.shape[-1])
    soft_target = temperature**2 * F.kl_div(
        F.log_softmax(student_logits / temperature, dim=-1),
        F.softmax(teacher_logits / temperature, dim=-1),
        reduction="batchmean",
    )
    mlm = F.cross_entropy(
        ours.logits.view(-1, ours.logits.shape[-1]), labels.view(-1), ignore_index=IGNORE
    )
    real = batch["attention_mask"].bool()
    student_hidden, teacher_hidden = ours.hidden_states[-1], theirs.hidden_states[-1]
    real = real.unsqueeze(-1).expand_as(student_hidden)
    student_hidden = student_hidden.masked_select(real).view(-1, student_hidden.shape[-1])
    teacher_hidden = teacher_hidden.masked_select(real).view(-1, teacher_hidden.shape[-1])
    cosine = F.cosine_embedding_loss(
        student_hidden, teacher_hidden, student_hidden.new_ones(len(student_hidden))
    )
    return (
        loss_config.kd_weight * soft_target
        + loss_config.mlm_weight * mlm
        + loss_config.cosine_weight * cosine
    )


def make_step(
    variant: str, student: PreTrainedModel, teacher: PreTrainedModel, loss_config: LossConfig
) -> Callable[[dict[str, Any]], Tensor]:
    """One optimizer step as a function of the batch; returns the loss, which nobody waits for."""
    training, textbook = TrainingConfig(), variant == "textbook"
    optimizer = torch.optim.AdamW(
        parameter_groups(student, training.weight_decay),
        lr=1e-5,
        betas=training.betas,
        eps=training.eps,
        fused=not textbook,
    )
    loss = LanguageModelLoss(loss_config, teacher)
    device, low = student.device.type, VARIANTS[variant] == "bf16"

    def step(batch: dict[str, Any]) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=low):
            if textbook:
                value = textbook_loss(student, teacher, batch, loss_config)
            else:
                value = loss(student, batch, batch["counts"])["loss"]
        value.backward()
        nn.utils.clip_grad_norm_(student.parameters(), training.max_grad_norm)
        optimizer.step()
        return value.detach()

    return step


# ---- what they work on


def models(work: Work) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Teacher and student; random weights for a key of WIDTHS, else the checkpoint's."""
    if work.width in WIDTHS:
        layers, width, heads, _ = WIDTHS[work.width]
        named = {
            "num_hidden_layers": layers,
            "hidden_size": width,
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
        }
        config = BertConfig(**named | (work.shape or {}))
        with seeded(0):
            teacher = BertForMaskedLM(config)
    else:
        teacher, _ = load_model(AutoModelForMaskedLM, work.width)
    student = student_from_teacher(teacher)
    return teacher.to(work.device).eval(), student.to(work.device).train()


def batches(work: Work, vocabulary: int) -> Iterator[dict[str, Any]]:
    """Endless micro-batches, both as the loop gets them and as the textbook wants them."""
    if work.text is not None:
        tokenizer = load_tokenizer(work.width)
        train, _ = open_text(work.text)
        blocks = MaskedBlocks(pack(train.read(), tokenizer, work.length), tokenizer, seed=0)
    number = 0
    while True:
        if work.text is None:
            batch = _random_batch(work, vocabulary, number)
        else:
            ids = np.arange(number * work.batch_size, (number + 1) * work.batch_size)
            batch = blocks.batch(0, ids % len(blocks))
        labels = torch.full((batch["input_ids"].numel(),), IGNORE)
        labels[batch["rows"][: len(batch["targets"])]] = batch["targets"]
        batch["labels"] = labels.view_as(batch["input_ids"])
        yield to_device(batch, work.device)
        number += 1


def _random_batch(work: Work, vocabulary: int, number: int) -> dict[str, Any]:
    """What `MaskedBlocks.batch` gives, of random tokens: full blocks, 15 % masked."""
    random = torch.Generator().manual_seed(number)
    shape = (work.batch_size, work.length)
    ids = torch.randint(min(1000, vocabulary // 2), vocabulary, shape, generator=random)
    masked = max(1, round(MASKED_SHARE * work.length))
    chosen = torch.rand(shape, generator=random).argsort(1) < masked
    rows = [chosen.flatten().nonzero().flatten(), (~chosen).flatten().nonzero().flatten()]
    tokens, few = ids.numel(), len(rows[0])
    return {
        "input_ids": ids,
        "attention_mask": None,
        "rows": torch.cat(rows),
        "targets": ids[chosen],
        "counts": {"examples": work.batch_size, "tokens": tokens, "masked": few},
    }


# ---- measuring


def bench_step(
    works: Sequence[Work], *, steps: int = 10, path: str | Path | None = None
) -> pd.DataFrame:
    """Measure every work, each in fresh processes; a row for each work and variant.

    Args:
        works: what to measure.
        steps: timed turns, each one step of each variant; two more turns warm up.
        path: a JSON file for the rows, written anew after each work.

    Returns:
        Columns ``work``, ``variant``, ``tokens_per_s`` (median), ``cpu_s_per_ktok`` (processor
        seconds for 1,000 tokens, all threads), ``peak_rss_mib`` (of a process that does nothing
        else; on a GPU the device's memory), ``share_of_peak`` (operations by
        :func:`distilkit.measure.flops.flops_per_token` a second, over those of a matrix product in
        the same precision),
        ``ratio_to_textbook`` (median over turns of the ratio of times; ``ratio_low`` and
        ``ratio_high`` are its quartiles), ``mflop_per_token``, ``largest_batch`` (sequences, on
        a GPU), ``steps`` and the work's settings.

    Raises:
        ValueError: fewer than one step, or works of which a width or text is unknown.
    """
    import pandas as pd

    if steps < 1:
        raise ValueError(f"steps = {steps}: give at least 1")
    if path is not None and not Path(path).parent.is_dir():
        raise ValueError(f"{path}: there is no folder {Path(path).parent}")
    rows: list[dict[str, Any]] = []
    with tqdm(total=len(works) * (1 + len(VARIANTS)), unit="process") as bar:
        for work in works:
            bar.set_description(work.name)
            timed = in_a_process(work, _time_turns, work, steps)
            bar.update()
            for row in timed:
                row |= in_a_process(work, peak_of, work, row["variant"])
                rows.append({"work": work.name, **row, **asdict(work), "steps": steps})
                bar.update()
            if path is not None:
                Path(path).write_text(json.dumps(rows, indent=1) + "\n")
    return pd.DataFrame(rows)


def in_a_process(work: Work, function: Callable, *arguments: Any) -> Any:
    """A process of its own: the allocator is set up when a process starts, and so is its peak."""
    context = multiprocessing.get_context("spawn")
    with (
        _environment(LARGE_MALLOC if work.malloc == "large" else {}),
        ProcessPoolExecutor(1, mp_context=context) as pool,
    ):
        return pool.submit(_as_child, os.getpid(), function, arguments).result()


def _as_child(parent: int, function: Callable, arguments: tuple[Any, ...]) -> Any:
    end_with_parent(parent)
    logging.disable_progress_bar()  # loading a model needs none of its own
    return function(*arguments)


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _time_turns(work: Work, steps: int) -> list[dict[str, Any]]:
    torch.set_num_threads(work.threads)
    teacher, student = models(work)
    loss_config = LossConfig(restrict_kd_to_mask=work.tokens == "masked")
    step = {v: make_step(v, copy.deepcopy(student), teacher, loss_config) for v in VARIANTS}
    wall: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    cpu: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    peak = {"fp32": 0.0, "bf16": 0.0}
    source = batches(work, teacher.config.vocab_size)
    for turn in range(WARMUP + steps):
        batch = next(source)
        for variant in VARIANTS:
            (timing,) = time_micro_batches(step[variant], [as_wanted(variant, batch)], work.device)
            if turn >= WARMUP:
                wall[variant].append(timing.seconds)
                cpu[variant].append(timing.processor_seconds)
        for precision in peak:
            peak[precision] = max(peak[precision], _matmul_flops(work.device, precision))
    tokens, counts = work.batch_size * work.length, batch["counts"]
    share = 1.0 if work.tokens == "all" else counts["masked"] / counts["tokens"]
    flops = flops_per_token(teacher.config, student.config, work.length, share)
    rows = []
    for variant, precision in VARIANTS.items():
        ratios = np.array(wall["textbook"]) / np.array(wall[variant])
        rate = tokens / statistics.median(wall[variant])
        rows.append(
            {
                "variant": variant,
                "tokens_per_s": rate,
                "cpu_s_per_ktok": 1e3 * statistics.median(cpu[variant]) / tokens,
                "share_of_peak": rate * flops / peak[precision],
                "ratio_to_textbook": float(np.median(ratios)),
                "ratio_low": float(np.percentile(ratios, 25)),
                "ratio_high": float(np.percentile(ratios, 75)),
                "mflop_per_token": flops / 1e6,
                "peak_gflop_per_s": peak[precision] / 1e9,
            }
        )
    return rows


def as_wanted(variant: str, batch: dict[str, Any]) -> dict[str, Any]:
    if variant != "textbook" or batch["attention_mask"] is not None:
        return batch
    return {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}


def _matmul_flops(device: str, precision: str) -> float:
    """Operations a second of one large matrix product, as the library does it."""
    side = MATMUL[device]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    _, timing = time_micro_batches(lambda _: torch.mm(a, b), [None, None], device)
    return 2 * side**3 / timing.seconds


def peak_of(work: Work, variant: str) -> dict[str, Any]:
    """Peak memory of this process after two steps; on a GPU also the most sequences that fit."""
    torch.set_num_threads(work.threads)
    teacher, student = models(work)
    step = make_step(
        variant, student, teacher, LossConfig(restrict_kd_to_mask=work.tokens == "masked")
    )
    source = batches(work, teacher.config.vocab_size)
    for _ in range(2):  # the optimizer's moments come with the first step
        step(as_wanted(variant, next(source)))
    if work.device == "cpu":
        peak = peak_memory_mb()
        return {"peak_rss_mib": None if peak is None else peak * BYTES_PER_MB / _MIB}
    used = torch.cuda.max_memory_allocated() / _MIB
    return {"peak_rss_mib": used, "largest_batch": _largest_batch(step, variant, work, teacher)}


def _largest_batch(
    step: Callable[[dict[str, Any]], Tensor], variant: str, work: Work, teacher: PreTrainedModel
) -> int:
    """The most sequences that fit a GPU, to within a tenth."""

    def fits(sequences: int) -> bool:
        wider = replace(work, batch_size=sequences)
        try:
            step(as_wanted(variant, next(batches(wider, teacher.config.vocab_size))))
            return True
        except torch.OutOfMemoryError:
            return False
        finally:
            torch.cuda.empty_cache()

    good, bad = 0, 1
    while fits(bad):
        good, bad = bad, 2 * bad
    while bad - good > max(1, good // 10):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good
