"""Compare runs: what is different from the first, the largest first, and since when.

  shiftwatch compare runs/good runs/new
  shiftwatch compare runs/good runs/new runs/newer --align share
  shiftwatch compare runs/good runs/new --fail-on critical --junit compare.xml
  shiftwatch compare runs/good runs/new --json | jq -r '.against_first[].verdict'
  shiftwatch compare runs/first runs/first --attempts 1 2

Layers are matched by name, and by place, kind and shape where they were renamed. Prints the
verdict and the layers that depart from the first run, and writes a page that draws all runs. A
difference alone is no fault. For scripts and CI, --fail-on gives exit code 1 where a run after
the first has alerts of that severity or worse, or, with "difference", a layer that departs and
does not come back; 0 otherwise, and 2 where the runs cannot be compared.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shiftwatch.cli.files import read, target
from shiftwatch.cli.terminal import (
    STYLES,
    cut,
    escape,
    figure,
    indented,
    say,
    table,
    waiting,
    width,
)

if TYPE_CHECKING:
    from shiftwatch.comparison import Against, Comparison
    from shiftwatch.run import Run

_MOST = 20  # layers listed; the page has all


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("first", metavar="GOOD", help="the run that counts as good")
    parser.add_argument("others", metavar="RUN", nargs="*", help="the runs in question")
    parser.add_argument(
        "--align", choices=("step", "epoch", "share"), default="step",
        help="match moments by step, by epoch, or by the share of training (default: step)",
    )  # fmt: skip
    parser.add_argument(
        "--attempts", nargs="+", metavar="N", default=(),
        help="which attempt of each run, by name or number (default: the latest)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="compare.html",
        help="where the page goes (default: ./compare.html)",
    )  # fmt: skip
    parser.add_argument(
        "--fail-on", choices=("critical", "warning", "difference"),
        help="exit with 1 where a run in question has alerts so severe, or a layer that departs",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="for programs: a JSON object")
    parser.add_argument(
        "--junit", metavar="FILE",
        help="write what CI servers read as test results; what --fail-on names has failed",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print what differs, write the page, judge."""
    from shiftwatch.comparison import compare
    from shiftwatch.comparison.junit import junit
    from shiftwatch.report.page import write_text

    folders = [args.first, *args.others]
    if args.attempts and len(args.attempts) != len(folders):
        raise ValueError(
            f"--attempts must name one attempt for each of {len(folders)} runs; "
            f"got {len(args.attempts)}. Give it last: compare A B --attempts 1 2."
        )
    page, results = target(args.output), target(args.junit) if args.junit else None
    attempts = args.attempts or [None] * len(folders)
    runs = [read(folder, n) for folder, n in zip(folders, attempts, strict=True)]
    with waiting("Comparing"):
        found = compare(*runs, align=args.align)
        write_comparison(runs, page, found)
    if results:
        write_text(junit(found, args.fail_on or ""), results)
    if args.json:
        print(json.dumps({**found.to_plain(), "page": str(page)}, allow_nan=False, indent=2))
    else:
        _print(found)
        say(str(page))
    return 1 if args.fail_on and found.fails(args.fail_on) else 0


def write_comparison(runs: Sequence[Run], path: Path, comparison: Comparison | None = None) -> Path:
    """Write the page that draws the runs, and return its path."""
    from shiftwatch.report import render_comparison
    from shiftwatch.report.page import write_text

    return write_text(render_comparison(*runs, comparison=comparison), path)


def _print(found: Comparison) -> None:
    for against in found.against:
        for number, line in enumerate(indented(against.verdict, 0)):
            say(line, "bold" if number == 0 else "")
        for line, style in _differences(against):
            say(line, style)
        renamed = [f"{p.b} (was {p.a})" for p in against.pairs if p.a != p.b]
        for line in indented(f"Renamed: {', '.join(renamed)}", 0) if renamed else ():
            say(line)
    for name, alerts in zip(found.names, found.alerts, strict=True):
        worst = "critical" if any(x.severity == "critical" for x in alerts) else "warning"
        counted = f"{len(alerts)} alert{'s' * (len(alerts) != 1)}" if alerts else "no alert"
        first = f", the first: {alerts[0].message}" if alerts else ""
        say(f"{name} has {counted}{first}", STYLES[worst if alerts else "healthy"])


def _differences(against: Against) -> list[tuple[str, str]]:
    """The layers that depart, a line each; nothing where none does."""
    gone = [d for d in against.differences if d.sentence]
    if not gone:
        return []
    shown = gone[:_MOST]
    longest = 24 if width() else max(len(escape(d.layer)) for d in shown)
    rows = [["layer", "of limit", ""]]
    for d in shown:
        rows.append([cut(escape(d.layer), longest), f"{figure(d.score)} ×", escape(d.sentence)])
    styles = ["bold", *("yellow" if d.departs else "" for d in shown)]
    lines = zip(table(rows, [False, True, False]), styles, strict=True)
    more = len(gone) - len(shown)
    rest = [(f"… and {more} more in the page", "dim")] if more else []
    return [("", ""), *lines, *rest, ("", "")]
