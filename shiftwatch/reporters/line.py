"""A report in one line, for people who watch a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from shiftwatch.records import Incident, Report
from shiftwatch.reporters.rollups import METRICS, worst

#: How many origins of open incidents a line names before it counts the rest.
NAMED = 3


def line(report: Report, incidents: Mapping[int, Incident] | None = None) -> str:
    """One line: step, worst layer per metric, origins of the open incidents, overhead.

    Args:
        report: one window.
        incidents: those open after it, from :func:`shiftwatch.reporters.standing`.

    Example:
        >>> import numpy as np
        >>> from shiftwatch.records import Site
        >>> line(Report(0, 7, (Site("fc1"),), {"kl": np.array([0.25])}, overhead=0.008))
        'step 7 · kl 0.25 at fc1 · overhead 0.8 %'
    """
    parts = [f"step {report.step}"]
    for metric in METRICS:
        found = worst(report, metric)
        if found is not None:
            site, value = found
            where = site.layer if site.label == "output" else f"{site.layer} {site.label}"
            parts.append(f"{metric} {value:.3g} at {where}")
    if incidents:
        origins = list(dict.fromkeys(i.origin for i in incidents.values()))
        more = f" and {len(origins) - NAMED} more" if len(origins) > NAMED else ""
        parts.append(f"in alarm: {', '.join(origins[:NAMED])}{more}")
    parts.append(f"overhead {100 * report.overhead:.2g} %")
    if report.every > 1:
        parts.append(f"one step in {report.every:,}")
    return " · ".join(parts)
