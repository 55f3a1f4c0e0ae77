"""Calibration of a classifier: Guo et al. 2017, arXiv 1706.04599, section 2.

Confidence is the probability of the predicted class. A classifier is calibrated if a share p of its
predictions with confidence p is right.
"""

import numpy as np
import pandas as pd

BINS = 15  # of equal width over [0, 1], as in the paper's tables
DRAWS = 200  # of a calibrated classifier's predictions


def reliability(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """Tabulate the numbers of a reliability diagram (section 2: acc and conf of a bin).

    A row a bin, open on the left: ``low, n, confidence, accuracy``; NaN without answers.
    """
    answers = pd.DataFrame({"confidence": confidence, "accuracy": correct}, dtype=float)
    bins = answers.groupby(_bin_of(np.asarray(confidence)))
    n = bins.size().reindex(range(BINS), fill_value=0)
    return bins.mean().reindex(range(BINS)).assign(low=np.arange(BINS) / BINS, n=n)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """``Σ n_b / n · |accuracy_b − confidence_b|`` over the bins b (equation 3); NaN without data.

    `confidence` holds the probabilities [n] of the predicted classes, `correct` whether they are
    right. Few predictions give more than 0 even if they are calibrated: :func:`calibrated_error`
    estimates how much.
    """
    if not len(confidence):
        return float("nan")
    gaps = np.bincount(_bin_of(confidence), correct - confidence, BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def calibrated_error(confidence: np.ndarray) -> float:
    """Estimate the error of a calibrated classifier with these confidences.

    Consistency resampling (Bröcker and Smith 2007): the mean over :data:`DRAWS` draws in which each
    prediction is right with its own confidence. It is the baseline of the error above.
    """
    confidence = np.asarray(confidence, np.float64)
    random = np.random.default_rng(0)
    draws = (random.random(len(confidence)) < confidence for _ in range(DRAWS))
    return float(np.mean([expected_calibration_error(confidence, drawn) for drawn in draws]))


def calibration_table(examples: pd.DataFrame) -> pd.DataFrame:
    """Calibration of teacher and student for each task and over all classification examples.

    From a table of :func:`distilkit.study.fidelity.compare_runs`. Index ``task, model``; ``n``
    examples; ``accuracy``, mean ``confidence``, ``ece`` and ``ece_if_calibrated`` in percent.
    Each is computed seed by seed and averaged.
    """
    classes = examples[examples.teacher_confidence.notna()]
    groups = [*classes.groupby("task", sort=False)]
    if len(classes):
        groups.append(("all", classes))
    rows = []
    for task, group in groups:
        for model in ("teacher", "student"):
            columns = [f"{model}_correct", f"{model}_confidence"]
            by_seed = [part for _, part in group.groupby("seed")[columns]]
            means = pd.DataFrame(_one_seed(*(part[c] for c in columns)) for part in by_seed).mean()
            rows.append({"task": task, "model": model, "n": len(by_seed[0]), **means})
    names = ["task", "model", "n", "accuracy", "confidence", "ece", "ece_if_calibrated"]
    return pd.DataFrame(rows, columns=names).set_index(["task", "model"])


def _one_seed(correct: pd.Series, confidence: pd.Series) -> dict[str, float]:
    return {
        "accuracy": 100 * correct.mean(),
        "confidence": 100 * confidence.mean(),
        "ece": 100 * expected_calibration_error(confidence, correct),
        "ece_if_calibrated": 100 * calibrated_error(confidence),
    }


def _bin_of(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
