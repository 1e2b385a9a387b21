"""Preflight: what initialisation, wiring and data say before the first step.

An adapter runs one or a few batches and fills an :class:`Evidence`; :func:`judge` knows no
framework. Each check is a function of the evidence that yields :class:`Finding` values, one
of severity ``"ok"`` where there was something to judge and nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from shiftwatch.preflight import data, losses, signal, units, weights, wiring
from shiftwatch.preflight.evidence import Evidence as Evidence
from shiftwatch.preflight.record import VERDICTS
from shiftwatch.preflight.record import Finding as Finding
from shiftwatch.preflight.record import LayerStart as LayerStart
from shiftwatch.preflight.record import Preflight as Preflight
from shiftwatch.records import INPUT

#: Every check, in the order of the table.
CHECKS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    data.inputs,
    signal.nonfinite,
    weights.symmetric,
    units.dead,
    units.narrow,
    units.saturated,
    signal.forward,
    signal.backward,
    signal.alike,
    weights.asleep,
    wiring.norms,
    wiring.batchnorm,
    wiring.modes,
    wiring.attention,
    losses.losses,
)


def judge(evidence: Evidence) -> Preflight:
    """All checks on what was measured, the urgent first, within a severity along the network."""
    place = {"": -2, INPUT: -1, **{s.layer: i for i, s in enumerate(evidence.starts)}}
    found = [finding for check in CHECKS for finding in check(evidence)]
    found.sort(key=lambda f: (VERDICTS.index(f.severity), place.get(f.layer, len(place))))
    gains = signal.gains(evidence)
    layers = tuple(
        LayerStart(
            layer=f"{s.layer} · {s.function}" if s.function else s.layer,
            module=s.module,
            rms=s.rms,
            spread=s.spread,
            gain=gains.get(s.key, float("nan")),
            gradient=s.gradient,
            dead=s.dead,
            saturated=s.saturated,
        )
        for s in evidence.starts
    )
    return Preflight(
        model=evidence.model,
        batches=evidence.batches,
        samples=evidence.samples,
        loss=evidence.loss,
        verdicts=tuple(found),
        layers=layers,
    )
