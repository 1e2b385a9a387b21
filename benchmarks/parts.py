"""Where the time goes: what each part of shiftwatch takes of a training step.

    python benchmarks/parts.py [--workload mlp] [--warm 1040] [--steps 512]

Clocks around the parts, each without what it calls of the others: median over blocks of 64 steps
(one window of a settled run) and quartiles, in microseconds per step. The clocks themselves take
about half a microsecond per call, so that hooks look dearer here than ``overhead.py`` finds them.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns as clock
from typing import Any

import measure
import torch
from peers import shiftwatch as attach
from workloads import WORKLOADS, training

from shiftwatch import monitor, signs
from shiftwatch.integrations.torch import hooks, slab, source, sweep, weights

#: Steps of a block.
BLOCK = 64
PARTS: dict[str, list[tuple[type, str]]] = {
    "forward hooks": [(hooks.ForwardHook, "__call__")],
    "gradient hooks": [(hooks.Follower, "__call__")],
    "input hook": [(hooks.InputHook, "__call__")],
    "check of the output": [(sweep.End, "__call__")],
    "check of gradients": [(sweep.Sweeper, "before")],
    "weights": [(weights.Weights, name) for name in ("begin", "stepped", "end")],
    "mean squares": [(slab.Shop, "energy"), (signs.Signs, "look")],
    "readings of each step": [(source.TorchSource, "_settle")],
    "summaries and rules": [(monitor.Monitor, "_go_on"), (monitor.Monitor, "_drain")],
    "the rest at the optimizer": [(source.TorchSource, name) for name in ("before", "after")],
    "the rest of step()": [(monitor.Monitor, "step")],
}


class Clocks:
    """Nanoseconds by part, each without those inside of it."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = dict.fromkeys(PARTS, 0)
        self._inner = 0  # spent in parts that the present one called
        for part, places in PARTS.items():
            for kind, name in places:
                setattr(kind, name, self._timed(part, getattr(kind, name)))

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            before, self._inner = self._inner, 0
            began = clock()
            try:
                return function(*args, **kwargs)
            finally:
                whole = clock() - began
                self.spent[part] += whole - self._inner
                self._inner = before + whole

        return timed

    def read(self) -> dict[str, int]:
        """Since the last call."""
        now, self.spent = self.spent, dict.fromkeys(PARTS, 0)
        return now


def measured(workload: str, warm: int, steps: int) -> list[dict[str, Any]]:
    """A row for each part, the dearest first."""
    clocks = Clocks()
    torch.set_flush_denormal(True)
    watched = training(workload, False)
    attached = attach()(watched.model, watched.optimizer)

    def block() -> tuple[float, dict[str, int]]:
        began = clock()
        for _ in range(BLOCK):
            attached.after_step(watched())
        return (clock() - began) / BLOCK, clocks.read()

    for _ in range(-(-warm // BLOCK)):
        block()
    blocks = [block() for _ in range(-(-steps // BLOCK))]
    attached.close()
    whole = statistics.median(time for time, _ in blocks)
    rows = []
    for part in PARTS:
        each = sorted(spent[part] / BLOCK / 1e3 for _, spent in blocks)
        rows.append(
            {
                "workload": workload,
                "part": part,
                "us": statistics.median(each),
                "low": each[len(each) // 4],
                "high": each[3 * len(each) // 4],
                "share": statistics.median(each) * 1e3 / whole,
                "step": whole / 1e6,
                "blocks": len(blocks),
                "warm": warm,
            }
        )
    return sorted(rows, key=lambda r: -r["us"])


def main() -> None:
    """Run, print the table, save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", default="mlp", choices=WORKLOADS)
    parser.add_argument("--warm", type=int, default=1040)
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--results", type=Path, default=measure.RESULTS / "parts.json")
    given = parser.parse_args()
    rows = measured(given.workload, given.warm, given.steps)
    print(f"{given.workload}: {rows[0]['step']:.1f} ms per watched step\n")
    print(f"{'':26}{'µs per step':>12} [quartiles]        share")
    for row in rows:
        spread = f"[{row['low']:.0f}, {row['high']:.0f}]"
        print(f"{row['part']:26}{row['us']:12.0f} {spread:16}{row['share']:9.2%}")
    print(
        f"{'all':26}{sum(r['us'] for r in rows):12.0f} {'':16}{sum(r['share'] for r in rows):9.2%}"
    )
    conditions = measure.conditions(False, False)
    measure.save(given.results, [r | conditions for r in rows], "workload", "part")


if __name__ == "__main__":
    main()
