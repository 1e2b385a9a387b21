"""Weights, updates, and changes that no optimizer made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from shiftwatch.integrations.torch import modules  # noqa: E402
from shiftwatch.integrations.torch.source import TorchSource  # noqa: E402
from shiftwatch.monitor import Monitor  # noqa: E402
from shiftwatch.records import Site  # noqa: E402
from shiftwatch.source import Batch  # noqa: E402

_benches: list[Bench] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No hook of one test is left for the next."""
    yield
    while _benches:
        _benches.pop().source.close()


class Bench:
    """A model, its optimizer and a source that watches its parameters."""

    def __init__(
        self,
        optimizer: Any = torch.optim.SGD,
        named: bool = True,
        tensors: tuple[str, ...] = ("weight", "update", "input"),
        **options: Any,
    ) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 3))
        self.optimizer = optimizer(self.model.parameters(), **options)
        self.monitor = Monitor(run=False, rules=())
        self.source = TorchSource(
            self.model, self.monitor, [self.optimizer] if named else [],
            modules.leaves(self.model), tensors, strict=True,
        )  # fmt: skip
        self.source.hook()
        self.steps = 0
        _benches.append(self)

    def forward(self, batch: int = 16) -> None:
        self.optimizer.zero_grad()
        self.model(torch.randn(batch, 40)).square().mean().backward()

    def end(self) -> None:
        self.source.end_step(self.steps)
        self.steps += 1

    def step(self, batch: int = 16) -> None:
        self.forward(batch)
        self.optimizer.step()
        self.end()

    def column(self, layer: str, tensor: str, part: str = "") -> int:
        return self.monitor._sites.all.index(Site(layer, tensor, part))

    def rows(self, batch: Batch, layer: str, tensor: str, part: str = "") -> np.ndarray:
        column = self.column(layer, tensor, part)
        for group in batch.groups:
            if column in group.sites:
                return group.values[:, list(group.sites).index(column)].reshape(
                    len(group.values), -1
                )
        return np.zeros((0, 0))

    def seen(self, batch: Batch, layer: str, tensor: str) -> list[bool]:
        """In which steps there was something to see."""
        assert batch.course is not None
        seen: list[bool] = (batch.course.n[:, self.column(layer, tensor)] > 0).tolist()
        return seen

    def tampered(self, batch: Batch) -> np.ndarray:
        """float64[steps, weights]."""
        columns = [i for i, s in enumerate(self.monitor._sites.all) if s.tensor == "weight"]
        return batch.tampered[:, columns]


OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01, "foreach": True}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("named", [True, False])
def test_an_update_is_what_the_optimizer_changed_and_nothing_else_is_tampering(
    name: str, named: bool
) -> None:
    kind, options = OPTIMIZERS[name]
    bench = Bench(kind, named, **options)
    changes = []
    for _ in range(8):
        before = bench.model[2].bias.detach().clone()
        bench.step()
        changes.append((bench.model[2].bias.detach() - before).numpy())
    batch = bench.source.take()
    updates = bench.rows(batch, "2", "update", "bias")
    assert np.allclose(updates[:, :3], changes[-1], atol=1e-7) and updates.shape == (1, 256)
    assert batch.course is not None
    course = batch.course.mean[:, bench.column("2", "update", "bias")]
    assert np.allclose(course, [np.resize(c, 256).mean() for c in changes], rtol=1e-3, atol=1e-7)
    assert np.isnan(bench.tampered(batch)[0]).all()  # no step before the first
    assert (bench.tampered(batch)[1:] == 0).all()
    assert batch.stepped.all() and batch.learning_rate == pytest.approx([options["lr"]] * 8)
    weights = bench.rows(batch, "0", "weight")
    assert set(weights[-1]) <= set(bench.model[0].weight.detach().numpy().ravel())


def _scaled(model: nn.Module) -> None:
    model[0].weight.mul_(2)


def _one_element(model: nn.Module) -> None:
    model[0].weight[3, 7] *= 1e4


def _poisoned(model: nn.Module) -> None:
    model[0].weight[5, 5] = float("nan")


def _behind_its_back(model: nn.Module) -> None:
    model[0].weight.data.mul_(1.5)


@pytest.mark.parametrize("tamper", [_scaled, _one_element, _poisoned, _behind_its_back])
def test_a_weight_changed_between_steps_is_tampered_with(tamper: Any) -> None:
    """A single element too, although the sample is unlikely to hold it; only that weight, once."""
    bench = Bench(lr=0.01)
    for _ in range(3):
        bench.step()
    with torch.no_grad():
        tamper(bench.model)
    for _ in range(3):
        bench.step()
    found = bench.tampered(bench.source.take())
    assert found[3, 0] > 0.3 and (found[3, 1:] == 0).all()
    assert (found[[1, 2, 4, 5]] == 0).all()
    if tamper is _scaled:
        assert found[3, 0] == pytest.approx(1.0)
    if tamper is _behind_its_back:
        assert found[3, 0] == pytest.approx(0.5)


def test_a_corrupted_weight_is_noticed_also_between_the_optimizers_step_and_ours() -> None:
    bench = Bench(lr=0.01)
    for step in range(4):
        bench.forward()
        bench.optimizer.step()
        if step == 2:
            with torch.no_grad():
                bench.model[0].weight[3, 7] *= 1e4
        bench.end()
    found = bench.tampered(bench.source.take())
    assert found[2, 0] > 0.3 and (np.delete(found[1:], 1, 0) == 0).all()


def test_a_write_that_changes_nothing_is_no_tampering() -> None:
    """Loading the same weights again, or clipping weights that are small, is harmless."""
    bench = Bench(lr=0.01)
    for _ in range(12):
        bench.model.load_state_dict({k: v.clone() for k, v in bench.model.state_dict().items()})
        with torch.no_grad():
            for p in bench.model.parameters():
                p.clamp_(-10, 10)
        if bench.source.full:
            assert (bench.tampered(bench.source.take())[1:] == 0).all()
        bench.step()


def test_a_skipped_step_is_told_and_moves_nothing() -> None:
    """A gradient scaler leaves the step out after an overflow."""
    bench = Bench(lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step in range(4):
        bench.optimizer.zero_grad()
        loss = bench.model(torch.randn(8, 40)).square().mean()
        scaler.scale(loss * (float("inf") if step == 2 else 1.0)).backward()
        scaler.step(bench.optimizer)
        scaler.update()
        bench.end()
    batch = bench.source.take()
    assert batch.stepped.tolist() == [True, True, False, True]
    assert np.isfinite(bench.rows(batch, "0", "weight")).all()
    assert bench.seen(batch, "0", "update") == [True, True, False, True]
    assert (bench.tampered(batch)[1:] == 0).all()


def test_several_optimizers_and_several_steps_count_as_one_update() -> None:
    bench = Bench(lr=0.1)
    head = torch.optim.SGD(bench.model[2].parameters(), lr=0.5)
    for _ in range(3):
        before = bench.model[2].bias.detach().clone()
        bench.forward()
        bench.optimizer.step()
        head.step()
        bench.end()
        change = (bench.model[2].bias.detach() - before).numpy()
    batch = bench.source.take()
    assert np.allclose(bench.rows(batch, "2", "update", "bias")[-1, :3], change, atol=1e-7)
    assert batch.learning_rate.tolist() == [0.5] * 3
    assert (bench.tampered(batch)[1:] == 0).all()


def test_lbfgs_with_its_closure_is_followed() -> None:
    bench = Bench(torch.optim.LBFGS, lr=0.1, max_iter=3)
    x = torch.randn(16, 40)

    def closure() -> Any:
        bench.optimizer.zero_grad()
        loss = bench.model(x).square().mean()
        loss.backward()
        return loss

    for _ in range(3):
        bench.optimizer.step(closure)
        bench.end()
    batch = bench.source.take()
    assert np.abs(bench.rows(batch, "0", "update")).max() > 0
    assert (bench.tampered(batch)[1:] == 0).all()


def test_without_an_optimizer_the_update_is_the_change_from_step_to_step() -> None:
    bench = Bench(named=False, lr=0.1)
    for _ in range(4):
        bench.forward()
        with torch.no_grad():
            for p in bench.model.parameters():
                p -= 0.1 * p.grad
        bench.end()
    batch = bench.source.take()
    assert bench.seen(batch, "0", "update") == [False, True, True, True]
    assert np.isnan(batch.tampered).all() and batch.stepped.all()
    assert np.isnan(batch.learning_rate).all()


class Grouped(torch.optim.Optimizer):
    """Descent by groups of parameters, of which some have no rate of their own."""

    def __init__(self, params: Any, rates: tuple[float | None, ...]) -> None:
        groups = zip(params, rates, strict=True)
        super().__init__([{"params": [p]} | ({"lr": r} if r else {}) for p, r in groups], {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p -= group.get("lr", 0.01) * p.grad


@pytest.mark.parametrize(
    "rates", [(0.1, 0.3, 0.2, None), (None, 0.1, None, 0.3), (0.3, None, 0.1, 0.2)]
)
def test_groups_without_a_learning_rate_do_not_hide_the_largest(
    rates: tuple[float | None, ...],
) -> None:
    bench = Bench(Grouped, rates=rates)
    bench.step()
    assert bench.source.take().learning_rate.tolist() == [0.3]


class Relative(torch.optim.Optimizer):
    """Steps in proportion to the weights, as Adafactor's by default: the rate is ``None``."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": None})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p -= 0.01 * p.norm() * p.grad.sign() / p.numel() ** 0.5


def test_a_learning_rate_of_none_is_unknown_and_weights_are_watched() -> None:
    """Found to raise in the hook, and to darken all weights."""
    bench = Bench(Relative)
    for _ in range(3):
        bench.step()
    batch = bench.source.take()
    assert np.isnan(batch.learning_rate).all() and batch.learning_rate.size == 3
    assert batch.stepped.all() and bench.seen(batch, "0", "update") == [True] * 3
    assert (bench.tampered(batch)[1:] == 0).all() and bench.monitor._dark == {}


def test_a_group_whose_rate_is_none_does_not_hide_that_of_the_others() -> None:
    bench = Bench(Relative)
    free = nn.Parameter(torch.ones(1))
    bench.optimizer.add_param_group({"params": [free], "lr": 0.2})
    bench.forward()
    free.grad = torch.ones(1)
    bench.optimizer.step()
    bench.end()
    assert bench.source.take().learning_rate.tolist() == [0.2]


def test_foreign_optimizers_are_none_of_our_business() -> None:
    bench = Bench(named=False, lr=0.1)
    other = nn.Linear(2, 2)
    foreign = torch.optim.SGD(other.parameters(), lr=9.0)
    other(torch.ones(1, 2)).sum().backward()
    for _ in range(2):
        foreign.step()
        bench.step()
    assert bench.source.take().learning_rate.tolist() == [0.1, 0.1]


def test_what_the_run_does_on_purpose_is_an_event() -> None:
    """Learning rate by a factor of two or more, frozen parameters, a batch size that stays."""
    bench = Bench(lr=0.1)
    events = []
    for step in range(32):
        if step == 10:
            bench.optimizer.param_groups[0]["lr"] = 0.01
        if step == 12:
            bench.optimizer.param_groups[0]["lr"] = 0.009
        if step == 18:
            bench.model[0].weight.requires_grad_(False)
        bench.step(batch=3 if step == 5 else 8 if step >= 24 else 16)
        if step % 8 == 7:
            batch = bench.source.take()
            events += [(e.step, e.kind, e.detail) for e in batch.events]
    assert events[0] == (10, "learning_rate", "0.1 to 0.01")
    assert [e[1] for e in events] == ["learning_rate", "requires_grad", "batch_size"]
    assert events[1][2] == "0.weight is frozen" and events[2][2] == "16 to 8"
    assert batch.batch_size.tolist() == [8] * 8


def test_an_input_of_another_shape_is_an_event_where_the_last_one_had_lasted() -> None:
    """Sequences that grow in stages are told; those that always differ are not."""
    bench = Bench(lr=0.1)
    torch.manual_seed(0)
    told = []
    for step in range(60):
        length = 6 if step < 20 else 9 if step < 50 else 3 + step % 4
        bench.optimizer.zero_grad()
        bench.model(torch.randn(16, length, 40)).square().mean().backward()
        bench.optimizer.step()
        bench.end()
        if step % 10 == 9:
            told += [e for e in bench.source.take().events if e.kind == "shape"]
    assert [(e.step, e.detail) for e in told] == [
        (20, "6 × 40 to 9 × 40 for each sample"),
        (50, "9 × 40 to 5 × 40 for each sample"),
    ]


def test_another_batch_size_or_another_shape_in_evaluation_is_no_other_shape() -> None:
    bench = Bench(lr=0.1)
    for step in range(40):
        bench.step(batch=16 if step < 20 else 5)
        if step % 5 == 4:
            bench.model.eval()
            with torch.no_grad():
                bench.model(torch.randn(4, 7, 40))
            bench.model.train()
    assert [e.kind for e in bench.source.take().events if e.kind == "shape"] == []


def test_a_layer_that_was_frozen_is_known_to_have_nothing_to_learn() -> None:
    bench = Bench(lr=0.1)
    for step in range(24):
        if step == 8:
            bench.model[0].requires_grad_(False)
        if step == 16:
            bench.model[0].requires_grad_(True)
        bench.step()
        if step % 8 == 7:
            bench.source.take()
            layer = bench.monitor._sites.layers["0"]
            assert layer.parameters == (step < 8) or step == 15 or step == 23
    bench.source.take()
    assert bench.monitor._sites.layers["0"].parameters


def test_a_replaced_parameter_and_a_replaced_optimizer_are_followed() -> None:
    bench = Bench(lr=0.1)
    bench.step()
    bench.model[2].weight = nn.Parameter(torch.full((3, 60), 0.5))
    bench.optimizer = torch.optim.SGD(bench.model.parameters(), lr=0.2)
    bench.step()
    bench.step()
    batch = bench.source.take()
    newest = bench.rows(batch, "2", "weight")[-1]
    assert set(newest) == set(bench.model[2].weight.detach().numpy().ravel())
    assert batch.learning_rate.tolist() == pytest.approx([0.1, 0.2, 0.2])
    assert [e.kind for e in batch.events] == ["optimizer", "learning_rate"]


def test_steps_that_are_not_watched_leave_nothing_behind() -> None:
    """Every second step: its update is its own, and what came between is not tampering."""
    bench = Bench(lr=0.1)
    for step in range(8):
        bench.source.arm(step % 2 == 0, 0)
        bench.step()
    batch = bench.source.take()
    assert batch.steps.tolist() == [0, 2, 4, 6]
    assert bench.seen(batch, "0", "update") == [True] * 4 and np.isnan(batch.tampered).all()
    sizes = batch.course.std[:, bench.column("0", "update")]
    assert (sizes > 0).all() and sizes.max() < 0.1
    bench.source.close()
    assert bench.source.seconds() > 0 and bench.source.seconds() == 0


def test_tied_and_transposed_parameters_are_sampled_once_and_in_full_range() -> None:
    """A parameter in channels-last order, and one that two layers share."""
    conv = nn.Conv2d(4, 7, 3).to(memory_format=torch.channels_last)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), conv)
    model[1].weight = model[0].weight
    monitor = Monitor(run=False, rules=())
    source = TorchSource(model, monitor, [], modules.leaves(model), ("weight",), strict=True)
    source.end_step(0)
    batch = source.take()
    keys = [s.key for s in monitor._sites.all]
    assert keys == ["0:weight", "0:weight[bias]", "1:weight[bias]", "2:weight", "2:weight[bias]"]
    (group,) = batch.groups
    got = group.values[0, list(group.sites).index(3)].ravel()
    assert set(got) == set(conv.weight.detach().numpy().ravel())  # all 252 of them


def test_energy_tells_a_broken_output_at_once() -> None:
    bench = Bench(lr=0.1, tensors=("output", "weight"))
    for step in range(3):
        if step == 2:
            with torch.no_grad():
                bench.model[2].bias[1] = float("nan")
        bench.forward()
        bench.end()
        energy = bench.source.energy()
        at = bench.column("2", "output")
        assert np.isinf(energy[at]) == (step == 2)
        assert np.isfinite(energy[bench.column("0", "output")])


def test_a_weight_changed_by_another_hand_is_judged_at_once_unless_it_is_the_habit() -> None:
    bench = Bench(lr=0.1)
    bench.step()
    assert not bench.source.full
    urgent = 0
    for _ in range(40):
        with torch.no_grad():
            bench.model[2].bias.add_(1.0)
        bench.step()
        urgent += bench.source.full
        bench.source.take()
    assert 0 < urgent <= 16
