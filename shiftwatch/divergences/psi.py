"""Population stability index: the credit industry's drift score."""

from __future__ import annotations

import numpy as np

from shiftwatch.divergences._compare import by_chance, over_bins
from shiftwatch.summaries.summary import Summary


def psi(current: Summary, reference: Summary) -> np.ndarray:
    r"""Population stability index over the shared bins: KL both ways, added.

    $$\sum_i (p_i - q_i) \ln \frac{p_i}{q_i}$$

    The customary limits 0.1 and 0.25 were made for ten bins and thousands of customers.
    In training they mean nothing: at 32 bins and 256 values, two windows of one
    distribution exceed 0.1 always and 0.25 in 33 to 54 % of cases. Subtract the null
    mean (``debiased``), or use ``js``.

    Args:
        current: window under test, $p$.
        reference: window that counts as normal, $q$.

    Returns:
        float64[...], in nats, from 0; symmetric; finite on disjoint support by the half
        added per bin, see ``kl``; NaN where a window is empty.

    Cost: one logarithm per occupied bin.

    Example:
        >>> from shiftwatch import summarize
        >>> a, b = summarize([1.0, 2.0, 2.0]), summarize([1.0, 2.0, 4.0])
        >>> float(psi(a, a)), round(float(psi(a, b)), 4)
        (0.0, 0.3577)

    References:
        Jeffreys (1946), Proc. R. Soc. A 186, as the divergence J.
        Lewis (1994), An Introduction to Credit Scoring: the limits.
    """
    return over_bins(_index, current, reference, added=0.5)


def _index(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p - q) * np.log(p / q)


def psi_null(current: Summary, reference: Summary) -> np.ndarray:
    """Expected index of two windows of one distribution: about ``(K - 1)(1/n + 1/m)``.

    K is the number of bins occupied in either window; bins of few values are reckoned
    exactly. Values are taken as independent. The variance is about ``2 (K - 1)(1/n + 1/m)^2``.

    References:
        Yurdakul (2018), Statistical Properties of Population Stability Index.
    """
    return by_chance(_index, 1.0, current, reference, added=0.5)
