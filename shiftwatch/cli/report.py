"""Write the report of a run: one HTML page to open, mail or archive.

  shiftwatch report runs/first
  shiftwatch report runs/first -o first.html
  shiftwatch report runs/first --attempt 1

The page holds everything, and loads nothing from anywhere. A run may be read while it is
being written. Prints the path of the page.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from shiftwatch.cli.files import read, run_argument, target
from shiftwatch.cli.terminal import say, waiting


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    run_argument(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to (default: RUN/report.html)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page, print its path."""
    from shiftwatch.report import write

    recorded = read(args.folder, args.attempt)
    path = target(args.output or Path(args.folder) / "report.html")
    with waiting("Writing the report"):
        write(recorded, path)
    say(str(path))
    return 0
