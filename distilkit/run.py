"""A run folder: configuration, environment, metrics, result.

``runs/<name>/`` holds config.json, environment.json, checkpoints/, model/ (plain Hugging Face
files) and metrics.jsonl (a line a logged step). If ``log_with`` asks for it, tensorboard/ has the
same rows. Fine-tuning adds predictions.safetensors, the logits of each scored example. The last
file is result.json: a run without it is not finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import accelerate
import filelock
import numpy as np
import safetensors.numpy
import torch
import transformers
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.checkpoint import fsync, not_written, write_atomically, write_json
from distilkit.config import CHECKOUT, home
from distilkit.processes import processes

if TYPE_CHECKING:
    import pandas as pd

# What a run's digits depend on besides its configuration, by the names of environment.json.
EXACT = (
    *("torch", "transformers", "accelerate", "numpy"),
    *("device", "instructions", "torch_threads", "processes"),
)
ALLOW_INEXACT = "DISTILKIT_ALLOW_INEXACT"  # environment variable: 1 resumes all the same

# What config.json held before the settings were renamed; none of these names is in use today.
OLD_KEYS = {"objective", "task_objective"}
OLD_TRAINING_KEYS = {"warmup", "validate_every", "log_every", "checkpoint_every"}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class RunBusy(RuntimeError):
    """Error: another process is writing this run."""


@dataclass(frozen=True)
class Run:
    """A run folder. Reading never changes it; only :func:`open_run`'s holder writes."""

    path: Path
    # Shows what metrics.jsonl holds; only in the process that writes, if `log_with` asks for one
    tracker: GeneralTracker | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def finished(self) -> bool:
        return (self.path / "result.json").is_file()

    @property
    def model(self) -> Path:
        """The folder for ``from_pretrained``."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def config(self) -> dict[str, Any]:
        """Read the configuration; ValueError if it has keys that were renamed since."""
        config = _read(self.path / "config.json")
        training = config.get("training")
        old = OLD_KEYS & config.keys()
        if isinstance(training, dict):
            old |= {f"training.{key}" for key in OLD_TRAINING_KEYS & training.keys()}
        if old:
            raise ValueError(
                f"run {self.name!r} was made before the settings were renamed (config.json has "
                f"{', '.join(sorted(old))}): delete the folder {self.path} to run it again"
            )
        return config

    def environment(self) -> dict[str, Any]:
        return _read(self.path / "environment.json")

    def result(self) -> dict[str, Any]:
        """Read the result; FileNotFoundError with the run's name if it is not finished."""
        if not self.finished:
            raise FileNotFoundError(f"run {self.name!r} is not finished: {self.path}")
        if (self.path / "config.json").is_file():
            self.config()  # refuses an old run
        return _read(self.path / "result.json")

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, and show it in the tracker."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        self._track(row)

    def rows(self) -> list[dict[str, Any]]:
        """Read the lines of metrics.jsonl; a last line cut off by a crash is left out."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        lines = path.read_bytes().decode(errors="replace").split("\n")
        whole = lines[:-1]  # what follows the last "\n" was cut off
        rows = [_object(line, path) for line in whole if line]
        if not all(isinstance(row.get("step"), int) and "split" in row for row in rows):
            raise ValueError(_damaged(path, "a line without step or split"))
        return rows

    def metrics(self, split: str = "train") -> pd.DataFrame:
        """Tabulate the logged rows of one split ("train" or "validation"), one row a step."""
        import pandas as pd

        return pd.DataFrame([row for row in self.rows() if row["split"] == split])

    def truncate_metrics(self, step: int) -> None:
        """Remove what was logged after `step`: a resumed run writes it again."""
        kept = [row for row in self.rows() if row["step"] <= step]
        content = "".join(json.dumps(row) + "\n" for row in kept).encode()
        write_atomically(self.path / "metrics.jsonl", content)
        for row in kept:  # a tracker begins empty in each process
            self._track(row)

    def _track(self, row: Mapping[str, Any]) -> None:
        if self.tracker is not None:
            values = {
                f"{row['split']}/{k}": v for k, v in row.items() if k not in ("step", "split")
            }
            self.tracker.log(values, step=row["step"])

    def keep_predictions(self, logits: Mapping[str, np.ndarray]) -> None:
        """Write predictions.safetensors: the logits [examples, C] of each split, in its order.

        Of labels on words [words, C], sentence after sentence; NaN where a word was cut off.
        """
        path = self.path / "predictions.safetensors"
        write_atomically(path, safetensors.numpy.save(dict(logits)))

    def predictions(self) -> dict[str, np.ndarray]:
        """Read the logits [examples or words, C] of each split that a model was scored on."""
        self.result()  # says so if it is not finished
        path = self.path / "predictions.safetensors"
        if not path.is_file():
            raise FileNotFoundError(
                f"run {self.name!r} has no predictions: {path}. Fine-tuning writes them, but for "
                f"question answering; to repeat an older run delete {self.path}"
            )
        try:
            return safetensors.numpy.load_file(path)
        except SafetensorError as error:
            raise ValueError(_damaged(path, error)) from None

    def keep_model(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write the folder for ``from_pretrained``, flushed to disk; OSError if it is full."""
        try:
            model.save_pretrained(self.model)
            tokenizer.save_pretrained(self.model)
            for path in (*self.model.iterdir(), self.model):  # checkpoints go once it is finished
                fsync(path)
        except (OSError, SafetensorError) as error:
            size, kept = model.get_memory_footprint(), "the last checkpoint is intact"
            raise not_written(error, "the trained model", self.model, size, kept) from error

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json, which makes the run finished, and drop the checkpoints."""
        write_json(self.path / "result.json", dict(result))
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def run_folder(name: str) -> Path:
    """Return ``runs/<name>`` under :func:`distilkit.config.home`; ValueError if it is no name."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"run name {name!r}: give 1 to 100 letters, digits, '.', '_' or '-', the first of them "
            "a letter or digit"
        )
    folder = home() / "runs" / name
    if folder.resolve().parent != (home() / "runs").resolve():
        raise ValueError(f"run {name!r} is a link to {folder.resolve()}, outside {home() / 'runs'}")
    return folder


@contextmanager
def open_run(name: str, config: Mapping[str, Any], log_with: str | None = None) -> Iterator[Run]:
    """Open the run folder `name`: new, to be resumed, or finished (then only read it).

    The same name with another config is refused, so that nothing is mixed or overwritten. Of
    several processes, which open it together, process 0 alone holds it and may write. `log_with`,
    the tracker that shows the metrics, is not a part of `config`.

    Raises:
        ModuleNotFoundError: the tracker's package is not installed.
        ValueError: no name, another config, or an unfinished run that began under other conditions
            (:data:`EXACT`); with ``DISTILKIT_ALLOW_INEXACT=1`` it resumes, and environment.json
            says so.
        RunBusy: another process is writing there.
    """
    path = run_folder(name)
    state = processes()
    if not state.is_main_process:
        state.wait_for_everyone()  # until process 0 holds the folder
        yield Run(path)
        state.wait_for_everyone()  # until it has written everything
        return
    path.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise RunBusy(f"{path} is being written by another process: choose another name") from None
    try:
        run = Run(path)
        config = json.loads(json.dumps(config))  # as it will be read back
        if (path / "config.json").is_file():
            different = _difference(run.config(), config)
            if different:
                raise ValueError(
                    f"{path} holds a run with another config ({'; '.join(different)}): give this "
                    "one another name, or delete that folder"
                )
            _same_conditions(run)
        else:
            write_json(path / "environment.json", environment())
            write_json(path / "config.json", config)  # last: with it the folder is a run
        with ExitStack() as stack:
            if log_with and not run.finished:
                run = Run(path, _start_tracker(log_with, path, config))
                stack.callback(run.tracker.finish)
            state.wait_for_everyone()
            yield run
    finally:
        lock.release()
    state.wait_for_everyone()


def _start_tracker(package: str, path: Path, config: Mapping[str, Any]) -> GeneralTracker:
    """Start accelerate's tracker of that name for the run in `path`, without any rows."""
    if find_spec(package) is None:
        advice = f"pip install {package}, or leave log_with out"
        raise ModuleNotFoundError(f"log_with = {package!r} is not installed: {advice}")
    kind = LOGGER_TYPE_TO_CLASS[package]
    if package == "tensorboard":  # the rows of an interrupted run would be there twice
        shutil.rmtree(path / package, ignore_errors=True)
        tracker = kind(package, logging_dir=path)
    else:
        tracker = kind("distilkit", name=path.name, config=config)
    tracker.start()
    return tracker


def _same_conditions(run: Run) -> None:
    """Refuse to resume where the digits would change, unless the user allows it."""
    if run.finished:
        return
    here = environment()
    if not any(run.checkpoints.glob("step-*")):
        write_json(run.path / "environment.json", here)  # it begins again
        return
    began = run.environment()
    different = [
        f"{key} {began[key]}, here {here[key]}"
        for key in EXACT
        if key in began and began[key] != here[key]
    ]
    if not different:
        return
    if os.environ.get(ALLOW_INEXACT, "") not in ("1", "true"):
        raise ValueError(
            f"run {run.name!r} began with {'; '.join(different)}: resuming here would not be "
            "exact. Use the same conditions (threads: OMP_NUM_THREADS), or --allow-inexact (in "
            f"Python: os.environ[{ALLOW_INEXACT!r}] = '1')"
        )
    began["inexact"] = [*began.get("inexact", []), different]
    write_json(run.path / "environment.json", began)


def as_json(config: Any) -> dict[str, Any]:
    """Return a config dataclass as plain JSON values (tuples become lists), without `log_with`."""
    values = {key: value for key, value in asdict(config).items() if key != "log_with"}
    # NumPy's numbers are numbers too, but not JSON's
    return json.loads(json.dumps(values, default=lambda value: value.item()))


def fingerprint(model: PreTrainedModel) -> dict[str, str]:
    """Return class and SHA-256 of a model's configuration and weights, for a run's config."""
    # what from_pretrained and save_pretrained write there says nothing about the computation
    aside = {"_name_or_path", "architectures", "dtype", "transformers_version"}
    config = {k: v for k, v in model.config.to_dict().items() if k not in aside}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return {"class": type(model).__name__, "sha256": digest.hexdigest()}


def model_entry(model: PreTrainedModel) -> dict[str, Any]:
    """Return a trained model's fingerprint for a run's config, with that of its frozen weights."""
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if not frozen:
        return fingerprint(model)
    names = hashlib.sha256(" ".join(frozen).encode()).hexdigest()
    return fingerprint(model) | {"frozen": f"{len(frozen)} weights, {names[:8]}"}


def teacher_entry(teacher: PreTrainedModel | None) -> dict[str, str] | None:
    """Return a teacher's fingerprint and name for a run's config; None without a teacher."""
    return None if teacher is None else fingerprint(teacher) | {"name": teacher.name_or_path}


def environment() -> dict[str, Any]:
    """Describe where a run takes place: commit, versions, machine; no environment variables."""
    device = processes().device
    cuda = device.type == "cuda"
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        **{each.__name__: each.__version__ for each in (torch, transformers, accelerate, np)},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "processes": processes().num_processes,
        "device": torch.cuda.get_device_name() if cuda else device.type,
        # of the processor, AVX2 for instance; an accelerator's digits do not depend on it
        "instructions": torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else None,
        "program": Path(sys.argv[0]).name,
    }


def commit() -> str:
    """Return the commit of the kit's code, "+changes" if edited since; "unknown" outside git."""
    if not (CHECKOUT and (CHECKOUT / ".git").exists()):  # git may answer for one around it
        return "unknown"
    folder = Path(__file__).resolve().parent
    try:
        head, dirty = (
            subprocess.run(
                ["git", *command], cwd=folder, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "."])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+changes" if dirty else head


def _read(path: Path) -> dict[str, Any]:
    return _object(path.read_bytes(), path)


def _object(text: bytes | str, path: Path) -> dict[str, Any]:
    """Parse a JSON object of a run folder; ValueError with the file's name if it is none."""
    try:
        value = json.loads(text)
    except ValueError as error:  # JSON's and Unicode's
        raise ValueError(_damaged(path, error)) from None
    if not isinstance(value, dict):
        raise ValueError(_damaged(path, f"a {type(value).__name__} in place of an object"))
    return value


def _damaged(path: Path, why: Any) -> str:
    return f"{path} is damaged ({why}): delete the folder {path.parent} to run it again"


def _difference(there: Any, here: Any, name: str = "") -> list[str]:
    """List what differs between two configs, as ``key: value there, value here``."""
    if isinstance(there, dict) and isinstance(here, dict):
        keys = there.keys() | here.keys()
        if "sha256" in keys:  # a teacher that was moved is the same teacher
            keys -= {"name"}
        return [
            line
            for key in sorted(keys)
            for line in _difference(there.get(key), here.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if there == here else [f"{name}: {there!r} there, {here!r} here"]
