"""Is a budget kept? What ``budget=0.01`` spends, measured from outside and as the monitor says.

    python benchmarks/budget.py [--budget 0.01] [--steps 4000] [--warm 200] [--quick] [--results FILE]

The small network, whose step shiftwatch would double. *outside*: time in hooks, their dispatch by
PyTorch and in ``monitor.step``, over the time of all else, since the warm-up. *monitor*: the share
over the same steps as ``monitor.overhead`` has it, whose own value, since the beginning, stands beside.
*watched*: steps with time in hooks; *hooked*: steps in which the hooks were on, in each of which PyTorch
takes *dispatch* to call them; *idle*: microseconds of ``monitor.step`` in the others, which no budget can
save; *dearest*: the longest ``monitor.step``. Then the batch grows until a step takes some two times as
long, and the share of the second half is told apart: where a step is dearer, more can be watched. Wall
time, for that is what a budget is about. Saved in ``benchmarks/results/budget.json``.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import measure
import torch
from measure import RESULTS
from peers import leaves, shiftwatch
from workloads import Stream, Training, layers

#: Batch of each part of the run.
BATCHES = (32, 512)


def spent(budget: float, warm: int, steps: int) -> list[dict[str, Any]]:
    """A row for each part of the run: the first, and the one with dearer steps."""
    clock = measure.clock(processor=False)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    model = layers(4, 64)
    parts = [Stream(batch, 64) for batch in BATCHES]
    training = Training(model, parts[0])
    attached = shiftwatch(budget=budget)(model, training.optimizer)
    monitor = attached.monitor
    first = leaves(model)[0]
    calls = measure.dispatch(len(leaves(model)), clock)
    timed = measure.Steps(training, attached, clock)
    timed()
    began = clock()  # the monitor counts from its first step on, too
    for _ in range(warm - 1):
        timed()
    rows = []
    for batches, batch in zip(parts, BATCHES, strict=True):
        training.batches = batches
        timed.forget()
        before, then = monitor.overhead, clock() - began
        hooked = 0
        for _ in range(steps):
            hooked += bool(first._forward_hooks)
            timed()
        after, now = monitor.overhead, clock() - began
        called = calls * hooked
        used = sum(timed.hooks) + sum(timed.after) + called
        rest = (sum(timed.whole) - used) / steps
        free = [a for a, h in zip(timed.after, timed.hooks, strict=True) if h == 0]
        idle = statistics.median(free) if free else float("nan")
        rows.append(
            {
                "budget": budget,
                "batch": batch,
                "steps": steps,
                "plain": rest * 1e3,
                "outside": used / steps / rest,
                "monitor": (after * now - before * then) / (now - then),
                "overhead": after,
                "watched": sum(h > 0 for h in timed.hooks),
                "hooked": hooked,
                "idle_us": idle * 1e6,
                "dispatch_us": calls * 1e6,
                "dearest_us": max(timed.after) * 1e6,
            }
        )
    attached.close()
    return rows


def main() -> None:
    """Run, print the table, save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=4000, help="of each part")
    parser.add_argument("--warm", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="500 steps, and save nothing")
    parser.add_argument("--results", type=Path, help="file to merge the figures into")
    given = parser.parse_args()
    path = given.results or (None if given.quick else RESULTS / "budget.json")
    rows = spent(given.budget, given.warm, 500 if given.quick else given.steps)
    print(
        "batch  plain ms  outside  monitor  .overhead  idle µs  dispatch  dearest  hooked  watched steps"
    )
    for row in rows:
        print(
            f"{row['batch']:5}{row['plain']:10.3f}{row['outside']:9.4f}"
            f"{row['monitor']:9.4f}{row['overhead']:11.4f}"
            f"{row['idle_us']:9.1f}{row['dispatch_us']:10.1f}{row['dearest_us']:9.0f}{row['hooked']:8}{row['watched']:8} of {row['steps']:,}"
        )
    if path is not None:
        known = measure.conditions(False, given.quick)
        measure.save(path, [known | row for row in rows], "budget", "batch")


if __name__ == "__main__":
    main()
