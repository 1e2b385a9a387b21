"""Updates that die away little by little, beside those of trainings that have learnt all there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from shiftwatch.monitor import Monitor  # noqa: E402
from shiftwatch.rules import Fading  # noqa: E402
from tests import learning  # noqa: E402
from tests.learning import Kind, Training, mlp  # noqa: E402

#: Optimizers whose updates fade: each averages over some ten steps.
OPTIMIZERS: dict[str, Kind] = {
    "momentum": (torch.optim.SGD, {"lr": 0.02, "momentum": 0.9}),
    "adam": (torch.optim.Adam, {"lr": 1e-3}),
}


def train(kind: Kind = OPTIMIZERS["momentum"], steps: int = 200, **options: Any) -> Monitor:
    return learning.train(kind, steps=steps, **options)


def lost(step: int) -> float:
    return 1e-6 if step >= 100 else 1.0


def only(layer: str) -> Callable[[int, Any], None]:
    """The gradient of one layer is next to nothing from step 100 on."""

    def after(step: int, model: Any) -> None:
        for parameter in model.get_submodule(layer).parameters() if step >= 100 else ():
            parameter.grad *= 1e-6

    return after


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_loss_that_is_scaled_to_nothing_is_found_though_momentum_goes_on(optimizer: str) -> None:
    """Within 64 steps, and dated to where the comparison begins."""
    (alert,) = train(OPTIMIZERS[optimizer], scale=lost).alerts
    assert (alert.kind, alert.tensor, alert.severity) == ("update", "update", "warning")
    assert 100 <= alert.detected <= 100 + 64 and alert.step == alert.detected - 64
    assert "updates faded to 1/" in alert.message and "most layers did" in alert.message
    assert alert.value < alert.limit


def test_gradients_that_are_clipped_to_nothing_are_found() -> None:
    def after(step: int, model: nn.Module) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1e-6 if step >= 100 else 1e3)

    (alert,) = train(after=after).alerts
    assert alert.kind == "update" and "most layers did" in alert.message


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("layer", ["0", "2"])
def test_updates_of_one_layer_that_fade_are_found_there(layer: str, optimizer: str) -> None:
    (alert,) = train(OPTIMIZERS[optimizer], after=only(layer)).alerts
    assert (alert.kind, alert.layer, alert.origin) == ("update", layer, layer)
    assert 100 <= alert.detected <= 100 + 80
    assert "those of the other layers did not" in alert.message


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_that_learns_is_healthy(optimizer: str) -> None:
    assert train(OPTIMIZERS[optimizer]).alerts == []


def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 4))


def twice() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 64), nn.Linear(64, 4))


LEARNT: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "one layer": (linear, 0.5), "two layers": (twice, 0.1)
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNT)
def test_updates_that_fade_as_the_loss_falls_are_healthy(name: str) -> None:
    """A noiseless regression: errors halve within some steps, down to rounding."""
    model, lr = LEARNT[name]
    kind = torch.optim.SGD, {"lr": lr}
    assert train(kind, model=model, regression=True, rules=[Fading()]).alerts == []
    (alert,) = train(kind, model=model, regression=True, rules=[Fading(credit=0)]).alerts
    assert "updates faded to 1/" in alert.message  # which they did: the loss is what explains it


def test_updates_that_fade_with_the_learning_rate_are_healthy() -> None:
    """A thousandth of it within a hundred steps, and down to a millionth."""

    def before(step: int, optimizers: list[Any]) -> None:
        for group in optimizers[0].param_groups:
            group["lr"] = 0.02 * max(1e-6, 0.93 ** max(0, step - 60))

    assert train(before=before).alerts == []


@pytest.mark.parametrize(("every", "alarms"), [(1, 0), (60, 1)])
def test_what_the_run_does_on_purpose_excuses_updates_that_fade(every: int, alarms: int) -> None:
    """Batches of ever other sizes, for as long as it goes on."""
    monitor = train(scale=lost, size=lambda step: 64 + step // every, rules=[Fading()])
    assert len(monitor.alerts) == alarms


@pytest.mark.parametrize(("again", "alarms"), [(280, 1), (440, 2)])
def test_what_faded_is_said_again_only_much_later(again: int, alarms: int) -> None:
    """The gradients come back at step 180, and are lost once more."""

    def scale(step: int) -> float:
        return 1e-6 if 100 <= step < 180 or step >= again else 1.0

    assert len(train(steps=again + 80, scale=scale, rules=[Fading()]).alerts) == alarms


@pytest.mark.parametrize("cut", [90, 120])
@pytest.mark.parametrize("scale", [lost, lambda step: 1.0], ids=["lost", "healthy"])
def test_a_run_that_was_interrupted_says_what_one_that_was_not_says(
    scale: Callable[[int], float], cut: int
) -> None:
    whole = train(steps=180, scale=scale, rules=[Fading()])
    training = Training(OPTIMIZERS["momentum"], scale=scale, rules=[Fading()])
    with training.watch() as first:
        training.go(first, cut)
    with training.watch() as second:
        second.load_state_dict(first.state_dict())
        training.go(second, 180)
    assert [(a.kind, a.layer) for a in second.alerts] == [(a.kind, a.layer) for a in whole.alerts]
    assert len(whole.alerts) == (scale is lost)


class Beside(nn.Module):
    """Three layers beside two, of which the rectified units can be told to die."""

    def __init__(self) -> None:
        super().__init__()
        self.side = nn.Sequential(
            nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 20)
        )
        self.body = mlp()

    def forward(self, x: Any) -> Any:
        return self.body(x + self.side(x))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("place", [0, 2])
def test_updates_that_fade_where_units_died_are_not_said_of_the_layers_beside_them(
    place: int, optimizer: str
) -> None:
    """Found on a spatial transformer, in most layers of which nothing moved any more."""

    def after(step: int, model: Any) -> None:
        if step >= 100:
            model.side[place].bias.data.fill_(-100.0)

    assert train(OPTIMIZERS[optimizer], model=Beside, after=after, rules=[Fading()]).alerts == []


class Grows(nn.Module):
    """A branch that takes part from step 60 on, in training mode as in any other."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.late, self.calls = mlp(), nn.Linear(20, 4), 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return self.body(x) + (self.late(x) if self.calls > 60 else 0)


def test_a_layer_that_comes_later_fades_by_its_own_past() -> None:
    def after(step: int, model: Any) -> None:
        if step >= 140:
            model.late.weight.grad *= 1e-6

    (alert,) = train(model=Grows, steps=240, after=after, rules=[Fading()]).alerts
    assert (alert.layer, alert.origin) == ("late", "late") and 140 < alert.detected <= 140 + 96
