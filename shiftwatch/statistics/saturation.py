"""Saturation: the share of values at which the activation passes (almost) no gradient."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries.summary import Summary


def saturation(summary: Summary) -> np.ndarray:
    r"""Share of the finite values that lie in the flat part of the activation.

    $$\frac{|\{x : |\varphi'(x)| < 0.05 \max |\varphi'|\}|}{n}$$

    Flat means: the slope is under 5 % of the activation's greatest slope, see
    ``shiftwatch.activations``. For a sigmoid or a tanh that is saturation as Glorot and
    Bengio mean it; for a ReLU it is the share of zeros, which is 0.35 to 0.55 in a healthy
    network, so judge its growth and not its level.

    Args:
        summary: of a site with an activation.

    Returns:
        float64[...], 0 to 1; NaN where the site has no activation that can be flat, or
        there is no finite value.

    Cost: one division per site.

    Example:
        >>> from shiftwatch import summarize
        >>> float(saturation(summarize([-0.99, -0.5, 0.0, 0.999], activation="tanh")))
        0.5
        >>> float(saturation(summarize([-0.99, 0.999])))
        nan

    References:
        Glorot & Bengio (2010), AISTATS: saturation of sigmoid and tanh layers.
        Rakitianskaia & Engelbrecht (2015), IEEE SSCI, measure the same by a weighted mean
        of the outputs; a plain share was taken here because it merges and reads at sight.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = summary.tallies.flat / summary.count
    return np.where(summary.bounded, share, np.nan)
