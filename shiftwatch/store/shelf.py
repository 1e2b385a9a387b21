"""Shelf: the packed part of an attempt, kept within its limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftwatch.history import narrowest
from shiftwatch.store.folder import numbered, replace_file
from shiftwatch.store.reader import Resume, kept, load_segment, read_tail
from shiftwatch.store.segment import Numbered, encode_segment
from shiftwatch.window import Row, merge


@dataclass(frozen=True)
class _Entry:
    file: Path
    windows: int
    width: float  # steps per window
    size: int  # bytes
    last: int  # serial


class Shelf:
    """Packs full tails into segments, and neighbouring segments into one.

    Every change is one atomic replacement followed by one removal, and a reader or the
    next writer that comes between the two meets some windows twice, never none.

    Args:
        folder: of the attempt (and rank).
        limit: windows on the shelf.
        size: bytes on the shelf.
        resumes: which windows are superseded; they are left out of what is packed.

    Raises:
        OSError: where the folder cannot be read.
    """

    def __init__(self, folder: Path, limit: int, size: int, resumes: Sequence[Resume]) -> None:
        self.folder = folder
        self.limit = limit
        self.size = size
        self._resumes = resumes
        self._entries: list[_Entry] = []
        last = -1
        for file in numbered(folder, ".seg"):
            try:
                index = load_segment(file).index
            except ValueError:
                continue  # damaged: readers name it, nobody touches it
            if index[-1, 1] <= last:
                file.unlink()  # merged into the one before, and then came the end
                continue
            last = int(index[-1, 1])
            width = float((index[:, 3] - index[:, 2] + 1).mean())
            self._entries.append(_Entry(file, len(index), width, file.stat().st_size, last))

    @property
    def last(self) -> int:
        """Last serial number on the shelf; -1 where it is empty."""
        return max((e.last for e in self._entries), default=-1)

    def pack(self, number: int) -> None:
        """Make the tail of a number a segment; then merge older ones where a limit asks for it.

        Raises:
            OSError: where the disk is full; nothing is lost, and it can be tried again.
        """
        tail = self.folder / f"{number:06d}.tail"
        target = tail.with_suffix(".seg")
        rows = self._valid(read_tail(tail)[0])
        if rows and all(e.file != target for e in self._entries):
            self._entries.append(self._write(target, rows))
        tail.unlink()
        self.fit()

    def fit(self) -> None:
        """Merge the two neighbours with the finest windows in the older half, while it is too much.

        Raises:
            OSError: as of :meth:`pack`.
        """
        while len(self._entries) > 1 and (
            sum(e.windows for e in self._entries) > self.limit
            or sum(e.size for e in self._entries) > self.size
        ):
            left = narrowest([e.width for e in self._entries])
            pair = self._entries[left : left + 2]
            rows = self._valid([r for e in pair for r in load_segment(e.file).rows()])
            merged = [join(rows[i : i + 2]) for i in range(0, len(rows), 2)]
            self._entries[left : left + 2] = [self._write(pair[0].file, merged)] if rows else []
            for entry in pair[1:] if rows else reversed(pair):
                entry.file.unlink()

    def _valid(self, rows: list[Numbered]) -> list[Numbered]:
        spans = np.array([(r.serial, r.last, r.row.step) for r in rows], np.int64).reshape(-1, 3)
        return [rows[i] for i in kept(spans, self._resumes)]

    def _write(self, file: Path, rows: list[Numbered]) -> _Entry:
        data = encode_segment(rows)
        replace_file(file, data)
        spans = [r.row.step - r.row.first + 1 for r in rows]
        return _Entry(file, len(rows), sum(spans) / len(rows), len(data), rows[-1].last)


def join(rows: list[Numbered]) -> Numbered:
    """One or two neighbouring windows as one."""
    if len(rows) == 1:
        return rows[0]
    a, b = rows
    return Numbered(a.serial, b.last, Row.of(merge(a.row.window(), b.row.window())))
