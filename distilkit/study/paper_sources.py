"""Where the values for the paper's claims come from: the files of notebooks, study and runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from distilkit.config import GLUE_TASKS, RESULTS, SCALES, Scale, home
from distilkit.run import OldRun, Run
from distilkit.study.arms import (
    LEAST_TEACHER_SCORE,
    POINTS,
    macro_scores,
    paired_difference,
    t_interval,
)
from distilkit.study.study import measured_split
from distilkit.study.verdicts import Measurement

_NAN = float("nan")


def read_table(path: Path, columns: set[str]) -> pd.DataFrame | None:
    """A csv file; None if it is missing, damaged or lacks a column."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError):  # pandas' own errors of parsing are ValueErrors
        return None
    return table if columns <= set(table.columns) and len(table) else None


def arm_scores(scale: Scale, *arms: str, parts: bool = False) -> tuple[pd.DataFrame, str] | None:
    """Scores of the arms, restricted to seeds that have all tasks of all arms, and their source.

    The study is preferred: it has more seeds and, at the tiny scale, test sets. `parts` admits the
    study of the parts, which has more arms and fewer tasks.
    """
    own, places = f"figures/{scale.name}", []
    for name in ("study.csv", "parts.csv") if parts else ("study.csv",):
        places.append((scale.figures / name, f"{own}/{name}"))
        if scale.name == "tiny":
            places.append((RESULTS / name, f"data/results/{name}"))
    places.append((scale.figures / "05_scores.csv", f"{own}/05_scores.csv"))
    for path, name in places:
        table = read_table(path, {"arm", "seed", "task", "score"})
        if table is None or not set(arms) <= set(table["arm"]):
            continue
        table = table[table["arm"].isin(arms)]
        table = table.assign(score=pd.to_numeric(table["score"], errors="coerce"))
        table = table.dropna(subset=["score"]).drop_duplicates(["arm", "seed", "task"])
        tasks = table["task"].nunique()
        complete = table.groupby(["arm", "seed"])["task"].nunique() == tasks
        by_seed = complete.unstack("arm", fill_value=False).reindex(columns=arms, fill_value=False)
        seeds = by_seed.index[by_seed.all(axis=1)]
        if len(seeds):
            sample = f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
            if tasks < len(scale.tasks):
                sample += f", {tasks} of {len(scale.tasks)} tasks"
            split = "validation" if name.endswith("05_scores.csv") else measured_split(scale)
            return table[table["seed"].isin(seeds)], f"{name}, {sample}, {split} sets"
    return None


def macro_difference(scores: pd.DataFrame, where: str, arm: str, control: str) -> Measurement:
    """`arm` minus `control` in macro-score, paired by seeds."""
    result = paired_difference(scores, arm, control)
    means = macro_scores(scores).groupby("arm")["score"].mean()
    where = f"{means[arm]:.1f} − {means[control]:.1f}; {where}"
    return Measurement(result["mean"], where, result["low"], result["high"])


def mean_over_seeds(values: pd.Series, where: str) -> Measurement:
    """The mean over seeds."""
    result = t_interval(values)
    return Measurement(result["mean"], where, result["low"], result["high"])


def retained_share(scores: pd.DataFrame, where: str, without: tuple[str, ...] = ()) -> Measurement:
    """The student's macro-score in percent of the teacher's, by seeds."""
    macros = macro_scores(scores, without=without)
    wide = macros.pivot(index="seed", columns="arm", values="score")
    wide = wide[wide["teacher"] >= LEAST_TEACHER_SCORE]
    return mean_over_seeds(100 * wide["distilled"] / wide["teacher"], where)


def run_result(name: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Configuration and result of a run; None if it is unfinished or damaged."""
    run = Run(home() / "runs" / name)
    try:
        return run.config(), run.result()
    except OldRun:
        raise
    except (OSError, ValueError):
        return None


def paper_setting(scale: Scale) -> dict[str, Any]:
    """Whether teacher and tasks are the paper's, and what differs."""
    base = SCALES["base"]
    differs = {
        "teacher": scale.teacher != base.teacher,
        "text": True,  # no scale has the paper's
        "tasks": (scale.glue, set(scale.tasks)) != (base.glue, {*GLUE_TASKS}),
    }
    if not differs["teacher"] and not differs["tasks"]:
        return {"same": True, "difference": "distilled on another text than the paper's"}
    names = [name for name, other in differs.items() if other]
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return {"same": False, "difference": f"another {listed}"}


def downstream_scores(scale: Scale) -> pd.DataFrame:
    """IMDb's and SQuAD's scores of finished runs: ``arm, seed, task, score`` (points)."""
    pattern = re.compile(
        rf"{re.escape(scale.name)}-(teacher|distilled|distilled_again)-(imdb|squad)-(\d+)"
    )
    rows = []
    for path in sorted((home() / "runs").glob(f"{scale.name}-*/result.json")):
        match = pattern.fullmatch(path.parent.name)
        run = match and run_result(path.parent.name)
        if not run or not run[1].get("scores"):
            continue
        arm, task, seed = match.groups()
        for metric, value in list(run[1]["scores"].values())[-1].items():
            score = _NAN if value is None else POINTS * value
            rows.append({"arm": arm, "seed": int(seed), "task": f"{task} {metric}", "score": score})
    return pd.DataFrame(rows, columns=["arm", "seed", "task", "score"]).dropna()


def time_ratio(table: pd.DataFrame | None, slow: str, fast: str, column: str) -> float | None:
    """The time of `slow` over that of `fast`; None if either is missing."""
    if table is None:
        return None
    times = table.drop_duplicates("model").set_index("model")[column]
    return float(times[slow] / times[fast]) if {slow, fast} <= set(times.index) else None
