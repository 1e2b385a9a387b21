"""Lock: one writer at a time, held by the operating system and so gone with its process."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
from pathlib import Path

_log = logging.getLogger("shiftwatch")

_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
_FAR = 1 << 30  # Windows locks bytes, and nobody may read those: lock one beyond the text


def acquire(path: Path) -> int:
    """Descriptor of the lock file, locked for as long as it stays open.

    Args:
        path: the lock file; made where it is missing, and never removed.

    Raises:
        BlockingIOError: where somebody else holds it.
        OSError: where the file cannot be written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            os.close(descriptor)
            raise BlockingIOError(
                f"{path.parent} is being written by {_holder(path)}; a run folder has one writer "
                "at a time. Close the other monitor first, or record into another folder."
            ) from None
        _log.warning(
            "%s cannot be locked on this file system (%s): take care that no other run "
            "writes there.", path, error.strerror,
        )  # fmt: skip
    _write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    return descriptor


def release(descriptor: int, owner: int) -> None:
    """Close the lock's descriptor; in the process that acquired it, ``owner``, the lock is free then.

    It is unlocked first: a child that was forked, and has not come to close its own copy yet,
    would go on holding it.
    """
    if os.name != "nt" and os.getpid() == owner:
        import fcntl

        with contextlib.suppress(OSError):  # of a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        # flock, not lockf: that one is lost when the process closes any file of this path.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write(descriptor: int, text: str) -> None:
    """Say who holds the lock: a courtesy, so a full disk does not forbid to start."""
    with contextlib.suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, text.encode())


def _holder(path: Path) -> str:
    try:
        known = json.loads(path.read_bytes())
        pid, host = int(known["pid"]), str(known["host"])
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
    if host != socket.gethostname():
        return f"process {pid} on {host}"
    return "this very process" if pid == os.getpid() else f"process {pid}"
