"""Checks before hours are spent: do teacher, tokenizer, text, student and machine fit the plan?

Each check is a number and a verdict. Nothing is trained that is kept, and all of it takes less than
a minute (the download of a teacher that is not in the cache yet comes on top).
"""

from __future__ import annotations

import copy
import math
import os
import shutil
import threading
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.checkpoint import KEEP
from distilkit.config import MLM_ONLY, Scale, home
from distilkit.data.documents import about_how_many, is_local
from distilkit.data.sources import load_task, load_teacher, load_text
from distilkit.data.tasks import chance_score, get_task
from distilkit.distillation import LanguageModelLoss, losses_on
from distilkit.families import positions
from distilkit.finetuning import check_classifier, evaluate_task
from distilkit.masking import MaskedBlocks, pack
from distilkit.measure.flops import step_bytes
from distilkit.measure.micro_batch_timing import gradient_step, time_micro_batches
from distilkit.measure.size import parameter_count
from distilkit.models.heads import fine_tuned
from distilkit.processes import processes, to_device
from distilkit.student import student_from_teacher
from distilkit.training_loop import steps_per_epoch

if TYPE_CHECKING:
    import pandas as pd

HUB_SECONDS = 10  # the Hub's deadline
DOCUMENTS = 400  # of the text that are looked at
OVERFIT_STEPS, OVERFIT_SECONDS = 40, 15
ENOUGH_OVERFIT = 0.7  # the loss of a batch that is seen again and again, of its first one
EXAMPLES = 200  # of a task's validation set
_GIB = 2**30


def doctor(scale: Scale, *, task: str | None = None, checkpoint: str | None = None) -> pd.DataFrame:
    """What would go wrong, as a table ``check, found, good``.

    Args:
        scale: the plan.
        task, checkpoint: a classifier fine-tuned on this task, if it is to be a teacher too.

    Raises:
        ValueError: one of `task` and `checkpoint` without the other.
    """
    import pandas as pd

    if (task is None) != (checkpoint is None):
        raise ValueError("give a task and the checkpoint that is fine-tuned on it, or neither")
    rows: list[tuple[str, str, bool]] = []
    if _needs_hub(scale):
        rows.append(_hub(scale))
    if all(good for *_, good in rows):
        rows += _findings(scale, task, checkpoint)
    return pd.DataFrame(rows, columns=["check", "found", "good"])


def _findings(scale: Scale, task: str | None, checkpoint: str | None) -> list[tuple]:
    teacher, tokenizer = load_teacher(scale)
    rows = [_vocabulary(teacher, tokenizer)]
    if not rows[0][-1]:
        return rows  # the rest would fail somewhere inside a model
    sample = replace(scale, stream=None if is_local(scale.text) else 1)
    train, held_out = (
        pack(islice(text.read(), DOCUMENTS), tokenizer, scale.length) for text in load_text(sample)
    )
    rows.append(_masked_words(teacher, tokenizer, train, held_out))
    student = student_from_teacher(teacher)
    rows.append(_embeddings(student, teacher, held_out))
    rows.append(_overfits(student, tokenizer, train))
    rows += _plan(student, teacher, tokenizer, train, scale)
    if task:
        rows.append(_classifier(scale, tokenizer, task, checkpoint))
    return rows


def _needs_hub(scale: Scale) -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False
    folders = (scale.teacher, scale.glue)
    return not (all(Path(name).is_dir() for name in folders) and is_local(scale.text))


def _hub(scale: Scale) -> tuple[str, str, bool]:
    """Asked in a thread: a server that accepts and then says nothing must not hold us."""
    import httpx
    from huggingface_hub import constants

    answer: dict[str, Any] = {}

    def ask() -> None:
        try:
            got = httpx.get(constants.ENDPOINT, timeout=HUB_SECONDS, follow_redirects=True)
            answer["status"] = got.status_code
        except Exception as error:  # said below
            answer["error"] = f"{type(error).__name__}: {error}"

    thread = threading.Thread(target=ask, daemon=True)
    started = time.perf_counter()
    thread.start()
    thread.join(HUB_SECONDS)
    where, check = constants.ENDPOINT, "the Hub answers"
    if "status" in answer and answer["status"] < 500:
        return check, f"{where} in {time.perf_counter() - started:.1f} s", True
    why = answer.get("error") or (
        f"status {answer['status']}" if answer else f"nothing within {HUB_SECONDS} s"
    )
    advice = "with everything in the cache, set HF_HUB_OFFLINE=1; or name folders and files"
    return check, f"{where}: {why}; {advice}", False


def _vocabulary(
    teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> tuple[str, str, bool]:
    names = ("cls_token", "sep_token", "pad_token", "mask_token")
    missing = [name for name in names if getattr(tokenizer, name) is None]
    entries, rows = len(tokenizer), teacher.config.vocab_size
    found = f"{entries} entries, {rows} rows" + (f", no {', '.join(missing)}" if missing else "")
    # a model's table may be padded to a round number, but not by much
    fits = entries <= rows < entries + 1024 and not missing
    return "tokenizer and teacher have one vocabulary", found, fits


def _masked_words(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: np.ndarray,
    held_out: np.ndarray,
) -> tuple[str, str, bool]:
    """Chance is a model that knows how common each word is, and nothing else."""
    masks = MaskedBlocks(train, tokenizer, seed=0, smoothing=0)  # as words come, rare ones rarely
    few = held_out[: max(1, 2048 // held_out.shape[1])]
    blocks = MaskedBlocks(few, tokenizer, seed=0, weights=masks.weights)
    counts = np.bincount(train.ravel(), minlength=len(tokenizer)) + 1.0
    counts[list(tokenizer.all_special_ids)] = 0
    targets = blocks.batch(0, np.arange(len(few)))["targets"].numpy()
    chance = float(-np.log(counts[targets] / counts.sum()).mean())
    loss = losses_on(teacher, blocks, MLM_ONLY, batch_size=4)["mlm"]
    found = f"loss {loss:.2f} nats, by frequency alone {chance:.2f} ({len(targets)} words)"
    return "teacher beats chance on masked words", found, loss < chance - 0.5


def _embeddings(
    student: PreTrainedModel, teacher: PreTrainedModel, blocks: np.ndarray
) -> tuple[str, str, bool]:
    ids = torch.from_numpy(blocks[:2].astype(np.int64))
    with torch.no_grad():
        ours, theirs = (m.eval().base_model.embeddings(ids) for m in (student, teacher))
    apart = float((ours - theirs).abs().max())
    return "student's embeddings are the teacher's", f"largest difference {apart:.1e}", apart < 1e-5


def _overfits(
    student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: np.ndarray
) -> tuple[str, str, bool]:
    few = train[:2, :64].copy()
    batch = MaskedBlocks(few, tokenizer, seed=0).batch(0, np.arange(len(few)))
    model, loss = copy.deepcopy(student).eval(), LanguageModelLoss(MLM_ONLY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    losses, until = [], time.perf_counter() + OVERFIT_SECONDS
    while len(losses) < OVERFIT_STEPS and (len(losses) < 5 or time.perf_counter() < until):
        optimizer.zero_grad()
        value = loss(model, batch, batch["counts"])["loss"]
        value.backward()
        optimizer.step()
        losses.append(value.item())
    found = f"loss {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps on one batch"
    return "one batch can be learnt by heart", found, losses[-1] < ENOUGH_OVERFIT * losses[0]


def _plan(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: np.ndarray,
    scale: Scale,
) -> list[tuple[str, str, bool]]:
    training, device = scale.distillation, processes().device
    ours, theirs = parameter_count(student), parameter_count(teacher)
    rate, measured = _speed(student, teacher, tokenizer, train, scale, device)

    if measured is None:
        memory = step_bytes(teacher, student, training.micro_batch_size, scale.length)
    else:
        memory = 16 * ours + 4 * theirs + measured  # weights, gradients, AdamW's two moments
    free = _free_memory(device)
    rows = [
        (
            "memory",
            (
                f"about {memory / _GIB:.1f} GiB for a micro-batch of {training.micro_batch_size}, "
                if memory < math.inf
                else f"a micro-batch of {training.micro_batch_size} was tried and does not fit: "
            )
            + f"{free / _GIB:.1f} GiB free on {device.type}",
            memory < free,
        )
    ]
    blocks = _number_of_blocks(scale, train)
    # weights and two moments, of each checkpoint that is kept and of the one that is written
    stored = 0 if scale.stream else blocks or 0
    disk = 12 * ours * (KEEP + 1) + 4 * ours + 2 * stored * scale.length
    space = shutil.disk_usage(home()).free
    rows.append(("disk", f"{disk / _GIB:.1f} GiB, {space / _GIB:.1f} GiB free", disk < space))
    steps = training.steps
    if steps is None and blocks:
        steps = training.epochs * steps_per_epoch(blocks, training)
    if steps is None:
        found = f"{rate:,.0f} tokens/s; how many there are is known when the text is tokenized"
    else:
        hours = steps * training.batch_size * scale.length / rate / 3600
        found = f"{steps:,} steps at {rate:,.0f} tokens/s: about {hours:,.2f} hours"
    return [*rows, ("time of the distillation", found, True)]


def _speed(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: np.ndarray,
    scale: Scale,
    device: torch.device,
) -> tuple[float, float | None]:
    """Tokens/s of the loss and its gradient; on a GPU the bytes that a micro-batch took of it."""
    training = scale.distillation
    masked = MaskedBlocks(train, tokenizer, seed=0)
    model, reference = copy.deepcopy(student).to(device).train(), teacher.to(device).eval()
    loss = LanguageModelLoss(scale.loss_config, reference)
    step = gradient_step(model, loss, training.precision)

    def seconds(examples: int) -> float:
        batch = masked.batch(0, np.arange(examples) % len(masked))
        batch = to_device(batch, device)
        return time_micro_batches(step, [batch], device)[0].seconds

    seconds(1)  # the first is slower
    examples, took, measured = 1, seconds(1), None
    if took * training.micro_batch_size < 10:
        cuda = device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        try:
            took = seconds(training.micro_batch_size)
            examples = training.micro_batch_size
            if cuda:
                measured = torch.cuda.max_memory_allocated() - before
        except torch.OutOfMemoryError:
            measured = math.inf  # tried, and it does not fit: the memory's row says so
    teacher.to("cpu")
    return examples * scale.length / took, measured


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what was just measured is free again
        return torch.cuda.mem_get_info()[0]
    try:  # Linux counts what its caches would give back; elsewhere all of the memory is taken
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _number_of_blocks(scale: Scale, train: np.ndarray) -> int | None:
    """About how many blocks an epoch has, if that can be told without reading everything."""
    if scale.stream:
        return scale.stream
    documents = about_how_many(scale.text)
    return None if documents is None else round(len(train) * max(1.0, documents / DOCUMENTS))


def _classifier(
    scale: Scale, tokenizer: PreTrainedTokenizerBase, task: str, checkpoint: str
) -> tuple[str, str, bool]:
    from transformers import AutoModelForSequenceClassification

    the_task, check = get_task(task), f"classifier beats chance on {task}"
    try:
        model = fine_tuned(AutoModelForSequenceClassification, checkpoint)
        check_classifier(model, the_task)
    except ValueError as error:
        return check, str(error), False
    data = load_task(scale, task)[the_task.validation[0]]
    few = data.shuffle(seed=0).select(range(min(EXAMPLES, len(data))))
    longest = min(the_task.max_length, positions(model))
    score = evaluate_task(model, tokenizer, task, few, max_length=longest)[the_task.score]
    labels = np.asarray(few["label"])
    chance = chance_score(the_task, labels)
    error = 1 / len(labels) ** 0.5
    score = score or 0.0  # undefined: the same answer to everything
    found = f"{the_task.score} {score:.3f}, a constant answer {chance:.3f} ({len(few)} examples)"
    return check, found, score > chance + error
