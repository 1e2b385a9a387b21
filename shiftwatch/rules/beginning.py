"""Beginning: first steps so large that little of the initialisation is left.

At the first steps there is no history to be out of line with, so that they are judged by level. A
healthy first step is 1e-3 to 1e-1 of the size of its weight. The first ones of RMSprop and of Adam
without warm-up are the largest of all healthy ones, up to a fifth, and soon over: the longer
updates stay large, the smaller is what counts as too large. A learning rate that a range test found
makes such steps too, and learns; one that needed a warm-up and got none leaves a loss that stands, or
an attention that looks at single keys (Zhai et al. 2023, on the collapse of its entropy).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites

# Losses after which it is asked what was learnt, and the first and the last part of them that are
# compared: the very first ones fall to what a constant prediction attains.
_LOSSES, _EARLY, _LATE = 64, slice(16, 32), slice(48, 64)
# Optimizer steps whose updates are added up. The very first is left out: where squares are averaged
# from zero it is ten times as large as the next.
_SECOND_AND_THIRD = (1, 2)


class BeginningState(NamedTuple):
    """Attributes: steps: int64[1], optimizer steps so far; large: int64[limits], how many of them
    were too large; moved: float64[1], by how much of their size half of the weights were moved in the
    second and third; losses: float64[64], the first ones, NaN before; share: float64[1], least entropy
    of an attention over the largest possible one, NaN without any; raised: bool[1].
    """

    steps: np.ndarray
    large: np.ndarray
    moved: np.ndarray
    losses: np.ndarray
    share: np.ndarray
    raised: np.ndarray


@dataclass(frozen=True)
class Beginning:
    """Updates that are large from the start, of most layers at once.

    Args:
        limits: steps, and the relative update of the median weight that is too large if so many of
            the first ones reach it.
        young: how many steps are the first ones.
        moved: share of their size by which half of the weights are moved in the second and the
            third step together that is too large …
        stands: … if the losses 48 to 63 are on median at least this share of those 16 to 31: by so much
            moved, and the share. No net that learnt was seen beyond 0.4 with losses that fell by less
            than a tenth, and none beyond 0.5 …
        sharp: … or if the entropy of an attention is at most this share of the largest possible one in
            its first readings: by so much moved, and the share. Of healthy heads it falls over hundreds
            of steps.
    """

    limits: tuple[tuple[int, float], ...] = ((1, 0.6), (4, 0.25), (8, 0.15))
    young: int = 16
    moved: float = 0.2
    stands: tuple[tuple[float, float], ...] = ((0.2, 0.98), (0.4, 0.93), (0.5, 0.88))
    sharp: tuple[tuple[float, float], ...] = ((0.2, 0.1), (0.3, 0.3))

    def columns(self, sites: Sites) -> np.ndarray:
        """Updates of weights in training."""
        return sites.learning

    def init(self, sites: int) -> BeginningState:
        """No step taken."""
        return BeginningState(
            np.zeros(1, np.int64),
            np.zeros(len(self.limits), np.int64),
            np.zeros(1),
            np.full(_LOSSES, np.nan),
            np.full(1, np.nan),
            np.zeros(1, bool),
        )

    def update(self, state: BeginningState, evidence: Evidence) -> Verdict:
        """Judge the batch step by step while the run is young."""
        mine = self.columns(evidence.sites)
        quiet = np.zeros(mine.size, bool)
        if not mine.size or state.raised[0] or np.isfinite(state.losses[-1]):
            return Verdict(state, [], quiet)
        firing = None
        if state.steps[0] < self.young:
            state, firing = self._stepped(state, evidence, mine)
        state = _attended(state._replace(losses=evidence.continuing(state.losses)), evidence)
        firing = firing or self._unwarmed(state, evidence.sites, mine)
        raised = np.array([firing is not None])
        return Verdict(state._replace(raised=raised), [firing] if firing else [], quiet)

    def _stepped(
        self, state: BeginningState, evidence: Evidence, mine: np.ndarray
    ) -> tuple[BeginningState, Firing | None]:
        """After some more of the first steps, and whether they were too large."""
        batch = evidence.batch
        updates = np.where(batch.stepped[:, None], evidence.update[:, mine], np.nan)
        known = np.isfinite(updates).any(1)
        before = int(state.steps[0])
        first = np.flatnonzero(known)[: self.young - before]
        if not first.size:
            return state, None
        counts, levels = np.array(self.limits).T
        typical = np.nanmedian(updates[first], axis=1)
        large = state.large + np.cumsum(typical[:, None] >= levels, axis=0, dtype=np.int64)
        beyond = (large >= counts).any(1)
        drawn = updates[:, ~_norms(evidence.sites, mine)]
        moved = sum(_half(drawn[t]) for i, t in enumerate(first, before) if i in _SECOND_AND_THIRD)
        state = state._replace(
            steps=state.steps + first.size, large=large[-1], moved=state.moved + moved
        )
        if not beyond.any():
            return state, None
        place = int(beyond.argmax())
        which = int((large[place] >= counts).argmax())
        at = first[place]
        column = int(np.nan_to_num(updates[at]).argmax())
        size = float(updates[at, column])
        text = f"single updates move the weights by {size:.2g} of their size from the start, and those "
        text += "of most layers so"
        began = max(0, int(batch.steps[at]) - self.limits[which][0] + 1)
        return state, _firing(began, int(mine[column]), size, self.limits[which][1], text)

    def _unwarmed(self, state: BeginningState, sites: Sites, mine: np.ndarray) -> Firing | None:
        """Whether first steps that were large left heads that look at single keys, or nothing was learnt.

        A head or an adapter beside layers that are frozen may have little to learn.
        """
        moved = float(state.moved[0])
        if not sites.whole or moved < self.moved:
            return None
        stands = min((share for least, share in self.stands if moved >= least), default=np.inf)
        early, late = (float(np.median(state.losses[part])) for part in (_EARLY, _LATE))
        sharp = max((share for least, share in self.sharp if moved >= least), default=0.0)
        if state.share[0] <= sharp:
            what = f"an attention's entropy is down to {state.share[0]:.0%} of the largest possible"
        elif early > 0 and late >= stands * early:
            what = f"the loss stands at {late:.3g}"
        else:
            return None
        text = (
            f"the first steps moved half of the weights by {moved / 2:.2g} of their size and more, "
            f"each, and {what} since: is a warm-up missing, or the learning rate too large?"
        )
        return _firing(0, int(mine[0]), moved / 2, self.moved / 2, text)


def _attended(state: BeginningState, evidence: Evidence) -> BeginningState:
    """After some more readings of attentions, of which only the first ones count."""
    shares = np.array([r.share for r in evidence.batch.attended if r.step < _LOSSES])
    return state._replace(share=np.fmin.reduce(shares, keepdims=True, initial=state.share[0]))


def _norms(sites: Sites, columns: np.ndarray) -> np.ndarray:
    """bool[columns]: gains of norms, which begin at one and move by less than what is drawn."""
    return np.array([sites.layers[sites.all[c].layer].norm for c in columns.tolist()], bool)


def _half(moved: np.ndarray) -> float:
    """Share of their size by which at least half of the weights are moved.

    Of an even number the lower one of the two in the middle: an adapter's second half begins at
    zero, and any step moves it by as much as there is.
    """
    known = np.sort(moved[np.isfinite(moved)])
    return float(known[(known.size - 1) // 2]) if known.size else 0.0


def _firing(step: int, column: int, value: float, limit: float, text: str) -> Firing:
    return Firing(
        step, column, "update", "warning", "relative_update", value, limit, text, score=1.0
    )
