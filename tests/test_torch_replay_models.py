"""Replays of models that do not make it easy: they work, or say why not; training is the same."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shiftwatch.integrations.torch import watch
from shiftwatch.integrations.torch.probe import unfit
from shiftwatch.monitor import Monitor
from shiftwatch.records import INPUT, Report
from tests.processes import together
from tests.test_torch_replay import chain, fresh, strike, train


class Pair(nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(20, 20, bias=False), nn.Linear(20, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.fc(x)))


class Noise(nn.Module):
    """Throws dice of its own, of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.dice, self.python = torch.Generator().manual_seed(3), random.Random(3)
        self.numpy, self.old = np.random.default_rng(3), np.random.RandomState(3)

    def forward(self, x: Tensor) -> Tensor:
        more = self.python.random() + self.numpy.random() + self.old.random_sample()
        return x + torch.rand(x.shape, generator=self.dice) + float(more)


class Noisy(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.noise = Noise()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.noise(self.fc(x))))


class Checkpointed(nn.Module):
    """Inner layers are run again in the backward pass."""

    reentrant = False

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(20, 32), nn.Linear(32, 4)
        self.inner = nn.Sequential(nn.Linear(32, 32), nn.ReLU(inplace=True), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(
            self.head(checkpoint(self.inner, self.fc(x), use_reentrant=self.reentrant))
        )


class Reentrant(Checkpointed):
    reentrant = True


class Inferred(Pair):
    """A frozen part in inference mode, where nobody counts what is written."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            x = torch.relu_(self.fc(x))
        return torch.as_tensor(self.head(x.clone()))


class Half(Pair):
    """Autocast inside of the forward: what enters the head is of half precision, its weights are not."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.as_tensor(self.head(self.fc(x)).float())


class Remembering(Pair):
    """Hands a tensor from pass to pass."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        self.mean = 0.9 * self.mean + x.detach().mean(0)
        return torch.as_tensor(self.head(x + self.mean))


class Named(Pair):
    """Layers that are called with names."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(input=self.fc(input=x)))


def compiled() -> nn.Module:
    model = chain()
    model.compile(backend="eager")
    return model


EASY = (Noisy, Checkpointed, Reentrant, Inferred, Half, Remembering, Named, compiled)


@pytest.mark.parametrize("options", [{}, {"every": 10}, {"budget": 0.05}], ids=str)
@pytest.mark.parametrize("kind", EASY)
def test_training_is_the_same_and_each_layer_is_replayed(
    kind: Callable[[], nn.Module], options: dict[str, Any]
) -> None:
    _, expected = train(fresh(kind), lr=0.002, watching=False)
    model = fresh(kind)
    monitor, got = train(model, lr=0.002, **options)
    found = monitor.replay()
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    leaves = {name for name, part in model.named_modules() if not list(part.children())}
    assert {*found.layers} - {INPUT} == leaves and found.left_out == ()
    assert found.step == 40 and found.reference > 0


@pytest.mark.parametrize("kind", EASY)
def test_nothing_is_its_own_where_no_weight_moved(kind: Callable[[], nn.Module]) -> None:
    """Not with dice of their own, nor in half precision."""
    monitor, _ = train(fresh(kind), lr=0.0, rules=())
    found = monitor.replay()
    assert len(found.layers) > 1 and not found.own.any()


class Renormed(nn.Module):
    """Its forward writes into its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(10, 8, max_norm=0.5), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.table((x[:, :3] * 2).long() % 10).mean(1)))


class Averaging(Pair):
    """Its forward writes into a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        self.mean.mul_(0.9).add_(x.detach().mean(0))
        return torch.as_tensor(self.head(x + self.mean))


@pytest.mark.parametrize(
    ("kind", "what"), [(Renormed, "table.weight"), (Averaging, r"mean \(mul_\)")]
)
def test_what_a_forward_writes_where_no_copy_is_ends_replays_before_it_is_written(
    kind: type[nn.Module], what: str
) -> None:
    model = fresh(kind)
    _, expected = train(model, watching=False)
    kept = getattr(model, "mean", torch.zeros(0))
    model = fresh(kind)
    monitor, got = train(model)
    with pytest.raises(LookupError, match=f"writes into {what}"):
        monitor.replay()
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    assert torch.equal(getattr(model, "mean", torch.zeros(0)), kept)


def test_a_layer_inside_of_a_function_transform_is_left_out_by_name() -> None:
    class Mapped(Pair):
        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(torch.vmap(self.head)(self.fc(x)))

    monitor, _ = train(fresh(Mapped))
    found = monitor.replay()
    assert found.layers == ("fc",)
    assert found.left_out == (("head", "it is called inside of a function transform"),)


def test_a_batch_whose_samples_refer_to_each_other_is_kept_whole() -> None:
    """The edges of a graph are places in all of its nodes."""

    class Graph(Pair):
        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            return torch.as_tensor(self.head(self.fc(x)[edges[0]] + x[edges[1]]))

    model = fresh(Graph)
    edges = torch.stack([torch.arange(100), torch.arange(99, -1, -1)])
    with watch(model, run=False, strict=True, replay=2) as monitor:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(12):
            model(torch.randn(100, 20), edges).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step()
        assert (monitor.replay().own[1:] > 0).all()
        (reference, *_) = monitor._source._replayer._ring  # type: ignore[attr-defined]
    assert len(reference.calls["fc"][0].args[0]) == 100


def test_of_several_passes_in_a_step_the_first_is_compared_with_the_first() -> None:
    """As a discriminator is shown what is real, then what is not: its input has not moved."""
    model = fresh(Pair)
    with watch(model, run=False, strict=True, rules=(), replay=2) as monitor:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(40):
            real, fake = torch.randn(40, 20), 9 * torch.randn(40, 20)
            (model(real).square().mean() + model(fake).square().mean() * 0.01).backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step()
        found = monitor.replay()
    assert found.layers[0] == INPUT and found.own[0] < 1


def test_two_models_are_replayed_side_by_side() -> None:
    """One replays while the graph of the other waits for its backward pass; neither is disturbed."""

    def run(replay: int | None) -> tuple[list[Tensor], list[Monitor]]:
        first, second = fresh(Noisy), fresh(Checkpointed)
        optimizers = [torch.optim.SGD(m.parameters(), lr=0.05) for m in (first, second)]
        torch.manual_seed(1)
        options = {"run": False, "strict": True, "rules": (), "replay": replay}
        monitors = [
            watch(m, optimizer=o, **options)
            for m, o in zip((first, second), optimizers, strict=True)
        ]
        for _ in range(40):
            x = torch.randn(40, 20)
            losses = [first(x).square().mean(), second(x).square().mean()]
            for loss, optimizer, monitor in zip(losses, optimizers, monitors, strict=True):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.step(loss=loss)
        return [*first.state_dict().values(), *second.state_dict().values()], monitors

    expected, _ = run(None)
    got, monitors = run(3)
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    named = [tuple(n for n in m.replay().layers if n != INPUT) for m in monitors]
    assert named == [("fc", "noise", "head"), ("fc", "inner.0", "inner.1", "inner.2", "head")]


def test_a_users_hook_before_the_model_is_run_once_in_a_replay() -> None:
    model = fresh(Pair)
    model.register_forward_pre_hook(lambda module, args: (3 * args[0],))
    seen: list[float] = []
    model.fc.register_forward_pre_hook(lambda module, args: seen.append(float(args[0].std())))
    monitor, _ = train(model)
    monitor.replay()
    assert max(seen) < 4  # nine times as much where it ran twice


def test_a_layer_that_fails_alone_is_left_out_with_its_error() -> None:
    model = fresh(chain)
    monitor, _ = train(model, steps=12)
    shape = model.get_submodule("2").weight.shape

    def refuse(module: Any, args: Any) -> None:
        if not (args[0] == 0).any():
            raise RuntimeError("dense")

    model.get_submodule("0").register_forward_pre_hook(refuse)
    with pytest.raises(LookupError, match=r"could not be run again: RuntimeError: dense") as raised:
        monitor.replay()
    assert isinstance(raised.value.__cause__, RuntimeError) and shape == (32, 32)


def test_an_incident_is_replayed_before_it_is_reported() -> None:
    """So a training that ends at an alert can still ask, and also after the monitor is closed."""
    model = fresh(chain)
    origins: list[str] = []
    box: list[Monitor] = []

    def told(report: Report) -> None:
        origins.extend(box[0].replay(a).origin for a in report.alerts[:1])

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    torch.manual_seed(1)
    meddle = strike(model, "2.weight", 60)
    with watch(model, optimizer=optimizer, run=False, strict=True, replay=3) as monitor:
        monitor._reporters = [told]
        box.append(monitor)
        for step in range(80):
            loss = model(meddle(step, torch.randn(40, 20))).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
            if monitor.alerts:
                break
    assert origins == ["2"] and monitor.replay(monitor.incidents[0]).origin == "2"


def test_an_exception_that_ends_training_starts_no_replay() -> None:
    model = fresh(Pair)
    passes: list[int] = []
    monitor, _ = train(model)
    model.fc.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(KeyboardInterrupt), monitor:
        raise KeyboardInterrupt
    assert passes == []


def test_a_run_that_goes_on_keeps_references_anew_and_says_so() -> None:
    model = fresh(chain)
    monitor, _ = train(model, steps=80, meddle=strike(model, "2.weight", 60))
    (incident,) = monitor.incidents
    assert monitor.replay(incident).origin == "2"
    state = monitor.state_dict()
    monitor.close()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    later = watch(model, optimizer=optimizer, run=False, strict=True, replay=3)
    later.load_state_dict(state)
    with pytest.raises(LookupError, match="none was kept yet"):
        later.replay(later.incidents[0])
    for _ in range(20):
        loss = model(torch.randn(40, 20)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        later.step(loss=loss)
    assert later.replay().step == 100
    with pytest.raises(LookupError, match=f"from before step {incident.step}; the oldest was kept"):
        later.replay(later.incidents[0])
    later.close()


def test_a_copy_of_a_model_keeps_no_references() -> None:
    model = fresh(Pair)
    monitor, _ = train(model)
    twin = copy.deepcopy(model)
    before = monitor._source._replayer.entered._generation  # type: ignore[attr-defined]
    twin(torch.randn(4, 20))
    assert monitor._source._replayer.entered._generation == before  # type: ignore[attr-defined]


def test_the_time_of_a_reference_is_counted_once() -> None:
    """It is taken within the monitor's own step: that of the hooks does not hold it again."""
    monitor, _ = train(fresh(Pair), probe=torch.randn(8, 20))
    source: Any = monitor._source
    before = source.spent
    source._replayer.after(40)
    source._prober.after(10_000)
    assert source.spent == before and monitor.probes[-1].step == 10_000


def test_what_a_replay_is_about_is_checked() -> None:
    monitor, _ = train(fresh(Pair))
    with pytest.raises(TypeError, match="an alert, an incident"):
        monitor.replay(1)  # type: ignore[arg-type]


def _split(rank: int, folder: Path) -> str:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    model = nn.Sequential(nn.Linear(4, 4))
    parallelize_module(model, init_device_mesh("cpu", (2,)), {"0": ColwiseParallel()})
    return unfit(model)


def test_weights_split_over_processes_are_shown_nothing_by_one_alone(tmp_path: Path) -> None:
    """Their layers wait for the other processes, which make no such pass."""
    assert all("DTensor talks to the other" in reason for reason in together(_split, tmp_path))
