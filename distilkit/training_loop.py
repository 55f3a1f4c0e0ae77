"""The only optimisation loop: pretraining, distillation and fine-tuning pass their loss in.

Large batches by gradient accumulation, dynamic masks, linear warm-up and decay (Liu et al. 2019,
sections 4.1-4.3; Sanh et al. 2019, section 3). Everything random is a function of (seed, epoch,
sample ids, step, index of the micro-batch). Order and masks come from the data, dropout from a
generator that is seeded for every micro-batch. So a checkpoint holds weights, optimizer state and
one counter. A resumed run equals the uninterrupted one bit for bit on the same processor. (GPU
kernels may sum in another order each time, and so may three or more processes after a resume.)

Several processes (``torchrun``, ``accelerate launch``) share the micro-batches of each step. The
samples, masks and dropout are those of one process with as many more micro-batches; only the order
of summation differs. Process 0 alone writes.

`data` has ``len(data)``, ``data.order(epoch, batch_size)`` (a permutation of the sample ids) and
``data.batch(epoch, ids)``. A batch holds tensors, and ``counts``: integers to be summed over a
step's micro-batches. `loss(model, batch, counts)` returns named scalars, ``"loss"`` first, each
divided by the *step's* counts. So micro-batches add up to the mean over the whole batch.
"""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object, reduce
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from distilkit import checkpoint
from distilkit.config import TrainingConfig
from distilkit.processes import (
    catch_signals,
    eval_mode,
    ignore_signals,
    keep_freed_memory,
    processes,
    seeded,
    to_device,
)
from distilkit.run import Run

Batch = dict[str, Any]
Loss = Callable[[nn.Module, Batch, dict[str, int]], dict[str, Tensor]]


class NonFiniteLoss(FloatingPointError):
    """Error of a NaN or infinite loss, gradient or validation."""


def train(
    model: nn.Module,
    data: Any,
    loss: Loss,
    training: TrainingConfig,
    run: Run,
    *,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
) -> dict[str, float]:
    """Train `model` in place, from the run's newest intact checkpoint if there is one.

    Args:
        model: a Hugging Face model; afterwards in eval mode, on accelerate's device.
        data, loss: see the module's docstring. If the loss is a module, its own parameters are
            trained too.
        run: an open run (:func:`distilkit.run.open_run`); metrics and checkpoints go there.
        validate: called by all processes with the model in eval mode, without gradients; what
            it returns is logged.

    Returns:
        ``steps``, ``seconds`` and ``tokens``, those before a resume included.

    Raises:
        NonFiniteLoss: before the update; names step and sample ids. (On a GPU at the next step
            that logs, validates or saves; nothing is updated in between.) A validation that is not
            finite: after the update.
        MemoryError: a micro-batch does not fit; says which size to try.
        KeyboardInterrupt: Ctrl-C or the notebook's stop button, after a checkpoint at the end of
            the step; SIGTERM likewise exits with status 143. A second signal ends at once. Several
            processes agree on the step, which takes up to two; ``torchrun`` kills them after 30 s
            (``TORCH_ELASTIC_SHUTDOWN_TIMEOUT``).
    """
    accelerator = make_accelerator(training.precision)
    rank, world = accelerator.process_index, accelerator.num_processes
    steps = total_steps(len(data), training)
    trained = _LossModule(model, loss)
    module = accelerator.prepare(trained)
    parameters = list(trained.parameters())
    optimizer = torch.optim.AdamW(
        parameter_groups(trained, training.weight_decay),
        lr=training.learning_rate,  # the peak; set in every step
        betas=training.betas,
        eps=training.eps,
        fused=True,
    )
    first, seconds, tokens = _resume(run, trained, optimizer)
    if accelerator.is_main_process:
        run.truncate_metrics(first)

    @lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return data.order(epoch, training.batch_size)

    def micro_batches(step: int) -> list[tuple[int, np.ndarray]]:
        """Return (epoch, sample ids) of all micro-batches in a step, in order."""
        per_epoch = steps_per_epoch(len(data), training)
        epoch, at = step // per_epoch, step % per_epoch * training.batch_size
        batch, size = order(epoch)[at : at + training.batch_size], training.micro_batch_size
        return [(epoch, batch[i : i + size]) for i in range(0, len(batch), size)]

    def local_micro_batches(step: int) -> list[tuple[int, np.ndarray]]:
        """Return the micro-batches of this rank, equally many per rank.

        If a step's number is not divisible by the world size, the first is repeated with weight 0.
        """
        padded = micro_batches(step)
        padded += padded[:1] * (-len(padded) % world)
        return padded[rank::world]

    def check(good_steps: Tensor, done: int) -> None:
        if (bad := int(good_steps)) < done:
            raise NonFiniteLoss(_not_finite(run, bad, micro_batches(bad)))

    loader = DataLoader(
        _Examples(data),
        sampler=(micro for step in range(first, steps) for micro in local_micro_batches(step)),
        batch_size=None,  # the sampler's items are whole micro-batches
        num_workers=training.workers,
        worker_init_fn=ignore_signals,
        pin_memory=accelerator.device.type == "cuda",
    )
    with (
        torch.enable_grad(),  # whatever the caller has set
        seeded(),  # the caller's generators stay as they were
        keep_freed_memory(),
        catch_signals(alone=world == 1) as caught,
        tqdm(desc=run.name, total=steps, initial=first, unit="step", disable=rank > 0) as bar,
        contextlib.closing(part for part in loader) as batches,  # ends the loader's workers
    ):
        model.train()
        since, tokens_before = time.perf_counter(), tokens
        good_steps = torch.full((), first, device=accelerator.device)
        for step in range(first, steps):
            this_step = f"run {run.name!r}: step {step + 1}"
            # 1. this step's examples and learning rate
            parts = [next(batches) for _ in local_micro_batches(step)]
            total = len(micro_batches(step))
            weights = [int(rank + i * world < total) for i in range(len(parts))]
            counts, stop = _agree(parts, weights, bool(caught), accelerator)
            tokens += counts["tokens"]
            rate = learning_rate(step, steps, training)
            for group in optimizer.param_groups:
                group["lr"] = rate

            # 2. gradients, summed over micro-batches and processes
            optimizer.zero_grad(set_to_none=True)
            terms: dict[str, Tensor] = {}
            for i, part in enumerate(parts):
                _seed_dropout(training.seed, step, rank + i * world, accelerator.device)
                last = i + 1 == len(parts)
                sync = contextlib.nullcontext() if last else accelerator.no_sync(module)
                with memory_named(this_step, training), sync:
                    out = module(to_device(part, accelerator.device), counts)
                    # DDP takes the mean over processes; the counts are global, so we want the sum
                    # (not accelerator.backward: an environment variable would scale it)
                    (out["loss"] * (world * weights[i])).backward()
                for name, value in out.items():
                    terms[name] = terms.get(name, 0) + value.detach() * weights[i]

            # 3. the update. If something is not finite, AdamW's own switch holds it back, in this
            # step and all later ones, until `check` raises
            norm = nn.utils.clip_grad_norm_(parameters, training.max_grad_norm)
            is_finite = torch.isfinite(norm + terms["loss"])
            if world > 1:  # the norm is that of all processes, the loss is this one's
                is_finite = accelerator.reduce(is_finite.float(), "sum") == world
            good_steps = torch.where(is_finite & (good_steps == step), step + 1, good_steps)
            optimizer.found_inf = (good_steps <= step).float()
            with memory_named(this_step, training):  # AdamW's states are made in its first step
                optimizer.step()
            done = step + 1
            logs = done % training.log_interval == 0 or done == steps
            interval = training.eval_interval
            validates = validate and (done == steps or (interval and done % interval == 0))
            if logs or validates or not _is_async(accelerator.device):
                check(good_steps, done)

            # 4. progress, log, validation, checkpoint
            bar.update()
            elapsed = time.perf_counter() - since
            if logs:
                values = sum_over_processes(terms)
                bar.set_postfix(loss=f"{values['loss']:.3f}")
                if accelerator.is_main_process:
                    row = {"step": done, "split": "train", **values, "learning_rate": rate}
                    row |= {"grad_norm": float(norm), "tokens": tokens}
                    row["seconds"] = round(seconds + elapsed, 3)
                    row["tokens_per_second"] = round((tokens - tokens_before) / elapsed, 1)
                    run.log(row)
            if validates:
                with memory_named(this_step, training), eval_mode(model), torch.no_grad():
                    values = {name: float(value) for name, value in validate(model).items()}
                if bad := [name for name, value in values.items() if not math.isfinite(value)]:
                    raise NonFiniteLoss(
                        f"run {run.name!r}: the validation after step {done} is not finite "
                        f"({', '.join(bad)}). Lower the learning rate"
                    )
                if accelerator.is_main_process:
                    run.log({"step": done, "split": "validation", **values})
            stop = stop or (bool(caught) and world == 1)
            if stop or done == steps or done % training.checkpoint_interval == 0:
                check(good_steps, done)
                if accelerator.is_main_process:
                    state = {"step": done, "seconds": seconds + elapsed, "tokens": tokens}
                    tensors = {
                        "model": _weights(trained),
                        "optimizer": _optimizer_state(trained, optimizer),
                    }
                    checkpoint.save(run.checkpoints, done, tensors, state)
                if stop:
                    accelerator.wait_for_everyone()  # a launcher ends all when the first one ends
                    if accelerator.is_main_process:
                        bar.write(f"stopped after step {done} of {steps}; run again to resume")
                    raise KeyboardInterrupt if signal.SIGINT in caught else SystemExit(143)
        seconds += time.perf_counter() - since
    model.eval()
    return {"steps": steps, "seconds": round(seconds, 2), "tokens": tokens}


def steps_per_epoch(examples: int, training: TrainingConfig) -> int:
    """Return the optimizer steps of one epoch; the last one takes what is left over."""
    return -(-examples // training.batch_size)


def total_steps(examples: int, training: TrainingConfig) -> int:
    """Return the optimizer steps of the whole training."""
    return training.steps or training.epochs * steps_per_epoch(examples, training)


def learning_rate(step: int, steps: int, training: TrainingConfig) -> float:
    """Return the learning rate of a step (0-based): linear warm-up, then linear decay to 0."""
    warmup = round(training.warmup_fraction * steps)
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    return training.learning_rate * (steps - step) / max(1, steps - warmup)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's groups: matrices decay; biases and norms, all of them vectors, do not.

    By shape, not by name: a list of BERT's names would miss DistilBERT's ``sa_layer_norm``,
    ``output_layer_norm`` and ``vocab_layer_norm``.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def make_accelerator(precision: str) -> Accelerator:
    """Return accelerate's Accelerator for a precision ("fp32", "bf16" or "auto")."""
    wanted = "bf16" if in_bf16(precision) else "no"
    processes()  # before accelerate would decide that a process without a GPU is alone
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != wanted:
        AcceleratorState._reset_state()  # one notebook, two precisions; the processes stay joined
    return Accelerator(mixed_precision=wanted)


def in_bf16(precision: str) -> bool:
    """Return whether a precision means bfloat16 here; "auto" does where the GPU has it."""
    if precision == "auto":
        gpu = processes().device.type == "cuda"
        # a GPU that is too old for bfloat16 emulates it, slower than it computes in float32
        return gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"


def check_weights(model: nn.Module) -> None:
    """Raise ValueError if the weights to train are in half precision: small updates would be lost.

    transformers 5 loads a checkpoint in the type that it was saved in.
    """
    if half := {torch.float16, torch.bfloat16} & {p.dtype for p in model.parameters()}:
        raise ValueError(
            f"the model's weights are in {half.pop()}: convert it by .float(), or load it with "
            "dtype=torch.float32 (precision='bf16' still computes in bfloat16)"
        )


class _LossModule(nn.Module):
    """Model and loss as one module: DDP and autocast act on a module's forward."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch, counts: dict[str, int]) -> dict[str, Tensor]:
        return self.loss(self.model, batch, counts)


class _Examples(Dataset):
    """The data as a dataset whose keys are (epoch, sample ids) of a micro-batch."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __getitem__(self, key: tuple[int, np.ndarray]) -> Batch:
        return self.data.batch(*key)


def _is_async(device: torch.device) -> bool:
    """Tell whether reading a tensor's value makes the device wait, and is best done rarely."""
    return device.type != "cpu"


def _agree(
    parts: list[Batch], weights: list[int], stop: bool, accelerator: Accelerator
) -> tuple[dict[str, int], bool]:
    """Return the step's denominators over all processes, and whether any has to stop."""
    names = sorted(parts[0]["counts"])
    counted = [part["counts"] for part, weight in zip(parts, weights, strict=True) if weight]
    sums = [sum(int(counts[name]) for counts in counted) for name in names]
    if accelerator.num_processes > 1:
        both = torch.tensor([*sums, int(stop)], device=accelerator.device)
        *sums, stop = accelerator.reduce(both, "sum").tolist()
    return dict(zip(names, sums, strict=True)), bool(stop)


def _seed_dropout(seed: int, step: int, micro_batch: int, device: torch.device) -> None:
    state = np.random.SeedSequence([seed, step, micro_batch]).generate_state(1, np.uint64)
    # torch.manual_seed also sees to every kind of GPU: 0.3 ms of a small model's 35
    on_cpu = device.type == "cpu"
    (torch.default_generator.manual_seed if on_cpu else torch.manual_seed)(int(state[0]))


def sum_over_processes(terms: dict[str, Tensor]) -> dict[str, float]:
    """Return named scalars summed over the processes, which all call this together."""
    stacked = torch.stack([value.detach().float() for value in terms.values()])
    return dict(zip(terms, reduce(stacked, "sum").tolist(), strict=True))


def _not_finite(run: Run, step: int, micro_batches: list[tuple[int, np.ndarray]]) -> str:
    ids = [int(i) for _, part in micro_batches for i in part]
    shown = f"{ids[:20]}" + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
    return (
        f"run {run.name!r}: the loss or gradient of step {step + 1} (epoch {micro_batches[0][0]}, "
        f"samples {shown}) is not finite; nothing was updated. Lower the learning rate or inspect "
        "these samples"
    )


@contextlib.contextmanager
def memory_named(what: str, training: TrainingConfig) -> Iterator[None]:
    """Replace an allocator's message by one that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        words = ("out of memory", "can't allocate memory", "bad_alloc", "memoryerror")
        if not any(word in message.lower() for word in words):
            raise
        smaller = training.micro_batch_size // 2
        advice = (
            f"Try --micro-batch-size {smaller} (micro_batch_size={smaller}): gradients are "
            f"accumulated, so that the batch stays {training.batch_size}"
            if smaller
            else "Micro-batches of 1 are the smallest: take shorter blocks or a smaller model"
        )
        raise MemoryError(
            f"{what} with micro-batches of {training.micro_batch_size} does not fit into memory "
            f"({message}). {advice}. Another micro-batch is another configuration, so give a run "
            "that has begun another name; its last checkpoint is good"
        ) from error


def _resume(run: Run, model: nn.Module, optimizer: Any) -> tuple[int, float, int]:
    """Load the newest checkpoint, if any: (steps done, seconds, tokens)."""
    found = checkpoint.load_newest(run.checkpoints)
    if processes().num_processes > 1:
        steps = gather_object([found[1]["step"] if found else 0])
        if len(set(steps)) > 1:
            raise ValueError(
                f"the processes see checkpoints of different steps ({steps}): {run.path} has to be "
                "the same folder for all of them"
            )
    if found is None:
        return 0, 0.0, 0
    tensors, state = found
    own = _weights(model)
    if own.keys() != tensors["model"].keys():
        odd = sorted(own.keys() ^ tensors["model"].keys())[:3]
        raise ValueError(f"{run.checkpoints} is of another model (for instance {odd})")
    with torch.no_grad():
        for name, value in tensors["model"].items():
            own[name].copy_(value)
    parameters = dict(model.named_parameters())
    for key, value in tensors["optimizer"].items():
        name, _, kind = key.rpartition("/")
        parameter = parameters[name]
        optimizer.state[parameter][kind] = value.to(parameter.device, copy=True)
    return state["step"], state["seconds"], state["tokens"]


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters (tied ones once) and persistent buffers, not copied."""
    persistent = model.state_dict(keep_vars=True)
    parameters = dict(model.named_parameters())
    buffers = {name: b for name, b in model.named_buffers() if name in persistent}
    return {**parameters, **buffers}


def _optimizer_state(model: nn.Module, optimizer: Any) -> dict[str, Tensor]:
    """Return AdamW's moments and step counts as flat named tensors."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
