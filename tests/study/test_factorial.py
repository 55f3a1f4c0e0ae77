"""Effects of a factorial design against a plain least-squares reference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from distilkit.plots.study import plot_factorial
from distilkit.study.conditions import ARMS, FACTORIAL
from distilkit.study.factorial import factorial_effects

SEEDS = (1, 2, 3, 4, 5)


def toy_scores(seed: int = 0) -> pd.DataFrame:
    """Two tasks; copying is worth 20 points, the triple loss 3, and 9 more with random layers."""
    random = np.random.default_rng(seed)
    worth = {"none": 0.0, "MLM only": 1.0, "cosine": 2.0, "soft targets": 2.5, "triple loss": 3.0}
    rows = [
        (arm, number, task, 50 + 20 * (i == 0) + worth[objective] * (1 + 3 * (i == 1)) + noise)
        for objective, arms in FACTORIAL.items()
        for i, arm in enumerate(arms)
        for number in SEEDS
        for task, noise in zip(("a", "b"), random.normal(0, 0.5, 2), strict=True)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "task", "score"])


def test_the_design_is_two_ways_of_initialising_times_five_objectives():
    for copied, random in FACTORIAL.values():
        one, other = ARMS[copied], ARMS[random]
        assert (one.random_init, other.random_init) == (False, True)
        assert one.loss_changes == other.loss_changes
        assert one.pretraining == other.pretraining
    assert len({arm for arms in FACTORIAL.values() for arm in arms}) == 10


def test_main_effects_are_those_of_least_squares():
    """Treatment-coded two-way model on the cells' means: the main effects are its marginals."""
    scores = toy_scores()
    found = factorial_effects(scores).set_index(["effect", "start"])
    cells = scores.groupby(["arm", "seed"])["score"].mean()
    rows, y = [], []
    objectives = [o for o in FACTORIAL if o != "none"]
    for objective, arms in FACTORIAL.items():
        for i, arm in enumerate(arms):
            for seed in SEEDS:
                rows.append([1, 0.5 - i, *(float(o == objective) for o in objectives)])
                y.append(cells[arm, seed])
    fit = np.linalg.lstsq(np.array(rows), np.array(y), rcond=None)[0]
    assert found.loc[("copying", "main effect"), "mean"] == pytest.approx(fit[1])
    for objective, value in zip(objectives, fit[2:], strict=True):
        assert found.loc[(f"{objective} − none", "main effect"), "mean"] == pytest.approx(value)


def test_intervals_are_t_intervals_over_seeds():
    scores = toy_scores()
    found = factorial_effects(scores).set_index(["effect", "start"])
    wide = scores.groupby(["seed", "arm"])["score"].mean().unstack()
    copied = wide["distilled"] - wide["mlm_equal_steps"]
    random = wide["random_init"] - wide["random_mlm"]
    for layers, values in {"random": random, "interaction": random - copied}.items():
        row = found.loc[("triple loss − MLM only", layers)]
        expected = scipy.stats.ttest_1samp(values, 0).confidence_interval()
        assert (row["low"], row["high"]) == pytest.approx(tuple(expected))
        assert row["seeds"] == len(SEEDS)
    assert found.loc[("triple loss − MLM only", "interaction"), "mean"] == pytest.approx(6, abs=1)


def test_a_task_that_no_model_solves_changes_nothing():
    scores = toy_scores()
    unsolved = scores[scores["task"] == "a"].assign(task="wnli", score=scores["score"].iloc[::-1])
    with_it = pd.concat([scores, unsolved], ignore_index=True)
    pd.testing.assert_frame_equal(factorial_effects(with_it), factorial_effects(scores))
    assert plot_factorial(with_it).axes[0].get_ylabel() == "mean of 2 tasks (points)"
    one = plot_factorial(scores[scores["task"] == "b"])
    assert one.axes[0].get_ylabel() == "b (points)"


def test_a_missing_arm_is_named():
    scores = toy_scores()
    with pytest.raises(ValueError, match="random_mlm"):
        factorial_effects(scores[scores["arm"] != "random_mlm"])


@pytest.mark.slow
def test_the_figure_shows_every_seed_and_three_effects():
    figure = plot_factorial(toy_scores())
    left, right = figure.axes
    dots = [line for line in left.lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in dots) == 10 * len(SEEDS)
    assert len(right.get_yticklabels()) == 3
