"""Initialisation × objective: effects of copied layers, of each loss, and of both together.

A two-way design (:data:`distilkit.study.conditions.FACTORIAL`). Each effect is a contrast of
macro-scores within a seed, so intervals are over seeds.
"""

import pandas as pd

from distilkit.study.arms import macro_scores, t_interval
from distilkit.study.conditions import FACTORIAL

LAYERS = ("copied", "random")


def factorial_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Return macro-scores in points: a row a seed, columns (layers, objective).

    `scores` are those of :func:`distilkit.study.arms.finetune_arms`; ValueError if an arm of the
    design is missing.
    """
    macros = macro_scores(scores).pivot(index="seed", columns="arm", values="score")
    arms = {(layers, o): FACTORIAL[o][i] for i, layers in enumerate(LAYERS) for o in FACTORIAL}
    if missing := [arm for arm in arms.values() if arm not in macros]:
        raise ValueError(f"the scores have no arm {missing[0]!r}: run study --arms with all of it")
    return pd.DataFrame({cell: macros[arm] for cell, arm in arms.items()})


def factorial_effects(scores: pd.DataFrame) -> pd.DataFrame:
    """Return effects in points of macro-score, each with its 95 % t-interval over seeds.

    Columns ``effect, layers, mean, low, high, seeds``. ``copying``: copied minus random layers, the
    mean over objectives. ``<objective> − none`` and ``triple loss − MLM``: for copied and for
    random layers, their mean (``both``, the main effect), and random minus copied
    (``interaction``).
    """
    cells = factorial_scores(scores)
    found = [("copying", "both", (cells["copied"] - cells["random"]).mean(axis=1))]
    pairs = [(o, "none") for o in FACTORIAL if o != "none"]
    for objective, control in (*pairs, ("triple loss", "MLM")):
        copied, random = (cells[each][objective] - cells[each][control] for each in LAYERS)
        effect = f"{objective} − {control}"
        found += [
            (effect, "copied", copied),
            (effect, "random", random),
            (effect, "both", (copied + random) / 2),
            (effect, "interaction", random - copied),
        ]
    return pd.DataFrame(
        {"effect": effect, "layers": layers} | t_interval(values.dropna())
        for effect, layers, values in found
    )
