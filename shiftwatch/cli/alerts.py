"""List what was raised: where, what, since when, and what to look at first.

  shiftwatch alerts runs/first
  shiftwatch alerts runs/first --severity critical || echo "do not ship this one"
  shiftwatch alerts runs/first --json | jq -r '.[].origin'

An alert is one line, its advice another, indented. Alerts of severity info are notes, and
are in the report. With --json an array of objects; numbers that are not finite are null.
Exit code 1 if there is any alert, 0 if there is none.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from shiftwatch.cli.files import read, run_argument
from shiftwatch.cli.terminal import STYLES, indented, say

if TYPE_CHECKING:
    from shiftwatch.records import Alert
    from shiftwatch.run import Run


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    run_argument(parser)
    parser.add_argument("--json", action="store_true", help="for programs: a JSON array")
    parser.add_argument(
        "--severity",
        choices=("warning", "critical"),
        default="warning",
        help="leave out what is less severe (default: warning)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the alerts; 1 if there are any."""
    found = at_least(args.severity, read(args.folder, args.attempt))
    if args.json:
        print(json.dumps([_plain(alert) for alert in found], allow_nan=False, indent=2))
    for alert in found if not args.json else ():
        say(f"{alert.severity:<8}  {alert.message}", STYLES[alert.severity])
        for line in indented(alert.advice, 10) if alert.advice else ():
            say(line)
    return 1 if found else 0


def at_least(severity: str, run: Run) -> list[Alert]:
    """Alerts of a run that are as severe or more, in the order raised."""
    from shiftwatch.records import SEVERITIES

    floor = SEVERITIES.index(severity)
    return [a for a in run.alerts if SEVERITIES.index(a.severity) >= floor]


def _plain(alert: Alert) -> dict[str, Any]:
    from shiftwatch.records import to_plain

    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in to_plain(alert).items()
    }
