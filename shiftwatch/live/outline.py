"""Outline: what can be said of a run without reading its distributions, kept up to date."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shiftwatch.dead import Dead
from shiftwatch.records import Layer, Site, from_plain
from shiftwatch.run import Cells, Run, Table
from shiftwatch.store import folder as layout
from shiftwatch.store.peek import peek
from shiftwatch.store.reader import Log, kept
from shiftwatch.summaries.histogram import BINS
from shiftwatch.summaries.summary import Summary
from shiftwatch.window import COUNTS, REALS, mean_loss, rates_of

_COLUMNS = 6  # of the table of windows: serial, last serial, first and last step, loss, overhead


@dataclass(frozen=True)
class Sketched:
    """Windows of which only steps and losses were read; they know no site.

    Args:
        first, steps: int64[n], first and last step of each.
        losses, overhead: float64[n].
    """

    first: np.ndarray
    steps: np.ndarray
    losses: np.ndarray
    overhead: np.ndarray
    keys: tuple[str, ...] = ()

    def metric(self, key: str, sites: int) -> np.ndarray:
        """NaN: unknown."""
        return np.full((len(self.steps), sites), np.nan)

    def histogram(self, site: int) -> np.ndarray:
        """No value."""
        return np.zeros((len(self.steps), BINS), np.int64)

    def summary(self, window: int) -> Summary:
        """Of no site."""
        return Summary.empty((0,))

    def summaries(self, windows: np.ndarray) -> Iterator[Summary]:
        """Of no site."""
        return (Summary.empty((0,)) for _ in windows)

    @property
    def rates(self) -> np.ndarray:
        """None: not read."""
        return rates_of()

    @property
    def dead(self) -> Dead:
        """None: not read."""
        return Dead.none(len(self.steps))

    def step_losses(self, window: int) -> np.ndarray:
        """Their mean alone."""
        return self.losses[window : window + 1]

    def table(self, sites: int) -> Table:
        """No value at any site."""
        shape = sites, len(self.steps)
        return Table(
            np.zeros((len(REALS), *shape)),
            np.zeros((len(COUNTS), *shape), np.int64),
            np.zeros(shape, bool),
        )

    @property
    def grain(self) -> int:
        """Nothing is added up."""
        return 1

    def cells(self, grain: int) -> Cells:
        """No site."""
        none = np.zeros(0, np.int64)
        return Cells(none, np.zeros(1, np.int64), np.zeros((0, len(self.steps)), np.int64))


@dataclass
class Outline:
    """Reads an attempt again and again, each time only what is new in it.

    Args:
        folder: of the attempt.

    Cost: some 0.2 ms for a run that did not change, about as much for each new segment or tail;
    a segment of 50 MB is not dearer than one of 50 kB.
    """

    folder: Path
    _log: Log = field(default_factory=Log)
    _layers: dict[str, Layer] = field(default_factory=dict)
    _sites: dict[int, Site] = field(default_factory=dict)
    _read: dict[str, int] = field(default_factory=dict)  # file of lines to the byte read up to
    _segments: dict[tuple[str, int, int], np.ndarray] = field(default_factory=dict)
    _tails: dict[str, tuple[int, list[np.ndarray]]] = field(default_factory=dict)

    def read(self) -> Run:
        """The run as it is by now, without values of its sites.

        Raises:
            FileNotFoundError: where the attempt is gone, or changes at this moment.
            ValueError: where a newer shiftwatch wrote it.
        """
        meta = layout.read_meta(self.folder)
        # In this order a window that moves from a tail to a segment is met at least once.
        tails, segments = self._all_tails(), self._all_segments()
        self._take("sites.jsonl", self._add_site)
        self._take("log.jsonl", self._log.add)
        table = np.concatenate([np.zeros((0, _COLUMNS)), *segments, *tails])
        table = table[kept(table[:, [0, 1, 3]].astype(np.int64), self._log.resumes)]
        first, steps = table[:, 2:4].astype(np.int64).T
        return Run(
            chunks=[Sketched(first, steps, losses=table[:, 4], overhead=table[:, 5])],
            path=self.folder.parent,
            meta=meta,
            sites=[self._sites[column] for column in sorted(self._sites)],
            layers=self._layers,
            alerts=self._log.alerts,
            incidents=tuple(self._log.incidents.values()),
            events=self._log.events,
            attempt=self.folder.name,
            attempts=layout.attempts(self.folder.parent),
        )

    def _add_site(self, record: dict[str, Any]) -> None:
        site, layer = from_plain(Site, record["site"]), from_plain(Layer, record["layer"])
        self._layers[layer.name] = layer
        self._sites[int(record["column"])] = site

    def _take(self, name: str, add: Callable[[dict[str, Any]], None]) -> None:
        """Records that were not met yet; a line that cannot be read is left out."""
        try:
            with open(self.folder / name, "rb") as stream:
                start = self._read.get(name, 0)
                stream.seek(start)
                data = stream.read()
        except FileNotFoundError:
            return
        whole = data.rfind(b"\n") + 1
        self._read[name] = start + whole
        for line in data[:whole].splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                add(json.loads(line))

    def _all_tails(self) -> list[np.ndarray]:
        """float64[windows, columns] of each tail; windows read before are not read again."""
        found: dict[str, tuple[int, list[np.ndarray]]] = {}
        for file in layout.numbered(self.folder, ".tail"):
            start, rows = self._tails.get(file.name, (0, []))
            try:
                with open(file, "rb") as stream:
                    for end, frame in peek(stream, ["losses"], start):
                        head = frame.header
                        loss = np.nan if frame.broken else mean_loss(frame["losses"])
                        span = [head[key] for key in ("serial", "last", "first", "step")]
                        rows.append(np.array([[*span, loss, head["overhead"]]], float))
                        start = end
            except FileNotFoundError:
                continue  # packed meanwhile
            found[file.name] = start, rows
        self._tails = found
        return [row for _, rows in found.values() for row in rows]

    def _all_segments(self) -> list[np.ndarray]:
        found: dict[tuple[str, int, int], np.ndarray] = {}
        for file in layout.numbered(self.folder, ".seg"):
            status = file.stat()
            key = file.name, status.st_ino, status.st_mtime_ns
            found[key] = self._segments[key] if key in self._segments else _segment(file)
        self._segments = found
        return list(found.values())


def _segment(file: Path) -> np.ndarray:
    """float64[windows, columns] of a segment; none where it is damaged."""
    with open(file, "rb") as stream:
        frames = [f for _, f in peek(stream, ["index", "losses", "loss_sizes", "overhead"])]
    if not frames or "index" in frames[0].broken:
        return np.zeros((0, _COLUMNS))
    frame, index = frames[0], frames[0]["index"]
    losses = np.full(len(index), np.nan)
    overhead = losses if "overhead" in frame.broken else frame["overhead"]
    if not frame.broken & {"losses", "loss_sizes"}:
        sizes = frame["loss_sizes"]
        parts = np.split(frame["losses"], np.cumsum(sizes)[:-1])
        losses = np.array([mean_loss(part) for part in parts])
    return np.column_stack([index[:, :4], losses, overhead])
