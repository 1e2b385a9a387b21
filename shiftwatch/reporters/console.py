"""To the terminal: a line now and then, and at once when something is raised."""

from __future__ import annotations

import sys
from typing import TextIO

from shiftwatch.records import Incident, Report
from shiftwatch.reporters.line import line
from shiftwatch.reporters.pace import Pace
from shiftwatch.reporters.rollups import standing


class ConsoleReporter:
    """Prints one line per report that is due, and one whenever alerts are raised.

    The alerts themselves are the logger's and reach the terminal without this reporter;
    here the line names the layers in alarm. Lines are written whole, and through tqdm
    where the program uses it, so that a progress bar stays in one piece.

    Args:
        stream: where to; by default what ``sys.stdout`` is at that moment.
        seconds: least time between two lines; 0 for every window.
        steps: a line every so many steps instead.

    Example:
        >>> import numpy as np
        >>> from shiftwatch.records import Site
        >>> reporter = ConsoleReporter(seconds=0)
        >>> reporter(Report(0, 7, (Site("fc1"),), {"kl": np.array([0.25])}))
        shiftwatch: step 7 · kl 0.25 at fc1 · overhead 0 %
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        seconds: float = 10.0,
        steps: int | None = None,
    ) -> None:
        self._stream = stream
        self._pace = Pace(seconds, steps)
        self._open: dict[int, Incident] = {}

    def __call__(self, report: Report) -> None:
        self._open = standing(self._open, report)
        due = self._pace.due(report.step)
        if due or report.alerts or report.final:
            _write(f"shiftwatch: {line(report, self._open)}", self._stream or sys.stdout)


def _write(text: str, stream: TextIO) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = text.encode(encoding, "replace").decode(encoding)  # an ASCII terminal gets its "?"
    tqdm = sys.modules.get("tqdm")
    if tqdm is not None and hasattr(tqdm, "tqdm"):
        tqdm.tqdm.write(text, file=stream)
    else:
        stream.write(text + "\n")  # one call, one line: other writers cannot come between
    stream.flush()
