"""Contents: what a model's input holds, unit by unit, beyond its overall distribution.

Pixels in another order, batches of one class, the same few samples again and again: the histogram
of all values knows nothing of it, but the mean of each unit does, and how many samples differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
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
        mean, variance: float64[calls, UNITS], within each unit; NaN beyond the last one, and of ids.
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

    Cost: some passes over the sample of 2,048 values, 40 µs per call.

    Example:
        >>> values = np.array([[[[1.0, 5.0], [3.0, 5.0], [1.0, 5.0]]]])
        >>> seen = contents([Group(np.array([4]), values, np.array([[7]]))], 4)
        >>> seen.mean[0, :2].round(2).tolist(), seen.distinct.tolist()
        ([1.67, 5.0], [0.6666666666666666])
    """
    steps, positions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    mean, variance = [np.zeros((0, UNITS))], [np.zeros((0, UNITS))]
    distinct = [np.zeros(0)]
    for group in groups:
        for place in np.flatnonzero(group.sites == column).tolist():
            rows = np.flatnonzero(group.steps[:, place] >= 0)
            values = group.values[rows, place]
            values = np.where(np.isfinite(values), values, 0.0)
            looked_at = _chosen(0 if group.ids else values.shape[-1])
            some = values[..., looked_at].astype(np.float64)
            steps.append(group.steps[rows, place])
            positions.append(np.full(rows.size, values.shape[1]))
            mean.append(_wide(some.mean(1)))
            variance.append(_wide(some.var(1)))
            distinct.append(_distinct(values))
    order = np.argsort(np.concatenate(steps), kind="stable")
    return Contents(
        *(np.concatenate(part)[order] for part in (steps, positions, mean, variance, distinct))
    )


def _wide(rows: np.ndarray) -> np.ndarray:
    """Rows of UNITS, NaN beyond their last value."""
    missing = UNITS - rows.shape[1]
    return np.pad(rows, ((0, 0), (0, missing)), constant_values=np.nan)


def _chosen(units: int) -> np.ndarray:
    """Which of so many units are looked at."""
    return np.arange(min(units, UNITS)) * units // max(min(units, UNITS), 1)


def _distinct(values: np.ndarray) -> np.ndarray:
    """Largest share of different rows among blocks of units that were sampled together.

    Args:
        values: float[calls, positions, units].

    Rows are compared by a sum of their bits, each unit's times an odd number of its own: rows
    that differ have the same sum once in 10^19.
    """
    bits = (values.astype(np.float64) + 0.0).view(np.uint64)  # -0 is 0
    mixed = (bits ^ (bits >> np.uint64(29))) * _odd(values.shape[2])
    starts = np.arange(0, values.shape[2], BLOCK)
    sums = np.sort(np.add.reduceat(mixed, starts, axis=2), axis=1)
    different = 1 + np.count_nonzero(sums[:, 1:] != sums[:, :-1], axis=1)
    return np.asarray(different.max(1) / values.shape[1])


@cache
def _odd(number: int) -> np.ndarray:
    """Odd numbers, the same every time: uint64[number]."""
    drawn = np.random.default_rng(0).integers(0, 2**63, number, dtype=np.uint64)
    return np.asarray(2 * drawn + np.uint64(1))
