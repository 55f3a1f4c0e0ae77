"""The Pareto front and the smallest model, against brute force."""

from __future__ import annotations

import statistics

import numpy as np
import pandas as pd
import pytest
from frontier_tables import frontier_table

from distilkit.compress.pareto import frontier_points, pareto_front, smallest_within


def drawn(seed: int, count: int = 30) -> pd.DataFrame:
    """Points on a coarse grid, so that there are equals."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "lost": random.integers(-2, 12, count).astype(float),
            "size_mb": random.integers(1, 9, count).astype(float),
            "latency_ms_p50": random.integers(1, 9, count) / 2,
        }
    ).assign(score=lambda t: 90 - t["lost"])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cost", ["size_mb", "latency_ms_p50"])
def test_front_is_what_nothing_beats(seed, cost):
    points = drawn(seed)
    expected = []
    for one in points.to_dict("records"):
        beaten = False
        for other in points.to_dict("records"):
            no_worse = other[cost] <= one[cost] and other["score"] >= one["score"]
            beaten |= no_worse and (other[cost], other["score"]) != (one[cost], one["score"])
        expected.append(not beaten)
    assert pareto_front(points, cost).tolist() == expected
    assert any(expected)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("within", [-3, 0, 2.5, 20])
def test_the_smallest_is_the_least_of_all_that_pass(seed, within):
    points = drawn(seed)
    passing = [
        (row["size_mb"], row["latency_ms_p50"])
        for row in points.to_dict("records")
        if row["lost"] <= within
    ]
    found = smallest_within(points, within)
    answer = None if found is None else (found["size_mb"], found["latency_ms_p50"])
    assert answer == min(passing, default=None)


def test_points_are_means_over_seeds_of_means_over_tasks():
    table = frontier_table({"teacher": 97.0, "3 layers": 95.0}, (1, 2, 3))
    points = frontier_points(table).set_index(["variant", "engine"])
    assert len(points) == 6
    plain = {}
    for key, part in table.groupby(["variant", "engine"]):
        macros = [statistics.mean(part[part.seed == seed].score) for seed in (1, 2, 3)]
        plain[key] = statistics.mean(macros)
        row = points.loc[key]
        assert row.score == pytest.approx(plain[key])
        assert (row.score_low, row.score_high) == pytest.approx((min(macros), max(macros)))
        assert row.size_mb == pytest.approx(part.size_mb.iloc[0])
        assert row.largest_difference == part.largest_difference.max()
        assert row.same_answer == pytest.approx(part.same_answer.mean())  # without regression
    for key, score in plain.items():
        assert points.loc[key].lost == pytest.approx(plain["teacher", "torch fp32"] - score)


def test_tables_without_teacher_or_scores_are_refused():
    table = frontier_table({"teacher": 97.0, "3 layers": 95.0}, (1,))
    with pytest.raises(ValueError, match="no row of 'teacher'"):
        frontier_points(table[table.variant != "teacher"])
    with pytest.raises(ValueError, match="no rows"):
        frontier_points(table[:0])
    with pytest.raises(ValueError, match="infinite"):
        frontier_points(table.assign(score=float("inf")))


def test_a_model_with_an_undefined_score_is_left_out_and_named():
    table = frontier_table({"teacher": 97.0, "3 layers": 95.0, "1 layer": 50.0}, (1, 2))
    lost = (table.variant == "1 layer") & (table.engine == "onnx int8") & (table.seed == 2)
    table.loc[lost & (table.task == "stsb"), "score"] = float("nan")
    with pytest.warns(UserWarning, match="left out, with an undefined score: 1 layer in onnx int8"):
        points = frontier_points(table)
    assert len(points) == 8
    rest = (table.variant != "1 layer") | (table.engine != "onnx int8")
    pd.testing.assert_frame_equal(points, frontier_points(table[rest]))
    with (
        pytest.warns(UserWarning, match="teacher in torch fp32"),
        pytest.raises(ValueError, match=r"no row of 'teacher'.*with a defined score"),
    ):
        frontier_points(table.assign(score=table.score.where(table.variant != "teacher")))
