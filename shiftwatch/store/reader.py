"""Reading a run folder, also while it is written and after it was damaged."""

from __future__ import annotations

import json
import os
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shiftwatch.records import Alert, Event, Incident, Layer, Site, from_plain
from shiftwatch.run import Chunk, Rows, Run
from shiftwatch.store import folder as layout
from shiftwatch.store.framing import Bytes, FileBytes, decode, scan
from shiftwatch.store.segment import Numbered, Part, Recent, Segment, decode_row

_MOST_OPEN = 480  # files kept open; most systems allow a process 1,024
_LARGE = 1 << 18  # bytes under which a segment is simply read
_GLANCES = 5  # looks at a window that is being written
_TRIES = 100  # a segment that vanishes while it is opened has been merged: look again


class Resume(NamedTuple):
    """The run was taken up again: windows up to a serial number and after a step are void."""

    step: int
    serial: int


@dataclass
class Log:
    """What ``log.jsonl`` holds, read in order, superseded records left out."""

    alerts: list[Alert] = field(default_factory=list)
    incidents: dict[int, Incident] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    resumes: list[Resume] = field(default_factory=list)

    def add(self, record: dict[str, Any]) -> None:
        """Add a record; of an unknown kind, nothing."""
        if "alert" in record:
            numbers = {k: float(record["alert"][k]) for k in ("value", "limit")}
            self.alerts.append(from_plain(Alert, {**record["alert"], **numbers}))
        elif "incident" in record:
            incident = from_plain(Incident, record["incident"])
            self.incidents[incident.number] = incident
        elif "event" in record:
            self.events.append(from_plain(Event, record["event"]))
        elif "resume" in record:
            self._rewind(Resume(**record["resume"]))

    def _rewind(self, resume: Resume) -> None:
        self.resumes.append(resume)
        self.alerts = [a for a in self.alerts if a.detected <= resume.step]
        self.events = [e for e in self.events if e.step <= resume.step]
        self.incidents = {
            number: replace(i, cleared=None) if (i.cleared or 0) > resume.step else i
            for number, i in self.incidents.items()
            if i.detected <= resume.step
        }


def open_run(path: str | os.PathLike[str], attempt: str | int | None = None, rank: int = 0) -> Run:
    """Read a run folder: a snapshot of what has been written so far.

    Safe while another process writes, and after it was killed. Damaged parts are left out
    and named in ``Run.notes`` and ``Run.meta["damage"]``.

    Args:
        path: what ``watch(run=…)`` wrote.
        attempt: name or number of the attempt; ``None`` for the latest.
        rank: which rank of a distributed job.

    Returns:
        The run. Its windows are decoded only where they are asked for.

    Raises:
        FileNotFoundError: where there is no such folder, attempt or rank.
        ValueError: where the folder is no run, or a newer shiftwatch wrote it.

    Cost: the folder is read and checked once, about 1 ms per MB; parts that an earlier run
    of this process still holds are not read again.
    """
    run = Path(path)
    if not run.exists():
        raise FileNotFoundError(f"{run} does not exist. Give the folder that watch(run=…) wrote.")
    names = layout.attempts(run) if run.is_dir() else []
    if not names:
        raise ValueError(
            f"{run} is no shiftwatch run: no attempt-* inside; "
            "a run folder is what watch(run=…) wrote."
        )
    name = _chosen(names, attempt, run)
    folder = layout.rank_folder(run / name, rank)
    try:
        meta = layout.read_meta(folder)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} is empty: it holds no meta.json, so nothing was recorded there. "
            f"Attempts of this run: {', '.join(names)}."
        ) from None
    chunks, notes, windows, log = _patiently(folder)
    sites, layers = _sites(folder, notes, columns=max(windows, default=0))
    notes = [*meta.get("damage", []), *notes]
    if notes:
        meta["damage"] = notes
    return Run(
        chunks=chunks,
        path=run,
        meta=meta,
        sites=sites,
        layers=layers,
        alerts=log.alerts,
        incidents=tuple(log.incidents.values()),
        events=log.events,
        attempt=name,
        attempts=names,
        notes=notes,
    )


def _chosen(names: list[str], attempt: str | int | None, run: Path) -> str:
    if attempt is None:
        return names[-1]
    wanted = f"attempt-{int(attempt):03d}" if str(attempt).isdecimal() else str(attempt)
    if wanted not in names:
        raise FileNotFoundError(f"{run} has no {wanted}. Attempts of this run: {', '.join(names)}.")
    return wanted


def load_segment(file: Path, *, whole: bool = True) -> Segment:
    """A segment, checked. It never changes once written, so it is read once per process.

    Args:
        whole: keep its bytes in memory. Otherwise its file stays open and is read where it is
            asked for: a run of a gigabyte then takes some megabytes until somebody looks.

    Raises:
        FileNotFoundError: where it has been merged meanwhile.
        ValueError: where nothing of it can be used.
    """
    with open(file, "rb") as stream:
        status = os.fstat(stream.fileno())
        key = (str(file), status.st_ino, status.st_mtime_ns, status.st_size)
        if key in _segments:
            return _segments[key]
        few = FileBytes.number < _MOST_OPEN and hasattr(os, "pread")
        lazily = few and not whole and status.st_size > _LARGE
        data: Bytes = FileBytes(os.dup(stream.fileno())) if lazily else memoryview(stream.read())
    try:
        frame, _ = decode(data)
    except EOFError as error:
        raise ValueError(str(error)) from None
    if "index" in frame.broken:
        raise ValueError("its index is damaged")
    segment = _segments[key] = Segment(frame)
    return segment


_segments: weakref.WeakValueDictionary[tuple[str, int, int, int], Segment]
_segments = weakref.WeakValueDictionary()


def read_tail(file: Path) -> tuple[list[Numbered], int, list[tuple[int, int]]]:
    """The whole windows of a tail, where the last of them ends, and the stretches without any."""
    rows, whole, gaps = [], 0, []
    for start, end, frame in scan(file.read_bytes()):
        if frame is None:
            gaps.append((start, end))
        else:
            rows.append(decode_row(frame))
            whole = end
    return rows, whole, gaps


def read_log(folder: Path, notes: list[str]) -> Log:
    """``log.jsonl``; lines that cannot be read are noted."""
    log = Log()
    for number, line in _lines(folder / "log.jsonl"):
        try:
            log.add(json.loads(line))
        except (ValueError, TypeError, KeyError):
            notes.append(f"log.jsonl: line {number} is damaged and left out")
    return log


def read_sites(folder: Path, notes: list[str]) -> dict[int, tuple[Site, Layer]]:
    """``sites.jsonl``: column to site and layer, in the order of the columns."""
    found: dict[int, tuple[Site, Layer]] = {}
    for number, line in _lines(folder / "sites.jsonl"):
        try:
            record = json.loads(line)
            pair = from_plain(Site, record["site"]), from_plain(Layer, record["layer"])
            found[int(record["column"])] = pair
        except (ValueError, TypeError, KeyError, AttributeError):
            notes.append(f"sites.jsonl: line {number} is damaged and left out")
    return dict(sorted(found.items()))


def kept(spans: np.ndarray, resumes: Sequence[Resume]) -> np.ndarray:
    """Which windows count, in order: neither superseded nor met before in another file.

    Args:
        spans: int64[n, 3], first serial, last serial and last step of each.
        resumes: from the log.

    Returns:
        int64[m], their numbers, ordered by serial.
    """
    valid = np.ones(len(spans), bool)
    for resume in resumes:
        valid &= ~((spans[:, 1] <= resume.serial) & (spans[:, 2] > resume.step))
    order = np.flatnonzero(valid)
    order = order[np.lexsort((-spans[order, 1], spans[order, 0]))]
    before = np.concatenate([[-1], np.maximum.accumulate(spans[order, 1])[:-1]])
    return order[spans[order, 0] > before[: len(order)]]


def _patiently(folder: Path) -> tuple[list[Chunk], list[str], list[int], Log]:
    for number in range(_TRIES):
        try:
            return _snapshot(folder)
        except FileNotFoundError:
            time.sleep(0.001 * number)
    return _snapshot(folder)


def _snapshot(folder: Path) -> tuple[list[Chunk], list[str], list[int], Log]:
    """Chunks, notes, the number of sites of each chunk, and the log.

    The order matters. A window moves from the tail to a segment, so who reads tails first
    meets it at least once. Sites and resumes are written before the windows that need them.
    """
    notes: list[str] = []
    tail = list(_tails(folder, notes))
    segments = list(_loaded(folder, notes))
    log = read_log(folder, notes)
    spans = [s.index[:, [0, 1, 3]] for s in segments]
    spans.append(np.array([(r.serial, r.last, r.row.step) for r in tail], np.int64).reshape(-1, 3))
    chosen = kept(np.concatenate(spans), log.resumes)
    recent = Recent()
    chunks: list[Chunk] = []
    sizes = []
    start = 0
    for segment in segments:
        end = start + len(segment.index)
        mine = chosen[(chosen >= start) & (chosen < end)] - start
        chunks.append(Part(segment, mine, recent))
        sizes.append(segment.sites)
        start = end
    rows = tuple(tail[i - start].row for i in chosen[chosen >= start])
    return [*chunks, Rows(rows)], notes, [*sizes, *(r.sites for r in rows)], log


def _tails(folder: Path, notes: list[str]) -> Iterator[Numbered]:
    files = layout.numbered(folder, ".tail")
    for file in files:
        try:
            rows, whole, gaps = read_tail(file)
            for _ in range(_GLANCES if file == files[-1] else 0):
                if not gaps or gaps[-1][0] < whole:
                    break
                time.sleep(0.01)  # perhaps the writer is in the middle of it
                rows, whole, gaps = read_tail(file)
        except FileNotFoundError:
            continue  # packed meanwhile: it is among the segments
        for start, end in gaps:
            if start >= whole:
                note = f"{file.name} ends in the middle of a window: {end - start} bytes left out"
            else:
                note = f"{file.name} is damaged: bytes {start} to {end} left out"
            notes.append(note)
        yield from rows


def _loaded(folder: Path, notes: list[str]) -> Iterator[Segment]:
    for file in layout.numbered(folder, ".seg"):
        try:
            segment = load_segment(file, whole=False)
        except ValueError as error:
            notes.append(f"{file.name} is damaged and left out: {error}")
            continue
        if segment.frame.broken:
            what = ", ".join(sorted(map(segment.named, segment.frame.broken)))
            steps = f"steps {segment.index[0, 2]} to {segment.index[-1, 3]}"
            notes.append(f"{file.name} is damaged: left out at {steps}: {what}")
        yield segment


def _lines(file: Path) -> Iterable[tuple[int, bytes]]:
    """Whole lines, counted from 1; a last one without its end is still being written."""
    try:
        lines = file.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return
    yield from enumerate(lines, 1)


def _sites(
    folder: Path, notes: list[str], columns: int
) -> tuple[tuple[Site, ...], dict[str, Layer]]:
    """Sites of all columns, a stand-in where one is lost, and the layers in execution order."""
    found = read_sites(folder, notes)
    number = max([columns, *(column + 1 for column in found)])
    sites = tuple(
        found[column][0] if column in found else Site(f"<lost {column}>")
        for column in range(number)
    )
    return sites, {layer.name: layer for _, layer in found.values()}
