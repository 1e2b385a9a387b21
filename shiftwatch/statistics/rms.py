"""Root mean square: the size of the values."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries.summary import Summary


def rms(summary: Summary) -> np.ndarray:
    """Root mean square of the finite values: the norm, but for the number of values.

    Args:
        summary: of any site.

    Returns:
        float64[...], in the tensor's units; NaN where there is no finite value.

    Example:
        >>> from shiftwatch import summarize
        >>> float(rms(summarize([3.0, -3.0, 3.0])))
        3.0
    """
    return summary.rms
