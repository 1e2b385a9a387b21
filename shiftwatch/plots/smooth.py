"""Smooth: what lies between the edges of a histogram's bins, for pictures alone."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries.histogram import EDGES, ZERO_BIN, Histogram


def smooth_quantiles(histogram: Histogram, q: np.ndarray) -> np.ndarray:
    """Quantiles that do not jump from bin to bin: a bin's values are taken as spread evenly.

    Args:
        histogram: of shape ``(n,)``.
        q: float64[k], probabilities.

    Returns:
        float64[n, k]; NaN where there is no value.

    Example:
        >>> from shiftwatch import summarize
        >>> values = np.random.default_rng(0).normal(4.0, 1.0, size=(1, 100_000))
        >>> counts = summarize(values.ravel()).histogram.counts[None]
        >>> smooth_quantiles(Histogram(counts), np.array([0.5])).round(1).tolist()
        [[4.0]]
    """
    edges, below = _cumulative(histogram)
    return np.array([np.interp(q, row, edges) if row[-1] > 0 else q * np.nan for row in below])


def densities(histogram: Histogram, grid: np.ndarray) -> np.ndarray:
    """Mean density between the points of a grid.

    Args:
        histogram: of shape ``(n,)``, with values.
        grid: float64[m + 1], rising.

    Returns:
        float64[n, m], per unit of the grid, 0 or more; the mass between its ends is kept. Between
        edges the distribution function is the monotone cubic of Fritsch and Butland (1984).

    Example:
        >>> from shiftwatch import summarize
        >>> values = np.random.default_rng(0).uniform(0.0, 4.0, size=100_000)
        >>> counts = summarize(values).histogram.counts[None]
        >>> densities(Histogram(counts), np.array([-2.0, -1.0, 1.0, 3.0, 6.0])).round(2).tolist()
        [[0.0, 0.13, 0.25, 0.08]]
    """
    x, y = _cumulative(histogram)
    step = np.diff(x)
    rise = np.diff(y) / step
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = 2 / (1 / rise[:, 1:] + 1 / rise[:, :-1])
    slope = np.zeros_like(y)
    slope[:, 1:-1] = np.where((rise[:, 1:] > 0) & (rise[:, :-1] > 0), mean, 0.0)
    place = np.clip(np.searchsorted(x, grid, side="right") - 1, 0, len(step) - 1)
    width = step[place]
    t = np.clip((grid - x[place]) / width, 0.0, 1.0)
    low, high = y[:, place], y[:, place + 1]
    cubic = low + (high - low) * t * t * (3 - 2 * t)
    cubic += width * t * (1 - t) * (slope[:, place] * (1 - t) - slope[:, place + 1] * t)
    return np.maximum(np.diff(cubic, axis=-1), 0.0) / np.diff(grid)


def _cumulative(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins, the outermost finite and zero's apart, and the share below each."""
    edges = EDGES.copy()
    edges[[0, -1]] = 2 * edges[[1, -2]]
    edges[[ZERO_BIN, ZERO_BIN + 1]] = edges[[ZERO_BIN - 1, ZERO_BIN + 2]] / 2
    shares = np.nan_to_num(histogram.frequencies)
    return edges, np.pad(np.cumsum(shares, axis=-1), ((0, 0), (1, 0)))
