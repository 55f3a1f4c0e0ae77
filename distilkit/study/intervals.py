"""95 % intervals of shares of few examples, where plus and minus two standard errors fail.

Both hold at a share of 0 or 1 and for a single example, and take fractional counts: means over
seeds. (SciPy's ``binomtest`` takes whole numbers only.)
"""

import numpy as np

Z = 1.959964  # standard deviations to either side that hold 95 % of a normal distribution


def share_interval(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the score interval of a share of `n` examples (Wilson 1927); NaN where n is 0."""
    share, n = np.asarray(share, np.float64), np.asarray(n, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z / (1 + Z**2 / n) * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def matched_interval(
    first: np.ndarray, second: np.ndarray, n: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of ``first − second`` for two models on the same examples.

    `first` and `second` are the shares of the `n` examples that only this model gets right; NaN
    where n is 0. Wald's, after half an example was added to each of the four cells (Agresti and Min
    2005, "Wald+2").
    """
    n = np.asarray(n, np.float64)
    b, c = n * np.asarray(first, np.float64), n * np.asarray(second, np.float64)
    centre = (b - c) / (n + 2)
    half = Z * np.sqrt(b + c + 1 - (b - c) ** 2 / (n + 2)) / (n + 2)
    low, high = np.clip(centre - half, -1, 1), np.clip(centre + half, -1, 1)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)
