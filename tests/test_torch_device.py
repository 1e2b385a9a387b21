"""Tensors on a device: the same samples, gathered and kept there until they are settled.

Where there is no device, CPU tensors are sent down the device's path.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from shiftwatch.integrations.torch import device as device_module  # noqa: E402
from shiftwatch.integrations.torch import lanes, slab, watch, weights  # noqa: E402
from shiftwatch.integrations.torch.device import DevicePlan, DeviceShelf  # noqa: E402
from shiftwatch.integrations.torch.slab import Plan  # noqa: E402


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


def train(
    device: str = "cpu", dtype: Any = None, steps: int = 20, dropout: float = 0.1, **options: Any
) -> Any:
    """The monitor, closed, the final weights, and how tensors were sampled."""
    torch.manual_seed(0)
    model = Net().to(device)
    model.drop.p = dropout  # each device draws its own
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
        plans = {type(tap.plan) for tap in source.sites.taps if tap.plan is not None}
    return monitor, [p.detach().cpu() for p in model.state_dict().values()], plans


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have CPU tensors taken for a device's."""
    there = torch.device("cpu")
    monkeypatch.setattr(slab, "elsewhere", lambda tensor: there)
    monkeypatch.setattr(weights, "elsewhere", lambda tensor: there)


class Device:
    """Streams and events of a device that is behind: a copy is made when it comes to it.

    Stands in for ``torch.cuda``. Work on the current stream is done at once; what is put on
    another one is done ``lag`` looks at an event later, or when somebody waits for it.
    """

    def __init__(self, lag: int) -> None:
        self.lag, self.looks = lag, 0
        self.recording = False
        self.waits: list[str] = []  # who waited: the "host" or the "device"
        self.kept = 0
        self.main, self.sides = Stream(self), []
        self.Event = lambda: Event(self)

    def Stream(self, device: Any) -> Any:
        self.sides.append(Stream(self))
        return self.sides[-1]

    def current_stream(self, device: Any = None) -> Any:
        return self.main

    def is_current_stream_capturing(self) -> bool:
        return self.recording

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        with Deferring(stream):
            yield


class Stream:
    def __init__(self, device: Device) -> None:
        self.device, self.queue, self.done = device, [], 0

    def wait_event(self, event: Any) -> None:
        if self is self.device.main and not event.over():
            self.device.waits.append("device")
            event.reach()


class Event:
    def __init__(self, device: Device) -> None:
        self.device, self.stream, self.place, self.born = device, device.main, 0, 0

    def record(self, stream: Stream) -> None:
        self.stream, self.place, self.born = stream, len(stream.queue), self.device.looks

    def over(self) -> bool:
        return self.stream.done >= self.place

    def reach(self) -> None:
        while not self.over():
            self.stream.queue[self.stream.done]()
            self.stream.done += 1

    def query(self) -> bool:
        self.device.looks += 1
        if self.device.looks - self.born > self.device.lag:
            self.reach()
        return self.over()

    def synchronize(self) -> None:
        self.device.waits.append("host")
        self.reach()


class Deferring(TorchDispatchMode):
    """Puts copies into a stream's queue instead of making them."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.to = stream

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.copy_.default:
            assert args[2:] == (True,) or (kwargs or {}).get("non_blocking")
            self.to.queue.append(lambda: args[0].copy_(args[1]))
            return args[0]
        return func(*args, **(kwargs or {}))


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch, forced: None) -> Any:
    """A device with streams, whose copies take some looks."""

    def lagging(lag: int) -> Device:
        device = Device(lag)
        monkeypatch.setattr(lanes, "streams", lambda _: device)
        monkeypatch.setattr(lanes, "recording", lambda _: device.is_current_stream_capturing)

        def keep(tensor: Tensor, stream: Any) -> None:
            device.kept += 1

        monkeypatch.setattr(torch.Tensor, "record_stream", keep)
        return device

    return lagging


def same(one: Any, other: Any) -> None:
    """Two runs tell the same."""
    assert [s.key for s in one.sites] == [s.key for s in other.sites]
    assert len(one) == len(other) > 2
    for i in range(len(one)):
        a, b = one.summary(i), other.summary(i)
        np.testing.assert_array_equal(a.histogram.counts, b.histogram.counts)
        np.testing.assert_allclose(a.moments.mean, b.moments.mean, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("lag", [1, 3, 7, 12, 40])
def test_rings_that_come_home_late_tell_the_same(
    lag: int, behind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the delay, nothing is read before it is there, nor written over before."""
    with pytest.MonkeyPatch.context() as undo:
        undo.setattr(slab, "elsewhere", lambda tensor: None)
        undo.setattr(weights, "elsewhere", lambda tensor: None)
        direct, expected, plans = train(steps=44)
    assert plans == {Plan}
    device = behind(lag)
    lane, got, plans = train(steps=44)
    assert plans == {DevicePlan} and device.sides and device.kept
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    assert direct.steps == lane.steps == 44
    if lag < 4:
        same(direct.history, lane.history)
    one, other = whole(direct), whole(lane)  # what comes home together is one window
    assert one.count.any()
    np.testing.assert_array_equal(one.count, other.count)
    np.testing.assert_allclose(one.moments.mean, other.moments.mean, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(one.std, other.std, rtol=1e-5)


def whole(monitor: Any) -> Any:
    """One summary of a whole run, of what is not a single sample per window."""
    run = monitor.history
    found = [run.summary(i).padded(len(run.sites)) for i in range(len(run))]
    sites = [i for i, s in enumerate(run.sites) if s.tensor not in ("weight", "update")]
    return reduce(lambda a, b: a + b, found)[np.array(sites)]


def test_nobody_waits_for_a_device_before_the_end(behind: Any) -> None:
    """The host looks at events and waits for none but that of the last copy, at the end."""
    device = behind(6)
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer=optimizer, run=False, rules=(), strict=True) as monitor:
        for _ in range(37):
            loss = model(torch.randn(16, 1, 12, 12)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step()
            late = monitor._source._late  # type: ignore[attr-defined]
            assert late <= 16, "steps are measured at most 16 steps late"
        assert "host" not in device.waits
    assert device.waits.count("host") <= 2
    assert sum(len(w) for w in _steps(monitor)) == 37


def _steps(monitor: Any) -> list[range]:
    run = monitor.history
    return [range(a, b + 1) for a, b in zip(run.first, run.steps, strict=True)]


def test_a_device_far_behind_is_waited_for_on_the_device(behind: Any) -> None:
    """Where a half is written to again before its copy is made, the device waits, not the host."""
    device = behind(10_000)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 60), nn.Linear(60, 3))
    with watch(model, run=False, rules=(), strict=True, tensors=["output"]) as monitor:
        for _ in range(40):
            model(torch.randn(16, 40)).square().mean().backward()
            monitor.step()
        assert set(device.waits) == {"device"}
    assert sum(len(w) for w in _steps(monitor)) == 40


def test_running_statistics_come_home_a_window_later(behind: Any) -> None:
    """They are those of when the samples came home, some steps on."""
    here, _, _ = train(dropout=0.0)
    behind(3)
    there, _, _ = train(dropout=0.0)
    _, at_once = here.history.series("batchnorm_gap", "norm")
    _, later = there.history.series("batchnorm_gap", "norm")
    assert len(later) == len(at_once) - 1 > 0
    np.testing.assert_allclose(later, at_once[: len(later)], atol=0.03)


@pytest.mark.parametrize("lag", [0, 5])
def test_asking_in_the_middle_of_a_run_loses_nothing(lag: int, behind: Any) -> None:
    """What is under way is waited for; then all goes on, and every sample is counted once."""

    def run(asks: tuple[int, ...]) -> Any:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(40, 60), nn.BatchNorm1d(60), nn.Linear(60, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        with watch(model, optimizer=optimizer, run=False, rules=(), strict=True) as monitor:
            for step in range(30):
                out = model(torch.randn(16, 40))
                if step == 21 and step in asks:  # between a pass and its step
                    monitor.state_dict()
                out.square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
                monitor.step()
                if step in asks:
                    monitor.state_dict()
                    assert sum(len(w) for w in _steps(monitor)) == step + 1
                if step == 13:
                    model.eval()
                    model(torch.randn(16, 40))
                    model.train()
        return whole(monitor), monitor

    behind(lag)
    (plain, _), (asked, monitor) = run(()), run((3, 13, 14, 21))
    assert sum(len(w) for w in _steps(monitor)) == 30
    np.testing.assert_array_equal(plain.count, asked.count)
    np.testing.assert_allclose(plain.moments.mean, asked.moments.mean, rtol=1e-6, atol=1e-12)


class Watchful(TorchDispatchMode):
    """Notes operations for whose result a host would have to wait."""

    WAITING = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.met: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        mask = name == "index" and any(t is not None and t.dtype is torch.bool for t in args[1])
        if name in self.WAITING or mask:
            self.met.append(name)
        return func(*args, **(kwargs or {}))


def test_no_operation_is_asked_whose_result_a_host_waits_for(
    behind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first step on, with tensors that say that they are not on the CPU."""
    from shiftwatch import monitor as core

    monkeypatch.setattr(core, "loss_as_number", lambda loss: (math.nan, False))
    behind(3)
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, foreach=True)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        monkeypatch.setattr(torch.Tensor, "is_cpu", False)
        with Watchful() as mode:
            for step in range(40):
                loss = model(torch.randn(16, 1, 12, 12)).square().mean()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                monitor.step(loss=loss)
                if step == 19:
                    with torch.no_grad():
                        model(torch.randn(16, 1, 12, 12))
        assert monitor._source._late < 40  # type: ignore[attr-defined]
    assert mode.met == []
    with Watchful() as mode:  # what the test rests on
        torch.ones(3)[torch.ones(3, dtype=torch.bool)].sum().item()
    assert mode.met == ["index", "_local_scalar_dense"]


def test_what_would_pile_up_is_passed_over(behind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too much is under way, steps go by unseen: memory is bounded, and nothing is alleged."""
    behind(1)
    model = nn.Sequential(nn.Linear(40, 60), nn.Linear(60, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(0)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        for step in range(44):
            monkeypatch.setattr(device_module, "AHEAD", 0 if step == 23 else 8)
            model(torch.randn(16, 40)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step()
    run = monitor.history
    sites = [i for i, s in enumerate(run.sites) if s.tensor == "output"]
    seen = {int(a): run.summary(i).count[sites] for i, a in enumerate(run.first)}
    assert sum(len(w) for w in _steps(monitor)) == 44
    assert not seen[16].any() and seen[8].all() and seen[24].all()
    assert not [a for a in monitor.alerts if a.kind == "corruption"]


@pytest.mark.parametrize("lag", [0, 5])
def test_a_loss_on_a_device_is_recorded(
    lag: int, behind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its course is whole, and in its place, though nobody read it when it was given."""
    from shiftwatch import monitor as core

    monkeypatch.setattr(core, "loss_as_number", lambda loss: (math.nan, False))  # as on a device
    behind(lag)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    losses: list[float] = []
    reporters = [lambda report: losses.extend(report.losses)]
    with watch(model, run=False, reporters=reporters, strict=True) as monitor:
        for step in range(29):
            model(torch.randn(16, 8)).square().mean().backward()
            monitor.step(loss=None if step == 11 else torch.tensor(step / 2))
    expected = np.arange(29) / 2
    expected[11] = np.nan
    np.testing.assert_array_equal(losses, expected)


def test_a_loss_that_is_no_number_goes_dark(behind: Any, monkeypatch: Any) -> None:
    """What cannot be a loss is said to be none."""
    from shiftwatch import monitor as core

    monkeypatch.setattr(core, "loss_as_number", lambda loss: (math.nan, False))
    behind(0)
    model = nn.Sequential(nn.Linear(8, 8))
    with watch(model, run=False) as monitor:
        model(torch.randn(4, 8))
        monitor.step(loss=torch.zeros(2))
        assert "loss" in monitor.history.meta["dark"]


@pytest.mark.parametrize("where", ["output", "loss"])
def test_what_is_not_finite_is_named_when_it_comes_home(
    where: str, behind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sign bears the step at which it was, and the next step is looked at in full."""
    from shiftwatch import monitor as core

    monkeypatch.setattr(core, "loss_as_number", lambda loss: (math.nan, False))
    behind(4)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 1))
    with watch(model, run=False, strict=True) as monitor:
        monkeypatch.setattr(torch.Tensor, "is_cpu", False)
        for step in range(64):
            if step == 21 and where == "output":
                model[2].weight.data[3] = math.nan
            out = model(torch.randn(16, 8))
            loss = out.square().mean()
            monitor.step(loss=loss * math.nan if where == "loss" and step >= 21 else loss)
            found = [a for a in monitor.alerts if a.kind == "nonfinite"]
            assert not found or step >= 21
            if found:
                assert step <= 21 + 8, "a cause that was found is told before its ring is full"
                break
        looks = monitor._source.sweeper.looks  # type: ignore[attr-defined]
    found = [a for a in monitor.alerts if a.kind == "nonfinite"]
    assert found and found[0].step == 21
    assert looks >= 1
    if where == "output":
        assert found[0].layer == "2"


def test_what_becomes_part_of_a_graph_is_left_alone(
    behind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a graph is recorded nothing is launched, and that it is not seen is said once."""
    device = behind(0)
    reads = {False: 0, True: 0}
    for kind in (DevicePlan, DeviceShelf):

        def counted(self: Any, *arguments: Any, read: Any = kind.read) -> None:
            reads[device.recording] += 1
            read(self, *arguments)

        monkeypatch.setattr(kind, "read", counted)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        for step in range(24):
            device.recording = step == 9
            model(torch.randn(16, 8)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            device.recording = False
            if step > 9:  # as a replay would
                with torch.no_grad():
                    model[0].weight.data.add_(0.01)
            monitor.step()
    assert reads[False] and not reads[True]
    dark = monitor.history.meta["dark"]
    assert [k for k in dark if "CUDA graph" in dark[k]] == ["what is replayed"]
    assert not [a for a in monitor.alerts if a.kind == "corruption"]


@pytest.mark.parametrize("rest", [None, torch.device("cpu", 0)], ids=["here", "elsewhere"])
def test_a_model_that_is_spread_is_measured_as_a_whole(
    rest: Any, behind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over this machine's memory and a device, or over two: as it is without a device."""
    with pytest.MonkeyPatch.context() as undo:
        undo.setattr(slab, "elsewhere", lambda tensor: None)
        undo.setattr(weights, "elsewhere", lambda tensor: None)
        direct, _, _ = train(steps=44)
    device = behind(3)
    there = torch.device("cpu")

    def some(tensor: Tensor) -> Any:
        return there if tensor.shape[-1] == 600 else rest

    monkeypatch.setattr(slab, "elsewhere", some)
    monkeypatch.setattr(weights, "elsewhere", some)
    spread, _, plans = train(steps=44)
    assert plans == ({Plan, DevicePlan} if rest is None else {DevicePlan})
    assert len(device.sides) == (1 if rest is None else 2)
    same(direct.history, spread.history)


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


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture
def no_waiting() -> Iterator[Any]:
    """Waiting for the device is an error from the call on, until the test ends."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@cuda
def test_cuda_tensors_are_sampled_as_those_of_the_cpu() -> None:
    """The same net, the same data: means agree within what two devices round differently."""
    direct, _, _ = train(dropout=0.0)
    there, _, plans = train(device="cuda", dropout=0.0)
    assert [s.key for s in direct.history.sites] == [s.key for s in there.history.sites]
    assert plans == {DevicePlan}
    a, b = direct.history.summary(0), there.history.summary(0)
    np.testing.assert_array_equal(a.count, b.count)
    np.testing.assert_allclose(a.moments.mean, b.moments.mean, rtol=0.01, atol=0.002)
    np.testing.assert_allclose(a.std, b.std, rtol=0.01, atol=0.002)


@cuda
@pytest.mark.parametrize("half", [False, True])
def test_nothing_waits_for_cuda_while_it_trains(half: bool, no_waiting: Any) -> None:
    """Forty steps as users watch them, the first included, and not one synchronisation."""
    torch.manual_seed(0)
    model = Net().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = torch.randn(16, 1, 12, 12, device="cuda")
    monitor = watch(model, optimizer=optimizer, run=False, strict=True)
    torch.cuda.synchronize()
    no_waiting()
    for _ in range(40):
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            loss = model(data).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        monitor.step(loss=loss)
    torch.cuda.set_sync_debug_mode("default")
    monitor.close()
    assert np.isfinite(monitor.history.losses).all() and monitor.history.losses.size
    assert not monitor.history.meta.get("dark")


@cuda
def test_copies_from_cuda_go_into_page_locked_memory() -> None:
    """Else each of them would wait."""
    lane = lanes.Lane(torch.device("cuda", torch.cuda.current_device()))
    mirror = lanes.Mirror(lane, (1, 8, 3, 5), torch.float32)
    mirror.now.fill_(2.0)
    trip = lane.ship([(mirror, [lanes.Span(0, 0, 8)])], swap=True)
    mirror.now.fill_(3.0)
    assert all(host.is_pinned() for host in trip.hosts)
    trip.wait()
    assert trip.over() and bool((trip.hosts[0] == 2.0).all())
    there, (sent, locked) = lane.upload(np.arange(7))
    assert locked.is_pinned()
    sent.synchronize()
    assert there.is_cuda and there.tolist() == list(range(7))


@cuda
def test_weights_and_outputs_on_cuda_are_the_same_watched_or_not() -> None:
    """To the last bit."""

    def final(watched: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 8)).cuda()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        data = torch.randn(32, 64, device="cuda")
        monitor = watch(model, optimizer=optimizer, run=False, strict=True) if watched else None
        for _ in range(20):
            loss = model(data).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if monitor is not None:
                monitor.step(loss=loss)
        if monitor is not None:
            monitor.close()
        return [p.detach().cpu() for p in model.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(final(False), final(True), strict=True))


@cuda
def test_code_compiled_for_fewer_launches_is_seen_on_cuda() -> None:
    """mode="reduce-overhead" records graphs: what hooks see stays outside of them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 8)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    data = torch.randn(32, 64, device="cuda")
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        run = torch.compile(model, mode="reduce-overhead")
        for step in range(24):
            torch.compiler.cudagraph_mark_step_begin()
            loss = run(data * (1 + step)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step(loss=loss)
    run_ = monitor.history
    sites = [i for i, s in enumerate(run_.sites) if (s.layer, s.tensor) == ("0", "output")]
    rms = [float(np.nanmax(run_.summary(i).std[sites])) for i in range(len(run_))]
    assert rms == sorted(rms) and rms[-1] > 2 * rms[0]  # each replay is seen with its values


@cuda
def test_a_recorded_cuda_graph_is_left_alone() -> None:
    """A whole step is recorded and replayed: it is said what is not seen, and weights are seen."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 8)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    data = torch.randn(32, 64, device="cuda")
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:

        def step() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss = model(data).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                monitor.step(loss=step())
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = step()
        for _ in range(30):
            graph.replay()
            monitor.step(loss=loss)
    dark = monitor.history.meta["dark"]
    assert any("CUDA graph" in reason for reason in dark.values())
    assert not [a for a in monitor.alerts if a.kind == "corruption"]
    assert np.isfinite(monitor.history.losses).all()
