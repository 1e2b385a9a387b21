"""Summary: all that is kept of a window's values, at a size that does not grow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

import numpy as np

from shiftwatch.summaries.histogram import Histogram
from shiftwatch.summaries.moments import Moments
from shiftwatch.summaries.units import Units


@dataclass(frozen=True)
class Tallies:
    """Values counted by what they are.

    Args:
        zero: int64[...], exact zeros.
        nan, posinf, neginf: int64[...], non-finite values; no other field knows them.
        subnormal: int64[...], values other than zero under the smallest normal number
            of the tensor's own type.
        flat: int64[...], values in the flat part of the activation.
    """

    zero: np.ndarray
    nan: np.ndarray
    posinf: np.ndarray
    neginf: np.ndarray
    subnormal: np.ndarray
    flat: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, ...] = ()) -> Tallies:
        """No values counted yet, for sites of the given shape."""
        return cls(*(np.zeros(shape, np.int64) for _ in fields(cls)))

    def __add__(self, other: Tallies) -> Tallies:
        names = (f.name for f in fields(self))
        return Tallies(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True)
class Summary:
    """One window of one site, or of many sites at once (the leading axes).

    Summaries merge: two halves of a window, the ranks of a job or ten old windows are
    ``a + b``. Counts and histograms merge exactly, moments to rounding.

    Args:
        moments: count, mean, central moments, range.
        tallies: zeros, non-finite, subnormal and flat values.
        histogram: counts on the fixed bins.
        units: per-unit statistics; ``None`` where they were not kept (saved windows).
        bounded: bool[...], whether the site has an activation that can be flat; else
            ``tallies.flat`` says nothing.

    Example:
        >>> from shiftwatch import summarize
        >>> a, b = summarize([1.0, 2.0]), summarize([3.0])
        >>> int((a + b).count), float((a + b).mean)
        (3, 2.0)
    """

    moments: Moments
    tallies: Tallies
    histogram: Histogram
    bounded: np.ndarray
    units: Units | None = None

    @classmethod
    def empty(cls, shape: tuple[int, ...] = ()) -> Summary:
        """Summary of no values, without units; the neutral element of ``+`` where units are None."""
        return cls(
            Moments.empty(shape),
            Tallies.empty(shape),
            Histogram.empty(shape),
            np.zeros(shape, bool),
        )

    def __add__(self, other: Summary) -> Summary:
        if self.shape != other.shape:
            raise ValueError(
                f"Summaries merge over the same sites; got shapes {self.shape} and {other.shape}. "
                "Pad the shorter with Summary.empty."
            )
        units = None
        if self.units is not None and other.units is not None:
            units = self.units + other.units
        return Summary(
            moments=self.moments + other.moments,
            tallies=self.tallies + other.tallies,
            histogram=self.histogram + other.histogram,
            bounded=self.bounded | other.bounded,
            units=units,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes: ``()`` for one site, ``(sites,)`` for many."""
        return self.moments.count.shape

    @property
    def count(self) -> np.ndarray:
        """Number of finite values: int64[...]."""
        return self.moments.count

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean of the finite values: float64[...]; NaN where there is none."""
        return np.asarray(np.where(self.count > 0, self.moments.mean, np.nan))

    @cached_property
    def variance(self) -> np.ndarray:
        """Population variance of the finite values: float64[...]; NaN where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(self.count > 0, self.moments.m2 / self.count, np.nan))

    @cached_property
    def std(self) -> np.ndarray:
        """Population standard deviation: float64[...], in the tensor's units."""
        return np.asarray(np.sqrt(self.variance))

    @cached_property
    def rms(self) -> np.ndarray:
        """Root mean square: float64[...], in the tensor's units."""
        return np.asarray(np.hypot(self.std, self.mean))

    @property
    def nonfinite(self) -> np.ndarray:
        """Number of NaN and Inf: int64[...]."""
        return self.tallies.nan + self.tallies.posinf + self.tallies.neginf

    @property
    def size(self) -> np.ndarray:
        """Number of all values, finite or not: int64[...]."""
        return self.count + self.nonfinite

    def __getitem__(self, sites: int | slice | np.ndarray) -> Summary:
        """Summary of some of the sites (first leading axis), without units."""
        if not self.shape:
            raise TypeError("This summary is of one site and has no sites to choose from.")
        return Summary(
            moments=_each(lambda field: field[sites], self.moments),
            tallies=_each(lambda field: field[sites], self.tallies),
            histogram=_each(lambda field: field[sites], self.histogram),
            bounded=self.bounded[sites],
        )

    @classmethod
    def concatenate(cls, summaries: Sequence[Summary]) -> Summary:
        """Many sites from several summaries of shape (sites,), in order."""
        units = [s.units for s in summaries if s.units is not None]
        return cls(
            moments=_each(_joined, *(s.moments for s in summaries)),
            tallies=_each(_joined, *(s.tallies for s in summaries)),
            histogram=_each(_joined, *(s.histogram for s in summaries)),
            bounded=_joined(*(s.bounded for s in summaries)),
            units=Units.concatenate(units) if len(units) == len(summaries) else None,
        )

    def padded(self, sites: int) -> Summary:
        """The same summary with empty sites at the end, ``sites`` in all, without units."""
        missing = sites - self.shape[0]
        if missing <= 0:
            return self
        return Summary.concatenate([self, Summary.empty((missing,))])


_Group = TypeVar("_Group", Moments, Tallies, Histogram)


def _each(function: Callable[..., np.ndarray], *groups: _Group) -> _Group:
    """A group of arrays from the groups' corresponding ones."""
    names = (f.name for f in fields(groups[0]))
    return type(groups[0])(*(function(*(getattr(g, name) for g in groups)) for name in names))


def _joined(*arrays: np.ndarray) -> np.ndarray:
    return np.concatenate(arrays)
