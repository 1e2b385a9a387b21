"""Compare two runs: what is different in the second, largest first, and since when.

  shiftwatch compare runs/good runs/new
  shiftwatch compare runs/good runs/new -o new-against-good.html --fail-on critical
  shiftwatch compare runs/first runs/first --attempts 1 2

Layers are matched by name, windows by step. Prints the verdict and the layers whose
distributions differ most, and writes a page that draws both. A difference alone is no fault;
--fail-on looks at the alerts of the second run, for scripts and CI. Exit code 1 where it has
any of that severity, 0 otherwise.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shiftwatch.cli.alerts import at_least
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
    from shiftwatch.compare import Comparison
    from shiftwatch.run import Run

_MOST = 20  # layers listed; the page has all


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("a", metavar="A", help="the run that counts as good")
    parser.add_argument("b", metavar="B", help="the run in question")
    parser.add_argument(
        "--attempts", nargs=2, metavar="N", default=(None, None),
        help="which attempts of A and B, by name or number (default: the latest)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="compare.html",
        help="where the page goes (default: ./compare.html)",
    )  # fmt: skip
    parser.add_argument(
        "--fail-on", choices=("warning", "critical"),
        help="exit with 1 where B has alerts of this severity or worse",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print the verdict and the differences, write the page."""
    from shiftwatch.compare import compare

    a, b = (read(folder, n) for folder, n in zip((args.a, args.b), args.attempts, strict=True))
    path = target(args.output)
    with waiting("Comparing"):
        found = compare(a, b)
        write_comparison(a, b, path)
    for line in indented(found.verdict, 0):
        say(line, "bold")
    for line, style in _differences(found):
        say(line, style)
    for which, only in (("A", found.only_a), ("B", found.only_b)):
        for line in indented(f"Only in {which}: {', '.join(only)}", 0) if only else ():
            say(line)
    for name, alerts in (("A", found.alerts_a), ("B", found.alerts_b)):
        worst = "critical" if any(x.severity == "critical" for x in alerts) else "warning"
        counted = f"{len(alerts)} alert{'s' * (len(alerts) != 1)}" if alerts else "no alert"
        first = f", the first: {alerts[0].message}" if alerts else ""
        say(f"{name} has {counted}{first}", STYLES[worst if alerts else "healthy"])
    say(str(path))
    return 1 if args.fail_on and at_least(args.fail_on, b) else 0


def write_comparison(a: Run, b: Run, path: Path) -> Path:
    """Write the page that draws both runs, and return its path."""
    from shiftwatch.report import render_comparison
    from shiftwatch.report.page import write_text

    return write_text(render_comparison(a, b), path)


def _differences(found: Comparison) -> list[tuple[str, str]]:
    """The largest differences, a line each; nothing where nothing was compared."""
    ranked = [d for d in found.differences if d.metric][:_MOST]
    if not ranked:
        return []
    longest = 24 if width() else max(len(escape(d.layer)) for d in ranked)
    rows = [["layer", "metric", "largest", "of limit", "since step"]]
    for d in ranked:
        since = "" if d.departed is None else str(d.departed)
        share = f"{figure(d.score)} ×"
        value = figure(d.worst[d.metric])
        rows.append([cut(escape(d.layer), longest), d.metric, value, share, since])
    lines = table(rows, [False, False, True, True, True])
    styles = ["bold", *("yellow" if d.departed is not None else "" for d in ranked)]
    more = len(found.differences) - len(ranked)
    rest = [("", ""), (f"… and {more} more in the page", "dim")] if more else [("", "")]
    return [("", ""), *zip(lines, styles, strict=True), *rest]
