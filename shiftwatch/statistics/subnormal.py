"""Subnormal: the share of values too small for full precision."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries.summary import Summary


def subnormal(summary: Summary) -> np.ndarray:
    """Share of the finite values that are under the smallest normal number of their type.

    Such values have lost digits and are about to become zero: gradients in half precision
    (smallest normal 6.1e-5) whose loss scale is too low show here first. In float32 and
    bfloat16 (1.2e-38) the share is next to always 0.

    Args:
        summary: of any site.

    Returns:
        float64[...], 0 to 1; NaN where there is no finite value. Zeros do not count.

    Cost: one division per site.

    Example:
        >>> import numpy as np
        >>> from shiftwatch import summarize
        >>> float(subnormal(summarize(np.array([1e-7, 1e-2, 0.0, 1.0], np.float16))))
        0.25

    References:
        Micikevicius et al. (2018), Mixed Precision Training, ICLR: figure 3, the share of
        activation gradients that float16 cannot hold.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(summary.tallies.subnormal / summary.count)
