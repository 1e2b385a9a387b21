"""The origin: the layer where it began, among all that fired.

Within a step things happen in an order: weights are what they are, the batch goes
forward, gradients come back, the optimizer moves the weights. What breaks first in that
order is nearest to the cause. Among layers that shift in the same forward pass the origin is
the one whose output moved though its input did not: the largest gain of drift, in units of
each site's own limits (``docs``: how the alarms work).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shiftwatch.records import INPUT
from shiftwatch.rules.base import Firing
from shiftwatch.sites import Sites

#: Place of each kind of evidence within its step.
_BEFORE, _FORWARD, BACKWARD, _UPDATE, LATE = -0.25, 0.0, 0.25, 0.5, 0.75

#: Steps within which a sign at the model's input comes before all others.
TOGETHER = 2.0

# How many times as wide the limits of the model's input are as those of layers.
_WIDER = 2.0


@dataclass(frozen=True)
class Drift:
    """How far every site moved at the latest steps, each in its own limits: 1 matters.

    Args:
        steps: int64[any], -1 where empty, in any order.
        size: float64[any, sites].
    """

    steps: np.ndarray
    size: np.ndarray

    def at(self, step: int) -> np.ndarray:
        """Largest move at the step and the one after it: float64[sites]."""
        rows = self.size[np.isin(self.steps, (step, step + 1))]
        return rows.max(0) if len(rows) else np.zeros(self.size.shape[1])


def find_origin(firings: Sequence[Firing], sites: Sites, drift: Drift) -> tuple[str, bool]:
    """Layer where it began, and whether it began in most layers at once.

    Args:
        firings: at least one.
        drift: moves of all sites, also of those that did not fire.

    Returns:
        The layer's name (``"<input>"`` for a data fault), and ``True`` where the first sign
        is an update out of line in at least half of all layers with weights.
    """
    known = [f for f in firings if f.origin]
    if known:
        return min(known, key=moment).origin, False
    # When units fell silent, and what is slow to show, is known to a step or two: what else
    # happened then comes first, and the model's input before all layers.
    begin = min(map(moment, firings))
    together = [f for f in firings if moment(f) < begin + TOGETHER]
    firings = [f for f in together if place(f) != LATE] or together
    first = min(firings, key=moment)
    phase = place(first)
    if phase != _BEFORE and any(sites.all[f.column].layer == INPUT for f in firings):
        return INPUT, False
    lead = [f for f in firings if moment(f) < moment(first) + 0.2]
    moves = drift.at(first.step)
    where = [sites.all[f.column] for f in lead]
    if phase == _BEFORE:
        return _layer(max(lead, key=lambda f: f.score), sites), False
    if phase == _UPDATE:
        layers = {s.layer for s in where}
        weighted = {s.layer for s in sites.all if s.tensor == "update"}
        strongest = _layer(max(lead, key=lambda f: f.score), sites)
        return strongest, len(layers) * 2 >= len(weighted) > 1
    if phase == BACKWARD:
        last = max(lead, key=lambda f: (int(sites.order[f.column]), f.score))
        return sites.cause(_layer(last, sites)), False
    if phase == LATE:
        earliest = min(lead, key=lambda f: (int(sites.order[f.column]), -f.score))
        return home(earliest, sites), False
    return _forward_origin(lead, sites, moves), False


def _forward_origin(lead: Sequence[Firing], sites: Sites, moves: np.ndarray) -> str:
    """Origin among sites that shifted in the same forward pass."""
    if any(sites.all[f.column].layer == INPUT for f in lead):
        return INPUT
    broken = [f for f in lead if f.kind == "nonfinite"]
    if broken:
        return home(min(broken, key=lambda f: course(f, sites)), sites)
    out, into = _moves_by_layer(sites, moves)
    if into.get(INPUT, 0.0) >= 1:
        return INPUT

    def gain(firing: Firing) -> float:
        site = sites.all[firing.column]
        if site.tensor == "input":  # seen where it arrives: judged as its producer's output
            sources = [into.get(site.layer, 0.0)]
            before = [_entering(p, sites, out, into) for p in sites.parents(site.layer)]
        else:
            sources = [out.get(site.layer, 0.0)]
            before = [_entering(site.layer, sites, out, into)]
        return float(np.log(0.1 + max(sources)) - np.log(0.1 + max(before, default=0.0)))

    best = max(lead, key=lambda f: (gain(f), -int(sites.order[f.column])))
    layer = home(best, sites, out)
    if _looked_up(layer, sites):
        return INPUT
    # The input's limits are wider; a first layer that moved no more than it did only passes it on.
    fed = INPUT in sites.parents(layer) and into.get(INPUT, 0.0) >= 1 / _WIDER
    return INPUT if fed and out.get(layer, 0.0) <= 2 * _WIDER * into[INPUT] else layer


def _looked_up(layer: str, sites: Sites) -> bool:
    """Whether it is a table whose rows the model's input chooses: they did not change, so that did."""
    known = sites.layers[layer]
    return known.module.startswith("Embedding") and set(known.parents) <= {INPUT}


def _moves_by_layer(sites: Sites, moves: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    """Largest move of each layer's outputs, and of its inputs where they are watched."""
    out: dict[str, float] = {}
    into: dict[str, float] = {}
    for column in np.flatnonzero(sites.mask("output", "input", train=True)).tolist():
        site = sites.all[column]
        table = out if site.tensor == "output" else into
        table[site.layer] = max(table.get(site.layer, 0.0), float(moves[column]))
    return out, into


def _entering(layer: str, sites: Sites, out: dict[str, float], into: dict[str, float]) -> float:
    """Move of what enters a layer: of its own input where watched, else of its parents' outputs."""
    if layer in into:
        return into[layer]
    parents = sites.parents(layer)
    return max((into.get(p, 0.0) if p == INPUT else out.get(p, 0.0) for p in parents), default=0.0)


def home(firing: Firing, sites: Sites, out: dict[str, float] | None = None) -> str:
    """The layer whose parameters or operation a firing is about."""
    if firing.origin:
        return firing.origin
    site = sites.all[firing.column]
    if site.layer == INPUT:
        return INPUT
    if site.tensor == "input":
        parents = sites.parents(site.layer)
        return sites.cause(parents[0]) if len(parents) == 1 and parents[0] != INPUT else site.layer
    cause = sites.cause(site.layer)
    if out is not None and cause != site.layer and out.get(cause, 0.0) < 0.3:
        return site.layer  # its own operation changed: what enters it did not
    return cause


def _layer(firing: Firing, sites: Sites) -> str:
    return sites.all[firing.column].layer


def moment(firing: Firing) -> float:
    """When a firing's cause acted, in steps, with its place within the step."""
    return firing.step + place(firing)


def course(firing: Firing, sites: Sites) -> tuple[int, int]:
    """When a site's values come to be within a step: forward, then backward, then the update."""
    phase = {"gradient": 1, "update": 2, "weight": 2}.get(sites.all[firing.column].tensor, 0)
    order = int(sites.order[firing.column])
    return phase, -order if phase == 1 else order


def place(firing: Firing) -> float:
    """Place within its step of what a firing is about."""
    known = {"corruption": _BEFORE, "update": _UPDATE, "frozen": _UPDATE}.get(firing.kind)
    if known is not None:
        return known
    if firing.kind in ("dead", "saturation", "batchnorm", "distribution_shift"):
        return LATE
    return BACKWARD if firing.metric == "rms" else _FORWARD
