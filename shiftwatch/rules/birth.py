"""Birth: what is wrong before anything was learnt.

A net that is born broken has no better past to be compared with, so its first steps are judged by
level, with wide limits: weights that are all the same number, layers that make their input many times
larger or lose it, an input that nobody scaled. He and Glorot initialisation keep the size of what passes
through a layer within a factor of three or so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.records import INPUT
from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import DRAWN, Sites

# What rounding leaves of a difference between samples that is none, relative to their size; and
# the least that is no matter of concern, whatever the gradients.
_ZERO, _PLAIN = 5e-4, 0.05


class BirthState(NamedTuple):
    """Attributes: done: bool[1], whether the first batch was judged; faint: float64[3], column, what is
    left there of the signal, and what comes back of the gradient, where that is too little, else NaN;
    losses: float64[any], of the first steps, NaN before.
    """

    done: np.ndarray
    faint: np.ndarray
    losses: np.ndarray


@dataclass(frozen=True)
class Birth:
    """Constant weights, gains and inputs of the wrong size, in the first batch.

    Args:
        gain: largest root mean square of a layer's output over that of what feeds it.
        drowns: root mean square of a layer's output over that of what it is added to, above which a
            norm that follows makes good for nothing: it shrinks both.
        least: smallest standard deviation within units of a layer's output over that of what
            feeds it: what biases add does not count. Nothing at all, to rounding, is intended where
            something leads around the layer, or where it is the last: branches and heads that
            begin at zero.
        scale: largest root mean square of the model's input.
        spread: smallest standard deviation of drawn weights over the size of their mean. They
            are seen after the first update, which tells equal ones a little apart.
        returns: how much of a signal must at least be left on its way forth and back: the least
            difference between samples that any output shows, over its size, times the norm of the first
            layer's gradient over that of the last layer's (Glorot and Bengio 2010, on sigmoids one
            behind the other). Most nets that learn keep 4e-5 and more, …
        stands: … so that it is said only if the losses fall to no less than this share in …
        patience: … so many steps. Without losses it is said then.
    """

    gain: float = 10.0
    drowns: float = 4.0
    least: float = 0.005
    scale: float = 16.0
    spread: float = 0.1
    returns: float = 2e-5
    stands: float = 0.9
    patience: int = 40

    def columns(self, sites: Sites) -> np.ndarray:
        """Outputs, inputs and weights in training."""
        return sites.columns("output", "input", "weight", train=True)

    def init(self, sites: int) -> BirthState:
        """Nothing seen."""
        return BirthState(np.zeros(1, bool), np.full(3, np.nan), np.full(self.patience, np.nan))

    def update(self, state: BirthState, evidence: Evidence) -> Verdict:
        """Judge the first batch."""
        active = np.zeros(self.columns(evidence.sites).size, bool)
        steps = evidence.frame.steps
        if not steps.size or (state.done[0] and np.isnan(state.faint[0])):
            return Verdict(state, [], active)
        faint, firings = state.faint, []
        if not state.done[0] and steps[0] == 0:
            firings = [
                *self._constant(evidence), *self._gains(evidence), *self._unscaled(evidence)
            ]  # fmt: skip
            faint = faint if firings else self._faint(evidence)
        losses = evidence.continuing(state.losses)
        if steps[-1] + 1 >= self.patience and not np.isnan(faint[0]):
            firings += self._suffers(faint, losses)
            faint = np.full(3, np.nan)
        return Verdict(BirthState(np.ones(1, bool), faint, losses), firings, active)

    def _constant(self, evidence: Evidence) -> list[Firing]:
        """Weights that are one and the same number: all units learn the same for ever."""
        found = []
        sites, frame = evidence.sites, evidence.frame
        for column in sites.columns("weight", train=True).tolist():
            site = sites.all[column]
            layer = sites.layers[site.layer]
            if "bias" in site.part or not layer.module.startswith(DRAWN):
                continue
            mean, std = frame.mean[0, column], frame.std[0, column]
            if frame.count[0, column] > 1 and abs(mean) > 0 and std <= self.spread * abs(mean):
                text = f"all weights are about {mean:.3g} at the start, so all units learn the same"
                found.append(
                    _firing(column, "collapse", "std", float(std), self.spread * abs(mean), text)
                )
        return found

    def _gains(self, evidence: Evidence) -> list[Firing]:
        """Layers that enlarge what passes through them, unless a norm follows, or lose it."""
        sites, frame = evidence.sites, evidence.frame
        size, spread = _first(frame.rms), _first(frame.spread)
        normed = {
            parent for layer in sites.layers.values() if layer.norm for parent in layer.parents
        }
        beside = _beside(sites, size)
        biases = _biases(sites, size)
        found = []
        for name, column, sources in _passages(sites):
            before = max((size[s] for s in sources if np.isfinite(size[s])), default=np.nan)
            own = np.sqrt(max(size[column] ** 2 - biases.get(name, 0.0) ** 2, 0.0))
            gain = own / before if before > 0 else np.nan
            drowned = size[column] / beside[name] if name in beside else 0.0
            if gain > self.gain and (name not in normed or drowned > self.drowns):
                text = f"makes what enters it ×{gain:.3g} as large from the start"
                if name in normed:
                    text += f", ×{drowned:.3g} of what it is added to"
                found.append(_firing(column, "exploding", "std", float(gain), self.gain, text))
            apart = max((spread[s] for s in sources if np.isfinite(spread[s])), default=np.nan)
            passed = spread[column] / apart if apart > 0 else np.nan
            nothing = not spread[column] > _ZERO * size[column]
            if passed < self.least and (not nothing or _lost(sites, name, spread)):
                text = (
                    f"makes the difference between samples ×{passed:.2g} as large from the start, "
                )
                text += f"which {'nothing' if nothing else 'next to nothing'} passes through"
                found.append(_firing(column, "vanishing", "std", float(passed), self.least, text))
        return found

    def _faint(self, evidence: Evidence) -> np.ndarray:
        """A signal of which next to nothing reaches the end, and whose gradient hardly reaches the first
        layer: either alone is nothing to worry about. As in the state.
        """
        sites, frame = evidence.sites, evidence.frame
        nothing = np.full(3, np.nan)
        back = _returned(evidence)
        if not sites.whole or not np.isfinite(back):
            return nothing
        outputs = sites.columns("output", train=True)
        with np.errstate(all="ignore"):
            apart = (_first(frame.spread) / _first(frame.rms))[outputs]
        known = np.isfinite(apart) & (apart > _ZERO) & ~sites.heads[outputs]  # some begin at zero
        if not known.any():
            return nothing
        place = int(np.where(known, apart, np.inf).argmin())
        forth = float(apart[place])
        if forth >= _PLAIN or forth * back >= self.returns:
            return nothing
        return np.array([outputs[place], forth, back])

    def _suffers(self, faint: np.ndarray, losses: np.ndarray) -> list[Firing]:
        """Whether next to nothing is learnt where next to nothing passes."""
        known = losses[np.isfinite(losses)]
        early, late = known[:8], known[-8:]
        if known.size and np.median(late) < self.stands * np.median(early):
            return []
        column, forth, back = faint.tolist()
        text = (
            f"of the signal {forth:.2g} is left here at the start that differs from sample to sample, "
            f"of the last layer's gradient {back:.2g} reaches the first layer, and the loss stands"
        )
        limit = min(_PLAIN, self.returns / back) if back > 0 else _PLAIN
        return [_firing(int(column), "vanishing", "std", forth, limit, text)]

    def _unscaled(self, evidence: Evidence) -> list[Firing]:
        """An input of numbers far from 1, unless a norm sees it first."""
        sites, frame = evidence.sites, evidence.frame
        size = _first(frame.rms)
        first = [layer for layer in sites.layers.values() if INPUT in layer.parents]
        if any(layer.norm for layer in first):
            return []
        return [
            _firing(
                column,
                "variance_shift",
                "std",
                float(size[column]),
                self.scale,
                f"the input's values are {size[column]:.3g} in root mean square, and networks "
                "are initialised for about 1",
            )
            for column in sites.columns("input", train=True).tolist()
            if sites.all[column].layer == INPUT and size[column] > self.scale
        ]


def _passages(sites: Sites) -> Iterator[tuple[str, int, list[int]]]:
    """Layers with drawn weights: name, column of the output, columns of what enters."""
    outputs = sites.gives
    entering = {sites.all[c].layer: c for c in sites.columns("input", train=True).tolist()}
    for name, column in outputs.items():
        layer = sites.layers[name]
        if layer.module.startswith(DRAWN) and layer.parents:
            sources = [entering[name]] if name in entering else []
            yield name, column, sources or [outputs[p] for p in layer.parents if p in outputs]


def _lost(sites: Sites, name: str, spread: np.ndarray) -> bool:
    """Whether what a layer does not let through reaches those behind it in no other way.

    Not known where some layers are frozen: what feeds what is read from the gradients' graph.
    """
    if not sites.whole:
        return False
    entering = [
        c for c in sites.columns("input", train=True).tolist() if sites.all[c].layer != INPUT
    ]
    added = [c for c in entering if name in sites.parents(sites.all[c].layer)]
    return sites.sole(name) and not (spread[added] > 0).any()


def _beside(sites: Sites, size: np.ndarray) -> dict[str, float]:
    """Root mean square of all that a layer's output is added to, the least of several such places."""
    found: dict[str, float] = {}
    into, out_of = sites.joined
    for join in sorted(set(into.tolist())):
        parts = [c for c in out_of[into == join].tolist() if np.isfinite(size[c])]
        for part in parts:
            rest = float(np.sqrt(sum(size[c] ** 2 for c in parts if c != part)))
            name = sites.all[part].layer
            if rest > 0:
                found[name] = min(rest, found.get(name, rest))
    return found


def _biases(sites: Sites, size: np.ndarray) -> dict[str, float]:
    """Root mean square of each layer's bias, where it has one."""
    return {
        sites.all[c].layer: float(size[c])
        for c in sites.columns("weight", train=True).tolist()
        if "bias" in sites.all[c].part and np.isfinite(size[c])
    }


def _returned(evidence: Evidence) -> float:
    """Norm of the output gradient of the first layer with weights over that of the last one, each at
    its largest in the batch; NaN for less than three.
    """
    frame, columns = evidence.frame, evidence.sites.returning
    with np.errstate(all="ignore"):
        norms = (frame.rms * np.sqrt(frame.count))[:, columns]
    most = np.fmax.reduce(norms, axis=0, initial=0.0)
    known: list[float] = most[most > 0].tolist()
    return known[0] / known[-1] if len(known) >= 3 else np.nan


def _first(values: np.ndarray) -> np.ndarray:
    """First finite value of each column: float64[columns]."""
    known = np.isfinite(values)
    picked = np.take_along_axis(values, known.argmax(0)[None], 0)[0]
    return np.asarray(np.where(known.any(0), picked, np.nan))


def _firing(column: int, kind: str, metric: str, value: float, limit: float, text: str) -> Firing:
    return Firing(0, column, kind, "warning", metric, value, limit, text, score=1.0)
