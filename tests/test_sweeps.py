"""What a source found in whole tensors goes before what samples show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shiftwatch import Monitor
from shiftwatch.arrays import ArraySource
from shiftwatch.judgement import counted
from shiftwatch.records import Alert, Site
from shiftwatch.source import Batch, Census, Finding, Sweep

SICK = 20
FOUND = Finding("fc1", Site("fc1", "output"), 4096, 3, "3 NaN of 4,096 values, first in unit 7")


class Looking(ArraySource):
    """Arrays, and a look at whole tensors at the step after each sign."""

    def __init__(self, outcome: Sweep | None) -> None:
        super().__init__()
        self.outcome, self.asked, self.signs, self.done = outcome, False, list[int](), False

    def look(self, step: int, sign: bool, broken: bool) -> None:
        self.done, self.asked = self.asked, sign and not self.asked
        self.signs += [step] * sign

    @property
    def full(self) -> bool:
        return self.done

    def take(self) -> Batch:
        ended = (self.outcome,) if self.done and self.outcome is not None else ()
        return replace(super().take(), coming=self.asked, sweeps=ended)


def watched(
    outcome: Sweep | None, steps: int = SICK + 8, once: bool = False, sick: str = "fc2"
) -> Any:
    """Two layers, of which one holds NaN from ``SICK`` on, or only then."""
    rng = np.random.default_rng(0)
    monitor = Monitor(run=False, strict=True)
    source = monitor._arrays = Looking(outcome)
    monitor.attach(source)
    with monitor:
        for step in range(steps):
            for name in ("fc1", "fc2"):
                x = rng.normal(size=(64, 16))
                if name == sick and (step == SICK or (step > SICK and not once)):
                    x[5] = np.nan
                monitor.observe(name, x)
            monitor.step(loss=1.0)
    return monitor, source


def the_alert(monitor: Monitor) -> Alert:
    (alert,) = monitor.alerts
    return alert


def test_what_was_found_in_full_names_origin_and_message() -> None:
    """Though only the next layer's samples showed it, and one step later."""
    monitor, source = watched(Sweep(SICK, SICK + 1, FOUND))
    alert = the_alert(monitor)
    assert source.signs == [SICK]
    assert (alert.step, alert.detected) == (SICK, SICK + 1)
    assert (alert.layer, alert.origin, alert.kind) == ("fc1", "fc1", "nonfinite")
    assert alert.message.endswith("3 NaN of 4,096 values, first in unit 7")
    assert alert.value == pytest.approx(3 / 4096)
    assert monitor.incidents[0].followers == ("fc2",)


def test_what_was_found_in_full_goes_before_an_earlier_layers_samples() -> None:
    """The source saw every value, and in the order of execution."""
    found = replace(FOUND, layer="fc2", site=Site("fc2", "output"))
    monitor, _ = watched(Sweep(SICK, SICK + 1, found), sick="fc1")
    alert = the_alert(monitor)
    assert (alert.layer, alert.origin, alert.step) == ("fc2", "fc2", SICK)


def test_where_nothing_was_found_the_samples_stand_and_the_remark_is_added() -> None:
    """The condition is that of the samples; what the look saw is said."""
    monitor, _ = watched(Sweep(SICK, SICK + 1, None, "not seen again"), once=True)
    alert = the_alert(monitor)
    assert (alert.step, alert.detected, alert.origin) == (SICK, SICK + 1, "fc2")
    assert alert.message.endswith("of the sampled values are NaN or Inf; not seen again")


@pytest.mark.parametrize("steps", [SICK + 1, SICK + 8])
def test_an_alert_waits_for_no_longer_than_the_look_or_the_run(steps: int) -> None:
    """Whether the run ends first or the look tells nothing."""
    monitor, _ = watched(None, steps)
    alert = the_alert(monitor)
    assert (alert.step, alert.origin) == (SICK, "fc2")
    assert alert.detected == min(SICK + 1, steps - 1)


def test_an_alert_that_waits_is_part_of_the_state() -> None:
    """A checkpoint between the sign and its answer loses nothing."""
    rng = np.random.default_rng(0)

    def step(monitor: Monitor, bad: bool) -> None:
        x = rng.normal(size=(64, 16))
        x[5] = np.nan if bad else 0.0
        monitor.observe("fc1", x)
        monitor.step()

    first, second = Monitor(run=False), Monitor(run=False)
    first._arrays = source = Looking(None)
    first.attach(source)
    for i in range(SICK + 1):
        step(first, i == SICK)
    assert first.alerts == []
    second.load_state_dict(first.state_dict())
    second.close()
    assert the_alert(second).step == SICK


@pytest.mark.parametrize(("parameters", "alarms"), [(False, 0), (True, 1)])
def test_minus_infinity_that_no_parameters_made_is_a_mask(parameters: bool, alarms: int) -> None:
    """While the loss is finite; from a layer with weights it is an overflow."""
    rng = np.random.default_rng(0)
    with Monitor(run=False) as monitor:
        for step in range(40):
            x = rng.normal(size=(64, 16))
            if step >= SICK:
                x[5, 3] = -np.inf
            monitor.observe("scores", x, activation="" if parameters else "relu")
            monitor.step(loss=1.0)
    assert [a.kind for a in monitor.alerts] == ["nonfinite"] * alarms


def test_minus_infinity_is_no_mask_once_the_loss_breaks() -> None:
    """What was harmless is named after all."""
    rng = np.random.default_rng(0)
    with Monitor(run=False) as monitor:
        for step in range(40):
            x = np.abs(rng.normal(size=(64, 16)))
            if step >= 10:
                x[5, 3] = -np.inf
            monitor.observe("scores", x, activation="relu")
            monitor.step(loss=1.0 if step < SICK else float("inf"))
    alert = the_alert(monitor)
    assert (alert.kind, alert.step, alert.layer) == ("nonfinite", SICK, "scores")


def test_what_was_counted_stands_where_it_was_counted() -> None:
    """Other sites keep their estimates; a layer without activation has no dead units."""
    keys = ("mean", "std", "rms", "zero_fraction", "nonfinite", "saturation", "dead_fraction", "kl")
    values = {key: np.array([9.0, 9.0, 9.0]) for key in keys}
    bounded = np.array([True, False, True])

    def census(column: int) -> Census:
        return Census(column, 2, 8, 2, 4, 3.0, 4.0, -1.0, 5.0, 2, np.array([3, 0, 0, 3]))

    now = counted(values, [census(0), census(1)], bounded)
    told = {key: value.tolist() for key, value in now.items()}
    assert told["mean"] == [3.0, 3.0, 9.0] and told["rms"] == [5.0, 5.0, 9.0]
    assert told["zero_fraction"] == [0.5, 0.5, 9.0] and told["nonfinite"] == [0.2, 0.2, 9.0]
    assert told["saturation"] == [0.25, 9.0, 9.0] and told["dead_fraction"] == [0.5, 9.0, 9.0]
    assert told["kl"] == [9.0] * 3
    np.testing.assert_array_equal(now["exact_count"], [8.0, 8.0, np.nan])
    assert counted(values, [], bounded) == values
