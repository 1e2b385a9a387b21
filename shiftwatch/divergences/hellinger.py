"""Hellinger distance: bounded, symmetric, kind to empty bins."""

from __future__ import annotations

import numpy as np

from shiftwatch.divergences._compare import by_chance, over_bins
from shiftwatch.summaries.summary import Summary


def hellinger(current: Summary, reference: Summary) -> np.ndarray:
    r"""Hellinger distance between the histograms of two windows.

    $$H(P, Q) = \lVert \sqrt p - \sqrt q \rVert_2 / \sqrt 2$$

    In this form exactly 0 on equal windows; the textbook $\sqrt{1 - \sum \sqrt{pq}}$ is not.

    Args:
        current: window under test.
        reference: window that counts as normal, over the same bins (all are).

    Returns:
        float64[...], dimensionless, 0 (same histogram) to 1 (no bin shared); a metric; NaN
        where a window is empty.

    Cost: two square roots per occupied bin.

    Example:
        >>> from shiftwatch import summarize
        >>> float(hellinger(summarize([1.0, 2.0]), summarize([1.0, 2.0])))
        0.0

    References:
        Hellinger (1909), J. reine angew. Math. 136, 210-271.
    """
    return np.sqrt(np.minimum(over_bins(_square, current, reference), 1.0))


def _square(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (np.sqrt(p) - np.sqrt(q)) ** 2 / 2


def hellinger_null(current: Summary, reference: Summary) -> np.ndarray:
    """Expected distance of two windows of one distribution: about ``sqrt(K (1/n + 1/m)/8)``.

    K is the number of bins occupied in either window; bins of few values are reckoned
    exactly. It is the root of the mean square: a little more than the mean, by ``1/4K`` of it.
    Values are taken as independent.
    """
    return np.sqrt(by_chance(_square, 1 / 8, current, reference))
