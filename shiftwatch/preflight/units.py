"""Units: which of them are dead or saturated before training has begun."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb

import numpy as np

from shiftwatch.preflight.chain import chain
from shiftwatch.preflight.evidence import Evidence, Start
from shiftwatch.preflight.record import Finding, many
from shiftwatch.statistics.born_dead import blocked, born_dead

#: Share of a layer's units that no sample opens. Up to 0.55 in plain ReLU networks as PyTorch
#: initialises them, where biases outweigh a signal that has faded (see ``signal``).
DEAD = 0.8
#: Values of a unit that must have been seen; a healthy one is silent for 16 in 1 of 65,000 cases.
SEEN = 16
#: Chance up to which so many dead units are no chance: beside a residual connection, biases alone
#: may close each unit with probability 1/2.
CHANCE = 1e-4
#: Share of saturated values of a layer.
SATURATED = 0.5
#: Probability that an input finds a layer all of whose ReLUs are closed.
BORN_DEAD = 0.1


def dead(evidence: Evidence) -> Iterator[Finding]:
    """Layers whose units are silent for all samples."""
    links = chain(evidence)
    known = [s for s in evidence.starts if np.isfinite(s.dead) and s.rows >= SEEN]
    if not known:
        return
    worst = max(known, key=lambda s: s.dead)
    hit = [
        s for s in known
        if s.dead > DEAD and (_luck(s) < CHANCE or (s in links and s.dead == 1))
    ]  # fmt: skip
    if not hit:
        message = f"dead units in {many(len(known), 'layer')}"
        yield Finding("ok", "dead", "", "dead_fraction", worst.dead, DEAD, message)
        return
    first = hit[0]
    yield Finding(
        "critical" if any(s.dead == 1 for s in hit) else "warning", "dead", first.layer,
        "dead_fraction", first.dead, DEAD,
        f"{first.dead:.0%} of the units are dead: no sample opens them{also(hit)}",
        "Look at the biases before it (large and negative?), at the scale and offset of the input, "
        "and at weights of one sign; zero biases and He initialisation leave half of the values open.",
    )  # fmt: skip


def narrow(evidence: Evidence) -> Iterator[Finding]:
    """The network against the bounds of Lu et al.: so narrow and deep that chance closes it."""
    layers = [
        s
        for s in chain(evidence)
        if s.activation == "relu" and s.rows <= evidence.samples * max(s.calls, 1)
    ]
    if not layers:
        return
    widths = [s.width for s in layers]
    chance = blocked(widths)
    slim = min(layers, key=lambda s: s.width)
    low, high = born_dead(slim.width, len(layers) + 1)
    if chance <= BORN_DEAD:
        message = f"chance that {many(len(layers), 'ReLU layer')} of {slim.width} units or more block an input"
        yield Finding("ok", "dead", "", "born_dead", chance, BORN_DEAD, message)
        return
    exact = f"; Lu et al. (2020) bound the chance that it is born dead by {low:.2g} and {high:.2g}"
    yield Finding(
        "warning", "dead", slim.layer, "born_dead", chance, BORN_DEAD,
        f"an input is blocked with probability {chance:.2g}: {len(layers)} ReLU layers, of "
        f"{slim.width} units at the narrowest{exact if len(set(widths)) == 1 else ''}",
        "No scale of the weights helps: make it wider or shallower, add residual connections or "
        "BatchNorm, or take an activation without a dead side.",
    )  # fmt: skip


def saturated(evidence: Evidence) -> Iterator[Finding]:
    """Sigmoid and tanh layers that start in their flat part; heads and gates may."""
    two_sided = {"sigmoid", "tanh", "hardsigmoid", "hardtanh", "softsign"}
    known = [s for s in evidence.starts if s.activation in two_sided and s.output.count]
    if not known:
        return
    last = max((i for i, s in enumerate(evidence.starts) if s.weighty), default=-1)
    inner = [s for i, s in enumerate(evidence.starts) if s in known and i < last and not s.gate]
    hit = [s for s in inner if s.saturated > SATURATED]
    free = [s for s in known if s not in inner and s.saturated > SATURATED]
    if hit:
        first = hit[0]
        yield Finding(
            "critical" if first.saturated > 0.9 else "warning", "saturation", first.layer,
            "saturation", first.saturated, SATURATED,
            f"{first.saturated:.0%} of the values lie in the flat part of {first.activation}{also(hit)}",
            "Hardly any gradient passes. Smaller weights (Glorot), a normalised input, or a "
            "normalisation before the activation bring it back to its slope.",
        )  # fmt: skip
        return
    for s in free[:1]:
        what = "gate" if s.gate else "last activation"
        yield Finding(
            "info", "saturation", s.layer, "saturation", s.saturated, SATURATED,
            f"the {what} starts saturated, {s.saturated:.0%} of its values{also(free)}",
        )  # fmt: skip
    if inner:
        top = max(s.saturated for s in inner)
        message = f"saturation of {many(len(inner), 'activation')}"
        yield Finding("ok", "saturation", "", "saturation", top, SATURATED, message)


def _luck(start: Start) -> float:
    """Probability of as many dead units, each dead with probability 1/2."""
    least = round(start.dead * start.width)
    return sum(comb(start.width, k) for k in range(least, start.width + 1)) / 2**start.width


def also(hit: list[Start]) -> str:
    """The others that share a finding: ``; also in act2, act3 and 4 more``."""
    names = list(dict.fromkeys(s.layer for s in hit))[1:]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"; also in {', '.join(names[:3])}{more}" if names else ""
