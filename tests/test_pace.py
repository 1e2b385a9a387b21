"""Pace: how often is watched, on a clock of our own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np
import pytest

from shiftwatch import Monitor
from shiftwatch.pace import FIRST, Pace


class Clock:
    """A training whose plain step, watching and judging take what they are told to."""

    def __init__(self, budget: float | None, every: int = 1) -> None:
        self.pace = Pace(every, budget)
        self.step, self.wake = 0, 0
        self.spent = self.elapsed = 0.0
        self.watched: list[int] = []

    def run(
        self,
        steps: int,
        plain: float | Callable[[int], float],
        cost: float = 1e-3,
        judging: float = 0.0,
        rest: int = 64,
    ) -> float:
        """Train on; the share of these steps' plain time that was spent."""
        spent, passed, asleep = self.spent, 0.0, 0
        for _ in range(steps):
            seconds = plain(self.step) if callable(plain) else plain
            watched = self.step == self.wake
            mine = watched * (cost + judging * (len(self.watched) % 8 == 7))
            self.spent, self.elapsed = self.spent + mine, self.elapsed + seconds + mine
            passed += seconds
            self.watched += [self.step] if watched else []
            asleep = asleep + 1 if not watched else 0
            if watched or asleep % rest == 0 or self.step == self.wake - 1:
                self.wake = self.pace.next(self.step, watched, self.spent, self.elapsed)
            self.step += 1
        return (self.spent - spent) / passed


@pytest.mark.parametrize("budget", [0.003, 0.01, 0.05])
@pytest.mark.parametrize("judging", [0.0, 6e-3])
def test_after_the_first_steps_the_share_is_the_budget(budget: float, judging: float) -> None:
    """Watching costs twice a plain step, and each eighth time a dear judging falls due."""
    clock = Clock(budget)
    clock.run(200, 0.5e-3, judging=judging)
    share = clock.run(30_000, 0.5e-3, judging=judging)
    assert 0.8 * budget < share < 1.03 * budget


def test_the_first_steps_are_watched_and_not_paid_for() -> None:
    clock = Clock(0.01)
    clock.run(3, 1e-3, cost=1.0)
    clock.run(1000, 1e-3, cost=1e-3)
    assert clock.watched[:FIRST] == list(range(FIRST))
    assert len(clock.watched) > FIRST, "the plans of the first steps would take a day to pay back"


@pytest.mark.parametrize("factor", [0.25, 4.0, 20.0])
def test_the_share_is_kept_when_steps_take_another_time(factor: float) -> None:
    clock = Clock(0.01)
    clock.run(10_000, 0.5e-3)
    clock.run(2_000, 0.5e-3 * factor)
    assert 0.0085 < clock.run(20_000, 0.5e-3 * factor) < 0.0115


def test_a_share_that_is_below_the_budget_leaves_no_step_out() -> None:
    clock = Clock(0.01)
    clock.run(500, 0.2)
    assert clock.watched == list(range(500))


def test_time_saved_up_is_no_licence_for_a_spree() -> None:
    """Cheap steps for long; then dear to watch: at most one in eight is still watched."""
    clock = Clock(0.01)
    clock.run(5_000, 0.2, cost=1e-5)
    clock.run(64, 1e-3, cost=1e-3)
    seen = len(clock.watched)
    clock.run(800, 1e-3, cost=1e-3)
    assert len(clock.watched) - seen <= 100


def test_an_evaluation_between_two_steps_counts_as_four_steps_at_most() -> None:
    """A minute in which no step was made says nothing of what steps take."""
    clock = Clock(0.01)
    clock.run(5_000, 0.5e-3)
    seen = len(clock.watched)
    clock.run(1, lambda _: 60.0)
    clock.run(2_000, 0.5e-3)
    assert len(clock.watched) - seen <= 15


def test_every_is_kept_under_a_budget() -> None:
    clock = Clock(0.05, every=7)
    clock.run(5_000, 1e-3)
    assert all(step % 7 == 0 for step in clock.watched)
    gaps = np.diff(clock.watched[20:])
    assert set(gaps.tolist()) <= {14, 21, 28} and gaps.mean() < 28


def test_without_a_budget_every_nth_step_is_watched_from_the_first() -> None:
    clock = Clock(None, every=5)
    clock.run(23, 1e-3)
    assert clock.watched == [0, 5, 10, 15, 20]


def test_a_gap_that_changes_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As an event and in the log, once it has doubled or halved."""
    now = [0.0]

    def slow() -> float:
        now[0] += 5e-5
        return now[0]

    monkeypatch.setattr(time, "perf_counter", slow)
    rng = np.random.default_rng(0)
    with caplog.at_level(logging.INFO, "shiftwatch"), Monitor(run=False, budget=0.01) as monitor:
        for _ in range(300):
            now[0] += 1e-3
            monitor.observe("fc1", rng.normal(size=(32, 16)))
            monitor.step(loss=1.0)
    told = [e for e in monitor.history.events if e.kind == "budget"]
    assert told and "to stay under 1.00% of the step time" in told[0].detail
    assert any("one step in" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize("every", [2, 10, 500])
def test_a_loss_that_is_nan_in_a_step_left_out_is_heard(every: int) -> None:
    """In every fourth of them at the least; the step after is watched, whose turn it may be or not."""
    rng = np.random.default_rng(0)
    with Monitor(run=False, every=every, strict=True) as monitor:
        for step in range(640):
            monitor.observe("fc1", rng.normal(size=(32, 16)))
            monitor.step(loss=float("nan") if step >= 603 else 1.0)
    first = monitor.alerts[0]
    assert first.kind == "nonfinite" and 603 <= first.step <= first.detected <= 608
    assert monitor.steps == 640
