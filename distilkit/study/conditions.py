"""The arms of the study: training conditions that differ in one part of the recipe each.

A new arm is a line in :data:`ARMS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from distilkit.config import MLM_ONLY, LossConfig, Scale


@dataclass(frozen=True)
class Arm:
    """One training condition. The defaults are the recipe: copied layers, the triple loss."""

    about: str  # for the reader of a table
    loss_changes: Mapping[str, Any] = field(default_factory=dict)  # to the scale's LossConfig
    layers: str | None = None  # name in named_layer_maps; None: the default map
    random_init: bool = False  # all weights random, nothing copied
    pretraining: bool = True  # False: fine-tuned as initialised
    equal_time: bool = False  # as many steps as take the time of the distillation
    finetuning_teacher: bool = False  # soft targets of the fine-tuned teacher at fine-tuning, too

    def loss_config(self, scale: Scale) -> LossConfig:
        """The pretraining loss of this arm."""
        return replace(scale.loss_config, **self.loss_changes)


_MLM_ONLY = {name: getattr(MLM_ONLY, name) for name in ("kd_weight", "mlm_weight", "cosine_weight")}
_EQUAL_WEIGHTS = {"kd_weight": 1.0, "mlm_weight": 1.0, "cosine_weight": 1.0}
_SOFT_TARGETS = {"mlm_weight": 0.0, "cosine_weight": 0.0}
_COSINE = {"kd_weight": 0.0, "mlm_weight": 0.0}
_AUTHORS_WEIGHTS = {name: getattr(LossConfig(), name) for name in _EQUAL_WEIGHTS}

ARMS = {
    "teacher": Arm("the teacher: all layers", pretraining=False),
    "distilled": Arm("half the layers, copied; then the triple loss"),
    "mlm_equal_steps": Arm("half the layers, copied; then MLM only, as many steps", _MLM_ONLY),
    "mlm_equal_time": Arm(
        "half the layers, copied; then MLM only, for as long", _MLM_ONLY, equal_time=True
    ),
    "random_init": Arm("half the layers, random weights; then the triple loss", random_init=True),
    "scratch": Arm(
        "half the layers, random weights; no pretraining", random_init=True, pretraining=False
    ),
    # table 4 of the paper; its fourth row is random_init
    "without_soft_target": Arm("the triple loss without its soft targets", {"kd_weight": 0.0}),
    "without_cosine": Arm("the triple loss without its cosine term", {"cosine_weight": 0.0}),
    "without_mlm": Arm("the triple loss without its MLM term", {"mlm_weight": 0.0}),
    # which layers
    "first_layers": Arm("the first half of the layers; then the triple loss", layers="first"),
    "last_layers": Arm("the last half of the layers; then the triple loss", layers="last"),
    "every_other": Arm("layers 0, 2, 4, ...; then the triple loss", layers="every second from 0"),
    # section 4.1 and table 2, there on SQuAD
    "distilled_twice": Arm(
        "distilled, and again by the fine-tuned teacher", finetuning_teacher=True
    ),
    # temperature and weights
    "temperature_1": Arm("the triple loss at T = 1", {"temperature": 1.0}),
    "temperature_4": Arm("the triple loss at T = 4", {"temperature": 4.0}),
    "temperature_8": Arm("the triple loss at T = 8", {"temperature": 8.0}),
    "weights_1_1_1": Arm("the three terms with equal weights", _EQUAL_WEIGHTS),
    "weights_5_2_1": Arm("the three terms with the authors' weights", _AUTHORS_WEIGHTS),
    # the rest of the factorial design
    "copied_soft_targets": Arm("half the layers, copied; then soft targets only", _SOFT_TARGETS),
    "copied_cosine": Arm("half the layers, copied; then the cosine term only", _COSINE),
    "as_cut": Arm("half the layers, copied; no pretraining", pretraining=False),
    "random_soft_targets": Arm(
        "half the layers, random weights; then soft targets only", _SOFT_TARGETS, random_init=True
    ),
    "random_cosine": Arm(
        "half the layers, random weights; then the cosine term only", _COSINE, random_init=True
    ),
    "random_mlm": Arm(
        "half the layers, random weights; then MLM only", _MLM_ONLY, random_init=True
    ),
}
# the same changes from random weights, where only the losses carry what the teacher knows
ARMS |= {
    f"random_{name}": replace(how, about=f"{how.about}, from random weights", random_init=True)
    for name, how in ARMS.items()
    if name.startswith(("without_", "temperature_", "weights_"))
}
SEEDS = (401, 402, 403, 404, 405)  # not those that recipe and tasks were tuned with
UNSOLVED = ("wnli",)  # near chance for every model: not in the means of the factorial design

# Arms that depend on the runs of others
NEEDS = {
    "mlm_equal_time": ("distilled", "mlm_equal_steps"),
    "distilled_twice": ("teacher", "distilled"),
}
# Initialisation × pretraining: pretraining -> the arms with copied and with random weights
FACTORIAL = {
    "none": ("as_cut", "scratch"),
    "MLM only": ("mlm_equal_steps", "random_mlm"),
    "cosine": ("copied_cosine", "random_cosine"),
    "soft targets": ("copied_soft_targets", "random_soft_targets"),
    "triple loss": ("distilled", "random_init"),
}
# The rows of table 4 -> the arm that leaves the same out
ABLATION = {
    "distillation loss": "without_soft_target",
    "cosine loss": "without_cosine",
    "MLM loss": "without_mlm",
    "teacher initialization": "random_init",
}
