"""Units of a real net that die at a known step: which, when, and for how long."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from shiftwatch.records import Site  # noqa: E402
from shiftwatch.sampling import chosen  # noqa: E402
from tests.learning import Training, train  # noqa: E402

KILLED, WOKEN = [3, 17, 40], [17]


def _push(step: int, model: nn.Module) -> None:
    """Biases that let no value through from step 80 on, of one unit up to step 160."""
    bias = model[0].bias.data
    if step == 80:
        bias[KILLED] -= 100.0
    if step == 160:
        bias[WOKEN] += 100.0


def test_the_units_that_were_killed_are_dead_from_then_on_and_no_other() -> None:
    run = train((torch.optim.SGD, {"lr": 0.05}), steps=256, after=_push).history
    dead = run.dead_units(Site("1"))
    assert dead.shape[1] == 64
    since = {unit: run.steps[dead[:, unit]] for unit in np.flatnonzero(dead.any(0)).tolist()}
    assert sorted(since) == KILLED
    for unit, steps in since.items():
        assert 80 < steps[0] <= 104
        assert steps[-1] in (run.steps[run.first <= 160][-2:] if unit in WOKEN else run.steps[-1:])
    assert run.dead_units(Site("0")).size == run.dead_units(Site("2")).size == 0  # linear


def test_of_a_wide_layer_the_dead_units_are_those_that_are_sampled() -> None:
    """Their numbers lead back to the layer's own."""
    lost = torch.zeros(1000, dtype=torch.bool)
    lost[::7] = True

    def wide() -> nn.Sequential:
        model = nn.Sequential(nn.Linear(20, 1000), nn.ReLU(), nn.Linear(1000, 4))
        model[0].bias.data[lost] -= 100.0
        return model

    run = Training((torch.optim.SGD, {"lr": 0.01}), model=wide)
    with run.watch() as monitor:
        run.go(monitor, 64)
    dead = monitor.history.dead_units(Site("1"))[-1]
    assert np.array_equal(dead, lost.numpy()[chosen(1000, 512)])
