"""Settings: a learning rate, a momentum or a weight decay that no schedule brings about; a state lost.

Schedules move in small steps, or by a factor of ten downwards, or back to where they have been.
What leaps far beyond anything used before is a slip in a configuration, and it is known at the very
step, before the loss has felt it. A schedule that has been rising since the run's first step, as a
warm-up or a search for the learning rate, has no before; nor has a rate that hardly moved
the weights. An optimizer that forgot how many steps it took forgot its moments too, as after a
load of the model alone: its next steps are as large as its first ones were.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import isnan, nan
from typing import NamedTuple

import numpy as np

from shiftwatch.medians import medians
from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites

# Steps without a new highest rate after which it is one to compare with, …
_SETTLED = 16
# … if they move the median weight by this share of its size; 1e-3 is usual.
_FELT = 1e-4


class SettingsState(NamedTuple):
    """Attributes: known: float64[9], the fields of what is known in their order."""

    known: np.ndarray


@dataclass(frozen=True)
class _Known:
    """What is known of the settings so far; NaN where nothing is.

    Args:
        rate: the newest learning rate.
        peak: the largest, and ``age``: steps since it was raised.
        settled: the largest that was not raised for some steps.
        before: the rate before a fall, and ``low``: steps since.
        horizon, decay: the largest so far.
        until: step until which nothing is said again.
    """

    rate: float = nan
    peak: float = nan
    age: float = 0
    settled: float = nan
    before: float = nan
    low: float = 0
    horizon: float = nan
    decay: float = nan
    until: float = -1


@dataclass(frozen=True)
class Settings:
    """Leaps of the optimizer's settings.

    Args:
        rise: learning rate over the largest so far that is beyond any schedule.
        leap: the same within a single step, …
        beyond: … if it is also this many times the largest so far.
        size: either way the median weight must be moved by this share of its size in a step, 1e-3 is
            usual; after a leap, which may be one group's alone, any weight by twice as much.
        fall: learning rate over the one of the step before that is beyond any schedule …
        patience: … if it stays so for this many steps.
        momentum: growth of the number of steps that momentum averages …
        horizon: … to at least so many.
        decay: share of the weights that decay takes per step; 1e-5 to 1e-3 are usual.
        heavier: growth of that share which is too much from a quarter of ``decay`` on.
        forgotten: steps that the optimizer had counted and counts no more, of which enough was learnt …
        matters: … if the median weight is moved by this share of its size without them.
        memory: steps for which nothing is said again.
    """

    rise: float = 6.0
    leap: float = 6.0
    beyond: float = 1.8
    size: float = 0.005
    fall: float = 1e-3
    patience: int = 8
    momentum: float = 8.0
    horizon: float = 100.0
    decay: float = 0.01
    heavier: float = 10.0
    forgotten: float = 16
    matters: float = 1e-3
    memory: int = 256

    def columns(self, sites: Sites) -> np.ndarray:
        """Updates in training."""
        return sites.columns("update", train=True)

    def init(self, sites: int) -> SettingsState:
        """Nothing seen."""
        return SettingsState(_packed(_Known()))

    def update(self, state: SettingsState, evidence: Evidence) -> Verdict:
        """Judge the settings of the batch's steps."""
        sites, batch = evidence.sites, evidence.batch
        active = np.zeros(self.columns(sites).size, bool)
        main = sites.learning
        if not main.size or not np.isfinite(batch.learning_rate).any():
            return Verdict(state, [], active)
        known = _Known(*state.known.tolist())
        others = np.full((batch.steps.size, 3), nan) if batch.settings is None else batch.settings
        moved = evidence.update[:, main]
        sizes = medians(moved)
        firings: list[Firing] = []
        for t in np.flatnonzero(batch.stepped & (batch.learning_rate > 0)).tolist():
            step, rate, size = int(batch.steps[t]), float(batch.learning_rate[t]), float(sizes[t])
            horizon, decay, forgotten = others[t].tolist()
            after = self._followed(known, rate, size, horizon, decay)
            most = int(np.nan_to_num(moved[t]).argmax())
            sizable = max(size, float(np.nan_to_num(moved[t, most])) / 2)
            found = step >= known.until and (
                self._lost(forgotten, size)
                or self._judged(known, after, size, sizable, horizon, decay)
            )
            if found:
                kind, text = found
                began = step - int(after.low) + 1 if kind == "frozen" else step
                alone = sizable > size and size < self.size
                firings.append(
                    Firing(
                        step=began,
                        column=int(main[most if alone else 0]),
                        kind=kind,
                        severity="warning",
                        metric="relative_update",
                        value=2 * sizable if alone else size,
                        limit=2 * self.size if alone else self.size,
                        text=text,
                        score=1.0,
                    )
                )
                after = replace(after, until=step + self.memory)
            known = after
        active[:1] = bool(firings) or int(batch.steps[-1]) < known.until
        return Verdict(SettingsState(_packed(known)), firings, active)

    def _followed(
        self, known: _Known, rate: float, size: float, horizon: float, decay: float
    ) -> _Known:
        """What is known after one more step."""
        rises = isnan(known.peak) or rate > known.peak
        before, low = nan, 0.0
        # Of a rate that was never held: after a leap it only comes back.
        if rate <= self.fall * known.rate and known.age >= _SETTLED:
            before, low = known.rate, 1.0
        elif rate <= self.fall * known.before:
            before, low = known.before, known.low + 1
        return _Known(
            rate=rate,
            peak=rate if rises else known.peak,
            age=0 if rises else known.age + (size >= _FELT),
            settled=known.peak if known.age >= _SETTLED else known.settled,
            before=before,
            low=low,
            horizon=_larger(known.horizon, horizon),
            decay=_larger(known.decay, decay),
            until=known.until,
        )

    def _lost(self, forgotten: float, size: float) -> tuple[str, str] | None:
        """Whether a step was made without what the steps before had taught the optimizer."""
        if not (forgotten >= self.forgotten and size >= self.matters):
            return None
        return "update", (
            f"the optimizer lost its state: it had counted {forgotten:.0f} steps, begins at none again, "
            f"and a step moves the weights by {size:.2g} of their size"
        )

    def _judged(
        self,
        known: _Known,
        after: _Known,
        size: float,
        sizable: float,
        horizon: float,
        decay: float,
    ) -> tuple[str, str] | None:
        """What a step is: a kind and words, or nothing of note.

        Args:
            size, sizable: how far the median weight was moved; and half of how far any was, if more.
        """
        rate, settled = after.rate, after.settled
        leaps = rate >= self.leap * known.rate and rate >= self.beyond * settled
        if (size >= self.size and rate >= self.rise * settled) or (sizable >= self.size and leaps):
            whose, moved = ("", size) if size >= self.size else (" of a group", 2 * sizable)
            return "update", (
                f"the learning rate{whose} is {rate:.3g}, ×{rate / settled:.3g} the largest so far, "
                f"and a step moves {'its' if whose else 'the'} weights by {moved:.2g} of their size"
            )
        if after.low == self.patience:
            return "frozen", (
                f"the learning rate fell from {after.before:.3g} to {rate:.3g} in a step: "
                "next to nothing is learnt at this rate"
            )
        if horizon >= max(self.momentum * known.horizon, self.horizon):
            return "update", (
                f"momentum averages over {horizon:.3g} steps, ×{horizon / known.horizon:.3g} as many "
                "as before: what it gathers now is followed for as long"
            )
        heavier = decay >= max(self.heavier * known.decay, self.decay / 4)
        if heavier or decay >= self.decay:
            return "update", (
                f"weight decay takes {decay:.2g} of the weights at every step (learning rate × "
                "weight_decay; 1e-5 to 1e-3 are usual)"
            )
        return None


def _larger(a: float, b: float) -> float:
    """The larger one, or the one that is known."""
    return b if isnan(a) or b > a else a


def _packed(known: _Known) -> np.ndarray:
    return np.array([getattr(known, f.name) for f in fields(known)], np.float64)
