"""References: which window counts as normal when a divergence is taken.

``first``     each site's first window: how far has training come?
``previous``  the window before: how fast does it move now?
``decayed``   an exponentially fading mixture of all windows so far.
``SavedRun``  the same steps of a good run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from shiftwatch.run import Run
from shiftwatch.sites import Sites
from shiftwatch.summaries import Histogram, Moments, Summary, Tallies

_Group = TypeVar("_Group", Moments, Tallies, Histogram)


class Reference(Protocol):
    """A frozen choice; what it remembers is a Summary over all sites."""

    def of(self, kept: Summary, current: Summary, sites: Sites, step: int) -> Summary:
        """What ``current`` is to be compared with: shape (sites,), empty where unknown."""

    def keep(self, kept: Summary, current: Summary) -> Summary:
        """What is remembered after ``current``."""


@dataclass(frozen=True)
class First:
    """Each site's first window."""

    def of(self, kept: Summary, current: Summary, sites: Sites, step: int) -> Summary:
        """The first window; for a site that is new, the current one itself."""
        return self.keep(kept, current)

    def keep(self, kept: Summary, current: Summary) -> Summary:
        """The first window, once there is one."""
        return chosen(kept.count > 0, kept, current)


@dataclass(frozen=True)
class Previous:
    """The window before."""

    def of(self, kept: Summary, current: Summary, sites: Sites, step: int) -> Summary:
        """The last window in which each site was seen."""
        return chosen(kept.count > 0, kept, current)

    def keep(self, kept: Summary, current: Summary) -> Summary:
        """The current window where the site was seen."""
        return chosen(current.count > 0, current, kept)


@dataclass(frozen=True)
class Decayed:
    """All windows so far, each older one at ``rate`` of the weight of the next.

    Args:
        rate: 0 … 1; at 0.9 about the last ten windows count.

    Raises:
        ValueError: for a rate outside 0 … 1.
    """

    rate: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"rate must lie between 0 and 1; got {self.rate}. Try 0.9.")

    def of(self, kept: Summary, current: Summary, sites: Sites, step: int) -> Summary:
        """The fading mixture up to the window before."""
        return chosen(kept.count > 0, _scaled(kept, 1 / _FINE), current)

    def keep(self, kept: Summary, current: Summary) -> Summary:
        """The mixture with the current window in it, in parts of a count."""
        return _scaled(kept, self.rate) + _scaled(current, _FINE)


class SavedRun:
    """The same steps of a good run, layers matched by name.

    Args:
        run: read back with ``shiftwatch.open``.

    Raises:
        ValueError: where the run holds no window.
    """

    def __init__(self, run: Run) -> None:
        if not len(run):
            raise ValueError(
                f"The reference run {run.path} holds no window yet. Choose a run that got further."
            )
        self.run = run
        self._window = -1
        self._summary = Summary.empty((0,))

    def of(self, kept: Summary, current: Summary, sites: Sites, step: int) -> Summary:
        """The good run's window nearest to ``step``; empty for sites that it does not have."""
        window = int(np.argmin(np.abs(self.run.steps - step)))
        if window != self._window:
            self._window, self._summary = window, self.run.summary(window)
        there = {site: i for i, site in enumerate(self.run.sites)}
        index = np.array([there.get(site, -1) for site in sites.all], np.int64)
        padded = self._summary.padded(len(self.run.sites) + 1)  # the last one is empty
        return padded[index]

    def keep(self, kept: Summary, current: Summary) -> Summary:
        """Nothing to remember."""
        return kept


def chosen(mask: np.ndarray, a: Summary, b: Summary) -> Summary:
    """Site by site ``a`` where the mask holds, else ``b``; without units."""
    for side, everywhere in ((a, mask.all()), (b, not mask.any())):
        if everywhere and side.units is None:
            return side

    def pick(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.where(mask.reshape(-1, *[1] * (left.ndim - 1)), left, right)

    def picked(left: _Group, right: _Group) -> _Group:
        names = [f.name for f in fields(left)]
        return type(left)(*(pick(getattr(left, n), getattr(right, n)) for n in names))

    return Summary(
        picked(a.moments, b.moments),
        picked(a.tallies, b.tallies),
        picked(a.histogram, b.histogram),
        bounded=np.where(mask, a.bounded, b.bounded),
    )


# A faded count is kept in parts of this size: rounded to whole ones, 4 would stay 4 for ever.
_FINE = 1024


def _scaled(summary: Summary, factor: float) -> Summary:
    """A summary in which everything counts ``factor`` times, without units."""

    def scaled(group: object, names: tuple[str, ...]) -> list[np.ndarray]:
        return [
            _times(getattr(group, n), factor) if n in names else getattr(group, n)
            for n in group.__dataclass_fields__  # type: ignore[attr-defined]
        ]

    tallies = tuple(f.name for f in fields(Tallies))
    return Summary(
        Moments(*scaled(summary.moments, ("count", "m2", "m3", "m4"))),
        Tallies(*scaled(summary.tallies, tallies)),
        Histogram(_times(summary.histogram.counts, factor)),
        summary.bounded,
    )


def _times(values: np.ndarray, factor: float) -> np.ndarray:
    scaled = values * factor
    return np.rint(scaled).astype(values.dtype) if values.dtype.kind == "i" else scaled


def reference_of(given: Any) -> Reference:
    """The reference that a user means by a name, by the path of a good run, or by itself.

    Raises:
        ValueError: for a name or a path that is none.
        TypeError: for anything else.

    Example:
        >>> reference_of("previous")
        Previous()
    """
    if isinstance(given, str) and given in _NAMED:
        return _NAMED[given]()
    if isinstance(given, (str, os.PathLike)):
        from shiftwatch.store import open_run

        path = Path(given)
        if not path.exists():
            raise ValueError(
                f"reference must be 'first', 'previous', 'decayed' or the path of a run; "
                f"got {str(given)!r}, and there is no such folder."
            )
        return SavedRun(open_run(path))
    if hasattr(given, "of") and hasattr(given, "keep"):
        return cast(Reference, given)
    raise TypeError(f"reference must be a name or a path; got {given!r}.")


_NAMED: dict[str, Callable[[], Reference]] = {
    "first": First,
    "previous": Previous,
    "decayed": Decayed,
}
