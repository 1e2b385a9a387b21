"""Statistics: each is what its name says in NumPy or SciPy, for one site and for many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shiftwatch import Summary, summarize
from shiftwatch.activations import FLAT
from shiftwatch.catalogue import arity, extended, metrics
from shiftwatch.divergences import DIVERGENCES
from shiftwatch.statistics import (
    STATISTICS,
    dead_fraction,
    dormant,
    effective_rank,
    participation_ratio,
    saturation,
)
from shiftwatch.summaries import Block, measure

DRAWS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "normal": lambda r: r.normal(3, 2, (400, 5)),
    "relu": lambda r: np.maximum(r.normal(size=(400, 5)), 0),
    "heavy": lambda r: r.standard_t(5, (400, 5)),
    "tiny": lambda r: r.normal(1e-12, 1e-12, (400, 5)),
    "huge": lambda r: r.normal(0, 1e12, (400, 5)),
    "gaps": lambda r: np.where(r.random((400, 5)) < 0.1, np.nan, r.normal(size=(400, 5))),
}

#: What each statistic is, of the finite values of one array.
MEANING: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "std": np.std,
    "rms": lambda x: float(np.sqrt(np.mean(x**2))),
    "minimum": np.min,
    "maximum": np.max,
    "skewness": scipy.stats.skew,
    "kurtosis": lambda x: float(scipy.stats.kurtosis(x, fisher=False)),
    "zero_fraction": lambda x: float(np.mean(x == 0)),
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("name", MEANING)
def test_a_statistic_agrees_with_numpy_and_scipy(name: str, draw: str) -> None:
    x = DRAWS[draw](np.random.default_rng(0))
    expected = MEANING[name](x[np.isfinite(x)])
    assert float(STATISTICS[name](summarize(x))) == pytest.approx(expected, rel=1e-6, abs=1e-20)


@pytest.mark.parametrize("name", STATISTICS)
def test_many_sites_in_one_call_are_as_each_alone(name: str) -> None:
    values = np.random.default_rng(1).normal(size=(1, 4, 80, 6))
    values[0, 1, :, 2] = -1.0  # a silent unit
    values[0, 2] = 0.0
    values[0, 3, 0, 0] = np.nan
    many = measure(Block(values, np.ones((1, 4), bool), FLAT["relu"]))[0]
    found = STATISTICS[name](many)
    assert found.shape == (4,) and found.dtype == np.float64
    alone = [STATISTICS[name](summarize(v, activation="relu")) for v in values[0]]
    assert all(np.shape(one) == () for one in alone)
    np.testing.assert_allclose(found, np.array(alone), rtol=1e-9)


@pytest.mark.parametrize("name", STATISTICS)
def test_an_empty_window_has_no_statistic(name: str) -> None:
    for shape in ((), (3,), (2, 3)):
        found = STATISTICS[name](Summary.empty(shape))
        assert found.shape == shape and np.isnan(found).all()
    if name != "nonfinite":  # the one that looks at such values
        assert np.isnan(STATISTICS[name](summarize([np.nan, np.inf], activation="relu")))


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 4))))
def test_no_array_makes_a_statistic_warn_or_leave_its_range(values: np.ndarray) -> None:
    """Warnings are errors in these tests; the arrays hold NaN, Inf, subnormals and 3e38."""
    s = summarize(values, activation="relu")
    for name, statistic in STATISTICS.items():
        found = float(statistic(s))
        shares = ("zero_fraction", "nonfinite", "subnormal", "saturation", "dormant")
        if name in shares and not np.isnan(found):
            assert 0 <= found <= 1
        assert not np.isinf(found)


def test_kurtosis_is_pearsons() -> None:
    x = np.random.default_rng(2).normal(size=100_000)
    assert float(metrics["kurtosis"](summarize(x))) == pytest.approx(3, abs=0.1)


def test_equal_values_have_no_shape() -> None:
    """A spread of rounding errors would give any number at all."""
    s = summarize(np.full(1000, 0.1)) + summarize(np.full(10, 0.1))
    assert np.isnan(metrics["kurtosis"](s)) and np.isnan(metrics["skewness"](s))
    assert float(metrics["std"](s)) == pytest.approx(0, abs=1e-16)


def test_nonfinite_is_the_share_of_all_values() -> None:
    s = summarize([np.nan, np.inf, -np.inf, 1.0, 2.0])
    assert float(metrics["nonfinite"](s)) == 0.6 and float(metrics["mean"](s)) == 1.5
    assert float(metrics["nonfinite"](summarize([np.nan]))) == 1.0


def test_subnormal_is_judged_by_the_values_own_type() -> None:
    x = np.array([3e-5, 1.0, 0.0, -3e-5], np.float16)
    assert float(metrics["subnormal"](summarize(x))) == 0.5
    assert float(metrics["subnormal"](summarize(x.astype(np.float32)))) == 0.0
    assert (
        float(metrics["subnormal"](summarize(np.array([1e-40, 1e-44, 1.0, 0], np.float32)))) == 0.5
    )
    assert float(metrics["subnormal"](summarize([1e-40, 1.0]))) == 0.0  # normal in float64


# --- saturation -------------------------------------------------------------------------


def test_saturation_counts_the_flat_ends_of_a_tanh() -> None:
    x = np.random.default_rng(3).normal(0, 2, 10_000)
    slope = 1 - np.tanh(x) ** 2
    expected = float(np.mean(slope < 0.05))
    assert float(saturation(summarize(np.tanh(x), activation="tanh"))) == pytest.approx(expected)


def test_saturation_needs_an_activation() -> None:
    assert np.isnan(saturation(summarize([0.0, 1.0])))
    both = Summary.concatenate(
        [
            measure(Block(np.zeros((1, 1, 4, 1)), np.ones((1, 1), bool), flat))[0]
            for flat in (FLAT["relu"], None)
        ]
    )
    np.testing.assert_array_equal(saturation(both), [1.0, np.nan])


# --- dead units --------------------------------------------------------------------------


def relu_calls(pattern: np.ndarray) -> Summary:
    """Summary of one site after calls that are 1 where bool[calls, positions, units] is True."""
    values = pattern[:, None].astype(np.float32)
    return measure(Block(values, np.ones((len(pattern), 1), bool), FLAT["relu"]))[0]


def test_a_unit_never_active_is_dead_once_enough_values_are_seen() -> None:
    assert np.isnan(dead_fraction(relu_calls(np.zeros((7, 9, 2)))))  # 63 values of a unit
    assert dead_fraction(relu_calls(np.zeros((8, 8, 2)))).tolist() == [1.0]
    assert dead_fraction(relu_calls(np.zeros((2, 5, 2))), min_samples=10).tolist() == [1.0]


def test_a_sparse_but_living_unit_is_not_dead() -> None:
    """One value in 20: silent for 270 is within chance, for 280 it is not."""
    living = np.zeros((100, 10, 1))
    living[:73, 0] = 1  # rate of 73 in 1000, silent for 270
    need = 14 / -np.log1p(-0.073)
    assert need < 270
    assert dead_fraction(relu_calls(living)).tolist() == [1.0]
    living[75:, 0] = 1
    assert dead_fraction(relu_calls(living)).tolist() == [0.0]


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.5, 1.0])
def test_healthy_units_are_hardly_ever_taken_for_dead(rate: float) -> None:
    """One in a million by design, above the rate at which the limit of 512 cuts in."""
    r = np.random.default_rng(4)
    pattern = r.random((64, 16, 3000)) < rate
    assert dead_fraction(relu_calls(pattern)).tolist() == [0.0]


def test_a_layer_full_of_zeros_but_alive_has_no_dead_unit() -> None:
    """The rule "70 % zeros is dead" is wrong here by everything."""
    pattern = np.random.default_rng(5).random((32, 16, 100)) < 0.1
    s = relu_calls(pattern)
    assert float(saturation(s)[0]) > 0.85 and dead_fraction(s).tolist() == [0.0]


def test_units_that_fall_silent_are_dead_and_those_revived_are_not() -> None:
    pattern = np.random.default_rng(6).random((64, 16, 10)) < 0.5
    pattern[50:, :, :3] = False  # dead since call 50
    pattern[:60, :, 3] = False  # revived in call 60
    s = relu_calls(pattern)
    assert dead_fraction(s).tolist() == [0.3]
    halves = relu_calls(pattern[:40]) + relu_calls(pattern[40:])
    assert dead_fraction(halves).tolist() == [0.3]


def test_dead_units_are_unknown_without_units_or_activation() -> None:
    s = relu_calls(np.zeros((8, 8, 2)))
    assert np.isnan(dead_fraction(s[:1])).all() and dead_fraction(s[:1]).shape == (1,)
    assert np.isnan(dead_fraction(summarize(np.zeros((100, 2)))))


def test_units_with_too_few_values_are_left_out() -> None:
    x = np.zeros((100, 3))
    x[10:, 0] = np.nan
    x[:, 1] = 1.0
    assert float(dead_fraction(summarize(x, activation="relu"))) == 0.5


# --- dormant units ------------------------------------------------------------------------


def test_dormant_units_follow_the_papers_definition_on_a_relu() -> None:
    r = np.random.default_rng(7)
    h = np.maximum(r.normal(size=(500, 40)), 0) * 10.0 ** -np.arange(40)[::-1].clip(0, 3)
    score = np.abs(h).mean(0) / np.abs(h).mean()
    assert float(dormant(summarize(h))) == pytest.approx(float(np.mean(score <= 0.025)))
    assert float(dormant(summarize(h), tau=0.5)) == pytest.approx(float(np.mean(score <= 0.5)))


def test_dormant_units_of_a_signed_layer_are_those_of_small_size() -> None:
    h = np.random.default_rng(8).normal(size=(500, 10))
    h[:, :2] *= 1e-3
    assert float(dormant(summarize(h))) == 0.2
    assert float(dormant(summarize(np.zeros((5, 3))))) == 1.0


# --- rank -----------------------------------------------------------------------------------


def test_effective_rank_is_the_entropy_of_the_singular_values() -> None:
    x = np.random.default_rng(9).normal(size=(3, 50, 8))
    found = effective_rank(x)
    for matrix, value in zip(x, found, strict=True):
        sigma = np.linalg.svd(matrix, compute_uv=False)
        expected = np.exp(scipy.stats.entropy(sigma / sigma.sum()))
        assert value == pytest.approx(expected, rel=1e-9)
    assert float(effective_rank(np.ones((6, 4)))) == pytest.approx(1.0)
    assert float(effective_rank(np.eye(5))) == pytest.approx(5.0)


def test_participation_ratio_is_that_of_the_covariance() -> None:
    x = np.random.default_rng(10).normal(size=(3, 50, 8)) * np.arange(1, 9)
    for matrix, value in zip(x, participation_ratio(x), strict=True):
        eigen = np.linalg.eigvalsh(np.cov(matrix.T))
        assert value == pytest.approx(eigen.sum() ** 2 / (eigen**2).sum(), rel=1e-9)
    wide = np.swapaxes(x, -2, -1)
    eigen = np.linalg.eigvalsh(np.cov(wide[0].T))
    assert participation_ratio(wide)[0] == pytest.approx(eigen.sum() ** 2 / (eigen**2).sum())
    assert float(participation_ratio(x[0] * 1e150)) == pytest.approx(
        float(participation_ratio(x[0]))
    )


def test_rank_is_unknown_for_what_is_not_finite_or_does_not_differ() -> None:
    for x in (np.zeros((4, 3)), np.full((4, 3), np.nan)):
        assert np.isnan(effective_rank(x)) and np.isnan(participation_ratio(x))
    assert np.isnan(participation_ratio(np.ones((4, 3))))
    with pytest.raises(ValueError, match="must have the shape"):
        effective_rank([1.0, 2.0])


# --- the catalogue --------------------------------------------------------------------------


def test_the_fixed_keys_are_in_the_catalogue() -> None:
    fixed = "mean_shift variance_shift kl saturation dead_fraction js psi wasserstein ks"
    assert set(f"{fixed} zero_fraction nonfinite kurtosis".split()) <= metrics.keys()
    assert metrics.keys() == STATISTICS.keys() | DIVERGENCES.keys()
    assert not STATISTICS.keys() & DIVERGENCES.keys()


def test_the_catalogue_is_read_only() -> None:
    with pytest.raises(TypeError):
        metrics["mine"] = np.mean  # type: ignore[index]


def test_arity_tells_statistics_from_divergences() -> None:
    assert {arity(f) for f in STATISTICS.values()} == {1}
    assert {arity(f) for f in DIVERGENCES.values()} == {2}
    with pytest.raises(TypeError, match=r"got 'three' of \(a, b, c\)"):

        def three(a: Summary, b: Summary, c: Summary) -> np.ndarray:
            return a.mean

        arity(three)
    with pytest.raises(TypeError, match=r"got 0\.5\. Pass the function"):
        arity(0.5)  # type: ignore[arg-type]


def test_a_users_metric_joins_under_its_own_name() -> None:
    def span(summary: Summary, scale: float = 1.0) -> np.ndarray:
        return (summary.moments.max - summary.moments.min) / scale

    own = extended({"span": span})
    assert float(own["span"](summarize([1.0, 4.0]))) == 3.0
    assert list(own)[: len(metrics)] == list(metrics) and "span" not in metrics
    assert extended() == metrics
    with pytest.raises(ValueError, match="got 'kl'"):
        extended({"kl": span})
    with pytest.raises(ValueError, match="got 'my metric'"):
        extended({"my metric": span})
