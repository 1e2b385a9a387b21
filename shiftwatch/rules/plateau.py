"""Plateau: a model that has said the same of every sample since the run began, and learns nothing.

Where a signal fades from layer to layer, as through sigmoids one behind the other, samples are all
alike at the end. Such a model learns how often each target occurs, or the mean of them, and stays
there: its loss looks like that of any long plateau, however far it came down before, and its updates
are of the usual size. What tells it from a training that takes its time is that nothing of the input
reaches the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.records import INPUT
from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites

# Losses of which the median is what the run began with, and those compared with each other.
_OPENING, _HALF = 8, 32
# Samples in a batch that are enough to tell whether they are alike.
_SEVERAL = 4
# Of a run: not yet decided, it tells samples apart or learns, it was reported.
_WATCHED, _OVER, _RAISED = range(3)


class PlateauState(NamedTuple):
    """Attributes: phase: int64[1]; opening: float64[8], the run's first losses; late: float64[64],
    its latest; path: float64[1], sum over the steps of the largest relative update of a weight.
    """

    phase: np.ndarray
    opening: np.ndarray
    late: np.ndarray
    path: np.ndarray


@dataclass(frozen=True)
class Plateau:
    """Outputs that hardly depend on the sample, beside a loss that stands still.

    Judged are the layers that feed no other and those that feed them, so that an output that is
    nearly constant by right (a target far from zero) is none. One that told samples apart once
    is judged no more. Nor is one of which layers are frozen: little may be learnt on purpose.

    Args:
        alike: largest standard deviation within units, over the root mean square, of all these.
        falling: the last 32 losses under this share of the 32 before are on their way down.
        path: largest relative updates of all steps, summed up, after which something should have
            been learnt: a slow warm-up takes its time. The largest, for where no signal passes
            most layers get next to no gradient. While none is frozen.

    Example:
        >>> from shiftwatch import Monitor
        >>> rng = np.random.default_rng(0)
        >>> with Monitor(run=False, rules=[Plateau(path=0.0)]) as monitor:
        ...     for step in range(80):
        ...         for name in ("body", "head"):
        ...             monitor.observe(name, 1 + 0.01 * rng.normal(size=(16, 4)))
        ...         monitor.step(loss=2.3)
        >>> [(alert.layer, alert.kind) for alert in monitor.alerts]
        [('body', 'collapse')]

    References:
        Glorot and Bengio (2010), section 3.1, on sigmoids that let no signal through.
    """

    alike: float = 0.03
    falling: float = 0.97
    path: float = 0.2

    def columns(self, sites: Sites) -> np.ndarray:
        """Outputs in training."""
        return sites.columns("output", train=True)

    def init(self, sites: int) -> PlateauState:
        """Nothing seen."""
        return PlateauState(
            np.full(1, _WATCHED, np.int64),
            np.full(_OPENING, np.nan),
            np.full(2 * _HALF, np.nan),
            np.zeros(1),
        )

    def update(self, state: PlateauState, evidence: Evidence) -> Verdict:
        """Judge the batch as a whole."""
        mine, steps = self.columns(evidence.sites), evidence.frame.steps
        active = np.zeros(mine.size, bool)
        phase = int(state.phase[0])
        if phase == _OVER or not mine.size or not steps.size:
            return Verdict(state, [], active)
        if steps[0] > 0 and not np.isfinite(state.opening).any():
            return Verdict(_now(state, _OVER), [], active)  # how it began is not known
        state = self._followed(state, evidence)
        size = _relative(evidence, mine)
        last = np.isin(mine, _last(evidence.sites))
        if not last.any() or not np.isfinite(size[last]).all():
            return Verdict(state, [], active)
        before, now = np.median(state.late.reshape(2, _HALF), axis=1).tolist()
        opening = float(np.median(state.opening))
        if size[last].max() >= self.alike:
            return Verdict(_now(state, _OVER), [], active)
        order = evidence.sites.order[mine]
        place = int(np.where(size < self.alike, order, order.max() + 1).argmin())
        active[place] = phase == _RAISED
        stands = now >= self.falling * before and opening > 0 and state.late.min() > 0
        stands = stands and evidence.sites.whole
        if phase == _RAISED or not stands or state.path[0] < self.path:
            return Verdict(state, [], active)
        active[place] = True
        firing = Firing(
            step=0,
            column=int(mine[place]),
            kind="collapse",
            severity="warning",
            metric="std",
            value=float(size[place]),
            limit=self.alike,
            text=f"differs from sample to sample by {size[place]:.2g} of its size since the start, as "
            f"does the model's output, and the loss stands at {now:.3g} ({opening:.3g} at first)",
            score=self.alike / float(size[place]),
        )
        return Verdict(_now(state, _RAISED), [firing], active)

    def _followed(self, state: PlateauState, evidence: Evidence) -> PlateauState:
        """Losses and updates of some more steps."""
        sites, batch = evidence.sites, evidence.batch
        losses = evidence.losses[evidence.given]
        late = np.concatenate([state.late, losses])[-2 * _HALF :]
        missing = np.flatnonzero(np.isnan(state.opening))
        opening = state.opening.copy()
        first = losses[: missing.size]
        opening[missing[: first.size]] = first
        moved = evidence.update[batch.stepped][:, sites.learning]
        moved = np.where(np.isfinite(moved), moved, 0.0).max(1, initial=0.0)
        return PlateauState(state.phase, opening, late, state.path + moved.sum() * sites.whole)


def _relative(evidence: Evidence, mine: np.ndarray) -> np.ndarray:
    """Largest standard deviation within units over the root mean square, in steps of several
    samples: float64[sites]; NaN where there is none.
    """
    samples = evidence.batch.batch_size
    enough = (samples >= _SEVERAL) | (samples == 0)  # 0 where unknown
    frame = evidence.frame
    with np.errstate(all="ignore"):
        size = frame.spread[:, mine] / frame.rms[:, mine]
    known = np.isfinite(size) & (frame.spread[:, mine] > 0) & enough[:, None]
    largest = np.where(known, size, -np.inf).max(0)
    return np.where(known.any(0), largest, np.nan)


def _last(sites: Sites) -> np.ndarray:
    """Outputs in training of the layers that feed no other, and of those that feed them; none
    where a model is a single layer.
    """
    columns = sites.columns("output", train=True).tolist()
    seen = {sites.all[c].layer for c in columns}
    heads = {sites.all[c].layer for c in columns if sites.heads[c]}
    feeding = {p for name in heads for p in sites.layers[name].parents if p != INPUT} & seen
    if not feeding:
        return np.zeros(0, np.int64)
    return np.array([c for c in columns if sites.all[c].layer in heads | feeding], np.int64)


def _now(state: PlateauState, phase: int) -> PlateauState:
    return state._replace(phase=np.full(1, phase, np.int64))
