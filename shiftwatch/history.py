"""History: a run in memory, growing and yet bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shiftwatch.records import Alert, Event, Incident, Layer, Site
from shiftwatch.run import Rows as Rows
from shiftwatch.run import Run as Run
from shiftwatch.window import Row as Row
from shiftwatch.window import Window as Window
from shiftwatch.window import merge as merge

_RECORDS = 10_000  # alerts and events kept in memory; a run that raises more is lost anyway


class History:
    """What a run has seen so far.

    Recent windows stay as they came. Where the limit is exceeded, two adjacent windows of
    the older half become one: the two that together span the fewest steps, so that the
    older half stays evenly resolved however long the run is.

    Args:
        limit: windows kept, 4 or more.
        memory: bytes kept; 1,000 sites need about 0.5 MB per window.

    Raises:
        ValueError: for a limit under 4.

    Cost: a window is kept at about 0.5 kB per site. Past the limit, adding one also merges two.

    Example:
        >>> import numpy as np
        >>> from shiftwatch.summaries import Summary
        >>> history = History(limit=4)
        >>> for step in range(100):
        ...     history.add_window(Window(step, step, Summary.empty((1,)), {}, np.zeros(0), 0.0))
        >>> run = history.view()
        >>> len(run), run.first[0].item(), run.steps[-1].item()
        (4, 0, 99)
    """

    def __init__(self, limit: int = 1024, *, memory: int = 256 << 20) -> None:
        if limit < 4:
            raise ValueError(
                f"limit must be at least 4 windows; got {limit}. "
                "The default 1024 is enough to draw a run of any length."
            )
        self.limit = limit
        self.memory = memory
        self.meta: dict[str, Any] = {}
        self._sites: dict[Site, int] = {}
        self._layers: dict[str, Layer] = {}
        self._rows: list[Row] = []
        self._bytes = 0
        self._alerts: list[Alert] = []
        self._incidents: dict[int, Incident] = {}
        self._events: list[Event] = []

    def add_site(self, site: Site, layer: Layer) -> int:
        """Column of a site, a new one at the end where it is new; the layer's facts are renewed."""
        self._layers[layer.name] = layer
        return self._sites.setdefault(site, len(self._sites))

    def add_window(self, window: Window) -> None:
        """Add the next window; older ones are merged where the limit asks for it."""
        self._rows.append(window.row)
        self._bytes += window.row.nbytes
        while len(self._rows) > self.limit or (self._bytes > self.memory and len(self._rows) > 4):
            pair = narrowest([r.step - r.first + 1 for r in self._rows])
            a, b = self._rows[pair : pair + 2]
            both = Row.of(merge(a.window(), b.window()))
            self._rows[pair : pair + 2] = [both]
            self._bytes += both.nbytes - a.nbytes - b.nbytes

    def add_alert(self, alert: Alert) -> None:
        """Add an alert, in the order raised."""
        self._alerts.append(alert)
        del self._alerts[:-_RECORDS]

    def add_incident(self, incident: Incident) -> None:
        """Add an incident; one of the same number is replaced."""
        self._incidents[incident.number] = incident

    def add_event(self, event: Event) -> None:
        """Add an event."""
        self._events.append(event)
        del self._events[:-_RECORDS]

    def extend(self, run: Run) -> None:
        """Add everything of an earlier part of the same run; its sites are known already."""
        table = {key: run.metric(key) for key in run.metrics}
        schedule = np.array(run.schedule)
        dead = (window for chunk in run.chunks for window in chunk.dead.each())
        for i, summary in enumerate(run.summaries(range(len(run)))):
            metrics = {key: values[i] for key, values in table.items()}
            losses = run.losses[i : i + 1]
            span = int(run.first[i]), int(run.steps[i])
            inside = slice(*np.searchsorted(schedule[0], [span[0], span[1] + 1]))
            rates = schedule[:, inside]
            self.add_window(
                Window(*span, summary, metrics, losses, run.overhead, rates, next(dead))
            )
        for alert in run.alerts:
            self.add_alert(alert)
        for incident in run.incidents:
            self.add_incident(incident)
        for event in run.events:
            self.add_event(event)

    def view(self) -> Run:
        """The history up to now as a run; what is added later does not change it.

        Cost: none per window; arrays are made where they are asked for.
        """
        return Run(
            chunks=[Rows(tuple(self._rows))],
            meta=self.meta,
            sites=tuple(self._sites),
            layers=self._layers,
            alerts=self._alerts,
            incidents=tuple(self._incidents.values()),
            events=self._events,
        )


def narrowest(spans: Sequence[float]) -> int:
    """Which neighbours of the older half to merge: those that span the fewest steps.

    Args:
        spans: steps of each, in order; at least two.

    Returns:
        Number of the left one; the oldest such pair where several are equal.

    Example:
        >>> narrowest([2, 2, 1, 1, 1, 1, 1, 1])
        2
    """
    older = max(2, len(spans) // 2)
    return min(range(older - 1), key=lambda left: spans[left] + spans[left + 1])
