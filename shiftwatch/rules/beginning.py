"""Beginning: first steps so large that little of the initialisation is left.

At the first steps there is no history to be out of line with, so that they are judged by level. A
healthy first step is 1e-3 to 1e-1 of the size of its weight. The first ones of RMSprop and of Adam
without warm-up are the largest of all healthy ones, up to a fifth, and soon over: the longer
updates stay large, the smaller is what counts as too large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites


class BeginningState(NamedTuple):
    """Attributes: steps: int64[1], optimizer steps so far; large: int64[limits], how many of them
    were too large; raised: bool[1].
    """

    steps: np.ndarray
    large: np.ndarray
    raised: np.ndarray


@dataclass(frozen=True)
class Beginning:
    """Updates that are large from the start, of most layers at once.

    Args:
        limits: steps, and the relative update of the median weight that is too large if so many of
            the first ones reach it.
        young: how many steps are the first ones.
    """

    limits: tuple[tuple[int, float], ...] = ((1, 0.6), (4, 0.25), (8, 0.12))
    young: int = 16

    def columns(self, sites: Sites) -> np.ndarray:
        """Updates of weights in training."""
        return sites.learning

    def init(self, sites: int) -> BeginningState:
        """No step taken."""
        return BeginningState(
            np.zeros(1, np.int64), np.zeros(len(self.limits), np.int64), np.zeros(1, bool)
        )

    def update(self, state: BeginningState, evidence: Evidence) -> Verdict:
        """Judge the batch step by step while the run is young."""
        mine, batch = self.columns(evidence.sites), evidence.batch
        quiet = np.zeros(mine.size, bool)
        if not mine.size or state.steps[0] >= self.young:
            return Verdict(state, [], quiet)
        updates = np.where(batch.stepped[:, None], evidence.update[:, mine], np.nan)
        known = np.isfinite(updates).any(1)
        first = np.flatnonzero(known)[: self.young - int(state.steps[0])]
        counts, levels = np.array(self.limits).T
        typical = np.nanmedian(updates[first], axis=1) if first.size else np.zeros(0)
        large = state.large + np.cumsum(typical[:, None] >= levels, axis=0, dtype=np.int64)
        beyond = (large >= counts).any(1)
        steps = state.steps + first.size
        if state.raised[0] or not beyond.any():
            last = large[-1] if first.size else state.large
            return Verdict(BeginningState(steps, last, state.raised), [], quiet)
        place = int(beyond.argmax())
        which = int((large[place] >= counts).argmax())
        at = first[place]
        column = int(np.nan_to_num(updates[at]).argmax())
        size = float(updates[at, column])
        firing = Firing(
            step=max(0, int(batch.steps[at]) - self.limits[which][0] + 1),
            column=int(mine[column]),
            kind="update",
            severity="warning",
            metric="relative_update",
            value=size,
            limit=self.limits[which][1],
            text=f"single updates move the weights by {size:.2g} of their size from the start, and "
            "those of most layers so",
            score=1.0,
        )
        return Verdict(BeginningState(steps, large[-1], np.ones(1, bool)), [firing], quiet)
