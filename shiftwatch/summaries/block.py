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

    Cost: about ten passes over the values and one count, in the values' own precision, with
    sums over rows carried in float64; some 100 NumPy calls whatever the number of sites.
    3 ns per value where all are filled and finite, half of it for the histogram
    (benchmarks/measure.py).
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
    n_site = n_row.sum(0)
    row_flat = flat_unit.sum(-1, dtype=np.int64)

    centre, unit_sum, unit_square, row_cube, row_fourth = _powers(x, mask, low, high)
    row_sum, row_square = (s.sum(-1).astype(np.float64) for s in (unit_sum, unit_square))
    sums = [s.sum(0) for s in (row_sum, row_square, row_cube, row_fourth)]
    with np.errstate(all="ignore"):
        row_offset = row_sum / n_row
        row_variance = row_square / n_row - row_offset**2
        share = 1 / n_unit.astype(unit_sum.dtype)
        within = unit_square * share - (unit_sum * share) ** 2
        spread = _mean_of_known(np.sqrt(np.maximum(within, 0)), mask)
        flat_share = row_flat / n_row
    histogram, subnormal = _histogram(x, n_site, mask, block)
    nan, posinf, neginf = _nonfinite(block, mask)
    bounded = block.flat is not None
    summary = Summary(
        moments=_moments(n_site, centre, sums, low, high),
        tallies=Tallies(
            zero=zero_unit.sum((0, 2), dtype=np.int64),
            nan=nan,
            posinf=posinf,
            neginf=neginf,
            subnormal=subnormal,
            flat=row_flat.sum(0) if bounded else np.zeros(sites, np.int64),
        ),
        histogram=histogram,
        bounded=np.full(sites, bounded),
        units=_units(n_unit, centre, unit_sum, unit_square, flat_unit),
    )
    return summary, Rows(
        count=n_row.astype(np.float64),
        mean=centre + row_offset,
        std=np.sqrt(np.maximum(row_variance, 0)),
        nonfinite=np.where(block.filled, positions * width, 0.0) - n_row,
        flat=flat_share if bounded else np.full((rows, sites), np.nan),
        spread=spread.astype(np.float64),
    )


def _finite_part(
    block: Block,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Values with all others set to 0, which are real (None if all are), and their range."""
    x = block.values
    everything = (0, 2, 3)
    if block.filled.all():
        low, high = x.min(everything, initial=np.inf), x.max(everything, initial=-np.inf)
        if (np.isfinite(low) & np.isfinite(high)).all():
            return x, None, low.astype(np.float64), high.astype(np.float64)
    mask = np.isfinite(x) & block.filled[..., None, None]
    low = np.where(mask, x, np.inf).min(everything, initial=np.inf)
    high = np.where(mask, x, -np.inf).max(everything, initial=-np.inf)
    return np.where(mask, x, 0), mask, low.astype(np.float64), high.astype(np.float64)


def _powers(
    x: np.ndarray, mask: np.ndarray | None, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A centre for each site, and sums of powers of the distance to it.

    Returns:
        float64[sites], the centre, near the mean; the sums of distances and of their
        squares per unit, [rows, sites, units]; of cubes and fourth powers per row,
        float64[rows, sites].
    """
    rows, sites, positions, width = x.shape
    centre = _centre(x, mask, low, high)
    with np.errstate(all="ignore"):
        reach = np.where(low <= high, np.maximum(high - centre, centre - low), 0.0)
        exponent = np.frexp(reach)[1]
        if x.dtype == np.float32 and (exponent > _HIGH).any():
            x = x.astype(np.float64)
        distance, square = scratch(x.shape, x.dtype, x.dtype)
        np.subtract(x, centre.astype(x.dtype)[:, None, None], out=distance)
        # A layer of tiny gradients beside others: powers of two in between cost no digits.
        lift = np.where(exponent < _LOW, np.minimum(-exponent, 126), 0)
        if lift.any():
            distance *= np.ldexp(np.ones(1, x.dtype), lift)[:, None, None]
        if mask is not None:
            distance *= mask
        np.multiply(distance, distance, out=square)
        # Products with ones and with itself: BLAS adds faster, and in better order, than reduce.
        ones = np.ones((1, positions), x.dtype)
        unit_sum, unit_square = (ones @ power for power in (distance, square))
        column, row = square.reshape(rows, sites, -1, 1), (rows, sites, 1, positions * width)
        cube, fourth = (power.reshape(row) @ column for power in (distance, square))
        sums = [s.reshape(rows, sites, -1) for s in (unit_sum, unit_square, cube, fourth)]
        if lift.any():
            sums = [
                np.ldexp(s.astype(np.float64), -power * lift[:, None])
                for power, s in enumerate(sums, start=1)
            ]
    return centre, sums[0], sums[1], *(s[..., 0].astype(np.float64) for s in sums[2:])


def _centre(
    x: np.ndarray, mask: np.ndarray | None, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Mean of a thousand or so of each site's values, as one of the values' type: float64[sites]."""
    step = max(1, x.shape[0] * x.shape[2] * x.shape[3] // 1024)
    some = slice(None), slice(None), slice(None, None, step)
    total = x[some].sum((0, 2, 3), dtype=np.float64)
    number = x[some][:, 0].size if mask is None else mask[some].sum((0, 2, 3))
    with np.errstate(all="ignore"):
        mean = np.nan_to_num(total / number)
        # Between the extremes, so that equal values are all at distance 0.
        return np.where(low <= high, np.clip(mean, low, high), 0.0).astype(x.dtype).astype(float)


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


def _moments(
    count: np.ndarray, centre: np.ndarray, sums: list[np.ndarray], low: np.ndarray, high: np.ndarray
) -> Moments:
    """Central moments from float64[sites] sums of the first four powers about ``centre``."""
    s1, s2, s3, s4 = sums
    with np.errstate(all="ignore"):
        delta = np.where(count > 0, s1 / count, 0.0)
        return Moments(
            count=count,
            mean=np.where(count > 0, centre + delta, 0.0),
            m2=np.maximum(s2 - delta * s1, 0),
            m3=s3 - 3 * delta * s2 + 2 * delta**2 * s1,
            m4=np.maximum(s4 - 4 * delta * s3 + 6 * delta**2 * s2 - 3 * delta**3 * s1, 0),
            min=low,
            max=high,
        )


def _mean_of_known(values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Mean over the last axis, leaving out NaN, of which there is none without a mask."""
    if mask is None:
        return values.mean(-1)
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(-1) / known.sum(-1)


def _histogram(
    x: np.ndarray, n_site: np.ndarray, mask: np.ndarray | None, block: Block
) -> tuple[Histogram, np.ndarray]:
    """Counts on the bins, and how many values are subnormal in their own type: int64[sites]."""
    sites = x.shape[1]
    counts, subnormal = count_bins(x, np.arange(sites)[:, None, None], sites)
    if mask is not None:
        counts[:, ZERO_BIN] -= x[:, 0].size - n_site  # masked values read as zero
    if block.tiny is not None:  # half precision: its smallest normal is an edge of the bins
        small = np.abs(CENTRES) < block.tiny[:, None]
        small[:, ZERO_BIN] = False
        subnormal = np.where(block.tiny > 1e-30, (counts * small).sum(1), subnormal)
    return Histogram(counts), subnormal


def _nonfinite(
    block: Block, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    count: np.ndarray, centre: np.ndarray, total: np.ndarray, square: np.ndarray, flat: np.ndarray
) -> Units:
    """Units over all rows, from sums about the site's centre and tallies of flat values.

    ``count`` is [rows, sites, units], or 1 for units where all have as many values.
    """
    rows, sites, width = total.shape
    n = np.broadcast_to(count.sum(0, dtype=np.int64), (sites, width))
    s1, s2 = (s.sum(0, dtype=np.float64) for s in (total, square))
    with np.errstate(all="ignore"):
        mean = np.where(n > 0, centre[:, None] + s1 / n, 0.0)
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
        mean=mean.ravel(),
        m2=m2.ravel(),
        active=(n - flat.sum(0, dtype=np.int64)).ravel(),
        silent=(n - np.take_along_axis(seen, last[None].astype(np.intp), 0)[0]).ravel(),
    )
