"""Cost of one distillation step: the textbook's loss, and the fused one in two precisions.

The three variants take turns on the same batches, so a busy machine slows all of them alike. Random
weights and random tokens cost what trained ones do.
"""

import copy
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, PreTrainedModel

from distilkit.config import LossConfig, TrainingConfig
from distilkit.distillation import LanguageModelLoss
from distilkit.losses import IGNORE
from distilkit.masking import MASKED_SHARE
from distilkit.measure.flops import flops_per_token
from distilkit.measure.latency import Timing, gradient_step, time_micro_batch
from distilkit.measure.size import BYTES_PER_MB, peak_memory_mb
from distilkit.models.loading import load_model
from distilkit.processes import seeded, start_worker, to_device
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
SHARE_OF_PEAK = 0.6  # of a usual step
FORKS = sys.platform == "linux" and not torch.cuda.is_available()  # elsewhere a fork is not safe
PROCESS_SECONDS = 3 if FORKS else 10  # to start a process and build models
_MIB = 2**20


@dataclass(frozen=True)
class Work:
    """Setting of a measurement: models, tokens of a step, which tokens get soft targets."""

    width: str = "384-wide"  # a key of WIDTHS, or a teacher's Hub id or folder
    tokens: str = "all"  # where the KD loss counts: "all" or "masked"
    batch_size: int = 32  # sequences
    length: int = 128  # tokens a sequence
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")
    threads: int = 1

    @property
    def name(self) -> str:
        return f"{self.width}, {self.tokens}"

    @property
    def loss_config(self) -> LossConfig:
        return LossConfig(restrict_kd_to_mask=self.tokens == "masked")


def textbook_loss(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batch: dict[str, Any],
    loss_config: LossConfig,
) -> Tensor:
    """Compute the triple loss as textbooks write it: the reference for time and memory.

    Both models compute logits for all tokens. Boolean masks, expanded over the vocabulary, select
    from them; softmax and losses see all selected rows. The batch has ``input_ids`` and ``labels``
    [B, L], -100 where nothing is masked, and ``attention_mask`` [B, L] or None.
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
) -> Callable[[dict[str, Any]], Tensor]:
    """Return one optimizer step as a function of the batch; its loss without a device sync."""
    training, textbook = TrainingConfig(), variant == "textbook"
    optimizer = torch.optim.AdamW(
        parameter_groups(student, training.weight_decay),
        lr=1e-5,
        betas=training.betas,
        eps=training.eps,
        fused=not textbook,
    )
    loss = LanguageModelLoss(loss_config, teacher)
    if textbook:

        def loss(student, batch, _):
            return {"loss": textbook_loss(student, teacher, batch, loss_config)}

    compute_gradients = gradient_step(student, loss, VARIANTS[variant])

    def step(batch: dict[str, Any]) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = compute_gradients(batch)
        nn.utils.clip_grad_norm_(student.parameters(), training.max_grad_norm)
        optimizer.step()
        return value

    return step


def load_pair(work: Work) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Load teacher and student; random weights for a key of WIDTHS, else the checkpoint's."""
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
    """Yield what `MaskedBlocks.batch` returns, of random tokens: full blocks, 15 % masked.

    And ``labels`` for the textbook's loss.
    """
    shape, masked = (work.batch_size, work.length), max(1, round(MASKED_SHARE * work.length))
    for number in count():
        random = torch.Generator().manual_seed(number)
        ids = torch.randint(min(1000, vocabulary // 2), vocabulary, shape, generator=random)
        chosen = torch.rand(shape, generator=random).argsort(1) < masked
        rows = [chosen.flatten().nonzero().flatten(), (~chosen).flatten().nonzero().flatten()]
        batch = {
            "input_ids": ids,
            "attention_mask": None,
            "rows": torch.cat(rows),
            "targets": ids[chosen],
            "labels": torch.where(chosen, ids, IGNORE),
            "counts": {"examples": len(ids), "tokens": ids.numel(), "masked": len(rows[0])},
        }
        yield to_device(batch, work.device)


def variants(device: str) -> list[str]:
    """List the variants to measure; bfloat16 only where it is not emulated."""
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)
    return [variant for variant, precision in VARIANTS.items() if native or precision != "bf16"]


def bench_step(works: Sequence[Work], *, steps: int = 10) -> pd.DataFrame:
    """Measure each work in new processes; a row for each work and variant.

    `steps` are timed turns, each one step of each variant; two more turns warm up.
    ``distilkit/measure/README.md`` explains the columns. On a GPU ``peak_rss_mib`` is the device's.
    """
    threads = min(work.threads for work in works)
    if min(steps, threads) < 1:
        raise ValueError(f"steps = {steps}, threads = {threads}: give at least 1 of each")
    minutes = sum(expected_seconds(work, steps) for work in works) / 60
    print(
        f"a step in {len(works)} settings, {steps} times each: about {max(1, round(minutes))} min"
    )
    rows: list[dict[str, Any]] = []
    spawn = multiprocessing.get_context("spawn")
    with (
        tqdm(total=sum(1 + len(variants(w.device)) for w in works), unit="process") as bar,
        ProcessPoolExecutor(1, spawn, start_worker, (os.getpid(),)) as pool,
    ):
        for work in works:
            bar.set_description(work.name)
            timed = in_a_process(pool, _time_turns, work, steps)
            bar.update()
            for row in timed:
                row |= {"peak_rss_mib": in_a_process(pool, _peak_memory_mib, work, row["variant"])}
                rows.append({"work": work.name, **row, **asdict(work), "steps": steps})
                bar.update()
    for device in {work.device for work in works}:
        if skipped := set(VARIANTS) - set(variants(device)):
            print(f"{', '.join(skipped)}: not measured, this {device} has no bfloat16 instructions")
    return pd.DataFrame(rows)


def expected_seconds(work: Work, steps: int) -> float:
    """Estimate the time of a work, from its FLOPs and one measured matrix product."""
    teacher, student = load_pair(replace(work, device="meta"))
    flops = flops_per_token(teacher.config, student.config, work.length)
    measured, memory = WARMUP + steps, 2  # steps of a variant in each of its two processes
    total = flops * work.batch_size * work.length * (measured + memory) * len(variants(work.device))
    threads = work.threads / torch.get_num_threads() if work.device == "cpu" else 1.0
    peak = max(_matmul_flops(work.device, "fp32") for _ in range(5))  # the first one warms up
    rate = SHARE_OF_PEAK * threads * peak
    return total / rate + PROCESS_SECONDS * (1 + len(variants(work.device)))


def in_a_process(pool: ProcessPoolExecutor, function: Callable, *arguments: Any) -> Any:
    """Call a function in a new process, so that the peak of the memory is its own.

    It is a copy of the pool's process, which has imported the libraries and does nothing else.
    """
    return pool.submit(_in_a_copy, function, *arguments).result()


def _in_a_copy(function: Callable, *arguments: Any) -> Any:
    context = multiprocessing.get_context("fork" if FORKS else "spawn")
    with ProcessPoolExecutor(1, context, start_worker, (os.getpid(),)) as pool:
        return pool.submit(function, *arguments).result()


def _time_turns(work: Work, steps: int) -> list[dict[str, Any]]:
    """Make a row for each variant: median times, and ratios to the textbook turn by turn."""
    torch.set_num_threads(work.threads)
    teacher, student = load_pair(work)
    names = variants(work.device)
    step = {v: make_step(v, copy.deepcopy(student), teacher, work.loss_config) for v in names}
    timings: dict[str, list[Timing]] = {variant: [] for variant in names}
    peak = dict.fromkeys((VARIANTS[variant] for variant in names), 0.0)
    source = batches(work, teacher.config.vocab_size)
    for _ in range(WARMUP + steps):
        batch = next(source)
        for variant in names:
            timings[variant].append(time_micro_batch(step[variant], batch, work.device))
        for precision in peak:
            peak[precision] = max(peak[precision], _matmul_flops(work.device, precision))
    tokens, counts = work.batch_size * work.length, batch["counts"]
    share = 1.0 if work.tokens == "all" else counts["masked"] / counts["tokens"]
    flops = flops_per_token(teacher.config, student.config, work.length, share)
    rows, textbook = [], np.array(timings["textbook"])[WARMUP:, 0]
    for variant in names:
        best = peak[VARIANTS[variant]]
        seconds, processor_seconds = np.array(timings[variant])[WARMUP:].T
        low, ratio, high = np.percentile(textbook / seconds, (25, 50, 75))
        rate = tokens / np.median(seconds)
        row = {
            "variant": variant,
            "tokens_per_s": rate,
            "cpu_s_per_ktok": 1e3 * np.median(processor_seconds) / tokens,
            "share_of_peak": rate * flops / best,
            "ratio_to_textbook": float(ratio),
            "ratio_low": float(low),
            "ratio_high": float(high),
            "mflop_per_token": flops / 1e6,
        }
        rows.append(row)
    return rows


def _matmul_flops(device: str, precision: str) -> float:
    """Measure FLOPs a second of one large matrix product, as the library computes it."""
    side = MATMUL[device]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    timing = time_micro_batch(lambda _: torch.mm(a, b), None, device)
    return 2 * side**3 / timing.seconds


def _peak_memory_mib(work: Work, variant: str) -> float | None:
    """Measure the peak memory of this process, or of its GPU, after two steps."""
    torch.set_num_threads(work.threads)
    teacher, student = load_pair(work)
    step = make_step(variant, student, teacher, work.loss_config)
    source = batches(work, teacher.config.vocab_size)
    for _ in range(2):  # the first step allocates the optimizer's moments
        step(next(source))
    if work.device == "cuda":
        return torch.cuda.max_memory_allocated() / _MIB
    peak = peak_memory_mb()
    return None if peak is None else peak * BYTES_PER_MB / _MIB
