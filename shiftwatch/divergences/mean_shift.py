"""Mean shift: how far, and in which direction, the mean has moved."""

from __future__ import annotations

import numpy as np

from shiftwatch.divergences._compare import scale
from shiftwatch.summaries.summary import Summary


def mean_shift(current: Summary, reference: Summary) -> np.ndarray:
    r"""Move of the mean, in standard deviations of the reference.

    $$(\bar x - \bar y) / s_y$$

    The sign is kept, because a rule's message and a plot need the direction; take the
    absolute value to rank layers.

    Args:
        current: window under test, $x$.
        reference: window that counts as normal, $y$.

    Returns:
        float64[...], in reference standard deviations, negative where the mean fell; NaN
        where a window is empty. Where the reference's values do not differ, in its root
        mean square (a relative change); where they are all zero, in the current's.

    Cost: about ten operations per site.

    Example:
        >>> from shiftwatch import summarize
        >>> float(mean_shift(summarize([2.0, 4.0]), summarize([-1.0, 1.0, -1.0, 1.0])))
        3.0

    References:
        Glass (1976), Educational Researcher 5: the effect size in units of the control group.
    """
    return (current.mean - reference.mean) / scale(current.rms, reference.rms, reference.std)


def mean_shift_null(current: Summary, reference: Summary) -> np.ndarray:
    """Expected mean shift of two windows of one distribution: 0 (NaN where one is empty).

    Its standard deviation is ``sqrt(1/n + 1/m)`` for independent values.
    """
    return np.where((current.count > 0) & (reference.count > 0), 0.0, np.nan)
