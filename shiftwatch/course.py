"""Course: how every site looked at every step, measured as the steps end.

Histograms need whole samples and can wait; that something changed must not. So each step's
newest samples are reduced to four numbers a site at once, whatever is kept of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shiftwatch.summaries.lines import brief


class Readings(NamedTuple):
    """Four numbers of each call, or of each site and step.

    Attributes:
        n: float64[...], finite values; 0 where not seen.
        mean, std: float64[...]; NaN where there is no finite value.
        nonfinite: float64[...], number of NaN and Inf.
    """

    n: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    nonfinite: np.ndarray


def read(lines: np.ndarray) -> Readings:
    """Readings of calls: [lines, values] to float64[lines].

    Cost: three passes, 0.4 ns per value; lines that hold NaN, Inf or a single value
    throughout are read again with more care, at ten times that.

    Example:
        >>> read(np.array([[1.0, 3.0], [np.nan, 5.0]])).mean
        array([2., 5.])
    """
    with np.errstate(all="ignore"):
        mean, std, known = brief(lines)
        number = np.full(len(lines), float(lines.shape[1]))
        bad = np.zeros(len(lines))
        if not known.all():
            unsure = np.flatnonzero(~known)
            x = lines[unsure].astype(np.float64)
            finite = np.isfinite(x)
            n = np.count_nonzero(finite, axis=1)
            bad[unsure], number[unsure] = x.shape[1] - n, n
            x[~finite] = 0.0
            centre = x.sum(1) / n
            x = np.where(finite, x - centre[:, None], 0.0)
            mean[unsure] = centre
            std[unsure] = np.sqrt(np.einsum("ij,ij->i", x, x) / n)
    return Readings(number, mean, std, bad)


class Course:
    """Readings of all sites at every step, until they are taken.

    Example:
        >>> course = Course()
        >>> course.begin(steps=2, sites=2)
        >>> course.add(np.array([0, 1]), np.array([1, 1]), np.array([[1.0, 3.0], [4.0, 6.0]]))
        >>> course.take(2).mean
        array([[nan,  2.],
               [nan,  5.]])
    """

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []  # float64[4, steps, sites]

    def begin(self, steps: int, sites: int) -> None:
        """Some steps have ended; their readings follow."""
        self._parts.append(_unseen(steps, sites))

    def add(self, time: np.ndarray, columns: np.ndarray, lines: np.ndarray) -> None:
        """Calls of the newest steps.

        Args:
            time: int64[lines], which of the steps begun last.
            columns: int64[lines], their sites; -1 for those to leave out. None twice in a step.
            lines: [lines, values].
        """
        new = np.array(read(lines))
        if columns.size and int(columns.min()) < 0:
            known = columns >= 0
            new, time, columns = new[:, known], time[known], columns[known]
        part = self._parts[-1]
        old = part[:, time, columns]
        if old[0].any() or old[3].any():
            new = _pooled(old, new)
        part[:, time, columns] = new

    def take(self, sites: int) -> Readings:
        """All steps, float64[T, sites], for so many sites; and start anew."""
        parts = [
            np.concatenate([p, _unseen(p.shape[1], sites - p.shape[2])], axis=2)
            if p.shape[2] < sites
            else p
            for p in self._parts
        ]
        self._parts = []
        return Readings(*(np.concatenate(parts, axis=1) if parts else _unseen(0, sites)))


def _unseen(steps: int, sites: int) -> np.ndarray:
    table = np.full((4, steps, sites), np.nan)
    table[0], table[3] = 0.0, 0.0
    return table


def _pooled(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Two calls in one step: float64[4, lines]."""
    n = a[0] + b[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(n > 0, b[0] / n, 0.0)
        old, new = np.nan_to_num(a), np.nan_to_num(b)
        step = new[1] - old[1]
        mean = old[1] + share * step
        variance = (1 - share) * old[2] ** 2 + share * new[2] ** 2 + share * (1 - share) * step**2
    nothing = np.where(n > 0, 0.0, np.nan)
    return np.stack([n, mean + nothing, np.sqrt(variance) + nothing, a[3] + b[3]])
