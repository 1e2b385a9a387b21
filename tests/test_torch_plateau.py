"""Nets through which no signal passes, beside those that only take their time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from shiftwatch.integrations.torch import watch  # noqa: E402
from shiftwatch.monitor import Monitor  # noqa: E402
from shiftwatch.records import Alert  # noqa: E402
from shiftwatch.rules import Plateau  # noqa: E402


def stack(activation: Callable[[], nn.Module], depth: int = 4, out: int = 4) -> nn.Sequential:
    """Hidden layers of 48 units, one behind the other."""
    widths = [20, *[48] * depth]
    hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), activation())]
    return nn.Sequential(*hidden, nn.Linear(48, out))


class Training:
    """A little net that learns which of four directions its input points to."""

    def __init__(self, model: Callable[[], nn.Module], lr: float = 0.05, size: int = 48) -> None:
        torch.manual_seed(0)
        self.model, self.size, self.step = model(), size, 0
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9)
        self.data = torch.Generator().manual_seed(1)
        self.rule = torch.randn(20, 4, generator=self.data)

    def watch(self, **options: Any) -> Monitor:
        return watch(self.model, optimizer=self.optimizer, run=False, strict=True, **options)

    def go(self, monitor: Monitor, until: int) -> None:
        for _ in range(self.step, until):
            x = torch.randn(self.size, 20, generator=self.data)
            loss = self.loss(x)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            monitor.step(loss=loss)
        self.step = until

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(self.model(x), (x @ self.rule).argmax(1))


class Offset(Training):
    """Values around a thousand, from weights that were trained already."""

    def __init__(self) -> None:
        super().__init__(lambda: stack(nn.ReLU, 2, 1), lr=1e-3)
        with torch.no_grad():
            self.model[-1].bias.fill_(1000.0)  # type: ignore[index, union-attr]
        self.teacher = stack(nn.ReLU, 2, 1)
        self.teacher.load_state_dict(self.model.state_dict())

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        target = self.teacher(x).detach() + torch.randn(len(x), 1, generator=self.data)
        return nn.functional.mse_loss(self.model(x), target)


def alerts(training: Training, steps: int = 112) -> list[Alert]:
    with training.watch(rules=[Plateau()]) as monitor:
        training.go(monitor, steps)
    return monitor.alerts


@pytest.mark.parametrize("depth", [4, 6])
def test_sigmoids_that_let_no_signal_through_are_told(depth: int) -> None:
    """At the layer from which on samples are alike."""
    (alert,) = alerts(Training(lambda: stack(nn.Sigmoid, depth)))
    assert (alert.kind, alert.severity, alert.step) == ("collapse", "warning", 0)
    assert 0 < int(alert.layer) < 2 * depth + 1 and alert.detected < 128


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU])
def test_nets_that_learn_are_left_alone(activation: Callable[[], nn.Module]) -> None:
    """Of the same depth, at the same rate."""
    assert alerts(Training(lambda: stack(activation))) == []


def test_a_rate_at_which_nothing_is_learnt_yet_is_no_plateau() -> None:
    """As in a long warm-up: the weights have hardly moved."""
    assert alerts(Training(lambda: stack(nn.Sigmoid), lr=1e-4)) == []
    assert alerts(Training(lambda: stack(nn.ReLU), lr=1e-5)) == []


def test_a_net_of_which_a_part_is_frozen_is_left_alone() -> None:
    """What it may learn is not known from what the rest could have."""

    def partly() -> nn.Sequential:
        model = stack(nn.Sigmoid)
        model[0].requires_grad_(False)
        return model

    assert alerts(Training(partly)) == []


def test_batches_of_one_are_not_judged() -> None:
    """One sample is always like itself."""
    assert alerts(Training(lambda: stack(nn.Sigmoid), size=1)) == []


def test_a_trained_model_at_its_floor_is_left_alone() -> None:
    """Its loss stands, its outputs are a thousand each; what feeds them is not alike."""
    assert alerts(Offset()) == []


def test_a_plateau_is_found_after_a_resume_as_without_one() -> None:
    """What was seen before goes on in the state."""
    whole = alerts(Training(lambda: stack(nn.Sigmoid)))
    training = Training(lambda: stack(nn.Sigmoid))
    with training.watch(rules=[Plateau()]) as first:
        training.go(first, 40)
        state = first.state_dict()
    with training.watch(rules=[Plateau()]) as second:
        second.load_state_dict(state)
        training.go(second, 112)
    assert [(a.layer, a.kind, a.step) for a in second.alerts] == [
        (a.layer, a.kind, a.step) for a in whole
    ]
