"""What the divergences share: sums over bins and their null, sample sizes, a unit of length."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from shiftwatch.summaries.histogram import BINS
from shiftwatch.summaries.summary import Summary

# What float32 can tell apart, relative to the size of a value.
ROUNDING = float(np.finfo(np.float32).eps)

# What one bin adds to a divergence, from its share in the current and the reference window.
Term = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Bins with up to this many values in both windows together get their exact null.
_FEW = 16
_SPLIT = np.arange(_FEW + 1)  # of a bin's values, those in the current window,
_REST = np.maximum(_SPLIT[:, None] - _SPLIT, 0)  # and by their total, those in the reference


def _choose() -> np.ndarray:
    """Pascal's triangle: float64[few + 1, few + 1], 0 above the diagonal."""
    table = np.zeros((_FEW + 1, _FEW + 1))
    table[:, 0] = 1.0
    for row in range(1, _FEW + 1):
        table[row, 1:] = table[row - 1, 1:] + table[row - 1, :-1]
    return table


_CHOOSE = _choose()


class Pair:
    """Two windows side by side: what several divergences need, computed once.

    Args:
        current, reference: of one shape.
    """

    def __init__(self, current: Summary, reference: Summary) -> None:
        self.a, self.b = (s.histogram.counts.reshape(-1, BINS) for s in (current, reference))
        self.n, self.m = (np.ravel(s.count) for s in (current, reference))
        self.shape = current.shape
        self.pooled = self.a + self.b
        self._shares: dict[float, tuple[np.ndarray, np.ndarray]] = {}

    @cached_property
    def occupied(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bins that either window occupies, all sites in a row: both counts, and the site."""
        here = self.pooled > 0
        site = np.repeat(np.arange(len(here)), np.count_nonzero(here, axis=1))
        return self.a[here], self.b[here], site

    def sizes(self, added: float) -> tuple[np.ndarray, np.ndarray]:
        """Values of each site with ``added`` in each occupied bin, at least 1."""
        extra = added * np.bincount(self.occupied[2], minlength=len(self.a)) if added else 0
        return np.maximum(self.n + extra, 1.0), np.maximum(self.m + extra, 1.0)

    def shares(self, added: float) -> tuple[np.ndarray, np.ndarray]:
        """Share of each occupied bin in either window, with ``added`` values in each."""
        if added not in self._shares:
            a, b, row = self.occupied
            n, m = self.sizes(added)
            self._shares[added] = (a + added) / n[row], (b + added) / m[row]
        return self._shares[added]

    def per_site(self, terms: np.ndarray) -> np.ndarray:
        """Sum of terms of the occupied bins: float64[...]; NaN where a window is empty."""
        total = np.bincount(self.occupied[2], weights=terms, minlength=len(self.a))
        known = (self.n > 0) & (self.m > 0)
        return np.where(known, np.maximum(total, 0.0), np.nan).reshape(self.shape)

    @cached_property
    def span(self) -> slice:
        """Bins from the first occupied one to the last, over all sites."""
        used = np.flatnonzero(self.pooled.any(0))
        return slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1)

    @cached_property
    def gap(self) -> np.ndarray:
        """Distance of the distribution functions at the upper edges of the bins of ``span``."""
        n, m = (c.sum(1, dtype=np.float64)[:, None] for c in (self.a, self.b))
        # a/n - b/m times n m: whole numbers as they are, so equal windows differ by 0 exactly.
        gap = self.a[:, self.span] * m
        gap -= self.b[:, self.span] * n
        np.abs(np.cumsum(gap, axis=1, out=gap), out=gap)
        with np.errstate(invalid="ignore"):
            gap /= n * m
        return gap


_pairs = threading.local()


def paired(current: Summary, reference: Summary) -> Pair:
    """The windows side by side; those of the last call are remembered while they live."""
    known: tuple[Any, Any, Pair] | None = getattr(_pairs, "latest", None)
    if known is not None and known[0]() is current and known[1]() is reference:
        return known[2]
    pair = Pair(current, reference)
    _pairs.latest = weakref.ref(current, _forget), weakref.ref(reference, _forget), pair
    return pair


def _forget(_: object) -> None:
    _pairs.latest = None


def over_bins(term: Term, current: Summary, reference: Summary, added: float = 0.0) -> np.ndarray:
    """Sum of a term over the bins that either window occupies: float64[...].

    ``added`` values go into each of those bins of both windows. NaN where a window is empty.
    """
    pair = paired(current, reference)
    return pair.per_site(term(*pair.shares(added)))


def by_chance(
    term: Term, curvature: float, current: Summary, reference: Summary, added: float = 0.0
) -> np.ndarray:
    """Expected :func:`over_bins` if both windows were dealt from their pooled values: float64[...].

    A bin of t pooled values holds a binomial share of them in the current window. For
    large t it adds ``curvature * (1/n + 1/m)`` on average, all bins together the textbook's
    ``(K - 1)`` times that. But logarithmic bins end in tails of few values, where that is
    wrong by 20 to 40 %: up to 16 values the mean is summed exactly, beyond that it goes
    over into the limit as 1/t.
    """
    pair = paired(current, reference)
    (a, b, row), (n, m) = pair.occupied, pair.sizes(added)
    limit = curvature * np.ravel(inverse_sizes(current, reference))
    pooled = np.ravel(current.count + reference.count)
    with np.errstate(invalid="ignore"):
        share = (np.ravel(current.count) / pooled)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = term((_SPLIT + added) / n[:, None, None], (_REST + added) / m[:, None, None])
    ours, theirs = share**_SPLIT, (1 - share) ** _SPLIT
    chances = _CHOOSE * ours[:, None] * theirs[:, _REST]  # [sites, few + 1, few + 1]
    few = np.sum(np.where(_CHOOSE > 0, chances * terms, 0.0), axis=-1)  # [sites, few + 1]
    t = a + b
    mean = limit[row] + (few[row, np.minimum(t, _FEW)] - limit[row]) * _FEW / np.maximum(t, _FEW)
    return pair.per_site(mean * (1 - t / pooled[row]))


def inverse_sizes(current: Summary, reference: Summary) -> np.ndarray:
    """``1/n + 1/m``, the scale of all sampling noise: float64[...]; NaN where one is empty."""
    with np.errstate(divide="ignore"):
        f = 1 / current.count + 1 / reference.count
    return np.where(np.isfinite(f), f, np.nan)


def cumulative(counts: np.ndarray) -> np.ndarray:
    """Distribution function at the upper edge of each bin but the last: float64[..., bins - 1].

    Counts are added and not shares, so it is 1 exactly beyond the largest value. NaN where
    there is no value.
    """
    running = np.cumsum(counts, axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(running[..., :-1] / running[..., -1:])


def scale(current: np.ndarray, reference: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """One reference standard deviation, or what stands for it where the reference has none.

    Args:
        current, reference: root mean squares of the two windows.
        spread: standard deviation of the reference.

    Returns:
        ``spread``; where that is under the rounding of the reference's values (constant
        values: weights of a fresh normalisation, biases) the reference's root mean square,
        so a shift is read as a relative change; where that is zero too, the current one;
        and 1 where both windows hold nothing but zeros. Always positive and finite, or NaN.
    """
    length = np.where(spread > ROUNDING * reference, spread, reference)
    length = np.where(length == 0, current, length)
    return np.where(length == 0, 1.0, length)
