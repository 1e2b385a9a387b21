"""Run cases in parallel, and keep a row of each in a file of JSON lines.

Two kinds of rows. The oracle's, one for each faulty case, tell what the fault did: they need the
run without the fault and its siblings, and no observer. An observer's tell what it found in the
watched run alone, so that a changed observer costs that run and no more. The score joins them.

A case whose row is there is not run again, so that a run that was stopped goes on where it was. A
row with an error is tried again; of two rows of a case the later one counts.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.faults import faults, habits, healthy, layers, oracle
from benchmarks.faults.baselines.signs import needed
from benchmarks.faults.cases import Case
from benchmarks.faults.networks import skeleton
from benchmarks.faults.observers import OBSERVERS, silence
from benchmarks.faults.training import Action, Attach, Trace, train

Row = dict[str, Any]

#: Name of the oracle's rows, beside those of the observers.
ORACLE = "oracle"

#: Healthy runs beside the twin, from which its spread is taken.
SIBLINGS = 3

#: The loss shows a fault where it exceeds so many times the median of so many steps before.
SHOWN, BEFORE = 2.0, 32


def judge(case: Case) -> Row:
    """The oracle's row of a faulty case: what was done, and whether it did anything."""
    return _row(case, lambda: _verdict(case))


def watch(case: Case, attach: Attach) -> Row:
    """An observer's row of any case: what it found."""
    return _row(case, lambda: _watched(case, attach))


def _row(case: Case, run: Callable[[], Row]) -> Row:
    """What a run gave, or the error that ended it."""
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
        row |= run()
    except Exception:
        row["error"] = traceback.format_exc(limit=-4)
    row["seconds"] = round(time.perf_counter() - began, 2)
    return row


def _watched(case: Case, attach: Attach) -> Row:
    """Alerts, the losses' digest, and of a healthy run whether it learned."""
    with silence():
        if case.strikes is None:
            trace = train(case.plan, healthy.BY_CODE[case.code].actions, attach=attach)
        else:
            actions = _actions(case, _place(case)[0])
            trace = train(case.plan, actions, strikes=case.strikes, attach=attach)
    first, last = trace.losses[:10].mean(), trace.losses[-20:].mean()
    several = any("by" in alert for alert in trace.alerts)
    return {
        "alerts": needed(trace.alerts, case.strikes) if several else trace.alerts,
        "first": _short(first),
        "last": _short(last),
        "digest": digest(trace.losses),
    }


def _verdict(case: Case) -> Row:
    """The run with the fault, unobserved, beside the runs without it."""
    assert case.strikes is not None
    layer, origin, near = _place(case)
    moments = oracle.probes(case.strikes, case.steps)
    bare = train(case.plan, _actions(case, layer), strikes=case.strikes, probes=moments)
    twin, *siblings = _twins(*_twin_key(case))
    verdict = oracle.judge(bare, twin, siblings, case.strikes)
    return {
        "layer": layer,
        "origin": origin,
        "near": near,
        "killed": verdict.killed,
        "why": verdict.why,
        "loss": _short(verdict.loss),
        "output": _short(verdict.output),
        # Of the oracle itself: would it call a healthy run broken?
        "sibling_killed": oracle.judge(siblings[0], twin, siblings[1:], case.strikes).killed,
        "shown": shown(bare.losses, twin.losses, case.strikes),
        "losses": [_short(x) for x in bare.losses[max(0, case.strikes - BEFORE) :]],
        "digest": digest(bare.losses),
    }


def _place(case: Case) -> tuple[str, str, list[str]]:
    """The module struck, the layer that a monitor should name, and the neighbours of that."""
    fault = faults.BY_CODE[case.code]
    model = skeleton(case.plan.network)
    layer = fault.layer(model, case.place)
    assert layer is not None
    origin = fault.origin(model, layer)
    known = origin not in (faults.ANYWHERE, faults.INPUT)
    return layer, origin, layers.near(model, origin) if known else []


def _actions(case: Case, layer: str) -> list[Action]:
    """What a fault does, and evaluations where it shows in nothing else."""
    fault = faults.BY_CODE[case.code]
    evaluations = [habits.every(20, habits.evaluate)] if fault.evaluated else []
    return [fault.action(layer), *evaluations]


def digest(losses: np.ndarray) -> str:
    """Sixteen letters that two runs share if all their losses are the same to the last bit.

    One NaN is as good as another.
    """
    same = np.where(np.isnan(losses), np.nan, losses)
    return hashlib.sha256(same.tobytes()).hexdigest()[:16]


def join(
    cases: Sequence[Case], verdicts: Mapping[str, Row], watched: Mapping[str, Row]
) -> dict[str, Row]:
    """Rows of the cases that have all they need: what the fault did beside what was found.

    ``same`` tells whether the watched run was the same as the one without an observer, which it is
    where the observer does no harm.
    """
    found = {}
    for case in cases:
        row = watched.get(case.key)
        if row is None or (case.strikes is not None and case.key not in verdicts):
            continue
        if case.strikes is not None:
            verdict = verdicts[case.key]
            row = {**verdict, **row, "same": row.get("digest") == verdict.get("digest")}
        found[case.key] = row
    return found


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
def _twins(network: str, seed: int, steps: int, strikes: int, anew: bool) -> tuple[Trace, ...]:
    """The run without the fault, and its siblings: from then on other batches, or other weights."""
    plan = Case("", network, "", seed, steps, strikes).plan
    moments = oracle.probes(strikes, steps)
    siblings = [
        train(
            replace(plan, weights=1000 * i + seed) if anew else plan,
            probes=moments,
            other=(strikes, i),
        )
        for i in range(1, SIBLINGS + 1)
    ]
    return train(plan, probes=moments), *siblings


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


def run_all(cases: Sequence[Case], path: Path, name: str, *, jobs: int = 1) -> dict[str, Row]:
    """Run what is missing, a row at a time into the file.

    Args:
        name: of an observer, or :data:`ORACLE`, which has rows of faulty cases only.

    Returns:
        The rows of these cases, those that were there too.
    """
    if name == ORACLE:
        cases = [case for case in cases if case.strikes is not None]
    rows = load(path)
    todo = missing(cases, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with path.open("a") as file:
        if path.stat().st_size and not path.read_text().endswith("\n"):
            file.write("\n")
        for done, row in enumerate(_rows(todo, jobs, name), start=1):
            rows[row["key"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            _say(name, done, len(todo), time.perf_counter() - began, row)
    return {case.key: rows[case.key] for case in cases}


def _rows(cases: Sequence[Case], jobs: int, name: str) -> Iterator[Row]:
    """Rows as they come; the oracle's cases with a common twin by one process, in a row."""
    batches = [[case] for case in cases]
    if name == ORACLE:
        batches = [list(batch) for _, batch in groupby(sorted(cases, key=_twin_key), _twin_key)]
    if jobs == 1:
        for case in cases:
            yield from _batch([case], name)
        return
    # The longest first, so that no process is left alone with one in the end.
    batches.sort(key=lambda batch: -sum(c.steps for c in batch))
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs) as pool:
        for rows in pool.imap_unordered(partial(_batch, name=name), batches):
            yield from rows


def _twin_key(case: Case) -> tuple[str, int, int, int, bool]:
    """What two cases share that are compared with the same runs."""
    assert case.strikes is not None
    anew = faults.BY_CODE[case.code].anew
    return case.network, case.seed, case.steps, case.strikes, anew


def _batch(cases: Sequence[Case], name: str) -> list[Row]:
    """Rows of some cases, in this process with one thread."""
    torch.set_num_threads(1)
    if name == ORACLE:
        return [judge(case) for case in cases]
    return [watch(case, OBSERVERS[name]) for case in cases]


def _say(name: str, done: int, number: int, seconds: float, row: Row) -> None:
    """A line on where it is: overwritten in a terminal, elsewhere every fiftieth."""
    left = seconds / done * (number - done) / 60
    line = f"{name}: {done}/{number} cases, {left:.0f} min left, last {row['key']}"
    if sys.stderr.isatty():
        print(f"\r{line:<100.100}", end="\n" if done == number else "", file=sys.stderr, flush=True)
    elif done % 50 == 0 or done == number or "error" in row:
        print(line, file=sys.stderr, flush=True)


def _short(value: float) -> float | None:
    """Four digits; JSON knows no infinity."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
