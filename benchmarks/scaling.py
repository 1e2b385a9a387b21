"""What a layer costs as batch, sequence and width grow 64-fold: the sample stays as large.

    python benchmarks/scaling.py [--steps 64] [--quick] [--results FILE]

Eight linear layers and their ReLUs, one dimension growing from 16 to 1,024 at a time. *hook*:
microseconds in hooks per leaf module and step. *core*: microseconds of ``monitor.step`` per site and
step. Beside them *read*: what one sum over a layer's output takes, which is the least that looking at
every value can cost. Medians over blocks of eight steps, in processor time of one thread.
Saved in ``benchmarks/results/scaling.json``, drawn by ``benchmarks/figure.py``.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import measure
import torch
from measure import RESULTS, blocks
from overhead import WARM
from peers import Attached, leaves, shiftwatch
from torch import Tensor, nn
from workloads import Training, layers

SIZES = [16, 64, 256, 1024]
#: Dimension that grows to shape of the input; the others are held.
SHAPES = {
    "batch": lambda n: (n, 128),
    "sequence": lambda n: (8, n, 128),
    "width": lambda n: (64, n),
}


def build(shape: tuple[int, ...]) -> Training:
    """A regression that any shape of input can have."""
    torch.manual_seed(0)
    model = layers(8, shape[-1])
    y = torch.randint(10, shape[:-1])
    return Training(model, [(torch.randn(shape), y) for _ in range(2)])


def measured(dimension: str, size: int, steps: int, clock: measure.Clock) -> dict[str, Any]:
    """One row."""
    shape = SHAPES[dimension](size)
    plain, read, watched = build(shape), build(shape), build(shape)
    number = len(leaves(watched.model))
    reading: list[float] = [0.0]

    def look(module: nn.Module, given: Any, output: Tensor) -> None:
        began = clock()
        output.detach().sum()
        reading[-1] += clock() - began

    for module in leaves(read.model):
        module.register_forward_hook(look)
    attached = shiftwatch(run=False)(watched.model, watched.optimizer)
    a = measure.Steps(plain, Attached(), clock)
    b = measure.Steps(watched, attached, clock)

    def c() -> None:
        read()
        reading.append(0.0)

    for i in range(WARM + steps):
        if i == WARM:
            a.forget()
            b.forget()
            reading[:] = [0.0]
        for run in (a, b, c):
            run()
    sites = len(attached.monitor.history.sites)
    attached.close()
    values = size * (128 if dimension == "batch" else 8 * 128 if dimension == "sequence" else 64)
    base = statistics.median(a.whole)
    hooks, core = statistics.median(blocks(b.hooks)), statistics.median(blocks(b.after))
    return {
        "dimension": dimension,
        "size": size,
        "values": values,
        "plain": base * 1e3,
        "hook_us": hooks / number * 1e6,
        "core_us": core / sites * 1e6,
        "read_us": statistics.median(reading[:-1]) / number * 1e6,
        "share": (hooks + core) / base,
        "leaves": number,
        "sites": sites,
    }


def main() -> None:
    """Run, print the table, save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="up to 256, and save nothing")
    parser.add_argument("--results", type=Path, help="file to merge the figures into")
    given = parser.parse_args()
    path = given.results or (None if given.quick else RESULTS / "scaling.json")
    clock = measure.clock(processor=True)
    torch.set_flush_denormal(True)
    known = measure.conditions(True, given.quick)
    print(
        f"{'':10}{'size':>6}{'values':>10}{'plain ms':>10}{'hook µs':>9}{'core µs':>9}{'read µs':>9}"
    )
    for dimension in SHAPES:
        for size in SIZES[: 3 if given.quick else None]:
            row = measured(dimension, size, given.steps, clock)
            print(
                f"{dimension:10}{size:6}{row['values']:10,}{row['plain']:10.2f}{row['hook_us']:9.1f}"
                f"{row['core_us']:9.1f}{row['read_us']:9.1f}",
                flush=True,
            )
            if path is not None:
                measure.save(path, [known | row], "dimension", "size")


if __name__ == "__main__":
    main()
