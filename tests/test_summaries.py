"""Summaries: they count exactly, merge by laws, and agree with NumPy and SciPy."""

from __future__ import annotations

import threading
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shiftwatch import Summary, summarize
from shiftwatch.activations import FLAT, FLAT_SLOPE, ONE_SIDED, TWO_SIDED, Flat, flat_of
from shiftwatch.summaries import Block, Histogram, Moments, Rows, Tallies, Units, measure
from shiftwatch.summaries.histogram import BINS, CENTRES, EDGES, RELATIVE_ERROR, ZERO_BIN
from tests import counted

# Values as layers have them, and the few that are not numbers.
FINITE = st.floats(-1e6, 1e6, width=32)
ODD = (0.0, -0.0, np.nan, np.inf, -np.inf, 1e-30, 1e-42)
ANY = st.one_of(FINITE, st.sampled_from([float(np.float32(x)) for x in ODD]))


def tables(rows: Any, elements: Any = ANY, width: int = 3) -> Any:
    """float32[rows, width]."""
    return rows.flatmap(lambda n: arrays(np.float32, (n, width), elements=elements))


def counts_of(summary: Summary) -> list[list[int]]:
    """Everything that must merge exactly."""
    exact = [summary.count, summary.moments.min, summary.moments.max, summary.histogram.counts]
    exact += [getattr(summary.tallies, f.name) for f in fields(Tallies)]
    if summary.units is not None:
        exact += [summary.units.count, summary.units.active, summary.units.silent]
    return [np.asarray(x).tolist() for x in exact]


def assert_same(a: Summary, b: Summary) -> None:
    """Counts exactly, moments to rounding (relative to the size of the values)."""
    assert counts_of(a) == counts_of(b)
    size = float(np.nan_to_num(a.rms)) + 1e-45
    for power, name in enumerate(("m2", "m3", "m4"), start=2):
        unit = size**power * max(int(a.count), 1)
        np.testing.assert_allclose(
            getattr(a.moments, name), getattr(b.moments, name), rtol=1e-9, atol=1e-12 * unit
        )
    np.testing.assert_allclose(a.moments.mean, b.moments.mean, rtol=1e-9, atol=1e-12 * size)
    if a.units is not None and b.units is not None:
        np.testing.assert_allclose(a.units.mean, b.units.mean, rtol=1e-9, atol=1e-12 * size)
        np.testing.assert_allclose(
            a.units.m2, b.units.m2, rtol=1e-9, atol=1e-12 * size**2 * max(int(a.count), 1)
        )


# --- the laws of merging -----------------------------------------------------------------


@given(tables(st.integers(1, 8)))
def test_an_empty_summary_is_neutral(values: np.ndarray) -> None:
    a = summarize(values)
    for merged in (a + Summary.empty(), Summary.empty() + a):
        assert counts_of(merged) == counts_of(Summary(a.moments, a.tallies, a.histogram, a.bounded))
        for f in fields(Moments):
            np.testing.assert_array_equal(
                getattr(merged.moments, f.name), getattr(a.moments, f.name)
            )


@given(tables(st.integers(1, 6)), tables(st.integers(1, 6)), tables(st.integers(1, 6)))
def test_merging_is_associative(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
    a, b, c = (summarize(v, activation="relu") for v in (x, y, z))
    assert_same((a + b) + c, a + (b + c))


@given(tables(st.integers(2, 12)), st.data())
def test_two_halves_equal_the_whole(values: np.ndarray, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))
    whole = summarize(values, activation="tanh")
    halves = summarize(values[:cut], activation="tanh") + summarize(values[cut:], activation="tanh")
    # How long a unit has been silent is counted in calls, and these are one and two.
    assert halves.units is not None and whole.units is not None
    silent = Units(**{**vars_of(whole.units), "silent": halves.units.silent})
    assert_same(halves, Summary(**{**vars_of(whole), "units": silent}))


def vars_of(value: Any) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}


@given(tables(st.integers(1, 8), FINITE), tables(st.integers(1, 8), FINITE))
def test_merging_commutes_but_for_silence(x: np.ndarray, y: np.ndarray) -> None:
    a, b = summarize(x), summarize(y)
    swapped = b + a
    assert swapped.units is not None and (a + b).units is not None
    silent = Units(**{**vars_of(swapped.units), "silent": (a + b).units.silent})  # type: ignore[union-attr]
    assert_same(a + b, Summary(**{**vars_of(swapped), "units": silent}))


def test_a_thousand_merges_lose_no_precision() -> None:
    """A mean far from zero is where raw power sums fail."""
    x = np.random.default_rng(0).normal(1e4, 1.0, 10_000)
    total = summarize(x[:10])
    for i in range(10, x.size, 10):
        total = total + summarize(x[i : i + 10])
    assert float(total.std) == pytest.approx(x.std(), rel=1e-9)
    assert float(total.moments.m3) == pytest.approx(((x - x.mean()) ** 3).sum(), rel=1e-6)
    assert float(total.moments.m4) == pytest.approx(((x - x.mean()) ** 4).sum(), rel=1e-9)


def test_summaries_of_other_sites_do_not_merge() -> None:
    with pytest.raises(ValueError, match=r"got shapes \(2,\) and \(3,\)"):
        Summary.empty((2,)) + Summary.empty((3,))
    with pytest.raises(ValueError, match=r"got \[2\] and \[3\] units"):
        summarize(np.ones((4, 2))) + summarize(np.ones((4, 3)))


# --- many sites ---------------------------------------------------------------------------


def test_units_of_sites_of_different_width_reduce_each_to_its_site() -> None:
    r = np.random.default_rng(1)
    wide, narrow = r.normal(size=(1, 2, 5, 7)), r.normal(size=(1, 3, 5, 2))
    a = measure(Block(wide, np.ones((1, 2), bool)))[0]
    b = measure(Block(narrow, np.ones((1, 3), bool)))[0]
    units = Summary.concatenate([a, b]).units
    assert units is not None
    means = [wide[0, s].mean(0) for s in range(2)] + [narrow[0, s].mean(0) for s in range(3)]
    np.testing.assert_allclose(units.total(units.mean), [m.sum() for m in means])
    np.testing.assert_allclose(units.average(units.mean), [m.mean() for m in means])
    np.testing.assert_allclose(units.largest(units.mean), [m.max() for m in means])
    two = Summary.concatenate([a, b]) + Summary.concatenate([a, b])
    assert two.units is not None
    assert two.units.count.tolist() == [10] * (2 * 7 + 3 * 2)


def test_units_without_values_are_left_out_of_averages() -> None:
    units = summarize([[1.0, np.nan], [3.0, np.nan]]).units
    assert units is not None
    known = np.where(units.count > 0, units.mean, np.nan)
    assert float(units.average(known)) == 2.0 and float(units.largest(known)) == 2.0


def test_one_of_many_sites_is_what_it_would_be_alone() -> None:
    values = np.random.default_rng(2).normal(size=(2, 5, 8, 3)).astype(np.float32)
    values[1, 3, 2, 1] = np.nan
    many, _ = measure(Block(values, np.ones((2, 5), bool)))
    for site in range(5):
        alone = summarize(np.concatenate(list(values[:, site])))
        chosen = many[site]
        assert_float32(chosen, alone)
    assert many[1:3].shape == (2,)
    with pytest.raises(TypeError, match="one site"):
        summarize([1.0])[0]


def assert_float32(measured: Summary, exact: Summary) -> None:
    """A summary made in float32 against one made in float64: counts exactly, moments to 1e-6."""
    bare = Summary(exact.moments, exact.tallies, exact.histogram, exact.bounded)
    assert counts_of(Summary(**{**vars_of(measured), "units": None})) == counts_of(bare)
    size = float(np.nan_to_num(exact.std)) + 1e-7 * float(np.nan_to_num(exact.rms))
    np.testing.assert_allclose(measured.mean, exact.mean, atol=1e-6 * size, rtol=1e-12)
    for power, name in enumerate(("m2", "m3", "m4"), start=2):
        np.testing.assert_allclose(
            getattr(measured.moments, name),
            getattr(exact.moments, name),
            rtol=3e-6,
            atol=3e-6 * size**power * int(exact.count),
        )


def test_padding_adds_empty_sites() -> None:
    one = measure(Block(np.ones((1, 2, 4, 3)), np.ones((1, 2), bool)))[0]
    padded = one.padded(5)
    assert padded.shape == (5,) and padded.count.tolist() == [12, 12, 0, 0, 0]
    assert one.padded(2) is one


# --- against NumPy and SciPy --------------------------------------------------------------


@pytest.mark.parametrize("name", ["normal", "far", "relu", "heavy", "tiny", "huge"])
def test_moments_agree_with_numpy_and_scipy(name: str) -> None:
    r = np.random.default_rng(3)
    x = {
        "normal": r.normal(size=(500, 4)),
        "far": r.normal(1e6, 1, (500, 4)),
        "relu": np.maximum(r.normal(size=(500, 4)), 0),
        "heavy": r.standard_t(3, (500, 4)),
        "tiny": r.normal(0, 1e-30, (500, 4)),
        "huge": r.normal(0, 1e30, (500, 4)),
    }[name]
    s = summarize(x)
    assert float(s.mean) == pytest.approx(x.mean(), rel=1e-12, abs=1e-12 * x.std())
    assert float(s.variance) == pytest.approx(x.var(), rel=1e-9, abs=1e-30)
    assert float(s.rms) == pytest.approx(np.sqrt((x**2).mean()), rel=1e-12)
    flat = x.ravel()
    for power, key in ((3, "m3"), (4, "m4")):
        expected = scipy.stats.moment(flat, power)
        assert float(getattr(s.moments, key) / s.count) == pytest.approx(
            expected, rel=1e-6, abs=1e-9 * x.std() ** power
        )
    assert (float(s.moments.min), float(s.moments.max)) == (x.min(), x.max())
    assert s.units is not None
    np.testing.assert_allclose(s.units.mean, x.mean(0), rtol=1e-12, atol=1e-12 * x.std())
    np.testing.assert_allclose(s.units.variance, x.var(0), rtol=1e-9, atol=1e-30)


def test_equal_values_have_no_variance_at_all() -> None:
    """0.1 has no exact sum; a variance of 1e-34 would pass for a spread."""
    for dtype in (np.float32, np.float64):
        s, rows = measure(Block(np.full((3, 2, 70, 11), 0.1, dtype), np.ones((3, 2), bool)))
        assert s.variance.tolist() == [0.0, 0.0] and s.moments.m4.tolist() == [0.0, 0.0]
        assert rows.std.tolist() == [[0.0] * 2] * 3 and rows.spread.tolist() == [[0.0] * 2] * 3
        assert s.units is not None and not s.units.variance.any()


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e-12, 1e-6, 1.0, 1e6, 1e12, 1e20, 1e37])
def test_float32_moments_hold_at_every_scale(scale: float) -> None:
    """Fourth powers of 1e-12 and 1e12 leave float32; so do squares of 1e-30."""
    values = (np.random.default_rng(4).normal(0.5, 1, (2, 1, 8, 64)) * scale).astype(np.float32)
    s, rows = measure(Block(values, np.ones((2, 1), bool)))
    exact = values.astype(np.float64)
    assert s.mean[0] == pytest.approx(exact.mean(), rel=1e-6)
    assert s.std[0] == pytest.approx(exact.std(), rel=1e-6)
    flat = exact.ravel() / scale
    for power, key in ((3, "m3"), (4, "m4")):
        found = float(getattr(s.moments, key)[0]) / flat.size / scale**2 / scale ** (power - 2)
        assert found == pytest.approx(scipy.stats.moment(flat, power), rel=1e-5)
    np.testing.assert_allclose(rows.std, exact.std((2, 3)), rtol=1e-6)
    np.testing.assert_allclose(rows.spread, exact.std(2).mean(-1), rtol=1e-6)
    assert s.units is not None
    np.testing.assert_allclose(s.units.variance, exact.var((0, 2))[0], rtol=1e-5)


def test_a_tiny_site_keeps_its_shape_beside_large_ones() -> None:
    """Gradients of 1e-9 in the same block as values of 1: each site has its own range."""
    r = np.random.default_rng(5)
    values = (r.normal(size=(4, 3, 8, 32)) * np.array([1, 1e-9, 1e9])[:, None, None]).astype(
        np.float32
    )
    s, rows = measure(Block(values, np.ones((4, 3), bool)))
    for site in range(3):
        exact = values[:, site].astype(np.float64).ravel()
        assert s.std[site] == pytest.approx(exact.std(), rel=1e-6)
        kurtosis = float(s.moments.m4[site] * s.count[site] / s.moments.m2[site] ** 2)
        assert kurtosis == pytest.approx(scipy.stats.kurtosis(exact, fisher=False), rel=1e-5)
    np.testing.assert_allclose(rows.std, values.astype(np.float64).std((2, 3)), rtol=1e-6)


def test_a_row_that_explodes_leaves_the_others_readable() -> None:
    values = np.random.default_rng(6).normal(size=(4, 1, 8, 32)).astype(np.float32)
    values[3] *= 1e30
    _, rows = measure(Block(values, np.ones((4, 1), bool)))
    np.testing.assert_allclose(rows.std[:, 0], values.astype(float).std((1, 2, 3)), rtol=1e-6)


def test_values_beyond_all_range_raise_no_warning() -> None:
    s = summarize([1e300, -1e300, 1.0]) + summarize([1e-300, 1e308])
    assert int(s.count) == 5 and float(s.moments.max) == 1e308


def test_the_first_value_may_be_an_outlier() -> None:
    """Distances are taken to a mean of some values, of which this one is far off."""
    x = np.random.default_rng(7).normal(size=200_000)
    x[0] = 1e5
    assert float(summarize(x).moments.m4) == pytest.approx(((x - x.mean()) ** 4).sum(), rel=1e-9)


# --- rows, masks, tallies -----------------------------------------------------------------


def expected_row(values: np.ndarray, flat: Flat | None) -> dict[str, float]:
    """What a row must say of float[positions, units], by plain NumPy."""
    x = values.astype(np.float64)
    finite = np.isfinite(x)
    y = x[finite]
    if not y.size:
        nan = float("nan")
        return dict(count=0, mean=nan, std=nan, nonfinite=x.size, flat=nan, spread=nan)
    inside = np.zeros(y.shape, bool)
    if flat is not None:
        inside = ((y <= np.float32(flat.low)) & (y >= np.float32(flat.floor))) | (
            y >= np.float32(flat.high)
        )
    units = [x[finite[:, u], u].std() for u in range(x.shape[1]) if finite[:, u].any()]
    return dict(
        count=y.size,
        mean=y.mean(),
        std=y.std(),
        nonfinite=x.size - y.size,
        flat=inside.mean() if flat is not None else float("nan"),
        spread=float(np.mean(units)),
    )


@pytest.mark.parametrize("activation", ["", "relu", "gelu", "tanh", "hardsigmoid"])
@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("positions", [1, 5, 300])
def test_rows_agree_with_numpy(activation: str, broken: bool, positions: int) -> None:
    r = np.random.default_rng(8)
    values = r.normal(size=(3, 4, positions, 6)).astype(np.float32)
    if activation in ("relu", "hardsigmoid"):
        values = np.clip(values, 0, 1 if activation == "hardsigmoid" else None)
    filled = np.ones((3, 4), bool)
    if broken:
        values[0, 1, 0, 2], values[1, 1, 0, 3], values[2, 3] = np.nan, np.inf, -np.inf
        values[1, 2] = 1e30  # what an unfilled row holds is no matter
        filled[1, 2] = filled[0, 0] = False
    flat = FLAT[activation] if activation else None
    summary, rows = measure(Block(values, filled, flat))
    for row, site in np.ndindex(3, 4):
        if filled[row, site]:
            expected = expected_row(values[row, site], flat)
        else:
            nan = float("nan")
            expected = dict(count=0, mean=nan, std=nan, nonfinite=0, flat=nan, spread=nan)
        for f in fields(Rows):
            found = getattr(rows, f.name)[row, site]
            rounding = 3e-4 if f.name == "spread" else 3e-6  # see _spread
            assert found == pytest.approx(expected[f.name], rel=3e-6, abs=rounding, nan_ok=True)
    for site in range(4):
        assert_float32(summary[site], whole(values[:, site][filled[:, site]], activation))


def whole(values: np.ndarray, activation: str) -> Summary:
    """float64 summary of float32[rows, positions, units], by way of summarize."""
    return summarize(values.reshape(-1, values.shape[-1]), activation=activation)


@given(arrays(np.float32, (2, 2, 3, 4), elements=ANY), arrays(bool, (2, 2)))
def test_every_value_is_counted_once_and_in_its_place(
    values: np.ndarray, filled: np.ndarray
) -> None:
    summary, rows = measure(Block(values, filled))
    for site in range(2):
        x = values[filled[:, site], site]
        t = Tallies(*(int(getattr(summary.tallies, f.name)[site]) for f in fields(Tallies)))  # type: ignore[arg-type]
        assert (t.nan, t.posinf, t.neginf) == (
            np.isnan(x).sum(),
            np.isposinf(x).sum(),
            np.isneginf(x).sum(),
        )
        assert t.zero == (x == 0).sum()
        assert t.subnormal == ((x != 0) & (np.abs(x) < np.finfo(np.float32).tiny)).sum()
        assert summary.count[site] == np.isfinite(x).sum() == summary.histogram.total[site]
        assert summary.size[site] == x.size
    assert rows.count.sum() == summary.count.sum()
    assert rows.nonfinite.sum() == summary.nonfinite.sum()


def test_a_block_without_rows_or_values_is_empty() -> None:
    for shape in ((0, 2, 3, 4), (1, 2, 0, 4), (2, 0, 3, 4)):
        summary, _ = measure(Block(np.zeros(shape, np.float32), np.ones(shape[:2], bool)))
        assert not summary.count.any() and summary.shape == (shape[1],)
        assert np.isnan(summary.mean).all()


def test_float16_has_its_own_smallest_normal_number() -> None:
    tiny = float(np.finfo(np.float16).tiny)  # 6.1e-5
    x = np.array([tiny, tiny / 2, -tiny / 64, 0.0, 1.0], np.float16)
    assert int(summarize(x).tallies.subnormal) == 2
    assert int(summarize(x.astype(np.float32)).tallies.subnormal) == 0
    block = Block(
        x.astype(np.float32).reshape(1, 1, 5, 1).repeat(2, axis=1),
        np.ones((1, 2), bool),
        tiny=np.array([tiny, np.finfo(np.float32).tiny]),
    )
    assert measure(block)[0].tallies.subnormal.tolist() == [2, 0]


def test_silence_is_counted_from_the_last_active_call() -> None:
    values = np.zeros((4, 1, 5, 3), np.float32)
    values[1, 0, 2, 0] = 1.0  # unit 0: active in call 1 of 0 … 3
    values[:, 0, :, 1] = 1.0  # unit 1: always; unit 2: never
    units = measure(Block(values, np.ones((4, 1), bool), FLAT["relu"]))[0].units
    assert units is not None
    assert units.active.tolist() == [1, 20, 0]
    assert units.silent.tolist() == [10, 0, 20]
    later = measure(Block(np.zeros((1, 1, 5, 3), np.float32), np.ones((1, 1), bool), FLAT["relu"]))
    assert later[0].units is not None
    assert (units + later[0].units).silent.tolist() == [15, 5, 25]
    assert (later[0].units + units).silent.tolist() == [10, 0, 25]


def test_silence_leaves_out_what_is_not_finite_or_not_filled() -> None:
    values = np.zeros((4, 1, 5, 1), np.float32)
    values[0] = 1.0
    values[2, 0, :2] = np.nan
    filled = np.array([[True], [True], [True], [False]])
    units = measure(Block(values, filled, FLAT["relu"]))[0].units
    assert units is not None and units.silent.tolist() == [5 + 3] and units.count.tolist() == [13]


def test_scratch_memory_never_shows_through() -> None:
    """Two measurements in turn, and in two threads, leave each other's results alone."""
    r = np.random.default_rng(9)
    blocks = [
        Block(r.normal(size=(2, 3, p, 8)).astype(np.float32), np.ones((2, 3), bool), FLAT["relu"])
        for p in (1, 2, 64)
    ]
    alone = [counts_of(measure(b)[0]) for b in blocks]
    kept = [measure(b)[0] for b in blocks]
    found: list[bool] = []

    def again() -> None:
        for _ in range(20):
            found.append([counts_of(measure(b)[0]) for b in blocks] == alone)

    threads = [threading.Thread(target=again) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 60
    assert [counts_of(s) for s in kept] == alone


def test_the_values_given_are_left_as_they_are() -> None:
    values = np.array([[[[1.0, np.nan], [np.inf, 2e30]]]], np.float32)
    before = values.copy()
    measure(Block(values, np.ones((1, 1), bool), FLAT["gelu"]))
    np.testing.assert_array_equal(values, before)
    values.flags.writeable = False
    measure(Block(values, np.ones((1, 1), bool), FLAT["gelu"]))


def test_a_view_of_a_larger_array_is_measured_as_its_copy() -> None:
    ring = np.random.default_rng(10).normal(size=(8, 6, 4, 10)).astype(np.float32)
    part = ring[2:5, ::2, :, 1:9]
    a, b = (measure(Block(v, np.ones((3, 3), bool)))[0] for v in (part, part.copy()))
    assert counts_of(a) == counts_of(b)
    np.testing.assert_array_equal(a.moments.m4, b.moments.m4)


def calls(sites: int, broken: bool) -> int:
    """Calls that one measurement makes."""
    values = np.ones((2, sites, 3, 4), np.float32)
    values[0, 0, 0, 0] = np.nan if broken else 2.0
    block = Block(values, np.ones((2, sites), bool), FLAT["gelu"])
    measure(block)  # imports, scratch memory
    return counted.calls(lambda: measure(block))


@pytest.mark.parametrize("broken", [False, True])
def test_the_number_of_calls_does_not_depend_on_the_number_of_sites(broken: bool) -> None:
    assert calls(10, broken) == calls(1000, broken) < 500


# --- the histogram ------------------------------------------------------------------------


def test_the_bins_are_fixed_and_in_order() -> None:
    assert len(CENTRES) == BINS and len(EDGES) == BINS + 1 and CENTRES[ZERO_BIN] == 0
    assert (np.diff(CENTRES) > 0).all() and (np.diff(EDGES) >= 0).all()
    assert ((EDGES[:-1] <= CENTRES) & (CENTRES <= EDGES[1:])).all()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_each_value_falls_between_the_edges_of_its_bin(value: float) -> None:
    index = int(np.flatnonzero(summarize([value]).histogram.counts)[0])
    if abs(value) < 2**-127:  # the smallest subnormal numbers count as zeros
        assert abs(index - ZERO_BIN) <= 1
    elif value > 0:
        assert EDGES[index] <= value < EDGES[index + 1]
    else:
        assert EDGES[index] < value <= EDGES[index + 1]


@given(
    arrays(
        np.float32, st.integers(1, 40), elements=FINITE.filter(lambda v: v == 0 or abs(v) > 1e-6)
    ),
    st.floats(0, 1),
)
def test_a_quantile_is_off_by_an_eighth_of_its_size_at_most(values: np.ndarray, q: float) -> None:
    found = float(summarize(values).histogram.quantile(q))
    expected = float(np.quantile(values.astype(float), q, method="lower"))
    assert abs(found - expected) <= RELATIVE_ERROR * abs(expected) * (1 + 1e-9)


def test_quantiles_come_for_many_sites_and_levels_at_once() -> None:
    values = np.random.default_rng(11).normal(size=(1, 4, 100, 5))
    histogram = measure(Block(values, np.ones((1, 4), bool)))[0].histogram
    q = np.array([0.05, 0.5, 0.95])
    assert histogram.quantile(q).shape == (4, 3) and histogram.quantile(0.5).shape == (4,)
    expected = np.quantile(values[0].reshape(4, -1), q, axis=1, method="lower").T
    np.testing.assert_allclose(histogram.quantile(q), expected, rtol=RELATIVE_ERROR)
    assert np.isnan(Histogram.empty((2,)).quantile(q)).all()
    with pytest.raises(ValueError, match="0 … 1"):
        histogram.quantile(1.5)


# --- the way in ---------------------------------------------------------------------------


def test_summarize_takes_any_axis_and_any_real_type() -> None:
    x = np.random.default_rng(12).integers(-5, 5, (4, 3, 6))
    for axis in (-1, 0, 1):
        units = summarize(x, units_axis=axis).units
        assert units is not None
        np.testing.assert_allclose(
            units.mean, np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]).mean(0)
        )
    assert float(summarize([True, False]).mean) == 0.5
    assert summarize(3.0).units is not None and summarize([1.0, 2.0]).shape == ()


def test_summarize_says_what_it_cannot_take() -> None:
    with pytest.raises(TypeError, match="real numbers; got an array of complex128"):
        summarize([1j])
    with pytest.raises(ValueError, match="units_axis must lie in"):
        summarize(np.ones((2, 2)), units_axis=2)
    with pytest.raises(ValueError, match="at least one number"):
        summarize(np.ones((0, 2)))
    with pytest.raises(ValueError, match="activation must be one of"):
        summarize([1.0], activation="swishy")


# --- activations --------------------------------------------------------------------------


def _erf(x: np.ndarray) -> np.ndarray:
    import scipy.special

    return np.asarray(scipy.special.erf(x))


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "hardsigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hardtanh": lambda x: np.clip(x, -1, 1),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "celu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "gelu": lambda x: x * (1 + _erf(x / np.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


def test_every_activation_has_a_definition_here() -> None:
    assert ACTIVATIONS.keys() == FLAT.keys()
    assert ONE_SIDED | TWO_SIDED <= FLAT.keys() and not ONE_SIDED & TWO_SIDED


@pytest.mark.parametrize("name", sorted(FLAT))
def test_flat_is_where_the_slope_is_under_5_percent_of_its_greatest(name: str) -> None:
    x = np.linspace(-12, 12, 240_001)
    function, step = ACTIVATIONS[name], 1e-5
    y = function(x)
    slope = np.abs(function(x + step) - function(x - step)) / (2 * step)
    steepest = slope.max()
    flat = slope < FLAT_SLOPE * steepest
    band = FLAT[name]
    inside = ((y <= band.low) & (y >= band.floor)) | (y >= band.high)
    # Grid points next to a kink or to the limit belong to either side.
    clear = np.abs(slope - FLAT_SLOPE * steepest) > 1e-3 * steepest
    clear &= np.all([np.abs(x - k) > 1e-3 for k in KINKS.get(name, (0,))], axis=0)
    # A fold has a level bottom: that passes no gradient either, but holds no value captive.
    bottom, sliver = FOLDS.get(name, ((0, 0), (0, 0)))
    missed, extra = x[flat & ~inside & clear], x[inside & ~flat & clear]
    assert ((missed > bottom[0]) & (missed < bottom[1])).all()
    # Its outputs just under zero come from the flat tail or from a sliver left of zero.
    assert ((extra > sliver[0]) & (extra < sliver[1])).all()


#: Inputs that the flat outputs leave out, and that they take in, where an activation folds.
FOLDS = {
    "gelu": ((-0.91, -0.63), (-0.06, 0.0)),
    "silu": ((-1.60, -1.05), (-0.17, 0.0)),
    "mish": ((-1.45, -1.01), (-0.14, 0.0)),
    "hardswish": ((-1.73, -1.27), (0.0, 0.0)),
}
KINKS = {"hardtanh": (-1, 1), "relu6": (0, 6), "hardsigmoid": (-3, 3), "hardswish": (-3, 0, 3)}


def test_no_activation_is_flat_nowhere() -> None:
    assert flat_of("").low == -np.inf and flat_of("").high == np.inf
