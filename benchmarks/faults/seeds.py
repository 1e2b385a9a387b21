"""Two seeds of one training, compared: how often is chance called a difference?

    python -m benchmarks.faults.seeds --networks 40

Networks are drawn at random, as in ``drawn``. Each is trained with three seeds, which change the
initial weights and the batches, and every pair is compared both ways by ``shiftwatch.compare``. Pairs
count where both have learnt and neither raised an alert: nothing is wrong there, so no layer should
be said to depart. Layers that differed for a while and came back are counted beside.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import torch
from torch import nn

import shiftwatch
from benchmarks.faults.drawn import LEARNT, drawn
from benchmarks.faults.intervals import clopper_pearson, redrawn
from benchmarks.faults.observers import Shiftwatch, silence
from benchmarks.faults.training import Plan, train
from shiftwatch.history import Run

SEEDS = 3

Row = dict[str, Any]


def runs_of(number: int) -> list[Run]:
    """A network's trainings that learnt and raised nothing, one for each seed."""
    found = []
    for seed in range(SEEDS):
        kept: list[Shiftwatch] = []

        def attach(
            model: nn.Module,
            optimizers: Sequence[torch.optim.Optimizer],
            kept: list[Shiftwatch] = kept,
        ) -> Shiftwatch:
            kept.append(Shiftwatch(model, optimizers))
            return kept[0]

        with silence():
            trace = train(Plan(drawn(number), 20_000 + 10 * number + seed), attach=attach)
        first, last = trace.losses[:10].mean(), trace.losses[-20:].mean()
        if last < LEARNT * first and not trace.alerts:
            found.append(kept[0].monitor.history)
    return found


def rows_of(number: int) -> list[Row]:
    """What the comparison says of each pair, both ways."""
    found = []
    for a, b in permutations(runs_of(number), 2):
        (against,) = shiftwatch.compare(a, b, names=("one", "other")).against
        told = against.departed[0].sentence if against.departed else ""
        passed = against.passed[0].sentence if against.passed else ""
        scores: dict[str, float] = {}
        for difference in against.differences:
            for key, score in difference.scores.items():
                scores[key] = max(scores.get(key, 0.0), round(score, 2))
        found.append(
            {"network": drawn(number).name, "told": told, "passed": passed, "scores": scores}
        )
    return found


def summary(rows: Sequence[Row]) -> str:
    """How many pairs are said to differ, and by which measures."""
    told = [row for row in rows if row["told"]]
    networks = Counter(row["network"] for row in rows)
    loud = Counter(row["network"] for row in told)
    # The two ways round are one pair: the interval counts them once.
    low, high = clopper_pearson((len(told) + 1) // 2, len(rows) // 2)
    least, most = redrawn([(loud[name], number) for name, number in networks.items()])
    passed = sum(bool(row["passed"]) and not row["told"] for row in rows)
    by = Counter(key for row in rows for key, score in row["scores"].items() if score >= 1)
    return (
        f"{len(rows)} comparisons of {len(networks)} networks, {len(told)} with a difference: "
        f"{len(told) / max(len(rows), 1):.1%} [{low:.1%}, {high:.1%}], networks drawn anew "
        f"[{least:.1%}, {most:.1%}]; for a while in {passed} more; {', '.join(f'{k} {n}' for k, n in by.most_common()) or 'none'}"
    )


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--first", type=int, default=8000, help="number of the first network")
    parser.add_argument("--networks", type=int, default=40)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for number in range(given.first, given.first + given.networks):
        fresh = rows_of(number)
        rows += fresh
        for row in fresh:
            if row["told"] or row["passed"]:
                print(f"{row['network']}: {row['told'] or row['passed']}", flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main()
