"""The paper and the article, claim by claim, with our value beside each and a verdict.

Sanh et al. 2019 (arXiv 1910.01108): figure 1, tables 1 to 4, sections 3 and 4, the abstract; and
what the article adds. The published numbers come from :mod:`distilkit.study.paper`. Ours are read
from what notebooks, study and runs left behind, or computed on the spot (parameters, file sizes,
the temperature example); where there is none yet, the row names the command that makes it.

The verdict follows from the numbers by one rule, :func:`judge`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from distilkit.config import GLUE_TASKS, RESULTS, SCALES, Scale, home
from distilkit.losses import softmax_with_temperature
from distilkit.measure.inference_benchmark import random_pair
from distilkit.measure.size import BYTES_PER_MB, parameter_count
from distilkit.run import Run
from distilkit.student import DISTILBERT_LAYERS, default_layers
from distilkit.study import paper
from distilkit.study.arms import (
    LEAST_TEACHER_SCORE,
    POINTS,
    macro_scores,
    paired_difference,
    t_interval,
)
from distilkit.study.study import ABLATION, measured_split

if TYPE_CHECKING:
    import pandas as pd

REPRODUCED, PARTLY, NOT_HERE, NOT_RUN = "reproduced", "partly", "not at this scale", "not run"
VERDICTS = (REPRODUCED, PARTLY, NOT_HERE, NOT_RUN)
COUNTS_WITHIN, SCORES_WITHIN = 0.05, 0.01  # relative; counts, sizes and times; scores and shares
EXAMPLE = {"dog": 6.0, "wolf": 4.5, "fox": 3.0, "cat": 2.0, "car": -2.0}  # logits of notebook 01
EXAMPLE_TEMPERATURES = (0.25, 0.5, 1, 2, 5, 10)

_NAN = float("nan")


@dataclass(frozen=True)
class Found:
    """A value of ours."""

    value: float
    where: str  # file or run, and under which conditions
    low: float = _NAN  # 95 % interval over seeds, or the value twice where it is a count
    high: float = _NAN


@dataclass(frozen=True)
class Claim:
    """A number of the sources and what is needed to judge ours beside it."""

    source: str  # figure, table or section
    what: str
    unit: str
    published: float
    found: Found | None
    same: bool = True  # the same quantity at the same dimensions, teacher and tasks
    null: float | None = None  # the value that would mean "no effect"; None: a number by itself
    within: float = COUNTS_WITHIN
    difference: str = ""  # what is not as in the paper
    instead: str = ""  # how to get a value, or why there is none
    slip: str | None = None  # one of paper.SLIPS


def judge(
    published: float,
    found: Found | None,
    *,
    same: bool,
    null: float | None = None,
    within: float = COUNTS_WITHIN,
) -> tuple[str, str]:
    """The verdict on a claim, and in a few words why. The first rule that holds:

    1. *not run*: there is no value of ours.
    2. *reproduced*: the same quantity at the same dimensions, teacher and tasks, and ours is at
       most ``within`` (relative) from the published one; or the published one lies in our 95 %
       interval, which is clear of ``null``.
    3. *partly*: ours is on the same side of ``null`` as the published one, with its whole 95 %
       interval; at the same dimensions a single measurement will do.
    4. *not at this scale*: all else. It was measured, but the number cannot be compared, or one
       seed has no interval, or the interval holds ``null``, or the effect is the other way round.

    Args:
        published: the sources' number.
        found: ours; None or NaN for none.
        same: as in :class:`Claim`, like ``null`` and ``within``.
    """
    if found is None or math.isnan(found.value):
        return NOT_RUN, ""
    if same and found.value == published:
        return REPRODUCED, "equal"
    if same and abs(found.value - published) <= within * abs(published):
        return REPRODUCED, f"within {100 * within:g} %"
    if null is None:
        return NOT_HERE, f"more than {100 * within:g} % off" if same else "cannot be compared"
    side = math.copysign(1, published - null)
    known = not (math.isnan(found.low) or math.isnan(found.high))
    ends = (found.low, found.high) if known else (found.value,)
    if all(side * (end - null) > 0 for end in ends):
        if same and found.low <= published <= found.high:
            return REPRODUCED, f"the published number is in our interval, clear of {null:.3g}"
        if same:
            return PARTLY, "the same direction, another size"
        if known:
            return PARTLY, f"the same direction, clear of {null:.3g}"
        return NOT_HERE, "one seed or one measurement has no interval"
    if known and found.low <= null <= found.high:
        return NOT_HERE, f"the interval holds {null:.3g}"
    return NOT_HERE, "not the same direction"


def beside_the_paper(scale: Scale) -> pd.DataFrame:
    """A row for each claim of the paper and the article.

    A source that is missing or cannot be read gives a row "not run"; nothing is raised for it.

    Args:
        scale: whose runs, figures and tables.

    Returns:
        Columns ``source, what, unit, published, ours, low, high, verdict, why, where``: ``ours``
        with its 95 % interval (NaN where there is none), how the verdict came about and what is
        different, and where our number comes from. Scores are in points; ours are means over
        seeds (the paper's are medians).
    """
    import pandas as pd

    claims = [
        *_figure_1(),
        *_architecture(),
        *_cost(scale),
        *_table_1(scale),
        *_table_2(scale),
        *_table_3(scale),
        *_telephone(),
        *_table_4(scale),
        *_article(scale),
    ]
    return pd.DataFrame([_row(claim) for claim in claims])


def tally(table: pd.DataFrame) -> str:
    """How many rows have which verdict, in words."""
    counts = table["verdict"].value_counts()
    words = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
    return f"{len(table)} claims: {words}"


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The same to be read: ``source, what, published, ours, verdict, why, where``.

    Numbers with their units, ours with its interval where it has one.
    """
    shown = table[["source", "what"]].copy()
    shown["published"] = [
        _with_unit(_plain(value), unit)
        for value, unit in zip(table["published"], table["unit"], strict=True)
    ]
    shown["ours"] = [
        _with_unit(_measured(row.ours, row.low, row.high, row.unit), row.unit)
        for row in table.itertuples()
    ]
    return shown.join(table[["verdict", "why", "where"]])


def _with_unit(number: str, unit: str) -> str:
    return f"{number} {unit}" if number and unit else number


def _plain(value: float) -> str:
    """As it is printed in the sources: 0.31, 66, 3,300."""
    if math.isnan(value):
        return ""
    return f"{value:,.2f}".rstrip("0").rstrip(".").replace("-", "−")


def _measured(value: float, low: float, high: float, unit: str) -> str:
    def text(number: float) -> str:
        rounded = f"{number:.1f}" if unit in ("points", "%") else f"{number:,.4g}"
        return rounded.replace("-", "−")

    if math.isnan(value):
        return ""
    if math.isnan(low) or math.isnan(high) or low == high:
        return text(value)
    return f"{text(value)} ({text(low)} to {text(high)})"


def _row(claim: Claim) -> dict[str, Any]:
    found = claim.found
    rule = {"same": claim.same, "null": claim.null, "within": claim.within}
    verdict, reason = judge(claim.published, found, **rule)
    if verdict == NOT_RUN:
        why, found = claim.instead, Found(_NAN, "")
    else:
        different = claim.difference and found.value != claim.published
        why = f"{reason}; {claim.difference}" if different else reason
    if claim.slip is not None:
        why += f" (slip {paper.SLIPS.index(claim.slip) + 1})"
    return {
        "source": claim.source,
        "what": claim.what,
        "unit": claim.unit,
        "published": claim.published,
        "ours": found.value,
        "low": found.low,
        "high": found.high,
        "verdict": verdict,
        "why": why,
        "where": found.where,
    }


# ---- what can be computed on the spot


@cache
def _encoders() -> dict[str, nn.Module]:
    """BERT-base and its student without a head and, on the meta device, without memory."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return {name: model.base_model for name, model in random_pair().items()}


def _counted() -> dict[str, int]:
    return {name: parameter_count(encoder) for name, encoder in _encoders().items()}


def _exact(value: float, where: str) -> Found:
    return Found(value, where, value, value)


_COUNTED = "counted: BertConfig() and its student, encoders without a task's head"


def _figure_1() -> list[Claim]:
    return [
        Claim(
            "Figure 1",
            "DistilBERT among recent models, parameters",
            "M",
            paper.speed().loc["DistilBERT", "parameters"] / 1e6,
            _exact(_counted()["student"] / 1e6, _COUNTED),
        ),
        Claim(
            "Figure 1",
            "the other models' parameters",
            "M",
            _NAN,
            None,
            instead="the paper prints them in a picture only, and none of those models is built "
            "here",
        ),
    ]


def _architecture() -> list[Claim]:
    layers = default_layers(12)
    left = sum(
        parameter.numel()
        for name, parameter in _encoders()["student"].named_parameters()
        if "token_type" in name or "pooler" in name
    )
    same = len(set(layers) & set(DISTILBERT_LAYERS))
    built = "computed: the student of BertConfig()"
    return [
        Claim("Section 3", "layers of BERT's 12", "", 6, _exact(len(layers), built)),
        Claim(
            "Section 3",
            f"layers copied that the authors' code copies too ({', '.join(map(str, layers))})",
            "",
            len(DISTILBERT_LAYERS),
            _exact(same, built),
        ),
        Claim(
            "Section 3",
            "parameters left in token-type embeddings and pooler",
            "",
            0,
            _exact(left, built),
        ),
    ]


def _telephone() -> list[Claim]:
    sizes = {name: 4 * count / BYTES_PER_MB for name, count in _counted().items()}  # float32
    return [
        Claim(
            "Section 4.1, on device",
            "faster than BERT-base on an iPhone 7 Plus, without tokenization",
            "%",
            paper.PHONE_FASTER_PERCENT,
            None,
            instead="takes that telephone; none here",
        ),
        Claim(
            "Section 4.1, on device",
            "size of the model",
            "MB",
            paper.PHONE_SIZE_MB,
            _exact(
                sizes["student"],
                f"computed: 4 bytes a parameter; BERT-base: {sizes['teacher']:.0f} MB",
            ),
            null=sizes["teacher"],
            difference=f"in 16 bits it would be {sizes['student'] / 2:.0f} MB; the paper does not "
            "say how its file is stored",
        ),
    ]


def _temperatures() -> Found:
    logits = torch.tensor(list(EXAMPLE.values()), dtype=torch.float64)
    spread = []
    for temperature in EXAMPLE_TEMPERATURES:
        p = softmax_with_temperature(logits, temperature)
        spread.append(float(-(p * p.log()).sum()))
    rises = sum(after > before for before, after in pairwise(spread))
    return _exact(rises, f"computed: entropy at T = {', '.join(map(str, EXAMPLE_TEMPERATURES))}")


# ---- what runs, notebooks and study left behind


def _read(path: Path, columns: set[str]) -> pd.DataFrame | None:
    """A csv file; None if it is not there, cannot be read or lacks a column."""
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, ValueError):  # pandas' own errors of parsing are ValueErrors
        return None
    return table if columns <= set(table.columns) and len(table) else None


def _scores(scale: Scale, *arms: str, parts: bool = False) -> tuple[pd.DataFrame, str] | None:
    """The arms' scores with seeds and tasks that all of them have, and which table that is.

    The study comes first: it has more seeds, and at the tiny scale test sets. The study of the
    parts, which has more arms and fewer tasks, only where it is asked for.
    """
    import pandas as pd

    own, measured = f"figures/{scale.name}", f"{measured_split(scale)} sets"
    places = []
    for name in ("study.csv", "parts.csv") if parts else ("study.csv",):
        places.append((scale.figures / name, f"{own}/{name}", measured))
        if scale.name == "tiny":
            places.append((RESULTS / name, f"data/results/{name}", measured))
    places.append((scale.figures / "05_scores.csv", f"{own}/05_scores.csv", "validation sets"))
    for path, name, split in places:
        table = _read(path, {"arm", "seed", "task", "score"})
        if table is None or not set(arms) <= set(table["arm"]):
            continue
        table = table[table["arm"].isin(arms)]
        table = table.assign(score=pd.to_numeric(table["score"], errors="coerce"))
        table = table.dropna(subset=["score"]).drop_duplicates(["arm", "seed", "task"])
        whole = table.groupby(["arm", "seed"])["task"].nunique() == table["task"].nunique()
        by_seed = whole.unstack("arm", fill_value=False).reindex(columns=arms, fill_value=False)
        seeds = by_seed.index[by_seed.all(axis=1)]
        if len(seeds):
            drawn = f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
            if (tasks := table["task"].nunique()) < len(scale.tasks):
                drawn += f", {tasks} of {len(scale.tasks)} tasks"
            return table[table["seed"].isin(seeds)], f"{name}, {drawn}, {split}"
    return None


def _above(scores: pd.DataFrame, where: str, arm: str, control: str) -> Found:
    """`arm` minus `control` in macro-score, paired by seeds."""
    found = paired_difference(scores, arm, control)
    means = macro_scores(scores).groupby("arm")["score"].mean()
    where = f"{means[arm]:.1f} − {means[control]:.1f}; {where}"
    return Found(found["mean"], where, found["low"], found["high"])


def _share(scores: pd.DataFrame, where: str, without: tuple[str, ...] = ()) -> Found:
    """What the distilled student keeps of the teacher's macro-score, percent, by seeds."""
    macros = macro_scores(scores, without=without)
    wide = macros.pivot(index="seed", columns="arm", values="score")
    wide = wide[wide["teacher"] >= LEAST_TEACHER_SCORE]
    found = t_interval(100 * wide["distilled"] / wide["teacher"])
    return Found(found["mean"], where, found["low"], found["high"])


def _result(name: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Configuration and result of a run; None if it is not finished or cannot be read."""
    run = Run(home() / "runs" / name)
    try:
        return run.config(), run.result()
    except (OSError, ValueError):
        return None


def _world(scale: Scale) -> dict[str, Any]:
    """Whether teacher and tasks are the paper's, and in words what is not."""
    base = SCALES["base"]
    same = (scale.teacher, scale.glue, set(scale.tasks)) == (base.teacher, base.glue, {*GLUE_TASKS})
    if same:
        return {"same": True, "difference": "distilled on another text than the paper's"}
    other = [
        name
        for name, mine, theirs in (
            ("teacher", scale.teacher, base.teacher),
            ("text", None, base.text),  # no scale has the paper's
            ("tasks", (scale.glue, set(scale.tasks)), (base.glue, {*GLUE_TASKS})),
        )
        if mine != theirs
    ]
    listed = " and ".join([", ".join(other[:-1]), other[-1]] if len(other) > 1 else other)
    return {"same": False, "difference": f"another {listed}"}


def _option(scale: Scale) -> str:
    return "" if scale.name == "tiny" else f" --scale {scale.name}"


def _notebooks(scale: Scale) -> str:
    return f"first: python -m distilkit figures{_option(scale)}"


def _study(scale: Scale) -> str:
    return f"first: python -m distilkit study{_option(scale)}"


def _cost(scale: Scale) -> list[Claim]:
    name = f"{scale.name}-distilled"
    read = _result(name)
    hours = words = None
    if read:
        config, result = read
        where = f"runs/{name}"
        hours = Found(result.get("seconds", _NAN) / 3600, where)
        blocks = config.get("blocks") or (_NAN, _NAN)
        words = Found(blocks[0] * blocks[1] / 1e6, f"{where}: once through")
    common = {"same": False, "instead": _notebooks(scale)}
    return [
        Claim(
            "Section 3",
            "cost of the distillation: 8 GPUs of 16 GB for about 90 hours",
            "device hours",
            paper.TRAINING_GPUS * paper.TRAINING_HOURS,
            hours,
            difference="another machine and a fraction of the work",
            **common,
        ),
        Claim(
            "Section 3; article",
            "text to distil on: BooksCorpus and English Wikipedia, in words (ours in tokens)",
            "M",
            paper.CORPUS_WORDS / 1e6,
            words,
            difference="another text",
            **common,
        ),
    ]


def _table_1(scale: Scale) -> list[Claim]:
    published = paper.glue_scores()
    kept = paper.retained().set_index("task")["retained"]
    found = _scores(scale, "distilled", "teacher")
    world = _world(scale) | {"within": SCORES_WITHIN, "instead": _notebooks(scale)}
    has = set(found[0]["task"]) if found else set()
    claims = []
    for name, arm in (("BERT-base", "teacher"), ("DistilBERT", "distilled")):
        value = None
        if found:
            scores, where = found
            by_seed = macro_scores(scores).set_index("arm").loc[[arm], "score"]
            over = t_interval(by_seed)
            value = Found(over["mean"], f"{arm}: {where}", over["low"], over["high"])
        claims.append(
            Claim(
                "Table 1",
                f"{name}: macro-score of nine tasks",
                "points",
                published.loc[name, "macro_stated"],
                value,
                slip=paper.GLUE_SLIPS[0] if arm == "teacher" else None,
                **world,
            )
        )
    claims += [
        Claim(
            "Table 1",
            "ELMo: macro-score of nine tasks",
            "points",
            published.loc["ELMo", "macro_stated"],
            None,
            instead="no ELMo is built here",
        ),
        Claim(
            "Abstract; table 1; article",
            "share of BERT's macro-score that is kept, nine tasks",
            "%",
            paper.RETAINED_PERCENT,
            found and _share(*found),
            null=100,
            slip=paper.GLUE_SLIPS[1],
            **world,
        ),
        Claim(
            "Table 1",
            "the same without WNLI",
            "%",
            kept["macro without WNLI"],
            _share(*found, without=("wnli",)) if has - {"wnli"} else None,
            null=100,
            slip=paper.GLUE_SLIPS[1],
            **world,
        ),
    ]
    for name in paper.GLUE_TASKS:
        task = name.lower().replace("-", "")
        value, missing = None, {}
        if task in has:
            scores, where = found
            value = _above(scores[scores["task"] == task], where, "distilled", "teacher")
        elif found:
            missing = {"instead": f"the scale {scale.name} leaves this task out"}
        student, bert = published.loc[["DistilBERT", "BERT-base"], name]
        claims.append(
            Claim(
                "Table 1",
                f"{name}: student minus teacher ({student:.1f} − {bert:.1f})",
                "points",
                round(student - bert, 2),
                value,
                null=0,
                slip=paper.GLUE_SLIPS[0] if name == "MNLI" else None,
                **{**world, **missing},
            )
        )
    return claims


def _downstream(scale: Scale) -> pd.DataFrame:
    """IMDb's and SQuAD's scores of finished runs: ``arm, seed, task, score`` (points)."""
    import pandas as pd

    shape = re.compile(
        rf"{re.escape(scale.name)}-(teacher|distilled|distilled_again)-(imdb|squad)-(\d+)"
    )
    rows = []
    for path in sorted((home() / "runs").glob(f"{scale.name}-*/result.json")):
        named = shape.fullmatch(path.parent.name)
        read = named and _result(path.parent.name)
        if not read or not read[1].get("scores"):
            continue
        arm, task, seed = named.groups()
        for metric, value in list(read[1]["scores"].values())[-1].items():
            score = _NAN if value is None else POINTS * value
            rows.append({"arm": arm, "seed": int(seed), "task": f"{task} {metric}", "score": score})
    return pd.DataFrame(rows, columns=["arm", "seed", "task", "score"]).dropna()


def _table_2(scale: Scale) -> list[Claim]:
    table = paper.downstream_scores()
    ours = _downstream(scale)
    bert, student = "BERT-base", "DistilBERT"
    again = "DistilBERT, distilled again on SQuAD"
    rows = [
        ("imdb accuracy", "IMDb accuracy", student, bert, None),
        ("squad exact_match", "SQuAD exact match", student, bert, paper.TEXT_SLIPS[1]),
        ("squad f1", "SQuAD F1", student, bert, paper.TEXT_SLIPS[1]),
        ("squad exact_match", "SQuAD exact match", again, student, paper.TEXT_SLIPS[0]),
        ("squad f1", "SQuAD F1", again, student, paper.TEXT_SLIPS[0]),
    ]
    arms = {bert: "teacher", student: "distilled", again: "distilled_again"}
    claims = []
    for task, name, model, control, slip in rows:
        theirs, beside = (table.loc[each, task.replace(" ", "_")] for each in (model, control))
        arm, other = arms[model], arms[control]
        mine = ours[(ours["task"] == task) & ours["arm"].isin([arm, other])]
        wide = mine.pivot_table(index="seed", columns="arm", values="score")
        pairs = wide.dropna() if {arm, other} <= set(wide) else wide.iloc[:0]
        value = None
        if len(pairs):
            mine = mine[mine["seed"].isin(pairs.index)]
            dataset = task.split()[0]
            where = f"runs/{scale.name}-*-{dataset}-*, {len(pairs)} seed(s)"
            value = _above(mine, where, arm, other)
        what = "distilled again minus once" if model == again else "student minus teacher"
        claims.append(
            Claim(
                "Table 2",
                f"{name}: {what} ({theirs:g} − {beside:g})",
                "points",
                round(theirs - beside, 2),
                value,
                null=0,
                slip=slip,
                instead=_finetune(scale, task.split()[0], arm, other),
                **_world(scale),
            )
        )
    squad = table["squad_f1"]
    found = _scores(scale, "distilled_twice", "distilled", parts=True)
    claims.append(
        Claim(
            "Section 4.1; article",
            "distilled again at fine-tuning minus once, on this scale's tasks (theirs: SQuAD F1)",
            "points",
            round(squad[again] - squad[student], 2),
            found and _above(*found, "distilled_twice", "distilled"),
            same=False,
            null=0,
            difference="other tasks",
            instead=_study(scale),
        )
    )
    return claims


def _finetune(scale: Scale, task: str, *arms: str) -> str:
    teacher = f" --teacher runs/{scale.name}-teacher-{task}-1/model"
    extra = teacher if "distilled_again" in arms else ""
    return (
        f"first: python -m distilkit finetune CHECKPOINT --task {task} --seed 1{extra} "
        f"--name {scale.name}-ARM-{task}-1{_option(scale)}, ARM being {arms[1]} and {arms[0]}"
    )


def _table_3(scale: Scale) -> list[Claim]:
    published = paper.speed()
    counted = _counted()
    bert, student = (published.loc[name] for name in ("BERT-base", "DistilBERT"))
    fewer = counted["teacher"] - counted["student"]
    here = f"figures/{scale.name}"
    big = _read(scale.figures / "06_bert_base.csv", {"model", "latency_ms_p50", "length"})
    ratio = _ratio(big, "BERT-base", "DistilBERT", "latency_ms_p50")
    one_pass = _read(scale.figures / "06_pass.csv", {"model", "seconds"})
    of_pass = _ratio(one_pass, "teacher", "distilled", "seconds")
    speed = {
        "unit": "×",
        "published": student["throughput_ratio"],
        "null": 1,
        "slip": paper.SPEED_SLIPS[0],
        "instead": _notebooks(scale),
    }
    return [
        Claim(
            "Table 3",
            "ELMo: parameters (and 895 s for the pass)",
            "M",
            published.loc["ELMo", "parameters"] / 1e6,
            None,
            instead="no ELMo is built here",
        ),
        Claim(
            "Table 3",
            "BERT-base: parameters",
            "M",
            bert["parameters"] / 1e6,
            _exact(counted["teacher"] / 1e6, _COUNTED),
        ),
        Claim(
            "Table 3",
            "DistilBERT: parameters",
            "M",
            student["parameters"] / 1e6,
            _exact(counted["student"] / 1e6, _COUNTED),
        ),
        Claim(
            "Article",
            "parameters fewer than BERT-base's",
            "M",
            paper.FEWER_PARAMETERS / 1e6,
            _exact(fewer / 1e6, _COUNTED),
        ),
        Claim(
            "Abstract; section 4.1; article",
            "parameters fewer than BERT-base's, share",
            "%",
            paper.FEWER_PARAMETERS_PERCENT,
            _exact(100 * fewer / counted["teacher"], _COUNTED),
        ),
        Claim(
            "Abstract; table 3; article",
            "“60 % faster”: BERT-base's time over DistilBERT's, CPU, batch 1 (668 s / 410 s)",
            found=ratio
            and Found(
                ratio,
                f"{here}/06_bert_base.csv: classifiers with random weights, "
                f"{big['length'].iloc[0]} tokens, p50",
            ),
            difference="another processor, and one length in place of STS-B's sentences",
            **speed,
        ),
        Claim(
            "Table 3",
            "the same for this scale's own pair of models: a pass over pairs of sentences",
            found=of_pass and Found(of_pass, f"{here}/06_pass.csv: one pass, pairs in turns"),
            **{**speed, **_world(scale)},
        ),
    ]


def _ratio(table: pd.DataFrame | None, slow: str, fast: str, column: str) -> float | None:
    """How many times longer the one takes than the other; None if either is not there."""
    if table is None:
        return None
    times = table.drop_duplicates("model").set_index("model")[column]
    return float(times[slow] / times[fast]) if {slow, fast} <= set(times.index) else None


def _table_4(scale: Scale) -> list[Claim]:
    published = paper.ablation().set_index("left_out")["delta"]
    # one table for all rows, if there is one that has them all: they are to be compared
    together = _scores(scale, *ABLATION.values(), "distilled", parts=True)

    def claim(source: str, what: str, theirs: float, arm: str, control: str) -> Claim:
        found = together or _scores(scale, arm, control, parts=True)
        world = _world(scale)
        if found and (tasks := found[0]["task"].nunique()) < len(scale.tasks):
            few = f"{tasks} of {len(scale.tasks)} tasks"
            world = {
                "same": False,
                "difference": few if world["same"] else f"{world['difference']}; {few}",
            }
        ours = found and _above(*found, arm, control)
        return Claim(source, what, "points", theirs, ours, null=0, instead=_study(scale), **world)

    mlm, cosine = ABLATION["MLM loss"], ABLATION["cosine loss"]
    return [
        *(
            claim(
                "Table 4",
                f"without the {part}: macro-score minus the full recipe's",
                published[part],
                arm,
                "distilled",
            )
            for part, arm in ABLATION.items()
        ),
        claim(
            "Section 4.2; article",
            "“MLM matters least”: macro-score without MLM minus that without cosine",
            round(published["MLM loss"] - published["cosine loss"], 2),
            mlm,
            cosine,
        ),
    ]


def _article(scale: Scale) -> list[Claim]:
    name = f"{scale.name}-distilled"
    read = _result(name)
    loss_config = read[0].get("loss_config", {}) if read else {}
    words = {
        "kd_weight": "triple loss: weight of the soft targets (times T²)",
        "mlm_weight": "triple loss: weight of the masked words",
        "cosine_weight": "triple loss: weight of the cosine",
        "temperature": "triple loss: temperature T, the same for both",
    }
    return [
        Claim(
            "Article",
            "softmax(z / T) of five classes: T flattens it, at so many of five steps up",
            "",
            len(EXAMPLE_TEMPERATURES) - 1,
            _temperatures(),
        ),
        *(
            Claim(
                "Article; authors' code",
                words[key],
                "",
                published,
                Found(loss_config[key], f"runs/{name}/config.json") if key in loss_config else None,
                null=0,
                difference=f"chosen for this scale's text (config.py, scale {scale.name})",
                instead=_notebooks(scale),
            )
            for key, published in paper.TRIPLE_LOSS.items()
        ),
        Claim(
            "Article; section 4.1",
            "smaller still by quantization and pruning",
            "",
            _NAN,
            None,
            instead="the sources give no number",
        ),
    ]
