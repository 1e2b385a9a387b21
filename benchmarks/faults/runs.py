"""Run cases in parallel, and keep a row of each in a file of JSON lines.

A case whose row is there is not run again, so that a run that was stopped goes on where it was. A
row with an error is tried again; of two rows of a case the later one counts.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.faults import faults, habits, healthy, layers, oracle
from benchmarks.faults.cases import Case
from benchmarks.faults.networks import skeleton
from benchmarks.faults.observers import OBSERVERS, silence
from benchmarks.faults.training import Attach, Trace, train

Row = dict[str, Any]

#: Healthy runs beside the twin, from which its spread is taken.
SIBLINGS = 3

#: The loss shows a fault where it exceeds so many times the median of so many steps before.
SHOWN, BEFORE = 2.0, 32


def run(case: Case, attach: Attach) -> Row:
    """One case: what was done, what the observer found, whether the fault did anything."""
    began = time.perf_counter()
    row: Row = {
        "key": case.key,
        "set": case.group,
        "network": case.network,
        "code": case.code,
        "seed": case.seed,
        "steps": case.steps,
        "strikes": case.strikes,
    }
    try:
        with silence():
            row |= _healthy(case, attach) if case.strikes is None else _faulty(case, attach)
    except Exception:
        row["error"] = traceback.format_exc(limit=-4)
    row["seconds"] = round(time.perf_counter() - began, 2)
    return row


def _healthy(case: Case, attach: Attach) -> Row:
    """A situation: alerts, and whether it learned, which is to say that it was healthy."""
    trace = train(case.plan, healthy.BY_CODE[case.code].actions, attach=attach)
    first, last = trace.losses[:10].mean(), trace.losses[-20:].mean()
    return {"alerts": trace.alerts, "first": _short(first), "last": _short(last)}


def _faulty(case: Case, attach: Attach) -> Row:
    """A fault: with the observer; again without, for the oracle; and the runs without the fault.

    The two runs with the fault are the same to the last bit if the observer does no harm.
    """
    assert case.strikes is not None
    fault = faults.BY_CODE[case.code]
    model = skeleton(case.plan.network)
    layer = fault.layer(model, case.place)
    assert layer is not None
    origin = fault.origin(model, layer)
    actions = [fault.action(layer)]
    if fault.evaluated:
        actions.append(habits.every(20, habits.evaluate))
    watched = train(case.plan, actions, strikes=case.strikes, attach=attach)
    moments = oracle.probes(case.strikes, case.steps)
    bare = train(case.plan, actions, strikes=case.strikes, probes=moments)
    twin, *siblings = _twins(case.network, case.seed, case.steps, case.strikes)
    verdict = oracle.judge(bare, twin, siblings, case.strikes)
    return {
        "layer": layer,
        "origin": origin,
        "near": layers.near(model, origin) if origin not in (faults.ANYWHERE, faults.INPUT) else [],
        "alerts": watched.alerts,
        "killed": verdict.killed,
        "why": verdict.why,
        "loss": _short(verdict.loss),
        "output": _short(verdict.output),
        # Of the oracle itself: would it call a healthy run broken?
        "sibling_killed": oracle.judge(siblings[0], twin, siblings[1:], case.strikes).killed,
        "shown": shown(watched.losses, twin.losses, case.strikes),
        "same": bool(np.array_equal(watched.losses, bare.losses, equal_nan=True)),
        "losses": [_short(x) for x in watched.losses[max(0, case.strikes - BEFORE) :]],
    }


def shown(losses: np.ndarray, twin: np.ndarray, strikes: int) -> int | None:
    """First step at which the loss shows a fault: not finite, or twice its running median.

    A step at which the run without the fault shows the same does not count. ``None`` if never.
    """
    for step in range(strikes, len(losses)):
        if not np.isfinite(losses[step]):
            return step
        median = np.median(losses[max(0, step - BEFORE) : step]) if step else np.inf
        if losses[step] > SHOWN * median >= twin[step]:
            return step
    return None


@lru_cache(maxsize=1)  # cases with a common twin come one after the other
def _twins(network: str, seed: int, steps: int, strikes: int) -> tuple[Trace, ...]:
    """The run without the fault, and its siblings."""
    plan = Case("", network, "", seed, steps, strikes).plan
    moments = oracle.probes(strikes, steps)
    others = [None, *((strikes, i + 1) for i in range(SIBLINGS))]
    return tuple(train(plan, probes=moments, other=other) for other in others)


def load(path: Path) -> dict[str, Row]:
    """Rows of a file by their keys; none where there is no file. A torn last line is left out."""
    rows: dict[str, Row] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            rows[row["key"]] = row
    return rows


def missing(cases: Sequence[Case], rows: dict[str, Row]) -> list[Case]:
    """Cases that have no row yet, or one with an error."""
    return [c for c in cases if c.key not in rows or "error" in rows[c.key]]


def run_all(
    cases: Sequence[Case], path: Path, *, jobs: int = 1, observer: str = "shiftwatch"
) -> dict[str, Row]:
    """Run what is missing, a row at a time into the file.

    Returns:
        The rows of these cases, those that were there too.
    """
    rows = load(path)
    todo = missing(cases, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with path.open("a") as file:
        if path.stat().st_size and not path.read_text().endswith("\n"):
            file.write("\n")
        for done, row in enumerate(_rows(todo, jobs, observer), start=1):
            rows[row["key"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            _say(done, len(todo), time.perf_counter() - began, row)
    return {case.key: rows[case.key] for case in cases}


def _rows(cases: Sequence[Case], jobs: int, observer: str) -> Iterator[Row]:
    """Rows as they come: cases with a common twin by one process, one after the other."""
    batches = [list(batch) for _, batch in groupby(cases, _twin_key)]
    work = partial(_batch, observer=observer)
    if jobs == 1:
        for batch in batches:
            for case in batch:
                yield from work([case])
        return
    # The longest first, so that no process is left alone with one in the end.
    batches.sort(key=lambda batch: -sum(c.steps for c in batch))
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs) as pool:
        for rows in pool.imap_unordered(work, batches):
            yield from rows


def _twin_key(case: Case) -> tuple[Any, ...]:
    if case.strikes is None:
        return (case.key,)
    return (case.network, case.seed, case.steps, case.strikes)


def _batch(cases: Sequence[Case], observer: str) -> list[Row]:
    """Rows of some cases, in this process with one thread."""
    torch.set_num_threads(1)
    return [run(case, OBSERVERS[observer]) for case in cases]


def _say(done: int, number: int, seconds: float, row: Row) -> None:
    """A line on where it is: overwritten in a terminal, elsewhere every fiftieth."""
    left = seconds / done * (number - done) / 60
    line = f"{done}/{number} cases, {left:.0f} min left, last {row['key']}"
    if sys.stderr.isatty():
        print(f"\r{line:<100.100}", end="\n" if done == number else "", file=sys.stderr, flush=True)
    elif done % 50 == 0 or done == number or "error" in row:
        print(line, file=sys.stderr, flush=True)


def _short(value: float) -> float | None:
    """Four digits; JSON knows no infinity."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
