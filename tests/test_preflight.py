"""The preflight's arithmetic: bounds, sums, and the chain that every path passes."""

from __future__ import annotations

import numpy as np
import pytest

from shiftwatch.preflight.chain import bottlenecks
from shiftwatch.preflight.measure import PIECE, distinct, measure, spread, uniform_excess
from shiftwatch.preflight.record import Finding, Preflight
from shiftwatch.statistics.born_dead import blocked, born_dead


def born(width: int, depth: int, tries: int, rng: np.random.Generator) -> float:
    """How often a random ReLU network of one input is constant."""
    dead = 0
    for _ in range(tries):
        h = np.linspace(-1, 1, 65)[:, None]
        for _ in range(depth - 1):
            h = np.maximum(h @ rng.normal(size=(h.shape[1], width)), 0)
        dead += not h.any()
    return dead / tries


@pytest.mark.parametrize("width", [2, 3, 4, 5])
@pytest.mark.parametrize("depth", [5, 10, 20])
def test_networks_are_born_dead_as_often_as_the_bounds_say(width: int, depth: int) -> None:
    """Monte Carlo over 1,500 networks lies between the bounds, three standard errors aside."""
    share = born(width, depth, 1500, np.random.default_rng([width, depth]))
    low, high = born_dead(width, depth)
    assert low < high
    slack = 3 * (0.25 / 1500) ** 0.5
    assert low - slack <= share <= high + slack


def test_born_dead_takes_arrays_and_refuses_networks_that_are_none() -> None:
    low, high = born_dead(np.array([2, 8, 64]), 10)
    assert low.shape == high.shape == (3,)
    assert np.all(np.diff(high) < 0) and np.all(low <= high)
    with pytest.raises(ValueError, match="got width 0 and depth 3"):
        born_dead(0, 3)


def test_blocked_is_the_upper_bound_where_widths_are_equal() -> None:
    for width, depth in ((1, 4), (3, 12), (20, 50)):
        assert blocked([width] * (depth - 1)) == pytest.approx(float(born_dead(width, depth)[1]))


def test_two_halves_measured_and_added_are_the_whole() -> None:
    """Also with NaN, Inf, and more values than fit one piece."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(PIECE // 64, 3, 40)), 0)
    x[0, 0, :3] = np.nan, np.inf, -np.inf
    whole, halves = measure(x, 1, "relu"), measure(x[:99], 1, "relu") + measure(x[99:], 1, "relu")
    fine = np.where(np.isfinite(x), x, 0)
    assert (whole.nan, whole.posinf, whole.neginf) == (1, 1, 1)
    assert whole.rms == pytest.approx((np.sum(fine**2) / whole.count) ** 0.5)
    assert whole.active.tolist() == (fine > 0).sum((0, 2)).tolist()
    assert whole.flat == whole.count - (fine > 0).sum()
    for name in ("count", "nan", "flat", "low", "high"):
        assert getattr(halves, name) == getattr(whole, name)
    np.testing.assert_allclose(halves.unit_square, whole.unit_square)
    assert halves.unit_count.tolist() == whole.unit_count.tolist()


def test_layers_of_changing_width_add_up_as_one_unit() -> None:
    both = measure(np.ones((4, 2)), 1) + measure(np.ones((4, 3)), 1)
    assert (both.width, both.count, both.active.tolist()) == (1, 20, [20])


def test_spread_is_the_mean_variance_between_samples() -> None:
    x = np.random.default_rng(1).normal(size=(17, 5, PIECE // 50)).astype(np.float32)
    assert spread(x) == pytest.approx(float(x.astype(float).var(0).mean() ** 0.5))
    assert spread(np.full((9, 4), 0.1, np.float32)) == 0
    assert np.isnan(spread(x[:1]))


def test_distinct_counts_rows_up_to_rounding() -> None:
    rows = np.random.default_rng(2).normal(size=(5, 7))
    assert distinct(np.repeat(rows, 3, 0) * (1 + 1e-9)) == 5
    assert distinct(np.full((6, 4), 0.3)) == 1


def test_excess_is_the_loss_of_targets_that_logits_know_nothing_of() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(400, 7)) * 4
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    assert uniform_excess(z, 1) == pytest.approx(-log_p.mean() - np.log(7))


def test_bottlenecks_are_what_no_path_goes_around() -> None:
    """Against the plain definition: without such a node, the output is out of reach."""
    rng = np.random.default_rng(4)
    for _ in range(200):
        order = [str(i) for i in range(7)]
        nodes = ["<input>", *order, "<output>"]
        edges = [(nodes[a], nodes[b]) for b in range(1, 9) for a in range(b) if rng.random() < 0.25]

        def reaches(without: str, edges: list[tuple[str, str]] = edges) -> bool:
            seen = {"<input>"}
            for _ in range(9):
                seen |= {b for a, b in edges if a in seen and without not in (a, b)}
            return "<output>" in seen

        reached = {"<input>"}
        for _ in range(9):
            reached |= {b for a, b in edges if a in reached}
        live = [(a, b) for a, b in edges if a in reached]
        if reaches(""):
            assert bottlenecks(order, live) == [n for n in order if not reaches(n)]


def test_a_preflight_is_ok_without_warnings_and_prints_all_it_knows() -> None:
    def verdict(severity: str) -> Finding:
        return Finding(severity, "dead", "fc1", "dead_fraction", 0.9, 0.8, "dead units", "Look.")

    fine = Preflight("Net", 1, 32, 2.3, (verdict("info"), verdict("ok")), ())
    bad = Preflight("Net", 1, 32, float("nan"), (verdict("warning"),), ())
    assert fine.ok and not bad.ok
    assert [f.severity for f in fine.findings] == ["info"]
    assert str(bad).startswith("Net · 32 samples · 1 warning\n\nverdict  layer  what")
    assert "warning  fc1    dead units" in bad.table() and "→ Look." in bad.table()
    assert max(map(len, str(bad).splitlines())) <= 100
