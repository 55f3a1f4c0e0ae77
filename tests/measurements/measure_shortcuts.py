"""Measure what shortcuts reach on the tiny scale's tasks: the table of the teacher's card.

    python tests/measurements/measure_shortcuts.py [--glue FOLDER]

Logistic regression (STS-B: ridge) on what a shortcut sees, trained on the training set and scored
on the validation set, by the task's own metric, times 100.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
from datasets import DatasetDict
from scipy.sparse import hstack
from scipy.stats import pearsonr
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from sklearn.preprocessing import StandardScaler

from distilkit.config import GLUE_TASKS, scale
from distilkit.data.task_files import load
from distilkit.data.tasks import get_task

METRICS = {
    "accuracy": accuracy_score,
    "f1": f1_score,
    "matthews": matthews_corrcoef,
    "pearson": lambda labels, answers: pearsonr(labels, answers)[0],
}
Features = tuple[object, object]  # of the training and of the validation set


def bags(train: pd.DataFrame, valid: pd.DataFrame, columns: tuple[str, ...], n: int) -> Features:
    """Which words (up to n in a row) stand in each column."""
    parts = []
    for column in columns:
        counted = CountVectorizer(token_pattern=r"[A-Za-z']+", ngram_range=(1, n), binary=True)
        parts.append((counted.fit_transform(train[column]), counted.transform(valid[column])))
    return hstack([x for x, _ in parts]).tocsr(), hstack([y for _, y in parts]).tocsr()


def lengths(table: pd.DataFrame, columns: tuple[str, ...]) -> np.ndarray:
    """Words and characters of each column."""
    words = [table[column].str.split().str.len() for column in columns]
    return np.stack([*words, *(table[column].str.len() for column in columns)], 1).astype(float)


def overlap(table: pd.DataFrame, columns: tuple[str, ...]) -> np.ndarray:
    """Lengths, and how many words two columns share and do not share."""
    first, second = (table[column].str.lower().str.findall(r"[a-z']+") for column in columns)
    shared = []
    for one, other in zip(map(set, first), map(set, second), strict=True):
        both = len(one & other)
        shared.append([both, both / len(one | other), len(one - other), len(other - one)])
    return np.hstack([lengths(table, columns), shared])


def scaled(
    of: Callable, train: pd.DataFrame, valid: pd.DataFrame, columns: tuple[str, ...]
) -> Features:
    """Both sets by the training set's mean and deviation."""
    scaler = StandardScaler().fit(of(train, columns))
    return scaler.transform(of(train, columns)), scaler.transform(of(valid, columns))


def scores(task: str, data: DatasetDict) -> dict[str, float]:
    """Shortcut -> its score in points."""
    columns = get_task(task).columns
    train = data["train"].to_pandas()
    valid = data[get_task(task).validation[0]].to_pandas()
    shortcuts = {
        "words": bags(train, valid, columns, 1),
        "words and bigrams": bags(train, valid, columns, 2),
        "lengths": scaled(lengths, train, valid, columns),
    }
    shortcuts["lengths and overlap"] = shortcuts["lengths"]  # a single sentence has no overlap
    if len(columns) == 2:
        shortcuts["first sentence"] = bags(train, valid, columns[:1], 1)
        shortcuts["second sentence"] = bags(train, valid, columns[1:], 1)
        shortcuts["lengths and overlap"] = scaled(overlap, train, valid, columns)
    found = {}
    for name, (x, y) in shortcuts.items():
        model = Ridge() if task == "stsb" else LogisticRegression(C=0.3, max_iter=1000)
        answers = model.fit(x, train["label"]).predict(y)
        found[name] = 100 * METRICS[get_task(task).score](valid["label"], answers)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--glue", default=scale("tiny").glue, help="folder of the nine tasks")
    folder = parser.parse_args().glue
    table = pd.DataFrame({task: scores(task, load(task, folder)) for task in GLUE_TASKS}).T
    print(table.round(1).to_string(na_rep=""))
