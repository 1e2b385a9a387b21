"""Lines: recorded calls as rows of one table, and the passes that summarize each of them.

A line holds the values of one call of one site. Whatever their sites' geometries, lines of
equal length lie in one table [lines, values], so a pass costs one NumPy call for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.summaries._scratch import scratch
from shiftwatch.summaries.moments import Moments

# Exponents of two between which the fourth power of a distance stays well within float32.
_LOW, _HIGH = -20, 20
# Sums of squares between which float32 has lost nothing, neither above nor below.
_LEAST, _MOST = 1e-25, 1e25


@dataclass(frozen=True)
class Finite:
    """Lines with all that is no finite value set to 0.

    Args:
        x: [lines, values].
        mask: bool[lines, values], which are real; ``None`` if all are.
        count: int64[lines], how many are.
        low, high: float64[lines], their range; ``inf`` and ``-inf`` where there is none.
    """

    x: np.ndarray
    mask: np.ndarray | None
    count: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Distances(NamedTuple):
    """Lines about a centre of their own. The arrays are scratch: gone with the next lines.

    Attributes:
        centre: float64[lines], near the mean, exact in the values' type.
        distance, square: [lines, values], ``(x - centre) * 2^lift`` and its square.
        lift: int64[lines], 0 but where distances are tiny: powers of two cost no digits.
    """

    centre: np.ndarray
    distance: np.ndarray
    square: np.ndarray
    lift: np.ndarray

    def lowered(self, sums: np.ndarray, power: int) -> np.ndarray:
        """Sums [lines, ...] of a power of the distances, without the lift."""
        if not self.lift.any():
            return sums
        back = -power * self.lift.reshape(-1, *[1] * (sums.ndim - 1))
        return np.asarray(np.ldexp(sums.astype(np.float64), back))


def finite(x: np.ndarray, filled: np.ndarray | None = None) -> Finite:
    """The real values of lines [lines, values]; lines that are not filled have none."""
    if filled is None or filled.all():
        filled = None
        low, high = x.min(1, initial=np.inf), x.max(1, initial=-np.inf)
        if (np.isfinite(low) & np.isfinite(high)).all():
            count = np.full(len(x), x.shape[1])
            return Finite(x, None, count, low.astype(np.float64), high.astype(np.float64))
    mask = np.isfinite(x)
    if filled is not None:
        mask &= filled[:, None]
    low = np.where(mask, x, np.inf).min(1, initial=np.inf).astype(np.float64)
    high = np.where(mask, x, -np.inf).max(1, initial=-np.inf).astype(np.float64)
    return Finite(np.where(mask, x, 0), mask, np.count_nonzero(mask, axis=1), low, high)


def nonfinite(
    x: np.ndarray, filled: np.ndarray | None, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NaN, +Inf and -Inf of each line: int64[lines]."""
    none = np.zeros(len(x), np.int64)
    if mask is None:
        return none, none, none
    kinds = np.isnan(x), x == np.inf, x == -np.inf
    real = 1 if filled is None else filled
    nan, plus, minus = (np.count_nonzero(kind, axis=1) * real for kind in kinds)
    return nan, plus, minus


def distances(values: Finite) -> Distances:
    """Distances of lines to a centre near their means, and their squares."""
    x, low, high = values.x, values.low, values.high
    centre = _centre(values)
    reach = np.where(low <= high, np.maximum(high - centre, centre - low), 0.0)
    exponent = np.frexp(reach)[1]
    if x.dtype == np.float32 and (exponent > _HIGH).any():
        x = x.astype(np.float64)
    distance, square = scratch(x.shape, x.dtype, x.dtype)
    np.subtract(x, centre.astype(x.dtype)[:, None], out=distance)
    lift = np.where(exponent < _LOW, np.minimum(-exponent, 126), 0)
    if lift.any():
        distance *= np.ldexp(np.ones(1, x.dtype), lift)[:, None]
    if values.mask is not None:
        distance *= values.mask
    np.multiply(distance, distance, out=square)
    return Distances(centre, distance, square, lift)


def moments(values: Finite, about: Distances) -> Moments:
    """Moments of each line: shape (lines,)."""
    n = values.count
    _, d, d2, _ = about
    ones = np.ones(d.shape[1], d.dtype)
    s1, s2, s3, s4 = (
        about.lowered(dots(a, b), power + 1).astype(np.float64)
        for power, (a, b) in enumerate(((d, ones), (d, d), (d, d2), (d2, d2)))
    )
    delta = np.where(n > 0, s1 / n, 0.0)
    return Moments(
        count=n,
        mean=np.where(n > 0, about.centre + delta, 0.0),
        m2=np.maximum(s2 - delta * s1, 0),
        m3=s3 - delta * (3 * s2 - 2 * delta * s1),
        m4=np.maximum(s4 - delta * (4 * s3 - delta * (6 * s2 - 3 * delta * s1)), 0),
        min=values.low,
        max=values.high,
    )


def brief(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation of lines that need nothing else.

    Returns:
        float64[lines] twice; and bool[lines], where they may be relied on: not where a value
        is not finite, where all are equal, or where squares leave the range of float32.

    Cost: three passes, a third of :func:`moments`.
    """
    (distance,) = scratch(x.shape, x.dtype)
    np.subtract(x, x[:, :1], out=distance)
    n = x.shape[1]
    s1 = dots(distance, np.ones(n, x.dtype)).astype(np.float64) / n
    s2 = dots(distance, distance).astype(np.float64)
    return (
        x[:, 0] + s1,
        np.sqrt(np.maximum(s2 / n - s1 * s1, 0)),
        (s2 >= _LEAST) & (s2 <= _MOST),
    )


def dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products of lines [lines, values] with as many others, or with one.

    BLAS adds faster, and in better order, than ``sum``; line by line it starts no threads.
    """
    return np.asarray((a[:, None, :] @ b[..., None])[:, 0, 0])


def pooled(line: Moments, site: np.ndarray, number: int) -> Moments:
    """Moments of each site from those of its lines: Moments' ``+``, in one go.

    Args:
        line: shape (lines,).
        site: int64[lines], below ``number``.
    """

    def added(values: np.ndarray) -> np.ndarray:
        return np.bincount(site, values, number)

    n, some = line.count, line.count > 0
    total = added(n)
    base = np.zeros(number)  # from one of the means, so that equal ones stay as they are
    base[site[some]] = line.mean[some]
    mean = base + added(n * (line.mean - base[site])) / np.maximum(total, 1)
    d = np.where(some, line.mean - mean[site], 0.0)
    between = d * d * n
    low, high = np.full(number, np.inf), np.full(number, -np.inf)
    np.minimum.at(low, site, line.min)
    np.maximum.at(high, site, line.max)
    return Moments(
        count=total.astype(np.int64),
        mean=mean,
        m2=added(line.m2 + between),
        m3=added(line.m3 + d * (3 * line.m2 + between)),
        m4=added(line.m4 + d * (4 * line.m3 + d * (6 * line.m2 + between))),
        min=low,
        max=high,
    )


def _centre(values: Finite) -> np.ndarray:
    """Each line's mean, or nearly: exact in the values' type, float64[lines]."""
    x, low, high = values.x, values.low, values.high
    total = dots(x, np.ones(x.shape[1], x.dtype)).astype(np.float64)
    # Between the extremes, so that equal values are all at distance 0.
    mean = np.clip(np.nan_to_num(total / np.maximum(values.count, 1)), low, high)
    return np.where(low <= high, mean, 0.0).astype(x.dtype).astype(np.float64)
