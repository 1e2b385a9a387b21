"""Where reports go. A reporter is any callable of one :class:`shiftwatch.records.Report`.

Those here need nothing but NumPy. Reporters for other packages live in
``shiftwatch.integrations``, each in a file named after its package.
"""

from __future__ import annotations

import logging as _logging
from collections.abc import Callable, Sequence

from shiftwatch.records import Report
from shiftwatch.reporters.console import ConsoleReporter as ConsoleReporter
from shiftwatch.reporters.jsonl import JsonlReporter as JsonlReporter
from shiftwatch.reporters.logging import LoggingReporter as LoggingReporter
from shiftwatch.reporters.rollups import METRICS as METRICS
from shiftwatch.reporters.rollups import rollups as rollups
from shiftwatch.reporters.rollups import standing as standing
from shiftwatch.reporters.rollups import worst as worst

Reporter = Callable[[Report], object]

_log = _logging.getLogger("shiftwatch")


def deliver(
    reporters: Sequence[Reporter], report: Report, *, strict: bool = False
) -> tuple[Reporter, ...]:
    """Hands a report to every reporter; one that raises is logged once and left out.

    Args:
        reporters: who gets it, in order.
        report: what they get.
        strict: re-raise the first exception instead.

    Returns:
        The reporters that are still alive, to be used from now on.

    Example:
        >>> seen = []
        >>> reporters = deliver((seen.append,), Report(0, 7, (), {}))
        >>> len(seen), len(reporters)
        (1, 1)
    """
    alive = []
    for reporter in reporters:
        try:
            reporter(report)
        except Exception as error:
            if strict:
                raise
            name = getattr(reporter, "__qualname__", type(reporter).__qualname__)
            _log.error(
                "reporter %s failed at step %d (%s: %s) and gets no more reports. "
                "Training and the other reporters go on.",
                name, report.step, type(error).__name__, error,
                exc_info=True,
            )  # fmt: skip
        else:
            alive.append(reporter)
    return tuple(alive)
