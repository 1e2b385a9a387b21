"""Steps that are left out: hooks come off, come back, and see what they saw before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from shiftwatch import Monitor
from shiftwatch.integrations.torch import exact, watch


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.TransformerEncoderLayer(32, 2, 32, dropout=0.0),
        nn.Linear(32, 4),
    )  # fmt: skip


def train(model: nn.Module, monitor: Monitor | None, steps: int, call: Any = None) -> list[bool]:
    """Whether hooks were on, step by step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.manual_seed(1)
    hooked = []
    for _ in range(steps):
        hooked.append(any(m._forward_hooks for m in model.modules()))
        loss = (call or model)(torch.randn(16, 8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if monitor is not None:
            monitor.step(loss=loss)
    return hooked


def test_hooks_are_on_in_watched_steps_alone() -> None:
    model = net()
    with watch(model, run=False, every=20, strict=True) as monitor:
        hooked = train(model, monitor, 100)
    assert [i for i, on in enumerate(hooked) if on] == [0, 20, 40, 60, 80]
    run = monitor.history
    assert (run.first[0], run.steps[-1]) == (0, 80)


def test_where_few_steps_are_left_out_hooks_stay() -> None:
    model = net()
    with watch(model, run=False, every=4, strict=True) as monitor:
        assert all(train(model, monitor, 40))
    assert not any(train(model, None, 1)), "closed"


def test_what_is_seen_in_a_step_does_not_hang_on_those_left_out() -> None:
    """Outputs, inputs, gradients and weights of watched steps have the same sites either way."""
    seen = []
    for every in (1, 16):
        model = net()
        with watch(model, run=False, every=every, strict=True) as monitor:
            train(model, monitor, 129)
        seen.append({s.key for s in monitor.history.sites})
        assert monitor.alerts == []
    assert seen[0] == seen[1]


@pytest.mark.parametrize("options", [{"every": 16}, {"budget": 0.01}])
def test_leaving_steps_out_changes_nothing_in_the_training(options: dict[str, Any]) -> None:
    plain, watched = net(), net()
    train(plain, None, 60)
    with watch(watched, run=False, strict=True, **options) as monitor:
        train(watched, monitor, 60)
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in watched.modules())


def test_a_budget_takes_the_hooks_off_and_brings_them_back() -> None:
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    with watch(model, run=False, budget=0.001, strict=True) as monitor:
        hooked = train(model, monitor, 400)
        assert all(hooked[:8]), "the first window is seen in whole"
        assert sum(hooked) < 60
        monitor._pace._need = 0.0  # as if all were paid back
        again = train(model, monitor, 200)
        assert any(again)


def test_compiled_code_keeps_its_hooks() -> None:
    """Without them it would be compiled anew each time."""
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    with watch(model, run=False, every=20, strict=True) as monitor:
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        with torch.compiler.set_stance("default"):
            assert all(train(model, monitor, 60, call=compiled))
    assert int(monitor.history.summary(0).count[0]) > 0


def test_exact_counts_in_the_coming_step_whoever_rests() -> None:
    model = net()
    with watch(model, run=False, every=50, strict=True) as monitor:
        train(model, monitor, 60)
        found = exact(monitor, "1")
        train(model, monitor, 1)
    assert found["1"].count == 16 * 32


def test_tampering_is_not_imagined_between_watched_steps() -> None:
    """Updates of the steps left out are the optimizer's."""
    model = net()
    with watch(model, run=False, every=3, strict=True) as monitor:
        train(model, monitor, 120)
    assert monitor.alerts == []
    assert len(monitor.history) == 5, "no step had to be judged by itself"
