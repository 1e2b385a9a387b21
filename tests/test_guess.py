"""Functional activations are read off the values that reach the next layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shiftwatch import Layer, Monitor, Site, Summary, summarize
from shiftwatch.guess import guess
from shiftwatch.records import INPUT
from shiftwatch.sites import Sites


def chain(
    activation: Callable[[np.ndarray], np.ndarray], size: float = 2.0, other: bool = False
) -> dict[int, str]:
    """Guess for the input of b in: input -> a -> activation -> b; of other samples than a's."""
    sites = Sites()
    rng = np.random.default_rng(0)
    made = rng.normal(0, size, (256, 8))
    sites.add(Site(INPUT, "input"), Layer(INPUT))
    sites.add(Site("a"), Layer("a", parameters=True, parents=(INPUT,)))
    sites.add(Site("b", "input"), Layer("b", parameters=True, parents=("a",)))
    entered = rng.normal(0, size, made.shape) if other else made
    values = (rng.uniform(0, 1, (256, 8)), made, activation(entered))
    stacked = [summarize(v) for v in values]
    together = Summary.concatenate([_lifted(s) for s in stacked])
    return guess(together, sites)


def _lifted(summary: Summary) -> Summary:
    """A summary of shape () as one of shape (1,)."""
    from dataclasses import fields

    def lift(group: object) -> object:
        names = [f.name for f in fields(group)]  # type: ignore[arg-type]
        return type(group)(*(np.asarray(getattr(group, n))[None] for n in names))

    return Summary(
        lift(summary.moments),  # type: ignore[arg-type]
        lift(summary.tallies),  # type: ignore[arg-type]
        lift(summary.histogram),  # type: ignore[arg-type]
        bounded=np.zeros(1, bool),
    )


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_an_activation_without_a_module_is_recognised(
    name: str, activation: Callable[[np.ndarray], np.ndarray]
) -> None:
    assert chain(activation) == {2: name}
    assert chain(activation, size=1.0, other=True) == {2: name}  # the ends are near enough


def test_values_that_could_be_anything_are_left_alone() -> None:
    assert chain(lambda x: x * 1.5) == {}
    assert chain(lambda x: 0.1 * x, size=0.1) == {}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 0.3 * np.tanh(x),
        lambda x: 0.1 * x,
        lambda x: np.tanh(x) / 2 + 0.2,
        lambda x: 0.5 / (1 + np.exp(-x)),
        lambda x: 0.5 + 0.02 * x,
        lambda x: 0.3 + 0.7 / (1 + np.exp(-x)),
    ],
    ids=[
        "small tanh",
        "small",
        "raised tanh",
        "half a sigmoid",
        "within 0 and 1",
        "raised sigmoid",
    ],
)
def test_values_within_the_bounds_that_end_elsewhere_are_left_alone(
    function: Callable[[np.ndarray], np.ndarray],
) -> None:
    """At either end: what went in says where those of an activation would lie."""
    values = function(np.array([-7.0, 7.0]))
    assert values.min() > -1 and values.max() <= 1
    assert chain(function) == {}


def test_the_models_own_input_is_never_taken_for_a_sigmoid() -> None:
    assert 0 not in chain(np.tanh)


def test_units_that_die_behind_a_functional_relu_are_laid_at_their_layer() -> None:
    """fc1 -> relu (no module) -> fc2, whose input is watched; fc1's bias falls at step 60."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.3, (16, 24))
    with Monitor(run=False) as monitor:
        for step in range(100):
            x = rng.normal(size=(64, 16))
            made = x @ weights - (30.0 if step >= 60 else 0.0)
            monitor.observe(INPUT, x)
            monitor.observe("fc1", made)
            monitor.observe("fc2", np.maximum(made, 0), tensor="input")
            monitor.observe("fc2", np.maximum(made, 0) @ weights.T)
            monitor.step()
    dead = [a for a in monitor.alerts if a.kind == "dead"]
    assert dead, monitor.alerts
    assert (dead[0].layer, dead[0].tensor, dead[0].origin) == ("fc2", "input", "fc1")
    assert dead[0].step == 60
