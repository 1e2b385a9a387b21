"""To the logger ``shiftwatch``: every alert at its level, and a line now and then."""

from __future__ import annotations

import logging

from shiftwatch.records import Incident, Report
from shiftwatch.reporters.line import line
from shiftwatch.reporters.pace import Pace
from shiftwatch.reporters.rollups import standing

#: Severity to level of the standard library: the same words.
LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.CRITICAL}

_log = logging.getLogger("shiftwatch")


class LoggingReporter:
    """Logs alerts when they are raised, and one summary line now and then at INFO.

    Alerts need no set-up to be heard: where the application configured no logging,
    Python writes warnings and worse to stderr. The summary lines show once the
    application lets INFO through. A handler finds the whole alert as ``record.alert``.

    Args:
        seconds: least time between two summary lines; ``math.inf`` for the last one only.
        steps: a line every so many steps instead.

    Example:
        >>> import numpy as np
        >>> from shiftwatch.records import Site
        >>> reporter = LoggingReporter(steps=100)
        >>> reporter(Report(0, 7, (Site("fc1"),), {"kl": np.array([0.25])}))  # silent: no alert
    """

    def __init__(self, *, seconds: float = 60.0, steps: int | None = None) -> None:
        self._pace = Pace(seconds, steps)
        self._open: dict[int, Incident] = {}
        self._alerts = 0

    def __call__(self, report: Report) -> None:
        self._open = standing(self._open, report)
        self._alerts += len(report.alerts)
        for alert in report.alerts:
            text = f"{alert.message} · {alert.advice}" if alert.advice else alert.message
            level = LEVELS.get(alert.severity, logging.WARNING)
            _log.log(level, "%s", text, extra={"alert": alert})
        due = self._pace.due(report.step)
        if (due or report.final) and _log.isEnabledFor(logging.INFO):
            if report.final:
                _log.info("%s · finished with %s", line(report, self._open), _count(self._alerts))
            else:
                _log.info("%s", line(report, self._open))


def _count(alerts: int) -> str:
    return {0: "no alert", 1: "1 alert"}.get(alerts, f"{alerts} alerts")
