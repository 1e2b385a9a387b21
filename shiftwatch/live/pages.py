"""Pages: the reports of runs that somebody looks at, each made once for all who do."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from shiftwatch.live.listing import Entry
from shiftwatch.run import Run
from shiftwatch.store import open_run

#: Reports kept in memory.
KEPT = 8

# A large run that grows is drawn again so often that this share of a core goes into it.
_SHARE = 0.2


@dataclass
class _Shown:
    lock: threading.Lock = field(default_factory=threading.Lock)
    run: Run | None = None
    mark: tuple[Any, ...] = ()
    tag: str = ""
    made: dict[str, bytes] = field(default_factory=dict)
    again: float = 0.0  # when it may be read again


class Pages:
    """Bytes made of runs: one reader per run, however many tabs show it.

    Args:
        makers: what is made of a run, by name.
    """

    def __init__(self, makers: dict[str, Callable[[Run], str]]) -> None:
        self._makers = makers
        self._shown: OrderedDict[str, _Shown] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str, entry: Entry, kind: str, known: str = "") -> tuple[bytes | None, str]:
        """What a maker makes of a run, and the tag of that state of the run.

        Args:
            name, entry: the run.
            kind: which maker.
            known: the tag that the reader has already; then nothing is made.

        Returns:
            The bytes, ``None`` where the reader has them, and the tag. While a large run grows,
            the state may be some seconds old.

        Raises:
            OSError, ValueError: where the run cannot be read.
        """
        with self._lock:
            shown = self._shown.setdefault(name, _Shown())
            self._shown.move_to_end(name)
            while len(self._shown) > KEPT:
                self._shown.popitem(last=False)
        with shown.lock:
            mark = (entry.attempt, entry.mark, entry.line.get("state"))
            if shown.mark != mark and time.monotonic() >= shown.again:
                began = time.monotonic()
                # The old run is held until the new one is read: segments are then not read again.
                shown.run = open_run(entry.path, entry.attempt or None)
                shown.mark, shown.made = mark, {}
                shown.tag = (
                    '"' + sha256(repr((str(entry.path), mark)).encode()).hexdigest()[:20] + '"'
                )
                self._rest(shown, began)
            if known == shown.tag:
                return None, shown.tag
            if kind not in shown.made and shown.run is not None:
                began = time.monotonic()
                shown.made[kind] = self._makers[kind](shown.run).encode("utf-8", "replace")
                self._rest(shown, began)
            return shown.made[kind], shown.tag

    def forget(self, name: str) -> None:
        """Let go of a run, which is gone."""
        with self._lock:
            self._shown.pop(name, None)

    def _rest(self, shown: _Shown, began: float) -> None:
        now = time.monotonic()
        shown.again = max(shown.again, now + (now - began) * (1 / _SHARE - 1))
