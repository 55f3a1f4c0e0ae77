"""Metrics of GLUE and SQuAD v1.1 that need no network and run no downloaded code.

The metric that `evaluate` loads by name is a script of the Hub. These are the same arithmetic:
SQuAD's with the normalization of the official script (arXiv 1606.05250, section 6.1).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from functools import partial

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


class GlueMetric(evaluate.Metric):
    """The metrics of one task; an undefined value is None, never 0.

    Matthews' correlation is undefined when predictions or labels are all of one class, Pearson's
    and Spearman's when either is constant or there are fewer than two; F1 when neither has a
    positive.
    """

    def __init__(self, task: str, names: tuple[str, ...], *, regression: bool) -> None:
        self.task, self.names, self.regression = task, names, regression
        super().__init__(config_name=task, keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        kind = datasets.Value("float64" if self.regression else "int64")
        return evaluate.MetricInfo(
            description=f"GLUE {self.task}: {', '.join(self.names)}",
            citation="Wang et al. 2019, arXiv 1804.07461",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, predictions, references) -> dict[str, float | None]:
        x, y = np.asarray(predictions), np.asarray(references)
        return {name: _METRICS[name](x, y) for name in self.names}


def _accuracy(x: np.ndarray, y: np.ndarray) -> float | None:
    return float(accuracy_score(y, x))


def _f1(x: np.ndarray, y: np.ndarray) -> float | None:
    return float(f1_score(y, x)) if x.any() or y.any() else None


def _matthews(x: np.ndarray, y: np.ndarray) -> float | None:
    return float(matthews_corrcoef(y, x)) if np.ptp(x) and np.ptp(y) else None


def _correlation(of: Callable, x: np.ndarray, y: np.ndarray) -> float | None:
    varies = len(x) > 1 and np.ptp(x) and np.ptp(y)
    return float(of(x, y).statistic) if varies else None


_METRICS = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": partial(_correlation, pearsonr),
    "spearman": partial(_correlation, spearmanr),
}


class SquadMetric(evaluate.Metric):
    """Exact match and F1, each between 0 and 1: the best over an example's answers, then the mean.

    Predictions are texts, references lists of acceptable texts. Case, punctuation, articles and
    white space are ignored.
    """

    def __init__(self) -> None:
        super().__init__(config_name="squad", keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        features = {"predictions": text, "references": datasets.Sequence(text)}
        return evaluate.MetricInfo(
            description="SQuAD v1.1: exact match, F1",
            citation="Rajpurkar et al. 2016, arXiv 1606.05250",
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references) -> dict[str, float | None]:
        if not len(predictions):
            return {"exact_match": None, "f1": None}
        sums = {"exact_match": 0.0, "f1": 0.0}
        for prediction, answers in zip(predictions, references, strict=True):
            sums["exact_match"] += max(_exact_match(prediction, answer) for answer in answers)
            sums["f1"] += max(_word_f1(prediction, answer) for answer in answers)
        return {name: value / len(predictions) for name, value in sums.items()}


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _exact_match(prediction: str, answer: str) -> float:
    return float(_words(prediction) == _words(answer))


def _word_f1(prediction: str, answer: str) -> float:
    predicted, expected = _words(prediction), _words(answer)
    common = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * common / (len(predicted) + len(expected)) if common else 0.0
