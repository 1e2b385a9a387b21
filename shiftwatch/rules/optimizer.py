"""Optimizer: steps out of line with their own history, weights that stand still, and
weights that change though no optimizer touched them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log2
from typing import NamedTuple

import numpy as np

from shiftwatch import alpha
from shiftwatch.detectors import Jump
from shiftwatch.detectors.jump import Jumped, JumpState
from shiftwatch.medians import medians
from shiftwatch.rules.base import Evidence, Firing, Verdict, lapsed
from shiftwatch.sites import Sites
from shiftwatch.source import Batch

# Share of the run's false-alarm budget.
_SHARE = 0.1
# What is left of the largest update after one more step.
_FORGET = 0.9997
# What a recent mean, and a lasting one, learns from one more step.
_FAST, _SLOW = 0.05, 0.01
# Steps from one note of the largest update to the next: growth is measured against the last but one.
_NOTED = 64
# Share of its weight that an update must be before a history of that length is there.
_EARLY = 0.2
# … and that is worth a note where updates only grew against the learning rate, then and before.
_NOTABLE, _NOTABLE_EARLY = 0.01, 0.04
# Share of the weights that may stand still by mistake; where it is more, it is meant so.
_FEW = 0.25
# Relative to the weight after it, an update that left little of the weight before.
_RUINOUS = 0.7
# Growth of the learning rate that explains that of updates, at most.
_FASTER = 5.0
# Steps in a row after which updates far above their lasting mean are no accident.
_ROW = 3
# Relative updates that float32 loses: weights that were moved by less may well stand still.
_LOST = 3e-6


class OptimizerState(NamedTuple):
    """Attributes: jump: of log2(update / learning rate), [..., sites]; most: float64[sites],
    largest relative update so far, slowly forgotten; usual, lasting: float64[sites], recent mean of
    it, and one over a hundred steps; noted: float64[2, sites], ``most`` as it was lately and before;
    seen: int64[sites]; still: int64[sites], steps without any change; moved: bool[sites]; tampered:
    int64[sites], how often a weight was changed from outside; rate: float64[2], largest
    learning rate, and its lasting mean; until: int64[sites]; grown: int64[sites],
    steps in a row that are far above the lasting mean.
    """

    jump: JumpState
    most: np.ndarray
    usual: np.ndarray
    lasting: np.ndarray
    noted: np.ndarray
    seen: np.ndarray
    still: np.ndarray
    moved: np.ndarray
    tampered: np.ndarray
    rate: np.ndarray
    until: np.ndarray
    grown: np.ndarray


class _Course(NamedTuple):
    """Attributes: update: float64[T, sites], relative updates of the steps that were taken, else
    NaN; known: bool[T, sites], where they are; level: log2(update / learning rate); pace:
    float64[T], log2 of the latter, 0 where unknown; live: bool[T], whether it is one to move at;
    faster: float64[T], learning rate over its lasting mean, 1 to 5; rate: float64[2], as in the
    state, after the last step. And the state before each step and after the last one,
    [T + 1, ...]: most, usual, lasting, seen.
    """

    update: np.ndarray
    known: np.ndarray
    level: np.ndarray
    pace: np.ndarray
    live: np.ndarray
    faster: np.ndarray
    rate: np.ndarray
    most: np.ndarray
    usual: np.ndarray
    lasting: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class Optimizer:
    """Update, frozen and corruption.

    Args:
        alpha: probability that a healthy run raises anything by chance, see :mod:`shiftwatch.alpha`.
        limit: of log2(update / learning rate), in robust scales of its own moves; ``None`` for what
            ``alpha`` asks for.
        octaves: change of the same that is worth a note: 3.32 is a factor of ten. Of all faults that
            were tried none was found by it alone.
        growth: an update this many times the largest so far is out of line whatever the
            learning rate says; or this many times the recent mean …
        record: … if it is also this many times the largest so far, …
        size: … provided that it is at least this share of the weight; healthy is about 1e-3.
        fall: fall of log2(update / learning rate) of most weights together that matters.
        surprise: octaves of the loss above all recent ones that explain a large update.
        patience: optimizer steps without any change after which a weight that got a
            gradient counts as frozen.
        tamper: smallest relative change of a weight from outside that matters.
        memory: steps for which a condition holds.
    """

    alpha: float = 0.01
    limit: float | None = None
    octaves: float = 3.32
    growth: float = 10.0
    record: float = 2.5
    size: float = 0.15
    fall: float = 6.64
    surprise: float = 0.5
    patience: int = 24
    tamper: float = 0.01
    memory: int = 128

    @property
    def _jump(self) -> Jump:
        return Jump(floor=self.octaves, prior=0.7, least=0.05)

    def _needed(self, levels: int, steps: np.ndarray) -> float:
        """The limit by now, for so many levels."""
        if self.limit is not None:
            return self.limit
        return alpha.limit(_SHARE * self.alpha, levels, int(steps.max(initial=0)))

    def columns(self, sites: Sites) -> np.ndarray:
        """Weights and updates in training."""
        return sites.columns("weight", "update", train=True)

    def init(self, sites: int) -> OptimizerState:
        """Nothing seen."""
        return OptimizerState(
            jump=self._jump.init((sites,)),
            most=np.zeros(sites),
            usual=np.zeros(sites),
            lasting=np.zeros(sites),
            noted=np.zeros((2, sites)),
            seen=np.zeros(sites, np.int64),
            still=np.zeros(sites, np.int64),
            moved=np.zeros(sites, bool),
            tampered=np.zeros(sites, np.int64),
            rate=np.array([0.0, np.nan]),
            until=np.full(sites, -1, np.int64),
            grown=np.zeros(sites, np.int64),
        )

    def update(self, state: OptimizerState, evidence: Evidence) -> Verdict:
        """Judge the batch step by step, all sites at once."""
        batch, sites = evidence.batch, evidence.sites
        mine = self.columns(sites)
        if not mine.size:
            return Verdict(state, [], np.zeros(0, bool))
        updates = sites.mask("update")[mine]
        outside = batch.tampered[:, mine]
        tampered, until = state.tampered.copy(), state.until.copy()
        course = _course(evidence, mine, state)
        jump = replace(self._jump, limit=self._needed(mine.size, batch.steps))
        inner, out = jump.run(jump.refresh(state.jump), course.level, batch.steps)
        u, known = course.update, course.known
        most, usual = course.most[:-1], course.usual[:-1]
        main = sites.main[mine]  # of a bias near zero the relative size says little
        young = course.seen[:-1] < _NOTED
        size = np.where(young, max(_EARLY, self.size), self.size)
        ripe = known & (course.seen[:-1] >= 16) & (u >= size) & main
        own = u / course.faster[:, None]  # what the learning rate does not explain
        large = ripe & (most > 0) & (own >= self.growth * most)
        large |= ripe & (own >= self.growth * usual) & (own >= self.record * most)
        noted = state.noted[1]
        above = ripe & (noted > 0) & (own >= self.growth * course.lasting[:-1])
        rows, grown = _in_a_row(above & (own >= self.record * noted), known, state.grown)
        large |= (rows >= _ROW) & (state.until < 0)
        odd = out.fired & (out.change > 0) & (u >= np.where(young, _NOTABLE_EARLY, _NOTABLE))
        blamed = evidence.held | (evidence.surprise > self.surprise)
        large &= ~blamed[:, None] | (u >= _RUINOUS)
        odd &= ~blamed[:, None] & main
        idle = known & (u == 0)
        touched, beyond = (np.asarray(x.any(1)) for x in (outside > 0, large | odd))
        still, moved = state.still, state.moved
        # Where weights that still moved would do so by less than a number of them can show.
        lost = _expected(inner, course) < log2(_LOST) if idle.any() else idle
        firings: list[Firing] = []
        for t, step in enumerate(batch.steps.tolist()):
            if touched[t]:
                firings += self._tampering(sites, mine, outside[t], step, tampered, until)
            if beyond[t]:
                firings += self._steps(
                    mine, u[t], usual[t], large[t], odd[t], out.change[t], out.since[t], step
                )
                until = np.where(large[t], step + self.memory, until)
            if idle.any() and batch.stepped[t]:
                still = np.where(idle[t] & course.live[t], still + 1, still)
                still = np.where(known[t] & ~idle[t], 0, still)
                moved = moved | (u[t] > 0)
                due = updates & ~lost[t]
                firings += self._frozen(evidence, mine, still, moved, until, due, step)
        firings += self._piling(sites, mine, u, batch)
        firings += self._falls(sites, mine, out, u, batch, until)
        if not idle.any():
            still, moved = np.where(known.any(0), 0, still), moved | known.any(0)
        until = lapsed(until, batch.steps[-1:].max(initial=0))
        due = course.seen[-1] // _NOTED > state.seen // _NOTED
        noted = np.where(due, [course.most[-1], state.noted[0]], state.noted)
        state = OptimizerState(
            inner, course.most[-1], course.usual[-1], course.lasting[-1], noted, course.seen[-1],
            still, moved, tampered, course.rate, until, grown,
        )  # fmt: skip
        return Verdict(state, firings, until >= 0)

    def _steps(
        self,
        mine: np.ndarray,
        u: np.ndarray,
        usual: np.ndarray,
        large: np.ndarray,
        odd: np.ndarray,
        change: np.ndarray,
        since: np.ndarray,
        step: int,
    ) -> list[Firing]:
        """Updates that are out of line: against all history, or against the learning rate."""
        found = []
        for column in np.flatnonzero(large | odd).tolist():
            if large[column]:
                text = f"one update moved the weights by {u[column]:.2g} of their size, "
                text += f"×{u[column] / usual[column]:.3g} the usual"
                score, began, limit = u[column] / usual[column], step, self.growth * usual[column]
            else:
                factor = 2 ** float(change[column])
                text = f"updates grew ×{factor:.3g} at the same learning rate"
                score, began = factor, int(since[column])
                limit = u[column] * 2 ** (self.octaves - float(change[column]))
            loud = "warning" if large[column] else "info"
            found.append(
                Firing(
                    step=began,
                    column=int(mine[column]),
                    kind="update",
                    severity="critical" if u[column] >= _RUINOUS else loud,
                    metric="relative_update",
                    value=float(u[column]),
                    limit=float(limit),
                    text=text,
                    score=float(np.log2(score)),
                )
            )
        return found

    def _piling(self, sites: Sites, mine: np.ndarray, u: np.ndarray, batch: Batch) -> list[Firing]:
        """Gradients that are never cleared: every update uses the sum of all of them."""
        begins = [e.step for e in batch.events if e.kind == "gradients"]
        updates = np.flatnonzero(sites.mask("update")[mine])
        if not begins or not updates.size:
            return []
        place = int(updates[0])
        latest = np.nan_to_num(u[:, place])
        return [
            Firing(
                step=max(0, begins[0] - 2),
                column=int(mine[place]),
                kind="update",
                severity="critical",
                metric="relative_update",
                value=float(latest[-1]) if latest.size else 0.0,
                limit=0.0,
                text="the gradients of earlier steps are not cleared: every update uses their "
                "sum; is zero_grad() missing?",
                score=10.0,
                origin=sites.all[mine[place]].layer,
            )
        ]

    def _falls(
        self,
        sites: Sites,
        mine: np.ndarray,
        out: Jumped,
        u: np.ndarray,
        batch: Batch,
        until: np.ndarray,
    ) -> list[Firing]:
        """Updates of most weights that fell far, all at once, at the same learning rate."""
        fell = out.fired & (out.change <= -self.fall) & (batch.learning_rate > 0)[:, None]
        if not fell.any():
            return []
        main = (sites.mask("update") & sites.main)[mine]
        found = []
        for t in np.flatnonzero(fell[:, main].sum(1) * 2 > main.sum()).tolist():
            column = int(np.where(main & fell[t], out.change[t], 0.0).argmin())
            factor = 2.0 ** min(-float(out.change[t, column]), 1000.0)
            until[column] = batch.steps[t] + self.memory
            found.append(
                Firing(
                    step=int(out.since[t, column]),
                    column=int(mine[column]),
                    kind="update",
                    severity="warning",
                    metric="relative_update",
                    value=float(u[t, column]),
                    limit=float(u[t, column] * factor / 2**self.fall),
                    text=f"updates fell to 1/{factor:.3g} at the same learning rate, "
                    "as those of most layers did",
                    score=float(np.log2(factor)),
                )
            )
        return found

    def _frozen(
        self,
        evidence: Evidence,
        mine: np.ndarray,
        still: np.ndarray,
        moved: np.ndarray,
        until: np.ndarray,
        updates: np.ndarray,
        step: int,
    ) -> list[Firing]:
        """Weights that moved before and stand still now, a whole model that never moved, or a few
        weights behind others that do: what is left out on purpose is the beginning, or most of it.
        """
        due = updates & (still == self.patience)
        never = updates & (still >= self.patience) & ~moved
        whole = bool(never.any() and (still[updates] >= self.patience).all() and not moved.any())
        order = evidence.sites.order[mine]
        behind = order > order[moved & updates].min(initial=np.iinfo(np.int64).max)
        few = never.sum() <= _FEW * updates.sum()
        due &= moved | whole | (behind & few & evidence.sites.main[mine])  # a norm stills biases
        if not due.any():
            return []
        found = []
        gradients = _gradient_by_layer(evidence)
        for column in np.flatnonzero(due).tolist():
            layer = evidence.sites.all[mine[column]].layer
            if gradients.get(layer, 0.0) <= 0 or not evidence.sites.layers[layer].parameters:
                continue  # nothing to learn from, or frozen on purpose
            until[column] = step + self.memory
            found.append(
                Firing(
                    step=step - self.patience + 1,
                    column=int(mine[column]),
                    kind="frozen",
                    severity="warning",
                    metric="relative_update",
                    value=0.0,
                    limit=0.0,
                    text=f"gets a gradient and has not moved for {self.patience} optimizer steps",
                    score=1.0,
                )
            )
        return found

    def _tampering(
        self,
        sites: Sites,
        mine: np.ndarray,
        change: np.ndarray,
        step: int,
        tampered: np.ndarray,
        until: np.ndarray,
    ) -> list[Firing]:
        """Weights changed outside the optimizer: one layer is a corruption, all are an event."""
        touched = np.flatnonzero(np.nan_to_num(change) > 0)
        if not touched.size:
            return []

        def carries(place: np.intp | int) -> str:
            """Its layer; none of norms and slopes, which are pruned by nobody."""
            column = mine[place]
            layer = sites.layers[sites.all[column].layer]
            return layer.name if sites.main[column] and not layer.norm else ""

        usual = tampered[touched] >= 3  # clipping and the like: part of this training
        tampered[touched] += 1
        known = {layer for c in np.flatnonzero(np.isfinite(change)) if (layer := carries(c))}
        layers = {layer for c in touched.tolist() if (layer := carries(c))}
        if len(layers) * 2 > len(known) > 1:
            return []  # the whole model was replaced: loaded, swapped, averaged, pruned
        found = []
        for column in touched[~usual].tolist():
            if change[column] < self.tamper:
                continue
            until[column] = step + self.memory
            found.append(
                Firing(
                    step=step,
                    column=int(mine[column]),
                    kind="corruption",
                    severity="critical",
                    metric="unexplained_change",
                    value=float(change[column]),
                    limit=self.tamper,
                    text=f"weights changed by {_share(float(change[column]))} outside the optimizer",
                    score=float(change[column] / self.tamper),
                )
            )
        return found


def _course(evidence: Evidence, mine: np.ndarray, state: OptimizerState) -> _Course:
    """What the updates were, and what was known before each."""
    stepped = evidence.batch.stepped
    u = np.where(stepped[:, None], evidence.update[:, mine], np.nan)
    known = np.isfinite(u)
    rate = evidence.batch.learning_rate
    rate = np.where(stepped & np.isfinite(rate), rate, np.nan)
    highest = np.fmax.accumulate(np.concatenate([state.rate[:1], rate]))
    faster, mean = _faster(rate, float(state.rate[1]))
    main = evidence.sites.main[mine]
    with np.errstate(divide="ignore", invalid="ignore"):
        pace = np.log2(np.where(rate > 0, rate, 1.0))
        level = np.where(u > 0, np.log2(u) - pace[:, None], np.nan)
        seen = state.seen + np.vstack([np.zeros_like(state.seen), np.cumsum(known, axis=0)])
        fade = _FORGET ** (seen - state.seen)
        most = np.maximum.accumulate(np.vstack([state.most, np.where(known, u / fade[1:], 0.0)]))
        usual, lasting = np.empty_like(most), np.empty_like(most)
        usual[0], lasting[0] = state.usual, state.lasting
        for t, values in enumerate(np.where(known, u, 0.0)):
            share = known[t] / (seen[t] + 1)
            usual[t + 1] = usual[t] + np.maximum(_FAST * known[t], share) * (values - usual[t])
            slow = np.maximum(_SLOW * known[t], share)
            lasting[t + 1] = lasting[t] + slow * (values - lasting[t])
        live = ~np.isfinite(rate) | (rate > 1e-3 * highest[1:])
        # Of one layer alone it explains nothing: that layer's group is another.
        together = medians((u / lasting[:-1])[:, main])
    faster = np.clip(np.fmin(faster, np.nan_to_num(together, nan=1.0)), 1.0, _FASTER)
    rates = np.array([highest[-1], mean])
    return _Course(u, known, level, pace, live, faster, rates, most * fade, usual, lasting, seen)


def _faster(rates: np.ndarray, mean: float) -> tuple[np.ndarray, float]:
    """Learning rate over its lasting mean at each step, and that mean after the last one."""
    faster = np.ones(rates.size)
    for t, rate in enumerate(rates.tolist()):
        if not rate > 0:
            continue
        if mean > 0:
            faster[t] = rate / mean
            mean += _SLOW * (rate - mean)
        else:
            mean = rate
    return faster, mean


def _in_a_row(
    holds: np.ndarray, known: np.ndarray, before: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many known steps in a row it holds, at each step and after the last one."""
    if not (holds.any() or before.any()):
        return np.zeros(holds.shape, np.int64), before
    rows = np.empty(holds.shape, np.int64)
    for t in range(len(holds)):
        before = np.where(known[t], np.where(holds[t], before + 1, 0), before)
        rows[t] = before
    return rows, before


def _expected(state: JumpState, course: _Course) -> np.ndarray:
    """log2 of the relative update that each step's learning rate would make: float64[T, sites]."""
    usual = np.median(state.levels, axis=0)  # NaN where nothing ever moved
    return np.asarray(usual + course.pace[:, None])


def _gradient_by_layer(evidence: Evidence) -> dict[str, float]:
    """Largest output gradient of each layer in this batch."""
    found: dict[str, float] = {}
    for column in evidence.sites.columns("gradient", train=True).tolist():
        rms = evidence.frame.rms[:, column]
        known = rms[np.isfinite(rms)]
        if known.size:
            layer = evidence.sites.all[column].layer
            found[layer] = max(found.get(layer, 0.0), float(known.max()))
    return found


def _share(change: float) -> str:
    """A change relative to a size, in words."""
    return f"{change:.3g} times their size" if change >= 1 else f"{change:.2%} of their size"
