"""Dormant units: those whose output is next to nothing beside the layer's."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries.summary import Summary


def dormant(summary: Summary, tau: float = 0.025) -> np.ndarray:
    r"""Share of $\tau$-dormant units: those with a small part in the layer's output.

    $$s_i = \frac{E|h_i|}{\frac{1}{H} \sum_k E|h_k|} \le \tau$$

    A growing share foretells loss of plasticity: the network stops taking in anything
    new, as in reinforcement learning and other moving targets. In plain supervised
    training it stays low.

    Args:
        summary: of any site, units kept.
        tau: limit of the score, 0.025 in the paper.

    Returns:
        float64[...], 0 to 1; 1 where all values are zero; NaN where units were not kept or
        there is no finite value.

    Cost: about ten operations per unit.

    Example:
        >>> from shiftwatch import summarize
        >>> float(dormant(summarize([[5.0, 0.0, 3.0, 0.02], [4.0, 0.0, 3.0, 0.02]])))
        0.5

    References:
        Sokar, Agarwal, Castro & Evci (2023), The Dormant Neuron Phenomenon, ICML, eq. 1.
        Departure: of a unit we keep mean and variance. Where all values of the site are
        at least 0 (ReLU) its mean is $E|h|$; elsewhere the root mean square takes the
        place of $E|h|$, which for a normal unit about zero is 1.25 times as large for all.
    """
    units = summary.units
    if units is None:
        return np.full(summary.shape, np.nan)
    sites = np.repeat(np.arange(units.starts.size - 1), np.diff(units.starts))
    onesided = np.ravel(summary.moments.min >= 0)[sites]
    size = np.where(onesided, units.mean, np.sqrt(units.variance + units.mean**2))
    size = np.where(units.count > 0, size, np.nan)
    limit = tau * np.ravel(units.average(size))[sites]
    return units.average(np.where(np.isnan(size), np.nan, size <= limit))
