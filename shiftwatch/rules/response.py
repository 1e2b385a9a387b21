"""Response: a layer's distribution jumps by more than its weight updates explain.

Three levels of every output and input are followed at every step: the logarithm of the
standard deviation (octaves), the mean (in recent standard deviations), and the
share of the spread within units in it (octaves; do samples still differ?). A level that leaves its
recent place by many of its own usual moves, by a size that matters, and stays away,
is a shift. What counts as usual widens with the size of the recent weight updates, so a
restarted learning rate explains the drift that it causes.

A growth of more than ten times is called exploding whatever explains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.detectors import Jump
from shiftwatch.detectors.jump import Jumped, JumpState
from shiftwatch.records import INPUT
from shiftwatch.rules.base import Evidence, Firing, Verdict

_STD, _MEAN, _SPREAD = range(3)
#: Steps whose moves are remembered to find an origin.
COURSE = 16
_KIND = ("variance_shift", "mean_shift", "collapse")


class ResponseState(NamedTuple):
    """Attributes: jump: of the three levels, [..., sites, 3]; typical: float64[sites], slow
    standard deviation; home: float64[sites, 3], levels before the last shift; until:
    int64[sites, 3], step at which a shift becomes the new normal, -1 where there is none;
    course: float64[COURSE, sites], size of the latest moves in limits; when: int64[COURSE],
    their steps.
    """

    jump: JumpState
    blast: JumpState
    typical: np.ndarray
    home: np.ndarray
    until: np.ndarray
    course: np.ndarray
    when: np.ndarray


@dataclass(frozen=True)
class Response:
    """Jumps of a layer's distribution.

    Args:
        limit: in robust scales of the site's own moves.
        octaves: smallest change of the standard deviation that matters, in octaves: 0.5 is 41 %.
        deviations: smallest change of the mean that matters, in standard deviations.
        collapse: fall of the spread within units, in octaves, that counts as collapse.
        explosion: growth of the standard deviation in octaves that no update excuses.
        memory: steps after which a new level is the normal one.

    The limits come from ``benchmarks``: see the documentation of the alarms.
    """

    limit: float = 8.0
    octaves: float = 0.5
    deviations: float = 0.5
    collapse: float = 3.33
    explosion: float = 3.33
    memory: int = 256

    @property
    def _jump(self) -> Jump:
        floor = np.array([self.octaves, self.deviations, self.collapse])
        return Jump(
            limit=self.limit, floor=floor, prior=np.array([0.25, 0.2, 0.25]), least=np.array([0.02, 0.02, 0.02])
        )

    @property
    def _blast(self) -> Jump:
        return Jump(limit=self.limit, floor=self.explosion, prior=0.25, least=0.02)

    def init(self, sites: int) -> ResponseState:
        """Nothing seen."""
        return ResponseState(
            jump=self._jump.init((sites, 3)),
            blast=self._blast.init((sites,)),
            typical=np.full(sites, np.nan),
            home=np.full((sites, 3), np.nan),
            until=np.full((sites, 3), -1, np.int64),
            course=np.zeros((COURSE, sites)),
            when=np.full(COURSE, -1, np.int64),
        )

    def update(self, state: ResponseState, evidence: Evidence) -> Verdict:
        """Judge the batch step by step, all sites at once."""
        frame, sites = evidence.frame, evidence.sites
        watched = sites.mask("output", "input", train=True)
        jump, blast = self._jump, self._blast
        inner = jump.refresh(state.jump)
        outer = blast.refresh(state.blast)
        typical, home, until = state.typical, state.home, state.until
        course, when = state.course.copy(), state.when.copy()
        firings: list[Firing] = []
        world = _scale_of_network(frame.rms, watched)
        for t, step in enumerate(frame.steps.tolist()):
            std = np.where(watched, frame.std[t], np.nan)
            seen = np.isfinite(std)
            typical = np.where(np.isnan(typical), std, typical)
            typical = np.where(seen, typical + 0.02 * (std - typical), typical)
            least = np.maximum(1e-3 * world, 1e-30)
            unit = np.maximum(typical, least)
            levels = np.stack(
                [
                    np.log2(std + least),
                    np.where(seen, frame.mean[t], np.nan) / unit,
                    np.log2((frame.spread[t] + least) / (std + least)),
                ],
                axis=-1,
            )
            inner, out = jump.update(inner, levels, step, evidence.explained[t])
            course[step % COURSE] = np.nan_to_num(
                np.abs(out.change[:, :_SPREAD]) / np.asarray(jump.floor)[:_SPREAD]
            ).max(-1)
            when[step % COURSE] = step
            outer, big = blast.update(outer, levels[:, _STD], step)
            firings += self._shifts(evidence, out, levels)
            firings += self._explosions(evidence, big, world)
            moved = out.fired.copy()
            home = np.where(moved, levels - out.change, home)
            fresh = big.fired & ~moved[:, _STD]
            home[fresh, _STD] = (levels[:, _STD] - big.change)[fresh]
            moved[:, _STD] |= big.fired
            until = np.where(moved, step + self.memory, until)
            floor = np.asarray(jump.floor) / 2
            back = np.isfinite(levels) & (np.abs(levels - home) < floor)
            until = np.where((until >= 0) & (back | (step >= until)), -1, until)
        return Verdict(
            ResponseState(inner, outer, typical, home, until, course, when),
            firings,
            (until >= 0).any(-1),
        )

    def _shifts(self, evidence: Evidence, out: Jumped, levels: np.ndarray) -> list[Firing]:
        """Firings of the confirmed jumps."""
        found = []
        for column, which in np.argwhere(out.fired).tolist():
            change = float(out.change[column, which])
            if which == _SPREAD and change > 0:
                continue  # samples that differ more are a variance shift
            found.append(
                Firing(
                    step=int(out.since[column, which]),
                    column=column,
                    kind=_KIND[which],
                    severity="warning",
                    metric=("variance_shift", "mean_shift", "variance_shift")[which],
                    value=change * (2 * np.log(2) if which != _MEAN else 1.0),
                    limit=self._limit_of(which),
                    text=_phrase(which, change),
                    score=abs(change) / (self.octaves, self.deviations, self.collapse)[which],
                )
            )
        return found

    def _limit_of(self, which: int) -> float:
        """Limit in the metric's own unit: variance_shift is a natural logarithm of variances."""
        if which == _MEAN:
            return self.deviations
        octaves = self.octaves if which == _STD else self.collapse
        return octaves * 2 * float(np.log(2))

    def _explosions(self, evidence: Evidence, big: Jumped, world: float) -> list[Firing]:
        found = []
        for column in np.flatnonzero(big.fired).tolist():
            change = float(big.change[column])
            layer = evidence.sites.all[column].layer
            large = np.nanmax(evidence.frame.std[:, column]) > 4 * world
            if layer == INPUT or (change > 0 and not large):
                continue
            found.append(
                Firing(
                    step=int(big.since[column]),
                    column=column,
                    kind="exploding" if change > 0 else "vanishing",
                    severity="critical" if change > 2 * self.explosion else "warning",
                    metric="variance_shift",
                    value=change * 2 * float(np.log(2)),
                    limit=self.explosion * 2 * float(np.log(2)),
                    text=_phrase(_STD, change),
                    score=abs(change) / self.explosion,
                )
            )
        return found


def _scale_of_network(rms: np.ndarray, watched: np.ndarray) -> float:
    """Median size of the values of all watched sites: what is small, what is large here."""
    sizes = rms[:, watched]
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return float(np.median(sizes)) if sizes.size else 1.0


def _phrase(which: int, change: float) -> str:
    if which == _MEAN:
        return f"mean moved by {change:+.2g} standard deviations within a few steps"
    what = "standard deviation" if which == _STD else "spread between samples"
    verb = "grew" if change > 0 else "fell"
    return f"{what} {verb} ×{2 ** abs(change):.3g} within a few steps"
