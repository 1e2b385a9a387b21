"""Keeper: all that a run leaves behind, in memory, and in a folder where there is one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from shiftwatch._version import __version__
from shiftwatch.history import History
from shiftwatch.records import Alert, Event, Incident, Site
from shiftwatch.run import Run
from shiftwatch.sites import Sites
from shiftwatch.window import Window


def facts(options: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What is noted of a run when it begins: when, with what, and how it was asked for."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": {
            "shiftwatch": __version__,
            "python": sys.version.split()[0],
            "numpy": np.__version__,
        },
        "options": dict(options),
        "config": dict(config),
    }


class Keeper:
    """The history and the folder of a run, told the same.

    Args:
        sites: the table of sites, shared with the monitor.
        run: folder to record into; ``None`` for a dated one, ``False`` for memory only.
        meta: facts to begin with.

    Attributes:
        alerts: those that were raised, in order; infos are kept and are no alarm.
        incidents: each as it is by now.

    Raises:
        OSError: where the folder cannot be written.
    """

    def __init__(
        self, sites: Sites, run: str | os.PathLike[str] | bool | None, meta: Mapping[str, Any]
    ) -> None:
        self.alerts: list[Alert] = []
        self.incidents: list[Incident] = []
        self.history = History()
        self.history.meta.update(meta)
        self._sites = sites
        self._entered = 0  # sites, and what was said of their layers
        self._layers: dict[str, Any] = {}
        self._writer: Any = None
        self._closed = False
        if run is not False:
            from shiftwatch.store import Writer

            folder = _dated() if run is None or run is True else Path(run)
            self._writer = Writer(folder, dict(meta))

    @property
    def folder(self) -> Path | None:
        """The run folder; ``None`` in memory."""
        return self._writer.path if self._writer is not None else None

    @property
    def attempt(self) -> str | None:
        """Name of this attempt in the run folder."""
        return self._writer.attempt if self._writer is not None else None

    def view(self) -> Run:
        """Everything so far, as ``shiftwatch.open`` would read it back."""
        run = self.history.view()
        if self._writer is not None:
            run.path = self.folder
            run.attempt = self._writer.attempt
            run.attempts = [self._writer.attempt]
        return run

    def newest(self) -> dict[str, np.ndarray]:
        """Metrics of the newest window; empty before the first."""
        run = self.history.view()
        return {key: run.metric(key)[-1] for key in run.metrics} if len(run) else {}

    def keep(
        self, alerts: Sequence[Alert], incidents: Sequence[Incident], events: Sequence[Event]
    ) -> None:
        """Alerts, incidents and events, after the sites that are new by now."""
        self._keep_sites()
        for event in events:
            self.note(event)
        for alert in alerts:
            if alert.severity != "info":
                self.alerts.append(alert)
            self.history.add_alert(alert)
            if self._writer is not None:
                self._writer.alert(alert)
        for incident in incidents:
            self.incidents = [i for i in self.incidents if i.number != incident.number]
            self.incidents.append(incident)
            self.history.add_incident(incident)
            if self._writer is not None:
                self._writer.incident(incident)

    def window(self, window: Window) -> None:
        """A window, after the alerts that it raised."""
        self.history.add_window(window)
        if self._writer is not None:
            self._writer.window(window)

    def note(self, event: Event) -> None:
        """An event."""
        self.history.add_event(event)
        if self._writer is not None and not self._closed:
            self._writer.event(event)

    def close(self, end: Mapping[str, Any]) -> None:
        """The last word; nothing is written after it."""
        if self._writer is not None:
            self._closed = True
            self._writer.close(dict(end))

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on in the attempt that a monitor's state belongs to, where its folder still is."""
        from shiftwatch.store import Writer, open_run

        attempt = state.get("attempt")
        if self._writer is None or not attempt:
            return
        places = [self._writer.path, *([Path(state["run"])] if state.get("run") else [])]
        # The attempt that was just begun may bear the same name.
        own = (self._writer.path / self._writer.attempt).resolve()
        there = [p for p in places if (p / attempt).is_dir() and (p / attempt).resolve() != own]
        if not there:
            return
        _discard(self._writer)
        self._writer = Writer.resume(there[0], attempt, int(state["steps"]) - 1)
        earlier = open_run(there[0], attempt=attempt)
        self.history.meta.update(earlier.meta)
        for site in self._sites.all:
            self.history.add_site(site, self._sites.layers[site.layer])
        self._entered = len(self._sites)
        self._layers = dict(self._sites.layers)
        self.history.extend(earlier)
        self.alerts = [a for a in earlier.alerts if a.severity != "info"]
        self.incidents = list(earlier.incidents)

    def _keep_sites(self) -> None:
        """Sites that are new, and one site of each layer of which something else is known now."""
        for name, layer in self._sites.layers.items():
            if self._layers.get(name) != layer:
                self._layers[name] = layer
                known = self._sites.all[: self._entered]
                changed = next((s for s in known if s.layer == name), None)
                if changed is not None:
                    self._enter(changed)
        for site in self._sites.all[self._entered :]:
            self._enter(site)
        self._entered = len(self._sites)

    def _enter(self, site: Site) -> None:
        layer = self._sites.layers[site.layer]
        self.history.add_site(site, layer)
        if self._writer is not None:
            self._writer.site(site, layer)


def _dated() -> Path:
    """A new folder name of today under ``$SHIFTWATCH_DIR`` or ``./shiftwatch-runs``."""
    top = Path(os.environ.get("SHIFTWATCH_DIR") or "shiftwatch-runs")
    stem = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = (stem if n == 1 else f"{stem}_{n}" for n in range(1, 1000))
    return next(top / name for name in names if not (top / name).exists())


def _discard(writer: Any) -> None:
    """Undo an attempt that was just started and holds nothing. Only what it made goes."""
    writer.close()
    shutil.rmtree(writer.folder, ignore_errors=True)
    if {p.name for p in writer.path.iterdir()} <= {"lock"}:
        shutil.rmtree(writer.path, ignore_errors=True)
