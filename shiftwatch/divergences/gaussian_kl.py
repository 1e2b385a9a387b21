"""Gaussian KL: the divergence of two normal distributions with the windows' moments."""

from __future__ import annotations

import numpy as np

from shiftwatch.divergences._compare import ROUNDING, inverse_sizes
from shiftwatch.statistics.shape import kurtosis
from shiftwatch.summaries.summary import Summary


def gaussian_kl(current: Summary, reference: Summary) -> np.ndarray:
    r"""KL of the normal distributions with the mean and variance of the two windows.

    $$\ln\frac{s_y}{s_x} + \frac{s_x^2 + (\bar x - \bar y)^2}{2 s_y^2} - \frac{1}{2}$$

    Sees mean and variance only, hence has far less sampling noise than the histogram
    divergences; one huge value moves it without bound.

    Args:
        current: window under test, $x$.
        reference: window that counts as normal, $y$.

    Returns:
        float64[...], in nats, from 0, and 0 exactly for equal windows; NaN where a window
        is empty. Standard deviations have the floor of ``variance_shift``.

    Cost: about fifteen operations per site.

    Example:
        >>> from shiftwatch import summarize
        >>> float(gaussian_kl(summarize([1.0, 3.0]), summarize([-1.0, 1.0])))
        2.0

    References:
        Kullback (1959), Information Theory and Statistics, chapter 9.
    """
    floor = ROUNDING * np.fmax(current.rms, reference.rms)
    floor = np.where(floor > 0, floor, 1.0)
    unit = np.maximum(reference.std, floor)
    growth = (np.maximum(current.std, floor) / unit) ** 2 - 1
    shift = (current.mean - reference.mean) / unit
    return np.asarray(np.maximum(growth - np.log1p(growth) + shift**2, 0.0) / 2)


def gaussian_kl_null(current: Summary, reference: Summary) -> np.ndarray:
    """Expected Gaussian KL of two windows of one distribution.

    ``(1/n + 1/m)(1 + (k - 1)/2)/2`` with the reference's kurtosis k: ``1/n + 1/m`` for
    normal values (delta method).
    """
    k = np.nan_to_num(kurtosis(reference), nan=1.0)
    return inverse_sizes(current, reference) * (1 + (k - 1) / 2) / 2
