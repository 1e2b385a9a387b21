"""Optimizer: steps out of line with their own history, weights that stand still, and
weights that change though no optimizer touched them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.detectors import Jump
from shiftwatch.detectors.jump import JumpState
from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites

# What is left of the largest update after one more step.
_FORGET = 0.9997


class OptimizerState(NamedTuple):
    """Attributes: jump: of log2(update / learning rate), [..., sites]; most: float64[sites],
    largest relative update so far, slowly forgotten; usual: float64[sites], recent mean of it; seen: int64[sites]; still: int64[sites],
    steps without any change; moved: bool[sites]; tampered: int64[sites], how often a weight
    was changed from outside; rate: float64[1], largest learning rate; until: int64[sites].
    """

    jump: JumpState
    most: np.ndarray
    usual: np.ndarray
    seen: np.ndarray
    still: np.ndarray
    moved: np.ndarray
    tampered: np.ndarray
    rate: np.ndarray
    until: np.ndarray


class _Course(NamedTuple):
    """Attributes: update: float64[T, sites], relative updates of the steps that were taken, else
    NaN; known: bool[T, sites], where they are; level: log2(update / learning rate); live: bool[T],
    whether the learning rate is one to move at. And the state before each step and after the last
    one, [T + 1, ...]: most, usual, seen, rate.
    """

    update: np.ndarray
    known: np.ndarray
    level: np.ndarray
    live: np.ndarray
    most: np.ndarray
    usual: np.ndarray
    seen: np.ndarray
    rate: np.ndarray


@dataclass(frozen=True)
class Optimizer:
    """Update, frozen and corruption.

    Args:
        limit: of log2(update / learning rate), in robust scales of its own moves.
        octaves: change of the same that matters: 3.32 is a factor of ten.
        growth: an update this many times the largest so far is out of line whatever the
            learning rate says; or this many times the recent mean …
        record: … if it is also this many times the largest so far, …
        size: … provided that it is at least this share of the weight; healthy is about 1e-3.
        patience: optimizer steps without any change after which a weight that got a
            gradient counts as frozen.
        tamper: smallest relative change of a weight from outside that matters.
        memory: steps for which a condition holds.
    """

    limit: float = 8.0
    octaves: float = 3.32
    growth: float = 10.0
    record: float = 2.5
    size: float = 0.05
    patience: int = 24
    tamper: float = 0.01
    memory: int = 128

    @property
    def _jump(self) -> Jump:
        return Jump(limit=self.limit, floor=self.octaves, prior=0.7, least=0.05)

    def columns(self, sites: Sites) -> np.ndarray:
        """Weights and updates in training."""
        return sites.columns("weight", "update", train=True)

    def init(self, sites: int) -> OptimizerState:
        """Nothing seen."""
        return OptimizerState(
            jump=self._jump.init((sites,)),
            most=np.zeros(sites),
            usual=np.zeros(sites),
            seen=np.zeros(sites, np.int64),
            still=np.zeros(sites, np.int64),
            moved=np.zeros(sites, bool),
            tampered=np.zeros(sites, np.int64),
            rate=np.zeros(1),
            until=np.full(sites, -1, np.int64),
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
        jump = self._jump
        inner, out = jump.run(jump.refresh(state.jump), course.level, batch.steps)
        u, known = course.update, course.known
        most, usual = course.most[:-1], course.usual[:-1]
        large = known & (course.seen[:-1] >= 16) & (most > 0) & (u >= self.size)
        large &= (u >= self.growth * most) | (
            (u >= self.growth * usual) & (u >= self.record * most)
        )
        odd = out.fired & (out.change > 0) & (u >= self.size / 50)
        idle = known & (u == 0)
        touched, beyond = (np.asarray(x.any(1)) for x in (outside > 0, large | odd))
        still, moved = state.still, state.moved
        firings: list[Firing] = []
        for t, step in enumerate(batch.steps.tolist()):
            if touched[t]:
                firings += self._tampering(sites, mine, outside[t], step, tampered, until)
            if beyond[t]:
                firings += self._steps(
                    mine, u[t], usual[t], large[t], odd[t], out.change[t], out.since[t], step
                )
                until = np.where(large[t] | odd[t], step + self.memory, until)
            if idle.any() and batch.stepped[t]:
                still = np.where(idle[t] & course.live[t], still + 1, still)
                still = np.where(known[t] & ~idle[t], 0, still)
                moved = moved | (u[t] > 0)
                firings += self._frozen(evidence, mine, still, moved, until, updates, step)
        if not idle.any():
            still, moved = np.where(known.any(0), 0, still), moved | known.any(0)
        until = np.where((until >= 0) & (batch.steps[-1:].max(initial=0) >= until), -1, until)
        state = OptimizerState(
            inner, course.most[-1], course.usual[-1], course.seen[-1], still, moved, tampered,
            course.rate[-1:], until,
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
            found.append(
                Firing(
                    step=began,
                    column=int(mine[column]),
                    kind="update",
                    severity="critical" if u[column] >= 1 else "warning",
                    metric="relative_update",
                    value=float(u[column]),
                    limit=float(limit),
                    text=text,
                    score=float(np.log2(score)),
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
        """Weights that moved before and stand still now, or a whole model that never moved."""
        due = updates & (still == self.patience)
        whole = bool(updates.any() and (still[updates] >= self.patience).all() and not moved.any())
        due &= moved | whole
        if not due.any():
            return []
        found = []
        gradients = _gradient_by_layer(evidence)
        for column in np.flatnonzero(due).tolist():
            layer = evidence.sites.all[mine[column]].layer
            if gradients.get(layer, 0.0) <= 0:
                continue
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
        usual = tampered[touched] >= 3  # clipping and the like: part of this training
        tampered[touched] += 1
        known = {sites.all[mine[c]].layer for c in np.flatnonzero(np.isfinite(change))}
        layers = {sites.all[mine[c]].layer for c in touched.tolist()}
        if len(layers) * 2 > len(known) and len(known) > 1:
            return []  # the whole model was replaced: loaded, swapped, averaged
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
    highest = np.fmax.accumulate(np.concatenate([state.rate, rate]))
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.where(u > 0, np.log2(u / np.where(rate > 0, rate, 1.0)[:, None]), np.nan)
        seen = state.seen + np.vstack([np.zeros_like(state.seen), np.cumsum(known, axis=0)])
        fade = _FORGET ** (seen - state.seen)
        most = np.maximum.accumulate(np.vstack([state.most, np.where(known, u / fade[1:], 0.0)]))
        usual = np.empty_like(most)
        usual[0] = state.usual
        for t, values in enumerate(u):
            move = np.maximum(0.05, 1 / (seen[t] + 1)) * (values - usual[t])
            usual[t + 1] = usual[t] + np.where(known[t], move, 0.0)
        live = ~np.isfinite(rate) | (rate > 1e-3 * highest[1:])
    return _Course(u, known, level, live, most * fade, usual, seen, highest)


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
