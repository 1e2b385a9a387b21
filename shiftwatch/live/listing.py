"""Listing: a line for every run of a folder, read again only where a run has grown."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from shiftwatch import wording
from shiftwatch.curve import loss_curve, place
from shiftwatch.live.finding import Finder
from shiftwatch.live.outline import Outline
from shiftwatch.live.state import State, state
from shiftwatch.records import Incident
from shiftwatch.run import Run
from shiftwatch.store.folder import attempts

#: Points of a loss curve in the list, and incidents marked in it.
POINTS, MARKS = 72, 20

_REST = 1.0  # seconds between two looks at the folder, however many ask


@dataclass
class Entry:
    """A run of the list.

    Args:
        path: the run folder.
        attempt: name of its latest attempt; ``""`` before the first.
        folder: of that attempt, or the run's.
        mark: what tells whether the run has grown; see :func:`_mark`.
        version: of the list, when its line last changed.
        line: what the list says of it, as JSON can hold it.
        meta: the attempt's ``meta.json``.
        outline: its reader.
    """

    path: Path
    attempt: str
    folder: str  # of that attempt
    mark: tuple[Any, ...] = ()
    version: int = 0
    line: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    outline: Outline | None = None


class Listing:
    """The runs below a folder, shared by everybody who asks; safe to ask from several threads.

    Args:
        top: a folder of runs, or a run.

    Cost: of 300 runs that rest, some milliseconds for a look at their folders; a run that has
    grown costs about a millisecond more.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self._finder = Finder(top)
        self._entries: dict[str, Entry] = {}
        # Above whatever an earlier server said: a page that it left open asks for everything.
        self._version = int(time.time() * 1000)
        self._looked = 0.0
        self._lock = threading.Lock()

    def since(self, version: int) -> dict[str, Any]:
        """What changed after a version of the list.

        Args:
            version: as the last answer said; 0 for everything.

        Returns:
            ``version``; ``names`` of all runs; ``runs``, the lines of those that are new or changed.
        """
        with self._lock:
            self._look()
            lines = [e.line for e in self._entries.values() if e.version > version]
            return {"version": self._version, "names": list(self._entries), "runs": lines}

    def entry(self, name: str) -> Entry | None:
        """A run by its name below the top; ``None`` where there is no such run (any more)."""
        with self._lock:
            self._look()
            return self._entries.get(name)

    def attempt(self, name: str, attempt: str) -> Entry | None:
        """One attempt of a run, by its name; ``None`` where the run has none of that name."""
        entry = self.entry(name)
        if entry is None or entry.attempt == attempt:
            return entry
        try:
            names = attempts(entry.path)
            if attempt in names:
                earlier = Entry(entry.path, attempt, os.path.join(entry.path, attempt))
                mark, _ = _mark(earlier)
                earlier.mark = (*mark, len(names))  # its page names them all
                return earlier
        except OSError:  # it is being removed
            pass
        return None

    def _look(self) -> None:
        if time.monotonic() - self._looked < _REST:
            return
        found = self._finder.runs()
        new = {}
        changed = found.keys() != self._entries.keys()
        for name, (path, attempt) in found.items():
            entry = self._entries.get(name)
            if entry is None or (entry.path, entry.attempt) != (path, attempt):
                entry = Entry(path, attempt, os.path.join(path, attempt))
            new[name] = entry
            try:
                changed |= self._renew(name, entry)
            except OSError:  # it is being removed, or changes at this moment: next time
                if not entry.line:
                    del new[name]
        self._entries = new
        self._version += changed
        self._looked = time.monotonic()

    def _renew(self, name: str, entry: Entry) -> bool:
        """Read a run again if it has changed; whether its line has."""
        mark, written = _mark(entry)
        entry_state: State = "empty"
        if entry.attempt:
            entry_state = state(entry.path, entry.meta, time.time() - written)
        if entry.line and entry.mark == mark and entry.line["state"] == entry_state:
            return False
        line: dict[str, Any] = {"name": name, "href": _address(name), "changed": written}
        try:
            if entry.attempt:
                entry.outline = entry.outline or Outline(Path(entry.folder))
                run = entry.outline.read()
                entry.meta = run.meta
                entry_state = state(entry.path, entry.meta, time.time() - written)
                line |= _described(run)
        except OSError:
            raise
        except Exception as error:  # a run that cannot be read must not hide the others
            line["verdict"] = f"It cannot be read: {error}"
        line["state"] = entry_state
        entry.mark = mark
        if line == entry.line:
            return False
        entry.line, entry.version = line, self._version + 1
        return True


def _mark(entry: Entry) -> tuple[tuple[Any, ...], float]:
    """What tells whether a run has changed, and when it was last written, seconds since 1970.

    Files are replaced and added, which the folder's time tells, or appended to, which only the
    newest tail and the two files of lines ever are, and those of a finished run no more.
    """
    changed = os.stat(entry.folder).st_mtime_ns
    newest = changed
    sizes: list[int] = []
    if entry.attempt and not entry.meta.get("finished"):
        with os.scandir(entry.folder) as files:
            for file in files:
                if file.name.endswith((".tail", ".jsonl")):
                    status = file.stat()
                    sizes.append(status.st_size)
                    newest = max(newest, status.st_mtime_ns)
    return (changed, *sizes), newest / 1e9


def _address(name: str) -> str:
    """Where the list's page finds a run: any name is one part of the path."""
    return f"run/{quote(os.fsencode(name), safe='')}/"


def _described(run: Run) -> dict[str, Any]:
    """What a line says of a run, as JSON can hold it."""
    level, verdict = wording.verdict(run)
    raised = wording.raised(run)
    known = run.losses[~np.isnan(run.losses)]
    return {
        "level": level,
        "verdict": verdict,
        "steps": int(run.steps[-1]) + 1 if len(run) else 0,
        "layers": wording.layers_of(run),
        "started": _seconds(run.meta.get("started")),
        "attempts": len(run.attempts),
        "loss": wording.number(float(known[-1]), 3) if known.size else "",
        "curve": loss_curve(run, POINTS).round(4).tolist(),
        "marks": _marks(run, [i.step for i in raised[:MARKS]]),
        "latest": _incident(raised[-1]) if len(raised) > 1 else "",
    }


def _incident(incident: Incident) -> str:
    kinds = ", ".join(wording.kind_words(kind) for kind in incident.kinds[:3])
    cleared = "" if incident.cleared is None else " (cleared)"
    return f"{wording.place(incident.origin)} from step {incident.step:,}: {kinds}{cleared}"


def _marks(run: Run, steps: list[int]) -> list[float]:
    return place(run, np.array(steps, float)).round(4).tolist() if len(run) else []


def _seconds(moment: Any) -> float:
    """ISO text as seconds since 1970; 0 where it is none."""
    try:
        parsed = datetime.fromisoformat(str(moment).replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    return parsed.replace(tzinfo=parsed.tzinfo or timezone.utc).timestamp()
