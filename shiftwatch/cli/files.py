"""Runs that commands read and files that they write."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from shiftwatch.cli.terminal import progress

if TYPE_CHECKING:
    from shiftwatch.run import Run


def run_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``RUN`` and ``--attempt``."""
    parser.add_argument("folder", metavar="RUN", help="the folder that watch(run=…) wrote")
    parser.add_argument(
        "--attempt", metavar="A", help="which attempt, by name or number (default: the latest)"
    )


def read(folder: str, attempt: str | None = None) -> Run:
    """Open a run; what is damaged in it is said on stderr.

    Args:
        folder: as typed.
        attempt: a name, such as ``attempt-002``, or a number as typed; ``None`` for the latest.

    Raises:
        OSError, ValueError: where it cannot be read, with the cure.
    """
    from shiftwatch.store import open_run

    number = int(attempt) if attempt and attempt.isdecimal() else attempt
    try:
        run = open_run(folder, attempt=number)
    except ValueError:
        from shiftwatch.live.finding import Finder

        top = Path(folder)
        below = [name for name, (path, _) in Finder(top).runs().items() if path != top]
        if below:
            raise ValueError(of_runs(folder, below[0])) from None
        raise
    for note in run.notes:
        progress(f"shiftwatch: {folder}: {note}")
    return run


def of_runs(folder: str | os.PathLike[str], name: str) -> str:
    """What to do about a folder in which runs lie, one of them by name, where a run was wanted."""
    return (
        f"{folder} is a folder of runs, such as {name}. Give one of them, or show all "
        "of them with `shiftwatch serve`."
    )


def target(file: str | os.PathLike[str]) -> Path:
    """A file to write, checked before any work is done for it.

    Raises:
        ValueError: where it is a folder.
        FileNotFoundError: where its folder does not exist.
        PermissionError: where that cannot be written.
    """
    path = Path(file)
    if path.is_dir():
        raise ValueError(
            f"The output must be a file; got the folder {path}. Add a file name to it."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"The output must lie in an existing folder; {path.parent} is none. "
            "Create it first or give another place."
        )
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(
            f"The output must lie in a folder that you may write; {path.parent} is none. "
            "Give another place."
        )
    return path
