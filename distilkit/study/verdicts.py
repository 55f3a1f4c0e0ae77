"""The verdict on a published number: the rule, a row of the table, the table as text."""

import math
from typing import Any, NamedTuple

import pandas as pd

REPRODUCED, PARTLY, NOT_HERE, NOT_RUN = "reproduced", "partly", "not at this scale", "not run"
VERDICTS = (REPRODUCED, PARTLY, NOT_HERE, NOT_RUN)
COUNTS_WITHIN, SCORES_WITHIN = 0.05, 0.01  # relative; counts, sizes and times; scores and shares


class Measurement(NamedTuple):
    """The kit's value for a published number."""

    value: float
    where: str  # file, and under which conditions
    low: float = math.nan  # 95 % interval over seeds, or the value twice where it is a count
    high: float = math.nan


def judge(
    published: float,
    measurement: Measurement | None,
    *,
    same: bool,
    null: float | None = None,
    within: float = COUNTS_WITHIN,
) -> tuple[str, str]:
    """Judge a published number; return the verdict and the reason. The first rule that holds:

    1. *not run*: the kit has no value.
    2. *reproduced*: the same quantity at the same dimensions, teacher and tasks, and
       - at most `within` (relative) from the published number; or
       - that number lies in the kit's 95 % interval, which does not contain `null`.
    3. *partly*: on the same side of `null` as the published one, with the whole 95 % interval. At
       the same dimensions a single measurement is enough.
    4. *not at this scale*: everything else.

    `null` is the value that would mean "no effect"; None: the number is not an effect.
    """
    if measurement is None or math.isnan(measurement.value):
        return NOT_RUN, ""
    value, low, high = measurement.value, measurement.low, measurement.high
    if same and value == published:
        return REPRODUCED, "equal"
    if same and abs(value - published) <= within * abs(published):
        return REPRODUCED, f"within {100 * within:g} %"
    if null is None:
        return NOT_HERE, f"more than {100 * within:g} % off" if same else "cannot be compared"
    side = math.copysign(1, published - null)
    has_interval = not (math.isnan(low) or math.isnan(high))
    ends = (low, high) if has_interval else (value,)
    if all(side * (end - null) > 0 for end in ends):
        if same and low <= published <= high:
            return REPRODUCED, f"the published number is in the interval, clear of {null:.3g}"
        if same:
            return PARTLY, "the same direction, another size"
        if has_interval:
            return PARTLY, f"the same direction, clear of {null:.3g}"
        return NOT_HERE, "one seed or one measurement has no interval"
    if has_interval and low <= null <= high:
        return NOT_HERE, f"the interval contains {null:.3g}"
    return NOT_HERE, "not the same direction"


def verdict_row(
    source: str,
    what: str,
    unit: str,
    published: float,
    measurement: Measurement | None,
    *,
    difference: str = "",
    command: str = "",
    **rule: Any,
) -> dict[str, Any]:
    """Make a row of the table of :func:`distilkit.study.paper_comparison.compare_with_paper`.

    `difference` says what is not as in the paper, `command` how to get a value; the rest of `rule`
    is for :func:`judge`.
    """
    verdict, why = judge(published, measurement, **rule)
    if verdict == NOT_RUN:
        why, measurement = command, Measurement(math.nan, "")
    elif difference and measurement.value != published:
        why = f"{why}; {difference}"
    row = {"source": source, "what": what, "unit": unit, "published": published}
    row |= {"measured": measurement.value, "low": measurement.low, "high": measurement.high}
    return row | {"verdict": verdict, "why": why, "where": measurement.where}


def tally(table: pd.DataFrame) -> str:
    """Count the rows of each verdict, as a sentence."""
    counts = table["verdict"].value_counts()
    words = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
    return f"{len(table)} claims: {words}"


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Format the table for print: numbers with their units, the kit's with their intervals.

    Columns: ``source, what, published, measured, verdict, why, where``.
    """
    shown = table[["source", "what"]].copy()
    rows = list(table.itertuples())
    shown["published"] = [_with_unit(f"{round(row.published, 2):,g}", row.unit) for row in rows]
    shown["measured"] = [_with_unit(_measured(row), row.unit) for row in rows]
    return shown.join(table[["verdict", "why", "where"]])


def _with_unit(number: str, unit: str) -> str:
    number = number.replace("-", "−")
    return f"{number} {unit}" if number and unit else number


def _measured(row: Any) -> str:
    number_format = ".1f" if row.unit in ("points", "%") else ",.4g"
    value, low, high = (f"{number:{number_format}}" for number in (row.measured, row.low, row.high))
    if math.isnan(row.measured):
        return ""
    if math.isnan(row.low) or math.isnan(row.high) or row.low == row.high:
        return value
    return f"{value} ({low} to {high})"
