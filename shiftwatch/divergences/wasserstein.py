"""Wasserstein distance: how far values have to be carried to turn one window into the other."""

from __future__ import annotations

import numpy as np

from shiftwatch.divergences._compare import cumulative, inverse_sizes, paired, scale
from shiftwatch.summaries.histogram import CENTRES
from shiftwatch.summaries.summary import Summary

_GAPS = np.diff(CENTRES)


def wasserstein(current: Summary, reference: Summary) -> np.ndarray:
    r"""Wasserstein-1 (earth mover's) distance, in standard deviations of the reference.

    $$\frac{1}{s_y} \int |F(t) - G(t)| \, dt$$

    An effect size: a pure shift by one standard deviation is 1, however narrow the bins.
    Each value stands at the middle of its bin, at most 1/8 of its size away.

    Args:
        current: window under test, with distribution function $F$.
        reference: window that counts as normal, $G$ and $s_y$.

    Returns:
        float64[...], in reference standard deviations (``mean_shift`` says what stands in
        where there are none), from 0; NaN where a window is empty. Values beyond 2^24 in
        size count as 1.5 times that.

    Cost: two running sums over the bins of each site.

    Example:
        >>> from shiftwatch import summarize
        >>> reference = summarize([-1.125, 1.125])  # middles of bins
        >>> round(float(wasserstein(summarize([1.125, 3.25]), reference)), 4)
        1.9444

    References:
        Vallender (1974), Theory Probab. Appl. 18: the one-dimensional form.
        Huang & Yu (2020), CVPR, measure internal covariate shift by this distance.
    """
    pair = paired(current, reference)
    distance = (pair.gap[:, :-1] @ _GAPS[pair.span.start : pair.span.stop - 1]).reshape(pair.shape)
    return np.asarray(distance / scale(current.rms, reference.rms, reference.std))


def wasserstein_null(current: Summary, reference: Summary) -> np.ndarray:
    r"""Expected distance of two windows of one distribution.

    $\sqrt{2/\pi}\sqrt{1/n + 1/m} \int \sqrt{F (1 - F)}$ over the pooled bins, in reference
    standard deviations; $1.28 \sqrt{1/n + 1/m}$ for normal values. Values are taken as
    independent.

    References:
        del Barrio, Giné & Matrán (1999), Ann. Probab. 27.
    """
    pooled = current.histogram.counts + reference.histogram.counts
    mean = np.sqrt(2 / np.pi * inverse_sizes(current, reference)) * bridge(pooled, _GAPS)
    return mean / scale(current.rms, reference.rms, reference.std)


def bridge(counts: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Integral of ``sqrt(F(1 - F))`` along an axis with the given gaps between bins."""
    f = cumulative(counts)
    return np.asarray(np.sqrt(f * (1 - f)) @ gaps)
