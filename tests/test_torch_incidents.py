"""Two faults in one training: the second is found as if it were alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from shiftwatch import Alert  # noqa: E402
from shiftwatch.integrations.torch import watch  # noqa: E402
from shiftwatch.records import INPUT  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Nets this small only lose by sharing their work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Branched(nn.Module):
    """Two branches that see the same, and a sum of what they say."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(20, 48)
        self.left, self.right = nn.Linear(48, 48), nn.Linear(48, 48)
        self.head_left, self.head_right = nn.Linear(48, 4), nn.Linear(48, 4)
        self.gain = 1.0

    def forward(self, x: Any) -> Any:
        x = self.stem(x).relu()
        left, right = self.left(x).relu(), self.right(x).relu() * self.gain
        return self.head_left(left) + self.head_right(right)


class Training:
    """What a fault may lay its hands on."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = Branched()
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)
        self.x = torch.zeros(0)


Fault = Callable[[Training, int], None]


def scaled(name: str) -> Fault:
    """Weights times five, once."""

    def act(training: Training, since: int) -> None:
        if since == 0:
            training.model.get_submodule(name).weight.data.mul_(5)

    return act


def louder(training: Training, since: int) -> None:
    """What the right branch says is five times as large, and no weight tells."""
    training.model.gain = 5.0


def brighter(training: Training, since: int) -> None:
    training.x = training.x * 4 + 3


def missing(training: Training, since: int) -> None:
    """One weight is not a number."""
    if since == 0:
        training.model.head_right.weight.data[0, 0] = math.nan


def left_out(training: Training, since: int) -> None:
    """The stem leaves the optimizer."""
    if since == 0:
        mine = {id(p) for p in training.model.stem.parameters()}
        group = training.optimizer.param_groups[0]
        group["params"] = [p for p in group["params"] if id(p) not in mine]


def train(faults: dict[int, Fault], steps: int = 170) -> list[Alert]:
    """Alerts of a training with faults, each from its step on."""
    training, rows = Training(), torch.Generator().manual_seed(1)
    rule = torch.randn(20, 4, generator=rows)
    with watch(training.model, optimizer=training.optimizer, run=False, strict=True) as monitor:
        for step in range(steps):
            training.x = torch.randn(64, 20, generator=rows)
            y = (training.x @ rule).argmax(1)
            for begin, fault in faults.items():
                if step >= begin:
                    fault(training, step - begin)
            loss = nn.functional.cross_entropy(training.model(training.x), y)
            training.optimizer.zero_grad()
            loss.backward()
            training.optimizer.step()
            monitor.step(loss=loss)
    return monitor.alerts


#: The second fault: where it should be found, by which kinds, and within how many steps.
SECOND = {
    "weights of the other branch": (scaled("right"), "right", {"corruption"}, 1),
    "weights of the stem": (scaled("stem"), "stem", {"corruption"}, 1),
    "weights behind it": (scaled("head_left"), "head_left", {"corruption"}, 1),
    "the other branch's operation": (louder, "right", {"variance_shift", "exploding"}, 4),
    "the data": (brighter, INPUT, {"mean_shift", "variance_shift", "distribution_shift"}, 4),
    "a weight that is no number": (missing, "head_right", {"nonfinite", "corruption"}, 1),
    "parameters left out": (left_out, "stem", {"frozen"}, 48),
}


PAIRS = [(second, 10) for second in SECOND]
PAIRS += [("weights behind it", 4), ("the data", 4), ("the data", 40)]


@pytest.mark.parametrize(("second", "delay"), PAIRS)
def test_a_second_fault_is_found_though_an_incident_is_open(second: str, delay: int) -> None:
    """Found silent to the end of the run where it came 4 to 40 steps after the first."""
    fault, origin, kinds, patience = SECOND[second]
    alerts = train({80: scaled("left"), 80 + delay: fault})
    (first, *_) = alerts
    assert (first.kind, first.origin, first.incident) == ("corruption", "left", 1)
    found = [a for a in alerts if a.origin == origin and a.kind in kinds]
    assert found and found[0].incident > 1
    assert 80 + delay <= found[0].detected <= 80 + delay + patience


@pytest.mark.parametrize("name", ["stem", "left", "head_right"])
def test_a_single_fault_stays_a_single_incident(name: str) -> None:
    """Whatever it does to the rest of the network."""
    alerts = train({80: scaled(name)})
    assert {(a.incident, a.origin) for a in alerts} == {(1, name)}
