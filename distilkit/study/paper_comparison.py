"""Numbers of Sanh et al. 2019 that the kit can measure, with its value and a verdict for each.

Sizes are counted. Scores and times are read from the files of notebooks and studies. A row without
a value names the command that makes it.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from distilkit.config import GLUE_TASKS, RESULTS, SCALES, Scale
from distilkit.measure.latency import random_pair
from distilkit.measure.size import BYTES_PER_MB, parameter_count
from distilkit.student import default_layers
from distilkit.study import paper
from distilkit.study.arms import LEAST_TEACHER_SCORE, macro_scores, paired_difference, t_interval
from distilkit.study.conditions import ABLATION
from distilkit.study.study import measured_split
from distilkit.study.verdicts import SCORES_WITHIN, Measurement, verdict_row

Row = dict[str, Any]


def compare_with_paper(scale: Scale) -> pd.DataFrame:
    """Compare the paper's sizes and its tables 1, 3 and 4 with the kit's values.

    Columns: ``source, what, unit, published, measured, low, high, verdict, why, where``. ``low``
    and ``high`` bound the 95 % interval, ``where`` names the source of the kit's value. Scores are
    in points, means over seeds (the paper's are medians). A source that is missing or damaged
    gives a row "not run".
    """
    return pd.DataFrame([*_sizes(), *_table_1(scale), *_table_3(scale), *_table_4(scale)])


def compare_ablation(scores: pd.DataFrame) -> pd.DataFrame:
    """Table 4 of the paper and the kit's: the effect of leaving a part out, in points.

    Columns ``what, published, measured, low, high, seeds``. Measured is the arm's macro-score minus
    the distilled student's, paired by seed, with its 95 % t-interval; NaN where the arm is missing.
    """
    there = set(scores.arm)
    rows = []
    for part, published in paper.ablation().itertuples(index=False):
        pair, found = (ABLATION[part], "distilled"), {}
        if there.issuperset(pair):
            found = paired_difference(scores, *pair)
        rows.append({"what": f"without the {part}", "published": published, **found})
    columns = ["what", "published", "mean", "low", "high", "seeds"]
    table = pd.DataFrame(rows).reindex(columns=columns).rename(columns={"mean": "measured"})
    return table.astype({"measured": float, "low": float, "high": float})


# ---- the tables


def _sizes() -> list[Row]:
    """Compare layers, parameters and file size of BERT-base and its student, without a head."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        bert, student = (parameter_count(model.base_model) for model in random_pair().values())
    published = paper.speed()["parameters"] / 1e6
    bert_mb, student_mb = 4 * bert / BYTES_PER_MB, 4 * student / BYTES_PER_MB  # float32
    fewer = 100 * (1 - student / bert), paper.FEWER_PARAMETERS_PERCENT
    rows = (
        ("Section 3", "layers of BERT's 12", "", 6, len(default_layers(12)), None),
        ("Table 3", "BERT-base: parameters", "M", published["BERT-base"], bert / 1e6, None),
        ("Table 3", "DistilBERT: parameters", "M", published["DistilBERT"], student / 1e6, None),
        ("Abstract; section 4.1", "parameters fewer than BERT-base's", "%", *fewer[::-1], None),
        ("Section 4.1", "size of the model", "MB", paper.MODEL_SIZE_MB, student_mb, bert_mb),
    )
    where = "counted: BertConfig() and its student, 4 bytes a parameter"
    return [
        verdict_row(*row, Measurement(value, where, value, value), same=True, null=null)
        for *row, value, null in rows
    ]


def _table_1(scale: Scale) -> list[Row]:
    published = paper.glue_scores()
    scores, where = arm_scores(scale, "distilled", "teacher") or (None, "")
    measured = set() if scores is None else set(scores["task"])
    rule = _setting(scale) | {"within": SCORES_WITHIN, "command": _first("figures", scale)}
    rows = []
    for name, arm in (("BERT-base", "teacher"), ("DistilBERT", "distilled")):
        macro = None
        if measured:
            macros = macro_scores(scores).set_index("arm").loc[[arm], "score"]
            macro = _measurement(t_interval(macros), f"{arm}: {where}")
        what, stated = f"{name}: macro-score of nine tasks", published.loc[name, "macro_stated"]
        rows.append(verdict_row("Table 1", what, "points", stated, macro, **rule))
    share = paper.retained().set_index("task")["retained"]["macro without WNLI"]
    nine = "share of BERT's macro-score that is kept, nine tasks"
    for what, stated, without in (
        (nine, paper.RETAINED_PERCENT, ()),
        ("the same without WNLI", share, ("wnli",)),
    ):
        value = retained_share(scores, where, without) if measured - set(without) else None
        rows.append(verdict_row("Table 1", what, "%", stated, value, **rule, null=100))
    for name in paper.GLUE_TASKS:
        task, value, advice = name.lower().replace("-", ""), None, {}
        if task in measured:
            of_task = scores[scores["task"] == task]
            value = _measurement(paired_difference(of_task, "distilled", "teacher"), where)
        elif measured:
            advice = {"command": f"the scale {scale.name} leaves this task out"}
        student, bert = published.loc[["DistilBERT", "BERT-base"], name]
        what, delta = f"{name}: student minus teacher", round(student - bert, 2)
        task_rule = rule | advice | {"null": 0}
        rows.append(verdict_row("Table 1", what, "points", delta, value, **task_rule))
    return rows


def _table_3(scale: Scale) -> list[Row]:
    path, pair = scale.figures / "06_bert_base.csv", ["BERT-base", "DistilBERT"]
    table, value = _read_table(path, {"model", "latency_ms_p50"}), None
    if table is not None and set(pair) <= set(table["model"]):
        slow, fast = table.drop_duplicates("model").set_index("model")["latency_ms_p50"][pair]
        value = Measurement(slow / fast, f"{path.parent.name}/{path.name}")
    what = "“60 % faster”: BERT-base's time over DistilBERT's, CPU, batch 1"
    published = paper.speed().loc["DistilBERT", "throughput_ratio"]
    rule = {"same": True, "null": 1, "command": _first("figures", scale)}
    rule["difference"] = "another processor, and one length in place of STS-B's sentences"
    return [verdict_row("Abstract; table 3", what, "×", published, value, **rule)]


def _table_4(scale: Scale) -> list[Row]:
    scored = arm_scores(scale, *ABLATION.values(), "distilled", parts=True)
    rule = _setting(scale) | {"null": 0, "command": _first("study", scale)}
    scores, where = scored or (pd.DataFrame(columns=["arm"]), "")
    if scored and (tasks := scores["task"].nunique()) < len(scale.tasks):
        few = f"{tasks} of {len(scale.tasks)} tasks"
        rule |= {"same": False, "difference": f"{rule['difference']}; {few}"}
    rows = []
    for row in compare_ablation(scores).itertuples():
        value = Measurement(row.measured, where, row.low, row.high) if scored else None
        rows.append(verdict_row("Table 4", row.what, "points", row.published, value, **rule))
    return rows


# ---- where the kit's values come from

# The verbs that write such a table
COMMANDS = {
    "study": "study --scale {scale}",
    "parts": "study --scale {scale} --tasks cola sst2 stsb",
    "frontier": "frontier --scale {scale}",
}


def load_reference_table(
    scale: Scale, name: str, arms: Collection[str] = ()
) -> tuple[pd.DataFrame, Scale, str]:
    """Load a study's or a frontier's table, with its scale and a sentence about its origin.

    It is ``figures/<scale>/<name>.csv``; where that is missing, or lacks one of `arms`,
    ``data/results/<name>.csv`` with the tiny scale. `name` is "study" (nine tasks), "parts" (three
    tasks, more arms) or "frontier".
    """
    own, lacking = scale.figures / f"{name}.csv", ""
    if own.is_file():
        table, where = pd.read_csv(own), f"figures/{scale.name}/{own.name}"
        missing = sorted(set(arms) - set(table["arm"])) if arms else []
        if not missing:
            return table, scale, f"{where}: a table of your own"
        lacking = f"; {where} lacks the arms {', '.join(missing)}"
    path, tiny = RESULTS / f"{name}.csv", SCALES["tiny"]
    description = (
        f"data/results/{path.name}: measured beforehand, at the tiny scale, not in this notebook"
    )
    if scale.name != tiny.name:
        command = f"python -m distilkit {COMMANDS[name].format(scale=scale.name)}"
        description += f" (and not at the scale {scale.name}: {command} would do that)"
    return pd.read_csv(path), tiny, description + lacking


def arm_scores(scale: Scale, *arms: str, parts: bool = False) -> tuple[pd.DataFrame, str] | None:
    """Scores of the arms, restricted to seeds that have all tasks of all arms, and their source.

    The study is preferred: it has more seeds and, at the tiny scale, test sets. `parts` admits the
    study of the parts, which has more arms and fewer tasks.
    """
    shipped = [RESULTS] if scale.name == "tiny" else []
    names = ("study.csv", "parts.csv") if parts else ("study.csv",)
    places = [folder / name for name in names for folder in (scale.figures, *shipped)]
    for path in (*places, scale.figures / "05_scores.csv"):
        table = _read_table(path, {"arm", "seed", "task", "score"})
        if table is None or not set(arms) <= set(table["arm"]):
            continue
        table = table[table["arm"].isin(arms)]
        table = table.assign(score=pd.to_numeric(table["score"], errors="coerce"))
        table = table.dropna(subset=["score"]).drop_duplicates(["arm", "seed", "task"])
        tasks = table["task"].nunique()
        complete = table.groupby("seed").size() == len(arms) * tasks
        if seeds := list(complete.index[complete]):
            sample = f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
            sample += f", {tasks} of {len(scale.tasks)} tasks" if tasks < len(scale.tasks) else ""
            split = "validation" if path.name == "05_scores.csv" else measured_split(scale)
            where = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
            return table[table["seed"].isin(seeds)], f"{where}, {sample}, {split} sets"
    return None


def _read_table(path: Path, columns: set[str]) -> pd.DataFrame | None:
    """Read a csv file; None if it is missing, damaged or lacks a column."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError):  # pandas' own errors of parsing are ValueErrors
        return None
    return table if columns <= set(table.columns) and len(table) else None


def _measurement(interval: dict[str, float], where: str) -> Measurement:
    return Measurement(interval["mean"], where, interval["low"], interval["high"])


def retained_share(scores: pd.DataFrame, where: str, without: tuple[str, ...]) -> Measurement:
    """Measure the student's macro-score in percent of the teacher's, by seeds."""
    macros = macro_scores(scores, without=without)
    wide = macros.pivot(index="seed", columns="arm", values="score")
    wide = wide[wide["teacher"] >= LEAST_TEACHER_SCORE]
    return _measurement(t_interval(100 * wide["distilled"] / wide["teacher"]), where)


def _setting(scale: Scale) -> dict[str, Any]:
    """Tell whether teacher and tasks are the paper's, and what differs. No scale has its text."""
    base = SCALES["base"]
    tasks = (scale.glue, set(scale.tasks)) == (base.glue, {*GLUE_TASKS})
    others = ["another teacher"] * (scale.teacher != base.teacher)
    others += ["another text"] + ["other tasks"] * (not tasks)
    return {"same": len(others) == 1, "difference": ", ".join(others)}


def _first(verb: str, scale: Scale) -> str:
    option = "" if scale.name == "tiny" else f" --scale {scale.name}"
    return f"first: python -m distilkit {verb}{option}"
