"""State: whether somebody still writes a run, found out without touching its lock."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

#: ``empty``: no attempt yet. ``writing``. ``ended``: closed. ``failed``: closed by an error.
#: ``died``: its process is gone. ``silent``: another machine wrote it, and has not for long.
State = Literal["empty", "writing", "ended", "failed", "died", "silent"]

#: Seconds without a change after which a run is held to be over where nothing better is known.
SILENCE = 300.0


def state(run: Path, meta: Mapping[str, Any], quiet: float) -> State:
    """State of a run whose latest attempt has begun.

    Args:
        run: the run folder, which holds the lock.
        meta: ``meta.json`` of the attempt.
        quiet: seconds since something was last written.

    A lock is only looked at: to try it would lock out a training that begins in that moment.
    """
    if meta.get("finished"):
        return "ended"
    if "ended" in meta:
        return "failed"
    held = _held(run / "lock")
    if held or (held is None and quiet < SILENCE):
        return "writing"
    return "silent" if _elsewhere(run / "lock") else "died"


def _held(lock: Path) -> bool | None:
    """Whether the lock's holder lives; ``None`` where that cannot be known."""
    pid, host = _holder(lock)
    if pid is None:
        return False
    if host != socket.gethostname() or os.name == "nt":
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False
    except PermissionError:  # somebody else's, and alive
        pass
    return _listed(lock)


def _listed(lock: Path) -> bool | None:
    """Whether the system lists a lock on the file; a number of a process may be another's by now."""
    try:
        inode = lock.stat().st_ino
        table = Path("/proc/locks").read_text()
    except OSError:
        return True  # no such table here: believe the number
    # A file system without locks has none either, so a missing entry proves nothing.
    return any(f":{inode} " in line and "FLOCK" in line for line in table.splitlines()) or None


def _holder(lock: Path) -> tuple[int | None, str]:
    try:
        known = json.loads(lock.read_bytes())
        return int(known["pid"]), str(known["host"])
    except (OSError, ValueError, TypeError, KeyError):
        return None, ""


def _elsewhere(lock: Path) -> bool:
    pid, host = _holder(lock)
    return pid is not None and host != socket.gethostname()
