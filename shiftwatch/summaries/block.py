"""Block: raw samples of many sites of one width, and the pass that summarizes them.

This is the hot path of the whole library: everything shiftwatch knows of a tensor comes
from here. The number of NumPy calls does not depend on the number of sites or steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shiftwatch.activations import Flat
from shiftwatch.summaries._scratch import scratch
from shiftwatch.summaries.histogram import CENTRES, ZERO_BIN, Histogram, count_bins
from shiftwatch.summaries.moments import Moments
from shiftwatch.summaries.summary import Summary, Tallies
from shiftwatch.summaries.units import Units

# Exponents of two between which the fourth power of a distance stays well within float32.
_LOW, _HIGH = -20, 20
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Block:
    """Samples of sites that share a geometry, one row per recorded call.

    Args:
        values: float32 or float64[rows, sites, positions, units].
        filled: bool[rows, sites]; a row that is not filled is ignored.
        flat: where each site's activation is flat; ``None`` where no site has one.
        tiny: smallest normal number of each site's own type, float64[sites];
            by default float32's.
    """

    values: np.ndarray
    filled: np.ndarray
    flat: Flat | None = None
    tiny: np.ndarray | None = None


@dataclass(frozen=True)
class Rows:
    """What one recorded call looked like, for detectors that read every step.

    Args:
        count: float64[rows, sites], finite values; 0 where the row is not filled.
        mean, std: float64[rows, sites], NaN where there is no finite value.
        nonfinite: float64[rows, sites], number of NaN and Inf.
        flat: float64[rows, sites], share of values in the flat part; NaN without activation.
        spread: float64[rows, sites], mean over units of the standard deviation within a
            unit; how far samples differ from each other.
    """

    count: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    nonfinite: np.ndarray
    flat: np.ndarray
    spread: np.ndarray


def measure(block: Block) -> tuple[Summary, Rows]:
    """Summary of every site over all rows, and the course over the rows.

    Returns:
        A Summary of shape (sites,) with units, and its Rows.

    Cost: a dozen passes over the values and one count, in the values' own precision, with
    sums over rows carried in float64; a constant number of calls whatever the number of
    sites and rows. About 5 ns per value where all are filled and finite, a third of it for the
    histogram; no temporary of the values' size is allocated.
    """
    x, mask, low, high = _finite_part(block)
    rows, sites, positions, width = x.shape
    zero_unit, flat_unit = _tally_flat(x, mask, block.flat, low)
    if mask is None:  # then every unit of every row has as many values
        n_unit = np.full((rows, sites, 1), positions, zero_unit.dtype)
        n_row = np.full((rows, sites), positions * width)
    else:
        n_unit = _tally(mask)
        n_row = n_unit.sum(-1, dtype=np.int64)
    centre, unit_sum, unit_square, cube, fourth = _powers(x, mask, low, high)
    sums = unit_sum.sum(-1), unit_square.sum(-1), cube, fourth
    row = _about_mean(n_row, centre, [s.astype(np.float64) for s in sums], low, high)
    moments = _over_rows(row)
    counts, small = count_bins(x, np.arange(sites)[:, None, None], sites)
    if mask is not None:  # what is masked reads as zero
        masked = rows * positions * width - moments.count
        counts[:, ZERO_BIN] -= masked
        small -= masked
    zero = zero_unit.sum((0, 2), dtype=np.int64)
    row_flat = flat_unit.sum(-1, dtype=np.int64)
    nan, posinf, neginf = _nonfinite(block, mask)
    bounded = block.flat is not None
    summary = Summary(
        moments=moments,
        tallies=Tallies(
            zero=zero,
            nan=nan,
            posinf=posinf,
            neginf=neginf,
            subnormal=_subnormal(counts, small, zero, block.tiny),
            flat=row_flat.sum(0) if bounded else np.zeros(sites, np.int64),
        ),
        histogram=Histogram(counts),
        bounded=np.full(sites, bounded),
        units=_units(n_unit, centre, moments.mean, unit_sum, unit_square, flat_unit),
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return summary, Rows(
            count=n_row.astype(np.float64),
            mean=np.where(n_row > 0, row.mean, np.nan),
            std=np.sqrt(row.m2 / n_row),
            nonfinite=np.where(block.filled, positions * width, 0.0) - n_row,
            flat=row_flat / n_row if bounded else np.full((rows, sites), np.nan),
            spread=_spread(n_unit, unit_sum, unit_square),
        )


def _finite_part(
    block: Block,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Values with all others set to 0, which are real (None if all are), and each row's range."""
    x = block.values
    if block.filled.all():
        low, high = x.min((2, 3), initial=np.inf), x.max((2, 3), initial=-np.inf)
        if (np.isfinite(low) & np.isfinite(high)).all():
            return x, None, low.astype(np.float64), high.astype(np.float64)
    mask = np.isfinite(x) & block.filled[..., None, None]
    low = np.where(mask, x, np.inf).min((2, 3), initial=np.inf)
    high = np.where(mask, x, -np.inf).max((2, 3), initial=-np.inf)
    return np.where(mask, x, 0), mask, low.astype(np.float64), high.astype(np.float64)


def _powers(
    x: np.ndarray, mask: np.ndarray | None, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A centre for each row, and sums of powers of the distance to it.

    Returns:
        float64[rows, sites], the centre, near the mean; the sums of distances and of their
        squares per unit, [rows, sites, units]; of cubes and fourth powers, [rows, sites].
    """
    rows, sites, positions, width = x.shape
    with np.errstate(all="ignore"):
        centre = _centre(x, mask, low, high)
        reach = np.where(low <= high, np.maximum(high - centre, centre - low), 0.0)
        exponent = np.frexp(reach.max(0, initial=0.0))[1]
        if x.dtype == np.float32 and (exponent > _HIGH).any():
            x = x.astype(np.float64)
        distance, square = scratch(x.shape, x.dtype, x.dtype)
        np.subtract(x, centre.astype(x.dtype)[..., None, None], out=distance)
        # A layer of tiny gradients beside others: powers of two in between cost no digits.
        lift = np.where(exponent < _LOW, np.minimum(-exponent, 126), 0)
        if lift.any():
            distance *= np.ldexp(np.ones(1, x.dtype), lift)[:, None, None]
        if mask is not None:
            distance *= mask
        np.multiply(distance, distance, out=square)
        # Products with ones and with itself: BLAS adds faster, and in better order, than reduce.
        ones = np.ones((1, positions), x.dtype)
        line, column = (rows, sites, 1, positions * width), (rows, sites, positions * width, 1)
        sums = [
            (ones @ distance)[:, :, 0],
            (ones @ square)[:, :, 0],
            (distance.reshape(line) @ square.reshape(column))[:, :, 0, 0],
            (square.reshape(line) @ square.reshape(column))[:, :, 0, 0],
        ]
        if lift.any():
            for power, total in enumerate(sums):
                back = -(power + 1) * lift.reshape(-1, *(1,) * (total.ndim - 2))
                sums[power] = np.ldexp(total.astype(np.float64), back)
    return centre, sums[0], sums[1], sums[2], sums[3]


def _centre(
    x: np.ndarray, mask: np.ndarray | None, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Mean of some hundred of each row's values, exact in the values' type: float64[rows, sites]."""
    step = max(1, x.shape[2] * x.shape[3] // 512)
    some = x[:, :, ::step]
    total = some.sum((2, 3), dtype=np.float64)
    number = some.shape[2] * some.shape[3] if mask is None else mask[:, :, ::step].sum((2, 3))
    # Between the extremes, so that equal values are all at distance 0.
    mean = np.clip(np.nan_to_num(total / number), low, high)
    return np.where(low <= high, mean, 0.0).astype(x.dtype).astype(np.float64)


def _tally(flags: np.ndarray) -> np.ndarray:
    """Number of flags per unit: uint8 or int64[rows, sites, units]."""
    narrow = flags.shape[2] < 256  # as many as one byte can count
    return np.einsum("rspu->rsu", flags.view(np.uint8), dtype=np.uint8 if narrow else np.int64)


def _tally_flat(
    x: np.ndarray, mask: np.ndarray | None, flat: Flat | None, low: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Zeros, and values in the flat part (zeros where nothing can be flat), per unit."""
    flags, more = scratch(x.shape, bool, bool)
    np.equal(x, 0, out=flags)
    if mask is not None:
        flags &= mask
    zero = _tally(flags)
    if flat is None or (flat == Flat(0.0) and (low >= 0).all()):  # a ReLU: flat is zero
        return zero, zero
    np.less_equal(x, flat.low, out=flags)
    if flat.floor > -np.inf:
        flags &= np.greater_equal(x, flat.floor, out=more)
    if flat.high < np.inf:
        flags |= np.greater_equal(x, flat.high, out=more)
    if mask is not None:
        flags &= mask
    return zero, _tally(flags)


def _about_mean(
    n: np.ndarray,
    centre: np.ndarray,
    sums: list[np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
) -> Moments:
    """Central moments from the sums of four powers of the distance to a centre near the mean."""
    s1, s2, s3, s4 = sums
    with np.errstate(all="ignore"):
        delta = np.where(n > 0, s1 / n, 0.0)
        return Moments(
            count=n,
            mean=np.where(n > 0, centre + delta, 0.0),
            m2=np.maximum(s2 - delta * s1, 0),
            m3=s3 - delta * (3 * s2 - 2 * delta * s1),
            m4=np.maximum(s4 - delta * (4 * s3 - delta * (6 * s2 - 3 * delta * s1)), 0),
            min=low,
            max=high,
        )


def _over_rows(row: Moments) -> Moments:
    """Moments of all rows together: Moments' ``+`` over the first axis, in one go."""
    n = row.count
    total = n.sum(0)
    with np.errstate(all="ignore"):
        # From one of the means, so that equal ones stay as they are.
        base = np.where(n > 0, row.mean, -np.inf).max(0, initial=-np.inf)
        base = np.where(total > 0, base, 0.0)
        mean = base + (n * np.where(n > 0, row.mean - base, 0.0)).sum(0) / np.maximum(total, 1)
        d = np.where(n > 0, row.mean - mean, 0.0)
        return Moments(
            count=total,
            mean=mean,
            m2=(row.m2 + d * d * n).sum(0),
            m3=(row.m3 + d * (3 * row.m2 + d * d * n)).sum(0),
            m4=(row.m4 + d * (4 * row.m3 + d * (6 * row.m2 + d * d * n))).sum(0),
            min=row.min.min(0, initial=np.inf),
            max=row.max.max(0, initial=-np.inf),
        )


def _spread(count: np.ndarray, total: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Mean over units of their standard deviation within a row: float64[rows, sites].

    In the precision of the sums; in float32 a constant unit shows up to 1/1000 of its
    distance to the row's mean.
    """
    n = count.astype(total.dtype)
    mean = total / n
    deviation = np.sqrt(np.maximum(square / n - mean * mean, 0))
    if count.shape[2] == 1:  # no unit is without values
        return deviation.mean(-1, dtype=np.float64)
    known = count > 0
    return np.where(known, deviation, 0).sum(-1, dtype=np.float64) / known.sum(-1)


def _subnormal(
    counts: np.ndarray, small: np.ndarray, zero: np.ndarray, tiny: np.ndarray | None
) -> np.ndarray:
    """Values but zeros under the smallest normal number of each site's own type: int64[sites]."""
    if tiny is None:
        return small - zero
    half = (counts * (np.abs(CENTRES) < tiny[:, None])).sum(1)  # float16's is an edge of the bins
    seen = np.where(tiny > _TINY, half, small)
    return np.where(tiny < _TINY, 0, seen - zero)  # float64's is out of sight


def _nonfinite(block: Block, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NaN, +Inf and -Inf per site: int64[sites]."""
    none = np.zeros(block.values.shape[1], np.int64)
    if mask is None:
        return none, none, none
    real = block.filled[..., None, None]
    return (
        (np.isnan(block.values) & real).sum((0, 2, 3)),
        ((block.values == np.inf) & real).sum((0, 2, 3)),
        ((block.values == -np.inf) & real).sum((0, 2, 3)),
    )


def _units(
    count: np.ndarray,
    centre: np.ndarray,
    mean: np.ndarray,
    total: np.ndarray,
    square: np.ndarray,
    flat: np.ndarray,
) -> Units:
    """Units over all rows, from sums about each row's centre and tallies of flat values.

    ``count`` is [rows, sites, units], or 1 for units where all have as many values.
    """
    rows, sites, width = total.shape
    n = np.broadcast_to(count.sum(0, dtype=np.int64), (sites, width))
    with np.errstate(all="ignore"):
        offset = np.where(np.isfinite(centre), centre - mean, 0.0)[..., None]
        s1 = total.sum(0, dtype=np.float64) + (count * offset).sum(0)  # about the site's mean
        s2 = square.sum(0, dtype=np.float64) + (count * offset**2).sum(0)
        s2 += 2 * (offset * total).sum(0)
        unit_mean = np.where(n > 0, mean[:, None] + s1 / n, 0.0)
        m2 = np.where(n > 0, np.maximum(s2 - s1 * s1 / n, 0), 0.0)
    # The number of the last row in which the unit was active, from 1; 0 for never.
    number = np.arange(1, rows + 1, dtype=np.min_scalar_type(rows))[:, None, None]
    last = ((flat != count) * number).max(0, initial=0)
    seen = np.zeros((rows + 1, *count.shape[1:]), np.int64)
    np.cumsum(count, axis=0, out=seen[1:])
    return Units(
        starts=np.arange(sites + 1) * width,
        shape=(sites,),
        count=n.ravel(),
        mean=unit_mean.ravel(),
        m2=m2.ravel(),
        active=(n - flat.sum(0, dtype=np.int64)).ravel(),
        silent=(n - np.take_along_axis(seen, last[None].astype(np.intp), 0)[0]).ravel(),
    )
