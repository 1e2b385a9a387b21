"""What a rule gets to see, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import le
from typing import Any, NamedTuple, Protocol

import numpy as np

from shiftwatch.contents import Contents
from shiftwatch.frame import Frame
from shiftwatch.plain import restored
from shiftwatch.sites import Sites
from shiftwatch.source import Batch
from shiftwatch.summaries import Summary, Units


@dataclass(frozen=True)
class Evidence:
    """Everything known after a batch of steps.

    Args:
        sites: the table of sites; all columns below are its columns.
        frame: every site at every step.
        batch: learning rate, optimizer steps, weights changed from outside.
        summary: the batch as one window, without units: shape (sites,).
        units: activity so far of the units of outputs and inputs in training, whose columns
            are ``sites.columns("output", "input", train=True)``.
        metrics: key to float64[sites], the window against its reference; and over the sites
            of ``units``, the window against the one before it: ``js_step`` (above what
            sampling alone makes), ``mean_step``, ``variance_step``.
        losses: float64[T].
        given: bool[T], whether the step's loss was given at all.
        update: float64[T, sites], relative size of the newest update: rms of the update over
            rms of the weight, at the update's column; NaN elsewhere and where not seen.
        explained: float64[T], at least 1: how much larger than usual the weight updates of
            the last steps were, hence how much more drift they explain.
        held: bool[T], whether the run did something on purpose that moves distributions.
        surprise: float64[T], octaves of the loss above all recent ones, at this step or the
            few before it; a batch like that explains a large update.
        entered: what the model's input held, at column ``sites.telling``.
    """

    sites: Sites
    frame: Frame
    batch: Batch
    summary: Summary
    units: Units
    metrics: Mapping[str, np.ndarray]
    losses: np.ndarray
    given: np.ndarray
    update: np.ndarray
    explained: np.ndarray
    held: np.ndarray
    surprise: np.ndarray
    entered: Contents

    @cached_property
    def excused(self) -> frozenset[int]:
        """Steps at which shifts are no news: those that are ``held``."""
        return frozenset(self.frame.steps[self.held].tolist())

    def continuing(self, losses: np.ndarray) -> np.ndarray:
        """The first losses of a run after some more steps: float64[any], NaN where none is known yet."""
        losses = losses.copy()
        missing = np.flatnonzero(np.isnan(losses))
        fresh = self.losses[self.given & np.isfinite(self.losses)][: missing.size]
        losses[missing[: fresh.size]] = fresh
        return losses


class Firing(NamedTuple):
    """A condition begins at a site.

    Attributes:
        step: at which the condition began.
        column: the site.
        kind: as in ``Alert``.
        severity: as in ``Alert``.
        metric: key of what crossed.
        value, limit: of that metric.
        text: how much, against what.
        score: strength, to rank sites that fire together.
        origin: the layer where it began, where that is known for certain; else ``""``.
    """

    step: int
    column: int
    kind: str
    severity: str
    metric: str
    value: float
    limit: float
    text: str
    score: float
    origin: str = ""


class Verdict(NamedTuple):
    """Outcome of a rule on a batch: its next state, what began, and where it still holds.

    Attributes:
        active: bool[its own sites].
    """

    state: Any
    firings: list[Firing]
    active: np.ndarray


class Judge(Protocol):
    """A rule: frozen configuration, state outside, all its sites judged in one call."""

    def columns(self, sites: Sites) -> np.ndarray:
        """The sites that it judges, ascending; a new site only ever adds to the end."""

    def init(self, number: int) -> Any:
        """State before the first batch, for so many of its own sites."""

    def update(self, state: Any, evidence: Evidence) -> Verdict:
        """Judge a batch; ``state`` is of ``columns(evidence.sites)``."""


def lapsed(until: np.ndarray, step: int) -> np.ndarray:
    """Steps until which sites are left alone, as int64, -1 for none: those reached by now are over."""
    return np.where(until <= step, -1, until)


def continued(saved: Any, fresh: Any) -> Any:
    """A state that was saved, as of so many sites as the fresh one has.

    The fresh one where the saved one is of another form, as of another version of the rule.
    """
    try:
        state = restored(saved, fresh)
    except (ValueError, TypeError, KeyError):
        return fresh
    return grown(state, fresh) if _fits(state, fresh) else fresh


def _fits(state: Any, fresh: Any) -> bool:
    """Whether all arrays are of as many axes as the others, and no longer."""
    if isinstance(fresh, tuple):
        return all(map(_fits, state, fresh))
    if not isinstance(fresh, np.ndarray):
        return True
    return state.ndim == fresh.ndim and all(map(le, state.shape, fresh.shape))


def grown(state: Any, fresh: Any) -> Any:
    """A state of fewer sites, put into the leading part of a fresh one of more.

    Both are NamedTuples (nested ones too) of arrays and numbers.
    """
    if isinstance(fresh, tuple):
        return type(fresh)(*(grown(a, b) for a, b in zip(state, fresh, strict=True)))
    if not isinstance(fresh, np.ndarray) or state.shape == fresh.shape:
        return state
    result = fresh.copy()
    result[tuple(slice(0, n) for n in state.shape)] = state
    return result
