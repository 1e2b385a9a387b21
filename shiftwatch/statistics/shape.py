"""Skewness and kurtosis: the shape of a distribution, free of place and scale."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries.summary import Summary

# Spread under the rounding of the values themselves (float32) has no shape.
_ROUNDING = float(np.finfo(np.float32).eps)


def skewness(summary: Summary) -> np.ndarray:
    r"""Third standardized moment: which tail is the longer one.

    $$\frac{m_3 / n}{(m_2 / n)^{3/2}}$$

    Args:
        summary: of any site.

    Returns:
        float64[...], dimensionless: 0 for a symmetric distribution, positive where the
        upper tail is the longer; NaN where the values do not differ (standard deviation
        under 1.2e-7 of their root mean square) or there are none.

    Example:
        >>> from shiftwatch import summarize
        >>> round(float(skewness(summarize([0.0, 0.0, 0.0, 4.0]))), 4)
        1.1547

    References:
        Pearson (1895), Phil. Trans. A 186; the biased estimate, as ``scipy.stats.skew``.
    """
    m2, m3 = summary.moments.m2, summary.moments.m3
    with np.errstate(all="ignore"):
        return np.where(_spread(summary), m3 / m2 / summary.std, np.nan)


def kurtosis(summary: Summary) -> np.ndarray:
    r"""Fourth standardized moment: how much of the variance comes from few, far values.

    $$\frac{m_4 / n}{(m_2 / n)^2}$$

    This is Pearson's kurtosis, 3 for a normal distribution; subtract 3 for the excess.
    It grows by orders of magnitude where a few features become huge ("outlier features",
    "massive activations"), which is common and healthy in trained transformers.

    Args:
        summary: of any site.

    Returns:
        float64[...], dimensionless, at least 1 (two values, equally often); NaN where the
        values do not differ (standard deviation under 1.2e-7 of their root mean square) or
        there are none.

    Example:
        >>> from shiftwatch import summarize
        >>> float(kurtosis(summarize([-1.0, 1.0, -1.0, 1.0])))
        1.0

    References:
        Pearson (1905), Biometrika 4; the biased estimate, as
        ``scipy.stats.kurtosis(fisher=False)``.
        Sun et al. (2024), Massive Activations in Large Language Models, COLM.
    """
    m2, m4 = summary.moments.m2, summary.moments.m4
    with np.errstate(all="ignore"):
        return np.where(_spread(summary), m4 / m2 / summary.variance, np.nan)


def _spread(summary: Summary) -> np.ndarray:
    return np.asarray(summary.std > _ROUNDING * summary.rms)
