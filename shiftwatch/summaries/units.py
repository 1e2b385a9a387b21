"""Per-unit statistics: mean, variance and activity of every channel or feature.

Layers differ in width, so the units of many sites lie in one flat array, and ``starts``
says where each site begins; reductions from units to sites are one call for all sites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Units:
    """Units (channels, features) of all sites, laid end to end.

    Args:
        starts: int64[sites + 1], first unit of each site; the last entry is the number of units.
        shape: leading shape of the sites, ``()`` for a single one.
        count: int64[units], finite values seen per unit.
        mean: float64[units].
        m2: float64[units], sum of squared distances to the unit's mean.
        active: int64[units], values outside the flat part of the activation
            (for a layer without activation: values other than zero).
        silent: int64[units], values of the calls since the last one in which the unit was
            active, at the end of the window. Within a call values have no order.

    Laws: as of ``Moments``; ``silent`` is associative but not commutative: it knows
    which window came last.
    """

    starts: np.ndarray
    shape: tuple[int, ...]
    count: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    active: np.ndarray
    silent: np.ndarray

    def __add__(self, other: Units) -> Units:
        if not np.array_equal(self.starts, other.starts):
            raise ValueError(
                "Units merge only over the same layers and widths; got "
                f"{np.diff(self.starts).tolist()} and {np.diff(other.starts).tolist()} units. "
                "Summarize both windows with the same units_axis."
            )
        n = self.count + other.count
        with np.errstate(over="ignore", invalid="ignore"):  # squares of 1e154 and more
            delta = other.mean - self.mean
            step = delta * (other.count / np.maximum(n, 1))
            m2 = self.m2 + other.m2 + delta * step * self.count
        return Units(
            starts=self.starts,
            shape=self.shape,
            count=n,
            mean=self.mean + step,
            m2=m2,
            active=self.active + other.active,
            silent=np.where(other.active > 0, other.silent, self.silent + other.count),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Units]) -> Units:
        """Units of the sites of all parts, in order."""
        widths = np.concatenate([np.diff(p.starts) for p in parts])
        names = ("count", "mean", "m2", "active", "silent")
        return cls(
            np.concatenate([[0], np.cumsum(widths)]),
            (widths.size,),
            *(np.concatenate([getattr(p, name) for p in parts]) for name in names),
        )

    @cached_property
    def variance(self) -> np.ndarray:
        """Population variance of every unit: float64[units]; NaN without values."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.m2 / self.count)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum over the units of each site: float64[...]."""
        return self._reduce(np.add, values.astype(float), 0.0)

    def average(self, values: np.ndarray) -> np.ndarray:
        """Mean over the units of each site, leaving out NaN: float64[...]; NaN where none is left."""
        known = ~np.isnan(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.total(np.where(known, values, 0.0)) / self.total(known)

    def largest(self, values: np.ndarray) -> np.ndarray:
        """Largest over the units of each site, leaving out NaN: float64[...]; NaN where none is left."""
        top = self._reduce(np.maximum, np.where(np.isnan(values), -np.inf, values), -np.inf)
        return np.where(np.isneginf(top), np.nan, top)

    def _reduce(self, operation: np.ufunc, values: np.ndarray, nothing: float) -> np.ndarray:
        result = np.full(self.starts.size - 1, nothing)
        wide = np.flatnonzero(np.diff(self.starts))  # reduceat misreads an empty segment
        if wide.size:
            result[wide] = operation.reduceat(values, self.starts[wide])
        return result.reshape(self.shape)
