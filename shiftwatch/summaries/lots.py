"""Lots: blocks of many geometries, measured together.

A network has a dozen geometries, and NumPy takes longer to be called than to add up a
small block. So calls with equally many values become lines of one lot, whatever their sites,
and what is known of the lines of all lots is added up once. Only what needs units is done
block by block, for the blocks that ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from shiftwatch.stages import Stages, finish
from shiftwatch.summaries._scratch import scratch
from shiftwatch.summaries.block import (
    TINY,
    Block,
    activity,
    histogram,
    spread,
    subnormal,
    tally,
    tally_flat,
)
from shiftwatch.summaries.histogram import BINS, Histogram
from shiftwatch.summaries.lines import (
    Distances,
    Finite,
    brief,
    distances,
    finite,
    moments,
    nonfinite,
    pooled,
)
from shiftwatch.summaries.moments import Moments
from shiftwatch.summaries.summary import Summary, Tallies

# Values from which a lot is measured alone.
_LARGE = 1 << 16


@dataclass(frozen=True)
class Part:
    """A block of a network.

    Args:
        block: its samples.
        sites: int64[sites of the block], their columns in the whole; no two parts share one.
        tags: int64[rows, sites], the caller's own number of each recorded call.
        slow: of values that change slowly, as weights do: the newest row stands for the
            window, of the others just mean and standard deviation are measured. A row with
            a value that is not finite counts for the window, too.
        spread: whether :attr:`Calls.spread` is asked for.
        active: whether the activity of units is asked for.
    """

    block: Block
    sites: np.ndarray
    tags: np.ndarray
    slow: bool = False
    spread: bool = False
    active: bool = False


class Calls(NamedTuple):
    """Every recorded call, in no order; also those not filled, of no value.

    Attributes:
        tag: int64[calls], as given.
        n, nonfinite: int64[calls], finite values, and all others.
        mean, std: float64[calls]; anything where there is no finite value.
        spread: float64[calls], as in ``Rows``; NaN where it was not asked for.
    """

    tag: np.ndarray
    n: np.ndarray
    nonfinite: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    spread: np.ndarray


class Activity(NamedTuple):
    """What the units of some sites did, site after site.

    Attributes:
        sites: int64[sites], columns.
        widths: int64[sites], units of each.
        n, active, silent: int64[units], as ``count``, ``active``, ``silent`` of ``Units``.
    """

    sites: np.ndarray
    widths: np.ndarray
    n: np.ndarray
    active: np.ndarray
    silent: np.ndarray


class _Lot(NamedTuple):
    """Lines of equal length: values [lines, values]; filled bool[lines]; tag int64[lines];
    sites: columns; place: int64[lines], which of the sites; parts: with their first line.
    """

    values: np.ndarray
    filled: np.ndarray
    tag: np.ndarray
    sites: np.ndarray
    place: np.ndarray
    parts: tuple[tuple[Part, int], ...] = ()


class _Measured(NamedTuple):
    """A lot measured: per line but for counts and small, which are per site."""

    lot: _Lot
    line: Moments
    zero: np.ndarray
    flat: np.ndarray
    bad: tuple[np.ndarray, np.ndarray, np.ndarray]
    spread: np.ndarray
    counts: np.ndarray
    small: np.ndarray


def survey(parts: Sequence[Part], number: int) -> tuple[Summary, Calls, Activity]:
    """Measure the blocks of a network.

    Args:
        parts: the blocks.
        number: columns of the whole.

    Returns:
        The Summary of every column over all rows, without units: shape (number,), empty
        where no part has the column; every call; the units' activity. To rounding they
        are what ``measure`` tells of each block.

    Cost: about 3 ns per value, two thirds of it for the histogram, 0.4 ns in rows of slow
    parts but the newest; and some fifty NumPy calls per length of lines, ten per part.
    """
    with np.errstate(all="ignore"):
        return finish(surveying(parts, number))


def surveying(parts: Sequence[Part], number: int) -> Stages[tuple[Summary, Calls, Activity]]:
    """The same, a lot at a time; to be run where NumPy's warnings are off."""
    lots = [_lot(part) for part in parts if not _slow(part)]
    skimmed = [_skim(lot) for lot in _by_length([_lot(p) for p in parts if _slow(p)])]
    lots += [rest for rest, _ in skimmed]
    active: list[Activity] = []
    measured = []
    for lot in _by_length(lots):
        measured.append(_measured(lot, active))
        yield
    calls = [known for _, known in skimmed] + [_calls(m) for m in measured]
    return (
        _summary(measured, parts, number),
        Calls(*_end_to_end(calls, len(Calls._fields))),
        Activity(*_end_to_end(active, len(Activity._fields))),
    )


def _end_to_end(tables: Sequence[tuple[np.ndarray, ...]], number: int) -> list[np.ndarray]:
    """The tables' corresponding columns, joined."""
    if not tables:
        return [np.zeros(0, np.int64)] * number
    return [np.concatenate(columns) for columns in zip(*tables, strict=True)]


def _slow(part: Part) -> bool:
    return part.slow and len(part.block.values) > 1 and bool(part.block.filled.all())


def _lot(part: Part) -> _Lot:
    """All lines of a part, row after row."""
    rows, sites, positions, units = part.block.values.shape
    return _Lot(
        values=part.block.values.reshape(rows * sites, positions * units),
        filled=part.block.filled.ravel(),
        tag=part.tags.ravel(),
        sites=part.sites,
        place=np.tile(np.arange(sites), rows),
        parts=((part, 0),),
    )


def _by_length(lots: Sequence[_Lot]) -> Iterator[_Lot]:
    """One lot for each length and type; its values are scratch, gone with the next.

    Large lots stay by themselves: to copy them costs more than some more calls.
    """
    alike: dict[tuple[Any, ...], list[_Lot]] = {}
    for number, lot in enumerate(lots):
        if lot.values.size:
            alone = number if lot.values.size > _LARGE else -1
            alike.setdefault((lot.values.shape[1], lot.values.dtype, alone), []).append(lot)
    return (_joined(same) for same in alike.values())


def _joined(lots: Sequence[_Lot]) -> _Lot:
    """Lots of one length as one."""
    if len(lots) == 1:
        return lots[0]
    lines = [0, *accumulate(len(lot.tag) for lot in lots)]
    sites = [0, *accumulate(len(lot.sites) for lot in lots)]
    shape = lines[-1], lots[0].values.shape[1]
    (values,) = scratch(shape, lots[0].values.dtype, use="lot")
    np.concatenate([lot.values for lot in lots], out=values)
    return _Lot(
        values=values,
        filled=np.concatenate([lot.filled for lot in lots]),
        tag=np.concatenate([lot.tag for lot in lots]),
        sites=np.concatenate([lot.sites for lot in lots]),
        place=np.concatenate([lot.place + n for lot, n in zip(lots, sites, strict=False)]),
        parts=tuple(
            (part, n) for lot, n in zip(lots, lines, strict=False) for part, _ in lot.parts
        ),
    )


def _skim(lot: _Lot) -> tuple[_Lot, Calls]:
    """What remains to be measured of slow lines, and the calls that are known by now."""
    mean, std, known = brief(lot.values)
    newest = np.zeros(len(lot.sites), np.int64)
    newest[lot.place] = np.arange(len(lot.place))  # of equal places the last one wins
    known[newest] = False
    rest = ~known
    left = _Lot(lot.values[rest], lot.filled[rest], lot.tag[rest], lot.sites, lot.place[rest])
    number = int(known.sum())
    count, none = np.full(number, lot.values.shape[1]), np.zeros(number, np.int64)
    nothing = np.full(number, np.nan)
    return left, Calls(lot.tag[known], count, none, mean[known], std[known], nothing)


def _measured(lot: _Lot, active: list[Activity]) -> _Measured:
    """All passes over a lot; the activity of its units goes to the end of ``active``."""
    filled = None if lot.filled.all() else lot.filled
    values = finite(lot.values, filled)
    counts, small = histogram(values, lot.place, len(lot.sites))
    zero, flat = _tallied(lot, values, small, active)
    about = distances(values)
    return _Measured(
        lot=lot,
        line=moments(values, about),
        zero=zero,
        flat=flat,
        bad=nonfinite(lot.values, filled, values.mask),
        spread=_spread(lot, values, about),
        counts=counts,
        small=small,
    )


def _tallied(
    lot: _Lot, values: Finite, small: np.ndarray, active: list[Activity]
) -> tuple[np.ndarray, np.ndarray]:
    """Zeros and flat values of each line: int64[lines]; those of units where they are needed."""
    zero, flat = np.zeros((2, len(lot.tag)), np.int64)
    todo = (small > 0)[lot.place]  # elsewhere is no zero
    for part, first in lot.parts:
        if part.block.flat is None and not part.active:
            continue
        rows, sites, positions, width = part.block.values.shape
        mine, shape = slice(first, first + rows * sites), (rows * sites, positions, width)
        mask = None if values.mask is None else values.mask[mine].reshape(shape)
        low = values.low[mine]
        zeros, flats = tally_flat(values.x[mine].reshape(shape), mask, part.block.flat, low)
        zero[mine], flat[mine] = zeros.sum(1, dtype=np.int64), flats.sum(1, dtype=np.int64)
        todo[mine] = False
        if part.active:
            count = positions if mask is None else tally(mask).reshape(rows, sites, width)
            n, live, silent = activity(count, flats.reshape(rows, sites, width))
            active.append(
                Activity(part.sites, np.full(sites, width), n.ravel(), live.ravel(), silent.ravel())
            )
    if todo.any():
        flags = values.x[todo] == 0
        if values.mask is not None:
            flags &= values.mask[todo]
        zero[todo] = np.count_nonzero(flags, axis=1)
    return zero, flat


def _spread(lot: _Lot, values: Finite, about: Distances) -> np.ndarray:
    """Spread of the lines whose parts ask for it: float64[lines], else NaN."""
    result = np.full(len(lot.tag), np.nan)
    asking = [(part, first) for part, first in lot.parts if part.spread]
    if not asking:
        return result
    widths = np.concatenate([np.full(p.tags.size, p.block.values.shape[3]) for p, _ in asking])
    ends = np.cumsum(widths)
    mean, square = scratch((int(ends[-1]),), *[about.distance.dtype] * 2, use="units")
    known = None if values.mask is None else np.empty(mean.shape, bool)
    place = 0
    for part, first in asking:
        rows, sites, positions, width = part.block.values.shape
        mine, shape = slice(first, first + rows * sites), (rows * sites, positions, width)
        units = slice(place, place + rows * sites * width)
        place = units.stop
        # A product with equal shares: BLAS adds faster, and in better order, than mean.
        share = np.full((1, positions), 1 / positions, mean.dtype)
        for table, means in ((about.distance, mean), (about.square, square)):
            out = means[units].reshape(rows * sites, 1, width)
            np.matmul(share, table[mine].reshape(shape), out=out)
        if values.mask is not None and known is not None:
            count = tally(values.mask[mine].reshape(shape)).ravel()
            known[units] = count > 0
            scale = positions / np.maximum(count, 1)
            mean[units] *= scale
            square[units] *= scale
    deviation = spread(mean, square, np.concatenate([[0], ends[:-1]]), known)
    where = np.concatenate([np.arange(first, first + part.tags.size) for part, first in asking])
    result[where] = np.ldexp(deviation, -about.lift[where])
    return result


def _calls(measured: _Measured) -> Calls:
    line = measured.line
    nan, posinf, neginf = measured.bad
    std = np.sqrt(line.m2 / line.count)
    bad = nan + posinf + neginf
    return Calls(measured.lot.tag, line.count, bad, line.mean, std, measured.spread)


def _summary(measured: Sequence[_Measured], parts: Sequence[Part], number: int) -> Summary:
    """All lots' lines added up to their sites."""
    if not measured:
        return Summary.empty((number,))
    site = np.concatenate([m.lot.sites[m.lot.place] for m in measured])
    columns = zip(*(tuple(vars(m.line).values()) for m in measured), strict=True)
    line = Moments(*(np.concatenate(c) for c in columns))

    def added(values: Sequence[np.ndarray]) -> np.ndarray:
        return np.bincount(site, np.concatenate(values), number).astype(np.int64)

    counts, small = np.zeros((number, BINS), np.int64), np.zeros(number, np.int64)
    for m in measured:
        counts[m.lot.sites], small[m.lot.sites] = m.counts, m.small
    zero = added([m.zero for m in measured])
    nan, posinf, neginf = (added(kind) for kind in zip(*(m.bad for m in measured), strict=True))
    bounded = np.zeros(number, bool)
    tiny = np.full(number, TINY)
    for part in parts:
        bounded[part.sites] = part.block.flat is not None
        tiny[part.sites] = TINY if part.block.tiny is None else part.block.tiny
    flat = added([m.flat for m in measured])
    return Summary(
        moments=pooled(line, site, number),
        tallies=Tallies(
            zero=zero,
            nan=nan,
            posinf=posinf,
            neginf=neginf,
            subnormal=subnormal(counts, small, zero, tiny),
            flat=np.where(bounded, flat, 0),
        ),
        histogram=Histogram(counts),
        bounded=bounded,
    )
