"""Octaves: by how many powers of two the sizes have moved."""

from __future__ import annotations

import numpy as np

from shiftwatch.divergences._compare import cumulative
from shiftwatch.divergences.wasserstein import bridge
from shiftwatch.summaries.histogram import BINS, ZERO_BIN
from shiftwatch.summaries.summary import Summary

_GAPS = np.full(BINS - ZERO_BIN - 2, 0.25)  # four bins to the octave


def octaves(current: Summary, reference: Summary) -> np.ndarray:
    r"""Wasserstein-1 distance of the sizes on the scale of $\log_2$: octaves moved.

    $$\int |F(2^e) - G(2^e)| \, de$$

    Free of any scale: doubling all values is 1 octave whatever the layer, and tiny values
    count as much as large ones. Sizes are those of the nonzero values. An exact zero
    has no logarithm, and on any scale that gave it a place, 1 % more of them would outweigh a
    doubling of all others; so zeros take no part, nor do signs. Read ``zero_fraction``
    and ``mean_shift`` (or ``js``, which sees all) beside it.

    Args:
        current: window under test; $F$ is the distribution function of its sizes.
        reference: window that counts as normal, $G$.

    Returns:
        float64[...], in octaves, 0 to about 65; a quarter octave is the resolution for single
        values, not for distributions. NaN where a window has no value but zeros. Sizes
        beyond 2^-40 … 2^24 count as just beyond.

    Cost: two running sums over half the bins of each site.

    Example:
        >>> from shiftwatch import summarize
        >>> float(octaves(summarize([2.0, -4.0, 0.0]), summarize([1.0, 2.0])))
        1.0

    References:
        As ``wasserstein``; that scale-free sizes show faults in half precision early is
        what the exponent histograms of Micikevicius et al. (2018), ICLR, are for.
    """
    f, g = (cumulative(_sizes(s)) for s in (current, reference))
    return np.asarray(np.abs(f - g) @ _GAPS)


def octaves_null(current: Summary, reference: Summary) -> np.ndarray:
    """Expected distance of two windows of one distribution, as that of ``wasserstein``."""
    a, b = _sizes(current), _sizes(reference)
    n, m = a.sum(-1), b.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.sqrt(2 / np.pi * (1 / n + 1 / m)) * bridge(a + b, _GAPS)
    return np.where((n > 0) & (m > 0), mean, np.nan)


def _sizes(summary: Summary) -> np.ndarray:
    """Counts of the nonzero values by size, both signs together: int64[..., side]."""
    counts = summary.histogram.counts
    return np.asarray(counts[..., ZERO_BIN + 1 :] + counts[..., ZERO_BIN - 1 :: -1])
