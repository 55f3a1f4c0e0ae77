"""SQuAD v1.1's exact match and F1 as an `evaluate.Metric` that needs no network.

Rajpurkar et al. 2016 (arXiv 1606.05250), section 6.1, with the normalization of the official
evaluation script: case, punctuation, articles and white space are ignored.
"""

from __future__ import annotations

import re
import string
from collections import Counter

import datasets
import evaluate

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


class SquadMetric(evaluate.Metric):
    """Exact match and F1, each between 0 and 1: the best over an example's answers, then the mean.

    Predictions are texts, references lists of acceptable texts.
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
            sums["exact_match"] += max(_exact(prediction, answer) for answer in answers)
            sums["f1"] += max(_f1(prediction, answer) for answer in answers)
        return {name: value / len(predictions) for name, value in sums.items()}


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _exact(prediction: str, answer: str) -> float:
    return float(_words(prediction) == _words(answer))


def _f1(prediction: str, answer: str) -> float:
    predicted, expected = _words(prediction), _words(answer)
    common = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * common / (len(predicted) + len(expected)) if common else 0.0
