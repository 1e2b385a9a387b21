"""Frame: what every site looked like at every step of a batch, for detectors to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from shiftwatch.activations import flat_of
from shiftwatch.contents import Contents, contents
from shiftwatch.source import Batch, Group
from shiftwatch.stages import Stages, finish
from shiftwatch.summaries import Activity, Block, Calls, Part, Summary, surveying


@dataclass(frozen=True)
class Frame:
    """Course over the steps of a batch; several calls in one step are pooled.

    Args:
        steps: int64[T].
        count: float64[T, sites], finite values; 0 where a site was not seen.
        mean, std: float64[T, sites], as in ``Rows``; NaN where not seen.
        spread: float64[T, sites], likewise, of outputs and inputs in training; else NaN.
        nonfinite: float64[T, sites], number of NaN and Inf.
    """

    steps: np.ndarray
    count: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    spread: np.ndarray
    nonfinite: np.ndarray

    @cached_property
    def rms(self) -> np.ndarray:
        """Root mean square: float64[T, sites]."""
        return np.hypot(self.mean, self.std)


class Framed(NamedTuple):
    """A batch measured.

    Attributes:
        course: every step, over all sites.
        summary: the batch as one window, of shape (sites,), without units.
        activity: what the units of the active sites did.
        entered: what the model's input held.
    """

    course: Frame
    summary: Summary
    activity: Activity
    entered: Contents

    def widened(self, sites: int) -> Framed:
        """With so many sites; those that came since were not seen."""
        if self.summary.shape[0] >= sites:
            return self
        course = self.course
        wide = [
            _widened(getattr(course, name), sites, fill)
            for name, fill in zip(
                ("count", "mean", "std", "spread", "nonfinite"),
                (0.0, np.nan, np.nan, np.nan, 0.0),
                strict=True,
            )
        ]
        return self._replace(course=Frame(course.steps, *wide), summary=self.summary.padded(sites))


class Wanted(NamedTuple):
    """What is asked of the sites beside the usual: bool[sites] each, and a column.

    Attributes:
        slow: weights and updates, of which the newest call stands for the window.
        spread: where samples are compared with each other.
        active: where units can die.
        telling: column of the model's input, of which the contents are read; -1 for none.
    """

    slow: np.ndarray
    spread: np.ndarray
    active: np.ndarray
    telling: int = -1

    @classmethod
    def everything(cls, sites: int) -> Wanted:
        """Every call in full, and all of the rest."""
        return cls(np.zeros(sites, bool), np.ones(sites, bool), np.ones(sites, bool))


def frame(
    batch: Batch,
    sites: int,
    guessed: Mapping[int, str] | None = None,
    wanted: Wanted | None = None,
) -> Framed:
    """Measure a batch.

    Args:
        sites: how many columns there are.
        guessed: column to activation, where it was read off the values.
        wanted: what is asked of the sites; by default everything.

    Returns:
        Its Frame over all ``sites``; its Summary, shape (sites,), without units; and what the
        units of the active sites did.

    Cost: that of ``survey``.
    """
    with np.errstate(all="ignore"):
        return finish(framing(batch, sites, guessed, wanted))


def framing(
    batch: Batch,
    sites: int,
    guessed: Mapping[int, str] | None = None,
    wanted: Wanted | None = None,
) -> Stages[Framed]:
    """The same in stages; to be run where NumPy's warnings are off."""
    wanted = wanted or Wanted.everything(sites)
    shape = (batch.steps.size, sites)
    parts = [
        Part(
            block=Block(group.values, group.steps >= 0, group.flat, group.tiny),
            sites=group.sites,
            tags=_cells(group, batch.steps, sites),
            slow=bool(wanted.slow[group.sites].all()),
            spread=bool(wanted.spread[group.sites].any()),
            active=bool(wanted.active[group.sites].any()),
        )
        for group in _split([g for g in batch.groups if not g.ids], guessed or {})
    ]
    summary, calls, activity = yield from surveying(parts, sites)
    course = _course(batch.steps, shape, calls)
    if batch.course is not None:
        known = (
            _widened(column, sites, fill)
            for column, fill in zip(batch.course, _UNSEEN, strict=True)
        )
        count, mean, std, nonfinite = known
        course = Frame(batch.steps, count, mean, std, course.spread, nonfinite)
    return Framed(course, summary, activity, contents(batch.groups, wanted.telling))


_UNSEEN = (0.0, np.nan, np.nan, 0.0)  # count, mean, std, nonfinite


def _widened(values: np.ndarray, sites: int, fill: float) -> np.ndarray:
    """Values of sites that came after the source had closed the step: ``fill``."""
    missing = sites - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing)), constant_values=fill) if missing else values


def _cells(group: Group, steps: np.ndarray, sites: int) -> np.ndarray:
    """Where each call belongs in an array [T, sites], flattened; -1 where it is not filled."""
    time = np.searchsorted(steps, group.steps)
    return np.where(group.steps >= 0, time * sites + group.sites, -1)


def _course(steps: np.ndarray, shape: tuple[int, int], calls: Calls) -> Frame:
    """The calls of each step pooled."""
    seen = calls.tag >= 0
    if not seen.all():
        calls = Calls(*(column[seen] for column in calls))
    n = calls.n

    def pooled(values: np.ndarray) -> np.ndarray:
        return np.bincount(calls.tag, values, shape[0] * shape[1]).reshape(shape)

    def average(values: np.ndarray) -> np.ndarray:
        return pooled(np.where(n > 0, values * n, 0.0)) / count

    with np.errstate(invalid="ignore", divide="ignore"):
        count = pooled(n)
        mean = average(calls.mean)
        square = average(calls.std**2 + calls.mean**2)
        return Frame(
            steps=steps,
            count=count,
            mean=mean,
            std=np.sqrt(np.maximum(square - mean**2, 0)),
            spread=average(calls.spread),
            nonfinite=pooled(calls.nonfinite),
        )


def _split(groups: Sequence[Group], guessed: Mapping[int, str]) -> Iterator[Group]:
    """The groups, with sites of guessed activations in groups of their own."""
    for group in groups:
        names = [guessed.get(c, "") for c in group.sites.tolist()] if guessed else []
        if not any(names):
            yield group
            continue
        for name in sorted(set(names)):
            part = np.array([n == name for n in names])
            yield Group(
                group.sites[part],
                group.values[:, part],
                group.steps[:, part],
                flat_of(name) if name else group.flat,
                None if group.tiny is None else group.tiny[part],
            )
