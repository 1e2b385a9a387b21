"""Explained drift: how much movement the recent weight updates account for.

Distributions move because weights do. What counts as usual movement is learnt under the usual
update size; when updates are k times larger, drift k times larger is explained.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shiftwatch.frame import Frame
from shiftwatch.medians import medians
from shiftwatch.sites import Sites

_MEMORY = 64  # steps that define the usual update size
_RECENT = 8  # steps whose updates explain the drift of now


class ExplainedState(NamedTuple):
    """Attributes: update, weight: float64[sites], latest relative update and weight size;
    total: float64[64], sum of the relative updates of the latest steps; n: int64[1].
    """

    update: np.ndarray
    weight: np.ndarray
    total: np.ndarray
    n: np.ndarray


def explained_init(sites: int) -> ExplainedState:
    """Nothing seen."""
    return ExplainedState(
        np.full(sites, np.nan), np.full(sites, np.nan), np.zeros(_MEMORY), np.zeros(1, np.int64)
    )


def explain(
    state: ExplainedState, frame: Frame, sites: Sites
) -> tuple[ExplainedState, np.ndarray, np.ndarray]:
    """Relative updates of a batch, and how much drift they explain.

    Returns:
        The next state; float64[T, sites], rms of the update over rms of the weight at the
        update's column, NaN where not seen; float64[T], recent updates over usual ones, at
        least 1, from updates BEFORE each step: those that its forward pass can show.
    """
    steps = frame.steps.size
    update, explained = np.full((steps, len(sites)), np.nan), np.ones(steps)
    columns = np.flatnonzero(sites.weight_of >= 0)
    if not columns.size:
        return state, update, explained
    sizes = _lasting(state.weight, frame.rms)
    ratio = frame.rms[:, columns] / np.maximum(sizes[1:, sites.weight_of[columns]], 1e-12)
    update[:, columns] = ratio
    latest = _lasting(state.update[columns], ratio)
    main = latest[1:, [not sites.all[c].part for c in columns.tolist()]]
    known = np.isfinite(main)
    sums = np.where(known, main, 0.0).sum(1)
    total, n = state.total.copy(), int(state.n[0])
    # The sums before each step of the batch, the newest last, as far back as they are known.
    fresh = sums[known.any(1)]
    line = np.concatenate([total[(n - 1 - np.arange(min(n, _MEMORY))[::-1]) % _MEMORY], fresh])
    held = line.size - fresh.size
    ends = held + np.concatenate([[0], np.cumsum(known.any(1))])[:-1]
    if line.size:
        table = np.concatenate([np.full(_MEMORY, np.nan), line])
        views = np.lib.stride_tricks.sliding_window_view(table, _MEMORY)[ends]
        usual = medians(views)
        recent = views[:, -_RECENT:]
        size = np.minimum(ends, _RECENT)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(np.isnan(recent), 0.0, recent).sum(1) / size
            ratio = np.maximum(mean, recent[:, -1]) / usual
        explained = np.where((ends > 0) & (usual > 0), np.fmax(ratio, 1.0), 1.0)
    for value in fresh.tolist():
        total[n % _MEMORY] = value
        n += 1
    newest = state.update.copy()
    newest[columns] = latest[-1]
    return ExplainedState(newest, sizes[-1], total, np.array([n])), update, explained


def _lasting(before: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Latest finite value of each column: float64[T + 1, columns], the first row before all."""
    table = np.vstack([before, values])
    row = np.where(np.isfinite(table), np.arange(len(table))[:, None], 0)
    return np.take_along_axis(table, np.maximum.accumulate(row, axis=0), 0)
