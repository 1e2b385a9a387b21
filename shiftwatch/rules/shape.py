"""Shape: the histogram changes though mean and standard deviation may not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from shiftwatch.detectors import Jump
from shiftwatch.detectors.jump import JumpState
from shiftwatch.rules.base import Evidence, Firing, Verdict, lapsed
from shiftwatch.sites import Sites


class ShapeState(NamedTuple):
    """Attributes: jump: of the divergence between windows; until: int64[sites]."""

    jump: JumpState
    until: np.ndarray


@dataclass(frozen=True)
class Shape:
    """Jensen-Shannon divergence between successive windows, against its own history.

    A lasting change shows in one window only: the next is compared with the changed one.
    So one window fires, and the limits are wide.

    Args:
        limit: in robust scales of the site's own divergences.
        js: smallest divergence that matters, in nats; ln 2 is the largest possible.
        data: how many times as much the model's input may change: curricula and augmentation do.
        plain: change of the mean in standard deviations, or half that of the logarithm of
            the variance, above which the change is a shift and not one of shape.
        memory: steps for which the condition holds.
    """

    limit: float = 12.0
    js: float = 0.15
    data: float = 2.0
    plain: float = 0.3
    memory: int = 64

    @property
    def _jump(self) -> Jump:
        return Jump(limit=self.limit, floor=self.js, memory=16, prior=0.02, least=0.004, patience=0)

    def columns(self, sites: Sites) -> np.ndarray:
        """Outputs and inputs in training."""
        return sites.columns("output", "input", train=True)

    def init(self, sites: int) -> ShapeState:
        """Nothing seen."""
        return ShapeState(self._jump.init((sites,)), np.full(sites, -1, np.int64))

    def update(self, state: ShapeState, evidence: Evidence) -> Verdict:
        """Judge the window against the one before it."""
        mine = self.columns(evidence.sites)
        if not mine.size:
            return Verdict(state, [], np.zeros(0, bool))
        step = int(evidence.frame.steps[-1])
        value = evidence.metrics["js_step"]
        least = np.where(evidence.sites.order[mine] < 0, self.data, 1.0) * self.js
        jump = replace(self._jump, floor=least)
        inner = jump.refresh(state.jump)
        inner, out = jump.update(inner, value, step, evidence.explained.max(initial=1.0))
        with np.errstate(invalid="ignore"):
            plain = np.abs(evidence.metrics["mean_step"]) > self.plain
            plain |= np.abs(evidence.metrics["variance_step"]) > 2 * self.plain
        passed_on = (mine != evidence.sites.entering) & (value < 2 * self._entered(evidence, mine))
        fired = out.fired & (out.change > 0) & ~plain & ~passed_on
        until = np.where(fired, step + self.memory, state.until)
        firings = [
            Firing(
                step=int(evidence.frame.steps[0]),
                column=int(mine[column]),
                kind="distribution_shift",
                severity="warning",
                metric="js",
                value=float(value[column]),
                limit=float(least[column]),
                text=f"js {value[column]:.2g} against the window before (limit {least[column]:.2g})",
                score=float(value[column] / least[column]),
            )
            for column in np.flatnonzero(fired).tolist()
        ]
        until = lapsed(until, step)
        return Verdict(ShapeState(inner, until), firings, until >= 0)

    def _entered(self, evidence: Evidence, mine: np.ndarray) -> float:
        """Divergence of the model's input, which explains up to twice as much in the layers."""
        value = evidence.metrics["js_step"][mine == evidence.sites.entering]
        return float(np.nan_to_num(value).max(initial=0.0))
