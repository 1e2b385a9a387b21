"""Non-finite: NaN and Inf, at once, without burn-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.records import Site
from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites


class NonfiniteState(NamedTuple):
    """Attributes: until: int64[sites]; masked: bool[sites], inputs that carry -Inf from the
    start, as attention masks do; loss: int64[1], steps left until a loss is reported again.
    """

    until: np.ndarray
    masked: np.ndarray
    seen: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True)
class Nonfinite:
    """NaN or Inf in any sample.

    Gradients under a loss scaler overflow now and then, and the scaler skips that step: a
    gradient counts only where the optimizer stepped all the same. -Inf alone is a mask, not
    a fault: in the model's input from its first step on, and in what is passed forward, while
    the loss is finite, from the first step on or where no parameters made it.

    What the source found by looking at whole tensors goes before what samples show.

    Args:
        memory: steps for which the condition holds after the last non-finite value.
    """

    memory: int = 64

    def columns(self, sites: Sites) -> np.ndarray:
        """Every site."""
        return sites.columns()

    def init(self, sites: int) -> NonfiniteState:
        """Nothing seen."""
        return NonfiniteState(
            np.full(sites, -1, np.int64),
            np.zeros(sites, bool),
            np.zeros(sites, bool),
            np.zeros(1, np.int64),
        )

    def update(self, state: NonfiniteState, evidence: Evidence) -> Verdict:
        """Judge the batch; the first step with a non-finite value is the one reported."""
        frame, sites = evidence.frame, evidence.sites
        steps = frame.steps
        bad = frame.nonfinite > 0
        bad[:, sites.mask("gradient")] &= evidence.batch.stepped[:, None]
        tallies = evidence.summary.tallies
        fresh = (frame.count.sum(0) > 0) | bad.any(0)
        only_minus = (tallies.neginf > 0) & (tallies.nan + tallies.posinf == 0)
        broken = np.isinf(evidence.losses) | (np.isnan(evidence.losses) & evidence.given)
        forward = sites.mask("output", "input")
        harmless = not broken.any() and bool(evidence.given.any())
        first = (sites.order < 0) | (forward & harmless)
        masked = state.masked | (fresh & ~state.seen & first & only_minus)
        bad &= ~(masked & only_minus)
        calm = ~np.logical_or.accumulate(broken)
        passed = forward & sites.weightless & (sites.order >= 0) & only_minus
        bad &= ~(calm[:, None] & passed)
        hit = bad.any(0)
        begins = hit & (state.until < 0)
        firings = []
        for column in np.flatnonzero(begins).tolist():
            rows = np.flatnonzero(bad[:, column])
            # Beside a mask's -Inf the newest row is it, for a NaN is judged at once.
            row = int(rows[-1 if masked[column] else 0])
            number = int(frame.nonfinite[row, column])
            share = number / max(number + float(frame.count[row, column]), 1.0)
            firings.append(
                Firing(
                    step=int(steps[row]),
                    column=column,
                    kind="nonfinite",
                    severity="critical",
                    metric="nonfinite",
                    value=share,
                    limit=0.0,
                    text=f"{share:.2%} of the sampled values are NaN or Inf",
                    score=1.0 + share,
                )
            )
        last = int(steps[-1]) if steps.size else 0
        until = np.where(hit, last + self.memory, np.where(last >= state.until, -1, state.until))
        loss = state.loss
        exact = self._exact(evidence)
        if exact:
            until[[f.column for f in exact]] = last + self.memory
        if broken.any() and loss[0] <= 0 and not hit.any() and not (until >= 0).any():
            firings += self._loss(evidence, int(np.argmax(broken)))
        firings += exact
        loss = np.array([self.memory if broken.any() else max(0, int(loss[0]) - steps.size)])
        return Verdict(NonfiniteState(until, masked, state.seen | fresh, loss), firings, until >= 0)

    def _exact(self, evidence: Evidence) -> list[Firing]:
        """What was found by looking at whole tensors, at the step of the sign that asked for it."""
        firings = []
        for sweep in evidence.batch.sweeps:
            found = sweep.finding
            column = _column(found.site, evidence.sites) if found is not None else None
            if found is None or column is None:
                continue
            loss = found.site.tensor == "loss"
            firings.append(
                Firing(
                    step=sweep.sign,
                    column=column,
                    kind="nonfinite",
                    severity="critical",
                    metric="loss" if loss else "nonfinite",
                    value=float("nan") if loss else found.bad / max(found.size, 1),
                    limit=0.0,
                    text=found.text,
                    score=2.0,
                    origin=found.layer,
                )
            )
        return firings

    def _loss(self, evidence: Evidence, row: int) -> list[Firing]:
        """A non-finite loss that no sample shows: reported at the last layer."""
        outputs = np.flatnonzero(evidence.sites.mask("output", train=True))
        if not outputs.size:
            return []
        column = int(outputs[np.argmax(evidence.sites.order[outputs])])
        return [
            Firing(
                step=int(evidence.frame.steps[row]),
                column=column,
                kind="nonfinite",
                severity="critical",
                metric="loss",
                value=float("nan"),
                limit=0.0,
                text="the loss is NaN or Inf, though no sampled value is",
                score=1.0,
            )
        ]


def _column(site: Site, sites: Sites) -> int | None:
    """Column of a site, or of what is watched of its layer: first what it puts out."""
    exact = sites.column(site)
    if exact is not None:
        return exact
    same = [i for i, s in enumerate(sites.all) if s.layer == site.layer and s.mode == site.mode]
    return min(same, key=lambda i: sites.all[i].tensor != "output", default=None)
