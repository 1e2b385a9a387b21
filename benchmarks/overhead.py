"""What watching costs: shiftwatch and its peers beside plain steps.

    python benchmarks/overhead.py [--only mlp,cnn] [--variants shiftwatch,fastai] [--no-peers]
                                  [--steps 80] [--seconds 8] [--quick] [--processor] [--tensors …]

Every pair of a workload and a variant gets a process of its own, in which plain steps and
watched steps take turns (A B, B A, …), at least ``--steps`` of each and ``--seconds`` in all.

*paired*: time of a watched step over that of the plain step beside it; median and quartiles.
It holds everything, cache pollution and noise included; the row "nothing" shows the noise.
*block*: the same over means of eight steps, median; what is done at every eighth step is in it,
which a median over single steps leaves out. With a budget: over all steps, sum by sum, the watched ones
in one piece between two halves of the plain ones, for a budget goes by how long it is from step to step.
*amortised*: for what works at every n-th step only, 1 + idle + (at work - idle) / n, where idle is
its own paired median and at work the block of the variant that works at every step.
*direct*, for shiftwatch: 1 + (time in hooks, their dispatch by PyTorch, and ``monitor.step``) / plain
step, a median over blocks of eight steps (with a budget: a mean over all); little noise, no cache effects.
*hook*: microseconds in hooks per leaf module and step, all tensors together.
*warm*, in the file: steps before the clock counts. From 1,024 on, a window is 64 steps; before, fewer.
*p50 / p99*: quantiles of single steps, plain and watched; a hiccup at every eighth step shows in p99.
*held*: bytes in arrays and tensors at the end that were not there before; see ``measure.held``.

On a machine that others use too, ``--processor`` counts this thread's processor time, with one
thread: preemption falls out, the pollution of caches stays in; so does not what a peer does in
other threads and processes, such as wandb's service.

Peers are measured where they are installed: ``benchmarks/peers.txt`` says how. Figures are merged
into ``benchmarks/results/overhead.json``, those of ``--quick`` only into a file named by
``--results``. ``benchmarks/figure.py`` draws them.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import measure
import torch
from measure import RESULTS, blocks
from peers import FLOORS, OURS, PEERS, VARIANTS, Variant, leaves, shiftwatch
from workloads import NEEDS, QUICK_STEPS, WORKLOADS, training

from shiftwatch.monitor import RING

# Shiftwatch's steps before the clock counts: plans are made, memory is mapped; and as a long run
# watches, of which this is about, where so many steps take no longer than so many seconds.
WARM, SETTLED, PATIENCE = 2 * RING, 1040, 240.0
MOST = 120.0  # seconds of pairs after which a process has measured enough


@dataclass(frozen=True)
class Order:
    """How a pair is to be measured."""

    steps: int
    seconds: float
    quick: bool
    processor: bool
    tensors: tuple[str, ...] = ()


def compare(workload: str, variant: Variant, order: Order) -> dict[str, Any]:
    """Plain steps and those of a variant in turn: times in milliseconds, ratios, bytes."""
    clock = measure.clock(order.processor)
    torch.set_flush_denormal(True)
    plain, watched = training(workload, order.quick), training(workload, order.quick)
    for _ in range(3):
        plain()
        watched()
    before = measure.held()
    attach = variant.attach
    if order.tensors and variant.name == "shiftwatch":
        attach = shiftwatch(tensors=order.tensors)
    attached = attach(watched.model, watched.optimizer)
    a = measure.Steps(plain, VARIANTS["nothing"].attach(plain.model, plain.optimizer), clock)
    b = measure.Steps(watched, attached, clock)
    measure.in_turn(a, b, WARM if b.meter is not None else RING, 0.0, MOST)
    warm = WARM
    if b.meter is not None and SETTLED * statistics.median(b.whole) < PATIENCE:
        for _ in range(SETTLED - WARM):
            b()
        warm = SETTLED
    seldom = "budget" in variant.name  # what it does, it does at no regular step
    steps = max(order.steps, round(order.seconds / statistics.median(a.whole)))
    a.forget()
    b.forget()
    first, hooked = leaves(watched.model)[0], []
    if seldom:

        def step() -> None:
            hooked.append(bool(first._forward_hooks))
            b()

        pairs = measure.framed(a, step, steps)
    else:
        pairs = measure.in_turn(a, b, order.steps, order.seconds, MOST)
    held = measure.held() - before
    ratios = sorted(y / x for x, y in zip(a.whole, b.whole, strict=True))
    base = statistics.median(a.whole)
    block = sum(b.whole) / sum(a.whole)
    if not seldom:
        pairs_of = zip(blocks(a.whole), blocks(b.whole), strict=True)
        block = statistics.median(y / x for x, y in pairs_of)
    row: dict[str, Any] = {
        "pairs": pairs,
        "warm": warm,
        "plain": base * 1e3,
        "paired": statistics.median(ratios),
        "low": ratios[len(ratios) // 4],
        "high": ratios[3 * len(ratios) // 4],
        "block": block,
        **{f"plain_p{q}": quantile(a.whole, q) * 1e3 for q in (50, 99)},
        **{f"p{q}": quantile(b.whole, q) * 1e3 for q in (50, 99)},
        "held": held,
    }
    if b.meter is not None:
        number = len(leaves(watched.model))
        middle = statistics.mean if seldom else statistics.median
        hooks, step = middle(blocks(b.hooks)), middle(blocks(b.after))
        calls = measure.dispatch(number, clock)
        if hooked:  # they come off where nothing is watched for long
            calls *= statistics.mean(hooked)
        row |= {
            "direct": 1 + (hooks + calls + step) / base,
            "hooks": hooks * 1e3,
            "dispatch": calls * 1e3,
            "step": step * 1e3,
            "leaves": number,
            "hook_us": hooks / number * 1e6,
            "overhead": attached.monitor.overhead,
            "sites": len(attached.monitor.history.sites),
            "alerts": len(attached.monitor.alerts),
        }
    attached.close()
    return row


def quantile(values: Sequence[float], percent: int) -> float:
    """The value under which so many percent lie."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def _child(workload: str, name: str, order: Order, out: Connection) -> None:
    """In a process of its own: peers patch, print, and may crash."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    warnings.simplefilter("ignore")
    try:
        out.send(compare(workload, VARIANTS[name], order))
    except BaseException as error:
        words = (str(error).strip().splitlines() or [""])[0]
        where = traceback.extract_tb(error.__traceback__)[-1]
        file = f"{Path(where.filename).name}:{where.lineno}"
        out.send({"failed": f"{type(error).__name__} in {file}: {words}"[:160]})


def row(workload: str, variant: Variant, order: Order) -> dict[str, Any]:
    """The figures of one pair, or why there are none."""
    known: dict[str, Any] = {"workload": workload, "variant": variant.name, "sees": variant.sees}
    known |= measure.conditions(order.processor, order.quick)
    if order.processor:
        known["threads"] = 1
    missing = [*variant.missing(), *(m for m in NEEDS.get(workload, ()) if find_spec(m) is None)]
    if missing:
        return known | {"failed": f"not installed: {', '.join(missing)}"}
    if "budget" in variant.name and workload not in QUICK_STEPS:
        return known | {"failed": "its steps are so long that none is left out"}
    if variant.needs:
        known["package"] = _version(variant.needs[0])
    context = multiprocessing.get_context("spawn")
    inner, outer = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(workload, variant.name, order, outer))
    process.start()
    outer.close()
    limit = 3 * MOST + 2 * order.seconds
    result: dict[str, Any] = {"failed": f"did not end within {limit:.0f} s"}
    try:
        if inner.poll(limit):
            result = inner.recv()
    except EOFError:
        process.join()
        result = {"failed": f"its process ended with code {process.exitcode}"}
    process.join(10)
    if process.is_alive():
        process.kill()
        process.join()
    return known | result


def _version(module: str) -> str:
    name = (packages_distributions().get(module) or [module])[0]
    return f"{name} {version(name)}"


def amortised(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> float | None:
    """What a variant costs on average, as a ratio; ``None`` where that is not known."""
    if "failed" in row:
        return None
    variant = VARIANTS[row["variant"]]
    if variant.every == 1:
        return float(row["block"])
    same = (r for r in rows if r["workload"] == row["workload"] and r["variant"] == variant.dense)
    work = next((r["block"] for r in same if "failed" not in r), None)
    idle = float(row["paired"])
    return None if work is None else idle + max(0.0, work - idle) / variant.every


def line(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """A row as it is printed."""
    if "failed" in row:
        return f"{row['variant']:25} - {row['failed']}"
    mean = amortised(row, rows)
    words = (
        f"{row['variant']:25}{row['paired']:7.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        f"{row['block']:8.3f}{'' if mean is None else f'{mean:.3f}':>11}"
    )
    words += f"{row['direct']:8.4f}{row['hook_us']:8.1f}" if "direct" in row else " " * 16
    words += f"{row['plain_p50']:9.2f} /{row['plain_p99']:8.2f}{row['p50']:9.2f} /{row['p99']:8.2f}"
    return f"{words}{row['held'] / 1e6:9.2f}{row['pairs']:7}"


HEAD = (
    f"{'':25} paired [quartiles]      block  amortised  direct hook µs"
    "   plain p50 /     p99      p50 /     p99  held MB  pairs"
)


def main() -> None:
    """Run, print the tables, save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(WORKLOADS), help="workloads, comma-separated")
    parser.add_argument("--variants", help="rows; those whose names begin like one of these")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--steps", type=int, default=80, help="pairs at least")
    parser.add_argument("--seconds", type=float, default=8.0, help="of pairs at least")
    parser.add_argument("--quick", action="store_true", help="smaller networks")
    parser.add_argument("--tensors", help="of those that shiftwatch watches, comma-separated")
    parser.add_argument("--processor", action="store_true", help="processor time, one thread")
    parser.add_argument("--results", type=Path, help="file to merge the figures into")
    given = parser.parse_args()
    path = given.results
    if path is None and not given.quick and not given.tensors:
        path = RESULTS / "overhead.json"
    tensors = tuple(given.tensors.split(",")) if given.tensors else ()
    order = Order(given.steps, given.seconds, given.quick, given.processor, tensors)
    wanted = [*FLOORS, *OURS, *(PEERS if given.peers else ())]
    if given.variants:
        # Names hold commas themselves: "fastai, histogram".
        names = [n.strip() for n in given.variants.split(",")]
        wanted = [v for v in wanted if any(v.name.startswith(n) for n in names)]
    for workload in given.only.split(","):
        print(f"\n{workload}: {(WORKLOADS[workload].__doc__ or '').strip()}\n{HEAD}", flush=True)
        rows = measure.load(path) if path is not None and path.exists() else []
        for variant in wanted:
            new = row(workload, variant, order)
            if path is not None:
                rows = measure.save(path, [new], "workload", "variant")
            else:
                rows = [*rows, new]
            print(line(new, rows), flush=True)


if __name__ == "__main__":
    main()
