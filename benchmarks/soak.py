"""A long run of a small network: does anything grow, does anything slow down?

    python benchmarks/soak.py [--steps 100000] [--every 1] [--budget 0.01] [--results FILE]

Four layers of 64 units, batch 32, recorded into a folder. In each of 50 bins: memory of the
process, Python objects and tensors alive, bytes in arrays, the size of the run folder, and
processor time per step of the watched network and of a plain one beside it, medians, so that it
means something on a machine that others use. Saved in ``benchmarks/results/soak.json``, drawn by
``benchmarks/figure.py``. 100,000 steps take some minutes.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import torch
from measure import RESULTS
from peers import Attached, shiftwatch
from workloads import training

BINS = 50


def soaked(steps: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per bin."""
    clock = measure.clock(processor=True)
    torch.set_flush_denormal(True)
    plain, watched = training("small"), training("small")
    a = measure.Steps(plain, Attached(), clock)
    for _ in range(10):
        a()
        watched()
    empty = measure.held()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        attached = shiftwatch(run=folder, **options)(watched.model, watched.optimizer)
        b = measure.Steps(watched, attached, clock)
        began, done = time.perf_counter(), 0
        for bin_ in range(BINS):
            a.forget()
            b.forget()
            end = steps * (bin_ + 1) // BINS
            for i in range(done, end):
                for run in (a, b) if i % 2 else (b, a):
                    run()
            done = end
            held = measure.held() - empty  # collects the garbage as well
            objects = gc.get_objects()
            row = {
                "step": done,
                "resident": measure.resident(),
                "held": held,
                "objects": len(objects),
                "tensors": sum(issubclass(type(x), torch.Tensor) for x in objects),
                "folder": sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file()),
                "plain_us": statistics.median(a.whole) * 1e6,
                "watched_us": statistics.median(b.whole) * 1e6,
                "mean_us": statistics.mean(b.whole) * 1e6,
                "mean_plain_us": statistics.mean(a.whole) * 1e6,
                "overhead": attached.monitor.overhead,
                "alerts": len(attached.monitor.alerts),
                "seconds": time.perf_counter() - began,
            }
            del objects
            rows.append(row)
            if bin_ % 5 == 0 or bin_ == BINS - 1:
                print(
                    f"{done:8,}{row['resident'] / 1e6:9.1f}{held / 1e6:9.2f}{row['objects']:9,}"
                    f"{row['tensors']:9}{row['folder'] / 1e6:9.2f}{row['plain_us']:9.0f}"
                    f"{row['watched_us']:9.0f}{row['mean_us']:9.0f}{row['alerts']:8}",
                    flush=True,
                )
        attached.close()
    return rows


def main() -> None:
    """Run, print a table, save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--results", type=Path, help="file for the figures; short runs save none")
    given = parser.parse_args()
    if given.steps < BINS:
        parser.error(f"--steps must be at least {BINS}; got {given.steps}.")
    path = given.results or (RESULTS / "soak.json" if given.steps >= 100_000 else None)
    options = {"every": given.every, "budget": given.budget}
    print(
        f"{'step':>8}{'RSS MB':>9}{'held MB':>9}{'objects':>9}{'tensors':>9}{'disk MB':>9}"
        f"{'plain µs':>9}{'watched':>9}{'mean':>9}{'alerts':>8}"
    )
    rows = soaked(given.steps, options)
    if path is not None:
        path.unlink(missing_ok=True)
        known = measure.conditions(True, False) | options
        measure.save(path, [known | row for row in rows], "step")


if __name__ == "__main__":
    main()
