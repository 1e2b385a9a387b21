"""Two faults in one training: is the second told while the incident of the first is open?

    python -m benchmarks.faults.pairs [--quick] [--jobs 2]     # from the root; five minutes of a core

Three networks of the design set, with seeds that nothing else uses. The first fault strikes in the
middle of the network, the second some steps later elsewhere, or is of another kind. The second is
told if from its first step on a new incident is raised with a right kind and exactly its origin.

It is on trial where that would be news: both are told where they strike alone, and the first alone
raises nothing in the same steps that would pass for the second, be it by chance or as a consequence.
Totals go to ``benchmarks/results/faults/pairs.json``, unless with ``--quick``, which takes one
network and one delay.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.faults.faults import ANYWHERE, BY_CODE
from benchmarks.faults.intervals import clopper_pearson, redrawn
from benchmarks.faults.networks import BY_NAME, skeleton
from benchmarks.faults.observers import Shiftwatch, silence
from benchmarks.faults.score import Table, quartiles
from benchmarks.faults.training import Action, Plan, Training, constant, cosine, train

RESULT = Path(__file__).parent.parent / "results" / "faults" / "pairs.json"

NETWORKS, SEEDS = ("dense relu", "cnn apart", "resnet"), (701, 702)

#: The first fault's step, steps from there to the second, and steps that are left to tell that.
FIRST, DELAYS, LEFT = 150, (4, 10, 40, 100), 60

#: Steps after which the second strikes where it is alone: one control for all delays.
CONTROL = 40

#: Codes of both faults, and where the second strikes, seen from the first in the middle.
PAIRS = {
    "F40c then F40c upstream": 0.0,
    "F40c then F40c downstream": 1.0,
    "F40c then F34": 0.5,
    "F40c then F37": 0.5,
    "F40c then F38": 0.5,
    "F40c then F06 upstream": 0.0,
    "F40c then F03 upstream": 0.0,
    "F40c then F01": 0.5,
    "F40c then F05": 0.5,
    "F50 then F50 upstream": 0.0,
    "F50 then F50 downstream": 1.0,
    "F50 then F34d": 0.5,
    "F34d then F40c": 0.5,
    "F34d then F06": 0.5,
}


@dataclass(frozen=True)
class Blow:
    """A fault, the module that it strikes (``""`` for none), and its first step."""

    code: str
    layer: str
    step: int

    @property
    def action(self) -> Action:
        """What it does, by a clock of its own."""
        usual = BY_CODE[self.code].action(self.layer)

        def act(training: Training) -> None:
            training.strikes = self.step
            usual.do(training)

        return Action(usual.when, act)


@dataclass(frozen=True)
class Run:
    """A training that some faults strike."""

    network: str
    seed: int
    blows: tuple[Blow, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a second fault.

    Args:
        alone: whether it is told where it strikes alone.
        counts: likewise, and the first too, which does not pass for it.
        told: steps to the incident that tells it; ``None`` for a miss.
    """

    pair: str
    delay: int
    network: str
    alone: bool
    counts: bool
    told: int | None


def trials(networks: Sequence[str], delays: Sequence[int]) -> Iterator[tuple[str, int, list[Run]]]:
    """Name, delay, and the runs of both faults, of the first and of the second alone.

    Seeds take turns over pairs and networks. Left out is a pair that would strike one layer twice.
    """
    for i, (pair, place) in enumerate(PAIRS.items()):
        for j, network in enumerate(networks):
            model, seed = skeleton(BY_NAME[network]), SEEDS[(i + j) % 2]
            code, other = pair.split()[:3:2]
            here, there = BY_CODE[code].layer(model, 0.5), BY_CODE[other].layer(model, place)
            if here is None or there is None or (code, here) == (other, there):
                continue
            first, alone = Blow(code, here, FIRST), Blow(other, there, FIRST + CONTROL)
            for delay in delays:
                both = (first, replace(alone, step=FIRST + delay))
                runs = [Run(network, seed, blows) for blows in (both, (first,), (alone,))]
                yield pair, delay, runs


def alerts(run: Run) -> list[dict[str, Any]]:
    """What is raised. Every second seed has a cosine schedule, the same however long the run."""
    torch.set_num_threads(1)
    last = run.blows[-1].step
    last += max(DELAYS) * (last == FIRST)  # the first alone is the control of every delay
    schedule = (lambda step, _: cosine(step, 400)) if run.seed % 2 else constant
    plan = Plan(BY_NAME[run.network], run.seed, last + LEFT, schedule=schedule)
    with silence():
        return train(plan, [b.action for b in run.blows], strikes=FIRST, attach=Shiftwatch).alerts


def told(raised: Sequence[Mapping[str, Any]], network: str, blow: Blow) -> int | None:
    """Steps from a blow to the first new incident that tells it; ``None`` if there is none."""
    fault = BY_CODE[blow.code]
    right = fault.origin(skeleton(BY_NAME[network]), blow.layer)
    old = {a["incident"] for a in raised if a["detected"] < blow.step}
    delays = [
        a["detected"] - blow.step
        for a in raised
        if a["incident"] not in old
        and a["kind"] in fault.kinds
        and right in (ANYWHERE, a["origin"])
        and a["detected"] < blow.step + LEFT
    ]
    return min(delays, default=None)


def measure(networks: Sequence[str], delays: Sequence[int], jobs: int) -> list[Outcome]:
    """Train all that the trials need, each run once, and judge them."""
    chosen, found = list(trials(networks, delays)), []
    runs = list(dict.fromkeys(run for _, _, three in chosen for run in three))
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        raised = dict(zip(runs, pool.map(alerts, runs, chunksize=1), strict=True))
    for pair, delay, (both, one, other) in chosen:
        name, (first, second) = both.network, both.blows
        alone = told(raised[other], name, other.blows[0]) is not None
        opened = told(raised[one], name, first) is not None
        confused = told(raised[one], name, second) is not None
        steps = told(raised[both], name, second)
        found.append(Outcome(pair, delay, name, alone, alone and opened and not confused, steps))
    return found


def total(found: Sequence[Outcome]) -> dict[str, Any]:
    """Of the second faults on trial how many were told, how surely, and after how many steps."""
    tried = [o for o in found if o.counts]
    hits = [o.told for o in tried if o.told is not None]
    networks = by(tried, lambda o: o.network).values()
    groups = [(sum(o.told is not None for o in own), len(own)) for own in networks]
    return {
        "alone": f"{sum(o.alone for o in found)}/{len(found)}",
        "told": f"{len(hits)}/{len(tried)}",
        "interval": [round(x, 3) for x in clopper_pearson(len(hits), len(tried))],
        "networks": [round(x, 3) for x in redrawn(groups)],
        "steps": quartiles(hits),
    }


def by(found: Sequence[Outcome], key: Callable[[Outcome], Any]) -> dict[Any, list[Outcome]]:
    """Outcomes by a key, in the order of their first."""
    return {k: [o for o in found if key(o) == k] for k in dict.fromkeys(map(key, found))}


def main() -> None:
    """Print a row for each pair and delay, and one for all pairs, which is kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults.pairs", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="one network and one delay")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args()
    networks, delays = (NETWORKS[:1], DELAYS[1:2]) if given.quick else (NETWORKS, DELAYS)
    found = measure(networks, delays, given.jobs)
    pairs = {key: total(own) for key, own in by(found, lambda o: (o.pair, o.delay)).items()}
    totals = {("all", delay): total(own) for delay, own in by(found, lambda o: o.delay).items()}
    lines = [
        (pair, f"+{delay}", *(str(value) for value in sums.values()))
        for (pair, delay), sums in (pairs | totals).items()
    ]
    head = ("pair", "delay", "alone", "told", "95 %", "networks drawn anew", "after steps")
    print(Table("Second faults", head, lines).text())
    if not given.quick:
        rows = [{"delay": delay, **sums} for (_, delay), sums in totals.items()]
        RESULT.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


if __name__ == "__main__":
    main()
