"""The same of every sample: what a plateau is made of, one condition at a time, on arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shiftwatch import Alert, Monitor
from shiftwatch.records import INPUT
from shiftwatch.rules import Plateau


def run(
    sizes: Callable[[int], float] = lambda step: 0.01,
    loss: Callable[[int], float | None] = lambda step: 2.3,
    samples: int = 16,
    steps: int = 128,
    body: float | None = None,
    path: float = 0.0,
) -> list[Alert]:
    """Alerts of layers whose values differ by that share of their size, at each step."""
    rng = np.random.default_rng(0)
    with Monitor(run=False, strict=True, rules=[Plateau(path=path)]) as monitor:
        for step in range(steps):
            monitor.observe(INPUT, rng.normal(size=(samples, 8)), tensor="input")
            monitor.observe("early", rng.normal(size=(samples, 8)))
            for name in ("body", "head"):
                size = sizes(step) if name == "head" or body is None else body
                monitor.observe(name, 1 + size * rng.normal(size=(samples, 8)))
            monitor.step(loss=loss(step))
    return monitor.alerts


def test_a_model_that_says_the_same_of_every_sample_is_told_after_64_steps() -> None:
    """At the first layer from which on samples are alike, with what the loss is and was."""
    (alert,) = run()
    assert (alert.layer, alert.kind, alert.severity) == ("body", "collapse", "warning")
    assert (alert.step, alert.metric, alert.limit) == (0, "std", 0.03)
    assert 63 <= alert.detected <= 72 and alert.value == pytest.approx(0.01, rel=0.3)
    assert "the loss stands at 2.3 (2.3 at first)" in alert.message


@pytest.mark.parametrize(("size", "found"), [(0.022, 1), (0.045, 0), (0.5, 0)])
def test_samples_that_differ_by_more_than_the_limit_are_told_apart(size: float, found: int) -> None:
    """The limit is 3 % of the size, of the largest of some steps."""
    assert len(run(lambda step: size)) == found


def test_an_output_that_is_nearly_constant_by_right_is_none() -> None:
    """A target far from zero: what feeds the output tells samples apart."""
    assert run(body=0.2) == []


def test_a_model_that_told_samples_apart_once_is_judged_no_more() -> None:
    """A later collapse is for the rules that know what came before."""
    assert run(lambda step: 0.2 if step < 8 else 0.01) == []


@pytest.mark.parametrize(
    ("name", "loss"),
    {
        "unknown": lambda step: None,
        "below zero": lambda step: -2.3,
        "of any sign": lambda step: float(np.cos(step)),
        "on its way down": lambda step: 2.3 * 0.997**step,
        "came down in stairs": lambda step: 2.3 - 0.1 * (step // 16),
        "not finite at times": lambda step: float("nan") if step % 20 == 19 else 2.3,
    }.items(),
)
def test_a_loss_that_says_nothing_or_falls_is_no_plateau(
    name: str, loss: Callable[[int], float | None]
) -> None:
    """Only a loss that stands."""
    assert run(loss=loss) == []


@pytest.mark.parametrize(("least", "first"), [(2.3, "(2.4"), (0.5, "(0.6")])
def test_a_loss_that_learnt_the_mean_of_the_targets_is_a_plateau(least: float, first: str) -> None:
    """It falls to what a constant prediction attains, and stays there."""
    (alert,) = run(loss=lambda step: least + 0.2 * 0.9**step)
    assert first in alert.message


@pytest.mark.parametrize(("samples", "found"), [(1, 0), (2, 0), (4, 1)])
def test_one_or_two_samples_do_not_tell_whether_they_are_alike(samples: int, found: int) -> None:
    """A batch of a few is needed."""
    assert len(run(samples=samples)) == found


def test_a_model_whose_weights_hardly_moved_is_given_time() -> None:
    """Without updates nothing could have been learnt."""
    assert run(path=0.2) == []
