"""Incidents: one cause, one number, one alert per kind, and the layer where it began.

Within a step things happen in an order: weights are what they are, the batch goes
forward, gradients come back, the optimizer moves the weights. What breaks first in that
order is nearest to the cause. Among layers that shift in the same forward pass the origin is
the one whose output moved though its input did not: the largest gain of drift, in units of
each site's own limits (``docs``: how the alarms work).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shiftwatch.advice import ADVICE, BY_METRIC
from shiftwatch.records import INPUT, SEVERITIES, Alert, Incident, from_plain, to_plain
from shiftwatch.rules.base import Firing
from shiftwatch.sites import Sites

# Place of each kind of evidence within its step.
_BEFORE, _FORWARD, _BACKWARD, _UPDATE, _LATE = -0.25, 0.0, 0.25, 0.5, 0.75

# A cause shows within this many steps of its first sign; a sign that comes later and names
# another layer is a new incident if it is of a kind that has causes, not consequences.
_APART = 16

# How many times as wide the limits of the model's input are as those of layers.
_WIDER = 2.0

# Steps within which a sign at the model's input comes before all others.
_TOGETHER = 2.0


@dataclass
class _Open:
    """The incident that new firings may belong to."""

    incident: Incident
    everywhere: bool  # the cause sat in most layers at once
    latest: int
    raised: set[str] = field(default_factory=set)


class Incidents:
    """Turns firings into alerts. Holds the incident that is open.

    Args:
        quiet: steps without a firing after which an incident takes in no more.
    """

    def __init__(self, quiet: int = 96) -> None:
        self.quiet = quiet
        self._number = 0
        self._open: _Open | None = None
        self._waiting: list[Firing] = []
        self._lasting: list[Incident] = []

    def update(
        self,
        firings: Sequence[Firing],
        sites: Sites,
        drift: Drift,
        step: int,
        active: np.ndarray,
        context: str = "",
        hurry: bool = False,
        hold: bool = False,
        remark: str = "",
    ) -> tuple[list[Alert], list[Incident]]:
        """Alerts to raise, and incidents that are new or changed.

        Args:
            firings: conditions that began, any order.
            drift: how far every site moved lately.
            step: newest step seen.
            active: bool[sites], where some condition still holds.
            context: what the run did lately that may explain it, for the advice.
            hurry: a shift waits to be confirmed by the next step. A consequence that is
                seen before its cause is held back until then.
            hold: what is not finite is about to be looked at in full: wait for that.
            remark: what a full look saw that found no cause, for what waited for it.
        """
        changed: dict[int, Incident] = {}
        alerts: list[Alert] = []
        asides = [f for f in firings if f.severity == "info"]  # no incident's, and no alarm
        alerts += [
            self._alert(f, sites, Incident(0, _home(f, sites), f.step, step, "info", ()), step, "")
            for f in asides
        ]
        waited = [_remarked(f, remark) for f in self._waiting]
        serious = [*waited, *(f for f in firings if f.severity != "info")]
        self._waiting = []
        if hold and any(f.kind == "nonfinite" for f in serious):
            if self._open is None:
                self._waiting = serious
                return alerts, []
            self._waiting = [f for f in serious if f.kind == "nonfinite"]
            serious = [f for f in serious if f.kind != "nonfinite"]
        if hurry and self._open is None and all(_place(f) == _LATE for f in serious):
            self._waiting = serious
            return alerts, []
        if serious and (self._open is None or self._unrelated(serious, sites)):
            self._close()
            origin, everywhere = find_origin(serious, sites, drift)
            self._number += 1
            first = min(f.step for f in serious)
            incident = Incident(self._number, origin, first, step, "info", ())
            self._open = _Open(incident, everywhere, step)
        if self._open is not None and serious:
            alerts += self._join(serious, sites, step, context)
            self._open.latest = step
            changed[self._open.incident.number] = self._open.incident
        if self._open is not None:
            over = not active.any() and step > self._open.latest
            if over or step - self._open.latest > self.quiet:
                self._close()
        if not active.any():
            for incident in self._lasting:
                changed[incident.number] = replace(incident, cleared=step)
            self._lasting = []
        return alerts, list(changed.values())

    def flush(self, sites: Sites, step: int) -> tuple[list[Alert], list[Incident]]:
        """What was held back and can wait no longer: the run ends."""
        still = Drift(np.zeros(0, np.int64), np.zeros((0, len(sites))))
        return self.update([], sites, still, step, np.ones(len(sites), bool))

    def _join(self, firings: list[Firing], sites: Sites, step: int, context: str) -> list[Alert]:
        """Raise what holds at the origin, list the rest as followers."""
        assert self._open is not None
        group = self._open
        incident = group.incident
        firings.sort(key=lambda f: (_moment(f), not f.origin, _course(f, sites), -f.score))
        alerts, followers = [], set(incident.followers)
        for firing in firings:
            site = sites.all[firing.column]
            home = _home(firing, sites)
            here = home == incident.origin or site.layer == incident.origin
            passed_on = incident.origin == INPUT and INPUT in sites.parents(site.layer)
            passed_on |= firing.metric == "loss"  # has no layer, and is said whatever broke
            loud = here or passed_on or group.everywhere or firing.kind == "nonfinite"
            if not here:
                followers |= {site.layer}
            if loud and firing.kind not in group.raised:
                alerts.append(self._alert(firing, sites, incident, step, context))
                group.raised.add(firing.kind)
        worst = max((incident.severity, *(a.severity for a in alerts)), key=SEVERITIES.index)
        group.incident = replace(
            incident,
            severity=worst,
            kinds=incident.kinds + tuple(dict.fromkeys(a.kind for a in alerts)),
            followers=sites.in_order(followers - {incident.origin}),
        )
        return alerts

    def _alert(
        self, firing: Firing, sites: Sites, incident: Incident, step: int, context: str
    ) -> Alert:
        site = sites.all[firing.column]
        advice = BY_METRIC.get(firing.metric, ADVICE[firing.kind])
        since = "" if incident.origin == site.layer else f"; began in {incident.origin}"
        message = (
            f"step {firing.step} · {site.layer} {site.label} · {firing.kind}: {firing.text}{since}"
        )
        return Alert(
            step=firing.step,
            layer=site.layer,
            tensor=site.tensor,
            kind=firing.kind,
            severity=firing.severity,
            metric=firing.metric,
            value=firing.value,
            limit=firing.limit,
            message=message,
            advice=" ".join(filter(None, (context, advice))),
            origin=incident.origin,
            incident=incident.number,
            detected=step,
        )

    def _unrelated(self, firings: Sequence[Firing], sites: Sites) -> bool:
        """Whether the firings have a cause of their own though an incident is open."""
        assert self._open is not None
        incident = self._open.incident
        return any(
            f.kind in ("corruption", "frozen")
            and sites.all[f.column].layer != incident.origin
            and f.step > incident.step + _APART
            for f in firings
        )

    def _close(self) -> None:
        """Take in no more; the incident lasts for as long as any condition holds."""
        if self._open is not None:
            self._lasting.append(self._open.incident)
            self._open = None

    def state(self) -> dict[str, Any]:
        """Everything, in plain containers."""
        group = self._open
        return {
            "number": self._number,
            "lasting": [to_plain(i) for i in self._lasting],
            "waiting": [list(f) for f in self._waiting],
            "open": None
            if group is None
            else {
                "incident": to_plain(group.incident),
                "everywhere": group.everywhere,
                "latest": group.latest,
                "raised": sorted(group.raised),
            },
        }

    def load(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state`."""
        self._number = int(state["number"])
        self._lasting = [from_plain(Incident, i) for i in state["lasting"]]
        self._waiting = [Firing(*f) for f in state["waiting"]]
        group = state["open"]
        self._open = None
        if group is not None:
            self._open = _Open(
                from_plain(Incident, group["incident"]),
                bool(group["everywhere"]),
                int(group["latest"]),
                set(group["raised"]),
            )


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
        return min(known, key=_moment).origin, False
    # When units fell silent, and what is slow to show, is known to a step or two: what else
    # happened then comes first, and the model's input before all layers.
    begin = min(map(_moment, firings))
    together = [f for f in firings if _moment(f) < begin + _TOGETHER]
    firings = [f for f in together if _place(f) != _LATE] or together
    first = min(firings, key=_moment)
    phase = _place(first)
    if phase != _BEFORE and any(sites.all[f.column].layer == INPUT for f in firings):
        return INPUT, False
    lead = [f for f in firings if _moment(f) < _moment(first) + 0.2]
    moves = drift.at(first.step)
    where = [sites.all[f.column] for f in lead]
    if phase == _BEFORE:
        return _layer(max(lead, key=lambda f: f.score), sites), False
    if phase == _UPDATE:
        layers = {s.layer for s in where}
        weighted = {s.layer for s in sites.all if s.tensor == "update"}
        strongest = _layer(max(lead, key=lambda f: f.score), sites)
        return strongest, len(layers) * 2 >= len(weighted) > 1
    if phase == _BACKWARD:
        last = max(lead, key=lambda f: (int(sites.order[f.column]), f.score))
        return sites.cause(_layer(last, sites)), False
    if phase == _LATE:
        earliest = min(lead, key=lambda f: (int(sites.order[f.column]), -f.score))
        return _home(earliest, sites), False
    return _forward_origin(lead, sites, moves), False


def _forward_origin(lead: Sequence[Firing], sites: Sites, moves: np.ndarray) -> str:
    """Origin among sites that shifted in the same forward pass."""
    if any(sites.all[f.column].layer == INPUT for f in lead):
        return INPUT
    broken = [f for f in lead if f.kind == "nonfinite"]
    if broken:
        return _home(min(broken, key=lambda f: _course(f, sites)), sites)
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
    home = _home(best, sites, out)
    if _looked_up(home, sites):
        return INPUT
    # The input's limits are wider; a first layer that moved no more than it did only passes it on.
    fed = INPUT in sites.parents(home) and into.get(INPUT, 0.0) >= 1 / _WIDER
    return INPUT if fed and out.get(home, 0.0) <= 2 * _WIDER * into[INPUT] else home


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


def _remarked(firing: Firing, remark: str) -> Firing:
    """A firing that waited for a full look, with what came of it."""
    if not remark or firing.kind != "nonfinite":
        return firing
    return firing._replace(text=f"{firing.text}; {remark}")


def _home(firing: Firing, sites: Sites, out: dict[str, float] | None = None) -> str:
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


def _moment(firing: Firing) -> float:
    """When a firing's cause acted, in steps, with its place within the step."""
    return firing.step + _place(firing)


def _course(firing: Firing, sites: Sites) -> tuple[int, int]:
    """When a site's values come to be within a step: forward, then backward, then the update."""
    phase = {"gradient": 1, "update": 2, "weight": 2}.get(sites.all[firing.column].tensor, 0)
    order = int(sites.order[firing.column])
    return phase, -order if phase == 1 else order


def _place(firing: Firing) -> float:
    place = {"corruption": _BEFORE, "update": _UPDATE, "frozen": _UPDATE}.get(firing.kind)
    if place is None:
        late = firing.kind in ("dead", "saturation", "batchnorm", "distribution_shift")
        backward = firing.metric == "rms"
        place = _LATE if late else _BACKWARD if backward else _FORWARD
    return place
