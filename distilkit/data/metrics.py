"""Metrics of tasks that need no network and run no downloaded code.

The metric that `evaluate` loads by name is a script of the Hub. These are the same arithmetic:
SQuAD's with the normalization of the official script (arXiv 1606.05250, section 6.1).
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef
from transformers.data.metrics.squad_metrics import compute_exact, compute_f1


class TaskMetric(evaluate.Metric):
    """The metrics of one task; an undefined value is None, never 0.

    Predictions and references by the task's kind: class numbers [n]; 0 or 1 [n, labels]; reals [n].
    On words a list of class numbers for each sentence; for spans a text and its acceptable ones.

    Matthews' correlation is undefined if predictions or labels are all of one class. Pearson's and
    Spearman's are if either is constant or there are fewer than two, an F1 if neither has a
    positive.
    """

    def __init__(self, kind: str, labels: tuple[str, ...], metrics: tuple[str, ...]) -> None:
        self.kind, self.labels, self.metrics = kind, labels, metrics
        # it makes a folder even so, writes nothing there, and the usual cache may be read-only
        with tempfile.TemporaryDirectory() as folder:
            super().__init__(keep_in_memory=True, cache_dir=folder)

    def _info(self) -> evaluate.MetricInfo:
        dtypes = {"regression": "float64", "question_answering": "string"}
        value = datasets.Value(dtypes.get(self.kind, "int64"))
        lists = self.kind in ("multi_label_classification", "token_classification")
        values = datasets.Sequence(value) if lists else value
        right = datasets.Sequence(value) if self.kind == "question_answering" else values
        return evaluate.MetricInfo(
            description=", ".join(self.metrics),
            citation="Wang et al. 2019, arXiv 1804.07461, of GLUE's tasks",
            features=datasets.Features({"predictions": values, "references": right}),
        )

    def _compute(self, predictions, references) -> dict[str, float | None]:
        if self.kind == "question_answering":
            pairs = zip(predictions, references, strict=True)
            answers = [answer_scores(*pair) for pair in pairs]
            return {name: float(np.mean([a[name] for a in answers])) for name in self.metrics}
        if "entity_f1" in self.metrics:
            tags = [
                [[self.labels[i] for i in sentence] for sentence in sentences]
                for sentences in (predictions, references)
            ]
            return {"entity_f1": f1_of_counts(entity_counts(*tags))}
        if self.kind == "token_classification":
            predictions, references = np.concatenate(predictions), np.concatenate(references)
        x, y = np.asarray(predictions), np.asarray(references)
        return {name: METRICS[name](x, y) for name in self.metrics}


def f1_of_counts(counts: Sequence[int]) -> float | None:
    """Return the F1 of counts: correct, predicted, true."""
    correct, predicted, true = counts
    return float(2 * correct / (predicted + true)) if predicted + true else None


def entity_counts(
    predictions: list[list[str]], references: list[list[str]]
) -> tuple[int, int, int]:
    """Return counts of correct entities (type and both ends), of predicted and of true ones.

    As CoNLL counts them (Tjong Kim Sang and De Meulder 2003): an I- of another type, or without a
    B-, begins an entity. E- and L- are read as I-, S- and U- as B-.
    """
    from nervaluate import Evaluator  # a machine that only trains may lack it

    same = {"E": "I", "L": "I", "S": "B", "U": "B"}

    def plain(sentences: list[list[str]]) -> list[list[str]]:
        return [[same.get(tag[0], tag[0]) + tag[1:] for tag in tags] for tags in sentences]

    predictions, references = plain(predictions), plain(references)
    kinds = sorted({tag[2:] for tags in (*predictions, *references) for tag in tags if tag != "O"})
    if not kinds:
        return 0, 0, 0
    counted = Evaluator(references, predictions, tags=kinds, loader="list").evaluate()
    strict = counted["overall"]["strict"]
    return strict.correct, strict.actual, strict.possible


def _f1(x: np.ndarray, y: np.ndarray, average: str = "binary") -> float | None:
    if average == "micro" and x.ndim == 1:  # of classes, of which 0 is one
        return METRICS["accuracy"](x, y)
    # a class that is never predicted counts as 0, without a warning
    return float(f1_score(y, x, average=average, zero_division=0)) if x.any() or y.any() else None


def _correlation(of: Callable, x: np.ndarray, y: np.ndarray) -> float | None:
    varies = len(x) > 1 and np.ptp(x) and np.ptp(y)
    return float(of(x, y).statistic) if varies else None


METRICS = {  # of predictions x and references y
    # as sklearn's, of several labels all have to be right; a bootstrap calls it a thousand times
    "accuracy": lambda x, y: float((x == y).reshape(len(x), -1).all(1).mean()) if len(x) else None,
    "f1": _f1,
    "macro_f1": lambda x, y: float(f1_score(y, x, average="macro", zero_division=0)),
    "micro_f1": partial(_f1, average="micro"),
    "matthews": lambda x, y: float(matthews_corrcoef(y, x)) if np.ptp(x) and np.ptp(y) else None,
    "pearson": partial(_correlation, pearsonr),
    "spearman": partial(_correlation, spearmanr),
    "rmse": lambda x, y: float(np.sqrt(np.mean((x - y) ** 2))),
}


def answer_scores(prediction: str, answers: list[str]) -> dict[str, float]:
    """Return ``exact_match`` and ``f1`` of one answer: each the best over the acceptable ones.

    Case, punctuation, articles and white space are ignored (arXiv 1606.05250, section 6.1).
    """
    return {
        "exact_match": float(max(compute_exact(answer, prediction) for answer in answers)),
        "f1": float(max(compute_f1(answer, prediction) for answer in answers)),
    }
