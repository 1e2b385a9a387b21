"""Gradient: output gradients that explode, or that vanish while the others do not.

Gradients fall by orders of magnitude as a net learns, all layers together. So a rise is
judged on its own, and a fall only against the median of all layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.detectors import Jump
from shiftwatch.detectors.jump import JumpState
from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites

_OWN, _RELATIVE = range(2)


class GradientState(NamedTuple):
    """Attributes: jump: [..., sites, 2]; last: float64[sites], latest log2 rms; until: int64[sites];
    profiled: bool, whether the profile over depth was judged.
    """

    jump: JumpState
    last: np.ndarray
    until: np.ndarray
    profiled: np.ndarray


@dataclass(frozen=True)
class Gradient:
    """Exploding and vanishing gradients.

    Args:
        limit: in robust scales of the site's own moves.
        octaves: change that matters, in octaves: 6.64 is a factor of 100.
        profile: smallest ratio of the first layer's gradient to the last layer's at the
            start; under it the net is born with vanishing gradients (Glorot & Bengio 2010).
        memory: steps after which a new level is the normal one.
    """

    limit: float = 8.0
    octaves: float = 6.64
    profile: float = 1e-5
    memory: int = 256

    @property
    def _jump(self) -> Jump:
        return Jump(limit=self.limit, floor=self.octaves, prior=0.8, least=0.05, memory=32)

    def columns(self, sites: Sites) -> np.ndarray:
        """Gradients in training."""
        return sites.columns("gradient", train=True)

    def init(self, sites: int) -> GradientState:
        """Nothing seen."""
        return GradientState(
            self._jump.init((sites, 2)),
            np.full(sites, np.nan),
            np.full(sites, -1, np.int64),
            np.zeros(1, bool),
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
        jump = self._jump
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
        if not profiled[0] and frame.steps.size and frame.steps[-1] >= 15:
            profiled = np.ones(1, bool)
            firings += self._profile(evidence, mine, last)
        return Verdict(GradientState(inner, last, until, profiled), firings, until >= 0)

    def _profile(self, evidence: Evidence, mine: np.ndarray, last: np.ndarray) -> list[Firing]:
        """Whether the gradient reaches the first layers at all, judged once at the start."""
        sites = evidence.sites
        weighted = [
            place
            for place in np.flatnonzero(np.isfinite(last)).tolist()
            if (site := sites.all[mine[place]]) and not site.part
            if sites.layers[site.layer].parameters
        ]
        weighted.sort(key=lambda place: int(sites.order[mine[place]]))
        if len(weighted) < 3:
            return []
        first, final = weighted[0], weighted[-1]
        ratio = 2.0 ** float(last[first] - last[final])
        if not 0 < ratio < self.profile or last[final] <= np.log2(1e-30):
            return []
        return [
            Firing(
                step=int(evidence.frame.steps[-1]),
                column=int(mine[first]),
                kind="vanishing",
                severity="warning",
                metric="rms",
                value=2.0 ** float(last[first]),
                limit=self.profile * 2.0 ** float(last[final]),
                text=f"gradient is {ratio:.2g} of the last layer's from the start",
                score=float(np.log2(self.profile / ratio)) + 1,
            )
        ]


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
