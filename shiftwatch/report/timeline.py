"""From thousands of windows to the columns that a page can show, without losing a peak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shiftwatch.abreast import abreast
from shiftwatch.medians import medians as row_medians
from shiftwatch.summaries.histogram import EDGES
from shiftwatch.summaries.summary import Summary
from shiftwatch.window import COUNTS, REALS

if TYPE_CHECKING:
    from shiftwatch.run import Cells, Chunk, Run

#: Percentiles that the page draws, after Ioffe & Szegedy (2015), figure 1, and one step within.
LEVELS = (0.05, 0.15, 0.50, 0.85, 0.95)
# Windows of a chunk up to which a product adds them up exactly in single precision: 256 × 65,535.
_EXACT = 256
_ROWS = 512  # of a product
# Share of the columns that must be left where they begin at seams.
_KEPT = 0.9

#: From values to a scale, element by element.
Bend = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Columns:
    """Adjacent windows shown as one column of time.

    Args:
        starts: int64[columns + 1], first window of each; the last entry is the number of windows.
        first: int64[columns], first step of each column.
        last: int64[columns], last step of each column, inclusive.
    """

    starts: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @property
    def size(self) -> int:
        """Number of columns."""
        return self.first.size


def columns(
    first: np.ndarray, last: np.ndarray, limit: int, seams: np.ndarray | None = None
) -> Columns:
    """At most ``limit`` columns of equal length in steps; each window its own where they fit.

    Args:
        first, last: int64[windows], first and last step of each window, ascending.
        limit: largest number of columns.
        seams: int64[any], ascending from 0, windows at which a column begins at less cost: each
            begins at the last one before its place, where that leaves nearly as many.

    Example:
        >>> steps = np.arange(0, 100, 10)
        >>> columns(steps, steps + 9, 5).last.tolist()
        [19, 39, 59, 79, 99]
    """
    windows = last.size
    if not windows:
        return Columns(np.zeros(1, np.int64), first, last)
    if windows <= limit:
        starts = np.arange(windows)
    else:
        span = max(int(last[-1] - first[0]) + 1, 1)
        bucket = ((last - first[0]) * limit) // span
        starts = np.flatnonzero(np.diff(bucket, prepend=-1))
        if seams is not None:
            sewn = np.unique(seams[np.searchsorted(seams, starts, "right") - 1])
            starts = sewn if sewn.size >= _KEPT * starts.size else starts
    ends = np.append(starts[1:], windows)
    return Columns(np.append(starts, windows), first[starts], last[ends - 1])


def farthest(values: np.ndarray, at: Columns, bend: Bend = np.asarray) -> np.ndarray:
    """Per column the value farthest from its row's median: a spike of one window stays.

    Args:
        values: float64[windows, rows]; NaN is left out.
        bend: ascending; on its scale the distance counts.

    Returns:
        float64[columns, rows], NaN where a column has no value.

    Example:
        >>> steps = np.arange(4)
        >>> farthest(np.array([[0.0], [0.1], [0.0], [-5.0]]), columns(steps, steps, 2))[:, 0].tolist()
        [0.1, -5.0]
    """
    if at.size == values.shape[0] or not values.size:
        return values
    middle = medians(values, bend)
    starts = at.starts[:-1]
    with np.errstate(invalid="ignore"):
        high, low = np.fmax.reduceat(values, starts), np.fmin.reduceat(values, starts)
        return np.where(bend(high) - middle >= middle - bend(low), high, low)


def medians(values: np.ndarray, bend: Bend = np.asarray) -> np.ndarray:
    """Median of bent values over the windows, leaving out NaN; 0 where none is left: float64[rows].

    Cost: of many windows, about a thousand evenly spaced ones count.
    """
    middle = row_medians(bend(values[:: max(1, values.shape[0] // 1000)]).T)
    lost = np.flatnonzero(np.isnan(middle))
    lost = lost[np.isfinite(values[:, lost]).any(0)]  # known only in between
    middle[lost] = row_medians(bend(values[:, lost]).T)
    return np.where(np.isnan(middle), 0.0, middle)


@dataclass(frozen=True)
class Distributions:
    """How the values of every site were spread, column by column.

    Args:
        mean, std, rms: float64[columns, sites], NaN without values.
        quantiles: float64[columns, sites, 5], at :data:`LEVELS`.
        zeros, flat, nonfinite: float64[columns, sites], shares in 0 … 1; ``flat`` is NaN
            for a site without activation.
        histograms: of each site the lowest bin that is not empty, and the counts from there,
            float64[slices, bins]; no bins without values.
        slices: the time of the histograms, each one or several columns.
    """

    mean: np.ndarray
    std: np.ndarray
    rms: np.ndarray
    quantiles: np.ndarray
    zeros: np.ndarray
    flat: np.ndarray
    nonfinite: np.ndarray
    histograms: list[tuple[int, np.ndarray]]
    slices: Columns


def distributions(run: Run, at: Columns, slices: int) -> Distributions:
    """The run's summaries, merged to columns; histograms to at most ``slices``.

    Cost: every number of the run is read once, a chunk of windows at a time.
    """
    coarse = columns(at.first, at.last, slices)
    pieces = cut(run, at)
    reals, counts, bounded = merged(pieces, len(run.sites), at.size)
    mean, m2, low, high = reals
    quantiles = np.full((at.size, len(run.sites), len(LEVELS)), np.nan)

    cells = abreast(counted, pieces)

    def coarsened(site: int) -> tuple[int, np.ndarray]:
        first, hits = histogram(pieces, cells, site, at.size)
        quantiles[:, site] = smooth(hits, first, low[site], high[site], LEVELS)
        coarsely = [hits[a:b].sum(0) for a, b in pairwise(coarse.starts)]
        return first, np.array(coarsely).reshape(coarse.size, hits.shape[1])

    histograms = abreast(coarsened, range(len(run.sites)))
    tally = dict(zip(COUNTS, counts, strict=True))
    lost = tally["nan"] + tally["posinf"] + tally["neginf"]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        known = np.where(tally["count"] > 0, tally["count"], np.nan)
        std = np.sqrt(m2 / known)
        tracks = {
            "mean": np.where(np.isnan(known), np.nan, mean),
            "std": std,
            "rms": np.hypot(std, mean),
            "zeros": tally["zero"] / known,
            "flat": np.where(bounded, tally["flat"] / known, np.nan),
            "nonfinite": lost / np.where(tally["count"] + lost > 0, tally["count"] + lost, np.nan),
        }
    tracks = {name: values.T for name, values in tracks.items()}
    return Distributions(quantiles=quantiles, histograms=histograms, slices=coarse, **tracks)


def seams(run: Run) -> np.ndarray:
    """Windows between which histograms are kept added up: there columns cost least to begin."""
    starts = np.cumsum([0, *(len(chunk.steps) for chunk in run.chunks)])
    parts = [
        np.arange(a, b, chunk.grain)
        for (a, b), chunk in zip(pairwise(starts.tolist()), run.chunks, strict=True)
    ]
    return np.concatenate([np.zeros(0, np.int64), *parts])


class Piece(NamedTuple):
    """A chunk of windows, cut where a new column begins.

    Args:
        chunk: the windows.
        grain: windows of which a histogram is read as one.
        starts: int64[k], where within the chunk a column begins.
        into: slice of k columns: without gaps, for each column holds a window.
        place: int64[n], which of the k each window goes to.
        member: float32[n / grain, k], 1 where windows go, else 0.
    """

    chunk: Chunk
    grain: int
    starts: np.ndarray
    into: slice
    place: np.ndarray
    member: np.ndarray


def cut(run: Run, at: Columns) -> list[Piece]:
    """The chunks of a run, cut into columns."""
    column = np.repeat(np.arange(at.size), np.diff(at.starts))
    pieces, start = [], 0
    for chunk in run.chunks:
        mine = column[start : start + len(chunk.steps)]
        start += mine.size
        place = mine - mine[0]
        starts = np.flatnonzero(np.diff(place, prepend=-1))
        grain = 1 if (starts % chunk.grain).any() else chunk.grain
        member = (place[::grain, None] == np.arange(starts.size)).astype(np.float32)
        into = slice(int(mine[0]), int(mine[-1]) + 1)
        pieces.append(Piece(chunk, grain, starts, into, place, member))
    return pieces


class Sums(NamedTuple):
    """The windows of a piece, those of each of its k columns as one.

    Attributes:
        number, mean, m2, low, high: float64[S, k], values, their mean, sum of squared distances
            to it, smallest and largest.
        counts: int64[7, S, k], tallies in the order of :data:`shiftwatch.window.COUNTS`.
        bounded: bool[S, k], whether the site has an activation that can be flat.
    """

    number: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray
    bounded: np.ndarray


def summed(piece: Piece, sites: int) -> Sums:
    """The windows of one piece, added up."""
    starts, table = piece.starts, piece.chunk.table(sites)
    reals = {name: values.astype(float) for name, values in zip(REALS, table.reals, strict=True)}
    number = table.counts[0].astype(float)
    there = number > 0
    own = np.add.reduceat(number, starts, axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        weight = np.where(there, number * reals["mean"], 0.0)
        centre = np.add.reduceat(weight, starts, axis=1) / np.maximum(own, 1)
        away = reals["mean"] - centre[:, piece.place]
        spread = np.where(there, reals["m2"] + number * away**2, 0.0)
    return Sums(
        number=own,
        mean=centre,
        m2=np.add.reduceat(spread, starts, axis=1),
        low=np.minimum.reduceat(np.where(there, reals["min"], np.inf), starts, axis=1),
        high=np.maximum.reduceat(np.where(there, reals["max"], -np.inf), starts, axis=1),
        counts=np.add.reduceat(table.counts.astype(np.int64), starts, axis=2),
        bounded=np.logical_or.reduceat(table.bounded, starts, axis=1),
    )


def merged(
    pieces: list[Piece], sites: int, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The windows of each column as one, a chunk of windows at a time.

    Returns:
        float64[4, S, columns]: mean, sum of squared distances to it, smallest, largest;
        int64[7, S, columns], tallies in the order of :data:`shiftwatch.window.COUNTS`;
        bool[S, columns], whether the site has an activation that can be flat.

    References:
        Chan, Golub & LeVeque (1979), for the sums of squares.
    """
    shape = sites, columns
    mean, m2 = np.zeros(shape), np.zeros(shape)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    counts = np.zeros((len(COUNTS), *shape), np.int64)
    bounded = np.zeros(shape, bool)
    for piece, new in zip(pieces, abreast(partial(summed, sites=sites), pieces), strict=True):
        into = np.s_[:, piece.into]
        both = counts[0][into] + new.number
        share = new.number / np.maximum(both, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            delta = new.mean - mean[into]
            m2[into] += new.m2 + delta**2 * share * (both - new.number)
            mean[into] += delta * share
        low[into] = np.minimum(low[into], new.low)
        high[into] = np.maximum(high[into], new.high)
        counts[:, :, piece.into] += new.counts
        bounded[into] |= new.bounded
    return np.array([mean, m2, low, high]), counts, bounded


def counted(piece: Piece) -> Cells:
    """Histograms of all sites, windows added up to columns."""
    cells = piece.chunk.cells(piece.grain)
    return cells._replace(counts=_summed(cells.counts, piece))


def histogram(
    pieces: list[Piece], cells: list[Cells], site: int, columns: int
) -> tuple[int, np.ndarray]:
    """Histogram of one site in each column: lowest bin that is not empty, float64[columns, bins]."""
    found = []
    for piece, (lowest, starts, counts) in zip(pieces, cells, strict=True):
        mine = counts[slice(*starts[site : site + 2])] if site < lowest.size else counts[:0]
        if mine.size:
            found.append((int(lowest[site]), mine, piece.into))
    if not found:
        return 0, np.zeros((columns, 0))
    first = min(low for low, *_ in found)
    end = max(low + len(hits) for low, hits, _ in found)
    total = np.zeros((columns, end - first))
    for low, hits, into in found:
        total[into, low - first : low - first + len(hits)] += hits.T
    return first, total


def _summed(hits: np.ndarray, piece: Piece) -> np.ndarray:
    """Counts [rows, n / grain] added up to columns: [rows, k]."""
    number, columns = piece.member.shape
    if number == columns:
        return hits
    if number > _EXACT or hits.itemsize > 2:
        return np.add.reduceat(hits, piece.starts // piece.grain, axis=1, dtype=np.int64)
    # Products take a fifth of the time; those of few rows begin no threads of their own.
    parts = np.split(hits, range(_ROWS, len(hits), _ROWS))
    return np.concatenate([part.astype(np.float32) @ piece.member for part in parts])


def smooth_quantiles(summary: Summary, levels: tuple[float, ...] = LEVELS) -> np.ndarray:
    """Quantiles with values spread evenly within their bin, so that tracks show no stairs.

    Returns:
        float64[..., levels]; NaN for a site without values. Within the observed range.

    Example:
        >>> from shiftwatch import summarize
        >>> float(smooth_quantiles(summarize(np.linspace(1, 2, 101)), (0.5,))[0].round(1))
        1.5
    """
    return smooth(summary.histogram.counts, 0, summary.moments.min, summary.moments.max, levels)


def smooth(
    counts: np.ndarray, first: int, low: np.ndarray, high: np.ndarray, levels: tuple[float, ...]
) -> np.ndarray:
    """Quantiles of histograms, as :func:`smooth_quantiles` has them.

    Args:
        counts: whole numbers [..., bins], from bin ``first`` on.
        low, high: float64[...], the range of the values.
    """
    result = np.full((*counts.shape[:-1], len(levels)), np.nan)
    if not counts.size:
        return result
    cumulative = np.cumsum(counts, axis=-1)
    total = cumulative[..., -1:]
    low, high = low[..., None], high[..., None]
    for k, level in enumerate(levels):
        rank = level * total
        index = np.argmax(cumulative >= rank, -1, keepdims=True)
        inside = np.take_along_axis(counts, index, -1)
        reached = np.take_along_axis(cumulative, index, -1)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            share = np.clip((rank - reached + inside) / inside, 0, 1)
            left = np.maximum(EDGES[index + first], low)
            right = np.minimum(EDGES[index + first + 1], high)
            result[..., k] = (left + (right - left) * share)[..., 0]
    return np.where(total > 0, np.clip(result, low, high), np.nan)
