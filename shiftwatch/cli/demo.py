"""Train small networks, healthy and broken on purpose, and watch them being caught.

  shiftwatch demo
  shiftwatch demo --out /tmp/demo

Every scenario is a real training whose fault is known, so each verdict can be compared with
the truth. Uses a PyTorch model where PyTorch is installed, else one written in NumPy. Leaves
the runs, a report of each, and a comparison of a good run with a bad one. Exit code 1 if a
verdict is wrong.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shiftwatch.cli.terminal import progress, say

if TYPE_CHECKING:
    from shiftwatch.demo import Outcome


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--out", metavar="DIR", default="shiftwatch-demo",
        help="where the runs go (default: ./shiftwatch-demo)",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="two scenarios: healthy, and a data fault"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 if every verdict is right."""
    from shiftwatch.demo import find_demo, table

    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    demo, why = find_demo()
    if why:
        progress(why)
    progress("Training healthy and broken networks; a line starting with ! is an alert …")
    heard = _Alerts()
    logger = logging.getLogger("shiftwatch")
    logger.addHandler(heard)
    before, logger.propagate = logger.propagate, False
    try:
        outcomes = demo(folder, progress, quick=args.quick)
    finally:
        logger.removeHandler(heard)
        logger.propagate = before
    right = sum(o.right for o in outcomes)
    say(f"{right} of {len(outcomes)} verdicts are right", "bold")
    for line in table(outcomes).splitlines():
        say(line, "bold red" if line.startswith("  WRONG") else "")
    say()
    _pages(folder, outcomes)
    return 0 if right == len(outcomes) else 1


class _Alerts(logging.Handler):
    """Shows the message of an alert as it is raised; its advice is for `shiftwatch alerts`."""

    def emit(self, record: logging.LogRecord) -> None:
        alert = getattr(record, "alert", None)
        if record.levelno >= logging.WARNING:
            progress(f"  ! {record.getMessage() if alert is None else alert.message}")


def _pages(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """A report of each run, and the comparison of the healthy with a data fault."""
    from shiftwatch.records import INPUT
    from shiftwatch.report import write
    from shiftwatch.store import open_run

    recorded = [(o.truth, o.run) for o in outcomes if o.run is not None]
    progress("Writing the reports …")
    for truth, path in recorded:
        say(f"  {write(open_run(path), path / 'report.html')}  {truth.what}")
    healthy = [path for truth, path in recorded if truth.step is None]
    fault = [path for truth, path in recorded if INPUT in truth.origins]
    fault += [path for truth, path in recorded if truth.step is not None]
    if healthy and fault:
        from shiftwatch.cli.compare import write_comparison

        page = write_comparison((open_run(healthy[0]), open_run(fault[0])), folder / "compare.html")
        say(f"  {page}  {healthy[0].name} against {fault[0].name}")
    if fault:
        say()
        say(f"Open a page in a browser, or go on with: shiftwatch alerts {fault[0]}")
