"""Tensors on a device: the same samples, gathered and kept there until they are settled.

Where there is no device, CPU tensors are sent down the device's path.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

from shiftwatch.integrations.torch import slab, watch, weights  # noqa: E402
from shiftwatch.integrations.torch.slab import DevicePlan, Plan  # noqa: E402
from shiftwatch.integrations.torch.weights import DeviceShelf  # noqa: E402


class Net(nn.Module):
    """Layers called once and twice, of two lengths, with BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.shared, self.drop = nn.Linear(600, 600), nn.Dropout(0.1)
        self.head = nn.Linear(600, 3)

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.norm(self.conv(x))).flatten(1)[:, :600]
        return self.head(self.shared(torch.tanh(self.drop(self.shared(x)))))


def train(device: str = "cpu", dtype: Any = None, steps: int = 20, **options: Any) -> Any:
    """The monitor, closed, the final weights, and how tensors were sampled."""
    torch.manual_seed(0)
    model = Net().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = torch.Generator().manual_seed(1)
    with watch(model, optimizer=optimizer, run=False, rules=(), strict=True, **options) as monitor:
        for step in range(steps):
            x = torch.randn(16, 1, 12, 12, generator=data).to(device)
            with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None):
                loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step()
            if step == 9:
                model.eval()
                with torch.no_grad():
                    model(x)
                model.train()
        source: Any = monitor._source  # type: ignore[attr-defined]
        plans = {type(tap.plan) for tap in source._taps if tap.plan is not None}
    return monitor, [p.detach().cpu() for p in model.state_dict().values()], plans


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have CPU tensors taken for a device's."""
    there = torch.device("cpu")
    monkeypatch.setattr(slab, "elsewhere", lambda tensor: there)
    monkeypatch.setattr(weights, "elsewhere", lambda tensor: there)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_devices_path_tells_what_the_direct_one_tells(
    dtype: Any, request: pytest.FixtureRequest
) -> None:
    """Every window's summaries are equal to the last bit, and so are the trained weights."""
    direct, expected, plans = train(dtype=dtype)
    assert plans == {Plan}
    request.getfixturevalue("forced")
    lane, got, plans = train(dtype=dtype)
    assert plans == {DevicePlan}
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    one, other = direct.history, lane.history
    assert [s.key for s in one.sites] == [s.key for s in other.sites]
    assert len(one) == len(other) > 2
    for i in range(len(one)):
        a, b = one.summary(i), other.summary(i)
        np.testing.assert_array_equal(a.histogram.counts, b.histogram.counts)
        np.testing.assert_allclose(a.moments.mean, b.moments.mean, rtol=1e-6, atol=1e-12)


@pytest.mark.usefixtures("forced")
def test_parameters_on_a_device_show_who_changed_them() -> None:
    """An update is the optimizer's; a change between steps is somebody else's."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 60), nn.Linear(60, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        for step in range(64):
            if step == 40:
                with torch.no_grad():
                    model[0].weight.mul_(-3.0)
            model(torch.randn(16, 40)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step()
        shelves = monitor._source._weights.shelves  # type: ignore[attr-defined]
        assert [type(s) for s in shelves] == [DeviceShelf]
    found = [a for a in monitor.alerts if a.kind == "corruption"]
    assert found and (found[0].layer, found[0].step) == ("0", 40)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_cuda_tensors_are_sampled_as_those_of_the_cpu() -> None:
    """The same net, the same data: means agree within what two devices round differently."""
    direct, _, _ = train()
    there, _, plans = train(device="cuda")
    assert [s.key for s in direct.history.sites] == [s.key for s in there.history.sites]
    assert plans == {DevicePlan}
    a, b = direct.history.summary(0), there.history.summary(0)
    np.testing.assert_allclose(a.moments.mean, b.moments.mean, rtol=0.05, atol=0.05)
