"""Occasions: what a run does on purpose, or meets in its data, and what that excuses.

Another batch size, another shape of the input, weights that begin or cease to learn:
distributions move then, and nobody needs to be told. And where the loss of a step is far above all
recent ones, the batch is to blame for the large update that follows, not the optimizer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shiftwatch.sites import Sites
from shiftwatch.source import Batch

#: Steps after an occasion for which shifts are no news.
HOLD = 16
#: Steps that are recent.
RECENT = 64
#: Steps after a surprising loss for which large updates are its consequence.
ECHO = 16
#: Kinds of events that are occasions.
KINDS = ("shape",)
# A number of weights that learn changes by more than this share.
_SHARE = 0.2


class OccasionState(NamedTuple):
    """Attributes: losses: float64[RECENT + ECHO], of the latest steps; learning: float64[RECENT],
    how many weights were moved in each; NaN where unknown; sizes, when: int64[8], batch sizes met and the step
    at which each was last; until: int64[1], first step that is not held.
    """

    losses: np.ndarray
    learning: np.ndarray
    sizes: np.ndarray
    when: np.ndarray
    until: np.ndarray


class Occasions(NamedTuple):
    """Attributes: held: bool[T], whether shifts are no news; surprise: float64[T], octaves by which
    the loss of the step, or of the few before it, was above all recent ones; at least 0.
    """

    held: np.ndarray
    surprise: np.ndarray


def occasions_init() -> OccasionState:
    """Nothing seen."""
    return OccasionState(
        np.full(RECENT + ECHO, np.nan),
        np.full(RECENT, np.nan),
        np.zeros(8, np.int64),
        np.full(8, -1, np.int64),
        np.zeros(1, np.int64),
    )


def look(
    state: OccasionState, batch: Batch, update: np.ndarray, sites: Sites, losses: np.ndarray
) -> tuple[OccasionState, Occasions]:
    """The occasions of a batch.

    Args:
        update: float64[T, sites], relative updates; NaN elsewhere and where not seen.
        losses: float64[T], NaN where unknown.
    """
    steps = batch.steps
    line = np.concatenate([state.losses, losses])
    surprise = _above(line, steps.size)
    main = sites.learning
    moved = np.count_nonzero(update[:, main] > 0, axis=1).astype(np.float64)
    counts = np.concatenate([state.learning, np.where(batch.stepped & (moved > 0), moved, np.nan)])
    begins = {e.step for e in batch.events if e.kind in KINDS}
    begins |= set(steps[_turned(counts, steps.size, main.size)].tolist())
    sizes, when = state.sizes.copy(), state.when.copy()
    for step, size in zip(steps.tolist(), batch.batch_size.tolist(), strict=True):
        if size and _new_size(sizes, when, size, step):
            begins.add(step)
    held, until = np.zeros(steps.size, bool), int(state.until[0])
    # What was frozen or freed is told when the batch is taken: at which step, nobody knows.
    switched = sum(e.kind == "requires_grad" for e in batch.events)
    if steps.size and switched > _SHARE * main.size:
        until = int(steps[-1]) + 1
    for t, step in enumerate(steps.tolist()):
        if step in begins:
            until = max(until, step + HOLD)
        held[t] = step < until
    fresh = OccasionState(line[-RECENT - ECHO :], counts[-RECENT:], sizes, when, np.array([until]))
    return fresh, Occasions(held, surprise)


def _above(line: np.ndarray, steps: int) -> np.ndarray:
    """Octaves of the newest values, or of the few before each, above the largest of RECENT ones."""
    with np.errstate(all="ignore"):
        logs = np.log2(line)
    logs = np.where(np.isfinite(logs), logs, -np.inf)
    before = np.lib.stride_tricks.sliding_window_view(logs[:-1], RECENT).max(1)
    known = np.isfinite(before)
    above = np.where(known, logs[RECENT:] - np.where(known, before, 0.0), 0.0)
    views = np.lib.stride_tricks.sliding_window_view(np.maximum(above, 0.0), ECHO)
    return np.asarray(views[len(views) - steps :].max(1))


def _turned(counts: np.ndarray, steps: int, whole: int) -> np.ndarray:
    """Steps at which clearly more or fewer weights learn than at any recent one: bool[steps]."""
    turned = np.zeros(steps, bool)
    for t in range(steps):
        before = counts[t : t + RECENT]
        before = before[np.isfinite(before)]
        now = counts[t + RECENT]
        if before.size >= 8 and np.isfinite(now):
            gap = max(now - before.max(), before.min() - now)
            turned[t] = gap > _SHARE * whole
    return turned


def _new_size(sizes: np.ndarray, when: np.ndarray, size: int, step: int) -> bool:
    """Note a batch size; whether it was not met lately, and others were."""
    place = np.flatnonzero(sizes == size)
    some = bool((when >= 0).any())
    if place.size:
        news = step - int(when[place[0]]) > RECENT
        when[place[0]] = step
        return news
    oldest = int(when.argmin())
    sizes[oldest], when[oldest] = size, step
    return some
