"""Kullback-Leibler divergence, in both directions: how surprising one window is to the other."""

from __future__ import annotations

import numpy as np

from shiftwatch.divergences._compare import by_chance, over_bins
from shiftwatch.summaries.summary import Summary


def kl(current: Summary, reference: Summary) -> np.ndarray:
    r"""KL(current || reference) over the shared bins.

    $$\sum_i p_i \ln \frac{p_i}{q_i}$$

    Large where the current window has values that the reference did not know. Half a
    value is added to each bin that either window occupies (Jeffreys' prior), so the
    result is finite on disjoint support. Summed as $p \ln (p/q) - p + q$, no term of which
    is negative: 0 exactly for equal windows, and never under it.

    Args:
        current: window under test, $p$.
        reference: window that counts as normal, $q$, over the same bins (all are).

    Returns:
        float64[...], in nats, from 0; NaN where a window is empty.

    Cost: one logarithm per occupied bin.

    Example:
        >>> from shiftwatch import summarize
        >>> a, b = summarize([1.0, 2.0, 2.0]), summarize([1.0, 2.0, 4.0])
        >>> float(kl(a, a)), round(float(kl(a, b)), 4)
        (0.0, 0.1617)

    References:
        Kullback & Leibler (1951), Ann. Math. Stat. 22.
        Krichevsky & Trofimov (1981), IEEE Trans. Inf. Theory 27: the added half.
    """
    return over_bins(_surprise, current, reference, added=0.5)


def reverse_kl(current: Summary, reference: Summary) -> np.ndarray:
    """KL(reference || current): large where values of the reference are gone. As :func:`kl`.

    Example:
        >>> from shiftwatch import summarize
        >>> a, b = summarize([1.0, 2.0, 2.0]), summarize([1.0, 2.0, 4.0])
        >>> bool(reverse_kl(a, b) == kl(b, a))
        True
    """
    return kl(reference, current)


def _surprise(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return p * np.log(p / q) - p + q


def kl_null(current: Summary, reference: Summary) -> np.ndarray:
    """Expected divergence of two windows of one distribution: about ``(K - 1)(1/n + 1/m)/2``.

    K is the number of bins occupied in either window; bins of few values are reckoned
    exactly. Values are taken as independent; those of one sample are not, and the true
    null lies above.

    References:
        Miller (1955), Note on the bias of information estimates.
    """
    return by_chance(_surprise, 1 / 2, current, reference, added=0.5)


def reverse_kl_null(current: Summary, reference: Summary) -> np.ndarray:
    """Expected reverse divergence, as :func:`kl_null`."""
    return kl_null(reference, current)
