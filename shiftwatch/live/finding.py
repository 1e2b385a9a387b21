"""Finding: which folders under a folder are runs, looked at again only where something changed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from shiftwatch.store.folder import attempts

#: How many folders deep runs are looked for below the one that was given.
DEPTH = 4

# A clock of a file system ticks slowly: two changes within a tick have the same time.
_TICK = 2.0


class _Look(NamedTuple):
    """What a folder held: its time, the run that it is, if it is one, and the folders inside."""

    changed: int
    name: str
    attempt: str
    inner: list[Path]


@dataclass
class Finder:
    """Remembers of every folder what it held when it last changed.

    Args:
        top: a folder of runs, in folders of their own if you like, or a run.

    Cost: a look at each folder's time, some 3 µs; 300 runs take about 2 ms.
    """

    top: Path
    _known: dict[Path, _Look] = field(default_factory=dict)

    def runs(self) -> dict[str, tuple[Path, str]]:
        """Name below the top to run folder and its latest attempt, ``""`` before the first."""
        found: dict[str, tuple[Path, str]] = {}
        seen: dict[Path, _Look] = {}
        self._walk(self.top, 0, found, seen)
        self._known = seen
        return found

    def _walk(
        self,
        folder: Path,
        depth: int,
        found: dict[str, tuple[Path, str]],
        seen: dict[Path, _Look],
    ) -> None:
        try:
            changed = os.stat(folder).st_mtime_ns
            look = self._known.get(folder)
            if look is None or look.changed != changed:
                look = self._look(folder, changed)
        except OSError:
            return  # removed, or not ours to read
        if abs(time.time() - changed / 1e9) > _TICK:
            seen[folder] = look
        if look.name:
            found[look.name] = folder, look.attempt
        elif depth < DEPTH:
            for child in look.inner:
                self._walk(child, depth + 1, found, seen)

    def _look(self, folder: Path, changed: int) -> _Look:
        names = attempts(folder)
        if not names and not (folder / "lock").exists():
            return _Look(changed, "", "", _folders(folder))
        name = folder.relative_to(self.top).as_posix() if folder != self.top else folder.name
        return _Look(changed, name, names[-1] if names else "", [])


def _folders(folder: Path) -> list[Path]:
    """Folders inside that may hold runs; links are not followed."""
    with os.scandir(folder) as entries:
        return sorted(
            Path(e.path)
            for e in entries
            if e.is_dir(follow_symlinks=False) and not e.name.startswith((".", "attempt-", "rank-"))
        )
