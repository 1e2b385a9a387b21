"""Rules: each fires on what it is for, names it rightly, and is silent otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shiftwatch import Alert, Monitor, Rule, Summary
from shiftwatch.arrays import ArraySource
from shiftwatch.attended import Attended
from shiftwatch.records import INPUT, Event, Layer, Site
from shiftwatch.rules import (
    DEFAULT,
    Attention,
    Beginning,
    Evidence,
    Fading,
    Firing,
    Optimizer,
    Rectified,
    Settings,
    Shape,
    Verdict,
)  # fmt: skip
from shiftwatch.sites import Sites
from shiftwatch.source import Batch

Show = Callable[[Monitor, int, np.random.Generator], None]
# Steps that momentum averages, share that decay takes, steps that were forgotten.
Told = tuple[float, float, float]


class Rated(ArraySource):
    """Arrays, a learning rate, other settings and what the run does on purpose."""

    def __init__(
        self,
        rate: Callable[[int], float],
        events: tuple[Event, ...],
        told: Callable[[int], Told] | None,
    ) -> None:
        super().__init__()
        self.rate, self.events, self.told = rate, events, told

    def take(self) -> Batch:
        batch = super().take()
        rates = np.array([self.rate(step) for step in batch.steps.tolist()])
        now = tuple(e for e in self.events if e.step in batch.steps)
        told = self.told and np.array([self.told(step) for step in batch.steps.tolist()])
        return replace(batch, learning_rate=rates, events=now, settings=told)


def watch(
    show: Show,
    steps: int = 128,
    seed: int = 0,
    loss: Callable[[int], float] | None = None,
    rate: Callable[[int], float] | None = None,
    events: tuple[Event, ...] = (),
    told: Callable[[int], Told] | None = None,
    **options: Any,
) -> Monitor:
    """A monitor that was shown every step, and is closed."""
    random = np.random.default_rng(seed)
    with Monitor(**{"run": False, "strict": True, **options}) as monitor:
        if rate or events:
            monitor._arrays = Rated(rate or (lambda step: np.nan), events, told)
            monitor.attach(monitor._arrays)
        for step in range(steps):
            show(monitor, step, random)
            monitor.step(loss=loss(step) if loss else None)
    return monitor


def said(alerts: list[Alert]) -> list[tuple[str, str]]:
    return [(a.layer, a.kind) for a in alerts]


# --- one metric, one limit ---------------------------------------------------------------


def zeros(course: list[float]) -> Show:
    """Layer ``a`` with a share of zeros per window of eight steps; ``b`` with none."""

    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        values = random.normal(size=(16, 8))
        monitor.observe("b", values)
        monitor.observe("a", np.where(random.random((16, 8)) < course[step // 8], 0.0, values))

    return show


def test_a_rule_waits_for_its_patience_and_dates_back_to_the_beginning() -> None:
    monitor = watch(
        zeros([0, 0, 0.8, 0.8, 0.8, 0.8]), 48, rules=[Rule("zero_fraction", 0.5, patience=3)]
    )
    (alert,) = monitor.alerts
    assert (alert.step, alert.detected, alert.layer) == (16, 39, "a")
    assert (alert.metric, alert.value, alert.limit) == (
        "zero_fraction",
        pytest.approx(0.8, abs=0.05),
        0.5,
    )
    assert (alert.kind, alert.severity) == ("distribution_shift", "warning")


def test_a_rule_says_value_and_limit_in_one_line() -> None:
    monitor = watch(zeros([1] * 4), 32, rules=[Rule("zero_fraction", 0.5)])
    message = monitor.alerts[0].message
    assert "zero_fraction 1 (limit 0.5 for 2 windows)" in message and "\n" not in message
    assert message.startswith("step 0 · a output · distribution_shift: ")


def test_a_rule_is_silent_under_its_limit_and_when_interrupted() -> None:
    rule = Rule("zero_fraction", 0.5, patience=2)
    assert watch(zeros([0.3] * 6), 48, rules=[rule]).alerts == []
    assert watch(zeros([0, 0.8, 0, 0.8, 0, 0.8]), 48, rules=[rule]).alerts == []


def test_a_rule_holds_until_its_release() -> None:
    course = [0.1, 0.8, 0.8, 0.4, 0.8, 0.8, 0.1, 0.1, 0.8, 0.8]
    held = watch(zeros(course), 80, rules=[Rule("zero_fraction", 0.7, release=0.2)])
    assert [a.step for a in held.alerts] == [8, 64]
    loose = watch(zeros(course), 80, rules=[Rule("zero_fraction", 0.7)])
    assert [a.step for a in loose.alerts] == [8, 32, 64]


def test_a_rule_looks_at_the_layers_and_the_tensor_it_is_given() -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        for name in ("encoder.0", "encoder.1", "head"):
            monitor.observe(name, np.zeros((8, 4)))
            monitor.observe(name, np.zeros((8, 4)), tensor="gradient")
            monitor.observe(name, np.zeros((8, 4)), mode="eval")

    every = watch(show, 32, rules=[Rule("zero_fraction", 1.0, layers="encoder.*")])
    assert said(every.alerts) == [("encoder.0", "distribution_shift")]
    assert every.incidents[0].followers == ("encoder.1",)
    back = watch(show, 32, rules=[Rule("zero_fraction", 1.0, tensor="gradient", layers="head")])
    assert [(a.layer, a.tensor) for a in back.alerts] == [("head", "gradient")]
    assert watch(show, 32, rules=[Rule("zero_fraction", 1.0, layers="Head")]).alerts == []


def test_a_shift_counts_either_way() -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        monitor.observe("a", random.normal(-4 if step >= 32 else 0, 1, (16, 8)))

    monitor = watch(show, 64, rules=[Rule("mean_shift", 2.0)])
    assert monitor.alerts[0].value < -2 and monitor.alerts[0].step == 32


def test_an_info_is_recorded_and_is_no_alarm() -> None:
    """Found dropped where no incident was open."""
    rules = [*DEFAULT, Rule("zero_fraction", 0.5, severity="info", layers="a")]
    monitor = watch(zeros([1] * 4), 32, rules=rules)
    assert monitor.alerts == [] and monitor.incidents == []
    (alert,) = monitor.history.alerts
    assert (alert.severity, alert.layer, alert.origin, alert.incident) == ("info", "a", "a", 0)


def test_an_info_opens_no_incident_and_joins_none() -> None:
    rules = [Rule("zero_fraction", 0.5, severity="info", layers="b"), Rule("zero_fraction", 0.5)]

    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        monitor.observe("a", np.zeros((8, 4)))
        monitor.observe("b", np.zeros((8, 4)))

    monitor = watch(show, 32, rules=rules)
    assert [(a.severity, a.layer) for a in monitor.history.alerts] == [
        ("info", "b"),
        ("warning", "a"),
    ]
    assert monitor.incidents[0].origin == "a"


@pytest.mark.parametrize(
    ("what", "options"),
    [("kind", {"kind": "odd"}), ("severity", {"severity": "fatal"}), ("tensor", {"tensor": "x"})],
)
def test_a_rule_knows_its_words(what: str, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=f"{what} must be one of .*; got"):
        Rule("kl", 1.0, **options)  # type: ignore[arg-type]


def test_a_rule_on_an_unknown_metric_is_refused_with_those_known() -> None:
    with pytest.raises(ValueError, match=r"'zero_fractoin', which is not known.*zero_fraction"):
        Monitor(run=False, rules=[Rule("zero_fractoin", 0.5)])


def test_what_is_no_rule_is_refused() -> None:
    for rules in ("kl", ["kl"]):
        with pytest.raises(TypeError, match="rules must be rules"):
            Monitor(run=False, rules=rules)  # type: ignore[arg-type]


def test_a_rule_may_watch_any_metric_of_the_catalogue() -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        monitor.observe("a", random.normal(3 if step >= 32 else 0, 1, (16, 8)))

    for metric in ("hellinger", "reverse_kl", "gaussian_kl", "skewness", "maximum", "octaves"):
        monitor = watch(show, 64, rules=[Rule(metric, 1e-9)])
        assert metric in monitor.history.metrics and monitor.alerts[0].metric == metric


def test_no_rules_is_no_alert() -> None:
    assert watch(zeros([0, 0, 1, 1]), 32, rules=[]).alerts == []


# --- metrics of one's own ----------------------------------------------------------------


def spread(summary: Summary) -> np.ndarray:
    return summary.moments.max - summary.moments.min


def further(current: Summary, reference: Summary) -> np.ndarray:
    return current.moments.max - reference.moments.max


def test_a_metric_of_ones_own_is_recorded_and_can_be_ruled_on() -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        values = random.random((16, 8))
        values[0, 0] = 50.0 if step >= 24 else 0.5
        monitor.observe("a", values)

    rules = [Rule("spread", 10.0, patience=1, kind="exploding", severity="critical")]
    monitor = watch(show, 48, metrics={"spread": spread, "further": further}, rules=rules)
    (alert,) = monitor.alerts
    assert (alert.kind, alert.metric, alert.severity, alert.step) == (
        "exploding", "spread", "critical", 24,
    )  # fmt: skip
    run = monitor.history
    assert run.metric("spread")[-1, 0] == pytest.approx(50, abs=0.5)
    assert run.metric("further")[0, 0] == 0 and run.metric("further")[-1, 0] > 48


def test_a_metric_of_the_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"'total' must return one number per site, shape \(2,\)"):
        watch(zeros([0]), 8, metrics={"total": lambda summary: summary.mean.sum()})


def test_a_metric_must_not_take_a_name_of_ours() -> None:
    """A run in which ``kl`` is something else could not be compared with any other."""
    with pytest.raises(ValueError, match="must not be one of shiftwatch's own; got 'kl'"):
        Monitor(run=False, metrics={"kl": spread})
    with pytest.raises(ValueError, match="letter followed by letters"):
        Monitor(run=False, metrics={"my metric": spread})
    with pytest.raises(TypeError, match="must be a function"):
        Monitor(run=False, metrics={"mine": 3})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="Give every further parameter a default"):
        Monitor(run=False, metrics={"mine": lambda a, b, c: a})


class Loudest:
    """A rule written from scratch: the rms of any output above ten, at once."""

    def columns(self, sites: Sites) -> np.ndarray:
        return sites.columns("output", train=True)

    def init(self, number: int) -> np.ndarray:
        return np.zeros(number, bool)

    def update(self, state: np.ndarray, evidence: Evidence) -> Verdict:
        mine = self.columns(evidence.sites)
        loud = np.nanmax(evidence.frame.rms[:, mine], axis=0) > 10
        step = int(evidence.frame.steps[0])
        found = [
            Firing(step, int(mine[i]), "exploding", "warning", "rms", 11.0, 10.0, "too loud", 1.0)
            for i in np.flatnonzero(loud & ~state)
        ]
        return Verdict(loud, found, loud)


def test_a_rule_of_ones_own_needs_three_methods() -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        monitor.observe("a", random.normal(size=(16, 8)) * (20 if step >= 40 else 1))
        if step > 8:
            monitor.observe("late", random.normal(size=(16, 8)))

    monitor = watch(show, 64, rules=[Loudest()])
    assert said(monitor.alerts) == [("a", "exploding")] and monitor.alerts[0].step == 40


# --- non-finite --------------------------------------------------------------------------


def poisoned(value: float, at: int, share: float = 0.01, name: str = "fc2") -> Show:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        for layer in (INPUT, "fc1", "fc2"):
            values = random.normal(size=(16, 8))
            if layer == name and step >= at:
                values[random.random((16, 8)) < share] = value
                values[0, 0] = value
            monitor.observe(layer, values)

    return show


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 1, 5, 21])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_value_that_is_not_finite_is_raised_in_its_very_step(
    value: float, at: int, share: float
) -> None:
    """Found to wait for the end of the ring."""
    monitor = watch(poisoned(value, at, share), at + 1)
    alert = monitor.alerts[0]
    assert (alert.kind, alert.layer, alert.origin) == ("nonfinite", "fc2", "fc2")
    assert (alert.step, alert.severity) == (at, "critical")
    detected = watch(poisoned(value, at, share), at + 40).alerts
    assert [a.detected for a in detected] == [at] and len(detected) == 1


def test_a_mask_in_the_input_is_no_fault() -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        values = random.normal(size=(16, 8))
        values[:, 5:] = -np.inf
        monitor.observe(INPUT, values)
        monitor.observe("fc1", random.normal(size=(16, 8)))

    monitor = watch(show, 64)
    assert monitor.alerts == []
    assert len(monitor.history) < 12  # and does not keep the monitor awake at every step


def test_nan_beside_a_mask_is_a_fault_at_its_own_step() -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        values = random.normal(size=(16, 8))
        values[:, 5:] = -np.inf
        if step >= 21:
            values[0, 0] = np.nan
        monitor.observe(INPUT, values)
        monitor.observe("fc1", random.normal(size=(16, 8)))

    (alert,) = watch(show, 40).alerts
    assert (alert.step, alert.detected, alert.origin) == (21, 21, INPUT)


def test_a_mask_that_comes_later_is_a_fault() -> None:
    assert said(watch(poisoned(-np.inf, 9, name=INPUT), 16).alerts) == [(INPUT, "nonfinite")]


def test_nan_everywhere_is_one_incident_from_the_first_layer() -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        for layer in ("fc1", "fc2", "fc3"):
            broken = layer != "fc1" and step >= 20
            monitor.observe(layer, np.full((16, 8), np.nan if broken else 1.0))

    monitor = watch(show, 64)
    assert said(monitor.alerts) == [("fc2", "nonfinite")]
    assert monitor.incidents[0].followers == ("fc3",)


def test_when_all_is_nan_in_one_step_it_began_in_the_forward_pass() -> None:
    """Found blamed on the first layer, whose weights were NaN once the step was over."""
    ones = np.ones((16, 8))
    with Monitor(run=False, strict=True) as monitor:
        for step in range(80):
            bad = step >= 20
            for name in ("fc1", "fc2", "fc3"):
                monitor.observe(name, ones * (np.nan if bad and name != "fc1" else 1))
            for name in ("fc3", "fc2", "fc1"):
                monitor.observe(name, ones * (np.nan if bad else 1), tensor="gradient")
                monitor.observe(name, ones * (np.nan if bad else 1), tensor="weight")
            monitor.step(loss=np.nan if bad else 1.0)
    (alert,) = monitor.alerts
    assert (alert.layer, alert.tensor, alert.origin, alert.step) == ("fc2", "output", "fc2", 20)
    assert monitor.incidents[0].followers == ("fc1", "fc3")
    assert len(monitor.history) < 20  # nor is every later step judged alone


def test_a_gradient_that_is_not_finite_began_where_it_entered() -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        for name in ("fc1", "fc2", "fc3"):
            monitor.observe(name, random.normal(size=(16, 8)))
        for name in ("fc3", "fc2", "fc1"):
            bad = step == 30 and name != "fc3"
            monitor.observe(name, np.full((16, 8), np.inf if bad else 1.0), tensor="gradient")

    (alert,) = watch(show, 48).alerts
    assert (alert.layer, alert.tensor, alert.step) == ("fc2", "gradient", 30)


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_raised_though_no_sample_shows_it(loss: float) -> None:
    random = np.random.default_rng(0)
    with Monitor(run=False, strict=True) as monitor:
        for step in range(40):
            monitor.observe("fc1", random.normal(size=(16, 8)))
            monitor.observe("fc2", random.normal(size=(16, 8)))
            monitor.step(loss=loss if step == 21 else 1.0)
    (alert,) = monitor.alerts
    assert (alert.kind, alert.layer, alert.metric) == ("nonfinite", "fc2", "loss")
    assert (alert.step, alert.detected) == (21, 21)


# --- shape -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(32, 16), (8, 4)])
def test_a_change_of_shape_alone_is_found(shape: tuple[int, int]) -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        two = random.choice([-1.0, 1.0], size=shape)  # the same mean and standard deviation
        monitor.observe("a", two if step >= 200 else random.normal(size=shape))

    (alert,) = watch(show, 216).alerts
    assert (alert.kind, alert.metric, alert.step) == ("distribution_shift", "js", 200)
    assert alert.value > alert.limit


def mixed(share: Callable[[int], float], *rest: tuple[str, Callable[[int], float]]) -> Show:
    """The input, and layers: a share of their values is one of two; mean and deviation stay."""

    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        for name, of in ((INPUT, share), *rest):
            two = random.choice([-1.0, 1.0], size=(32, 16))
            values = np.where(random.random((32, 16)) < of(step), two, random.normal(size=(32, 16)))
            monitor.observe(name, values)

    return show


def from_200(share: float) -> Callable[[int], float]:
    return lambda step: share if step >= 200 else 0.0


def shapes(show: Show) -> list[tuple[str, int]]:
    return [(a.layer, a.step) for a in watch(show, 216, rules=[Shape()]).alerts]


def test_the_input_may_change_its_shape_twice_as_much_as_a_layer() -> None:
    """Curricula and augmentation do: js 0.23 passes, which is found in a layer, and 0.5 does not."""
    some, all_of_them, none = from_200(0.7), from_200(1.0), from_200(0.0)
    assert shapes(mixed(some)) == []
    assert shapes(mixed(none, ("a", some))) == [("a", 200)]
    assert shapes(mixed(all_of_them)) == [(INPUT, 200)]


def test_the_input_explains_twice_its_change_of_shape_in_the_layers() -> None:
    """js 0.17 there explains 0.3 in a layer, and not 0.5."""
    little, some, all_of_them = from_200(0.6), from_200(0.8), from_200(1.0)
    assert shapes(mixed(little, ("a", some))) == []
    assert shapes(mixed(little, ("a", all_of_them))) == [("a", 200)]
    assert shapes(mixed(from_200(0.0), ("a", some))) == [("a", 200)]


def test_a_network_that_blows_up_does_not_accuse_its_input() -> None:
    """What stays as it is looked as if it moved, beside values a billion times as large."""

    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        factor = 3.0 ** max(0, step - 100)
        monitor.observe(INPUT, random.normal(size=(16, 16)), tensor="input")
        for i in range(5):
            monitor.observe(f"fc{i}", factor * random.normal(size=(16, 16)))

    found = watch(show, 144).alerts
    assert found and INPUT not in {place for a in found for place in (a.layer, a.origin)}


# --- dead and saturated units ------------------------------------------------------------


def relu(share: Callable[[int], float], width: int = 16) -> Show:
    """A linear layer, a ReLU of which a share is dead, and what it feeds."""

    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        before = random.normal(size=(32, width))
        before[:, : round(share(step) * width)] -= 30.0
        monitor.observe("fc1", np.clip(before, -4, 4))
        monitor.observe("relu1", np.maximum(before, 0), activation="relu")
        monitor.observe("fc2", random.normal(size=(32, 4)))

    return show


@pytest.mark.parametrize("share", [0.5, 0.625, 1.0])
def test_units_that_die_are_found_and_dated(share: float) -> None:
    """Where some are left it is a note: they may wake under other data."""
    monitor = watch(relu(lambda step: share if step >= 64 else 0.0), 128)
    alert = next(a for a in monitor.history.alerts if a.kind == "dead")
    assert alert.layer == "relu1" and alert.origin == "fc1"
    assert 62 <= alert.step <= 66 and alert.detected <= (96 if share >= 0.625 else 128)
    assert alert.value == pytest.approx(share) and alert.value >= alert.limit
    assert alert.severity == ("critical" if share == 1.0 else "info")


def test_the_last_units_that_die_raise_the_alarm_that_the_first_did_not() -> None:
    show = relu(lambda step: 0.0 if step < 64 else 0.625 if step < 112 else 1.0)
    notes = [(a.severity, a.value) for a in watch(show, 160).history.alerts if a.kind == "dead"]
    assert notes == [("info", 0.625), ("critical", 1.0)]


@pytest.mark.parametrize(
    ("before", "after", "severity"),
    [
        (0.0, 0.875, "info"),
        (0.0, 0.9375, "critical"),
        (0.5, 0.9375, "info"),
        (0.5, 1.0, "critical"),
        (0.625, 1.0, "critical"),
    ],
)
def test_the_last_units_of_a_layer_that_never_had_many_are_no_alarm_until_all_are_gone(
    before: float, after: float, severity: str
) -> None:
    show = relu(lambda step: before if step < 64 else after)
    (alert,) = [a for a in watch(show, 192).history.alerts if a.kind == "dead"]
    assert (alert.severity, alert.value) == (severity, after)


@pytest.mark.parametrize(("width", "severity"), [(4, "info"), (8, "critical")])
def test_a_layer_of_a_few_units_may_die_whole(width: int, severity: str) -> None:
    """As one in a gate of channels."""
    monitor = watch(relu(lambda step: min(1.0, max(0, step - 64) / 64), width), 192)
    found = [a for a in monitor.history.alerts if a.layer == "relu1"]
    assert ("dead", severity) in {(a.kind, a.severity) for a in found}
    assert (severity == "info") == all(a.severity == "info" for a in found)


@pytest.mark.parametrize(("width", "shifts"), [(4, set()), (16, {"variance_shift", "mean_shift"})])
def test_units_that_fall_silent_are_no_shift_of_a_layer_of_a_few(
    width: int, shifts: set[str]
) -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        values = np.maximum(random.normal(size=(64, width)), 0)
        values[:, width // 4 :] *= step < 80
        monitor.observe("relu", values, activation="relu")

    assert {alert.kind for alert in watch(show, 112).alerts} - {"dead"} == shifts


def test_a_layer_born_with_most_units_dead_is_raised_once_none_is_left() -> None:
    monitor = watch(relu(lambda step: 0.8125 if step < 64 else 1.0), 160)
    notes = [(a.severity, a.value, a.limit) for a in monitor.history.alerts if a.kind == "dead"]
    assert notes == [("info", 0.8125, 0.75), ("critical", 1.0, 0.97)]


def test_a_layer_born_dead_is_found_once_it_can_be_told() -> None:
    few = watch(relu(lambda step: 0.875), 64).history.alerts
    assert [(a.kind, a.severity) for a in few] == [("dead", "info")]
    monitor = watch(relu(lambda step: 0.9375), 64)
    assert said(monitor.alerts) == [("relu1", "dead")]
    assert monitor.alerts[0].detected <= 23 and "from the start" in monitor.alerts[0].message


def test_units_of_a_layer_that_came_back_wider_begin_anew() -> None:
    """Found to be counted as units of the layer beside it."""

    def show(monitor: Monitor, width: int, random: np.random.Generator) -> None:
        monitor.observe("a", np.maximum(random.normal(size=(32, width)), 0), activation="relu")
        monitor.observe("b", np.zeros((32, 8)), activation="relu")  # all dead
        monitor.step()

    random = np.random.default_rng(0)
    first = Monitor(run=False, rules=(), strict=True)
    for _ in range(16):
        show(first, 4, random)
    with Monitor(run=False, rules=(), strict=True) as monitor:
        monitor.load_state_dict(first.state_dict())
        for _ in range(16):
            show(monitor, 9, random)
    assert monitor.history.metric("dead_fraction")[-1].tolist() == [0, 1]


def test_some_units_dead_from_the_start_are_healthy() -> None:
    assert watch(relu(lambda step: 0.125), 96).alerts == []


def test_many_zeros_without_a_dead_unit_are_healthy() -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        sparse = random.random((32, 16)) < (0.05 if step > 64 else 0.08)
        monitor.observe("relu", np.where(sparse, random.random((32, 16)), 0.0), activation="relu")

    assert [a for a in watch(show, 160).alerts if a.kind == "dead"] == []


def gate(activation: str, push: Callable[[int], float], head: bool = False) -> Show:
    squash = {"tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}[activation]

    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        before = random.normal(size=(32, 8)) * push(step)
        monitor.observe("fc1", random.normal(size=(32, 8)))
        monitor.observe("gate", squash(before), activation=activation)
        if not head:
            monitor.observe("fc2", random.normal(size=(32, 4)))

    return show


def grows(step: int) -> float:
    return 1.0 + max(0, step - 32) * 0.4


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_saturation_that_grows_is_found_however_slowly(activation: str) -> None:
    kinds = [a.kind for a in watch(gate(activation, grows), 160).alerts]
    assert "saturation" in kinds


def test_the_head_may_saturate() -> None:
    """There it is the goal: a classifier that has become sure."""
    alerts = watch(gate("sigmoid", grows, head=True), 160).alerts
    assert [a for a in alerts if a.kind == "saturation"] == []


def test_a_layer_born_saturated_is_found_and_one_half_saturated_is_not() -> None:
    assert ("gate", "saturation") in said(watch(gate("tanh", lambda step: 30.0), 40).alerts)
    assert watch(gate("tanh", lambda step: 2.0), 96).alerts == []


# --- weights -----------------------------------------------------------------------------


def trained(size: Callable[[int, int], float], layers: int = 4) -> Show:
    """Layers whose weights move by a share of their size at every step."""
    weights = [np.random.default_rng(i).normal(size=(16, 16)) for i in range(layers)]

    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        for i, weight in enumerate(weights):
            weight += size(step, i) * random.normal(size=weight.shape)
            monitor.observe(f"fc{i}", random.normal(size=(16, 16)))
            monitor.observe(f"fc{i}", 1e-3 * random.normal(size=(16, 16)), tensor="gradient")
            monitor.observe(f"fc{i}", weight, tensor="weight")

    return show


def test_steady_updates_are_silent() -> None:
    assert watch(trained(lambda step, i: 1e-3), 160).alerts == []


@pytest.mark.parametrize("origin", [0, 2])
def test_one_update_out_of_line_is_found_in_its_layer(origin: int) -> None:
    monitor = watch(trained(lambda step, i: 0.3 if (step, i) == (80, origin) else 1e-3), 128)
    alert = monitor.alerts[0]
    assert (alert.kind, alert.layer, alert.origin) == ("update", f"fc{origin}", f"fc{origin}")
    assert (
        alert.step == 80 and alert.tensor == "update" and alert.value == pytest.approx(0.3, rel=0.2)
    )


@pytest.mark.parametrize(
    ("step", "size", "alarms"), [(40, 0.17, 0), (80, 0.17, 1), (40, 0.24, 1), (80, 0.12, 0)]
)
def test_an_update_must_be_larger_before_there_is_a_history(
    step: int, size: float, alarms: int
) -> None:
    """A fifth of its weight, later a seventh: a training that leaves its first plateau takes large steps."""
    show = trained(lambda now, i: size if (now, i) == (step, 2) else 1e-3)
    found = watch(show, 96, rules=[Optimizer()]).alerts
    assert [(a.kind, a.layer) for a in found] == [("update", "fc2")] * alarms


def test_updates_that_grow_at_the_same_rate_and_stay_small_are_a_note() -> None:
    """Sixtyfold, to 3 % of the weight: worth knowing, and no alarm."""
    show = trained(lambda step, i: 0.03 if step >= 80 and i == 1 else 5e-4)
    monitor = watch(show, rules=[Optimizer()])
    (note,) = monitor.history.alerts
    assert (note.kind, note.layer, note.severity) == ("update", "fc1", "info")
    assert monitor.alerts == []
    assert "at the same learning rate" in note.message


def test_a_slope_near_zero_may_move_far_in_relation_to_its_size() -> None:
    """Nor does a bias carry a layer; weights do."""
    sites = Sites()
    for name in ("Linear", "PReLU"):
        for part in ("", "bias"):
            sites.add(Site(name, "update", part), Layer(name, module=name, parameters=True))
    assert [site.layer for site, main in zip(sites.all, sites.main, strict=True) if main] == [
        "Linear"
    ]


def test_weights_that_are_pruned_beside_norms_and_slopes_are_no_corruption() -> None:
    """Half of the layers or more are never pruned; what can be is, all at once."""
    modules = ("Linear", "LayerNorm", "PReLU") * 2
    sites = Sites()
    for i, name in enumerate(modules):
        norm = "layer" if name == "LayerNorm" else ""
        sites.add(Site(f"{i}", "weight"), Layer(f"{i}", module=name, parameters=True, norm=norm))
    mine = np.arange(len(modules))
    change = np.array([0.3 if name == "Linear" else 0.0 for name in modules])
    none = np.zeros(len(modules), np.int64)
    assert Optimizer()._tampering(sites, mine, change, 50, none.copy(), none.copy()) == []
    alone = np.where(mine == 0, change, 0.0)
    (found,) = Optimizer()._tampering(sites, mine, alone, 50, none.copy(), none.copy())
    assert (found.kind, found.column) == ("corruption", 0)


def test_a_weight_that_stops_moving_is_found() -> None:
    monitor = watch(trained(lambda step, i: 0.0 if step >= 64 and i == 1 else 1e-3), 128)
    assert said(monitor.alerts) == [("fc1", "frozen")]
    assert monitor.alerts[0].step == 64


def test_single_factors_that_a_norm_undoes_carry_nothing() -> None:
    """One weight per unit before a norm: of no size is more to be seen than its sign."""
    sites = Sites()
    for name, shape, parents in (
        ("pixel", (8, 1, 1, 1), (INPUT,)),
        ("wide", (8, 1, 3, 3), (INPUT,)),
        ("scale", (8, 1), (INPUT,)),
        ("norm", (8,), ("pixel", "wide")),
        ("head", (4, 8), ("norm", "scale")),
    ):
        norm = "batch" if name == "norm" else ""
        layer = Layer(name, "Conv2d", parameters=True, parents=parents, norm=norm, shape=shape)
        sites.add(Site(name, "update"), layer)
    carrying = [site.layer for site, main in zip(sites.all, sites.main, strict=True) if main]
    assert carrying == ["wide", "scale", "norm", "head"]


@pytest.mark.parametrize("still", [{0}, {1, 2}])
def test_the_first_weights_or_many_that_never_moved_are_a_choice(still: set[int]) -> None:
    """A trunk that is not handed to the optimizer, or all but adapters."""
    assert watch(trained(lambda step, i: 0.0 if i in still else 1e-3), 128).alerts == []


def test_a_single_weight_behind_others_that_never_moved_was_forgotten() -> None:
    (alert,) = watch(trained(lambda step, i: 0.0 if i == 1 else 1e-3), 128).alerts
    assert (alert.kind, alert.layer) == ("frozen", "fc1")


def test_a_model_that_never_moves_is_found() -> None:
    kinds = {a.kind for a in watch(trained(lambda step, i: 0.0), 64).alerts}
    assert kinds == {"frozen"}


def test_a_whole_model_that_stops_moving_at_a_constant_rate_is_found() -> None:
    def size(step: int, i: int) -> float:
        return 0.0 if step >= 64 else 1e-3

    monitor = watch(trained(size), rate=lambda step: 0.1)
    assert {a.kind for a in monitor.alerts} == {"frozen"} and monitor.alerts[0].step == 64


@pytest.mark.parametrize("least", [0.0, 1e-7])
def test_a_schedule_that_ends_at_nothing_freezes_nothing(least: float) -> None:
    """Found called frozen: at such a rate the weights would move by less than they can show."""

    def rate(step: int) -> float:
        return max(least, 0.1 * 0.5 * (1 + np.cos(np.pi * min(step, 100) / 100)))

    def size(step: int, i: int) -> float:
        return 1e-2 * rate(step) if rate(step) > 1e-4 else 0.0

    assert watch(trained(size), 200, rate=rate).alerts == []


# --- updates: blame and growth -----------------------------------------------------------


def once(size: float) -> Callable[[int, int], float]:
    return lambda step, i: size if (step, i) == (90, 1) else 1e-3


@pytest.mark.parametrize(("high", "found"), [(1.0, True), (4.0, False)])
def test_a_batch_is_to_blame_for_the_update_that_it_makes(high: float, found: bool) -> None:
    """Where the loss says so: a hard batch has a large gradient."""
    monitor = watch(trained(once(0.3)), loss=lambda step: high if step == 90 else 1.0)
    assert [(a.layer, a.kind, a.step) for a in monitor.alerts] == [("fc1", "update", 90)] * found


def test_no_batch_is_to_blame_for_an_update_that_leaves_nothing() -> None:
    monitor = watch(trained(once(3.0)), loss=lambda step: 4.0 if step == 90 else 1.0)
    (alert,) = monitor.alerts
    assert (alert.layer, alert.kind, alert.step) == ("fc1", "update", 90)
    assert alert.severity == "critical"


@pytest.mark.parametrize("after", [90, 60])
def test_what_the_run_does_on_purpose_excuses_large_updates(after: int) -> None:
    """For as long as it is recent."""
    changed = (Event(after, "shape", "8 to 12 for each sample"),)
    monitor = watch(trained(once(0.3)), events=changed)
    assert said(monitor.alerts) == ([] if after == 90 else [("fc1", "update")])


def test_updates_that_grow_too_slowly_to_jump_are_found() -> None:
    """Every step a tenth more: none is far above the last."""

    def size(step: int, i: int) -> float:
        return min(1e-3 * 1.1 ** max(0, step - 160), 0.5) if i == 2 else 1e-3

    monitor = watch(trained(size), 260)
    first = monitor.alerts[0]
    assert (first.kind, first.layer, first.tensor) == ("update", "fc2", "update")
    assert 160 < first.step <= 225


def test_updates_that_grow_slowly_are_found_where_some_steps_are_left_out() -> None:
    def size(step: int, i: int) -> float:
        return min(1e-3 * 1.1 ** max(0, step - 320), 0.5) if i == 2 else 1e-3

    monitor = watch(trained(size), 520, every=2)
    assert ("fc2", "update") in said(monitor.alerts)


def test_updates_that_grow_with_a_warmup_are_healthy() -> None:
    """A hundredfold rise in 300 steps, and then a decay."""

    def rate(step: int) -> float:
        return 1e-2 * min(1.0, (1 + step) / 300) * 0.998 ** max(0, step - 300)

    assert watch(trained(lambda step, i: rate(step)), 500, rate=rate).alerts == []
    assert watch(trained(lambda step, i: rate(step)), 500).alerts == []


def test_a_few_weights_may_move_as_they_like() -> None:
    """The relative size of an update of three numbers is chance."""
    bias = np.random.default_rng(0).normal(size=3)

    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        bias[:] += (0.3 if step == 90 else 1e-3) * random.normal(size=3)
        monitor.observe("fc", random.normal(size=(16, 3)))
        monitor.observe("fc", bias, tensor="weight", part="bias")

    assert watch(show).alerts == []


def test_updates_of_all_layers_that_fall_at_the_same_rate_are_found() -> None:
    monitor = watch(trained(lambda step, i: 1e-7 if step >= 80 else 1e-3), rate=lambda step: 0.1)
    assert {a.kind for a in monitor.alerts} == {"update"}
    (first, *_) = monitor.alerts
    assert first.severity == "warning" and "updates f" in first.message and first.detected < 100


def test_updates_that_fall_with_the_rate_are_healthy() -> None:
    def rate(step: int) -> float:
        return 1e-3 if step >= 80 else 1e-1

    assert watch(trained(lambda step, i: rate(step) / 100), rate=rate).alerts == []


def test_updates_of_one_layer_that_fade_while_the_others_go_on_are_laid_there() -> None:
    alone = trained(lambda step, i: 1e-6 if step >= 80 and i == 1 else 1e-3)
    (alert,) = watch(alone, rate=lambda step: 0.1).alerts
    assert (alert.kind, alert.layer) == ("update", "fc1") and 80 <= alert.detected < 112


def test_first_steps_that_leave_nothing_of_the_weights_are_found() -> None:
    monitor = watch(trained(lambda step, i: 0.6 if step < 12 else 1e-3), 96)
    (alert,) = monitor.alerts
    # Arrays have their first update at the second step: it is the difference of two weights.
    assert (alert.kind, alert.step, alert.severity) == ("update", 1, "warning")
    assert "from the start" in alert.message and alert.detected <= 8


def test_large_first_steps_of_one_layer_or_two_steps_are_healthy() -> None:
    """A layer born at zero moves far in relation to its size."""
    assert watch(trained(lambda step, i: 0.6 if step < 12 and i == 3 else 1e-3), 96).alerts == []
    assert watch(trained(lambda step, i: 0.5 if 0 < step < 3 else 1e-3), 96).alerts == []


@pytest.mark.parametrize(
    ("size", "steps", "limit"),
    [
        (0.19, 7, None),
        (0.19, 8, 0.15),
        (0.4, 3, None),
        (0.4, 4, 0.25),
        (0.6, 1, None),
        (1.0, 1, 0.6),
    ],
)
def test_first_steps_that_stay_large_are_too_large_sooner(
    size: float, steps: int, limit: float | None
) -> None:
    """One of more than 0.6, four of 0.25 or eight of 0.15, within the first sixteen."""
    show = trained(lambda step, i: size if 1 <= step <= steps else 1e-3)
    found = watch(show, 96, rules=[Beginning()]).alerts
    expected = [] if limit is None else [("update", 1, limit)]
    assert [(a.kind, a.step, a.limit) for a in found] == expected


@pytest.mark.parametrize(
    ("faster", "larger", "alone", "alarms"),
    [(1, 12, False, 1), (4, 12, False, 0), (4, 12, True, 1), (4, 48, False, 1), (20, 80, False, 1)],
)
def test_a_faster_rate_explains_larger_updates_of_all(
    faster: float, larger: float, alone: bool, alarms: int
) -> None:
    """As much larger as it is faster, up to five times; and nothing that happens to one layer."""

    def size(step: int, i: int) -> float:
        return 0.015 * (larger if step >= 90 and (i == 1 or not alone) else 1)

    monitor = watch(
        trained(size),
        100,
        rate=lambda step: 0.1 * (faster if step >= 90 else 1),
        rules=[Optimizer()],
    )
    assert [(a.kind, a.step) for a in monitor.alerts] == [("update", 90)] * alarms


def test_a_rate_explains_updates_until_it_is_the_usual_one() -> None:
    """It is compared with its mean over a hundred steps: 500 later it is no longer fast."""

    def size(step: int, i: int) -> float:
        return 0.004 * (4 if step >= 90 else 1) * (12 if step == 590 else 1)

    def rate(step: int) -> float:
        return 0.1 * (4 if step >= 90 else 1)

    monitor = watch(trained(size), 600, rate=rate, rules=[Optimizer()])
    assert [(a.kind, a.step) for a in monitor.alerts] == [("update", 590)]


@pytest.mark.parametrize(("row", "alarms"), [((150, 151), 0), ((150, 151, 152), 1)])
def test_updates_above_their_lasting_mean_count_three_in_a_row(
    row: tuple[int, ...], alarms: int
) -> None:
    """After one of eight times the usual ×18 is neither ten times the largest nor a record."""

    def size(step: int, i: int) -> float:
        return 0.01 * (18 if step in row else 8 if step == 140 else 1) if i == 2 else 0.01

    monitor = watch(trained(size), 170, rules=[Optimizer(octaves=9)])
    assert [(a.layer, a.kind, a.step) for a in monitor.alerts] == [("fc2", "update", 152)] * alarms


# --- settings ----------------------------------------------------------------------------


def leapt(
    told: Callable[[int], Told], rate: Callable[[int], float] = lambda step: 0.1
) -> list[int]:
    show = trained(lambda step, i: 0.01, layers=1)
    return [a.step for a in watch(show, 120, rate=rate, told=told, rules=[Settings()]).alerts]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (10, 99, False), (12, 101, True), (13, 101, False), (1, 99, False), (1, 101, True),
        (np.nan, 1000, False), (1000, 10, False),
    ],
)  # fmt: skip
def test_momentum_is_told_from_a_hundred_steps_and_eight_times_as_many(
    before: float, after: float, found: bool
) -> None:
    assert leapt(lambda step: (after if step >= 83 else before, 0.0, 0.0)) == [83] * found


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (1e-4, 0.0024, False), (2e-4, 0.0026, True), (3e-4, 0.0026, False), (9e-3, 0.011, True),
        (9e-3, 0.0099, False), (0.0, 0.0026, True), (0.0, 0.0024, False),
    ],
)  # fmt: skip
def test_decay_is_told_from_a_hundredth_or_a_leap_to_a_quarter_of_it(
    before: float, after: float, found: bool
) -> None:
    assert leapt(lambda step: (10.0, after if step >= 83 else before, 0.0)) == [83] * found


@pytest.mark.parametrize(
    ("forgotten", "moved", "found"),
    [(83.0, 0.01, True), (16.0, 0.01, True), (15.0, 0.01, False), (83.0, 9e-4, False)],
)
def test_an_optimizer_that_lost_its_state_is_told_where_it_moves_the_weights(
    forgotten: float, moved: float, found: bool
) -> None:
    show = trained(lambda step, i: moved, layers=1)
    monitor = watch(
        show,
        120,
        rate=lambda step: 0.1,
        told=lambda step: (10.0, 0.0, forgotten if step == 83 else 0.0),
        rules=[Settings()],
    )
    assert [(a.kind, a.step) for a in monitor.alerts] == [("update", 83)] * found


def test_settings_that_nobody_told_are_no_leap() -> None:
    nothing = (np.nan, np.nan, np.nan)
    assert leapt(lambda step: nothing, rate=lambda step: 0.1 if step < 83 else np.nan) == []


@pytest.mark.parametrize(
    ("factor", "found"), [(5.9, False), (6.1, True)]
)  # fmt: skip
@pytest.mark.parametrize("settled", [1.0, 3.0, 3.5])
def test_a_leap_must_also_be_beyond_all_rates_so_far(
    settled: float, factor: float, found: bool
) -> None:
    """×6 in a step, and ×1.8 what it was at most, which here was once three times as much."""

    def rate(step: int) -> float:
        return 0.1 * (settled if 30 <= step < 60 else factor if step >= 83 else 1.0)

    assert leapt(lambda step: (10.0, 0.0, 0.0), rate) == [83] * (found and factor >= 1.8 * settled)


@pytest.mark.parametrize(
    ("moved", "leap", "found"), [(0.009, 12.0, 0), (0.011, 12.0, 1), (0.02, 5.9, 0)]
)
def test_a_leap_of_one_group_is_told_of_the_layer_that_it_moves(
    moved: float, leap: float, found: int
) -> None:
    """By a hundredth of its size, where the median weight must move by half as much."""
    monitor = watch(
        trained(lambda step, i: moved if i == 2 and step >= 83 else 1e-3),
        120,
        rate=lambda step: 0.1 * (leap if step >= 83 else 1),
        rules=[Settings()],
    )
    assert [(a.layer, a.kind, a.step) for a in monitor.alerts] == [("fc2", "update", 83)] * found


# --- the beginning -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "falls", "found"),
    [
        ((0.12, 0.12, 0.12), 1.0, 1),
        ((0.12, 0.12, 0.12), 0.99, 1),
        ((0.12, 0.12, 0.12), 0.94, 0),  # it learns: a rate that a range test found
        ((0.25, 0.25, 0.25), 0.94, 1),
        ((0.25, 0.25, 0.25), 0.91, 0),
        ((0.4, 0.4, 0.4), 0.91, 1),
        ((0.4, 0.4, 0.4), 0.85, 0),
        ((0.09, 0.09, 0.09), 1.0, 0),
        ((0.001, 0.12, 0.12, 0.5), 1.0, 1),
        ((0.001, 0.001, 0.5, 0.5), 1.0, 0),  # of adapters one half begins at zero
    ],
)
def test_large_first_steps_after_which_the_loss_stands_are_told(
    sizes: tuple[float, ...], falls: float, found: int
) -> None:
    """Half of the weights by a tenth of their size each, or by a fifth; after 64 losses."""
    monitor = watch(
        trained(lambda step, i: sizes[i] if step < 4 else 1e-3, layers=len(sizes)),
        96,
        loss=lambda step: 2.0 * falls ** (step / 32),
        rules=[Beginning(limits=((99, 1.0),))],
    )
    told = [(a.kind, a.step, 63 <= a.detected <= 72) for a in monitor.alerts]
    assert told == [("update", 0, True)] * found


@pytest.mark.parametrize(
    ("size", "shares", "found"),
    [
        (0.12, (0.9, 0.09), 1),
        (0.12, (0.9, 0.11), 0),
        (0.17, (0.9, 0.29), 1),
        (0.17, (0.9, 0.31), 0),
        (0.17, (0.9, 0.5, 0.09), 0),  # that late heads may well be sharp
        (0.09, (0.9, 0.05), 0),
    ],
)
def test_large_first_steps_after_which_heads_look_at_single_keys_are_told(
    size: float, shares: tuple[float, ...], found: int
) -> None:
    """An entropy of a tenth of the largest possible one, or of three after larger steps, within 64 losses."""
    show = trained(lambda step, i: size if step < 4 else 1e-3)
    alerts = heard(shares, show, loss=lambda step: 2 * 0.9 ** (step / 32), rules=[
        Beginning(limits=((99, 1.0),))
    ])  # fmt: skip
    assert [(a.kind, a.step) for a in alerts] == [("update", 0)] * found


def test_heads_that_become_sharp_late_are_no_beginning_where_no_losses_are_given() -> None:
    show = trained(lambda step, i: 0.12 if step < 4 else 1e-3)
    assert heard((0.9, 0.8, 0.1), show, rules=[Beginning(limits=((99, 1.0),))]) == []


# --- rectifiers --------------------------------------------------------------------------


def rectified(threshold: Callable[[int], float], **options: Any) -> list[Alert]:
    """Alerts of a rectifier that sets to zero what lies below a threshold, in deviations."""

    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        x = random.normal(size=(32, 16))
        x = np.where(x > threshold(step), x, 0.0)
        monitor.observe("relu", x, activation="relu")

    return watch(show, 160, rules=[Rectified()], **options).alerts


def test_a_rectifier_that_gives_no_zeros_any_more_is_found() -> None:
    (alert,) = rectified(lambda step: -0.5 if step < 83 else -9.0)
    assert (alert.layer, alert.kind, alert.origin) == ("relu", "distribution_shift", "relu")
    assert (alert.metric, alert.value) == ("zero_fraction", 0.0)
    assert 80 <= alert.step <= 88 and alert.detected <= 96


@pytest.mark.parametrize(
    "threshold",
    [
        lambda step: -0.5,
        lambda step: -0.5 - step / 40,  # it learns, window by window, to let all of it through
        lambda step: -0.5 if step < 83 else -1.5,
        lambda step: -1.5 if step < 83 else -9.0,  # there were few
        lambda step: -0.5 if step % 40 else -9.0,  # single batches
    ],
)
def test_a_rectifier_whose_zeros_grow_fewer_is_healthy(threshold: Callable[[int], float]) -> None:
    assert rectified(threshold) == []


def test_zeros_that_leave_with_another_shape_of_the_data_are_no_fault() -> None:
    events = (Event(83, "shape", "so it is"),)
    assert rectified(lambda step: -0.5 if step < 83 else -9.0, events=events) == []


# --- attention ---------------------------------------------------------------------------


class Heard(ArraySource):
    """Arrays, and every 32 steps the entropy of an attention before the first of them."""

    shares: tuple[float, ...] = ()

    def take(self) -> Batch:
        batch = super().take()
        readings = tuple(
            Attended(step, 0, self.shares[step // 32], 1.0)
            for step in batch.steps.tolist()
            if step % 32 == 0
        )
        return replace(batch, attended=readings)


def heard(
    shares: tuple[float, ...],
    show: Show,
    loss: Callable[[int], float] | None = None,
    **options: Any,
) -> list[Alert]:
    """What is said of a course of entropies, over the largest possible one."""
    with Monitor(run=False, strict=True, **options) as monitor:
        monitor._arrays = Heard()
        monitor._arrays.shares = shares
        monitor.attach(monitor._arrays)
        for step in range(32 * len(shares)):
            show(monitor, step, np.random.default_rng(step))
            monitor.step(loss=loss(step) if loss else None)
    return monitor.alerts


@pytest.mark.parametrize(
    ("shares", "alarms"),
    [
        ((0.98, 0.94, 0.77, 0.59, 0.41, 0.35, 0.005), 1),  # sharp already, and it was learning fast
        ((0.98, 0.94, 0.77, 0.59, 0.41, 0.35, 0.06), 0),
        ((0.9, 0.5, 0.3, 0.16, 0.09, 0.05, 0.03), 0),  # at its own pace
        ((0.9, 0.3, 0.09, 0.027, 0.008, 0.0024, 0.0007), 0),
        ((0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.2), 1),
        ((0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.3), 0),  # heads find what to look at, some at once
        ((0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.2), 0),
    ],
)
def test_an_entropy_is_compared_with_its_own_moves_in_octaves_too(
    shares: tuple[float, ...], alarms: int
) -> None:
    """Of what is sharp already not much is left to fall."""

    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        monitor.observe("proj", random.normal(size=(4, 2)))

    found = heard(shares, show, rules=[Attention()])
    assert [a.kind for a in found] == ["collapse"] * alarms


# --- fading ------------------------------------------------------------------------------


def faded(
    octaves: Callable[[int, int], float], loss: Callable[[int], float], rate: Callable[[int], float]
) -> list[Alert]:
    """Updates that many octaves below a hundredth, four layers."""
    show = trained(lambda step, i: 0.01 * 2 ** -octaves(step, i))
    return watch(show, 200, loss=loss, rate=rate, rules=[Fading()]).alerts


def slope(step: int) -> float:
    """Falls by one within ten steps from 100 on, over a hundred steps."""
    return max(0, min(step, 200) - 100) / 10


@pytest.mark.parametrize(
    ("steep", "credit", "slower", "found"),
    [
        (0.9, 0.0, 0.0, False),  # 5.8 octaves within 64 steps
        (1.0, 0.0, 0.0, True),
        (1.3, 0.4, 0.0, False),  # the loss fell by 0.4 octaves where the updates did by 1.3
        (2.6, 0.4, 0.0, True),
        (1.0, -1.0, 0.0, True),  # a loss that rises explains nothing, nor adds to it
        (0.9, -1.0, 0.0, False),
        (2.6, 0.0, 2.6, False),  # the learning rate fell as much
    ],
)
def test_updates_fade_where_neither_loss_nor_rate_did(
    steep: float, credit: float, slower: float, found: bool
) -> None:
    alerts = faded(
        lambda step, i: steep * slope(step),
        loss=lambda step: 2 ** -(credit * slope(step)),
        rate=lambda step: 0.1 * 2 ** -(slower * slope(step)),
    )
    assert [a.kind for a in alerts] == ["update"] * found


@pytest.mark.parametrize(
    ("steep", "all_of_them", "found"), [(2.0, 0.0, 1), (2.0, 0.6, 1), (1.5, 0.6, 0)]
)
def test_one_layer_fades_beyond_what_the_others_do(
    steep: float, all_of_them: float, found: int
) -> None:
    alerts = faded(
        lambda step, i: (steep if i == 2 else all_of_them) * slope(step),
        loss=lambda step: 1.0,
        rate=lambda step: 0.1,
    )
    assert [a.layer for a in alerts] == ["fc2"] * found


# --- the loss ----------------------------------------------------------------------------


def learning(
    loss: Callable[[int], float],
    noisy: int = 10_000,
    steps: int = 240,
    gradients: bool = True,
    **options: Any,
) -> Monitor:
    """A net whose activations show nothing; its inputs are twice as loud from a step on."""
    random = np.random.default_rng(1)
    wobble = np.exp(random.normal(0, 0.15, steps))

    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        monitor.observe(
            INPUT, random.normal(size=(16, 16)) * (1.5 if step >= noisy else 1), tensor="input"
        )
        for name in ("fc1", "head"):
            monitor.observe(name, random.normal(size=(16, 8)))
        for name in ("head", "fc1") if gradients else ():
            monitor.observe(name, 1e-3 * random.normal(size=(16, 8)), tensor="gradient")

    return watch(show, steps, loss=lambda step: loss(step) * float(wobble[step]), **options)


def about_loss(monitor: Monitor) -> list[Alert]:
    return [a for a in monitor.alerts if a.metric == "loss"]


def risen(step: int) -> float:
    """Falls, and is ten times as high from step 120 on."""
    return float(2.3 * 0.99**step) if step < 120 else 7.0


def test_a_loss_that_rises_and_stays_is_found_at_the_head() -> None:
    monitor = learning(risen)
    (alert,) = monitor.alerts
    assert (alert.kind, alert.layer, alert.origin) == ("exploding", "head", "head")
    assert (alert.tensor, alert.metric, alert.severity) == ("gradient", "loss", "warning")
    assert abs(alert.step - 120) <= 2 and alert.detected <= 120 + 64
    assert alert.value > alert.limit and alert.value == pytest.approx(7, rel=0.2)
    assert "labels that belong to other samples" in alert.advice


def test_a_loss_that_rises_is_found_where_no_gradients_are_shown() -> None:
    """Then it is said of the output of the head, as in a loop without a backward pass of its own."""
    (alert,) = learning(risen, gradients=False).alerts
    assert (alert.layer, alert.tensor, alert.metric) == ("head", "output", "loss")
    assert abs(alert.step - 120) <= 2 and alert.detected <= 120 + 64


def test_a_loss_that_rises_again_after_it_came_back_is_found_again() -> None:
    def loss(step: int) -> float:
        return 7.0 if 120 <= step < 200 or step >= 420 else 0.5

    assert [abs(a.step - at) <= 2 for a, at in zip(
        about_loss(learning(loss, steps=520)), (120, 420), strict=True
    )] == [True, True]  # fmt: skip


def forgotten(step: int) -> float:
    """Learnt by step 120, then lost again, and more: to half as much again as at first."""
    return float(max(2.3 * 0.99**step, 0.9)) if step < 120 else 3.4


@pytest.mark.parametrize(("least", "found"), [(0.9, 1), (2.0, 0)])
def test_a_loss_above_that_of_the_beginning_is_found_though_it_rose_by_less(
    least: float, found: int
) -> None:
    """Where it had fallen by a quarter."""
    alerts = about_loss(learning(lambda step: max(forgotten(step), least), steps=200))
    assert [abs(a.step - 120) <= 2 and a.detected <= 168 for a in alerts] == [True] * found


def test_a_loss_above_that_of_the_beginning_is_found_though_it_falls() -> None:
    """Targets of other samples: from far above to what a constant prediction attains, and no further."""
    alerts = about_loss(
        learning(lambda step: 2.3 * 0.99**step if step < 120 else 3.3 + 5 * 0.93 ** (step - 120))
    )
    assert [a.detected <= 176 for a in alerts] == [True]


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (lambda step: 2.9, 1),
        (lambda step: 2.2, 0),  # two fifths of it are gone
        (lambda step: 1.7 + 1.5 * 0.97 ** (step - 120), 0),  # it is learnt again
    ],
)
def test_a_loss_that_cannot_triple_is_found_where_what_was_learnt_is_gone(
    after: Callable[[int], float], found: int
) -> None:
    """A language model's: from 3.2 to 1.7, and most of the way back at once."""
    alerts = about_loss(
        learning(lambda step: max(3.2 * 0.99**step, 1.7) if step < 120 else after(step))
    )
    assert [(abs(a.step - 120) <= 8, a.detected <= 176) for a in alerts] == [(True, True)] * found
    assert all(a.limit < a.value < 3 * 1.7 for a in alerts)


RECOVERS: dict[str, Callable[[int], float]] = {
    "a hard batch": lambda step: 20.0 if step == 120 else 0.5,
    "a hard stretch": lambda step: 7.0 if 120 <= step < 140 else 0.5,
    "a new class": lambda step: 0.5 + 6.5 * 0.96 ** (step - 120) if step >= 120 else 0.5,
    "new classes": lambda step: 5 * 0.96 ** (step - 120) if step >= 120 else 2.3 * 0.985**step,
    "another task": lambda step: 0.1 + 4 * 0.98 ** (step - 120) if step >= 120 else 0.1,
    "a rise of twice": lambda step: 1.0 if step >= 120 else 0.5,
    "a slow rise": lambda step: 0.5 * 1.004**step,
    "a loss below zero": lambda step: -1.0 if step < 120 else -9.0,
    "a loss that crosses zero": lambda step: 0.3 * np.cos(step / 7),
}


@pytest.mark.parametrize("name", RECOVERS)
def test_a_loss_that_recovers_or_hardly_rises_is_healthy(name: str) -> None:
    assert about_loss(learning(RECOVERS[name], steps=400)) == []


def test_a_loss_that_is_all_noise_is_healthy() -> None:
    random = np.random.default_rng(2)
    heavy = np.exp(random.normal(0, 1.2, 600))
    assert about_loss(learning(lambda step: float(heavy[step]), steps=600)) == []


@pytest.mark.parametrize(("factor", "alarms"), [(1.0, 1), (4.0, 0)])
def test_a_learning_rate_that_rose_explains_the_loss(factor: float, alarms: int) -> None:
    monitor = learning(risen, rate=lambda step: 0.1 * (factor if step >= 118 else 1))
    assert len(about_loss(monitor)) == alarms


@pytest.mark.parametrize(("noisy", "alarms"), [(10_000, 1), (120, 0)])
def test_other_inputs_explain_the_loss(noisy: int, alarms: int) -> None:
    assert len(about_loss(learning(risen, noisy=noisy))) == alarms


@pytest.mark.parametrize(("kind", "alarms"), [("dark", 1), ("shape", 0)])
def test_what_the_run_did_on_purpose_explains_the_loss(kind: str, alarms: int) -> None:
    monitor = learning(risen, events=(Event(119, kind, "so it is"),))
    assert len(about_loss(monitor)) == alarms


@pytest.mark.parametrize("cut", [100, 130, 150, 171])
def test_a_rise_under_way_is_part_of_the_state(cut: int) -> None:
    """Wherever a run is interrupted, the alerts are those of one that was not."""

    def show(monitor: Monitor, step: int) -> None:
        random = np.random.default_rng(step)
        for tensor in ("output", "gradient"):
            monitor.observe("head", random.normal(size=(16, 8)), tensor=tensor)
        monitor.step(loss=risen(step) * float(np.exp(random.normal(0, 0.15))))

    whole, first = (Monitor(run=False, strict=True) for _ in range(2))
    for step in range(240):
        show(whole, step)
    for step in range(cut):
        show(first, step)
    second = Monitor(run=False, strict=True)
    second.load_state_dict(first.state_dict())
    for step in range(cut, 240):
        show(second, step)
    for monitor in (whole, first, second):
        monitor.close()
    (alert,) = whole.alerts
    (again,) = second.alerts  # those of the first part are in the state
    assert (alert.metric, again.kind, again.step) == ("loss", alert.kind, alert.step)
    assert again.message == alert.message


# --- gradients ---------------------------------------------------------------------------


def backward(size: Callable[[int, int], float], layers: int = 4) -> Show:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        for i in range(layers):
            monitor.observe(f"fc{i}", random.normal(size=(16, 8)))
        for i in reversed(range(layers)):
            gradient = size(step, i) * random.normal(size=(16, 8))
            monitor.observe(f"fc{i}", gradient, tensor="gradient")

    return show


def test_a_gradient_that_explodes_is_found() -> None:
    monitor = watch(backward(lambda step, i: 1e3 if step >= 80 and i <= 1 else 1.0), 112)
    assert said(monitor.alerts) == [("fc1", "exploding")]  # the last one is where it begins
    assert (monitor.alerts[0].step, monitor.alerts[0].tensor) == (80, "gradient")


@pytest.mark.parametrize(("step", "kinds"), [(12, set()), (24, {"exploding"})])
def test_tenfold_growth_is_judged_once_a_level_has_been_seen_for_a_while(
    step: int, kinds: set[str]
) -> None:
    """In the first 16 steps a net finds its scale."""

    def show(monitor: Monitor, now: int, random: np.random.Generator) -> None:
        for i in range(4):
            size = 30.0 if i == 2 and now >= step else 1.0
            monitor.observe(f"fc{i}", size * random.normal(size=(32, 16)))

    assert {a.kind for a in watch(show, 64).alerts} & {"exploding"} == kinds


def test_gradients_that_fall_together_are_healthy() -> None:
    assert watch(backward(lambda step, i: 0.95**step), 200).alerts == []


def test_a_gradient_that_vanishes_alone_is_found() -> None:
    monitor = watch(backward(lambda step, i: 1e-4 if step >= 80 and i == 0 else 1.0), 112)
    assert said(monitor.alerts) == [("fc0", "vanishing")]


def test_a_gradient_that_misses_a_step_has_not_vanished() -> None:
    """As under stochastic depth, where the one step that is looked at last may skip what leads there."""
    missing = backward(lambda step, i: 0.0 if i == 0 and step % 8 == 7 else 1.0)
    assert [a.kind for a in watch(missing, 24).alerts if "from the start" in a.message] == []


def test_a_net_born_with_vanishing_gradients_is_found_at_the_start() -> None:
    monitor = watch(backward(lambda step, i: 100.0 ** (i - 3)), 64)
    assert said(monitor.alerts) == [("fc0", "vanishing")]
    assert monitor.alerts[0].detected < 24


# --- evaluation --------------------------------------------------------------------------


def test_evaluation_never_mixes_with_training() -> None:
    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        monitor.observe("a", random.normal(size=(16, 8)))
        if step % 16 == 15:
            for _ in range(3):
                monitor.observe("a", random.normal(5, 3, size=(16, 8)), mode="eval")

    monitor = watch(show, 128)
    assert monitor.alerts == []
    assert [s.key for s in monitor.history.sites] == ["a:output", "a:output@eval"]
    means = monitor.history.metric("mean")
    assert np.nanmax(np.abs(means[:, 0])) < 0.5 and np.nanmin(means[:, 1]) > 4


# --- every rule --------------------------------------------------------------------------


@pytest.mark.parametrize("rule", DEFAULT, ids=lambda rule: type(rule).__name__)
def test_a_rule_alone_takes_whatever_comes(rule: Any) -> None:
    """Sites that appear late, pause, and have one value; a step in which nothing was seen."""

    def show(monitor: Monitor, step: int, random: np.random.Generator) -> None:
        if step % 5 == 4:
            return
        monitor.observe("a", random.normal(size=(1, 1)))
        if step > 20:
            monitor.observe("b", np.maximum(random.normal(size=(3, 2, 4)), 0), activation="relu")
            monitor.observe("b", random.normal(size=3), tensor="weight", part="bias")
        if step > 40 and step % 3 == 0:
            monitor.observe("a", random.normal(size=(2, 1)), tensor="gradient")
            monitor.observe("b", random.normal(size=(3, 2, 4)), mode="eval")

    assert watch(show, 80, rules=[rule]).steps == 80
