"""Learning rate, momentum and weight decay: schedules are healthy, leaps are known at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import shiftwatch  # noqa: E402
from shiftwatch.integrations.torch import watch  # noqa: E402
from shiftwatch.integrations.torch.settings import UNKNOWN, Counted, Settings, settings  # noqa: E402
from shiftwatch.monitor import Monitor  # noqa: E402
from shiftwatch.rules import Settings as Rule  # noqa: E402
from shiftwatch.tables import table  # noqa: E402
from tests import learning  # noqa: E402
from tests.learning import Kind, Training, mlp  # noqa: E402

SGD, Adam, AdamW, RMSprop = (
    torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop,
)  # fmt: skip

#: Optimizers with a learning rate at which the little net learns.
OPTIMIZERS: dict[str, Kind] = {
    "sgd": (SGD, {"lr": 0.05}),
    "momentum": (SGD, {"lr": 0.02, "momentum": 0.9}),
    "adam": (Adam, {"lr": 1e-3}),
    "adamw": (AdamW, {"lr": 1e-3}),
    "rmsprop": (RMSprop, {"lr": 1e-3}),
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def train(*kinds: Kind, steps: int = 120, **options: Any) -> Monitor:
    return learning.train(*kinds, steps=steps, **options)


def told(at: int, key: str, change: Callable[[Any], Any]) -> Callable[[int, list[Any]], None]:
    """From a step on, all groups of all optimizers have another setting."""

    def before(step: int, optimizers: list[Any]) -> None:
        for optimizer in optimizers if step == at else []:
            for group in optimizer.param_groups:
                group[key] = change(group[key])

    return before


def scheduled(share: Callable[[int], float]) -> Callable[[int, list[Any]], None]:
    """The learning rate of every step, relative to that of the beginning."""

    def before(step: int, optimizers: list[Any]) -> None:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share(step) * optimizer.defaults["lr"]

    return before


def said(monitor: Monitor) -> list[tuple[str, int, int]]:
    return [(a.kind, a.step, a.detected) for a in monitor.alerts]


# --- schedules ---------------------------------------------------------------------------


def cosine(part: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))


SCHEDULES: dict[str, Callable[[int], float]] = {
    "constant": lambda step: 1.0,
    "warm-up": lambda step: min(1.0, (step + 1) / 60),
    "warm-up in plateaus": lambda step: max(1e-6, min(step // 10, 6) / 6),
    "first epoch at next to nothing": lambda step: 1e-5 if step < 40 else 1.0,
    "one cycle": lambda step: 1 - 0.96 * cosine(step / 36) if step < 36 else cosine((step - 36) / 84),
    "warm restarts": lambda step: cosine(step % 40 / 40),
    "cosine to zero": lambda step: cosine(step / 100),
    "step decay": lambda step: 0.1 ** (step // 40),
    "range test": lambda step: 1e-4 * 10 ** (step / 30),
}  # fmt: skip


@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "rmsprop"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_healthy(name: str, optimizer: str) -> None:
    monitor = train(OPTIMIZERS[optimizer], before=scheduled(SCHEDULES[name]))
    assert monitor.alerts == []


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 2e-3, total_steps=120),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 30),
    ],
    ids=["one cycle", "warm restarts"],
)
def test_schedulers_that_come_with_torch_are_healthy(schedule: Callable[[Any], Any]) -> None:
    """The first moves momentum as well, between 0.85 and 0.95."""
    made: list[Any] = []

    def before(step: int, optimizers: list[Any]) -> None:
        if not step:
            made.append(schedule(optimizers[0]))
        else:
            made[0].step()

    assert train(OPTIMIZERS["adamw"], before=before).alerts == []


def test_a_head_that_learns_first_and_then_all_is_healthy() -> None:
    """All layers at a tenth of the rate of the head alone."""

    def before(step: int, optimizers: list[Any]) -> None:
        body, head = optimizers
        body.param_groups[0]["lr"] = 0.0 if step < 50 else 1e-3
        head.param_groups[0]["lr"] = 1e-2 if step < 50 else 1e-3

    assert train((SGD, {"lr": 1e-3}), (SGD, {"lr": 1e-2}), before=before).alerts == []


@pytest.mark.parametrize("kinds", [("sgd",), ("sgd", "adam")])
def test_a_run_keeps_the_schedule_also_where_it_was_resumed(
    kinds: tuple[str, ...], tmp_path: Path
) -> None:
    """The larger of two optimizers, to the last bit; steps after the checkpoint are void."""
    share = SCHEDULES["one cycle"]
    training = Training(
        *(OPTIMIZERS[kind] for kind in kinds), before=scheduled(share), run=tmp_path / "run"
    )
    with training.watch() as first:
        training.go(first, 40)
        state = first.state_dict()
        training.go(first, 60)
    training.step = 40
    with training.watch() as second:
        second.load_state_dict(state)
        training.go(second, 120)
    expected = [share(step) * 0.05 for step in range(120)]
    for run in (shiftwatch.open(tmp_path / "run"), second.history):
        steps, rates = run.schedule
        assert (steps.tolist(), rates.tolist()) == (list(range(120)), expected)
        assert run.learning_rates.tolist() == [expected[step] for step in run.steps]
        beside = table(run, "losses")["learning_rate"].values
        assert beside.tolist() == [expected[step] for step in run.course[0]]


# --- leaps -------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("factor", [10, 100])
def test_a_leap_of_the_learning_rate_is_known_at_its_very_step(factor: int, optimizer: str) -> None:
    """Step 83 is in the middle of a window: it is looked at although the window is not over."""
    kind, before = OPTIMIZERS[optimizer], told(83, "lr", lambda lr: factor * lr)
    assert said(train(kind, steps=90, before=before))[0] == ("update", 83, 83)
    (alert,) = train(kind, steps=90, before=before, rules=[Rule()]).alerts
    high = factor * kind[1]["lr"]
    assert f"the learning rate is {high:.3g}, ×{factor} the largest so far" in alert.message
    assert alert.value >= alert.limit == 0.005 and alert.detected == 83


def test_a_leap_within_the_first_steps_of_a_schedule_has_nothing_to_leap_from() -> None:
    early = told(12, "lr", lambda lr: 10 * lr)
    assert train(OPTIMIZERS["adam"], before=early, rules=[Rule()]).alerts == []


def test_a_leap_that_hardly_moves_the_weights_is_healthy() -> None:
    before = told(83, "lr", lambda lr: 10 * lr)
    assert train((SGD, {"lr": 2e-4}), before=before).alerts == []


def test_a_leap_back_to_where_the_rate_has_been_is_healthy() -> None:
    """A hundred times as much in a step, and no more than at the beginning."""
    dip = scheduled(lambda step: 0.01 if 60 <= step < 90 else 1.0)
    assert train(OPTIMIZERS["momentum"], before=dip).alerts == []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_learning_rate_that_runs_away_is_found_at_six_times_the_largest(optimizer: str) -> None:
    """A fifth more at every step from 80 on: ×6.2 at step 89."""
    before = scheduled(lambda step: 1.2 ** max(0, step - 79))
    first = train(OPTIMIZERS[optimizer], before=before).alerts[0]
    assert (first.kind, first.step) == ("update", 89) and first.detected <= 104
    assert "×6.19 the largest so far" in first.message


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_learning_rate_that_falls_to_nothing_in_a_step_is_found(optimizer: str) -> None:
    """Once it has stayed there for eight steps, and at the end of their window."""
    (alert,) = train(OPTIMIZERS[optimizer], before=told(83, "lr", lambda lr: lr / 10_000)).alerts
    assert (alert.kind, alert.step) == ("frozen", 83) and 90 <= alert.detected <= 106
    low = OPTIMIZERS[optimizer][1]["lr"]
    assert f"the learning rate fell from {low:.3g} to {low / 1e4:.3g} in a step" in alert.message


@pytest.mark.parametrize("back", [87, 90])
def test_a_learning_rate_of_next_to_nothing_for_some_steps_is_healthy(back: int) -> None:
    pause = scheduled(lambda step: 1e-4 if 83 <= step < back else 1.0)
    assert train(OPTIMIZERS["sgd"], before=pause).alerts == []


@pytest.mark.parametrize(("lr", "alarms"), [(1e-2, [("update", 83)]), (1e-6, [])])
def test_a_learning_rate_that_comes_back_from_a_leap_did_not_fall(
    lr: float, alarms: list[tuple[str, int]]
) -> None:
    """Whether or not the leap was large enough to be told."""
    slip = scheduled(lambda step: 1e4 if step == 83 else 1.0)
    found = train((torch.optim.SGD, {"lr": lr}), before=slip, rules=[Rule()]).alerts
    assert [(a.kind, a.step) for a in found] == alarms


@pytest.mark.parametrize(
    ("optimizer", "key", "high"), [("momentum", "momentum", 0.999), ("adam", "betas", (0.999, 0.999))]
)  # fmt: skip
def test_a_leap_of_momentum_is_known_at_its_very_step(optimizer: str, key: str, high: Any) -> None:
    kind, before = OPTIMIZERS[optimizer], told(83, key, lambda value: high)
    assert said(train(kind, before=before))[0] == ("update", 83, 83)
    (alert,) = train(kind, before=before, rules=[Rule()]).alerts
    assert "momentum averages over 1e+03 steps, ×100 as many as before" in alert.message


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.9), (0.5, 0.9), (0.85, 0.95), (0.9, 0.98), (0.95, 0.99)]
)
def test_momentum_that_changes_within_what_is_usual_is_healthy(low: float, high: float) -> None:
    kind = (SGD, {"lr": 5e-3, "momentum": low})
    assert train(kind, before=told(60, "momentum", lambda value: high)).alerts == []


def test_much_momentum_from_the_start_is_a_choice() -> None:
    assert train((SGD, {"lr": 1e-4, "momentum": 0.999}), rules=[Rule()]).alerts == []


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_leap_of_weight_decay_is_known_at_its_very_step(optimizer: str) -> None:
    kind, before = OPTIMIZERS[optimizer], told(83, "weight_decay", lambda value: 10.0)
    assert said(train(kind, before=before))[0] == ("update", 83, 83)
    (alert,) = train(kind, before=before, rules=[Rule()]).alerts
    share = 10 * kind[1]["lr"]
    assert f"weight decay takes {share:.2g} of the weights at every step" in alert.message


def test_too_much_weight_decay_from_the_start_is_found() -> None:
    first = train((AdamW, {"lr": 1e-3, "weight_decay": 10.0}), steps=40).alerts[0]
    assert (first.kind, first.step) == ("update", 0) and first.detected <= 8
    assert "weight decay takes 0.01 of the weights" in first.message


@pytest.mark.parametrize("decay", [0.01, 0.1, 0.5])
def test_usual_weight_decay_is_healthy(decay: float) -> None:
    assert train((AdamW, {"lr": 1e-3, "weight_decay": decay})).alerts == []


def test_weight_decay_that_is_turned_on_later_is_healthy() -> None:
    before = told(60, "weight_decay", lambda value: 0.5)
    assert train((AdamW, {"lr": 1e-3, "weight_decay": 0.0}), before=before).alerts == []


# --- what is read ------------------------------------------------------------------------


def test_of_two_optimizers_the_larger_setting_counts() -> None:
    """One that catches up with the other is no leap; one that leaves it behind is."""
    kinds = (SGD, {"lr": 1e-3}), (SGD, {"lr": 0.1})

    def before(high: float) -> Callable[[int, list[Any]], None]:
        def change(step: int, optimizers: list[Any]) -> None:
            if step == 83:
                optimizers[0].param_groups[0]["lr"] = high

        return change

    assert train(*kinds, before=before(0.1), rules=[Rule()]).alerts == []
    (alert,) = train(*kinds, before=before(2.0), rules=[Rule()]).alerts
    assert (alert.step, alert.detected) == (83, 83)
    assert "the learning rate is 2, ×20 the largest so far" in alert.message


def test_a_learning_rate_that_is_a_tensor_is_read() -> None:
    kind = (Adam, {"lr": torch.tensor(1e-3)})
    assert train(kind, steps=60).alerts == []
    leap = train(kind, before=told(83, "lr", lambda lr: 10 * lr))
    assert said(leap)[0] == ("update", 83, 83)


class Relative(torch.optim.Optimizer):
    """Steps in proportion to the weights, as Adafactor's by default: the rate is ``None``."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": None, "weight_decay": 10.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            p -= 2e-3 * p.norm() * p.grad.sign() / p.numel() ** 0.5


def test_a_learning_rate_of_none_is_judged_by_nobody() -> None:
    assert train((Relative, {})).alerts == []
    weight = nn.Parameter(torch.zeros(3))
    assert all(map(math.isnan, settings(Relative([weight]))[:3]))


def test_settings_are_the_largest_of_all_groups() -> None:
    one, two = (nn.Parameter(torch.zeros(3)) for _ in range(2))
    groups = [
        {"params": [one], "lr": 0.1, "weight_decay": 0.5},
        {"params": [two], "lr": 0.2, "momentum": 0.9, "weight_decay": 0.1},
    ]
    assert settings(SGD(groups, lr=1.0)) == (0.2, 10, pytest.approx(0.05), 0)
    assert settings(Adam([one], lr=1e-3)) == (1e-3, 10, 0, 0)


def test_unknown_settings_hide_none_and_leap_nowhere() -> None:
    known, fifth = Settings(0.5, 10.0, 0.0), Settings(0.1, 10.0, 0.0)
    assert UNKNOWN.joined(known) == known == known.joined(UNKNOWN)
    assert fifth.joined(known) == known == known.joined(fifth)
    assert known.leaps(fifth) and not fifth.leaps(known)
    assert not known.leaps(Settings(0.11, 3.0, 0.0)) and not known.leaps(UNKNOWN)


# --- the state ---------------------------------------------------------------------------


CHANGES: dict[str, Callable[[int], float]] = {
    "leap": lambda step: 10.0 if step >= 83 else 1.0,
    "runaway": lambda step: 1.2 ** max(0, step - 79),
    "fall": lambda step: 1e-4 if step >= 83 else 1.0,
    "healthy": lambda step: cosine(step % 40 / 40),
}


@pytest.mark.parametrize("cut", [17, 86])
@pytest.mark.parametrize("name", CHANGES)
def test_a_run_that_was_interrupted_says_what_one_that_was_not_says(name: str, cut: int) -> None:
    """What is known of the settings is in the state; that of the optimizer is kept by the user."""

    def fresh() -> Training:
        return Training(
            OPTIMIZERS["adam"], before=scheduled(CHANGES[name]), rules=[Rule()]
        )  # fmt: skip

    training = fresh()
    with training.watch() as whole:
        training.go(whole, 120)
    training = fresh()
    with training.watch() as first:
        training.go(first, cut)
    with training.watch() as second:
        second.load_state_dict(first.state_dict())
        training.go(second, 120)
    assert [(a.kind, a.step) for a in second.alerts] == [(a.kind, a.step) for a in whole.alerts]
    assert [a.message for a in second.alerts] == [a.message for a in whole.alerts]
    assert bool(whole.alerts) == (name != "healthy")


def test_layers_that_come_later_do_not_disturb_what_is_known() -> None:
    """The state is of the run, not of a layer; more of them are judged by the same."""

    class Grows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.late, self.on = mlp(), nn.Linear(20, 4), False

        def forward(self, x: Any) -> Any:
            return self.body(x) + (self.late(x) if self.on else 0)

    model, data = Grows(), torch.Generator().manual_seed(1)
    optimizer, rule = Adam(model.parameters(), lr=1e-3), torch.randn(20, 4, generator=data)
    with watch(model, optimizer=optimizer, run=False, strict=True, rules=[Rule()]) as monitor:
        for step in range(100):
            model.on = step >= 40
            optimizer.param_groups[0]["lr"] = 1e-2 if step >= 83 else 1e-3
            x = torch.randn(64, 20, generator=data)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), (x @ rule).argmax(1))
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
    assert said(monitor) == [("update", 83, 83)]
    assert "late" in {site.layer for site in monitor.history.sites if site.tensor == "update"}


# --- the optimizer's state ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop"])
def test_a_state_that_is_lost_is_told_at_the_next_step(name: str) -> None:
    def before(step: int, optimizers: list[Any]) -> None:
        if step == 80:
            optimizers[0].state.clear()

    kind, options = OPTIMIZERS[name]
    found = train((kind, options), before=before).alerts
    assert [(a.kind, a.step) for a in found[:1]] == [("update", 80)]
    assert "lost its state: it had counted 80 steps" in found[0].message


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_a_state_that_is_saved_and_loaded_is_no_news(name: str) -> None:
    def before(step: int, optimizers: list[Any]) -> None:
        if step == 80:
            optimizers[0].load_state_dict(optimizers[0].state_dict())

    assert not train(OPTIMIZERS[name], before=before).alerts


def test_an_optimizer_that_takes_the_place_of_another_has_lost_nothing() -> None:
    weight = nn.Parameter(torch.ones(3))
    first, counted = Adam([weight]), Counted()
    for _ in range(20):
        weight.grad = torch.ones(3)
        first.step()
        assert counted.forgotten(first) == 0.0
    assert counted.forgotten(SGD([weight], lr=0.1)) == counted.forgotten(Adam([weight])) == 0.0
