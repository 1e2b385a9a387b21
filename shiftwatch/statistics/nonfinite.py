"""Non-finite: the share of NaN and Inf."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries.summary import Summary


def nonfinite(summary: Summary) -> np.ndarray:
    """Share of NaN, +Inf and -Inf among all values.

    The only statistic that looks at all values; every other one leaves these out.

    Args:
        summary: of any site.

    Returns:
        float64[...], 0 to 1; NaN where there is no value at all.

    Cost: one division per site.

    Example:
        >>> from shiftwatch import summarize
        >>> float(nonfinite(summarize([1.0, float("nan"), 2.0, float("-inf")])))
        0.5
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(summary.nonfinite / summary.size)
