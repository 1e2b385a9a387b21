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
from shiftwatch.summaries.lines import (
    Distances,
    Finite,
    distances,
    finite,
    moments,
    nonfinite,
    pooled,
)
from shiftwatch.summaries.summary import Summary, Tallies
from shiftwatch.summaries.units import Units

#: Smallest normal number of float32.
TINY = float(np.finfo(np.float32).tiny)


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
    sites and rows. About 4 ns per value where all are filled and finite, half of it for the
    histogram; no temporary of the values' size is allocated.
    """
    rows, sites, positions, width = block.values.shape
    lines, geometry = rows * sites, (rows * sites, positions, width)
    raw = block.values.reshape(lines, positions * width)
    filled = None if block.filled.all() else block.filled.ravel()
    site = np.tile(np.arange(sites), rows)
    with np.errstate(all="ignore"):
        values = finite(raw, filled)
        counts, small = histogram(values, site, sites)
        x, mask = values.x.reshape(geometry), _shaped(values.mask, geometry)
        zero_unit, flat_unit = tally_flat(x, mask, block.flat, values.low)
        about = distances(values)
        line = moments(values, about)
        n_unit = positions if mask is None else tally(mask)
        unit_sum, unit_square = unit_sums(about, geometry)
        whole = pooled(line, site, sites)
        zero = zero_unit.reshape(rows, sites, width).sum((0, 2), dtype=np.int64)
        line_flat = flat_unit.sum(-1, dtype=np.int64)
        bounded = block.flat is not None
        bad = nonfinite(raw, filled, mask)
        nan, posinf, neginf = (kind.reshape(rows, sites).sum(0) for kind in bad)
        n, mean = line.count.reshape(rows, sites), line.mean.reshape(rows, sites)
        deviation = spread(
            (unit_sum / n_unit).ravel(),
            (unit_square / n_unit).ravel(),
            np.arange(lines) * width,
            None if isinstance(n_unit, int) else (n_unit > 0).ravel(),
        )
        summary = Summary(
            moments=whole,
            tallies=Tallies(
                zero=zero,
                nan=nan,
                posinf=posinf,
                neginf=neginf,
                subnormal=subnormal(counts, small, zero, block.tiny),
                flat=line_flat.reshape(rows, sites).sum(0) if bounded else np.zeros_like(zero),
            ),
            histogram=Histogram(counts),
            bounded=np.full(sites, bounded),
            units=_units(
                n_unit if isinstance(n_unit, int) else n_unit.reshape(rows, sites, width),
                about.centre.reshape(rows, sites, 1) - whole.mean[:, None],
                unit_sum.reshape(rows, sites, width),
                unit_square.reshape(rows, sites, width),
                flat_unit.reshape(rows, sites, width),
                whole.mean,
            ),
        )
        return summary, Rows(
            count=n.astype(np.float64),
            mean=np.where(n > 0, mean, np.nan),
            std=np.sqrt(line.m2.reshape(rows, sites) / n),
            nonfinite=np.where(block.filled, positions * width, 0.0) - n,
            flat=line_flat.reshape(rows, sites) / n if bounded else np.full((rows, sites), np.nan),
            spread=deviation.reshape(rows, sites),
        )


def _shaped(mask: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray | None:
    return None if mask is None else mask.reshape(shape)


def histogram(values: Finite, site: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of the real values of each site, [number, bins], and of those under float32's normals."""
    counts, small = count_bins(values.x, site[:, None], number)
    if values.mask is not None:  # what is masked reads as zero
        masked = np.bincount(site, values.x.shape[1] - values.count, number).astype(np.int64)
        counts[:, ZERO_BIN] -= masked
        small -= masked
    return counts, small


def unit_sums(about: Distances, geometry: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Sums of distances and of their squares in each unit: [lines, units]."""
    # A product with ones: BLAS adds faster, and in better order, than sum.
    ones = np.ones((1, geometry[1]), about.distance.dtype)
    first = (ones @ about.distance.reshape(geometry))[:, 0]
    second = (ones @ about.square.reshape(geometry))[:, 0]
    return about.lowered(first, 1), about.lowered(second, 2)


def tally(flags: np.ndarray) -> np.ndarray:
    """Number of flags [lines, positions, units] per unit: uint8 or int64[lines, units]."""
    narrow = flags.shape[1] < 256  # as many as one byte can count
    return np.einsum("lpu->lu", flags.view(np.uint8), dtype=np.uint8 if narrow else np.int64)


def tally_flat(
    x: np.ndarray, mask: np.ndarray | None, flat: Flat | None, low: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Zeros, and values in the flat part (zeros where nothing can be flat), per unit.

    Args:
        x, mask: [lines, positions, units].
        low: smallest value of each line.
    """
    flags, more = scratch(x.shape, bool, bool)
    np.equal(x, 0, out=flags)
    if mask is not None:
        flags &= mask
    zero = tally(flags)
    if flat is None or (flat == Flat(0.0) and (low >= 0).all()):  # a ReLU: flat is zero
        return zero, zero
    np.less_equal(x, flat.low, out=flags)
    if flat.floor > -np.inf:
        flags &= np.greater_equal(x, flat.floor, out=more)
    if flat.high < np.inf:
        flags |= np.greater_equal(x, flat.high, out=more)
    if mask is not None:
        flags &= mask
    return zero, tally(flags)


def spread(
    mean: np.ndarray, square: np.ndarray, starts: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """Mean over units of their standard deviation within a line: float64[lines].

    In the precision of the sums; in float32 a constant unit shows up to 1/1000 of its
    distance to the line's mean.

    Args:
        mean, square: of each unit, lines end to end: mean distance to the line's centre, and
            mean square of that; overwritten.
        starts: int64[lines], first unit of each line; no line is without units.
        known: bool[units], units with values; ``None`` for all.
    """
    np.multiply(mean, mean, out=mean)
    np.subtract(square, mean, out=square)
    np.sqrt(np.maximum(square, 0, out=square), out=square)
    if known is None:
        number = np.diff(starts, append=square.size)
    else:
        square[~known] = 0
        number = np.add.reduceat(known, starts, dtype=np.int64)
    return np.asarray(np.add.reduceat(square, starts) / number, np.float64)


def subnormal(
    counts: np.ndarray, small: np.ndarray, zero: np.ndarray, tiny: np.ndarray | None
) -> np.ndarray:
    """Values but zeros under the smallest normal number of each site's own type: int64[sites]."""
    seen = small
    if tiny is None:
        return seen - zero
    half = tiny > TINY  # float16's is an edge of the bins
    if half.any():
        under = np.abs(CENTRES) < tiny[half, None]
        seen = small.copy()
        seen[half] = (counts[half] * under).sum(1)
    return np.where(tiny < TINY, 0, seen - zero)  # float64's is out of sight


def _units(
    count: np.ndarray | int,
    offset: np.ndarray,
    total: np.ndarray,
    square: np.ndarray,
    flat: np.ndarray,
    mean: np.ndarray,
) -> Units:
    """Units over all rows, from sums about each row's centre and tallies of flat values.

    ``offset`` is the centres' distance to the site's ``mean``, about which sums are taken from
    here on, so that equal units stay as they are.

    ``count`` is of [rows, sites, units], or one number for all.
    """
    _, sites, width = flat.shape
    n, active, silent = activity(count, flat)
    s1 = total.sum(0, dtype=np.float64) + (count * offset).sum(0)
    s2 = square.sum(0, dtype=np.float64) + (count * offset**2).sum(0)
    s2 += 2 * (offset * total).sum(0)
    unit_mean = np.where(n > 0, mean[:, None] + s1 / n, 0.0)
    m2 = np.where(n > 0, np.maximum(s2 - s1 * s1 / n, 0), 0.0)
    return Units(
        starts=np.arange(sites + 1) * width,
        shape=(sites,),
        count=n.ravel(),
        mean=unit_mean.ravel(),
        m2=m2.ravel(),
        active=active.ravel(),
        silent=silent.ravel(),
    )


def activity(
    count: np.ndarray | int, flat: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of every unit, active ones, and those since the last row in which it was active.

    Args:
        count: int[rows, sites, units], values; or a number, if it is the same for all.
        flat: int[rows, sites, units], flat ones among them.

    Returns:
        int64[sites, units], three times.
    """
    rows = len(flat)
    # The number of the last row in which the unit was active, from 1; 0 for never.
    number = np.arange(1, rows + 1, dtype=np.min_scalar_type(rows))[:, None, None]
    last = ((flat != count) * number).max(0, initial=0)
    flats = flat.sum(0, dtype=np.int64)
    if isinstance(count, int):
        n = np.full(flats.shape, rows * count)
        return n, n - flats, (rows - last.astype(np.int64)) * count
    seen = np.zeros((rows + 1, *flats.shape), np.int64)
    np.cumsum(count, axis=0, out=seen[1:])
    silent = seen[-1] - np.take_along_axis(seen, last[None].astype(np.intp), 0)[0]
    return seen[-1], seen[-1] - flats, silent
