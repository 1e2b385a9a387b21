"""The false-alarm budget of a run: how limits follow from it, and what healthy scores make of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import genpareto

from shiftwatch import Monitor, alpha
from shiftwatch.rules import DEFAULT, Response, budgeted


def beyond(score: float) -> float:
    """Share of looks with a score over this one."""
    return alpha.RATE * float(genpareto.sf(score - alpha.THRESHOLD, alpha.SHAPE, scale=alpha.SCALE))


@pytest.mark.parametrize("levels", [3, 40])
@pytest.mark.parametrize("budget", [0.1, 0.01])
def test_the_looks_of_a_run_spend_no_more_than_its_budget(budget: float, levels: int) -> None:
    """By the law that the limits rest on, summed over all levels and steps up to the cap."""
    spent = 0.0
    for step in range(4096):
        limit = alpha.limit(budget, levels, step)
        if limit == alpha.MOST:
            break
        spent += levels * beyond(limit)
    assert 0 < spent <= budget


def test_limits_rise_with_levels_steps_and_care_and_stop_in_the_end() -> None:
    """Each by itself."""
    base = alpha.limit(0.01, 10, 500)
    assert alpha.limit(0.01, 20, 500) > base
    assert alpha.limit(0.01, 10, 5000) > base
    assert alpha.limit(0.001, 10, 500) > base
    assert alpha.limit(0.01, 1000, 10**9) == alpha.MOST


@pytest.mark.parametrize("wrong", [0, 1, 1.5, -0.1])
def test_a_budget_that_is_no_probability_is_refused(wrong: float) -> None:
    """Where it comes in."""
    with pytest.raises(ValueError, match="between 0 and 1; got"):
        Monitor(run=False, alpha=wrong)


def test_the_budget_reaches_every_rule_that_has_one() -> None:
    """Rules that are given bring their own."""
    budgets = {type(r).__name__: r.alpha for r in budgeted(0.2) if hasattr(r, "alpha")}
    assert budgets == {"Optimizer": 0.2, "Response": 0.2, "Gradient": 0.2}
    assert len(budgeted(0.2)) == len(DEFAULT)
    with Monitor(run=False, alpha=0.2, rules=[Response(alpha=0.001)]) as monitor:
        (said,) = monitor.history.meta["options"]["rules"]
    assert "alpha=0.001" in said


def shifted(budget: float) -> list[tuple[str, int]]:
    """Alerts of a layer whose deviation grows by half at step 200 of 240."""
    with Monitor(run=False, alpha=budget) as monitor:
        for step in range(240):
            random = np.random.default_rng(step)
            size = (1.5 if step >= 200 else 1.0) * 2 ** random.normal(0, 0.045)
            monitor.observe("fc", size * random.normal(size=(64, 32)))
            monitor.step()
        return [(a.kind, a.step) for a in monitor.alerts]


def test_a_larger_budget_raises_what_a_smaller_one_leaves() -> None:
    """A shift of some ten scales."""
    assert shifted(0.3) == [("variance_shift", 200)]
    assert shifted(1e-6) == []
