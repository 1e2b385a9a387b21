"""Fading: updates die away within some dozens of steps, though the learning rate stays.

A loss that is scaled to nothing, or a gradient that is clipped to nothing, does not stop
momentum at once: updates fade, a little at every step. They do so too where a training has
learnt all there is, but then the loss has fallen as much. And those of a single layer do where little
comes to it or back to it any more, as beside rectified units that died: a weight's gradient is the
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
# So little comes back from units that are dead.
_NOTHING = 2.0**-100


class FadingState(NamedTuple):
    """Attributes: level: float64[2, sites], recent log2(update / learning rate), and of what comes to
    the layer times what comes back; past: float64[2, 2, sites], as they were lately and before; loss:
    float64[1], recent log2 of the loss; before: float64[2], likewise; n: int64[1], steps; until:
    int64[sites], -1 where nothing was said.
    """

    level: np.ndarray
    past: np.ndarray
    loss: np.ndarray
    before: np.ndarray
    n: np.ndarray
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
            level=np.full((2, sites), np.nan),
            past=np.full((2, 2, sites), np.nan),
            loss=np.full(1, np.nan),
            before=np.full(2, np.nan),
            n=np.zeros(1, np.int64),
            until=np.full(sites, -1, np.int64),
        )

    def update(self, state: FadingState, evidence: Evidence) -> Verdict:
        """Judge the levels at the end of the batch."""
        sites, batch = evidence.sites, evidence.batch
        mine, last = self.columns(sites), int(batch.steps[-1])
        if not mine.size:
            return Verdict(state, [], np.zeros(0, bool))
        level = np.array([
            _recent(state.level[0], _levels(evidence, mine)),
            _recent(state.level[1], _flow(evidence, mine)),
        ])  # fmt: skip
        loss = _recent(state.loss, _logs(evidence.losses)[:, None])
        until = lapsed(state.until, last)
        main = sites.main[mine]
        with np.errstate(invalid="ignore"):
            fall, thinner = state.past[1] - level
            fall -= self.credit * max(_fall(state.before[1], loss[0]), 0.0)
        known = main & np.isfinite(fall)
        typical = float(np.median(fall[known])) if known.any() else 0.0
        together = typical >= self.octaves and _last(fall, known, sites.order[mine]) >= typical / 2
        explained = np.maximum(np.nan_to_num(thinner), max(typical, 0.0))
        alone = known & (fall - explained >= self.octaves)
        due = known & (fall >= typical) if together else alone
        firings: list[Firing] = []
        if due.any() and (until < 0).all() and not evidence.held.any():
            column = int(np.where(due, fall, -np.inf).argmax())
            until[:] = last + self.memory
            firings = [
                self._firing(
                    int(mine[column]), last, float(fall[column]), level[0, column], together
                )
            ]
        past, before, n = state.past, state.before, int(state.n[0]) + batch.steps.size
        if n // _NOTED > int(state.n[0]) // _NOTED:
            past = np.array([level, state.past[0]])
            before = np.array([loss[0], state.before[0]])
        fresh = FadingState(level, past, loss, before, np.array([n]), until)
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
    """Fall of the layer next to the loss: what makes all gradients smaller begins there."""
    return float(fall[np.where(known, order, -np.inf).argmax()])


def _flow(evidence: Evidence, mine: np.ndarray) -> np.ndarray:
    """log2 of the size of what enters a layer times that of its output's gradient, at each step:
    float64[T, sites]; what is not seen counts as one.
    """
    enters, returns = evidence.sites.passing
    seen = np.pad(evidence.frame.rms, ((0, 0), (0, 1)), constant_values=1.0)
    return np.log2(np.maximum(seen[:, enters[mine]] * seen[:, returns[mine]], _NOTHING))


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
