"""What comparing two large runs costs: 160 layers with four tensors each, 2,000 windows.

    python benchmarks/comparison.py [--layers 160] [--windows 2000] [--repeats 5] [--results FILE]

The runs are made here, of normal values; the second departs in one layer in the middle. *compared*:
seconds until both are open and compared. *written*: until the page is written too. Median and
quartiles of several processes, each with the files in the cache of the system. Saved in
``benchmarks/results/comparison.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import numpy as np
from measure import RESULTS

import shiftwatch
from shiftwatch.history import Window
from shiftwatch.records import Layer, Site
from shiftwatch.report import render_comparison
from shiftwatch.store import Writer
from shiftwatch.summaries import Block, Summary
from shiftwatch.summaries import measure as summarized

_TENSORS = ("output", "gradient", "weight", "update")
QUARTILES = 25, 50, 75
_STEPS, _DISTINCT = 10, 16  # steps per window, windows really sampled


def record(folder: Path, layers: int, windows: int, seed: int, fault: float) -> None:
    """Write a run as a training would; a fault moves the mean of the middle layer's output."""
    rng = np.random.default_rng(seed)
    sites = [Site(f"block{i // 4}.fc{i % 4}", tensor) for i in range(layers) for tensor in _TENSORS]
    healthy = [_sampled(rng, len(sites), None) for _ in range(_DISTINCT)]
    broken = [_sampled(rng, len(sites), 4 * (layers // 2)) for _ in range(_DISTINCT)]
    keys = ("mean_shift", "variance_shift", "js", "saturation", "dead_fraction", "nonfinite")
    with Writer(folder, {"name": folder.name}, limit=1_000_000, size=1 << 40) as writer:
        for site in sites:
            writer.site(site, Layer(site.layer, "Linear", parameters=True))
        for number in range(windows):
            drawn = broken if fault and number > windows // 2 else healthy
            metrics = {key: np.abs(rng.normal(0.05, 0.01, len(sites))) for key in keys}
            metrics["nonfinite"] = np.zeros(len(sites))
            span = number * _STEPS, number * _STEPS + _STEPS - 1
            losses = np.full(1, np.exp(-number / windows))
            writer.window(Window(*span, drawn[number % _DISTINCT], metrics, losses, 0.01))


def _sampled(rng: np.random.Generator, sites: int, moved: int | None) -> Summary:
    values = rng.normal(size=(1, sites, 64, 16))
    if moved is not None:
        values[0, moved] += 3.0
    return summarized(Block(values, np.ones((1, sites), bool)))[0]


def measured(a: Path, b: Path) -> dict[str, float]:
    """Seconds and megabytes of one comparison, in this process."""
    began = time.perf_counter()
    runs = shiftwatch.open(a), shiftwatch.open(b)
    found = shiftwatch.compare(*runs)
    compared = time.perf_counter()
    page = render_comparison(*runs, comparison=found)
    written = time.perf_counter()
    assert len(found.against[0].departed) == 1, found
    return {
        "compared": compared - began,
        "written": written - began,
        "megabytes": len(page.encode()) / 1e6,
    }


def main() -> None:
    """Record, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, default=160)
    parser.add_argument("--windows", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, help="file to write the figures into")
    parser.add_argument("--once", nargs=2, type=Path, metavar="RUN", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(json.dumps(measured(*given.once)))
        return
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder, name) for name in ("good", "new")]
        for seed, run in enumerate(runs):
            record(run, given.layers, given.windows, seed, fault=float(seed))
        command = [sys.executable, __file__, "--once", *map(str, runs)]
        rows = [json.loads(subprocess.check_output(command)) for _ in range(given.repeats)]
    case = {"case": f"two runs of {given.layers:,} layers × {given.windows:,} windows"}
    known = measure.conditions(False, False) | case
    found = [
        known
        | {"what": what, "quartiles": list(np.percentile([row[what] for row in rows], QUARTILES))}
        for what in rows[0]
    ]
    print(case["case"])
    for row in found:
        print(f"{row['what']:10}" + "".join(f"{v:8.2f}" for v in row["quartiles"]))
    measure.save(given.results or RESULTS / "comparison.json", found, "case", "what")


if __name__ == "__main__":
    main()
