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

from dataclasses import dataclass, replace
from math import log
from typing import NamedTuple

import numpy as np

from shiftwatch import alpha
from shiftwatch.detectors import Jump
from shiftwatch.detectors.jump import Jumped, JumpState
from shiftwatch.records import INPUT
from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites

_STD, _MEAN, _SPREAD = range(3)
# Share of the run's false-alarm budget.
_SHARE = 0.8
# An octave of the standard deviation in the unit of variance_shift.
_LN_VARIANCE = 2 * log(2)
# Values of a site and samples of a batch in a step under which the floors widen, by the root.
_VALUES, _SAMPLES = 256, 8
# A rectified layer of fewer units moves as each of them falls silent: there floors are so many times as wide.
_UNITS, _SLACK = 8, 8.0
#: Steps whose moves are remembered to find an origin.
COURSE = 16
_KIND = ("variance_shift", "mean_shift", "collapse")


class ResponseState(NamedTuple):
    """Attributes: jump: of the three levels, [..., sites, 3]; typical: float64[sites], recent
    standard deviation; unit: float64[sites], what means are measured in; home: float64[sites, 3], levels before the last shift; until:
    int64[sites, 3], step at which a shift becomes the new normal, -1 where there is none;
    course: float64[COURSE, sites], size of the latest moves in limits; when: int64[COURSE],
    their steps; world: float64[1], size of the network's values of late.
    """

    jump: JumpState
    blast: JumpState
    typical: np.ndarray
    unit: np.ndarray
    home: np.ndarray
    until: np.ndarray
    course: np.ndarray
    when: np.ndarray
    world: np.ndarray


@dataclass(frozen=True)
class Response:
    """Jumps of a layer's distribution.

    Args:
        alpha: probability that a healthy run raises anything by chance, see :mod:`shiftwatch.alpha`.
        limit: in robust scales of the site's own moves; ``None`` for what ``alpha`` asks for.
        octaves: smallest change of the standard deviation that matters, in octaves: 0.5 is 41 %.
        deviations: smallest change of the mean that matters, in standard deviations.
        collapse: fall of the spread within units, in octaves, that counts as collapse.
        explosion: growth of the standard deviation in octaves that no update excuses.
        data: how many times as much the model's input may change: curricula and
            augmentation do.
        memory: steps after which a new level is the normal one.
        trade: share of the smallest change that matters which still does where it is the
            more unusual: half the change at twice the score.

    The limits were chosen on small networks: docs/alarms.md says which.
    """

    alpha: float = 0.01
    limit: float | None = None
    octaves: float = 0.5
    deviations: float = 0.75
    collapse: float = 3.33
    explosion: float = 3.33
    data: float = 2.0
    memory: int = 256
    trade: float = 0.4

    @property
    def _jump(self) -> Jump:
        floor = np.array([self.octaves, self.deviations, self.collapse])
        return Jump(
            floor=floor,
            prior=np.array([0.25, 0.2, 0.25]),
            least=np.array([0.02, 0.02, 0.02]),
            trade=self.trade,
        )

    def _for(self, evidence: Evidence, mine: np.ndarray) -> Jump:
        """The jump with wider floors for the model's input, for data change by design, and
        for levels that rest on few values, samples or units.
        """
        data = evidence.sites.order[mine] < 0
        wider = np.where(data[:, None], np.array([self.data, self.data, 1.0]), 1.0)
        values = np.maximum(evidence.frame.count[:, mine].max(0, initial=0), 1)
        samples = evidence.batch.batch_size.max(initial=0) or _SAMPLES
        few = np.sqrt(np.maximum(1, np.maximum(_VALUES / values, _SAMPLES / samples)))
        units = np.diff(evidence.units.starts)
        narrow = evidence.sites.one_sided[mine] & (units > 0) & (units < _UNITS)
        few = np.where(narrow, _SLACK, few)
        floor = np.asarray(self._jump.floor) * wider * few[:, None]
        return replace(self._jump, floor=floor, limit=self._needed(evidence, mine.size))

    def _needed(self, evidence: Evidence, sites: int) -> float:
        """The limit by now, for so many sites of three levels."""
        if self.limit is not None:
            return self.limit
        steps = evidence.frame.steps
        return alpha.limit(_SHARE * self.alpha, 3 * sites, int(steps.max(initial=0)))

    @property
    def _blast(self) -> Jump:
        return Jump(floor=self.explosion, prior=0.25, least=0.02)

    def columns(self, sites: Sites) -> np.ndarray:
        """Outputs and inputs in training."""
        return sites.columns("output", "input", train=True)

    def init(self, sites: int) -> ResponseState:
        """Nothing seen."""
        return ResponseState(
            jump=self._jump.init((sites, 3)),
            blast=self._blast.init((sites,)),
            typical=np.full(sites, np.nan),
            unit=np.ones(sites),
            home=np.full((sites, 3), np.nan),
            until=np.full((sites, 3), -1, np.int64),
            course=np.zeros((COURSE, sites)),
            when=np.full(COURSE, -1, np.int64),
            world=np.full(1, np.nan),
        )

    def update(self, state: ResponseState, evidence: Evidence) -> Verdict:
        """Judge the batch, all steps and sites at once where nothing happens."""
        frame = evidence.frame
        mine = self.columns(evidence.sites)
        stds, means, spreads = frame.std[:, mine], frame.mean[:, mine], frame.spread[:, mine]
        world = _scale_of_network(np.hypot(means, stds))
        # Where all else blows up, what is quiet is not drowned: the input least of all.
        lately = world if np.isnan(state.world[0]) else min(world, 2 * float(state.world[0]))
        least = max(1e-3 * lately, 1e-30)
        units, typical = _units(stds, state.typical, state.unit, least)
        jump = self._for(evidence, mine)
        blast = replace(self._blast, limit=jump.limit)
        # Means are followed in their own unit, for theirs changes from step to step.
        lengths = np.ones((*units.shape, 3))
        lengths[..., _MEAN] = units
        inner, home = _rescaled(jump.refresh(state.jump), state.home, state.unit)
        sizes = np.log2(stds + least)
        levels = np.stack([sizes, means, np.log2((spreads + least) / (stds + least))], axis=-1)
        excused = np.where(evidence.held, np.inf, evidence.explained)
        inner, out = jump.run(inner, levels, frame.steps, excused, np.asarray(jump.floor) * lengths)
        outer, big = blast.run(blast.refresh(state.blast), sizes, frame.steps)
        out = out._replace(change=out.change / lengths)
        course, when = state.course.copy(), state.when.copy()
        course[frame.steps % COURSE] = np.nan_to_num(np.abs(out.change) / self._jump.floor).max(
            -1, initial=0.0
        )
        when[frame.steps % COURSE] = frame.steps
        until = state.until
        firings: list[Firing] = []
        for t in self._eventful(out, big, until):
            now, bang = _at(out, t), _at(big, t)
            floor = np.asarray(jump.floor) / 2
            back = np.isfinite(levels[t]) & (np.abs(levels[t] - home) < floor * lengths[t])
            now = now._replace(fired=now.fired & ~back)  # the way back is the end and no news
            firings += self._shifts(mine, now)
            bang = bang._replace(fired=bang.fired & ~back[:, _STD])
            firings += self._explosions(evidence, mine, bang, world)
            moved = now.fired.copy()
            home = np.where(moved, levels[t] - now.change * lengths[t], home)
            fresh = bang.fired & ~moved[:, _STD]
            home[fresh, _STD] = (sizes[t] - bang.change)[fresh]
            moved[:, _STD] |= bang.fired
            step = int(frame.steps[t])
            until = np.where(moved, step + self.memory, until)
            settled = (until >= 0) & (step >= until)
            home = np.where(settled, np.nan, home)  # the new level is the normal one
            until = np.where(settled | back, -1, until)
        unit = units[-1] if len(units) else state.unit
        inner, home = _rescaled(inner, home, 1 / unit)
        return Verdict(
            ResponseState(
                inner, outer, typical, unit, home, until, course, when, np.array([lately])
            ),
            firings,
            np.asarray((until >= 0).any(-1)),
        )

    def _eventful(self, out: Jumped, big: Jumped, until: np.ndarray) -> list[int]:
        """Steps at which something begins or may end: from the first event on, or none."""
        begins = np.asarray(out.fired.any((1, 2)) | big.fired.any(1) | (until >= 0).any())
        return list(range(int(begins.argmax()), len(begins))) if begins.any() else []

    def _shifts(self, mine: np.ndarray, out: Jumped) -> list[Firing]:
        """Firings of the confirmed jumps."""
        found = []
        for place, which in np.argwhere(out.fired).tolist():
            change = float(out.change[place, which])
            if which == _SPREAD and change > 0:
                continue  # samples that differ more are a variance shift
            found.append(
                Firing(
                    step=int(out.since[place, which]),
                    column=int(mine[place]),
                    kind=_KIND[which],
                    severity="warning",
                    metric=("variance_shift", "mean_shift", "variance_shift")[which],
                    value=change * (1.0 if which == _MEAN else _LN_VARIANCE),
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
        return octaves * _LN_VARIANCE

    def _explosions(
        self, evidence: Evidence, mine: np.ndarray, big: Jumped, world: float
    ) -> list[Firing]:
        found = []
        for place in np.flatnonzero(big.fired).tolist():
            change, column = float(big.change[place]), int(mine[place])
            layer = evidence.sites.all[column].layer
            large = np.nanmax(evidence.frame.std[:, column]) > 4 * world
            if layer == INPUT or (change > 0 and not large):
                continue
            found.append(
                Firing(
                    step=int(big.since[place]),
                    column=column,
                    kind="exploding" if change > 0 else "vanishing",
                    severity="critical" if change > 2 * self.explosion else "warning",
                    metric="variance_shift",
                    value=change * _LN_VARIANCE,
                    limit=self.explosion * _LN_VARIANCE,
                    text=_phrase(_STD, change),
                    score=abs(change) / self.explosion,
                )
            )
        return found


def _at(out: Jumped, t: int) -> Jumped:
    """Outcome of one step."""
    return Jumped(*(array[t] for array in out))


def _units(
    stds: np.ndarray, typical: np.ndarray, unit: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """What means are measured in at every step, [T, sites], and the standard deviations' average.

    The unit is the recent standard deviation or the newest one, whichever is larger.
    """
    seen = np.isfinite(stds)
    first = stds[seen.argmax(0), np.arange(stds.shape[1])] if len(stds) else typical
    typical = np.where(np.isnan(typical), first, typical)
    units = np.empty_like(stds)
    for t, std in enumerate(stds):
        larger = np.maximum(np.fmax(typical, std), least)
        units[t] = unit = np.where(seen[t], larger, unit)
        typical = np.where(seen[t], typical + 0.1 * (std - typical), typical)
    return units, typical


def _rescaled(
    state: JumpState, home: np.ndarray, factor: np.ndarray
) -> tuple[JumpState, np.ndarray]:
    """What is remembered of the means, in a new unit."""
    scale = np.ones((factor.size, 3))
    scale[:, _MEAN] = factor
    state = state._replace(
        levels=state.levels * scale,
        moves=state.moves * scale,
        scale=state.scale * scale,
        place=state.place * scale,
    )
    return state, home * scale


def _scale_of_network(sizes: np.ndarray) -> float:
    """Median size of the values of all sites: what is small, what is large here."""
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return float(np.median(sizes)) if sizes.size else 1.0


def _phrase(which: int, change: float) -> str:
    if which == _MEAN:
        return f"mean moved by {change:+.2g} standard deviations within a few steps"
    what = "standard deviation" if which == _STD else "spread between samples"
    verb = "grew" if change > 0 else "fell"
    return f"{what} {verb} ×{2 ** abs(change):.3g} within a few steps"
