"""Dead units: which of them are dead at the end of windows, a bit for each, of sites where any is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Dead:
    """The dead units of consecutive windows, site by site.

    A site that is not named has no dead unit in any of the windows, or nobody knows of one.

    Args:
        windows: how many.
        sites: int64[2, n], columns, ascending, and how many units each has.
        bits: uint8[any], of each site the windows in order, of each window a bit per unit in
            whole bytes, as ``np.packbits`` lays them.

    Example:
        >>> early = Dead.of(np.array([False, True, True]), np.array([0, 1, 3]), np.array([4, 7]))
        >>> early.sites.tolist(), early.bits.tolist()
        ([[7], [2]], [192])
        >>> both = stacked([Dead.none(), early])
        >>> both.site(7).tolist(), both.site(4).shape
        ([[False, False], [True, True]], (2, 0))
    """

    windows: int
    sites: np.ndarray
    bits: np.ndarray

    @classmethod
    def none(cls, windows: int = 1) -> Dead:
        """No unit of any site."""
        return cls(windows, np.zeros((2, 0), np.int64), np.zeros(0, np.uint8))

    @classmethod
    def of(cls, dead: np.ndarray, starts: np.ndarray, columns: np.ndarray) -> Dead:
        """One window.

        Args:
            dead: bool[units], those of all sites end to end.
            starts: int64[sites + 1], first unit of each site.
            columns: int64[sites], ascending.

        Cost: a look for the first dead unit where there is none.
        """
        if not dead.any():
            return cls.none()
        widths = np.diff(starts)
        room = np.repeat(starts[1:], -widths % 8)  # every site fills its last byte
        return _named(np.array([columns, widths]), np.packbits(np.insert(dead, room, False)))

    def site(self, column: int) -> np.ndarray:
        """One site: bool[windows, units]; no units where it is not named."""
        found = np.flatnonzero(self.sites[0] == column)
        if not found.size:
            return np.zeros((self.windows, 0), bool)
        (place,) = found.tolist()
        return np.unpackbits(self.packed(place), axis=1, count=int(self.sites[1, place])) > 0

    def packed(self, place: int) -> np.ndarray:
        """The bits of the site in some place of ``sites``: uint8[windows, bytes]."""
        start, size = self._starts[place], self._sizes[place]
        return self.bits[start : start + size * self.windows].reshape(self.windows, size)

    def taken(self, windows: np.ndarray) -> Dead:
        """Some of the windows: int64[any]."""
        kept = [self.packed(place)[windows].ravel() for place in range(self._sizes.size)]
        return Dead(windows.size, self.sites, np.concatenate([self.bits[:0], *kept]))

    def each(self) -> Iterator[Dead]:
        """Every window alone, of sites where a unit of its own is dead."""
        for window in range(self.windows):
            yield _named(
                self.sites, self.bits[_runs(self._starts + window * self._sizes, self._sizes)]
            )

    @cached_property
    def _sizes(self) -> np.ndarray:
        """Bytes of one window: int64[n]."""
        return -(-self.sites[1].astype(np.int64) // 8)

    @cached_property
    def _starts(self) -> np.ndarray:
        """First byte of each site: int64[n]."""
        return _firsts(self._sizes) * self.windows


def stacked(windows: Sequence[Dead]) -> Dead:
    """Single windows one behind the other; of a site whose width changed the largest counts."""
    known = np.concatenate([np.zeros((2, 0), np.int64), *(w.sites for w in windows)], axis=1)
    columns, place = np.unique(known[0], return_inverse=True)
    widths = np.zeros(columns.size, np.int64)
    np.maximum.at(widths, place, known[1])
    both = Dead(len(windows), np.array([columns, widths]), np.zeros(0, np.uint8))
    bits = np.zeros(both._sizes.sum() * len(windows), np.uint8)
    for number, one in enumerate(windows):
        at = np.searchsorted(columns, one.sites[0])
        bits[_runs(both._starts[at] + number * both._sizes[at], one._sizes)] = one.bits
    return Dead(len(windows), both.sites, bits)


def _named(sites: np.ndarray, bits: np.ndarray) -> Dead:
    """One window, of the sites where a unit is dead."""
    every = Dead(1, sites, bits)
    before = np.concatenate([[0], np.cumsum(bits > 0)])
    some = before[every._starts + every._sizes] > before[every._starts]
    return Dead(1, sites[:, some], bits[np.repeat(some, every._sizes)])


def _firsts(sizes: np.ndarray) -> np.ndarray:
    """Where each of some stretches begins that lie end to end: int64[n]."""
    return np.cumsum(sizes) - sizes


def _runs(first: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Indices of stretches, one behind the other: int64[sum of sizes].

    Example:
        >>> _runs(np.array([10, 3]), np.array([2, 3])).tolist()
        [10, 11, 3, 4, 5]
    """
    return np.repeat(first - _firsts(sizes), sizes) + np.arange(int(sizes.sum()))
