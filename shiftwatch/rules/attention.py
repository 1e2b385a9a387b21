"""Attention: its mask or its sharpness changes from one reading to the next.

What happens between the queries and the weighted sum has no layer that a distribution could be
taken of, and the sum hardly shows it. Two numbers do: the share of the keys that a query may look at,
which a mask determines, and the entropy of its weights over that of equal ones. The latter
moves as heads learn, so that it is compared with its own moves; a mask may vary with padding, within
a range. Entropy that collapses goes along with training that becomes unstable (Zhai et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.attended import Attended
from shiftwatch.rules.base import Evidence, Firing, Verdict, lapsed
from shiftwatch.sites import Sites

# What is left of the largest move after one more reading, and the smallest believed.
_FORGET, _LEAST = 0.9, 0.008


class AttentionState(NamedTuple):
    """Attributes: n: int64[sites], readings; share: float64[sites], the latest; move: float64[sites],
    largest change so far, slowly forgotten; octaves: float64[sites], largest so far of its logarithm;
    low, high: float64[sites], range of the open keys; until: int64[sites], -1 where nothing was said.
    """

    n: np.ndarray
    share: np.ndarray
    move: np.ndarray
    octaves: np.ndarray
    low: np.ndarray
    high: np.ndarray
    until: np.ndarray


@dataclass(frozen=True)
class Attention:
    """Leaps of an attention's entropy, and another mask.

    Args:
        entropy: change from reading to reading, as a share of the largest possible, that matters: heads
            that learn go a quarter of the way …
        times: … if it is so many times as large as those before, …
        single: … and a fall if it ends at most at this share: few keys are left.
        sharper: or a fall of so many octaves, of heads that were sharp already …
        sharp: … to at most this share, if it is twice as large as any such move before.
        mask: share of the keys by which a mask leaves its range.
        readings: how many come before the first judgement.
        memory: steps for which it is not said again.
    """

    entropy: float = 0.35
    times: float = 3.0
    single: float = 0.25
    sharper: float = 3.0
    sharp: float = 0.1
    mask: float = 0.15
    readings: int = 3
    memory: int = 256

    def columns(self, sites: Sites) -> np.ndarray:
        """Outputs in training."""
        return sites.columns("output", train=True)

    def init(self, sites: int) -> AttentionState:
        """Nothing seen."""
        return AttentionState(
            n=np.zeros(sites, np.int64),
            share=np.full(sites, np.nan),
            move=np.zeros(sites),
            octaves=np.zeros(sites),
            low=np.full(sites, np.inf),
            high=np.full(sites, -np.inf),
            until=np.full(sites, -1, np.int64),
        )

    def update(self, state: AttentionState, evidence: Evidence) -> Verdict:
        """Judge the readings of the batch."""
        mine = self.columns(evidence.sites)
        readings = [r for r in evidence.batch.attended if r.column in mine]
        last = int(evidence.batch.steps[-1])
        if not readings and not (state.until >= 0).any():
            return Verdict(state, [], np.zeros(mine.size, bool))
        state = AttentionState(*(field.copy() for field in state))
        state = state._replace(until=lapsed(state.until, last))
        firings = []
        for reading in readings:
            place = int(np.searchsorted(mine, reading.column))
            found = self._judged(state, place, reading)
            excused = reading.step in evidence.excused  # other lengths, other masks
            if found and not excused and state.until[place] < 0:
                firings.append(found)
                state.until[place] = reading.step + self.memory
            _learn(state, place, reading, anew=excused or bool(found))
        return Verdict(state, firings, state.until >= 0)

    def _judged(self, state: AttentionState, place: int, now: Attended) -> Firing | None:
        if state.n[place] < self.readings:
            return None
        if np.isnan(now.share):
            text = (
                "there was an attention before it, with weights over the keys that add up to one, "
            )
            return _firing(now, "distribution_shift", 1.0, 0.0, 10.0, text + "and is none now")
        low, high = float(state.low[place]), float(state.high[place])
        beyond = max(low - now.open, now.open - high)
        if beyond >= self.mask:
            usual = f"{low:.0%}" if high - low < 0.005 else f"{low:.0%} to {high:.0%}"
            text = (
                f"its queries may look at {now.open:.0%} of the keys, {usual} before: another mask"
            )
            limit = high + self.mask if now.open > high else low - self.mask
            score = beyond / self.mask
            return _firing(now, "distribution_shift", now.open, limit, score, text)
        before = float(state.share[place])
        change = now.share - before
        move = max(float(state.move[place]), _LEAST)
        least = max(self.entropy, self.times * move)
        fall = _octaves(before, now.share)
        sharper = max(self.sharper, 2 * float(state.octaves[place]))
        if now.share <= self.sharp and fall >= sharper:
            least = min(least, before - before * 2.0**-sharper)
        if abs(change) < least or (change < 0 and now.share > self.single):
            return None
        kind = "collapse" if change < 0 else "distribution_shift"
        text = (
            f"the entropy of its weights went from {before:.0%} to {now.share:.0%} of the largest "
        )
        text += f"possible: attention became {'sharper' if change < 0 else 'blurred'} at once"
        limit = before + np.copysign(least, change)
        return _firing(now, kind, now.share, float(limit), abs(change) / least, text)


def _learn(state: AttentionState, place: int, now: Attended, anew: bool) -> None:
    """Take in a reading; ``anew``: what was before is no measure any more."""
    if anew:
        state.n[place], state.share[place] = 0, np.nan
        state.move[place], state.octaves[place] = 0.0, 0.0
        state.low[place], state.high[place] = np.inf, -np.inf
    if np.isnan(now.share):
        return
    if state.n[place]:
        move = abs(now.share - state.share[place])
        state.move[place] = max(_FORGET * state.move[place], move)
        octaves = abs(_octaves(float(state.share[place]), now.share))
        state.octaves[place] = max(float(state.octaves[place]), octaves)
    state.n[place] += 1
    state.share[place] = now.share
    state.low[place] = min(state.low[place], now.open)
    state.high[place] = max(state.high[place], now.open)


def _octaves(before: float, now: float) -> float:
    """Octaves by which a share fell; none is taken for less than 1e-4."""
    return float(np.log2(max(before, 1e-4) / max(now, 1e-4)))


def _firing(
    now: Attended, kind: str, value: float, limit: float, score: float, text: str
) -> Firing:
    return Firing(
        step=now.step,
        column=now.column,
        kind=kind,
        severity="warning",
        metric="attention",
        value=value,
        limit=limit,
        text=text,
        score=score,
    )
