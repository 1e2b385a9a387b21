"""Coarse: a layer's output takes a few values only, where it took any before.

Rounding, a cast to an integer and back, or a quantiser that was switched on hardly move mean and deviation,
and are seen in what is missing: values between zero and the smallest step. Of a smooth distribution of
n values the smallest lie some n-th of a standard deviation from zero; of one that was rounded, a
step. Dead units and masks make zeros too, but leave small values beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.rules.base import Evidence, Firing, Verdict, lapsed
from shiftwatch.sites import Sites
from shiftwatch.summaries import Summary
from shiftwatch.summaries.histogram import EDGES, ZERO_BIN

# Share of the nonzero values that may lie beneath the smallest step: strays.
_STRAYS = 0.002
# Lower edges of the bins of one sign, from the smallest up.
_MAGNITUDES = EDGES[ZERO_BIN + 1 : -1]


class CoarseState(NamedTuple):
    """Attributes: fine: int64[sites], windows in which small values were there; until: int64[sites]."""

    fine: np.ndarray
    until: np.ndarray


@dataclass(frozen=True)
class Coarse:
    """Outputs of layers with parameters that are zero or far from it, and nothing in between.

    A layer that does so from the start is meant to: quantised and binary networks do.

    Args:
        gap: smallest distance from zero of what is not zero, in root mean squares of the output,
            that counts as a step.
        zeros: smallest share of exact zeros.
        values: values of a window under which it says nothing.
        burn_in: windows with small values, before the first judgement.
        memory: steps for which the condition holds.
    """

    gap: float = 1 / 8
    zeros: float = 0.01
    values: int = 256
    burn_in: int = 2
    memory: int = 64

    def columns(self, sites: Sites) -> np.ndarray:
        """Outputs in training, of several the first: an attention's weights are zero under a mask."""
        columns = sites.columns("output", train=True)
        return columns[[not sites.all[column].part for column in columns]]

    def init(self, sites: int) -> CoarseState:
        """Nothing seen."""
        return CoarseState(np.zeros(sites, np.int64), np.full(sites, -1, np.int64))

    def update(self, state: CoarseState, evidence: Evidence) -> Verdict:
        """Judge the window."""
        mine, step = self.columns(evidence.sites), int(evidence.frame.steps[-1])
        seen = evidence.summary[mine]
        zeros, gap = around_zero(seen)
        known = (seen.count >= self.values) & ~evidence.sites.weightless[mine]
        coarse = known & (zeros >= self.zeros) & (gap >= self.gap)
        fired = coarse & (state.fine >= self.burn_in) & (state.until < 0)
        until = lapsed(np.where(fired, step + self.memory, state.until), step)
        # What has come to stay is not raised again.
        fine = np.where(fired, 0, state.fine + (known & ~coarse))
        firings = [
            Firing(
                step=int(evidence.frame.steps[0]),
                column=int(mine[place]),
                kind="distribution_shift",
                severity="warning",
                metric="zero_gap",
                value=float(gap[place]),
                limit=self.gap,
                text=f"takes a few values only: {zeros[place]:.0%} are exactly 0, and nothing else is "
                f"nearer to it than {gap[place]:.2g} of the root mean square; rounded or quantised?",
                score=float(gap[place] / self.gap),
            )
            for place in np.flatnonzero(fired).tolist()
        ]
        return Verdict(CoarseState(fine, until), firings, until >= 0)


def around_zero(summary: Summary) -> tuple[np.ndarray, np.ndarray]:
    """Exact zeros, and how far from zero all else is.

    Returns:
        float64[...] each: the share of zeros, 0 to 1; and the size that all but 0.2 % of the other values
        reach, to the lower edge of its bin, in root mean squares of all. NaN where there is no value,
        0 where there is none but zeros.

    Cost: one sum over the bins.

    Example:
        >>> from shiftwatch import summarize
        >>> values = np.random.default_rng(0).normal(size=4096)
        >>> [round(float(x), 3) for x in around_zero(summarize(values))]
        [0.0, 0.002]
        >>> [round(float(x), 3) for x in around_zero(summarize(values.round()))]
        [0.372, 0.957]
    """
    counts = summary.histogram.counts
    folded = counts[..., ZERO_BIN + 1 :] + counts[..., ZERO_BIN - 1 :: -1]
    below = folded.cumsum(-1)
    other = below[..., -1]
    place = (below > _STRAYS * other[..., None]).argmax(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.where(other > 0, _MAGNITUDES[place] / summary.rms, 0.0)
        zeros = counts[..., ZERO_BIN] / summary.count
    return np.asarray(zeros), np.asarray(np.where(summary.count > 0, gap, np.nan))
