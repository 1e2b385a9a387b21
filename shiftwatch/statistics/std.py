"""Standard deviation: how far the values spread."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries.summary import Summary


def std(summary: Summary) -> np.ndarray:
    """Population standard deviation of the finite values.

    Args:
        summary: of any site.

    Returns:
        float64[...], in the tensor's units; NaN where there is no finite value.

    Example:
        >>> from shiftwatch import summarize
        >>> float(std(summarize([1.0, 1.0, 5.0, 5.0])))
        2.0
    """
    return summary.std
