"""Size and speed against accuracy: one row a model, the Pareto front, the smallest model."""

import warnings

import numpy as np
import pandas as pd

TEACHER = ("teacher", "torch fp32")  # baseline (variant, engine) for lost points
_COSTS = ["size_mb", "latency_ms_p50", "latency_ms_p95", "memory_mib", "parameters"]


def frontier_points(table: pd.DataFrame) -> pd.DataFrame:
    """Make one row for each variant and engine: its mean macro-score over seeds, and its costs.

    The table is that of :func:`distilkit.compress.frontier.run_frontier`.

    Returns:
        ``variant, engine``; the mean ``score`` in points and its range over seeds, ``score_low,
        score_high``. ``lost``: the teacher's score in PyTorch minus this one. Costs and
        ``same_answer`` are means, ``largest_difference`` the maximum. A model with an undefined
        score (NaN: the correlation of constant answers) is left out, with a warning.
    """
    keys = ["variant", "engine"]
    if not len(table) or np.isinf(table["score"]).any():
        raise ValueError("the table has no rows, or scores that are infinite")
    undefined = table.loc[table["score"].isna(), keys].drop_duplicates()
    if len(undefined):
        names = "; ".join(f"{variant} in {engine}" for variant, engine in undefined.to_numpy())
        warnings.warn(f"left out, with an undefined score: {names}", stacklevel=2)
        table = table.merge(undefined, how="left", on=keys, indicator="is")
        table = table[table.pop("is") == "left_only"]
    macro = table.groupby([*keys, "seed"], sort=False)["score"].mean().groupby(keys, sort=False)
    groups = table.groupby(keys, sort=False)
    points = groups[[*_COSTS, "same_answer"]].mean()
    points["largest_difference"] = groups["largest_difference"].max()
    points["score"] = macro.mean()
    points["score_low"], points["score_high"] = macro.min(), macro.max()
    if TEACHER not in points.index:
        raise ValueError(f"no row of {TEACHER[0]!r} in {TEACHER[1]!r} with a defined score")
    points["lost"] = points.loc[TEACHER, "score"] - points["score"]
    return points.reset_index()


def pareto_front(points: pd.DataFrame, cost: str) -> np.ndarray:
    """Mark the models that no other model beats in `cost` and score at once.

    Ties are both on the front.
    """
    costs, scores = points[cost].to_numpy(float), points["score"].to_numpy(float)
    as_good = (costs[None] <= costs[:, None]) & (scores[None] >= scores[:, None])
    better = (costs[None] < costs[:, None]) | (scores[None] > scores[:, None])
    return ~(as_good & better).any(axis=1)


def smallest_within(points: pd.DataFrame, within: float) -> pd.Series | None:
    """Find the smallest model that loses at most `within` points to the teacher in PyTorch.

    Among equally small ones the fastest; None if every model loses more.
    """
    passing = points[points["lost"] <= within]
    if passing.empty:
        return None
    return passing.sort_values(["size_mb", "latency_ms_p50"], kind="stable").iloc[0]
