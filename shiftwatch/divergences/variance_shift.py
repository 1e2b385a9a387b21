"""Variance shift: by how much the values have spread or shrunk."""

from __future__ import annotations

import numpy as np

from shiftwatch.divergences._compare import ROUNDING
from shiftwatch.statistics.shape import kurtosis
from shiftwatch.summaries.summary import Summary


def variance_shift(current: Summary, reference: Summary) -> np.ndarray:
    r"""Logarithm of the ratio of the variances.

    $$\ln (s_x^2 / s_y^2)$$

    Signed: positive where the current window is wider, and as far from 0 for a doubling
    as for a halving. A factor of two in the standard deviation is 1.39.

    Args:
        current: window under test, $x$.
        reference: window that counts as normal, $y$.

    Returns:
        float64[...], in nats; NaN where a window is empty. A standard deviation under
        1.2e-7 of the larger root mean square (the rounding of float32) counts as that
        much, so the result is finite, within -32 to 32, also where values do not differ.

    Cost: about ten operations per site.

    Example:
        >>> from shiftwatch import summarize
        >>> shift = variance_shift(summarize([-2.0, 2.0]), summarize([-1.0, 1.0]))
        >>> round(float(shift / np.log(2)), 6)
        2.0

    References:
        Bartlett & Kendall (1946), Suppl. J. R. Stat. Soc. 8: the logarithm makes the noise
        of a variance independent of its size.
    """
    floor = ROUNDING * np.fmax(current.rms, reference.rms)
    floor = np.where(floor > 0, floor, 1.0)
    return 2 * np.log(np.maximum(current.std, floor) / np.maximum(reference.std, floor))


def variance_shift_null(current: Summary, reference: Summary) -> np.ndarray:
    r"""Expected variance shift of two windows of one distribution.

    $-\frac{k + 1}{2} (1/n - 1/m)$ with the reference's kurtosis $k$: the smaller window
    seems the narrower, a little (delta method; 0 for equal sizes).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        sizes = 1 / current.count - 1 / reference.count
        null = -(np.nan_to_num(kurtosis(reference), nan=1.0) + 1) / 2 * sizes
    return np.where(np.isfinite(null), null, np.nan)
