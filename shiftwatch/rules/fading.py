"""Fading: updates die away within some dozens of steps, though the learning rate stays.

A loss that is scaled to nothing, or a gradient that is clipped to nothing, does not stop
momentum at once: updates fade, a little at every step. They do so too where a training has
learnt all there is, but then the loss has fallen as much. And those of a single layer do where nothing
at all comes to it or back to it, for the rectified units beside it died: a weight's gradient is the
product of both. That is no fault of the layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.rules.base import Evidence, Firing, Verdict, lapsed
from shiftwatch.sites import Sites

# Steps from one note of the levels to the next: they are compared with the last but one.
_NOTED = 32
# What the levels learn from one more step.
_RATE = 0.25
# Steps for which momentum may fade after nothing came to a layer, or back to it.
_BLOCKED = 128


class FadingState(NamedTuple):
    """Attributes: level: float64[sites], recent log2(update / learning rate); past: float64[2,
    sites], as it was lately and before; loss: float64[1], recent log2 of the loss; before:
    float64[2], likewise; n: int64[1], steps; blocked: int64[sites], the last step at which nothing came
    to the layer, or back to it; until: int64[sites]; both -1 where there was none.
    """

    level: np.ndarray
    past: np.ndarray
    loss: np.ndarray
    before: np.ndarray
    n: np.ndarray
    blocked: np.ndarray
    until: np.ndarray


@dataclass(frozen=True)
class Fading:
    """Updates that die away, of most layers or of one.

    Args:
        octaves: fall within 32 to 64 steps that matters; 6 is a factor of 64.
        credit: octaves that a fall of the loss by one explains.
        memory: steps for which it is not said again.
    """

    octaves: float = 6.0
    credit: float = 2.0
    memory: int = 256

    def columns(self, sites: Sites) -> np.ndarray:
        """Updates in training."""
        return sites.columns("update", train=True)

    def init(self, sites: int) -> FadingState:
        """Nothing seen."""
        return FadingState(
            level=np.full(sites, np.nan),
            past=np.full((2, sites), np.nan),
            loss=np.full(1, np.nan),
            before=np.full(2, np.nan),
            n=np.zeros(1, np.int64),
            blocked=np.full(sites, -1, np.int64),
            until=np.full(sites, -1, np.int64),
        )

    def update(self, state: FadingState, evidence: Evidence) -> Verdict:
        """Judge the levels at the end of the batch."""
        sites, batch = evidence.sites, evidence.batch
        mine, last = self.columns(sites), int(batch.steps[-1])
        if not mine.size:
            return Verdict(state, [], np.zeros(0, bool))
        levels = _levels(evidence, mine)
        level = _recent(state.level, levels)
        blocked = np.where(_nothing(evidence, mine), last, state.blocked)
        loss = _recent(state.loss, _logs(evidence.losses)[:, None])
        until = lapsed(state.until, last)
        main = sites.main[mine]
        with np.errstate(invalid="ignore"):
            fall = state.past[1] - level - self.credit * max(_fall(state.before[1], loss[0]), 0.0)
        known = main & np.isfinite(fall)
        typical = float(np.median(fall[known])) if known.any() else 0.0
        free = (blocked < 0) | (last - blocked > _BLOCKED)
        moving, falling = known & np.isfinite(levels).any(0), known & (fall >= typical)
        common = 2 * (falling & free).sum() > falling.sum()
        common |= _last(fall, moving, sites.order[mine]) >= typical / 2
        together = bool(common) and typical >= self.octaves
        alone = free & known & (fall - max(typical, 0.0) >= self.octaves)
        due = falling if together else alone
        firings: list[Firing] = []
        if due.any() and (until < 0).all() and not evidence.held.any():
            column = int(np.where(due, fall, -np.inf).argmax())
            until[:] = last + self.memory
            firings = [
                self._firing(int(mine[column]), last, float(fall[column]), level[column], together)
            ]
        past, before, n = state.past, state.before, int(state.n[0]) + batch.steps.size
        if n // _NOTED > int(state.n[0]) // _NOTED:
            past = np.array([level, state.past[0]])
            before = np.array([loss[0], state.before[0]])
        fresh = FadingState(level, past, loss, before, np.array([n]), blocked, until)
        return Verdict(fresh, firings, until >= 0)

    def _firing(self, column: int, step: int, fall: float, level: float, together: bool) -> Firing:
        who = "as those of most layers did" if together else "and those of the other layers did not"
        return Firing(
            step=max(0, step - 2 * _NOTED),
            column=column,
            kind="update",
            severity="warning",
            metric="relative_update",
            value=float(2.0**level),
            limit=float(2.0 ** (level + fall - self.octaves)),
            text=f"updates faded to 1/{2.0 ** min(fall, 60.0):.3g} within some dozens of steps at the "
            f"same learning rate, {who}",
            score=fall / self.octaves,
        )


def _levels(evidence: Evidence, mine: np.ndarray) -> np.ndarray:
    """log2(update / learning rate) of each step: float64[T, sites]; NaN where nothing moved, or the
    learning rate is not known: a schedule would look the same.
    """
    rate = evidence.batch.learning_rate
    moved = np.where(evidence.batch.stepped & (rate > 0), rate, np.nan)
    return _logs(evidence.update[:, mine] / moved[:, None])


def _last(fall: np.ndarray, known: np.ndarray, order: np.ndarray) -> float:
    """Fall of the layer next to the loss, of those that move: what makes all gradients smaller begins there."""
    return float(fall[np.where(known, order, -np.inf).argmax()]) if known.any() else -np.inf


def _nothing(evidence: Evidence, mine: np.ndarray) -> np.ndarray:
    """Whether exactly nothing enters a layer, or comes back to its output, at some step: bool[sites]."""
    enters, returns = evidence.sites.passing
    none = np.pad((evidence.frame.rms == 0).any(0), (0, 1))  # the last: not seen
    return np.asarray(none[enters[mine]] | none[returns[mine]])


def _logs(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values) & (values > 0)
    return np.where(known, np.log2(np.where(known, values, 1.0)), np.nan)


def _recent(state: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A mean that forgets, after some more rows."""
    for row in rows:
        fresh = np.where(np.isnan(state), row, state + _RATE * (row - state))
        state = np.where(np.isnan(row), state, fresh)
    return state


def _fall(before: float, now: float) -> float:
    """Octaves by which the loss fell; 0 where it is not known."""
    return float(np.nan_to_num(before - now))
