"""Divergences: their laws, their closed forms, and what chance alone makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shiftwatch import Summary, summarize
from shiftwatch.divergences import (
    DIVERGENCES,
    NULLS,
    debiased,
    gaussian_kl,
    hellinger,
    js,
    kl,
    ks,
    mean_shift,
    octaves,
    psi,
    reverse_kl,
    variance_shift,
    wasserstein,
    worst_unit_shift,
)
from shiftwatch.summaries import Block, measure
from shiftwatch.summaries.histogram import ZERO_BIN

SIGNED = {"mean_shift", "variance_shift"}
SYMMETRIC = {"js", "psi", "hellinger", "ks", "octaves"}
#: Largest value that a divergence can have.
BOUNDS = {"js": np.log(2), "hellinger": 1.0, "ks": 1.0, "octaves": 66.0, "variance_shift": 32.0}
VALUES = arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)))
FINITE = arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.just(3)),
    elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
)


def many(draw: Callable[..., np.ndarray], sites: int, number: int, units: int) -> Summary:
    """Summary of so many independent windows, each of so many values."""
    values = draw(size=(1, sites, number // units, units))
    return measure(Block(values, np.ones((1, sites), bool)))[0]


# --- laws -----------------------------------------------------------------------------------


@given(VALUES)
def test_a_window_does_not_diverge_from_itself(values: np.ndarray) -> None:
    a = summarize(values)
    nothing = not a.count
    for name, divergence in DIVERGENCES.items():
        found = float(divergence(a, a))
        no_sizes = name == "octaves" and a.histogram.total == a.histogram.counts[ZERO_BIN]
        if nothing or no_sizes:
            assert np.isnan(found), name
        else:
            assert found == 0.0, name


@given(FINITE, FINITE)
def test_divergences_are_finite_bounded_and_not_negative(x: np.ndarray, y: np.ndarray) -> None:
    """On any two windows, of disjoint support or constant, with no warning on the way."""
    a, b = summarize(x), summarize(y)
    for name, divergence in DIVERGENCES.items():
        found = float(divergence(a, b))
        if name == "octaves" and np.isnan(found):
            continue  # nothing but zeros
        assert np.isfinite(found), name
        assert found >= 0 or name in SIGNED, name
        assert abs(found) <= BOUNDS.get(name, np.inf), name
        if name in SYMMETRIC:
            assert found == pytest.approx(float(divergence(b, a)), rel=1e-9, abs=1e-12), name


@given(FINITE, FINITE)
def test_nulls_are_finite_and_not_negative_too(x: np.ndarray, y: np.ndarray) -> None:
    a, b = summarize(x), summarize(y)
    for name in DIVERGENCES:
        null = float(NULLS[name](a, b))
        if name == "octaves" and np.isnan(null):
            continue
        assert np.isfinite(null) and (null >= 0 or name in SIGNED), name


@pytest.mark.parametrize("name", DIVERGENCES)
def test_an_empty_window_cannot_be_compared(name: str) -> None:
    some = summarize([1.0, 2.0])
    for pair in ((some, summarize([np.nan])), (summarize([np.nan]), some)):
        assert np.isnan(DIVERGENCES[name](*pair)) and np.isnan(debiased(name, *pair))
    for shape in ((), (3,), (2, 3)):
        empty = Summary.empty(shape)
        found = DIVERGENCES[name](empty, empty)
        assert found.shape == shape and np.isnan(found).all()
        assert NULLS[name](empty, empty).shape == shape


@pytest.mark.parametrize("name", DIVERGENCES)
def test_many_sites_in_one_call_are_as_each_alone(name: str) -> None:
    r = np.random.default_rng(0)
    x, y = r.normal(size=(2, 1, 4, 50, 3))
    x[0, 1] = 0.0
    y[0, 2] = 0.0
    x[0, 3] = np.nan
    filled = np.ones((1, 4), bool)
    a, b = measure(Block(x, filled))[0], measure(Block(y, filled))[0]
    for function in (DIVERGENCES[name], NULLS[name]):
        found = function(a, b)
        assert found.shape == (4,) and found.dtype == np.float64
        alone = [function(summarize(u), summarize(v)) for u, v in zip(x[0], y[0], strict=True)]
        assert all(np.shape(one) == () for one in alone)
        np.testing.assert_allclose(found, np.array(alone, float), rtol=1e-9)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_windows_of_several_leading_axes_keep_them(name: str) -> None:
    a = many(np.random.default_rng(1).normal, 6, 30, 3)

    def fold(s: Summary) -> Summary:
        def shaped(group: object) -> dict[str, np.ndarray]:
            return {
                k: v.reshape(2, 3, *v.shape[1:]) for k, v in vars(group).items() if k != "total"
            }

        return Summary(
            replace(s.moments, **shaped(s.moments)),
            replace(s.tallies, **shaped(s.tallies)),
            replace(s.histogram, counts=s.histogram.counts.reshape(2, 3, -1)),
            s.bounded.reshape(2, 3),
        )

    b = many(np.random.default_rng(2).normal, 6, 30, 3)
    found = DIVERGENCES[name](fold(a), fold(b))
    assert found.shape == (2, 3)
    if name != "worst_unit_shift":  # units are gone
        np.testing.assert_allclose(found.ravel(), DIVERGENCES[name](a, b))


# --- closed forms and independent results -----------------------------------------------------


def pair() -> tuple[np.ndarray, np.ndarray, Summary, Summary]:
    r = np.random.default_rng(3)
    x, y = r.normal(0.7, 1.5, 3000), r.normal(0.1, 1.1, 5000)
    return x, y, summarize(x), summarize(y)


def test_mean_shift_is_in_reference_standard_deviations_and_signed() -> None:
    x, y, a, b = pair()
    assert float(mean_shift(a, b)) == pytest.approx((x.mean() - y.mean()) / y.std(), rel=1e-6)
    assert float(mean_shift(summarize(y - 2 * y.std()), b)) == pytest.approx(-2.0, rel=1e-6)


def test_mean_shift_of_a_constant_reference_is_a_relative_change() -> None:
    ones = summarize(np.ones(100))  # weights of a fresh normalisation
    assert float(mean_shift(summarize(np.full(100, 1.01)), ones)) == pytest.approx(0.01)
    nothing = summarize(np.zeros(100))  # a residual branch that starts at zero
    assert abs(float(mean_shift(summarize([1e-9, 2e-9]), nothing))) <= 1.0
    assert float(mean_shift(nothing, nothing)) == 0.0


def test_variance_shift_is_the_log_of_the_ratio() -> None:
    x, y, a, b = pair()
    assert float(variance_shift(a, b)) == pytest.approx(np.log(x.var() / y.var()), rel=1e-6)
    assert float(variance_shift(a, b)) == pytest.approx(-float(variance_shift(b, a)))


def test_variance_shift_from_or_to_nothing_is_large_and_finite() -> None:
    spread, nothing = summarize([-1.0, 1.0]), summarize([0.0, 0.0])
    assert float(variance_shift(spread, nothing)) > 30
    assert float(variance_shift(nothing, spread)) < -30
    # Two constants have no variance, whatever the rounding of their sums.
    assert float(variance_shift(summarize([0.1] * 7), summarize([5.3] * 3))) == 0.0


def test_gaussian_kl_is_the_closed_form() -> None:
    x, y, a, b = pair()
    m, s, n, t = x.mean(), x.std(), y.mean(), y.std()
    expected = np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5
    assert float(gaussian_kl(a, b)) == pytest.approx(expected, rel=1e-6)


def frequencies(a: Summary, b: Summary, added: float) -> tuple[np.ndarray, np.ndarray]:
    occupied = (a.histogram.counts + b.histogram.counts) > 0
    p, q = ((s.histogram.counts[occupied] + added) for s in (a, b))
    return p / p.sum(), q / q.sum()


def test_divergences_of_the_bins_agree_with_scipy() -> None:
    _, _, a, b = pair()
    p, q = frequencies(a, b, 0.5)
    assert float(kl(a, b)) == pytest.approx(scipy.stats.entropy(p, q), rel=1e-6)
    assert float(reverse_kl(a, b)) == pytest.approx(scipy.stats.entropy(q, p), rel=1e-6)
    assert float(psi(a, b)) == pytest.approx(np.sum((p - q) * np.log(p / q)), rel=1e-6)
    p, q = frequencies(a, b, 0.0)
    distance = scipy.spatial.distance.jensenshannon(p, q)
    assert float(js(a, b)) == pytest.approx(distance**2, rel=1e-6)
    textbook = np.sqrt(1 - np.sum(np.sqrt(p * q)))
    assert float(hellinger(a, b)) == pytest.approx(textbook, rel=1e-6)
    assert float(ks(a, b)) == pytest.approx(np.abs(np.cumsum(p) - np.cumsum(q)).max(), rel=1e-6)


def test_kl_of_large_normal_windows_is_near_the_closed_form() -> None:
    r = np.random.default_rng(4)
    a, b = summarize(r.normal(1, 1, 400_000)), summarize(r.normal(0, 1, 400_000))
    assert float(kl(a, b)) == pytest.approx(0.5, rel=0.05)
    assert float(gaussian_kl(a, b)) == pytest.approx(0.5, rel=0.02)


def test_disjoint_windows_are_as_far_as_can_be() -> None:
    a, b = summarize([1.0] * 50), summarize([-8.0] * 70)
    assert float(js(a, b)) == pytest.approx(np.log(2), rel=1e-9)
    assert float(hellinger(a, b)) == pytest.approx(1.0) and float(ks(a, b)) == 1.0
    assert 3 < float(kl(a, b)) < 6 and 6 < float(psi(a, b)) < 12


def test_wasserstein_agrees_with_scipy_within_the_width_of_a_bin() -> None:
    x, y, a, b = pair()
    expected = scipy.stats.wasserstein_distance(x, y) / y.std()
    assert float(wasserstein(a, b)) == pytest.approx(expected, rel=0.02)
    # Exactly, for values in the middle of their bins.
    u, v = np.array([1.125, -1.375, 0.0, 9.0]), np.array([2.25, 1.125, 1.125])
    expected = scipy.stats.wasserstein_distance(u, v) / v.std()
    assert float(wasserstein(summarize(u), summarize(v))) == pytest.approx(expected, rel=1e-9)


def test_ks_agrees_with_scipy_from_below() -> None:
    x, y, a, b = pair()
    exact = scipy.stats.ks_2samp(x, y).statistic
    assert exact - 0.02 < float(ks(a, b)) <= exact + 1e-12


@given(
    arrays(np.float32, st.integers(1, 30), elements=st.floats(2**-10, 2**10, width=32)),
    st.integers(-8, 8),
)
def test_scaling_by_a_power_of_two_moves_so_many_octaves(values: np.ndarray, power: int) -> None:
    found = float(octaves(summarize(values * 2.0**power), summarize(values)))
    assert found == pytest.approx(abs(power), rel=1e-9)


def test_octaves_know_neither_zeros_nor_signs() -> None:
    x = np.random.default_rng(5).normal(size=1000)
    a = summarize(x)
    assert float(octaves(summarize(-x), a)) == 0.0
    assert float(octaves(summarize(np.append(x, np.zeros(500))), a)) == pytest.approx(0, abs=1e-12)
    assert np.isnan(octaves(summarize([0.0, 0.0]), a))


def test_worst_unit_shift_finds_the_one_unit_that_moved() -> None:
    r = np.random.default_rng(6)
    x, y = r.normal(size=(2, 500, 64))
    x[:, 17] += 3.0
    expected = np.abs(x.mean(0) - y.mean(0)) / y.std(0)
    assert float(worst_unit_shift(summarize(x), summarize(y))) == pytest.approx(expected.max())
    assert abs(float(mean_shift(summarize(x), summarize(y)))) < 0.1  # diluted by 64


def test_worst_unit_shift_of_a_revived_unit_is_finite() -> None:
    """A unit that was constant has no standard deviation of its own."""
    y = np.random.default_rng(7).normal(size=(100, 8)).astype(np.float32)
    y[:, 3] = 0.0
    x = y.copy()
    x[:, 3] = 0.5
    assert 100 < float(worst_unit_shift(summarize(x), summarize(y))) < 1000
    rows = [measure(Block(v[None, None], np.ones((1, 1), bool)))[0] for v in (x, y)]
    assert 100 < float(worst_unit_shift(*rows)[0]) < 1000  # in float32 too


def test_worst_unit_shift_compares_only_the_same_units() -> None:
    a, b = summarize(np.ones((3, 2))), summarize(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"got \[2\] and \[4\] units"):
        worst_unit_shift(a, b)
    assert np.isnan(worst_unit_shift(replace(a, units=None), a))


# --- chance ---------------------------------------------------------------------------------

#: What a null mean may be off by, beside the noise of the simulation.
TOLERANCE = 0.05


def draws(seed: int) -> dict[str, Callable[..., np.ndarray]]:
    r = np.random.default_rng(seed)
    return {
        "normal": r.normal,
        "far": lambda size: r.normal(3, 1, size),
        "relu": lambda size: np.maximum(r.normal(size=size), 0),
        "heavy": lambda size: r.standard_t(7, size),
    }


@pytest.mark.parametrize("sizes", [(256, 256), (1024, 4096), (4096, 512)])
@pytest.mark.parametrize("draw", ["normal", "far", "relu", "heavy"])
def test_nulls_are_what_chance_makes(draw: str, sizes: tuple[int, int]) -> None:
    """Bins of few values included, which the textbook's (K - 1) f misses by up to 40 %."""
    function = draws(8)[draw]
    a, b = (many(function, 400, n, 4) for n in sizes)
    for name in DIVERGENCES:
        found, null = DIVERGENCES[name](a, b), NULLS[name](a, b)
        if name == "ks":  # an upper bound, see there
            assert 0.6 < found.mean() / null.mean() < 1.02, name
        elif name == "gaussian_kl" and draw == "heavy":  # few windows know their kurtosis
            assert found.mean() == pytest.approx(null.mean(), rel=0.5), name
        else:
            noise = 4 * found.std() / np.sqrt(found.size)
            assert abs(found.mean() - null.mean()) < TOLERANCE * abs(null.mean()) + noise, name


def test_the_null_of_variance_shift_knows_which_window_is_smaller() -> None:
    r = np.random.default_rng(9)
    a, b = many(r.normal, 4000, 24, 1), many(r.normal, 4000, 2400, 1)
    expected = -2 * (1 / 24 - 1 / 2400)
    assert NULLS["variance_shift"](a, b).mean() == pytest.approx(expected, rel=0.02)
    assert variance_shift(a, b).mean() == pytest.approx(expected, rel=0.15)


def test_the_textbook_psi_limits_are_crossed_by_chance_alone() -> None:
    """What ``psi`` says of 0.1 and 0.25 holds for these bins as well."""
    r = np.random.default_rng(10)
    a, b = many(r.normal, 500, 256, 1), many(r.normal, 500, 256, 1)
    assert (psi(a, b) > 0.1).all()
    assert abs(debiased("psi", a, b).mean()) < 0.02


@pytest.mark.parametrize("name", ["kl", "js", "psi", "hellinger", "wasserstein", "octaves"])
def test_debiased_is_zero_on_average_and_keeps_a_real_shift(name: str) -> None:
    r = np.random.default_rng(11)
    a, b = many(r.normal, 300, 512, 1), many(r.normal, 300, 512, 1)
    moved = many(lambda size: r.normal(1, 2, size), 300, 512, 1)
    null = NULLS[name](a, b).mean()
    assert abs(debiased(name, a, b).mean()) < 0.1 * null
    assert debiased(name, moved, b).mean() > null


def test_a_null_of_one_bin_is_zero() -> None:
    a = summarize([1.0] * 10)
    for name in ("kl", "js", "psi", "hellinger", "wasserstein", "octaves"):
        assert float(NULLS[name](a, a)) == 0.0


def test_every_divergence_has_its_null() -> None:
    assert NULLS.keys() == DIVERGENCES.keys()
    with pytest.raises(KeyError):
        debiased("mean", summarize([1.0]), summarize([1.0]))
