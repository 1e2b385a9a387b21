"""What the core costs: microseconds per optimizer step, station by station.

    OMP_NUM_THREADS=1 python benchmarks/core.py [--layers 21,160] [--drains 40]

Samples of a synthetic network lie ready in their slots; what is timed is everything that a
monitor does with them, in this process's processor time. Every layer has an output, a
weight, a bias, their updates, and its output's gradient. Figures are medians over drains, divided
by the steps of a drain. To compare two versions, run this file in turn with ``PYTHONPATH``
at the root of either. Nothing is saved.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from shiftwatch import judgement as judgement_module
from shiftwatch import monitor as monitor_module
from shiftwatch.activations import flat_of
from shiftwatch.arrays import RING
from shiftwatch.course import Readings
from shiftwatch.judgement import Judgement
from shiftwatch.monitor import Monitor
from shiftwatch.records import Layer, Site
from shiftwatch.rules import DEFAULT
from shiftwatch.source import Batch, Group
from shiftwatch.stages import finish

_WARM = 6  # drains before the clock counts: scales are learnt, memory is mapped


class Clock:
    """Time of each station, drain by drain; of nested ones the inner time is not the outer's."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)
        self._inner = [0.0]

    def timed(self, station: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its calls charged to a station."""

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time_ns()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                spent = (time.process_time_ns() - began) / 1e3
                self.times[station][-1] += spent - self._inner.pop()
                self._inner[-1] += spent

        return call

    def start(self, stations: list[str]) -> None:
        """A new drain: every station from zero."""
        for station in stations:
            self.times[station].append(0.0)


class TimedRule:
    """A rule whose updates are charged to its name."""

    def __init__(self, rule: Any, clock: Clock) -> None:
        self.columns, self.init = rule.columns, rule.init
        self.update = clock.timed(type(rule).__name__, rule.update)


class Ring:
    """A source whose slots are filled in advance: random values, new ones at every turn.

    As a settled PyTorch run hands them over: windows of 32 steps, of which 8 in full.
    """

    ring, full = 4 * RING, False

    def __init__(self, monitor: Monitor, layers: int) -> None:
        rng = np.random.default_rng(0)
        columns: dict[str, list[int]] = defaultdict(list)
        for i in range(layers):
            act = "relu" if i % 2 else ""
            parents = (f"l{i - 1}",) if i else ()
            layer = Layer(f"l{i}", activation=act, parameters=not act, parents=parents)
            columns["active" if act else "linear"].append(monitor.register(Site(layer.name), layer))
            columns["gradient"].append(monitor.register(Site(layer.name, "gradient"), layer))
            for tensor in () if act else ("weight", "update"):
                for part in ("", "bias"):
                    column = monitor.register(Site(layer.name, tensor, part), layer)
                    columns[tensor].append(column)
        shapes = {
            "linear": (RING, 4, 512),
            "active": (RING, 4, 512),
            "gradient": (4, 4, 512),
            "weight": (1, 4, 64),
            "update": (1, 4, 64),
        }
        self.turns = []
        for _ in range(4):
            values = {}
            for kind, (rows, positions, units) in shapes.items():
                shape = (rows, len(columns[kind]), positions, units)
                drawn = rng.standard_normal(shape, np.float32)
                drawn *= {"gradient": 1e-3, "update": 1e-4}.get(kind, 1.0)
                values[kind] = np.maximum(drawn, 0) if kind == "active" else drawn
            self.turns.append(values)
        self.columns = {kind: np.array(c, np.int64) for kind, c in columns.items()}
        self.sites = sum(map(len, columns.values()))
        self.course = Readings(
            np.full((self.ring, self.sites), 2048.0),
            rng.normal(0, 0.01, (self.ring, self.sites)),
            rng.normal(1, 0.01, (self.ring, self.sites)),
            np.zeros((self.ring, self.sites)),
        )
        self.steps: list[int] = []
        self.taken = 0

    def end_step(self, step: int) -> None:
        self.steps.append(step)

    def energy(self) -> np.ndarray:
        return np.ones(self.sites)

    def keep(self) -> None: ...

    def take(self) -> Batch:
        values = self.turns[self.taken % len(self.turns)]
        self.taken += 1
        steps, self.steps = np.array(self.steps, np.int64), []
        groups = tuple(
            Group(
                self.columns[kind],
                x,
                np.repeat(steps[:: self.ring // len(x), None], x.shape[1], axis=1),
                flat_of("relu") if kind == "active" else None,
            )
            for kind, x in values.items()
        )
        number = steps.size
        return Batch(
            groups, steps, np.full(number, 0.1), np.ones(number, bool),
            np.zeros((number, self.sites)), np.full(number, 64, np.int64), course=self.course,
        )  # fmt: skip

    def arm(self, on: bool) -> None: ...

    def seconds(self) -> float:
        return 0.0

    def close(self) -> None: ...


def measured(layers: int, drains: int) -> dict[str, float]:
    """Station to microseconds per step, for so many layers."""
    clock = Clock()
    rules: list[Any] = [TimedRule(rule, clock) for rule in DEFAULT]
    stations = ["frame", "metrics", *(type(r).__name__ for r in DEFAULT)]
    stations += ["rest of judging", "history", "rest of the step"]
    names = vars(judgement_module)
    framing = names["framing"]
    names["framing"] = _whole(framing, clock, "frame")
    try:
        with Monitor(run=False, rules=rules, strict=True) as monitor:
            ring = Ring(monitor, layers)
            monitor.attach(ring)
            judge: Judgement = monitor._judgement
            judge._measure = clock.timed("metrics", judge._measure)  # type: ignore[method-assign]
            judge._step = clock.timed("metrics", judge._step)  # type: ignore[method-assign]
            judge.judging = _whole(judge.judging, clock, "rest of judging")  # type: ignore[method-assign]
            history = monitor._keeper.history
            history.add_window = clock.timed("history", history.add_window)  # type: ignore[method-assign]
            step = clock.timed("rest of the step", monitor.step)
            for _ in range(_WARM + drains):
                clock.start(stations)
                for _ in range(ring.ring):
                    step(loss=1.0)
            assert not monitor.alerts, monitor.alerts
            clock.start(stations)
    finally:
        names["framing"] = framing
    return {s: statistics.median(clock.times[s][_WARM:-1]) / ring.ring for s in stations}


def _whole(stages: Callable[..., Any], clock: Clock, station: str) -> Callable[..., Any]:
    """A generator's work done in one piece and charged to a station."""

    def call(*args: Any) -> Any:
        return clock.timed(station, finish)(stages(*args))
        yield

    return call


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", default="21,160", help="numbers of layers, comma-separated")
    parser.add_argument("--drains", type=int, default=40)
    given = parser.parse_args()
    sizes = [int(n) for n in given.layers.split(",")]
    tables = [measured(size, given.drains) for size in sizes]
    print(f"µs per step, {monitor_module.__file__}")
    print(f"{'layers':18}" + "".join(f"{size:10}" for size in sizes))
    for station in tables[0]:
        print(f"{station:18}" + "".join(f"{table[station]:10.1f}" for table in tables))
    print(f"{'total':18}" + "".join(f"{sum(table.values()):10.1f}" for table in tables))


if __name__ == "__main__":
    main()
