"""Branches: a layer that was fed by several is fed by one of them alone.

What enters a layer behind a shortcut is a sum. Both the sum and what is added are sampled, at the same
positions where their shapes agree, so the sum equals one addend to the last bit as soon as nothing is
added any more: a shortcut that is gone, a branch that a factor of zero switched off. How large the
difference was does not matter, so that what hardly moves a standard deviation is seen, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.frame import Frame
from shiftwatch.rules.base import Evidence, Firing, Verdict, lapsed
from shiftwatch.sites import Sites

# Difference of means and of deviations, in deviations, that is rounding.
_ROUNDING = 1e-5


class BranchesState(NamedTuple):
    """Attributes: apart: int64[sites], steps in which a layer's input was equal to none of what
    feeds it; run: int64[sites], steps in a row, until now, in which it was; longest: int64[sites],
    such rows so far; since: int64[sites], first step of the row; until: int64[sites].
    """

    apart: np.ndarray
    run: np.ndarray
    longest: np.ndarray
    since: np.ndarray
    until: np.ndarray


@dataclass(frozen=True)
class Branches:
    """Inputs of layers with several parents that become equal to what a single one gives.

    Args:
        patience: steps in a row in which they are equal.
        times: … and so many times the longest row before: stochastic depth leaves branches out now
            and then.
        burn_in: steps in which they were not, before the first judgement: branches that begin at
            zero begin equal.
        memory: steps for which the condition holds.
    """

    patience: int = 8
    times: int = 4
    burn_in: int = 16
    memory: int = 64

    def columns(self, sites: Sites) -> np.ndarray:
        """Inputs in training."""
        return sites.columns("input", train=True)

    def init(self, sites: int) -> BranchesState:
        """Nothing seen."""
        none, never = np.zeros(sites, np.int64), np.full(sites, -1, np.int64)
        return BranchesState(none, none, none, never, never)

    def update(self, state: BranchesState, evidence: Evidence) -> Verdict:
        """Judge all steps of the batch, at once where nothing is equal."""
        sites, frame = evidence.sites, evidence.frame
        mine = self.columns(sites)
        apart, run, longest, since, until = (array.copy() for array in state)
        until = lapsed(until, int(frame.steps[-1]))
        into, out_of = sites.joined
        if not into.size:
            return Verdict(state, [], until >= 0)
        place = np.searchsorted(mine, into)
        equal = _equal(frame, into, out_of)
        same = np.zeros((frame.steps.size, mine.size), bool)
        np.logical_or.at(same.T, place, equal.T)
        seen = np.isfinite(frame.std[:, mine])
        firings: list[Firing] = []
        if not same.any():
            some = seen.any(0)
            longest = np.where(some, np.maximum(longest, run), longest)
            run = np.where(some, 0, run)
            return Verdict(
                BranchesState(apart + seen.sum(0), run, longest, since, until), [], until >= 0
            )
        for t, step in enumerate(frame.steps.tolist()):
            ends = seen[t] & ~same[t]
            longest = np.where(ends, np.maximum(longest, run), longest)
            since = np.where(same[t] & (run == 0), step, since)
            apart, run = apart + ends, np.where(ends, 0, run + same[t])
            need = np.maximum(self.patience, self.times * longest + 1)
            fired = same[t] & (run == need) & (apart >= self.burn_in) & (until < 0)
            until = np.where(fired, step + self.memory, until)
            for i in np.flatnonzero(fired).tolist():
                alone = out_of[(place == i) & equal[t]][0]
                firings.append(
                    _firing(int(mine[i]), int(since[i]), int(need[i]), sites.all[alone].layer)
                )
        return Verdict(BranchesState(apart, run, longest, since, until), firings, until >= 0)


def _equal(frame: Frame, into: np.ndarray, out_of: np.ndarray) -> np.ndarray:
    """Whether one site shows what the other does: bool[T, pairs]."""
    mean, std = frame.mean[:, into], frame.std[:, into]
    off = np.maximum(np.abs(frame.mean[:, out_of] - mean), np.abs(frame.std[:, out_of] - std))
    with np.errstate(invalid="ignore"):
        return np.asarray((off <= _ROUNDING * std) & (std > 0))


def _firing(column: int, step: int, run: int, name: str) -> Firing:
    return Firing(
        step=step,
        column=column,
        kind="distribution_shift",
        severity="warning",
        metric="equal_steps",
        value=float(run),
        limit=float(run),
        text=f"what enters it is what {name} gives and nothing else, where there was something to add "
        "before: a shortcut or a branch is gone",
        score=1.0,
    )
