"""The cases: which network meets which situation or fault, at which step, with which seed.

Three sets that share neither architecture nor seed: thresholds are designed on the first, false
alarms calibrated on the second, and the third is looked at once. What has been looked at is no test
any more: its networks then join the design set, and new ones with new seeds take their place. The
list is the same at every call: nothing is drawn, places and moments follow from positions in the lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.faults import healthy
from benchmarks.faults.faults import FAULTS, Fault
from benchmarks.faults.healthy import LONG, SITUATIONS, Situation
from benchmarks.faults.networks import BY_NAME, NETWORKS, Network, skeleton
from benchmarks.faults.training import Plan, constant, cosine

SETS = ("design", "calibration", "test")

#: Seeds of each set; no two sets share one. Those of former test sets are spent: 301, 302, 401, 402, 501, 502,
#: 611, 612, 711, 712, 811, 812, 911, 912, 1011, 1012, 1111, 1112.
SEEDS = {"design": (101, 102), "calibration": (201, 202), "test": (1211, 1212)}

#: Networks that each situation, and each fault, meets at most, for each seed: under 3,000 in whole.
MOST = {"design": (3, 3), "calibration": (3, 3), "test": (4, 3)}

#: Where a fault strikes between the first layer (0) and the last (1), in turn.
PLACES = (0.5, 0.0, 1.0)

#: Faults that are tried in long runs too, where a window is 64 steps long.
LATE = ("F01b", "F03", "F06", "F15", "F16", "F34", "F35", "F39", "F40b", "F40c", "F40j", "F41c")


@dataclass(frozen=True)
class Case:
    """One training with a known answer.

    Args:
        group: the set it belongs to.
        code: of a situation (H) or a fault (F).
        strikes: step of the fault; ``None`` in a healthy run.
        place: where the fault strikes, 0 to 1.
    """

    group: str
    network: str
    code: str
    seed: int
    steps: int
    strikes: int | None = None
    place: float = 0.5

    @property
    def key(self) -> str:
        """The case in one word, unique."""
        moment = "" if self.strikes is None else f"@{self.strikes}"
        return f"{self.group}/{self.code}{moment}/{self.network}/{self.seed}".replace(" ", "-")

    @property
    def plan(self) -> Plan:
        """How the network is trained; of a situation, as it wants it.

        Under a fault every second seed has a cosine schedule.
        """
        network = BY_NAME[self.network]
        if self.strikes is None:
            return healthy.BY_CODE[self.code].planned(Plan(network, self.seed, self.steps))
        schedule = cosine if self.seed % 2 else constant
        return Plan(network, self.seed, self.steps, schedule=schedule)


def cases(group: str) -> list[Case]:
    """All cases of a set, those with a common twin beside each other.

    Networks whose turn never comes in a large set are trained with nothing special.
    """
    found = [*_healthy(group), *_faulty(group)]
    met = {case.network for case in found}
    for network in NETWORKS[group]:
        if network.name not in met:
            for seed in SEEDS[group]:
                found.append(Case(group, network.name, "H01", seed, Plan(network, seed).steps))
    return sorted(found, key=lambda c: (c.strikes is not None, c.network, c.seed, c.strikes or 0))


def quick(group: str) -> list[Case]:
    """Some cases of every kind, for two minutes of one core: one seed, every fourth.

    Of every second network, since each needs runs without a fault of its own.
    """
    names = {network.name for network in NETWORKS[group][::2]}
    seed = SEEDS[group][0]
    some = [c for c in cases(group) if c.network in names and c.seed == seed and c.steps < LONG]
    return some[::4]


def _healthy(group: str) -> Iterator[Case]:
    for i, situation in enumerate(SITUATIONS):
        for network in _some(group, i, MOST[group][0], situation):
            for seed in SEEDS[group]:
                steps = Plan(network, seed).steps
                steps = situation.plan.get("steps", steps)
                yield Case(group, network.name, situation.code, seed, steps)


def _faulty(group: str) -> Iterator[Case]:
    for i, fault in enumerate(FAULTS):
        for j, network in enumerate(_some(group, i, MOST[group][1], fault)):
            for k, seed in enumerate(SEEDS[group]):
                place = PLACES[(i + j + k) % len(PLACES)]
                steps = Plan(network, seed).steps
                middle = 150 + 5 * (seed % 7)  # of different phase in windows of eight
                strikes = 0 if fault.moment == "start" else middle
                yield Case(group, network.name, fault.code, seed, steps, strikes, place)
                if fault.code in LATE and network.short and k == 0:
                    strikes = 1100 + 7 * (seed % 5)
                    yield Case(group, network.name, fault.code, seed, LONG, strikes, place)


def _some(group: str, turn: int, most: int, what: Situation | Fault) -> list[Network]:
    """Networks of a set that it fits, so many at most, beginning elsewhere for each."""
    fitting = [n for n in NETWORKS[group] if what.fits(n) and _has_place(n, what)]
    start = 3 * turn % len(fitting) if fitting else 0
    return [*fitting[start:], *fitting[:start]][:most]


def _has_place(network: Network, what: Situation | Fault) -> bool:
    """Whether there is a layer that the fault could strike."""
    return isinstance(what, Situation) or what.layer(skeleton(network), 0.5) is not None
