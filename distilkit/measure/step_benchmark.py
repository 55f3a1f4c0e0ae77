"""Cost of one distillation step: the textbook's loss, and the fused one in two precisions.

The three variants take turns batch by batch on the same batches. A busy machine slows all of them
alike, so the ratio of their times is meaningful. Random weights and random tokens cost what trained
ones do.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate.utils import patch_environment
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, PreTrainedModel
from transformers.utils import logging

from distilkit.checkpoint import write_json
from distilkit.config import LossConfig, TrainingConfig
from distilkit.data.documents import open_text
from distilkit.data.packing import pack
from distilkit.distillation import LanguageModelLoss
from distilkit.losses import IGNORE
from distilkit.masking import MASKED_SHARE, MaskedBlocks
from distilkit.measure.flops import flops_per_token
from distilkit.measure.latency import time_micro_batches
from distilkit.measure.size import BYTES_PER_MB, peak_memory_mb
from distilkit.models.loading import load_model, load_tokenizer
from distilkit.processes import end_with_parent, seeded, to_device
from distilkit.student import student_from_teacher
from distilkit.training_loop import parameter_groups

WIDTHS = {  # teachers: layers, width, heads, tokens a step on a CPU
    "384-wide": (6, 384, 12, 4096),
    "base": (12, 768, 12, 1024),
}
VARIANTS = {"textbook": "fp32", "fp32": "fp32", "bf16": "bf16"}  # and the precision of each
WARMUP = 2
# Side of the square matrices whose product is the peak: a CPU without bfloat16 needs seconds for it
MATMUL = {"cpu": 1024, "cuda": 8192}
# glibc returns each large block to the system and requests it again, page by page, zeroed. The
# textbook's step makes many such blocks; with these settings the process keeps them.
LARGE_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
_MIB = 2**20

Step = Callable[[dict[str, Any]], Tensor]


@dataclass(frozen=True)
class Work:
    """What is measured: models, tokens of a step, which tokens get soft targets, allocator."""

    width: str = "384-wide"  # a key of WIDTHS, or a teacher's Hub id or folder
    tokens: str = "all"  # where the KD loss counts: "all" or "masked"
    malloc: str = "default"  # "default" or "large" thresholds
    batch_size: int = 32  # sequences
    length: int = 128  # tokens a sequence
    text: str | None = None  # a text to pack, as for open_text; None: random tokens
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")
    threads: int = 1

    @property
    def name(self) -> str:
        return f"{self.width}, {self.tokens}, {self.malloc} malloc"

    @property
    def loss_config(self) -> LossConfig:
        return LossConfig(restrict_kd_to_mask=self.tokens == "masked")


# ---- the three variants


def textbook_loss(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batch: dict[str, Any],
    loss_config: LossConfig,
) -> Tensor:
    """The triple loss as it is usually written: the reference for time and memory.

    Both models compute logits for all tokens. Boolean masks, expanded over the vocabulary, select
    from them; softmax and losses see all selected rows.

    The batch has ``input_ids`` and ``labels`` [B, L], -100 where nothing is masked, and
    ``attention_mask`` [B, L] or None.
    """
    labels, temperature, mask = batch["labels"], loss_config.temperature, batch["attention_mask"]
    mask = torch.ones_like(labels) if mask is None else mask
    inputs = {"input_ids": batch["input_ids"], "attention_mask": mask}
    with torch.no_grad():
        teacher_output = teacher(**inputs, output_hidden_states=True)
    student_output = student(**inputs, output_hidden_states=True)

    def select(values: Tensor, where: Tensor) -> Tensor:
        where = where.unsqueeze(-1).expand_as(values)  # B, L, V or H
        return values.masked_select(where).view(-1, values.shape[-1])

    chosen = labels != IGNORE if loss_config.restrict_kd_to_mask else mask.bool()
    kd = temperature**2 * F.kl_div(
        F.log_softmax(select(student_output.logits, chosen) / temperature, dim=-1),
        F.softmax(select(teacher_output.logits, chosen) / temperature, dim=-1),
        reduction="batchmean",
    )
    mlm = F.cross_entropy(
        student_output.logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE
    )
    student_hidden = select(student_output.hidden_states[-1], mask.bool())
    teacher_hidden = select(teacher_output.hidden_states[-1], mask.bool())
    same_direction = student_hidden.new_ones(len(student_hidden))
    cosine = F.cosine_embedding_loss(student_hidden, teacher_hidden, same_direction)
    total = loss_config.kd_weight * kd + loss_config.mlm_weight * mlm
    return total + loss_config.cosine_weight * cosine


def make_step(
    variant: str, student: PreTrainedModel, teacher: PreTrainedModel, loss_config: LossConfig
) -> Step:
    """One optimizer step as a function of the batch; returns the loss without a device sync."""
    training, textbook = TrainingConfig(), variant == "textbook"
    optimizer = torch.optim.AdamW(
        parameter_groups(student, training.weight_decay),
        lr=1e-5,
        betas=training.betas,
        eps=training.eps,
        fused=not textbook,
    )
    loss = LanguageModelLoss(loss_config, teacher)
    device, bf16 = student.device.type, VARIANTS[variant] == "bf16"

    def step(batch: dict[str, Any]) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            if textbook:
                value = textbook_loss(student, teacher, batch, loss_config)
            else:
                value = loss(student, batch, batch["counts"])["loss"]
        value.backward()
        nn.utils.clip_grad_norm_(student.parameters(), training.max_grad_norm)
        optimizer.step()
        return value.detach()

    return step


# ---- models and batches


def load_pair(work: Work) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Teacher and student; random weights for a key of WIDTHS, else the checkpoint's."""
    if work.width in WIDTHS:
        layers, width, heads, _ = WIDTHS[work.width]
        config = BertConfig(
            num_hidden_layers=layers,
            hidden_size=width,
            num_attention_heads=heads,
            intermediate_size=4 * width,
        )
        with seeded(0):
            teacher = BertForMaskedLM(config)
    else:
        teacher, _ = load_model(AutoModelForMaskedLM, work.width)
    student = student_from_teacher(teacher)
    return teacher.to(work.device).eval(), student.to(work.device).train()


def batches(work: Work, vocabulary: int) -> Iterator[dict[str, Any]]:
    """Endless micro-batches with what the training loop and the textbook's loss need."""
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
    """What `MaskedBlocks.batch` returns, of random tokens: full blocks, 15 % masked."""
    random = torch.Generator().manual_seed(number)
    shape = (work.batch_size, work.length)
    ids = torch.randint(min(1000, vocabulary // 2), vocabulary, shape, generator=random)
    masked = max(1, round(MASKED_SHARE * work.length))
    chosen = torch.rand(shape, generator=random).argsort(1) < masked
    rows = [chosen.flatten().nonzero().flatten(), (~chosen).flatten().nonzero().flatten()]
    return {
        "input_ids": ids,
        "attention_mask": None,
        "rows": torch.cat(rows),
        "targets": ids[chosen],
        "counts": {"examples": len(ids), "tokens": ids.numel(), "masked": len(rows[0])},
    }


# ---- measuring


def bench_step(
    works: Sequence[Work], *, steps: int = 10, path: str | Path | None = None
) -> pd.DataFrame:
    """Measure each work in new processes; a row for each work and variant.

    Args:
        works: what to measure.
        steps: timed turns, each one step of each variant; two more turns warm up.
        path: a JSON file for the rows, replaced after each work.

    Returns:
        Columns ``work``, ``variant``, ``tokens_per_s`` (median), ``cpu_s_per_ktok`` (processor
        seconds for 1,000 tokens, all threads), ``peak_rss_mib`` (of a separate process; on a GPU
        the device's memory), ``share_of_peak`` (FLOPs a second over those of a matrix product in
        the same precision), ``ratio_to_textbook`` (of times, median over turns; ``ratio_low`` and
        ``ratio_high``: quartiles), ``mflop_per_token``, ``largest_batch`` (sequences, on a GPU),
        ``steps`` and the work's settings.

    Raises:
        ValueError: fewer than one step, or works of which a width or text is unknown.
    """
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
                row |= in_a_process(work, _peak_memory, work, row["variant"])
                rows.append({"work": work.name, **row, **asdict(work), "steps": steps})
                bar.update()
            if path is not None:
                write_json(Path(path), rows)
    return pd.DataFrame(rows)


def in_a_process(work: Work, function: Callable, *arguments: Any) -> Any:
    """Call a function in a new process: only there can the allocator be set and the peak be 0."""
    context = multiprocessing.get_context("spawn")
    settings = LARGE_MALLOC if work.malloc == "large" else {}
    with (
        patch_environment(**settings),
        ProcessPoolExecutor(1, context, _start_worker, (os.getpid(),)) as pool,
    ):
        return pool.submit(function, *arguments).result()


def _start_worker(parent: int) -> None:
    end_with_parent(parent)
    logging.disable_progress_bar()  # the bar of the parent counts the processes


def _time_turns(work: Work, steps: int) -> list[dict[str, Any]]:
    """A row for each variant: median times, and ratios to the textbook turn by turn."""
    torch.set_num_threads(work.threads)
    teacher, student = load_pair(work)
    step = {v: make_step(v, copy.deepcopy(student), teacher, work.loss_config) for v in VARIANTS}
    wall: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    cpu: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    peak = {"fp32": 0.0, "bf16": 0.0}
    source = batches(work, teacher.config.vocab_size)
    for turn in range(WARMUP + steps):
        batch = next(source)
        for variant in VARIANTS:
            (timing,) = time_micro_batches(step[variant], [batch], work.device)
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
        low, ratio, high = np.percentile(
            np.array(wall["textbook"]) / np.array(wall[variant]), (25, 50, 75)
        )
        rate = tokens / statistics.median(wall[variant])
        row = {
            "variant": variant,
            "tokens_per_s": rate,
            "cpu_s_per_ktok": 1e3 * statistics.median(cpu[variant]) / tokens,
            "share_of_peak": rate * flops / peak[precision],
            "ratio_to_textbook": float(ratio),
            "ratio_low": float(low),
            "ratio_high": float(high),
            "mflop_per_token": flops / 1e6,
            "peak_gflop_per_s": peak[precision] / 1e9,
        }
        rows.append(row)
    return rows


def _matmul_flops(device: str, precision: str) -> float:
    """FLOPs a second of one large matrix product, as the library computes it."""
    side = MATMUL[device]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    (timing,) = time_micro_batches(lambda _: torch.mm(a, b), [None], device)
    return 2 * side**3 / timing.seconds


def _peak_memory(work: Work, variant: str) -> dict[str, Any]:
    """Peak memory of this process after two steps; on a GPU also the largest batch that fits."""
    torch.set_num_threads(work.threads)
    teacher, student = load_pair(work)
    step = make_step(variant, student, teacher, work.loss_config)
    source = batches(work, teacher.config.vocab_size)
    for _ in range(2):  # the first step allocates the optimizer's moments
        step(next(source))
    if work.device == "cpu":
        peak = peak_memory_mb()
        return {"peak_rss_mib": None if peak is None else peak * BYTES_PER_MB / _MIB}
    used = torch.cuda.max_memory_allocated() / _MIB
    return {"peak_rss_mib": used, "largest_batch": _largest_batch(step, work, teacher)}


def _largest_batch(step: Step, work: Work, teacher: PreTrainedModel) -> int:
    """The largest batch in sequences that fits a GPU, to within a tenth."""

    def fits(sequences: int) -> bool:
        larger = replace(work, batch_size=sequences)
        try:
            step(next(batches(larger, teacher.config.vocab_size)))
            return True
        except torch.OutOfMemoryError:
            return False
        finally:
            torch.cuda.empty_cache()

    fitting, failing = 0, 1
    while fits(failing):
        fitting, failing = failing, 2 * failing
    while failing - fitting > max(1, fitting // 10):
        middle = (fitting + failing) // 2
        fitting, failing = (middle, failing) if fits(middle) else (fitting, middle)
    return fitting
