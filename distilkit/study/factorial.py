"""Initialisation × pretraining: effects of copied weights, of each loss, and their interaction.

A two-way design (:data:`distilkit.study.conditions.FACTORIAL`). Each effect is a contrast of
macro-scores within a seed, so intervals are over seeds. Tasks that no model solves
(:data:`distilkit.study.conditions.UNSOLVED`) are left out of the macro-score.
"""

import pandas as pd

from distilkit.study.arms import macro_scores, t_interval
from distilkit.study.conditions import FACTORIAL, UNSOLVED

STARTS = ("copied", "random")  # weights of the student before its pretraining
DESIGN = tuple(arm for pair in FACTORIAL.values() for arm in pair)  # its arms


def factorial_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Return macro-scores in points: a row a seed, columns (start, pretraining).

    `scores` are those of :func:`distilkit.study.arms.finetune_arms`; ValueError if an arm of the
    design is missing.
    """
    macros = macro_scores(scores, without=UNSOLVED).pivot(
        index="seed", columns="arm", values="score"
    )
    arms = {(start, p): FACTORIAL[p][i] for i, start in enumerate(STARTS) for p in FACTORIAL}
    if missing := [arm for arm in arms.values() if arm not in macros]:
        raise ValueError(f"the scores have no arm {missing[0]!r}: run study --arms with all of it")
    return pd.DataFrame({cell: macros[arm] for cell, arm in arms.items()})


def factorial_effects(scores: pd.DataFrame) -> pd.DataFrame:
    """Return effects in points of macro-score, each with its 95 % t-interval over seeds.

    Columns ``effect, start, mean, low, high, seeds``. The main effect of ``copying`` is copied
    minus random weights, the mean over pretrainings. ``<pretraining> − none``, and soft targets and
    triple loss ``− MLM only``, are given for ``copied`` and ``random`` weights and as their mean
    (``main effect``). ``interaction``: the effect from random weights minus that from copied ones.
    """
    cells = factorial_scores(scores)
    copying = (cells["copied"] - cells["random"]).mean(axis=1, skipna=False)
    found = [("copying", "main effect", copying)]
    pairs = [(each, "none") for each in FACTORIAL if each != "none"]
    pairs += [(each, "MLM only") for each in ("soft targets", "triple loss")]
    for pretraining, control in pairs:
        copied, random = (cells[start][pretraining] - cells[start][control] for start in STARTS)
        effect = f"{pretraining} − {control}"
        found += [
            (effect, "copied", copied),
            (effect, "random", random),
            (effect, "main effect", (copied + random) / 2),
            (effect, "interaction", random - copied),
        ]
    return pd.DataFrame(
        {"effect": effect, "start": start} | t_interval(values.dropna())
        for effect, start, values in found
    )
