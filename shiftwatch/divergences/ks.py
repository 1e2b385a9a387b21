"""Kolmogorov-Smirnov statistic: the largest gap between two distribution functions."""

from __future__ import annotations

import numpy as np

from shiftwatch.divergences._compare import inverse_sizes, paired
from shiftwatch.summaries.summary import Summary


def ks(current: Summary, reference: Summary) -> np.ndarray:
    r"""Two-sample Kolmogorov-Smirnov statistic, at the edges of the shared bins.

    $$\sup_t |F(t) - G(t)|$$

    Reads as a share: at some point, this share of the values has crossed it. A lower
    bound of the statistic of the raw values, which may have its supremum inside a bin.

    Args:
        current: window under test, with distribution function $F$.
        reference: window that counts as normal, $G$.

    Returns:
        float64[...], dimensionless, 0 to 1; NaN where a window is empty.

    Cost: two running sums over the bins of each site.

    Example:
        >>> from shiftwatch import summarize
        >>> float(ks(summarize([1.0, 2.0, 3.0, 4.0]), summarize([2.0, 3.0, 4.0, 5.0])))
        0.25

    References:
        Smirnov (1948), Ann. Math. Stat. 19.
    """
    pair = paired(current, reference)
    return np.asarray(pair.gap.max(1).reshape(pair.shape))


def ks_null(current: Summary, reference: Summary) -> np.ndarray:
    """Expected statistic of two windows of one continuous distribution: ``0.869 sqrt(1/n + 1/m)``.

    Less, by a tenth to a third, where bins are coarse beside the spread or many values are
    equal (the zeros of a ReLU): an upper bound.
    ``sqrt(pi/2) ln 2 = 0.869`` is the mean of Kolmogorov's distribution.
    """
    return np.sqrt(np.pi / 2) * np.log(2) * np.sqrt(inverse_sizes(current, reference))
