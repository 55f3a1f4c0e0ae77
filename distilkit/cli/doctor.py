"""Checks before a long run: of the plan of a distillation, and of a fine-tuning on a task.

Nothing trained here is kept. All checks together take less than a minute, apart from the download
of a teacher that is not in the cache.
"""

import copy
import math
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd
import psutil
import torch
from huggingface_hub import constants
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.checkpoint import KEEP, free_bytes
from distilkit.config import MLM_ONLY, Scale, TrainingConfig, home
from distilkit.data.documents import about_how_many, open_text
from distilkit.data.examples import Examples
from distilkit.data.packing import pack
from distilkit.data.sources import check_plan, load_teacher
from distilkit.data.task_examples import task_examples
from distilkit.data.tasks import Task, chance_score
from distilkit.data.text_check import UNKNOWN_AT_MOST, count_tokens
from distilkit.distillation import MOST_PADDING, LanguageModelLoss, losses_on
from distilkit.families import positions
from distilkit.finetuning import (
    classifier,
    fine_tuned_on,
    input_length,
    teacher_scores,
    teacher_tokenizer,
)
from distilkit.masking import MaskedBlocks, masking_weights
from distilkit.measure.flops import step_bytes
from distilkit.measure.latency import gradient_step, time_micro_batch
from distilkit.measure.size import parameter_count
from distilkit.models.hub import local_path
from distilkit.models.loading import load_tokenizer
from distilkit.models.vocabulary import check_vocabulary
from distilkit.processes import processes, to_device
from distilkit.student import student_from_teacher
from distilkit.study.cost import finetuning_seconds
from distilkit.training_loop import total_steps

HUB_SECONDS = 10  # the Hub's deadline
DOCUMENTS = 400  # of the text that are read
FEW = 500  # examples of a task that are read
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
    local = all(local_path(name) for name in (scale.teacher, scale.glue, scale.text))
    checks = [] if local or constants.HF_HUB_OFFLINE else [_hub()]
    if all(check.good for check in checks):
        checks += _checks(scale)
    return pd.DataFrame(checks, columns=Check._fields)


def _checks(scale: Scale) -> list[Check]:
    teacher, tokenizer = load_teacher(scale)
    fits = "tokenizer and blocks fit the teacher"
    try:
        check_plan(scale, tokenizer, teacher)
    except ValueError as error:
        return [Check(fits, str(error), False)]  # later checks need it
    entries, rows = len(tokenizer), teacher.config.vocab_size
    sizes = f"{entries} entries, {rows} rows; {scale.length} tokens, {positions(teacher)} positions"
    fit = Check(fits, sizes, rows <= entries + MOST_PADDING)
    texts = open_text(scale.text, stream=local_path(scale.text) is None)
    blocks = (pack(islice(text.read(), DOCUMENTS), tokenizer, scale.length) for text in texts)
    plan = Plan(scale, teacher, tokenizer, student_from_teacher(teacher), *blocks)
    text = _text(plan)
    if not (fit.good and text.good):
        return [fit, text]
    tokens_per_s, micro_batch_bytes = _speed(plan)
    return [
        fit,
        text,
        _masked_tokens(plan),
        _overfits(plan),
        _memory(plan, micro_batch_bytes),
        _disk(plan),
        _time(plan, tokens_per_s),
    ]


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


def _text(plan: Plan) -> Check:
    train, held_out = (count_tokens(part, plan.tokenizer) for part in (plan.train, plan.held_out))
    maskable = min(train.maskable, held_out.maskable)
    measurement = f"{train.unknown_share:.1%} of {train.tokens:,} tokens are [UNK]"
    measurement += "" if maskable else "; one part of the text has no token that can be masked"
    good = train.unknown_share <= UNKNOWN_AT_MOST and maskable > 0
    return Check("tokenizer knows the text", measurement, good)


def _masked_tokens(plan: Plan) -> Check:
    """Compare the teacher with a model that knows the tokens' frequencies only."""
    tokenizer, few = plan.tokenizer, plan.held_out[: max(1, 2048 // plan.scale.length)]
    # Without smoothing: tokens are masked as often as they occur
    special = tokenizer.all_special_ids
    weights = masking_weights(plan.train, len(tokenizer), special, smoothing=0)
    blocks = MaskedBlocks(few, tokenizer, seed=0, weights=weights)
    counts = np.bincount(plan.train.ravel(), minlength=len(tokenizer)) + 1.0
    counts[list(tokenizer.all_special_ids)] = 0
    targets = blocks.batch(0, np.arange(len(few)))["targets"].numpy()
    chance = float(-np.log(counts[targets] / counts.sum()).mean())
    loss = losses_on(plan.teacher, blocks, MLM_ONLY, batch_size=4)["mlm"]
    losses = f"loss {loss:.2f} nats, by frequency alone {chance:.2f} ({len(targets)} tokens)"
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
    else:
        needed = _weight_bytes(plan.student, plan.teacher) + micro_batch_bytes
    free = free_memory(device)
    if needed < math.inf:
        measurement = f"about {needed / _GIB:.1f} GiB for a micro-batch of {size}, "
    else:
        measurement = f"a micro-batch of {size} was tried and does not fit: "
    measurement += f"{free / _GIB:.1f} GiB free on {device.type}"
    return Check("memory", measurement, needed < free)


def _weight_bytes(trained: PreTrainedModel, teacher: PreTrainedModel | None) -> int:
    """Count the weights of both models; gradients and AdamW's two moments of the trained one."""
    return 16 * parameter_count(trained) + (4 * parameter_count(teacher) if teacher else 0)


def _disk(plan: Plan) -> Check:
    # Weights and two moments, of each checkpoint that is kept and of the one that is written
    needed = (12 * (KEEP + 1) + 4) * parameter_count(plan.student)
    if not plan.scale.stream:
        needed += 2 * (_blocks_per_epoch(plan) or 0) * plan.scale.length  # the block cache
    free = free_bytes(home())
    return Check("disk", f"{needed / _GIB:.1f} GiB, {free / _GIB:.1f} GiB free", needed < free)


def _time(plan: Plan, tokens_per_s: float) -> Check:
    training, blocks = plan.scale.distillation, _blocks_per_epoch(plan)
    steps = total_steps(blocks, training) if blocks else training.steps
    if steps is None:
        estimate = f"{tokens_per_s:,.0f} tokens/s; their number is known after tokenization"
    else:
        hours = steps * training.batch_size * plan.scale.length / tokens_per_s / 3600
        estimate = f"{steps:,} steps at {tokens_per_s:,.0f} tokens/s: about {hours:,.2f} hours"
    return Check("time of the distillation", estimate, True)


def _speed(plan: Plan) -> tuple[float, float | None]:
    """Measure tokens/s of the loss and its gradient; on a GPU also the bytes of a micro-batch."""
    training, device = plan.scale.distillation, processes().device
    masked = MaskedBlocks(plan.train, plan.tokenizer, seed=0)
    model = copy.deepcopy(plan.student).to(device).train()
    loss = LanguageModelLoss(plan.scale.loss_config, plan.teacher.to(device).eval())
    step = gradient_step(model, loss, training.precision)

    def seconds(examples: int) -> float:
        batch = to_device(masked.batch(0, np.arange(examples) % len(masked)), device)
        return time_micro_batch(step, batch, device).seconds

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


def task_doctor(
    task: Task,
    checkpoint: str,
    training: TrainingConfig,
    *,
    teacher: str | None = None,
    cut: Callable[[PreTrainedModel], PreTrainedModel] | None = None,
    unlabelled: Any = None,
    max_length: int | None = None,
) -> pd.DataFrame:
    """Check a fine-tuning on a task with its data; a row a :class:`Check`.

    The student is `checkpoint` with a new head, or what `cut` makes of the fine-tuned `teacher`.
    """
    checks = [Check("data", note, True) for note in task.notes]
    tokenizer, models, what, own = load_tokenizer(checkpoint), {}, "model", None
    try:
        if teacher is not None:
            what = "teacher"
            models["teacher"] = fine_tuned_on(teacher, task).to(processes().device)
            own = teacher_tokenizer(task, models["teacher"], tokenizer)
            what = "model"
        if cut is not None:
            models["model"] = cut(models["teacher"])
        else:
            models["model"] = classifier(checkpoint, task, training.seed).to(processes().device)
            check_vocabulary(models["model"], tokenizer)
        length = input_length(models.values(), max_length, task.max_length)
    except (TypeError, ValueError) as error:
        return pd.DataFrame([*checks, Check(what, str(error), False)], columns=Check._fields)
    model, teaching_model = models["model"], models.get("teacher")
    million = parameter_count(model) / 1e6
    kind = f"{type(model).__name__}, {million:.1f} million parameters, {task.outputs} outputs"
    rows = _few(task.data["train"])
    how = {"max_length": length, "seed": 0, "teacher_tokenizer": own}
    few = task_examples(rows, task, tokenizer, **how)
    checks += [Check("model", kind, True), _inputs(task, few, tokenizer, length)]
    if teaching_model is not None:
        checks.append(_teacher(task, teaching_model, own or tokenizer, length))
    needed, free = _weight_bytes(model, teaching_model), free_memory(processes().device)
    sizes = f"{needed / _GIB:.1f} GiB and the activations, {free / _GIB:.1f} GiB free"
    checks.append(Check("memory", sizes, needed < free))
    if not needed < free:  # the time is measured by a step
        return pd.DataFrame(checks, columns=Check._fields)
    texts = len(task.data["train"]) + (0 if unlabelled is None else len(unlabelled))
    examples = texts * len(few) // len(rows)  # a passage may have several windows
    try:
        seconds = finetuning_seconds(task, model, teaching_model, few, examples, training)
    except MemoryError as error:
        checks.append(Check("trial step", str(error), False))
        return pd.DataFrame(checks, columns=Check._fields)
    steps = total_steps(examples, training)
    duration = f"{steps:,} steps of {training.batch_size}: {seconds / 60:,.1f} minutes"
    checks.append(Check("time", duration, True))
    return pd.DataFrame(checks, columns=Check._fields)


def print_checks(table: pd.DataFrame) -> bool:
    """Print a line a check; return whether all are good."""
    for check, measurement, good in table.itertuples(index=False):
        print(f"{'good' if good else 'BAD '}  {check}: {measurement}")
    return bool(table.good.all())


def _few(split: Any) -> Any:
    """Select rows from the whole split: it may be sorted by label."""
    return split.select(np.linspace(0, len(split) - 1, min(FEW, len(split))).astype(int))


def _inputs(
    task: Task, examples: Examples, tokenizer: PreTrainedTokenizerBase, length: int
) -> Check:
    """Count the texts that are cut, and the tokens that the vocabulary does not have."""
    unknown = float(np.mean(examples.input_ids.flat == tokenizer.unk_token_id))
    cut = float(np.mean(examples.lengths >= length))
    may_be = "have another window" if task.on_spans else "may be cut"
    measurement = (
        f"median {np.median(examples.lengths):.0f} tokens; {cut:.0%} reach {length} and {may_be}; "
        f"{unknown:.1%} of the tokens are unknown"
    )
    return Check("texts", measurement, unknown <= UNKNOWN_AT_MOST)


def _teacher(task: Task, teacher: Any, tokenizer: Any, length: int) -> Check:
    few = {split: _few(task.data[split]) for split in task.validation if split in task.data}
    try:
        measured = teacher_scores(task, teacher, tokenizer, few, length)
    except ValueError as error:
        return Check("teacher", str(error), False)
    if not measured:
        return Check("teacher", "no labelled validation examples to measure it on", True)
    ((split, scores),) = measured.items()
    labels, score = few[split]["label"][:], scores[task.score]
    chance = chance_score(task, labels)
    shown = "undefined" if score is None else f"{score:.3f}"
    measurement = f"{task.score} {shown}, a constant answer {chance:.3f} ({len(labels)} examples)"
    return Check("teacher", measurement, (score or 0.0) > chance)
