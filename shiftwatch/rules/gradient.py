"""Gradient: output gradients that explode, or that vanish while the others do not.

Gradients fall by orders of magnitude as a net learns, all layers together. So a rise is
judged on its own, and a fall only against the median of all layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from shiftwatch import alpha
from shiftwatch.detectors import Jump
from shiftwatch.detectors.jump import JumpState
from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites

_OWN, _RELATIVE = range(2)
# Share of the run's false-alarm budget.
_SHARE = 0.1


class GradientState(NamedTuple):
    """Attributes: jump: [..., sites, 2]; last: float64[sites], latest log2 rms; until: int64[sites];
    most: float64[sites], the largest since the last look at the profile over depth; profiled:
    bool, whether that was judged; began: float64[1], the loss then, NaN before and once it was
    judged whether the loss has moved.
    """

    jump: JumpState
    last: np.ndarray
    until: np.ndarray
    most: np.ndarray
    profiled: np.ndarray
    began: np.ndarray


# Step at which a loss should have moved, and by which share of itself.
_STUCK, _FLAT = 96, 0.02


@dataclass(frozen=True)
class Gradient:
    """Exploding and vanishing gradients.

    Args:
        alpha: probability that a healthy run raises anything by chance, see :mod:`shiftwatch.alpha`.
        limit: in robust scales of the site's own moves; ``None`` for what
            ``alpha`` asks for.
        octaves: change that matters, in octaves: 6.64 is a factor of 100.
        profile: smallest ratio of the first layer's gradient to the last layer's at the
            start; under it the net is born with vanishing gradients (Glorot & Bengio 2010).
        faint: the same where the loss has not moved in so many steps since.
        memory: steps after which a new level is the normal one.
    """

    alpha: float = 0.01
    limit: float | None = None
    octaves: float = 6.64
    profile: float = 1e-5
    faint: float = 1e-3
    memory: int = 256

    @property
    def _jump(self) -> Jump:
        return Jump(floor=self.octaves, prior=0.8, least=0.05, memory=32)

    def _needed(self, levels: int, steps: np.ndarray) -> float:
        """The limit by now, for so many levels."""
        if self.limit is not None:
            return self.limit
        return alpha.limit(_SHARE * self.alpha, levels, int(steps.max(initial=0)))

    def columns(self, sites: Sites) -> np.ndarray:
        """Gradients in training."""
        return sites.columns("gradient", train=True)

    def init(self, sites: int) -> GradientState:
        """Nothing seen."""
        return GradientState(
            self._jump.init((sites, 2)),
            np.full(sites, np.nan),
            np.full(sites, -1, np.int64),
            np.full(sites, np.nan),
            np.zeros(1, bool),
            np.full(1, np.nan),
        )

    def update(self, state: GradientState, evidence: Evidence) -> Verdict:
        """Judge the batch step by step, all sites at once."""
        frame = evidence.frame
        mine = self.columns(evidence.sites)
        if not mine.size:
            return Verdict(state, [], np.zeros(0, bool))
        sizes = frame.rms[:, mine]
        with np.errstate(divide="ignore"):
            levels = np.log2(np.maximum(sizes, 1e-30))
        common, last = _common(levels, state.last)
        most = np.fmax(state.most, np.fmax.reduce(levels, axis=0, initial=-np.inf))
        jump = replace(self._jump, limit=self._needed(2 * mine.size, frame.steps))
        both = np.stack([levels, levels - common[:, None]], -1)
        inner, out = jump.run(jump.refresh(state.jump), both, frame.steps)
        until = state.until.copy()
        firings: list[Firing] = []
        for t, place, which in np.argwhere(out.fired).tolist():
            change, rms = float(out.change[t, place, which]), float(sizes[t, place])
            if (which == _OWN) != (change > 0):
                continue
            until[place] = frame.steps[t] + self.memory
            firings.append(
                Firing(
                    step=int(out.since[t, place, which]),
                    column=int(mine[place]),
                    kind="exploding" if change > 0 else "vanishing",
                    severity="warning",
                    metric="rms",
                    value=rms,
                    limit=float(rms * 2.0 ** (np.sign(change) * self.octaves - change)),
                    text=f"gradient {'grew' if change > 0 else 'fell'} ×{2 ** abs(change):.3g} "
                    + ("within a few steps" if change > 0 else "against the other layers"),
                    score=abs(change) / self.octaves,
                )
            )
        until = np.where(frame.steps.max(initial=-1) >= until, -1, until)
        profiled = state.profiled
        began = state.began
        if not profiled[0] and frame.steps.size and frame.steps[-1] >= 15:
            profiled = np.ones(1, bool)
            began = np.array([_middle(evidence.losses)])
            firings += self._profile(evidence, mine, most, self.profile)
            most = last
        elif np.isfinite(began[0]) and frame.steps.size and frame.steps[-1] >= _STUCK:
            if abs(_middle(evidence.losses) - began[0]) < _FLAT * abs(began[0]):
                firings += self._profile(evidence, mine, most, self.faint)
            began = np.full(1, np.nan)
        state = GradientState(inner, last, until, most, profiled, began)
        return Verdict(state, firings, until >= 0)

    def _profile(
        self, evidence: Evidence, mine: np.ndarray, most: np.ndarray, least: float
    ) -> list[Firing]:
        """Whether the gradient ever reaches the first layers: at least so much of the last's."""
        places = np.searchsorted(mine, evidence.sites.returning)
        known = places[np.isfinite(most[places])]
        if known.size < 3:
            return []
        first, final = known[0], known[-1]
        ratio = 2.0 ** float(most[first] - most[final])
        if not 0 < ratio < least or most[final] <= np.log2(1e-30):
            return []
        return [
            Firing(
                step=int(evidence.frame.steps[-1]),
                column=int(mine[first]),
                kind="vanishing",
                severity="warning",
                metric="rms",
                value=2.0 ** float(most[first]),
                limit=least * 2.0 ** float(most[final]),
                text=f"gradient is {ratio:.2g} of the last layer's from the start"
                + (", and the loss has not moved since" if least == self.faint else ""),
                score=float(np.log2(least / ratio)) + 1,
            )
        ]


def _middle(losses: np.ndarray) -> float:
    """Median of those that are known; NaN for none."""
    known = losses[np.isfinite(losses)]
    return float(np.median(known)) if known.size else float("nan")


def _common(levels: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median over all sites of their latest level at each step, 0 where there is none; and the
    latest levels after the last step.
    """
    table = np.vstack([last, levels])
    row = np.where(np.isfinite(table), np.arange(len(table))[:, None], 0)
    latest = np.take_along_axis(table, np.maximum.accumulate(row, axis=0), 0)
    ordered = np.sort(latest[1:], axis=1)  # NaN at the end
    number = np.isfinite(ordered).sum(1)
    steps, half = np.arange(len(ordered)), np.maximum(number, 1)
    middle = (ordered[steps, (half - 1) // 2] + ordered[steps, half // 2]) / 2
    return np.where(number > 0, middle, 0.0), latest[-1]
