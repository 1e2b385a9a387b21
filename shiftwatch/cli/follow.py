"""`shiftwatch show --follow`: a run in the terminal, drawn anew whenever it has grown."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shiftwatch import wording
from shiftwatch.cli.files import of_runs
from shiftwatch.cli.layers import layer_table
from shiftwatch.cli.terminal import STYLES, cells, escape, say, sparkline
from shiftwatch.curve import loss_curve
from shiftwatch.optional import need
from shiftwatch.store import open_run

if TYPE_CHECKING:
    from shiftwatch.records import Incident
    from shiftwatch.run import Run

#: A line and its style.
Line = tuple[str, str]

_SLEEP = 0.5  # seconds between two looks
_QUIET = 10.0  # seconds between two lines of progress, where the output is no terminal
_WAITING = "Waiting for the first window of steps. Ctrl-C ends."
_OVER = {
    "ended": "ended",
    "failed": "ended by an error",
    "died": "died: the process that wrote it is gone",
    "silent": "silent for five minutes: another machine wrote it",
}


def follow(folder: str, everything: bool) -> int:
    """Show a run until it ends.

    Args:
        folder: the run folder; the run need not have begun.
        everything: all sites instead of outputs and what has an alert.

    Raises:
        FileNotFoundError: where there is no such folder.
        ValueError: for a folder of runs.
        MissingDependencyError: in a terminal, where Rich is not installed.
    """
    path = Path(folder)
    if not path.is_dir():
        wrong = "is no folder" if path.exists() else "does not exist"
        raise FileNotFoundError(f"{folder} {wrong}. Give the folder that watch(run=…) wrote.")
    if not sys.stdout.isatty():
        return _told(path)
    with _drawing() as draw:
        for run, state in _grown(path):
            size = shutil.get_terminal_size()
            draw(screen(run, state, size.columns, size.lines - 1, everything))
    return 0


def _grown(path: Path) -> Iterator[tuple[Run | None, str]]:
    """The run and its state, first and whenever something was added, until it is over."""
    from shiftwatch.live.listing import Listing

    top = path.resolve()
    listing = Listing(top)
    seen: tuple[Any, ...] = (None,)
    run = None
    while True:
        entry = listing.entry(top.name)
        below = listing.since(0)["names"]
        if below and (entry is None or entry.path != top):
            raise ValueError(of_runs(path, below[0]))
        state = str(entry.line["state"]) if entry is not None else "empty"
        mark = (entry.attempt, entry.mark, state) if entry is not None else ()
        if mark != seen and path.is_dir():
            seen = mark
            if entry is not None and entry.attempt:
                try:
                    run = open_run(path, entry.attempt)
                except FileNotFoundError:  # it has just been removed
                    continue
            yield run, state
        if state in _OVER or not path.is_dir():
            return
        time.sleep(_SLEEP)


# -- in a terminal ---------------------------------------------------------------------------


def screen(
    run: Run | None, state: str, columns: int, rows: int, everything: bool = False
) -> list[Line]:
    """What the terminal shows: facts, verdict and loss, incidents, layers, as much as fits.

    Args:
        run: ``None`` before the first attempt.
        state: as of :func:`shiftwatch.live.state.state`.
        columns, rows: of the terminal.
        everything: as of :func:`follow`.

    Returns:
        At most so many lines, each of at most so many columns.
    """
    if run is None:
        return [(_cut(_WAITING, columns), "dim")]
    level, verdict = wording.verdict(run)
    if not len(run):
        text = f"{_OVER[state]} · {verdict}" if state in _OVER else _WAITING
        return [(_cut(text, columns), "dim")]
    facts = f"{_OVER.get(state, state)} · step {int(run.steps[-1]):,}"
    overhead = f" · overhead {wording.percent(run.overhead)}"
    lines = [(f"{wording.run_name(run)}  {facts}{overhead}", "bold")]
    lines.append((verdict, STYLES.get(level, "")))
    if loss := wording.loss_range(run.losses):
        heights = loss_curve(run, max(2, min(40, columns - 30)))[:, 1]
        lines.append((f"loss {sparkline(heights.tolist(), 1.0)} {loss}", ""))
    raised = wording.raised(run)
    if raised:
        most = max(2, rows // 4)
        hidden = len(raised) - most
        title = "Incidents" + (f", the latest {most} of {len(raised)}" if hidden > 0 else "")
        lines += [("", ""), (title, "bold")]
        lines += [(f"  {_incident(i)}", STYLES.get(i.severity, "")) for i in raised[-most:]]
    heading, table = layer_table(run, everything, columns)
    if table and rows - len(lines) > 5:
        lines += [("", ""), (heading, "bold"), *_fitting(table, rows - len(lines) - 2)]
    return [(_cut(escape(text), columns), style) for text, style in lines[:rows]]


def _fitting(table: list[Line], rows: int) -> list[Line]:
    """The headings, rows with an alert and the first others, in order, in so many lines."""
    heads, body = table[:2], [(line, STYLES.get(mark, "")) for line, mark in table[2:]]
    room = rows - len(heads)
    if len(body) > room:
        ranked = sorted(range(len(body)), key=lambda i: not table[2:][i][1])
        kept = sorted(ranked[: max(room - 1, 0)])
        rest = f"  … {len(body) - len(kept)} more, in a taller terminal or without --follow"
        body = [*(body[i] for i in kept), (rest, "dim")]
    return [*heads, *body]


def _incident(incident: Incident) -> str:
    kinds = wording.listed([wording.kind_words(kind) for kind in incident.kinds] or ["no alert"])
    since = f"{wording.place(incident.origin)} from step {incident.step:,}: {kinds}"
    followed = f", {wording.count(len(incident.followers), 'layer')} followed"
    cleared = f", cleared at step {incident.cleared:,}" if incident.cleared is not None else ""
    return f"{incident.severity}: {since}{followed if incident.followers else ''}{cleared}"


def _cut(text: str, columns: int) -> str:
    """Without what would not fit, wide characters counted twice."""
    if cells(text) <= columns:
        return text
    while cells(text) > columns - 1:
        text = text[:-1]
    return f"{text}…"


@contextmanager
def _drawing() -> Iterator[Any]:
    """A function that draws lines in place of those before."""
    need("rich", extra="cli", feature="shiftwatch show --follow in a terminal")
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False, console=Console(highlight=False)) as view:

        def draw(lines: list[Line]) -> None:
            texts = [Text(line, style, no_wrap=True, overflow="crop") for line, style in lines]
            view.update(Group(*texts), refresh=True)

        yield draw


# -- elsewhere -------------------------------------------------------------------------------


def _told(path: Path) -> int:
    """Lines: a new or changed incident at once, progress every ten seconds, and the end."""
    known: dict[int, Incident] = {}
    told = float("-inf")
    run, state = None, "empty"
    for run, state in _grown(path):
        for incident in wording.raised(run) if run is not None else ():
            if known.get(incident.number) != incident:
                known[incident.number] = incident
                say(f"incident {incident.number} · {_incident(incident)}")
        due = state not in _OVER and time.monotonic() - told >= _QUIET
        if due and run is not None and len(run):
            told = time.monotonic()
            say(_progress(run))
        sys.stdout.flush()
    over = _OVER.get(state, "its folder is gone")
    say(f"{_progress(run)} · {over}" if run is not None and len(run) else over)
    if run is not None:
        say(wording.verdict(run)[1])
    return 0


def _progress(run: Run) -> str:
    known = run.losses[~np.isnan(run.losses)]
    loss = f" · loss {wording.number(float(known[-1]), 3)}" if known.size else ""
    return f"step {int(run.steps[-1]):,}{loss} · {wording.verdict(run)[0]}"
