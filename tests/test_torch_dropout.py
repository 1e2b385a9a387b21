"""Dropouts that let less and less through, and schedules."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from shiftwatch.integrations.torch import watch  # noqa: E402
from shiftwatch.records import Alert  # noqa: E402


def train(p: Callable[[int], float], kind: type[nn.Module] = nn.Dropout) -> list[Alert]:
    """Alerts on what passes a dropout, whose p follows a function of the step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), kind(), nn.Linear(64, 4))
    data = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    rule = torch.randn(20, 4, generator=data)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        for step in range(160):
            model[2].p = p(step)
            inputs = torch.randn(48, 20, generator=data)
            loss = nn.functional.cross_entropy(model(inputs), (inputs @ rule).argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
    return [a for a in monitor.alerts if a.metric == "passed"]


def test_a_dropout_that_grows_is_found_and_is_the_origin() -> None:
    """By a fiftieth per step: no single step is unusual."""
    (alert,) = train(lambda step: min(0.98, 0.2 + max(0, step - 80) / 50))
    assert (alert.layer, alert.origin, alert.kind) == ("2", "2", "distribution_shift")
    assert 80 <= alert.step and alert.detected <= 128


@pytest.mark.parametrize("last", [0.0, 0.5])
def test_a_dropout_that_follows_a_schedule_is_healthy(last: float) -> None:
    """From nothing to half, or from a quarter to nothing."""
    first = 0.25 if last == 0 else 0.0
    assert train(lambda step: first + (last - first) * min(1.0, step / 120)) == []


def test_zeros_of_the_activation_are_not_the_dropouts() -> None:
    """Of an alpha dropout, which puts another number in their place, no zeros come."""
    assert train(lambda step: 0.1 if step < 80 else 0.9, kind=nn.AlphaDropout) == []
