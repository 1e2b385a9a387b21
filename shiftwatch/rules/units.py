"""Units: rectified units that fall silent, and sigmoidal layers driven into their tails.

Both have an absolute meaning, so both are judged by level; but healthy nets have some of
either, so it is the growth over the layer's own beginning that counts. A layer that is
born broken has no growth to show: the first windows are judged by level, with wide limits. And a
unit that is silent under the data of late may wake under others, as where classes come in blocks:
that many of a layer are is worth a note, and an alarm only where hardly one is left of a layer that had
many, or none of any; in a layer of a few units it is a note, for these may all die in a healthy gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.detectors import Cusum
from shiftwatch.detectors.cusum import CusumState
from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites
from shiftwatch.statistics.dead_fraction import dead_share


class LevelState(NamedTuple):
    """Attributes: sum: Cusum over the growth; base: float64[sites], level at the beginning;
    stage: int64[sites], 0 where nothing was said, 1 after a note, 2 after an alarm.
    """

    sum: CusumState
    base: np.ndarray
    stage: np.ndarray


class UnitsState(NamedTuple):
    """Attributes: dead, flat: LevelState of either share."""

    dead: LevelState
    flat: LevelState


@dataclass(frozen=True)
class Growth:
    """How much growth of a share matters.

    Args:
        kind, metric: as in ``Alert``.
        birth: level at the start from which a layer counts as born broken, …
        level: smallest level that is reported later, …
        growth: … and the smallest growth over the beginning.
        alarm: level under which either is a note and no alarm, …
        most: … and growth under which it is, …
        gone: … unless it led to this level.
        critical: level from which an alarm is critical.
        what: for the message.
    """

    kind: str
    metric: str
    birth: float
    level: float
    growth: float
    alarm: float
    most: float
    gone: float
    critical: float
    what: str

    def loud(self, level: np.ndarray, growth: np.ndarray) -> np.ndarray:
        """Whether growth to a level is an alarm: bool, as the levels."""
        return (level >= self.alarm) & ((growth >= self.most) | (level >= self.gone))

    def severity(self, level: float, loud: bool) -> str:
        """By how much of a layer is left."""
        if not loud:
            return "info"
        return "critical" if level >= self.critical else "warning"


DEAD = Growth(
    "dead", "dead_fraction", 0.75, 0.45, 0.4, 0.9, 0.8, 0.97, 0.9, "of the units are dead"
)
SATURATED = Growth(
    "saturation", "saturation", 0.75, 0.7, 0.3, 0.0, 0.0, 0.0, 0.8, "of the values are saturated"
)


@dataclass(frozen=True)
class UnitHealth:
    """Dead units of one-sided activations, saturation of two-sided ones.

    Growth is summed up over the steps by a CUSUM in units of ``growth``: just as large it
    fires after 64 steps, twice as large after 24, and three times as large at once.

    Args:
        burn_in: steps before the beginning's level is taken.
        narrow: units of a layer from which their death is an alarm.
        dead, saturated: the limits.
    """

    burn_in: int = 16
    narrow: int = 8
    dead: Growth = DEAD
    saturated: Growth = SATURATED

    _cusum = Cusum(k=0.5, h=4.0)

    def columns(self, sites: Sites) -> np.ndarray:
        """Outputs and inputs in training."""
        return sites.columns("output", "input", train=True)

    def init(self, sites: int) -> UnitsState:
        """Nothing seen."""

        def level() -> LevelState:
            return LevelState(
                self._cusum.init((sites,)), np.full(sites, np.nan), np.zeros(sites, np.int64)
            )

        return UnitsState(level(), level())

    def update(self, state: UnitsState, evidence: Evidence) -> Verdict:
        """Judge the batch as one window."""
        sites = evidence.sites
        mine = self.columns(sites)
        if not mine.size:
            return Verdict(state, [], np.zeros(0, bool))
        summary = evidence.summary
        count, tallies = summary.count[mine], summary.tallies
        seen = count > 0
        flat = tallies.flat[mine] / np.maximum(count, 1)
        can_die = sites.one_sided[mine] & seen
        can_saturate = sites.two_sided[mine] & ~sites.heads[mine] & seen
        flat_state, firings = self._judge(
            state.flat, self.saturated, np.where(can_saturate, flat, np.nan), evidence
        )
        dead_state = state.dead
        found: list[Firing] = []
        if can_die.any():
            level = np.where(can_die, dead_share(evidence.units), np.nan)
            widths = np.diff(evidence.units.starts)
            dead_state, found = self._judge(state.dead, self.dead, level, evidence, widths)
            found = [f._replace(step=_began(f.column, mine, evidence)) for f in found]
        firings = [f._replace(column=int(mine[f.column])) for f in firings + found]
        return Verdict(
            UnitsState(dead_state, flat_state),
            firings,
            np.maximum(dead_state.stage, flat_state.stage) > 1,
        )

    def _judge(
        self,
        state: LevelState,
        limits: Growth,
        level: np.ndarray,
        evidence: Evidence,
        widths: np.ndarray | float = np.inf,
    ) -> tuple[LevelState, list[Firing]]:
        """Birth, then growth, of layers of so many units."""
        grain = 2.5 / np.maximum(widths, 1)  # the smallest growth that a narrow layer can show
        step = int(evidence.frame.steps[-1])
        first = int(evidence.frame.steps[0])
        seen = np.isfinite(level)
        young = step < self.burn_in
        settle = seen & np.isnan(state.base) & (not young)
        base = np.where(settle, level, state.base)
        born = settle & (level >= limits.birth)
        base = np.where(seen & (level < base), level, base)  # recovered: measure from there
        growth = level - base
        needed = np.broadcast_to(np.maximum(limits.growth, grain), level.shape)
        ratio = growth / needed
        weight = evidence.frame.steps.size / 8  # of a window that was cut short
        excess = self._cusum.k + weight * (ratio - self._cusum.k)
        total, _ = self._cusum.update(state.sum, np.where(seen, excess, np.nan))
        ripe = seen & (total.on | (ratio >= 3)) & (ratio >= 1) & (level >= limits.level)
        ripe |= seen & (base < limits.gone) & (level >= limits.gone) & (growth >= grain)
        loud = limits.loud(level, growth) | (born & (level >= limits.alarm))
        loud &= widths >= self.narrow
        stage = np.where(born | ripe, np.where(loud, 2, 1), 0)
        fires = stage > state.stage
        limit = np.where(growth >= needed, base + needed, limits.gone)
        limit = np.where(born, limits.birth, limit)
        firings = [
            Firing(
                step=first,
                column=column,
                kind=limits.kind,
                severity=limits.severity(float(level[column]), bool(loud[column])),
                metric=limits.metric,
                value=float(level[column]),
                limit=float(limit[column]),
                text=f"{level[column]:.0%} {limits.what}"
                + (" from the start" if born[column] else f", {base[column]:.0%} at the beginning"),
                score=float(level[column] / limits.level),
            )
            for column in np.flatnonzero(fires).tolist()
        ]
        over = (state.stage > 0) & seen & (growth < needed / 2) & (level < limits.birth)
        return LevelState(total, base, np.where(over, 0, np.maximum(state.stage, stage))), firings


def _began(place: int, mine: np.ndarray, evidence: Evidence) -> int:
    """Step at which most of a site's silent units fell silent."""
    units = evidence.units
    part = slice(units.starts[place], units.starts[place + 1])
    silent, count = units.silent[part], units.count[part]
    steps = max(evidence.frame.steps.size, 1)
    seen = float(evidence.summary.count[mine[place]]) / steps
    per_step = seen / max(part.stop - part.start, 1)
    lately = silent[(silent > 0) & (silent < count)]
    typical = float(np.median(lately)) if lately.size else float(silent.max(initial=0))
    last = int(evidence.frame.steps[-1])
    return max(0, last + 1 - round(typical / max(per_step, 1)))
