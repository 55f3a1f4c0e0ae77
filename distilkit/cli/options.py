"""Command-line options made from the fields of the config dataclasses that they set.

Such an option has the destination ``<part>.<field>``: the part is a key of :data:`PARTS`.
"""

from argparse import ArgumentParser, Namespace, _ActionsContainer
from dataclasses import fields, replace
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from distilkit.config import SCALES, FinetuneLossConfig, LossConfig, Scale, TrainingConfig, scale

PARTS = {
    "scale": Scale,
    "distillation": TrainingConfig,
    "finetuning": TrainingConfig,
    "loss_config": LossConfig,
    "finetune_loss": FinetuneLossConfig,  # of the fine-tuning; no scale has one
}

HELP = {
    "teacher": "Hub id or folder",
    "text": "Hub dataset id:config, a .txt, .jsonl (or .gz) or .parquet file, or a folder of them",
    "length": "tokens of a block, at most the model's positions",
    "stream": "read the Hub dataset over the network, so many blocks an epoch; store nothing",
    "glue": "Hub dataset, or folder with <task>/<split>.parquet",
    "tasks": "names of GLUE tasks",
    "seeds": "one or more",
    "epochs": "passes over the data",
    "steps": "optimizer steps, in place of epochs",
    "batch_size": "examples an optimizer step",
    "micro_batch_size": "examples a forward pass",
    "learning_rate": "at the top of the schedule",
    "precision": "of the forward pass",
    "log_with": "also show the metrics there; pip install it first",
    "seed": "of order, masks and dropout",
    "kd_weight": "weight of the KD loss",
    "mlm_weight": "weight of the MLM loss",
    "cosine_weight": "weight of the cosine loss",
    "label_weight": "weight of the loss against the labels",
    "temperature": "of both softmaxes of the KD loss",
    "restrict_kd_to_mask": "KD loss at masked tokens only",
    "mlm_target": "target of the MLM loss: the original token, or the teacher's arg-max",
}


def add_fields(parser: _ActionsContainer, part: str, *names: str, prefix: str = "") -> None:
    """Add an option ``--<prefix><field>`` for each of these fields of a part."""
    config = PARTS[part]
    hints = get_type_hints(config)
    defaults = {field.name: field.default for field in fields(config)}
    for name in names:
        default = f"{defaults[name]:g}" if part == "finetune_loss" else "the scale's"
        parser.add_argument(
            f"--{prefix}{name.replace('_', '-')}",
            dest=f"{part}.{name}",
            help=f"{HELP[name]} (default: {default})",
            **_reading(hints[name], name),
        )


def _reading(hint: Any, name: str) -> dict[str, Any]:
    """Say how argparse reads a value of this type."""
    if NoneType in get_args(hint):  # None is the value of an option that is not given
        hint = next(each for each in get_args(hint) if each is not NoneType)
    if hint is bool:
        return {"action": "store_const", "const": True}
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is tuple:
        return {"type": get_args(hint)[0], "nargs": "+", "metavar": name.removesuffix("s").upper()}
    return {"type": hint, "metavar": name.upper()}


def add_scale(parser: ArgumentParser, *names: str) -> None:
    """Add ``--scale`` and options for these fields of it."""
    parser.add_argument("--scale", help=f"{', '.join(SCALES)} (default: DISTILKIT_SCALE or tiny)")
    add_fields(parser, "scale", *names)


def add_training(parser: ArgumentParser, part: str, title: str = "training") -> None:
    """Add the options of an optimisation, under a title of their own in the help."""
    wide = "At the tiny scale, for a model 512 wide or more: batches of 32 at 3e-5."
    of_one_model = part == "finetuning" and title == "training"
    group = parser.add_argument_group(title, wide if of_one_model else None)
    add_fields(group.add_mutually_exclusive_group(), part, "epochs", "steps")
    add_fields(group, part, "batch_size", "micro_batch_size", "learning_rate", "precision")
    add_fields(group, part, "log_with")


def given(options: Namespace, part: str) -> dict[str, Any]:
    """Return the fields of a part that the command line sets, and their values."""
    values = {
        name.removeprefix(f"{part}."): tuple(value) if isinstance(value, list) else value
        for name, value in vars(options).items()
        if name.startswith(f"{part}.") and value is not None
    }
    if "epochs" in values:  # a scale's own steps would replace them
        values.setdefault("steps", None)
    return values


def chosen_scale(options: Namespace) -> Scale:
    """Return the scale with every field that the command line sets."""
    chosen = scale(options.scale)
    for part in ("distillation", "finetuning", "loss_config"):
        config = replace(getattr(chosen, part), **given(options, part))
        chosen = replace(chosen, **{part: config})
    return replace(chosen, **given(options, "scale"))


def settings_for(options: Namespace, checkpoint: str) -> TrainingConfig:
    """Return the settings to fine-tune a checkpoint with; the command line's come first."""
    from distilkit.models.loading import finetuning_settings

    settings = finetuning_settings(checkpoint, scale(options.scale))
    return replace(settings, **given(options, "finetuning"))


def print_result(run: Any) -> None:
    """Print a finished run's folder and result, on one process of several."""
    from distilkit.processes import processes

    if not processes().is_main_process:
        return
    print(run.path)
    for name, value in run.result().items():
        print(f"  {name}: {value}")
