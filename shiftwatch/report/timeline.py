"""From thousands of windows to the columns that a page can show, without losing a peak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.summaries.histogram import BINS, EDGES
from shiftwatch.summaries.summary import Summary

if TYPE_CHECKING:
    from shiftwatch.history import Run

#: Percentiles that the page draws, after Ioffe & Szegedy (2015), figure 1, and one step within.
LEVELS = (0.05, 0.15, 0.50, 0.85, 0.95)


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


def columns(first: np.ndarray, last: np.ndarray, limit: int) -> Columns:
    """At most ``limit`` columns of equal length in steps; each window its own where they fit.

    Args:
        first, last: int64[windows], first and last step of each window, ascending.
        limit: largest number of columns.

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
    ends = np.append(starts[1:], windows)
    return Columns(np.append(starts, windows), first[starts], last[ends - 1])


def farthest(values: np.ndarray, at: Columns) -> np.ndarray:
    """Per column the value farthest from its row's median: a spike of one window stays.

    Args:
        values: float64[windows, rows]; NaN is left out.

    Returns:
        float64[columns, rows], NaN where a column has no value.

    Example:
        >>> steps = np.arange(4)
        >>> farthest(np.array([[0.0], [0.1], [0.0], [-5.0]]), columns(steps, steps, 2))[:, 0].tolist()
        [0.1, -5.0]
    """
    if at.size == values.shape[0] or not values.size:
        return values
    known = ~np.isnan(values)
    middle = medians(values)
    with np.errstate(invalid="ignore"):
        distance = values - middle
    starts = at.starts[:-1]
    high = np.maximum.reduceat(np.where(known, distance, -np.inf), starts)
    low = np.minimum.reduceat(np.where(known, distance, np.inf), starts)
    chosen = np.where(high >= -low, high, low) + middle
    return np.where(np.logical_or.reduceat(known, starts), chosen, np.nan)


def medians(values: np.ndarray) -> np.ndarray:
    """Median over the windows, leaving out NaN; 0 where none is left: float64[rows]."""
    ordered = np.sort(values, axis=0)  # NaN last
    count = (~np.isnan(values)).sum(0)
    middle = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, 0)[0]
    return np.where((count > 0) & np.isfinite(middle), middle, 0.0)


@dataclass(frozen=True)
class Distributions:
    """How the values of every site were spread, column by column.

    Args:
        mean, std: float64[columns, sites], NaN without values.
        quantiles: float64[columns, sites, 5], at :data:`LEVELS`.
        zeros, flat, nonfinite: float64[columns, sites], shares in 0 … 1; ``flat`` is NaN
            for a site without activation.
        rms: float64[columns, sites].
        histograms: float32[slices, sites, BINS], counts.
        slices: the time of the histograms, each one or several columns.
    """

    mean: np.ndarray
    std: np.ndarray
    quantiles: np.ndarray
    zeros: np.ndarray
    flat: np.ndarray
    nonfinite: np.ndarray
    rms: np.ndarray
    histograms: np.ndarray
    slices: Columns


def distributions(run: Run, at: Columns, slices: int) -> Distributions:
    """One pass over the run's summaries, merged to columns; histograms to at most ``slices``.

    Cost: one read of every window and a handful of NumPy calls per column.
    """
    sites = len(run.sites)
    coarse = columns(at.first, at.last, slices)
    slice_of = np.searchsorted(coarse.starts, np.arange(at.size), side="right") - 1
    shape = (at.size, sites)
    names = ("mean", "std", "zeros", "flat", "nonfinite", "rms")
    tracks = {name: np.full(shape, np.nan) for name in names}
    quantiles = np.full((*shape, len(LEVELS)), np.nan)
    histograms = np.zeros((coarse.size, sites, BINS), np.float32)
    for column in range(at.size):
        merged = merged_windows(run, at.starts[column], at.starts[column + 1])
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            count = np.where(merged.count > 0, merged.count, np.nan)
            tracks["mean"][column] = merged.mean
            tracks["std"][column] = merged.std
            tracks["rms"][column] = merged.rms
            tracks["zeros"][column] = merged.tallies.zero / count
            tracks["flat"][column] = np.where(merged.bounded, merged.tallies.flat / count, np.nan)
            size = np.where(merged.size > 0, merged.size, np.nan)
            tracks["nonfinite"][column] = merged.nonfinite / size
        quantiles[column] = smooth_quantiles(merged)
        histograms[slice_of[column]] += merged.histogram.counts
    return Distributions(quantiles=quantiles, histograms=histograms, slices=coarse, **tracks)


def merged_windows(run: Run, start: int, stop: int) -> Summary:
    """Windows ``start`` to ``stop`` (exclusive) as one summary of all sites."""
    if stop <= start:
        return Summary.empty((len(run.sites),))
    total = run.summary(int(start))
    for index in range(int(start) + 1, int(stop)):
        total = total + run.summary(index)
    return total


def smooth_quantiles(summary: Summary, levels: tuple[float, ...] = LEVELS) -> np.ndarray:
    """Quantiles with values spread evenly within their bin, so that tracks show no stairs.

    Returns:
        float64[..., levels]; NaN for a site without values. Within the observed range.

    Example:
        >>> from shiftwatch import summarize
        >>> float(smooth_quantiles(summarize(np.linspace(1, 2, 101)), (0.5,))[0].round(1))
        1.5
    """
    counts = summary.histogram.counts
    cumulative = np.cumsum(counts, axis=-1)
    total = cumulative[..., -1:]
    low, high = summary.moments.min[..., None], summary.moments.max[..., None]
    result = np.full((*counts.shape[:-1], len(levels)), np.nan)
    for k, level in enumerate(levels):
        rank = level * total
        index = np.minimum((cumulative < rank).sum(-1, keepdims=True), BINS - 1)
        inside = np.take_along_axis(counts, index, -1)
        reached = np.take_along_axis(cumulative, index, -1)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            share = np.clip((rank - reached + inside) / inside, 0, 1)
            left = np.maximum(EDGES[index], low)
            right = np.minimum(EDGES[index + 1], high)
            result[..., k] = (left + (right - left) * share)[..., 0]
    return np.where(total > 0, np.clip(result, low, high), np.nan)
