"""Print a summary of a run: verdict, incidents, a line per layer, events.

  shiftwatch show runs/first
  shiftwatch show runs/first --all | less
  shiftwatch show runs/first --follow

The table has the outputs of all layers in the order in which they run, and what else has an
alert (marked "!"): each metric in the last window and where its size was largest, and how far
the distribution was from the reference over time. It fits the terminal's width; through a pipe
nothing is cut. With --follow it is drawn anew as the run grows, until the run ends or Ctrl-C;
through a pipe, that is a line for each incident and for progress.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shiftwatch.cli.files import read, run_argument
from shiftwatch.cli.terminal import STYLES, indented, say, waiting, width

if TYPE_CHECKING:
    from shiftwatch.records import Event, Incident

_EVENTS = 10  # shown without --all


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    run_argument(parser)
    parser.add_argument(
        "--all", action="store_true", help="gradients, weights, evaluation and all events, too"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go on while the run is written (needs shiftwatch[cli])",
    )


def run(args: argparse.Namespace) -> int:
    """Print the summary, or follow the run."""
    if args.follow:
        if args.attempt:
            raise ValueError("--follow shows the latest attempt; leave --attempt out.")
        from shiftwatch.cli.follow import follow

        return follow(args.folder, args.all)
    from shiftwatch import wording
    from shiftwatch.cli.layers import layer_table
    from shiftwatch.epochs import EPOCH

    with waiting("Reading the run"):
        recorded = read(args.folder, args.attempt)
        level, verdict = wording.verdict(recorded)
        heading, rows = layer_table(recorded, args.all, width())
    say(wording.run_name(recorded), "bold")
    for line in indented(verdict, 2):
        say(line, STYLES.get(level, ""))
    for line in indented(" · ".join(f"{k} {v}" for k, v in wording.facts(recorded)), 2):
        say(line)
    incidents = sorted(recorded.incidents, key=lambda i: i.number)
    _section("Incidents", [(line, i.severity) for i in incidents for line in _incident(i)])
    _section(heading, rows)
    dark = [e for e in recorded.events if e.kind == "dark"]
    plain = ("dark",) if args.all else ("dark", EPOCH)
    others = [e for e in recorded.events if e.kind not in plain]
    _section("Not seen", _events(dark, len(dark)))
    _section("Events", _events(others, len(others) if args.all else _EVENTS))
    return 0


def _section(title: str, lines: Sequence[tuple[str, str]]) -> None:
    """A title and lines with their styles; nothing at all without lines."""
    if not lines:
        return
    say()
    say(title, "bold")
    for line, style in lines:
        say(line, STYLES.get(style, style))


def _incident(incident: Incident) -> list[str]:
    from shiftwatch.wording import kind_words

    kinds = ", ".join(kind_words(kind) for kind in incident.kinds)
    state = "still open" if incident.cleared is None else f"cleared at step {incident.cleared}"
    text = (
        f"{incident.number}. {incident.severity}: {incident.origin} from step {incident.step}: "
        f"{kinds} (raised at step {incident.detected}, {state})"
    )
    followers = f"followed by {', '.join(incident.followers)}"
    return indented(text, 2) + (indented(followers, 5) if incident.followers else [])


def _events(events: Sequence[Event], most: int) -> list[tuple[str, str]]:
    lines = [
        (line, "")
        for event in events[:most]
        for line in indented(f"step {event.step} · {event.kind} · {event.detail}", 2)
    ]
    if len(events) > most:
        lines.append((f"  … and {len(events) - most} more; --all shows them", "dim"))
    return lines
