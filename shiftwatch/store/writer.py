"""Writer: the one who writes an attempt, and never harms the run it records."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from shiftwatch._version import __version__
from shiftwatch.history import narrowest
from shiftwatch.records import Alert, Event, Incident, Layer, Site, to_plain
from shiftwatch.store import folder as layout
from shiftwatch.store.appender import Appender
from shiftwatch.store.lock import acquire, release
from shiftwatch.store.reader import Resume, read_log, read_sites, read_tail
from shiftwatch.store.segment import Numbered, encode_row
from shiftwatch.store.shelf import Shelf, join
from shiftwatch.window import Window

_log = logging.getLogger("shiftwatch")

_FULL = 64  # windows in a tail
_QUIET = 600.0  # seconds between two warnings of the same kind
_BEHIND = 8  # full tails that wait to be packed, before the writer waits for the packer
_WAITING = 256  # windows kept while the disk does not take them


class Writer:
    """Records an attempt of a run.

    What a call was given is on its way to the disk when it returns: it survives the death
    of the process, not that of the machine. Once opened, nothing that happens to the disk
    is raised: it is logged once, windows are kept and written when it works again.

    Args:
        path: the run folder; made where it is missing.
        meta: configuration and whatever else a reader should know, as JSON can hold it.
        attempt: name of the attempt to start (rank 0) or to join (other ranks); ``None``
            for the next and the latest.
        rank: which rank of a distributed job writes. Rank 0 opens first.
        limit: windows kept; beyond, those of the older half are merged, so that recent ones
            stay as they came. 4096 leave about the last 2,000 untouched.
        size: bytes kept, compressed; merged for in the same way.

    Raises:
        BlockingIOError: where another writer holds the folder.
        OSError: where it cannot be written; the cure is in the message.
        FileExistsError: where the named attempt exists.

    Cost: a window is one append, about 0.5 ms at 200 sites; every 64 windows a thread packs
    them. A window takes about 0.3 kB per site on disk, so the limit is met first up to about
    200 sites, and the size beyond.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as run:
        ...     with Writer(run, {"lr": 0.1}) as writer:
        ...         column = writer.site(Site("fc1"), Layer("fc1"))
        ...     writer.attempt, column
        ('attempt-001', 0)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        meta: Mapping[str, Any] | None = None,
        *,
        attempt: str | None = None,
        rank: int = 0,
        limit: int = 4096,
        size: int = 256 << 20,
        _resume: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.rank = rank
        self._limits = limit, size
        self._full_at = min(_FULL, max(1, limit // 16))
        self._mutex = threading.RLock()
        self._closed = self._forked = False
        self._thread: threading.Thread | None = None
        self._trouble: dict[str, tuple[bool, float]] = {}  # failing, when to speak of it again
        self._lines: deque[tuple[str, bytes]] = deque()
        self._waiting: list[Numbered] = []
        self._full: deque[int] = deque()
        self._tail: Appender | None = None
        self._tail_number = self._tail_windows = self._serial = 0
        self._sites: dict[Site, int] = {}
        self._columns = 0
        self._layers: dict[str, Layer] = {}
        self._files: dict[str, Appender] = {}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = acquire(self.path / (f"lock-{rank}" if rank else "lock"))
        except BlockingIOError:
            raise
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._unlock = weakref.finalize(self, release, lock, os.getpid())
        try:
            if _resume is None:
                self._start(attempt, meta or {})
            else:
                self._go_on(str(attempt), meta or {}, _resume)
        except BaseException as error:
            self._unlock()
            if isinstance(error, OSError) and error.filename is not None:
                raise _unwritable(self.path, error) from error
            raise
        _writers.add(self)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        attempt: str,
        step: int,
        meta: Mapping[str, Any] | None = None,
        *,
        rank: int = 0,
        limit: int = 4096,
        size: int = 256 << 20,
    ) -> Writer:
        """Go on with an attempt after a step, as from a checkpoint.

        Args:
            path, meta, rank, limit, size: as of :class:`Writer`; ``meta`` is added to the old.
            attempt: its name.
            step: the last step that counts. Windows, alerts, incidents and events after it
                are superseded: they stay on disk for a while, and readers leave them out.

        Raises:
            FileNotFoundError: where there is no such attempt.
            ValueError: where a newer shiftwatch wrote it.
            OSError: as of :class:`Writer`.
        """
        return cls(path, meta, attempt=attempt, rank=rank, limit=limit, size=size, _resume=step)

    @property
    def sites(self) -> tuple[Site, ...]:
        """What the columns stand for, so far."""
        return tuple(self._sites)

    def site(self, site: Site, layer: Layer) -> int:
        """Column of a site, a new one at the end where it is new; the layer's facts are renewed."""
        with self._mutex:
            new = site not in self._sites
            if new:
                self._sites[site] = self._columns
                self._columns += 1
            column = self._sites[site]
            if new or self._layers.get(layer.name) != layer:
                self._layers[layer.name] = layer
                record = {"column": column, "site": to_plain(site), "layer": to_plain(layer)}
                self._add("sites.jsonl", record)
            return column

    def window(self, window: Window) -> None:
        """Record the next window. Its columns are those that :meth:`site` gave out."""
        with self._mutex:
            if self._usable():
                self._waiting.append(Numbered(self._serial, self._serial, window.row))
                self._serial += 1
                self._flush()

    def alert(self, alert: Alert) -> None:
        """Record an alert, in the order raised."""
        self._add("log.jsonl", {"alert": to_plain(alert)})

    def incident(self, incident: Incident) -> None:
        """Record an incident; readers see the latest of each number."""
        self._add("log.jsonl", {"incident": to_plain(incident)})

    def event(self, event: Event) -> None:
        """Record an event."""
        self._add("log.jsonl", {"event": to_plain(event)})

    def update(self, meta: Mapping[str, Any]) -> None:
        """Add to ``meta.json``, or replace what it says under the same keys."""
        with self._mutex:
            if self._usable():
                self._meta.update(meta)
                self._try("meta.json", lambda: layout.write_meta(self.folder, self._meta))

    def close(self, meta: Mapping[str, Any] | None = None) -> None:
        """Pack what is left, mark the attempt as finished and let go of the folder.

        Args:
            meta: added to ``meta.json``, such as a verdict; ``{"finished": False}`` for a
                run that was cut short.

        May be called twice.
        """
        with self._mutex:
            if self._closed or self._forked:
                return
            self._flush()
            self._rotate()
        if self._thread is not None:
            self._thread.join()
        with self._mutex:
            self._pack()
            if self._waiting or self._lines:  # packing may have made room
                self._flush()
                self._rotate()
                self._pack()
            if self._waiting or self._lines:
                _log.error(
                    "%s could not be written to the end: %d windows and %d lines are lost.",
                    self.folder, len(self._waiting), len(self._lines),
                )  # fmt: skip
            self.update({"finished": True, "ended": _now(), **(meta or {})})
            self._release()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close({"finished": kind is None})

    def _start(self, attempt: str | None, meta: Mapping[str, Any]) -> None:
        names = layout.attempts(self.path)
        if self.rank:
            self.attempt = attempt or (names[-1] if names else "")
            if self.attempt not in names:
                raise FileNotFoundError(
                    f"{self.path} has no attempt {self.attempt or 'yet'} for rank {self.rank} to "
                    "join. Let rank 0 open its writer first and hand over the attempt's name."
                )
        else:
            self.attempt = attempt or layout.following(names)
        self.folder = layout.rank_folder(self.path / self.attempt, self.rank)
        if self.folder.exists():
            raise FileExistsError(
                f"{self.folder} exists and is never overwritten. Leave attempt= out to start the "
                "next one, or go on with Writer.resume."
            )
        self._meta: dict[str, Any] = {
            "shiftwatch": __version__, "started": _now(), "finished": False,
            "attempt": self.attempt, "rank": self.rank, **meta,
        }  # fmt: skip
        # Made aside and renamed, so that no reader ever meets an attempt without its meta.json.
        aside = self.folder.with_name(f".{self.folder.name}.new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        layout.write_meta(aside, self._meta)
        aside.rename(self.folder)
        self._shelf = Shelf(self.folder, *self._limits, resumes=())

    def _go_on(self, attempt: str, meta: Mapping[str, Any], step: int) -> None:
        names = layout.attempts(self.path)
        self.attempt = attempt
        self.folder = layout.rank_folder(self.path / attempt, self.rank)
        if not (self.folder / "meta.json").exists():
            raise FileNotFoundError(
                f"{self.folder} does not exist or is empty, so nothing can be resumed there. "
                f"Attempts of this run: {', '.join(names) or 'none'}."
            )
        self._meta = {**layout.read_meta(self.folder), "finished": False, **meta}
        self._meta.setdefault("resumed", []).append({"step": step, "at": _now()})
        for column, (site, layer) in read_sites(self.folder, []).items():
            self._sites[site] = column
            self._layers[layer.name] = layer
            self._columns = column + 1
        log = read_log(self.folder, [])
        self._shelf = Shelf(self.folder, *self._limits, resumes=log.resumes)
        for left in self.folder.glob(".*.tmp"):
            left.unlink()
        serials = [self._shelf.last, *(r.serial for r in log.resumes)]
        for file in layout.numbered(self.folder, ".tail"):
            rows, whole, _ = read_tail(file)
            serials += [r.last for r in rows]
            self._tail_number, self._tail_windows = int(file.stem), len(rows)
            self._full.append(self._tail_number)
        packed = layout.numbered(self.folder, ".seg")
        if (
            self._full
            and self._tail_windows < self._full_at
            and file.with_suffix(".seg") not in packed
        ):
            self._tail = Appender(file, whole)  # not full yet: go on with it
            self._full.pop()
        else:
            self._tail_windows = 0
            self._tail_number = 1 + max([-1, *self._full, *(int(p.stem) for p in packed)])
        self._serial = 1 + max(serials)
        resume = Resume(step, self._serial - 1)
        self._appender("log.jsonl").append(layout.line({"resume": resume._asdict()}))
        log.resumes.append(resume)
        layout.write_meta(self.folder, self._meta)
        if self._full:
            self._start_packing()

    def _appender(self, name: str) -> Appender:
        """A file of lines, opened behind its last whole one."""
        if name not in self._files:
            file = self.folder / name
            whole = file.read_bytes().rfind(b"\n") + 1 if file.exists() else 0
            self._files[name] = Appender(file, whole)
        return self._files[name]

    def _usable(self) -> bool:
        if self._closed:
            raise ValueError(
                f"The writer of {self.folder} is closed. Record before close(), or go on with "
                "Writer.resume."
            )
        return not self._forked

    def _add(self, name: str, record: Mapping[str, Any]) -> None:
        with self._mutex:
            if self._usable():
                self._lines.append((name, layout.line(record)))
                self._flush()

    def _flush(self) -> None:
        """Write what waits: lines first, for windows need their sites."""
        self._try("its latest windows", self._write)
        while len(self._waiting) > _WAITING:
            left = narrowest([r.row.step - r.row.first + 1 for r in self._waiting])
            self._waiting[left : left + 2] = [join(self._waiting[left : left + 2])]

    def _write(self) -> None:
        while self._lines:
            name, line = self._lines[0]
            self._appender(name).append(line)
            self._lines.popleft()
        while self._waiting:
            if self._tail is None:
                self._tail = Appender(self.folder / f"{self._tail_number:06d}.tail")
            self._tail.append(encode_row(self._waiting[0]))
            del self._waiting[0]
            self._tail_windows += 1
            if self._tail_windows >= self._full_at or self._tail.size > self._limits[1] // 16:
                self._rotate()
                self._start_packing()

    def _rotate(self) -> None:
        """Close the tail, which is to be packed."""
        if self._tail is not None:
            self._tail.close()
            self._full.append(self._tail_number)
            self._tail, self._tail_windows = None, 0
            self._tail_number += 1

    def _start_packing(self) -> None:
        if self._thread is not None and len(self._full) > _BEHIND:
            self._thread.join()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._pack, name="shiftwatch-store")
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is going down: no new threads
                self._thread = None
                self._pack()

    def _pack(self) -> None:
        """Pack full tails, the oldest first; a tail that cannot be packed stays as it is."""
        while self._full and self._try("packed windows", self._pack_one):
            pass

    def _pack_one(self) -> None:
        try:
            self._shelf.pack(self._full[0])
        except OSError:
            raise
        except Exception:  # a bug of ours; the tail stays, and readers read it
            _log.exception("%s: a tail could not be packed", self.folder)
        self._full.popleft()

    def _try(self, what: str, action: Callable[[], None]) -> bool:
        """Whether it worked. Of a disk that fails, or nearly does, is spoken once in a while."""
        try:
            action()
        except OSError as error:
            failing, quiet_until = self._trouble.get(what, (False, 0.0))
            if not failing and time.monotonic() > quiet_until:
                quiet_until = time.monotonic() + _QUIET
                _log.warning(
                    "%s: %s cannot be written (%s). Training goes on; what waits is kept and "
                    "tried again.", self.folder, what, error.strerror or error,
                )  # fmt: skip
            self._trouble[what] = True, quiet_until
            return False
        failing, quiet_until = self._trouble.get(what, (False, 0.0))
        if failing:
            self._trouble[what] = False, quiet_until
            _log.info("%s: %s can be written again.", self.folder, what)
        return True

    def _release(self) -> None:
        self._closed = True
        for file in self._files.values():
            file.close()
        if self._tail is not None:
            self._tail.close()
        self._unlock()

    def _disown(self) -> None:
        """In a forked child: the parent writes on, and its lock must not live on in here."""
        self._forked = True
        self._mutex = threading.RLock()  # another thread may have held it at the fork
        self._release()
        self._closed = False


#: Open writers of this process.
_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _disown_all() -> None:
    for writer in _writers:
        writer._disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _unwritable(path: Path, error: OSError) -> OSError:
    text = (
        f"{path} cannot be written ({error.strerror or error}). Choose another folder with run=…, "
        "or run=False to keep the history in memory."
    )
    return OSError(error.errno, text) if error.errno else OSError(text)
