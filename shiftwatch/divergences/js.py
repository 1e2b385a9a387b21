"""Jensen-Shannon divergence: bounded, symmetric, in need of no smoothing."""

from __future__ import annotations

import numpy as np

from shiftwatch.divergences._compare import by_chance, over_bins
from shiftwatch.summaries.summary import Summary


def js(current: Summary, reference: Summary) -> np.ndarray:
    r"""Jensen-Shannon divergence of the two histograms.

    $$\tfrac12 KL(P \,\|\, M) + \tfrac12 KL(Q \,\|\, M), \qquad M = (P + Q)/2$$

    The default score for "does this look like the reference": bounded, so no single bin
    or value can dominate it. Written with $r = (q - p)/(q + p)$ as
    $\tfrac12 \sum m [(1 - r) \ln(1 - r) + (1 + r) \ln(1 + r)]$: 0 exactly for equal windows.

    Args:
        current: window under test.
        reference: window that counts as normal.

    Returns:
        float64[...], in nats, 0 (same histogram) to ln 2 = 0.693 (no bin shared); NaN where
        a window is empty. Its square root is a metric.

    Cost: two logarithms per occupied bin.

    Example:
        >>> from shiftwatch import summarize
        >>> round(float(js(summarize([1.0, 1.0]), summarize([8.0, 8.0]))), 4)
        0.6931

    References:
        Lin (1991), IEEE Trans. Inf. Theory 37.
    """
    return np.minimum(over_bins(_divergence, current, reference), np.log(2))


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    r = (q - p) / (q + p)
    return (p + q) * (_x_log_x(-r) + _x_log_x(r)) / 4


def _x_log_x(r: np.ndarray) -> np.ndarray:
    """``(1 + r) ln(1 + r)``, 0 at r = -1."""
    return (1 + r) * np.log1p(np.where(r > -1, r, 0.0))


def js_null(current: Summary, reference: Summary) -> np.ndarray:
    """Expected divergence of two windows of one distribution: about ``(K - 1)(1/n + 1/m)/8``.

    K is the number of bins occupied in either window; bins of few values are reckoned
    exactly. Values are taken as independent.
    """
    return by_chance(_divergence, 1 / 8, current, reference)
