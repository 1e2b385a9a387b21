"""Incidents: one cause, one number, one alert per kind.

While an incident is open, what its cause may have brought about belongs to it: what happens at its
origin, behind it in the forward pass, and to gradients. What it cannot have brought about has a cause
of its own, and is an incident of its own: weights changed from outside, parameters that the
optimizer left, other data, layers that shift though nothing that broke feeds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any

import numpy as np

from shiftwatch.advice import ADVICE, BY_METRIC
from shiftwatch.origin import (
    BACKWARD,
    LATE,
    TOGETHER,
    Drift,
    course,
    find_origin,
    home,
    moment,
    place,
)
from shiftwatch.records import INPUT, SEVERITIES, Alert, Incident, from_plain, to_plain
from shiftwatch.rules.base import Firing
from shiftwatch.sites import Sites

# Kinds that something outside of the network brings about: they are causes, never consequences.
_CAUSES = ("corruption", "frozen")

# Incidents that are open at a time, at most; the oldest makes room.
_MOST = 4

# Places at which a kind of cause was seen; where it is seen next is no news.
_SEVERAL = 3

# Steps in which values that are not finite spread: gradients are read at every eighth.
_SPREAD = 8


@dataclass
class _Open:
    """An incident that new firings may belong to.

    Args:
        everywhere: the cause sat in most layers at once.
        latest: step at which something was last told that it explains.
        raised: what was raised, see :func:`_key`.
        places: for each kind of cause the layer where it was, ``""`` for several.
        broken: columns of sites that were not finite.
        broke: step when that was last told; -1 for never.
    """

    incident: Incident
    everywhere: bool
    latest: int
    raised: set[str] = field(default_factory=set)
    places: dict[str, str] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    broke: int = -1


class Incidents:
    """Turns firings into alerts. Holds the incidents that are open.

    Args:
        quiet: steps without a firing that it explains after which an incident takes in no more.
    """

    def __init__(self, quiet: int = 96) -> None:
        self.quiet = quiet
        self._number = 0
        self._open: list[_Open] = []  # the newest last
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
            self._alert(f, sites, Incident(0, home(f, sites), f.step, step, "info", ()), step, "")
            for f in asides
        ]
        waited = [_remarked(f, remark) for f in self._waiting]
        serious = [*waited, *(f for f in firings if f.severity != "info")]
        self._waiting = []
        if hold and any(f.kind == "nonfinite" for f in serious):
            if not self._open:
                self._waiting = serious
                return alerts, []
            self._waiting = [f for f in serious if f.kind == "nonfinite"]
            serious = [f for f in serious if f.kind != "nonfinite"]
        serious.sort(key=lambda f: (moment(f), not f.origin, course(f, sites), -f.score))
        new = [self._is_new(f, sites) for f in serious]
        if hurry and any(new) and all(place(f) == LATE for f in compress(serious, new)):
            self._waiting += compress(serious, new)
            serious = [f for f, other in zip(serious, new, strict=True) if not other]
            new = [False] * len(serious)
        for group, mine in self._shared(serious, new, sites, drift, step):
            alerts += self._join(group, mine, sites, step, context)
            changed[group.incident.number] = group.incident
        for i, group in enumerate(self._open[::-1]):
            over = not active.any() and step > group.latest
            if over or step - group.latest > self.quiet or i >= _MOST:
                self._close(group)
        if not active.any():
            for incident in self._lasting:
                changed[incident.number] = replace(incident, cleared=step)
            self._lasting = []
        return alerts, list(changed.values())

    def flush(self, sites: Sites, step: int) -> tuple[list[Alert], list[Incident]]:
        """What was held back and can wait no longer: the run ends."""
        still = Drift(np.zeros(0, np.int64), np.zeros((0, len(sites))))
        return self.update([], sites, still, step, np.ones(len(sites), bool))

    def _is_new(self, firing: Firing, sites: Sites) -> bool:
        """Whether no open incident can have brought a firing about."""
        for group in self._open:
            if firing.step <= group.incident.step + TOGETHER or _here(group, firing, sites):
                return False
        if _is_cause(firing, sites):
            known = {g.places[firing.kind] for g in self._open if firing.kind in g.places}
            return not known & {"", home(firing, sites)} and len(known) < _SEVERAL
        if not self._open:
            return True
        if firing.kind == "nonfinite":
            return self._breaks_anew(firing, sites)
        if place(firing) == BACKWARD or firing.metric == "loss":
            return False  # gradients come from all that is behind a layer
        layer = sites.all[firing.column].layer
        return not any(
            g.everywhere
            or layer in g.incident.followers
            or layer in sites.fed_by(g.incident.origin)
            for g in self._open
        )

    def _breaks_anew(self, firing: Firing, sites: Sites) -> bool:
        """Whether values are not finite for another reason than others were before.

        What was finite again in between is told once more. Else it may be a site seen late.
        """
        latest = max(g.broke for g in self._open)
        if latest < 0 or firing.step <= latest + _SPREAD:
            return False
        if any(firing.column in g.broken for g in self._open):
            return True
        layer = sites.all[firing.column].layer
        return all(sites.all[c].layer != layer for g in self._open for c in g.broken)

    def _shared(
        self, firings: list[Firing], new: list[bool], sites: Sites, drift: Drift, step: int
    ) -> list[tuple[_Open, list[Firing]]]:
        """Each firing with the incident it belongs to; what is new opens one.

        With it goes what began since then elsewhere than where open incidents began.
        """
        begin = min((f.step for f in compress(firings, new)), default=step + 1)
        shared: list[tuple[_Open, Firing]] = []
        mine: list[Firing] = []
        for firing, own in zip(firings, new, strict=True):
            if own or (
                firing.step >= begin and not any(_here(g, firing, sites) for g in self._open)
            ):
                mine.append(firing)
            else:
                shared.append((self._owner(firing, sites), firing))
                _note(*shared[-1], sites)
        if mine:
            origin, everywhere = find_origin(mine, sites, drift)
            self._number += 1
            first = min(f.step for f in mine)
            group = _Open(Incident(self._number, origin, first, step, "info", ()), everywhere, step)
            self._open.append(group)
            shared += [(group, f) for f in mine]
            for firing in mine:
                _note(group, firing, sites)
        found = [(g, [f for owner, f in shared if owner is g]) for g in self._open]
        return [(group, its) for group, its in found if its]

    def _owner(self, firing: Firing, sites: Sites) -> _Open:
        """The open incident that a firing belongs to: where it began, else upstream of it.

        Values that are not finite spread everywhere: they belong to where they were first.
        """
        newest = self._open[::-1]
        if firing.kind == "nonfinite":
            group = max(newest, key=lambda g: g.broke)
            if 0 <= group.broke and firing.step <= group.broke + _SPREAD:
                return group
        for group in newest:
            if _here(group, firing, sites):
                return group
        layer = sites.all[firing.column].layer
        for group in newest:
            began = group.incident
            if firing.step >= began.step and layer in sites.fed_by(began.origin):
                return group
        return self._open[0]

    def _join(
        self, group: _Open, firings: list[Firing], sites: Sites, step: int, context: str
    ) -> list[Alert]:
        """Raise what holds at the origin, list the rest as followers.

        Args:
            firings: the earliest first.
        """
        incident = group.incident
        alerts, followers = [], set(incident.followers)
        for firing in firings:
            site = sites.all[firing.column]
            here = _here(group, firing, sites)
            passed_on = incident.origin == INPUT and INPUT in sites.parents(site.layer)
            passed_on |= firing.metric == "loss"  # has no layer, and is said whatever broke
            loud = here or passed_on or group.everywhere or firing.kind == "nonfinite"
            if not here:
                followers |= {site.layer}
            if here or group.everywhere or site.layer in sites.fed_by(incident.origin):
                group.latest = step
            if loud and _key(firing) not in group.raised:
                alerts.append(self._alert(firing, sites, incident, step, context))
                group.raised.add(_key(firing))
        worst = max((incident.severity, *(a.severity for a in alerts)), key=SEVERITIES.index)
        kinds = dict.fromkeys((*incident.kinds, *(a.kind for a in alerts)))
        group.incident = replace(
            incident,
            severity=worst,
            kinds=tuple(kinds),
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

    def _close(self, group: _Open) -> None:
        """Take in no more; the incident lasts for as long as any condition holds."""
        self._lasting.append(group.incident)
        self._open.remove(group)

    def state(self) -> dict[str, Any]:
        """Everything, in plain containers."""
        return {
            "number": self._number,
            "lasting": [to_plain(i) for i in self._lasting],
            "waiting": [list(f) for f in self._waiting],
            "open": [
                {
                    "incident": to_plain(group.incident),
                    "everywhere": group.everywhere,
                    "latest": group.latest,
                    "raised": sorted(group.raised),
                    "places": dict(group.places),
                    "broken": sorted(group.broken),
                    "broke": group.broke,
                }
                for group in self._open
            ],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state`."""
        self._number = int(state["number"])
        self._lasting = [from_plain(Incident, i) for i in state["lasting"]]
        self._waiting = [Firing(*f) for f in state["waiting"]]
        groups = state["open"] or []
        self._open = [
            _Open(
                from_plain(Incident, group["incident"]),
                bool(group["everywhere"]),
                int(group["latest"]),
                set(group["raised"]),
                dict(group.get("places", {})),
                set(group.get("broken", ())),
                int(group.get("broke", -1)),
            )
            for group in ([groups] if isinstance(groups, dict) else groups)  # one, before 0.2
        ]


def _key(firing: Firing) -> str:
    """What is raised once in an incident: a kind, and of a loss that rises by itself."""
    rises = firing.metric == "loss" and firing.kind != "nonfinite"
    return f"{firing.kind} of the loss" if rises else firing.kind


def _here(group: _Open, firing: Firing, sites: Sites) -> bool:
    """Whether a firing is about the layer where an incident began."""
    layer = sites.all[firing.column].layer
    return group.incident.origin in (layer, home(firing, sites))


def _note(group: _Open, firing: Firing, sites: Sites) -> None:
    """Keep of a firing what tells later ones apart from it."""
    if _is_cause(firing, sites):
        there = home(firing, sites)
        known = group.places.setdefault(firing.kind, there)
        group.places[firing.kind] = there if there == known else ""
    if firing.kind == "nonfinite":
        group.broken.add(firing.column)
        group.broke = max(group.broke, firing.step)


def _is_cause(firing: Firing, sites: Sites) -> bool:
    """Whether nothing within the network can have brought a firing about."""
    if firing.kind == "nonfinite":  # spreads to everything, but not to the data
        return INPUT in (firing.origin, sites.all[firing.column].layer)
    entered = sites.all[firing.column].layer == INPUT
    return firing.kind in _CAUSES or entered or firing.metric == "mode" or bool(firing.origin)


def _remarked(firing: Firing, remark: str) -> Firing:
    """A firing that waited for a full look, with what came of it."""
    if not remark or firing.kind != "nonfinite":
        return firing
    return firing._replace(text=f"{firing.text}; {remark}")
