"""Sums that lose an addend, and branches that come and go by design."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from shiftwatch.integrations.torch import watch  # noqa: E402
from shiftwatch.monitor import Monitor  # noqa: E402

STRIKES, STEPS = 80, 128


class Residual(nn.Module):
    """Blocks with ways around them; the second's has a weight, and so has its branch."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(20, 32)
        self.first = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32))
        self.second = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32))
        self.head = nn.Linear(32, 4)
        self.shortcut = self.branch = 1.0
        with torch.no_grad():
            self.second[2].weight.mul_(4)  # type: ignore[operator]

    def forward(self, x: Any) -> Any:
        x = self.into(x)
        x = x + self.first(x)
        x = self.shortcut * x + self.branch * self.second(x)
        return self.head(x)


def train(**weights: Any) -> Monitor:
    """A training in which the weights of shortcut and branch follow functions of the step."""
    torch.manual_seed(0)
    model, data = Residual(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    rule = torch.randn(20, 4, generator=data)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        for step in range(STEPS):
            for name, weight in weights.items():
                setattr(model, name, weight(step))
            inputs = torch.randn(64, 20, generator=data)
            loss = nn.functional.cross_entropy(model(inputs), (inputs @ rule).argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
    return monitor


def equal(monitor: Monitor) -> list[tuple[str, int, int]]:
    return [(a.layer, a.step, a.detected) for a in monitor.alerts if a.metric == "equal_steps"]


def test_a_shortcut_that_is_gone_is_found_where_it_ended() -> None:
    """What enters the head is what the branch gives, to the last bit."""
    monitor = train(shortcut=lambda step: 0.0 if step >= STRIKES else 1.0)
    ((layer, step, detected),) = equal(monitor)
    assert (layer, step) == ("head", STRIKES) and detected <= STRIKES + 24
    assert "second.2" in next(a.message for a in monitor.alerts if a.metric == "equal_steps")


def test_a_shortcut_of_half_the_weight_is_no_loss() -> None:
    """A sum is a sum, whatever its weights."""
    assert equal(train(shortcut=lambda step: 0.5 if step >= STRIKES else 1.0)) == []


def test_a_branch_that_begins_at_zero_is_healthy() -> None:
    """It is equal to the shortcut at first, and never again."""
    assert train(branch=lambda step: min(1.0, max(0, step - 20) / 64)).alerts == []


def test_branches_that_are_left_out_now_and_then_are_healthy() -> None:
    """Stochastic depth; the longest row of such steps so far is the usual."""
    assert equal(train(branch=lambda step: 0.0 if step % 10 < 3 else 1.0)) == []
