"""To a file, one JSON object per line: for other programs, ``tail -f`` and ``jq``."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from shiftwatch.records import Incident, Report, to_plain
from shiftwatch.reporters.rollups import METRICS, rollups, standing, worst

#: Lines kept for later while the file cannot be written, about a megabyte.
KEPT = 1000

_log = logging.getLogger("shiftwatch")


class JsonlReporter:
    """Appends one line of strict JSON per report.

    A line holds ``first``, ``step``, ``final``, ``loss`` (mean of the window), ``rollups``
    (see :func:`shiftwatch.reporters.rollups`), ``where`` (metric to the site that is
    worst), ``alerts`` and ``incidents`` (see the records). Numbers that are not finite
    are ``null``.

    A full disk or a folder that goes away is said once; the lines wait in memory, the last
    :data:`KEPT` of them, and are written as soon as the file takes them again. A line is
    there whole or not at all.

    Args:
        path: the file; made with its folders, and never overwritten but continued.

    Raises:
        OSError: where the file cannot be opened for writing at the start.

    Cost: about 0.1 ms per report; the file is open only while a line is written.

    Example:
        >>> import tempfile
        >>> from shiftwatch.records import Site
        >>> path = Path(tempfile.mkdtemp(), "log.jsonl")
        >>> JsonlReporter(path)(Report(0, 7, (Site("fc1"),), {"kl": np.array([0.25])}))
        >>> json.loads(path.read_text())["rollups"]["worst_kl"]
        0.25
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab"):
            pass
        self._open: dict[int, Incident] = {}
        self._waiting: deque[bytes] = deque(maxlen=KEPT)
        self._failing = False

    def __call__(self, report: Report) -> None:
        self._open = standing(self._open, report)
        text = json.dumps(_strict(_plain(report, self._open)), allow_nan=False, ensure_ascii=False)
        self._waiting.append(text.encode("utf-8", "backslashreplace") + b"\n")
        try:
            _append(self.path, b"".join(self._waiting))
        except OSError as error:
            if not self._failing:
                _log.warning(
                    "%s cannot be written (%s). Training goes on; up to %d lines wait in "
                    "memory until it can.", self.path, error, KEPT,
                )  # fmt: skip
            self._failing = True
            if report.final:
                _log.warning("%d lines for %s are lost.", len(self._waiting), self.path)
        else:
            self._waiting.clear()
            self._failing = False


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        whole = file.tell()
        try:
            written = file.write(data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes went in")
        except OSError:
            file.truncate(whole)  # no torn line stays behind
            raise


def _plain(report: Report, incidents: dict[int, Incident]) -> dict[str, Any]:
    where = {metric: worst(report, metric) for metric in METRICS}
    known = report.losses[np.isfinite(report.losses)]
    return {
        "first": int(report.first),
        "step": int(report.step),
        "final": report.final,
        "loss": float(known.mean()) if len(known) else None,
        "rollups": rollups(report, incidents),
        "where": {metric: found[0].key for metric, found in where.items() if found is not None},
        "alerts": [to_plain(alert) for alert in report.alerts],
        "incidents": [to_plain(incident) for incident in report.incidents],
    }


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
