"""Input checks of the figures: tables, vectors, labels."""

import numpy as np
import pandas as pd

from distilkit.plots.text import clean


def check_table(
    name: str, table: pd.DataFrame, columns: list[str], unique: list[str] | None = None
) -> pd.DataFrame:
    """Return `table`.

    Raises:
        ValueError: unless it is a DataFrame with rows and these columns, and no two rows agree in
            the columns `unique`.
    """
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"{name} must be a pandas DataFrame, not {type(table).__name__}")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{name} lacks {missing}; it has {list(table.columns)}")
    if table.empty:
        raise ValueError(f"{name} has no rows")
    if unique and (doubled := table.duplicated(unique)).any():
        raise ValueError(f"{name} has a row twice: {table[doubled].iloc[0][unique].to_dict()}")
    return table


def check_range(
    name: str, table: pd.DataFrame, value: str, low: str, high: str
) -> tuple[pd.Series, pd.Series]:
    """Return the columns `low` and `high`, with `value` where they are NaN.

    Raises:
        ValueError: for an infinite number, or a `value` outside its range. NaN is allowed.
    """
    if np.isinf(table[[value, low, high]].to_numpy(dtype=float)).any():
        raise ValueError(f"{name}[{value!r}] or its range is infinite; give NaN where undefined")
    values = table[value].astype(float)
    lows, highs = (table[end].astype(float).fillna(values) for end in (low, high))
    if ((values < lows) | (values > highs)).any():
        raise ValueError(f"{name}[{value!r}] must lie between {low!r} and {high!r}")
    return lows, highs


def check_vector(name: str, values, at_least: int = 1) -> np.ndarray:
    """Return `values` as float64 [n]; ValueError unless they are finite and at least so many."""
    vector = np.asarray(values, dtype=float)
    if vector.ndim != 1 or len(vector) < at_least:
        raise ValueError(f"{name} has shape {vector.shape}; give at least {at_least} in one row")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} has {(~np.isfinite(vector)).sum()} values that are not finite")
    return vector


def check_labels(name: str, values, length: int) -> list[str]:
    """Return `values` as clean texts; ValueError unless there are `length` of them."""
    values = [clean(value) for value in values]
    if len(values) != length:
        raise ValueError(f"{len(values)} {name} for {length} values: give one each")
    return values
