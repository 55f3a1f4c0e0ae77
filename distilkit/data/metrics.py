"""GLUE's metrics as an `evaluate.Metric` that needs no network and runs no downloaded code.

The metric that `evaluate` loads by name is a script of the Hub; this is the same arithmetic
(scikit-learn, SciPy).
"""

from __future__ import annotations

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef


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


def _pearson(x: np.ndarray, y: np.ndarray) -> float | None:
    return float(pearsonr(x, y).statistic) if _varies(x, y) else None


def _spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    return float(spearmanr(x, y).statistic) if _varies(x, y) else None


def _varies(x: np.ndarray, y: np.ndarray) -> bool:
    return len(x) > 1 and bool(np.ptp(x)) and bool(np.ptp(y))


_METRICS = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}
