"""Dropout: far less passes a dropout than at the beginning.

What it lets through is known at once and almost without noise: the share of values that are not exactly
zero, over the same share of what enters it. That is 1 - p, whatever the activation before made of its
own zeros. A layer whose p runs away starves all that follows long before deviations tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.rules.base import Evidence, Firing, Verdict, lapsed
from shiftwatch.sites import Sites

# Passing values that are expected of a window, under which it says nothing.
_EXPECTED = 64


class DropoutState(NamedTuple):
    """Attributes: n: int64[sites], windows learnt from; usual: float64[sites], mean share of them
    that passed, 0 to 1; until: int64[sites].
    """

    n: np.ndarray
    usual: np.ndarray
    until: np.ndarray


@dataclass(frozen=True)
class Dropout:
    """Share of values that pass a dropout, against that of its first windows.

    Args:
        fall: share that passes, over the usual one, that is too small. Schedules that begin without
            dropout and end at 0.5 halve it (Morerio et al. 2017).
        windows: from which the usual one is learnt.
        steps: seen in a window, under which it says nothing: whole channels may be dropped.
        memory: steps for which the condition holds; after a firing the usual share is learnt anew.
    """

    fall: float = 1 / 3
    windows: int = 4
    steps: int = 4
    memory: int = 64

    def columns(self, sites: Sites) -> np.ndarray:
        """Outputs in training."""
        return sites.columns("output", train=True)

    def init(self, sites: int) -> DropoutState:
        """Nothing seen."""
        return DropoutState(
            np.zeros(sites, np.int64), np.zeros(sites), np.full(sites, -1, np.int64)
        )

    def update(self, state: DropoutState, evidence: Evidence) -> Verdict:
        """Judge the window."""
        mine, step = self.columns(evidence.sites), int(evidence.frame.steps[-1])
        until = lapsed(state.until, step)
        drops, before = evidence.sites.dropouts
        if not drops.size:
            return Verdict(state, [], until >= 0)
        place = np.searchsorted(mine, drops)
        n, usual = state.n[place], state.usual[place]
        count = evidence.summary.count
        other = 1 - evidence.summary.tallies.zero / np.maximum(count, 1)
        entered = np.where((before >= 0) & (count[before] > 0), other[before], 1.0)
        passed = other[drops] / np.maximum(entered, 1e-9)
        expected = entered * count[drops] * np.where(n > 0, usual, 1.0)
        known = (evidence.frame.count[:, drops] > 0).sum(0) >= self.steps
        known &= expected >= _EXPECTED
        learnt = n >= self.windows
        fired = known & learnt & (passed < self.fall * usual)
        firings = [
            self._firing(evidence, int(drops[i]), float(passed[i]), float(usual[i]))
            for i in np.flatnonzero(fired).tolist()
        ]
        learning = known & ~learnt
        mean = usual + np.where(learning, passed - usual, 0.0) / np.maximum(n + 1, 1)
        state = DropoutState(state.n.copy(), state.usual.copy(), until)
        state.n[place] = np.where(fired, 0, n + learning)
        state.usual[place] = np.where(fired, 0.0, mean)
        until[place[fired]] = step + self.memory
        return Verdict(state, firings, until >= 0)

    def _firing(self, evidence: Evidence, column: int, passed: float, usual: float) -> Firing:
        return Firing(
            step=int(evidence.frame.steps[0]),
            column=column,
            kind="distribution_shift",
            severity="warning",
            metric="passed",
            value=passed,
            limit=self.fall * usual,
            text=f"lets {passed:.1%} of what enters it through, and {usual:.0%} at the beginning",
            score=self.fall * usual / max(passed, 1e-9),
            origin=evidence.sites.all[column].layer,
        )
