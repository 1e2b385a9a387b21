"""Mean: where the values lie."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries.summary import Summary


def mean(summary: Summary) -> np.ndarray:
    """Mean of the finite values.

    Args:
        summary: of any site.

    Returns:
        float64[...], in the tensor's units; NaN where there is no finite value.

    Example:
        >>> from shiftwatch import summarize
        >>> float(mean(summarize([1.0, 2.0, 6.0])))
        3.0
    """
    return summary.mean
