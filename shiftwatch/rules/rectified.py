"""Rectified: an activation that gave zeros gives none any more.

A rectifier sets to exactly zero what lies below its threshold, a third or half of what enters it as a
rule. How much that is drifts as its layer learns; that it is nothing at all from one window to
the next does not happen by learning. Behind shortcuts and norms the moments of what comes out may hardly tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.rules.base import Evidence, Firing, Verdict, lapsed
from shiftwatch.sites import Sites

# Latest windows of which the largest share is the usual one: a fault begins in the middle of one.
_WINDOWS = 3


class RectifiedState(NamedTuple):
    """Attributes: shares: float64[3, sites], of zeros in the latest windows, 0 before the first;
    until: int64[sites].
    """

    shares: np.ndarray
    until: np.ndarray


@dataclass(frozen=True)
class Rectified:
    """Share of zeros of one-sided activations, against that of the windows before.

    Args:
        least: usual share of zeros, 0 to 1, under which nothing is said.
        left: share that is left over the usual one, that is too small.
        values: seen in a window, under which it says nothing.
        memory: steps for which the condition holds.

    Example:
        >>> from shiftwatch import Monitor
        >>> rng = np.random.default_rng(0)
        >>> with Monitor(run=False, rules=[Rectified()]) as monitor:
        ...     for step in range(64):
        ...         x = rng.normal(size=(32, 16))
        ...         x = np.maximum(x, 0) if step < 40 else x
        ...         monitor.observe("body", x, activation="relu")
        ...         monitor.step()
        >>> [(alert.layer, alert.kind, alert.step) for alert in monitor.alerts]
        [('body', 'distribution_shift', 40)]
    """

    least: float = 0.1
    left: float = 0.02
    values: int = 1024
    memory: int = 64

    def columns(self, sites: Sites) -> np.ndarray:
        """Outputs in training."""
        return sites.columns("output", train=True)

    def init(self, sites: int) -> RectifiedState:
        """Nothing seen."""
        return RectifiedState(np.zeros((_WINDOWS, sites)), np.full(sites, -1, np.int64))

    def update(self, state: RectifiedState, evidence: Evidence) -> Verdict:
        """Judge the window."""
        mine, step = self.columns(evidence.sites), int(evidence.frame.steps[-1])
        if evidence.held.any():  # what comes now is the usual
            state = state._replace(shares=np.zeros_like(state.shares))
        count = evidence.summary.count[mine]
        known = evidence.sites.one_sided[mine] & (count >= self.values)
        share = evidence.summary.tallies.zero[mine] / np.maximum(count, 1)
        usual = state.shares.max(0)
        fired = known & (usual >= self.least) & (share < self.left * usual)
        firings = [
            self._firing(evidence, int(mine[place]), float(share[place]), float(usual[place]))
            for place in np.flatnonzero(fired).tolist()
        ]
        latest = np.concatenate([state.shares[1:], share[None]])
        latest[:, fired] = 0.0
        until = lapsed(np.where(fired, step + self.memory, state.until), step)
        return Verdict(
            RectifiedState(np.where(known, latest, state.shares), until), firings, until >= 0
        )

    def _firing(self, evidence: Evidence, column: int, share: float, usual: float) -> Firing:
        return Firing(
            step=int(evidence.frame.steps[0]),
            column=column,
            kind="distribution_shift",
            severity="warning",
            metric="zero_fraction",
            value=share,
            limit=self.left * usual,
            text=f"{share:.1%} of its values are zero, and {usual:.0%} before: is its activation gone?",
            score=self.left * usual / max(share, self.left * usual / 10),
            origin=evidence.sites.all[column].layer,
        )
