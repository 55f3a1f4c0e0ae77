"""Input checks of the figures: tables, vectors, labels."""

import numpy as np
import pandas as pd

from distilkit.plots.text import clean


def check_table(name: str, table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return `table`; ValueError unless it is a DataFrame with rows and these columns."""
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"{name} must be a pandas DataFrame, not {type(table).__name__}")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{name} lacks {missing}; it has {list(table.columns)}")
    if table.empty:
        raise ValueError(f"{name} has no rows: there is nothing to draw")
    return table


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
