"""Minimum and maximum: the range of the values."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries.summary import Summary


def minimum(summary: Summary) -> np.ndarray:
    """Least of the finite values.

    Args:
        summary: of any site.

    Returns:
        float64[...], in the tensor's units; NaN where there is no finite value. Of a
        sampled tensor, the extremes of the sample: the tensor's own lie further out.

    Example:
        >>> from shiftwatch import summarize
        >>> float(minimum(summarize([1.0, -2.0, float("-inf")])))
        -2.0
    """
    return np.where(summary.count > 0, summary.moments.min, np.nan)


def maximum(summary: Summary) -> np.ndarray:
    """Greatest of the finite values; as :func:`minimum`.

    Example:
        >>> from shiftwatch import summarize
        >>> float(maximum(summarize([1.0, -2.0, float("inf")])))
        1.0
    """
    return np.where(summary.count > 0, summary.moments.max, np.nan)
