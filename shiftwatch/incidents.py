"""Incidents: one cause, one number, one alert per kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shiftwatch.advice import ADVICE, BY_METRIC
from shiftwatch.origin import LATE, Drift, course, find_origin, home, moment, place
from shiftwatch.records import INPUT, SEVERITIES, Alert, Incident, from_plain, to_plain
from shiftwatch.rules.base import Firing
from shiftwatch.sites import Sites

# A cause shows within this many steps of its first sign; a sign that comes later and names
# another layer is a new incident if it is of a kind that has causes, not consequences.
_APART = 16


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
            self._alert(f, sites, Incident(0, home(f, sites), f.step, step, "info", ()), step, "")
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
        if hurry and self._open is None and all(place(f) == LATE for f in serious):
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
        firings.sort(key=lambda f: (moment(f), not f.origin, course(f, sites), -f.score))
        alerts, followers = [], set(incident.followers)
        for firing in firings:
            site = sites.all[firing.column]
            there = home(firing, sites)
            here = there == incident.origin or site.layer == incident.origin
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


def _remarked(firing: Firing, remark: str) -> Firing:
    """A firing that waited for a full look, with what came of it."""
    if not remark or firing.kind != "nonfinite":
        return firing
    return firing._replace(text=f"{firing.text}; {remark}")
