"""Configuration: losses, training, and the three scales. Frozen dataclasses, validated once.

The defaults are the recipe of the released DistilBERT (Sanh et al. 2019, arXiv 1910.01108,
section 3, and the authors' training code). Make variants with ``dataclasses.replace``.
"""

import math
import os
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, get_args

Precision = Literal["auto", "fp32", "bf16"]
MlmTarget = Literal["original", "teacher"]
Tracker = Literal["tensorboard", "wandb", "trackio"]
GLUE_TASKS = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli")

_PACKAGE = Path(__file__).resolve().parent
_IN_WHEEL = _PACKAGE / "_resources"  # made by the build of a wheel; see pyproject.toml
# The root of the checkout; None where the package was installed from a wheel
CHECKOUT = None if _IN_WHEEL.is_dir() else _PACKAGE.parent


def home() -> Path:
    """Return the folder of ``runs/``, ``data/cache/`` and ``figures/``: all that the kit writes.

    ``DISTILKIT_HOME`` names it. Otherwise it is the checkout's root, where notebooks in any folder
    find the same runs. Without a checkout it is the working folder.
    """
    return Path(os.environ.get("DISTILKIT_HOME") or CHECKOUT or Path.cwd()).expanduser()


def resource(name: str) -> Path:
    """Return a folder that comes with the kit, named as in the repository. Read only."""
    return (CHECKOUT or _IN_WHEEL) / name


SHIPPED = resource("data/tiny")  # the embedded default: teacher, text and tasks
RESULTS = resource("data/results")  # tables of measurements that take hours


def _number(owner: str, name: str, value: Any, low: float, high: float, *, open_low: bool) -> None:
    inside = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    inside = inside and (low < value if open_low else low <= value) and value <= high
    if not inside:
        bracket, end = ("(" if open_low else "["), ("∞)" if high == math.inf else f"{high:g}]")
        raise ValueError(
            f"{owner}.{name} = {value!r}: give a finite number in {bracket}{low:g}, {end}"
        )


def _whole(owner: str, name: str, value: Any, low: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise ValueError(f"{owner}.{name} = {value!r}: give a whole number of at least {low}")


def _one_of(owner: str, name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{owner}.{name} = {value!r}: give one of {', '.join(allowed)}")


def _check_loss(config: Any, *weights: str) -> None:
    """Check what both losses have: weights, temperature, pairs of layers."""
    owner, pairs = type(config).__name__, config.cosine_layers
    for name in weights:
        _number(owner, name, getattr(config, name), 0, math.inf, open_low=False)
    if not any(getattr(config, name) for name in weights):
        raise ValueError(f"{owner}: all weights are 0: nothing to learn from")
    _number(owner, "temperature", config.temperature, 0, math.inf, open_low=True)
    if pairs is None:
        return
    if not pairs or any(not isinstance(p, (tuple, list)) or len(p) != 2 for p in pairs):
        raise ValueError(
            f"{owner}.cosine_layers = {pairs!r}: give pairs (student layer, teacher layer), or None"
        )
    for layer in (layer for pair in pairs for layer in pair):
        _whole(owner, "cosine_layers", layer, 0)
    object.__setattr__(config, "cosine_layers", tuple(map(tuple, pairs)))  # hashable


@dataclass(frozen=True)
class LossConfig:
    """The triple loss, ``kd · T²·KL + mlm · CE + cosine · (1 − cos)`` (paper, section 3).

    The defaults are those of the released weights, not the 0.33 each of one README example.
    """

    kd_weight: float = 5.0  # weight of T²·KL(teacher ‖ student); 0 switches the term off
    mlm_weight: float = 2.0  # weight of the cross-entropy at masked tokens
    cosine_weight: float = 1.0  # weight of 1 − cos(student's, teacher's last hidden state)
    temperature: float = 2.0  # T of both softmaxes in the soft-target term; > 0
    restrict_kd_to_mask: bool = False  # KD at masked tokens only; default: all non-pad tokens
    mlm_target: MlmTarget = "original"  # the "original" token (authors), or the "teacher"'s arg-max
    # (student, teacher) hidden states that the cosine term aligns, 0 = embeddings; None: the last
    # of both (the authors). Pairs below the top are TinyBERT's (Jiao et al. 2020, section 3).
    cosine_layers: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        _check_loss(self, "kd_weight", "mlm_weight", "cosine_weight")
        if not isinstance(flag := self.restrict_kd_to_mask, bool):
            raise ValueError(f"LossConfig.restrict_kd_to_mask = {flag!r}: give True or False")
        _one_of("LossConfig", "mlm_target", self.mlm_target, get_args(MlmTarget))

    @property
    def needs_teacher(self) -> bool:
        """Tell whether any term needs the teacher; plain MLM does not."""
        return max(self.kd_weight, self.cosine_weight) > 0 or self.mlm_target == "teacher"


MLM_ONLY = LossConfig(kd_weight=0.0, mlm_weight=1.0, cosine_weight=0.0)


@dataclass(frozen=True)
class FinetuneLossConfig:
    """Distillation while fine-tuning: ``label · CE + kd · T²·KL + cosine · (1 − cos)``.

    The authors' second distillation, on SQuAD, weighs the first two by 0.5 at T = 2 (paper, 4.1).
    """

    label_weight: float = 0.5  # weight of the loss against the labels
    kd_weight: float = 0.5  # weight of the loss against the fine-tuned teacher
    temperature: float = 2.0  # T of both softmaxes; > 0
    cosine_weight: float = 0.0  # weight of 1 − cos(student's, teacher's hidden states)
    cosine_layers: tuple[tuple[int, int], ...] | None = None  # as in LossConfig

    def __post_init__(self) -> None:
        _check_loss(self, "label_weight", "kd_weight", "cosine_weight")


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one training: length, batches, AdamW. Defaults: the authors'."""

    epochs: int = 3  # passes over the data
    steps: int | None = None  # optimizer steps; if given, it replaces `epochs`
    batch_size: int = 4000  # examples an optimizer step, over all micro-batches and processes
    micro_batch_size: int = 5  # examples a forward pass on one process
    learning_rate: float = 5e-4  # at the top of the schedule
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.0  # on matrices only: no bias, no norm (training_loop)
    warmup_fraction: float = 0.05  # share of the steps with a linear warm-up from 0
    max_grad_norm: float = 5.0  # gradients are clipped to this global L2 norm
    seed: int = 56  # of order, masks and dropout
    precision: Precision = "auto"  # "fp32", "bf16" (autocast), or "auto": bf16 on GPUs that have it
    log_interval: int = 1  # optimizer steps between two lines of metrics.jsonl
    eval_interval: int | None = None  # optimizer steps between validations; None: only at the end
    checkpoint_interval: int = 500  # optimizer steps between two checkpoints
    workers: int = 0  # processes that prepare batches
    log_with: Tracker | None = None  # also shows the metrics; its package is installed separately

    def __post_init__(self) -> None:
        counts = ("epochs", "batch_size", "micro_batch_size", "log_interval", "checkpoint_interval")
        given = (name for name in ("steps", "eval_interval") if getattr(self, name) is not None)
        for name in (*counts, *given):
            _whole("TrainingConfig", name, getattr(self, name), 1)
        for name in ("seed", "workers"):
            _whole("TrainingConfig", name, getattr(self, name), 0)
        for name in ("learning_rate", "eps", "max_grad_norm"):
            _number("TrainingConfig", name, getattr(self, name), 0, math.inf, open_low=True)
        _number("TrainingConfig", "weight_decay", self.weight_decay, 0, math.inf, open_low=False)
        _number("TrainingConfig", "warmup_fraction", self.warmup_fraction, 0, 1, open_low=False)
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise ValueError(f"TrainingConfig.betas = {self.betas!r}: give two numbers")
        for beta in self.betas:
            _number("TrainingConfig", "betas", beta, 0, 0.999999999, open_low=False)
        object.__setattr__(self, "betas", tuple(self.betas))  # a list cannot be hashed
        _one_of("TrainingConfig", "precision", self.precision, get_args(Precision))
        if self.log_with is not None:
            _one_of("TrainingConfig", "log_with", self.log_with, get_args(Tracker))


@dataclass(frozen=True)
class Scale:
    """One scale: teacher, text, tasks and training settings."""

    name: str
    about: str  # a sentence for the reader: machine and time
    teacher: str  # Hub id or folder of a BertForMaskedLM and its tokenizer
    text: str  # Hub dataset "id:config", file, or folder of files
    glue: str  # Hub dataset, or folder with <task>/<split>.parquet
    tasks: tuple[str, ...]  # names in GLUE_TASKS; in Python also tasks of one's own (Task)
    length: int  # tokens in a block, [CLS] and [SEP] included
    seeds: tuple[int, ...]  # fine-tuning is repeated with each
    distillation: TrainingConfig
    finetuning: TrainingConfig
    loss_config: LossConfig = field(default_factory=LossConfig)
    # Blocks an epoch of a Hub dataset that is read over the network, for a text that does not fit
    # the disk. None: the text is tokenized once, into data/cache/
    stream: int | None = None

    @property
    def figures(self) -> Path:
        """The folder ``figures/<scale>/``, made on first use."""
        folder = home() / "figures" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, str) or not self.teacher:
            raise ValueError(f"Scale.teacher = {self.teacher!r}: give a Hub id or a folder")
        if not isinstance(self.tasks, (tuple, list)) or not self.tasks:
            raise ValueError(f"Scale.tasks = {self.tasks!r}: give a tuple of tasks")
        for task in (each for each in self.tasks if not hasattr(each, "kind")):
            _one_of("Scale", "tasks", task, GLUE_TASKS)
        _whole("Scale", "length", self.length, 8)
        if not isinstance(self.seeds, (tuple, list)) or not self.seeds:
            raise ValueError(f"Scale.seeds = {self.seeds!r}: give a tuple of at least one seed")
        for seed in self.seeds:
            _whole("Scale", "seeds", seed, 0)
        for name in ("tasks", "seeds"):
            given = tuple(getattr(self, name))  # a list cannot be hashed
            if len(set(map(str, given))) < len(given):  # runs are named by them
                raise ValueError(f"Scale.{name}: give each once, not {', '.join(map(str, given))}")
            object.__setattr__(self, name, given)
        a_file = str(self.text).endswith((".txt", ".jsonl", ".parquet"))
        if a_file and not Path(self.text).expanduser().exists():
            raise FileNotFoundError(f"no text file at {self.text}")
        if self.stream is not None:
            _whole("Scale", "stream", self.stream, 1)


# GLUE fine-tuning as BERT's authors do it (Devlin et al. 2019, appendix A.3: batch 16 or 32,
# learning rate 2e-5 to 5e-5, 2 to 4 epochs), weight decay and warm-up included.
_GLUE = TrainingConfig(
    epochs=3,
    batch_size=32,
    micro_batch_size=32,
    learning_rate=3e-5,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.01,
    warmup_fraction=0.1,
    max_grad_norm=1.0,
    seed=0,
    log_interval=10,
    checkpoint_interval=1000,
)

SCALES = {
    "tiny": Scale(
        name="tiny",
        about="the small teacher, text and tasks with the kit: 2 CPU cores, 10 to 20 minutes",
        teacher=str(SHIPPED / "teacher"),
        text=str(SHIPPED / "text"),
        glue=str(SHIPPED / "glue"),
        tasks=GLUE_TASKS,
        length=64,
        seeds=(1,),
        distillation=TrainingConfig(
            steps=250,
            batch_size=8,
            micro_batch_size=8,
            learning_rate=1e-3,
            eps=1e-8,
            seed=1,
            precision="fp32",
            log_interval=5,
            eval_interval=100,
            checkpoint_interval=100,
        ),
        # Many small steps: comparing two sentences is learnt late, by students in batches of 16
        # often not at all
        finetuning=replace(
            _GLUE, batch_size=8, micro_batch_size=8, learning_rate=2e-4, precision="fp32"
        ),
        # With 1e5 tokens, mlm_weight = 2 overfits: held-out KL to the teacher is 4 times higher
        loss_config=LossConfig(mlm_weight=0.1),
    ),
    "small": Scale(
        name="small",
        about="a small BERT of the Hub, WikiText-2, four tasks: a laptop or a free GPU",
        teacher="google/bert_uncased_L-8_H-256_A-4",
        text="Salesforce/wikitext:wikitext-2-raw-v1",
        glue="nyu-mll/glue",
        tasks=("cola", "mrpc", "rte", "sst2"),
        length=128,
        seeds=(1, 2, 3),
        distillation=TrainingConfig(
            batch_size=128, micro_batch_size=32, eval_interval=100, checkpoint_interval=50
        ),
        finetuning=_GLUE,
    ),
    "base": Scale(
        name="base",
        about="the paper: bert-base-uncased, WikiText-103, nine tasks: one big GPU, about a day",
        teacher="google-bert/bert-base-uncased",
        text="Salesforce/wikitext:wikitext-103-raw-v1",
        glue="nyu-mll/glue",
        tasks=GLUE_TASKS,
        length=512,
        seeds=(1, 2, 3, 4, 5),
        distillation=TrainingConfig(  # some 180 steps, each of two million tokens
            batch_size=4000, micro_batch_size=16, eval_interval=50, checkpoint_interval=10
        ),
        finetuning=_GLUE,
    ),
}


def scale(name: str | None = None) -> Scale:
    """Return the scale `name`, by default the one in ``DISTILKIT_SCALE``, or ``tiny``."""
    name = name or os.environ.get("DISTILKIT_SCALE") or "tiny"
    if name not in SCALES:
        raise ValueError(
            f"unknown scale {name!r}: set DISTILKIT_SCALE to one of {', '.join(SCALES)}"
        )
    return SCALES[name]
