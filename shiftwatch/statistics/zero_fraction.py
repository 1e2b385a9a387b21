"""Zero fraction: the share of values that are exactly zero."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries.summary import Summary


def zero_fraction(summary: Summary) -> np.ndarray:
    """Share of the finite values that are exactly zero (of either sign).

    A high share is no fault: ReLU, dropout, top-k and routing make 35 to 95 % zeros in
    healthy networks. What tells is a change. For units that stay at zero see
    ``dead_fraction``.

    Args:
        summary: of any site.

    Returns:
        float64[...], 0 to 1; NaN where there is no finite value.

    Cost: one division per site.

    Example:
        >>> from shiftwatch import summarize
        >>> float(zero_fraction(summarize([0.0, 0.0, 0.5, -0.0])))
        0.75
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(summary.tallies.zero / summary.count)
