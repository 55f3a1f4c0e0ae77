"""Calibration and intervals, against scikit-learn, SciPy and slow plain formulas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve

from distilkit.study import calibration
from distilkit.study.calibration import (
    BINS,
    calibrated_error,
    calibration_table,
    expected_calibration_error,
    reliability,
)
from distilkit.study.intervals import matched_interval, share_interval


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    confidence = random.uniform(1 / 3, 1, 400)
    return confidence, random.random(400) < confidence**2


def slow_error(confidence, correct, bins: int = BINS) -> float:
    found = 0.0
    for b in range(bins):
        inside = [i for i, p in enumerate(confidence) if b / bins < p <= (b + 1) / bins]
        if inside:
            accuracy = sum(bool(correct[i]) for i in inside) / len(inside)
            sure = sum(confidence[i] for i in inside) / len(inside)
            found += len(inside) / len(confidence) * abs(accuracy - sure)
    return found


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_error_is_the_plain_formula(answers, bins, monkeypatch):
    monkeypatch.setattr(calibration, "BINS", bins)
    found = expected_calibration_error(*answers)
    assert found == pytest.approx(slow_error(*answers, bins))
    assert 0.05 < found < 0.5


def test_reliability_is_scikit_learns_curve(answers):
    table = reliability(*answers)
    used = table[table.n > 0]
    accuracy, confidence = calibration_curve(answers[1], answers[0], n_bins=BINS)
    assert used.accuracy.to_numpy() == pytest.approx(accuracy)
    assert used.confidence.to_numpy() == pytest.approx(confidence)
    assert (len(table), table.n.sum()) == (BINS, 400)
    assert table[table.n == 0][["confidence", "accuracy"]].isna().all(axis=None)
    assert (table.n == 0).any()


def test_borders_belong_to_the_bin_below(monkeypatch):
    monkeypatch.setattr(calibration, "BINS", 2)
    table = reliability(np.array([0.0, 0.5, 1.0]), np.array([True, False, True]))
    assert table.n.tolist() == [2, 1]
    assert table.accuracy.tolist() == [0.5, 1.0]


def test_perfectly_calibrated_and_perfectly_wrong():
    sure = np.ones(5)
    assert expected_calibration_error(sure, np.ones(5)) == 0
    assert expected_calibration_error(sure, np.zeros(5)) == 1
    assert calibrated_error(sure) == 0


def test_what_chance_alone_gives_is_the_mean_of_calibrated_classifiers():
    random = np.random.default_rng(5)
    confidence = random.uniform(0.5, 1, 60)
    drawn = [slow_error(confidence, random.random(60) < confidence) for _ in range(400)]
    assert calibrated_error(confidence) == pytest.approx(np.mean(drawn), rel=0.05)
    # more answers, less chance
    assert calibrated_error(np.tile(confidence, 30)) < calibrated_error(confidence) / 3


def test_without_answers_nothing_is_0():
    empty = np.array([])
    assert np.isnan(expected_calibration_error(empty, empty))
    assert np.isnan(calibrated_error(empty))
    assert reliability(empty, empty)[["confidence", "accuracy"]].isna().all(axis=None)


def test_the_table_is_the_mean_of_the_seeds():
    random = np.random.default_rng(3)
    rows = []
    for task, count, seeds in (("a", 30, 2), ("b", 20, 2)):
        for seed in range(seeds):
            for _ in range(count):
                row = {"task": task, "seed": seed}
                for model in ("teacher", "student"):
                    p = random.uniform(0.5, 1)
                    row |= {f"{model}_confidence": p, f"{model}_correct": bool(random.random() < p)}
                rows.append(row)
    examples = pd.DataFrame(rows)
    values = examples.copy()
    values[[c for c in values if c.endswith("confidence")]] = np.nan
    with_regression = pd.concat([examples, values.assign(task="c")[lambda t: t.seed == 0]])
    table = calibration_table(with_regression)
    assert list(table.index) == [(t, m) for t in ("a", "b", "all") for m in ("teacher", "student")]
    for (task, model), row in table.iterrows():
        parts = [
            examples[(examples.seed == seed) & ((examples.task == task) | (task == "all"))]
            for seed in (0, 1)
        ]
        plain = {
            "n": np.mean([len(p) for p in parts]),
            "accuracy": 100 * np.mean([p[f"{model}_correct"].mean() for p in parts]),
            "confidence": 100 * np.mean([p[f"{model}_confidence"].mean() for p in parts]),
            "ece": 100
            * np.mean(
                [
                    slow_error(p[f"{model}_confidence"].tolist(), p[f"{model}_correct"].tolist())
                    for p in parts
                ]
            ),
        }
        assert row[list(plain)].to_dict() == pytest.approx(plain)
        assert 0 < row.ece_if_calibrated < 40
    assert calibration_table(values).empty


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 50), (499, 500)])
def test_the_interval_of_a_share_is_scipys(k, n):
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert share_interval(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_interval_of_a_matched_difference_is_the_plain_formula():
    """Half an example more in each cell, then the mean and standard error of the differences."""
    for both, first, second, neither in ((3, 1, 0, 0), (20, 7, 3, 5), (0, 0, 0, 1), (0, 9, 0, 0)):
        n = both + first + second + neither
        weights = np.array([both, first, second, neither]) + 0.5
        differences = np.array([0, 1, -1, 0])
        mean = np.average(differences, weights=weights)
        error = np.sqrt(np.average((differences - mean) ** 2, weights=weights) / weights.sum())
        low, high = matched_interval(first / n, second / n, n)
        assert low == pytest.approx(max(-1, mean - 1.959964 * error))
        assert high == pytest.approx(min(1, mean + 1.959964 * error))
        assert low <= (first - second) / n <= high
        assert low < high


def test_of_no_example_there_is_no_interval():
    for low, high in (share_interval(np.nan, 0), matched_interval(np.nan, np.nan, 0)):
        assert np.isnan(low)
        assert np.isnan(high)


def test_the_intervals_hold_what_they_promise():
    """Drawn anew 4,000 times from known shares, 93 to 97 % of them hold the truth."""
    random, n = np.random.default_rng(0), 40
    cells = random.multinomial(n, (0.5, 0.2, 0.1, 0.2), 4000) / n
    low, high = matched_interval(cells[:, 1], cells[:, 2], n)
    assert 0.93 < ((low <= 0.1) & (high >= 0.1)).mean() < 0.975
    low, high = share_interval(cells[:, 0] + cells[:, 3], n)
    assert 0.93 < ((low <= 0.7) & (high >= 0.7)).mean() < 0.975
