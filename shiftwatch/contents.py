"""Contents: what a model's input holds, unit by unit, beyond its overall distribution.

Pixels in another order, batches of one class, the same few samples again and again: the histogram
of all values knows nothing of it, but the mean of each unit does, and how many samples differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shiftwatch.sampling import BLOCK
from shiftwatch.source import Group

#: Units that are looked at.
UNITS = 128


class Contents(NamedTuple):
    """One site at each of its recorded calls.

    Attributes:
        steps: int64[calls], ascending.
        positions: int64[calls], values per unit.
        mean, variance: float64[calls, UNITS], within each unit; NaN beyond the last one.
        distinct: float64[calls], share of the positions that differ from all others, 0 to 1;
            repetition that is there in one part of the units and not in another is none.
    """

    steps: np.ndarray
    positions: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    distinct: np.ndarray


def contents(groups: Sequence[Group], column: int) -> Contents:
    """What a site held, among the samples of a batch.

    Args:
        column: the site; -1 for none.

    Cost: per call two passes over its sample of 2,048 values, and a sort of a block of it.

    Example:
        >>> values = np.array([[[[1.0, 5.0], [3.0, 5.0], [1.0, 5.0]]]])
        >>> seen = contents([Group(np.array([4]), values, np.array([[7]]))], 4)
        >>> seen.mean[0, :2].round(2).tolist(), seen.distinct.tolist()
        ([1.67, 5.0], [0.6666666666666666])
    """
    found: list[tuple[int, int, np.ndarray, np.ndarray, float]] = []
    for group in groups:
        for place in np.flatnonzero(group.sites == column).tolist():
            steps = group.steps[:, place]
            chosen = _chosen(group.values.shape[-1])
            for row in np.flatnonzero(steps >= 0).tolist():
                values = group.values[row, place].astype(np.float64)
                values = np.where(np.isfinite(values), values, 0.0)
                some = values[:, chosen]
                found.append(
                    (int(steps[row]), len(values), some.mean(0), some.var(0), _distinct(values))
                )
    found.sort(key=lambda call: call[0])
    mean, variance = np.full((2, len(found), UNITS), np.nan)
    for i, (_, _, middle, square, _) in enumerate(found):
        mean[i, : middle.size], variance[i, : square.size] = middle, square
    return Contents(
        np.array([call[0] for call in found], np.int64),
        np.array([call[1] for call in found], np.int64),
        mean,
        variance,
        np.array([call[4] for call in found], np.float64),
    )


def _chosen(units: int) -> np.ndarray:
    """Which of so many units are looked at."""
    return np.arange(min(units, UNITS)) * units // min(units, UNITS)


def _distinct(values: np.ndarray) -> float:
    """Largest share of different rows among blocks of units that were sampled together."""
    blocks = range(0, values.shape[1], BLOCK)
    return max(len(np.unique(values[:, b : b + BLOCK], axis=0)) for b in blocks) / len(values)
