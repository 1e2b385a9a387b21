"""Appender: a file that grows by whole records or not at all."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path


class Appender:
    """Appends records to a file, each at once and unbuffered: what returned survives a kill.

    Args:
        path: the file; made where it is missing.
        size: bytes of it to keep; ``None`` for all. What follows is cut off.

    Raises:
        OSError: where it cannot be written.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._file = os.open(path, flags, 0o666)
        self.close = weakref.finalize(self, os.close, self._file)
        if size is not None:
            os.ftruncate(self._file, size)
        self.size = os.fstat(self._file).st_size
        self._torn = False

    def append(self, record: bytes) -> None:
        """Write a record; where that fails, what came through of it is cut off again.

        Raises:
            OSError: where the disk is full, gone or read-only.
        """
        if self._torn:
            os.ftruncate(self._file, self.size)
            self._torn = False
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except BaseException:
            self._torn = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size)
                self._torn = False
            raise
        self.size += len(record)
