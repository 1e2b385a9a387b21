"""Worst unit shift: one channel has moved, and the layer's mean hides it."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from shiftwatch.divergences._compare import inverse_sizes, scale
from shiftwatch.summaries.summary import Summary
from shiftwatch.summaries.units import Units

# What float32 sums can tell of the spread of a unit, beside the layer's.
_LEAST = 1e-3


def worst_unit_shift(current: Summary, reference: Summary) -> np.ndarray:
    r"""Largest move of a unit's mean, in that unit's own reference standard deviations.

    $$\max_u |\bar x_u - \bar y_u| / s_{y,u}$$

    The fault of a single unit (a flipped bit, a bias pushed, a dead channel revived) is
    diluted by the width of the layer in every other divergence.

    Args:
        current: window under test, units kept.
        reference: window that counts as normal, units kept, of the same widths.

    Returns:
        float64[...], in standard deviations, from 0; a unit's own counts as at least 1/1000
        of the layer's, so a constant one (dead, masked) is no infinity. Units without
        values in a window are left out; NaN where units were not kept or none is left.

    Raises:
        ValueError: where the two windows differ in their units.

    Cost: about fifteen operations per unit.

    Example:
        >>> from shiftwatch import summarize
        >>> reference = summarize([[-1.0, -1.0], [1.0, 1.0]])
        >>> float(worst_unit_shift(summarize([[-1.0, 4.0], [1.0, 6.0]]), reference))
        5.0

    References:
        Tukey (1953), The Problem of Multiple Comparisons, for the size of a maximum.
    """
    a, b = current.units, reference.units
    if a is None or b is None:
        return np.full(current.shape, np.nan)
    if not np.array_equal(a.starts, b.starts):
        raise ValueError(
            "Units compare only between the same layers and widths; got "
            f"{np.diff(a.starts).tolist()} and {np.diff(b.starts).tolist()} units. "
            "Summarize both windows with the same units_axis."
        )
    layer = np.repeat(np.ravel(reference.std), np.diff(b.starts))
    spread = np.fmax(np.sqrt(b.variance), _LEAST * layer)
    shift = np.abs(a.mean - b.mean) / scale(_rms(a), _rms(b), spread)
    return a.largest(np.where((a.count > 0) & (b.count > 0), shift, np.nan))


def _rms(units: Units) -> np.ndarray:
    return np.sqrt(units.variance + units.mean**2)


def worst_unit_shift_null(current: Summary, reference: Summary) -> np.ndarray:
    """Expected shift of two windows of one distribution: the largest of U normal values.

    ``z sqrt(U (1/n + 1/m))`` with z the quantile of \\|N(0, 1)\\| at ``0.57^(1/U)``, the mean of
    the extreme-value law. U is the number of units and n, m values are spread evenly
    over them. Too low where a unit has fewer than some 30 values (Student's tails).

    References:
        Gumbel (1958), Statistics of Extremes: the mean lies at the quantile exp(-exp(-0.577)).
    """
    if current.units is None or reference.units is None:
        return np.full(current.shape, np.nan)
    width = np.diff(reference.units.starts).reshape(reference.shape)
    widths, where = np.unique(width, return_inverse=True)
    level = [NormalDist().inv_cdf((1 + 0.5704 ** (1 / max(u, 1))) / 2) for u in widths.tolist()]
    noise = np.sqrt(width * inverse_sizes(current, reference))
    return np.asarray(np.array(level)[where].reshape(width.shape) * noise)
