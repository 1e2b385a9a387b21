"""Explained drift: how much movement the recent weight updates account for.

Distributions move because weights do. What counts as usual movement is learnt under the usual
update size; when updates are k times larger, drift k times larger is explained.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shiftwatch.frame import Frame
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
    rms = frame.rms
    update = np.full((steps, len(sites)), np.nan)
    explained = np.ones(steps)
    latest, weight, total = state.update.copy(), state.weight, state.total.copy()
    n = int(state.n[0])
    columns = np.flatnonzero(sites.weight_of >= 0)
    weights = sites.weight_of[columns]
    main = np.array([not sites.all[c].part for c in columns], bool)
    for t in range(steps):
        if not columns.size:
            break
        if n:
            usual = np.median(total[: min(n, _MEMORY)])
            recent = total[(n - 1 - np.arange(min(n, _RECENT))) % _MEMORY]
            if usual > 0:
                explained[t] = max(1.0, recent.mean() / usual, recent[0] / usual)
        weight = np.where(np.isfinite(rms[t]), rms[t], weight)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = rms[t, columns] / np.maximum(weight[weights], 1e-12)
        update[t, columns] = ratio
        latest[columns] = np.where(np.isfinite(ratio), ratio, latest[columns])
        if np.isfinite(latest[columns][main]).any():
            total[n % _MEMORY] = np.nansum(latest[columns][main])
            n += 1
    return ExplainedState(latest, weight, total, np.array([n])), update, explained
