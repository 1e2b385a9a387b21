"""Gradients that are never cleared, and all the ways in which they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from shiftwatch.integrations.torch import watch  # noqa: E402
from shiftwatch.monitor import Monitor  # noqa: E402

Turn = Callable[[int, nn.Module, Any, Callable[[], Any]], None]


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4))


def train(turn: Turn, steps: int = 40, lr: float = 0.02, kind: Any = torch.optim.SGD) -> Monitor:
    """``turn`` makes one optimizer step of what it is given: step, model, optimizer, loss."""
    net = model()
    optimizer = kind(net.parameters(), lr=lr)
    data = torch.Generator().manual_seed(1)
    rule = torch.randn(20, 4, generator=data)

    def loss() -> Any:
        inputs = torch.randn(32, 20, generator=data)
        return nn.functional.cross_entropy(net(inputs), (inputs @ rule).argmax(1))

    with watch(net, optimizer=optimizer, run=False, strict=True) as monitor:
        for step in range(steps):
            turn(step, net, optimizer, loss)
            monitor.step()
    return monitor


def told(monitor: Monitor) -> list[str]:
    """Events and alerts on it."""
    events = [e.kind for e in monitor.history.events if e.kind == "gradients"]
    return events + [a.kind for a in monitor.alerts if "not cleared" in a.message]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_gradients_that_are_never_cleared_are_found(kind: Any) -> None:
    def turn(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
        loss().backward()
        optimizer.step()

    monitor = train(turn, kind=kind)
    alert = monitor.alerts[0]
    assert (alert.kind, alert.layer, alert.origin) == ("update", "0", "0")
    assert (alert.severity, alert.step) == ("critical", 1) and alert.detected <= 8
    assert "is zero_grad() missing?" in alert.message


def test_gradients_that_are_no_longer_cleared_are_found_and_dated() -> None:
    def turn(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
        if step < 25:
            optimizer.zero_grad(set_to_none=False)
        loss().backward()
        optimizer.step()

    alerts = [a for a in train(turn).alerts if "not cleared" in a.message]
    assert [(a.kind, a.step) for a in alerts] == [("update", 25)] and alerts[0].detected <= 31


def zeroed(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
    optimizer.zero_grad(set_to_none=False)
    loss().backward()
    optimizer.step()


def late(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
    value = loss()
    net.zero_grad(set_to_none=False)
    value.backward()
    optimizer.step()


def dropped(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
    loss().backward()
    optimizer.step()
    optimizer.zero_grad()


def by_hand(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
    for parameter in net.parameters():
        if parameter.grad is not None:
            parameter.grad.detach_()
            parameter.grad.zero_()
    loss().backward()
    optimizer.step()


def behind_autograd(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
    for parameter in net.parameters():
        if parameter.grad is not None:
            parameter.grad.data.zero_()
    loss().backward()
    optimizer.step()


def accumulated(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
    optimizer.zero_grad(set_to_none=False)
    for _ in range(4):
        (loss() / 4).backward()
    optimizer.step()


def two_in_one(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
    optimizer.zero_grad(set_to_none=False)
    (loss() + loss()).backward()
    optimizer.step()


def one_in_two(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
    optimizer.zero_grad(set_to_none=False)
    value = loss()
    value.backward(retain_graph=True)
    value.backward()
    optimizer.step()


def clipped(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
    optimizer.zero_grad(set_to_none=False)
    loss().backward()
    nn.utils.clip_grad_norm_(net.parameters(), 0.01)
    nn.utils.clip_grad_value_(net.parameters(), 0.001)
    optimizer.step()


def scaled(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
    optimizer.zero_grad(set_to_none=False)
    (loss() * 1024).backward()
    for parameter in net.parameters():
        assert parameter.grad is not None
        parameter.grad.div_(1024)
    optimizer.step()


def in_turns(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
    """An optimizer step after every second backward pass, a monitor's after each."""
    loss().backward()
    if step % 2:
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def evaluated(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
    zeroed(step, net, optimizer, loss)
    net.eval()
    with torch.no_grad():
        loss()
    net.train()


CLEARED = (
    zeroed, late, dropped, by_hand, behind_autograd, accumulated, two_in_one, one_in_two, clipped,
    scaled, in_turns, evaluated,
)  # fmt: skip


@pytest.mark.parametrize("turn", CLEARED, ids=lambda turn: turn.__name__)
def test_gradients_that_are_cleared_are_healthy(turn: Turn) -> None:
    assert told(train(turn)) == []


def test_an_optimizer_with_a_closure_is_not_misread() -> None:
    def turn(step: int, net: nn.Module, optimizer: Any, loss: Callable[[], Any]) -> None:
        def closure() -> Any:
            optimizer.zero_grad(set_to_none=False)
            value = loss()
            value.backward()
            return value

        optimizer.step(closure)

    assert told(train(turn)) == []


@pytest.mark.parametrize("part", [0, 2])
def test_gradients_that_no_optimizer_uses_may_pile(part: int) -> None:
    """One layer learns alone; its optimizer clears no other's. Found to be called uncleared."""
    net = model()
    optimizer = torch.optim.SGD(net[part].parameters(), lr=0.02)
    with watch(net, optimizer=optimizer, run=False, strict=True) as monitor:
        for _ in range(40):
            optimizer.zero_grad()
            net(torch.randn(32, 20)).square().mean().backward()
            optimizer.step()
            monitor.step()
    assert told(monitor) == []
