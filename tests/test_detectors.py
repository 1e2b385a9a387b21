"""Detectors: silent where nothing happens, loud where they were built to be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shiftwatch.detectors import Cusum, EDetector, Jump, Shewhart, Threshold

DETECTORS: dict[str, Any] = {
    "threshold": Threshold(limit=1.0, release=0.5, patience=2),
    "cusum": Cusum(),
    "e_detector": EDetector(),
    "shewhart": Shewhart(),
    "jump": Jump(),
    "jump at once": Jump(patience=0),
}


def play(detector: Any, values: Any, every: int = 8, **options: Any) -> tuple[Any, np.ndarray]:
    """Last state, and bool[T, ...] where it fired, over values [T, ...]."""
    values = np.asarray(values, float)
    state = detector.init(values.shape[1:])
    fired = []
    for time, value in enumerate(values):
        if isinstance(detector, Jump):
            if time % every == 0:
                state = detector.refresh(state)
            state, outcome = detector.update(state, value, time, **options)
            fired.append(outcome.fired)
        else:
            state, out = detector.update(state, value)
            fired.append(out)
    return state, np.array(fired)


def run_length(fired: np.ndarray) -> float:
    """Mean run to the first alarm of series [T, n], those without one reckoned as censored."""
    first = np.where(fired.any(0), fired.argmax(0) + 1, len(fired))
    return float(first.sum() / max(int(fired.any(0).sum()), 1))


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("constant", [0.0, 0.3, -5.0, -1e30])
def test_a_constant_under_the_limit_is_silent(name: str, constant: float) -> None:
    assert not play(DETECTORS[name], np.full((300, 2), constant))[1].any()


@pytest.mark.parametrize("name", DETECTORS)
def test_a_step_is_found_and_said_once(name: str) -> None:
    values = np.random.default_rng(0).normal(0, 0.1, 200)
    values[150:] += 8
    fired = play(DETECTORS[name], values)[1]
    assert not fired[:150].any() and fired[150:158].any()
    if name != "shewhart":  # it keeps no condition: every value out of line is one
        assert fired.sum() == 1


@pytest.mark.parametrize("name", DETECTORS)
def test_nan_leaves_the_state_as_it_was(name: str) -> None:
    detector = DETECTORS[name]
    state, _ = play(detector, np.random.default_rng(1).normal(size=(50, 3)))
    for value in (np.full(3, np.nan), np.array([np.nan, 0.1, np.nan])):
        extra = (50,) if isinstance(detector, Jump) else ()
        after, out = detector.update(state, value, *extra)
        fired = out.fired if isinstance(detector, Jump) else out
        unseen = np.isnan(value)
        assert not fired[unseen].any()
        for a, b in zip(state, after, strict=True):
            np.testing.assert_array_equal(a[..., unseen], b[..., unseen])


@pytest.mark.parametrize("name", sorted(DETECTORS.keys() - {"threshold"}))
def test_infinity_is_not_learnt(name: str) -> None:
    values = np.random.default_rng(1).normal(0, 0.1, (60, 2))
    broken = values.copy()
    broken[30] = np.inf, -np.inf
    assert not play(DETECTORS[name], broken)[1].any()


@pytest.mark.parametrize("name", DETECTORS)
def test_many_series_in_one_call_are_as_each_alone(name: str) -> None:
    random = np.random.default_rng(2)
    values = random.normal(0, 0.3, (120, 2, 3))
    values[60:, 0] += 5
    values[80:90, 1, 1] = np.nan
    values[random.random(values.shape) < 0.1] = np.nan
    state, fired = play(DETECTORS[name], values)
    assert fired.shape == values.shape and fired.any()
    for place in np.ndindex(2, 3):
        alone, one = play(DETECTORS[name], values[(slice(None), *place)])
        np.testing.assert_array_equal(fired[(slice(None), *place)], one)
        for a, b in zip(state, alone, strict=True):
            np.testing.assert_array_equal(a[(..., *place)], b)


@pytest.mark.parametrize("name", DETECTORS)
def test_an_update_changes_nothing_behind_the_callers_back(name: str) -> None:
    detector = DETECTORS[name]
    state, _ = play(detector, np.random.default_rng(3).normal(size=(40, 2)))
    kept = [np.copy(field) for field in state]
    detector.update(state, np.array([9.0, 9.0]), *((40,) if isinstance(detector, Jump) else ()))
    for before, after in zip(kept, state, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", DETECTORS)
def test_no_series_at_all_is_fine(name: str) -> None:
    assert play(DETECTORS[name], np.zeros((5, 0)))[1].shape == (5, 0)


# --- threshold ---------------------------------------------------------------------------


def fires(detector: Threshold, values: list[float]) -> list[int]:
    return np.flatnonzero(play(detector, values)[1]).tolist()


def test_a_threshold_waits_for_its_patience() -> None:
    assert fires(Threshold(1.0, patience=3), [2, 2, 0, 2, 2, 2, 2]) == [5]


def test_the_limit_itself_counts() -> None:
    assert fires(Threshold(1.0), [0.999, 1.0]) == [1]


def test_a_threshold_fires_anew_only_after_its_release() -> None:
    assert fires(Threshold(1.0, release=0.5), [2, 0.7, 2, 0.4, 2]) == [0, 4]
    assert fires(Threshold(1.0), [2, 0.7, 2]) == [0, 2]


def test_a_gap_neither_breaks_nor_feeds_a_row() -> None:
    nan = float("nan")
    assert fires(Threshold(1.0, patience=2), [2, nan, nan, 2]) == [3]
    assert fires(Threshold(1.0, release=0.5), [2, nan, 2]) == [0]


def test_infinity_is_above_every_limit() -> None:
    assert fires(Threshold(1.0), [0, np.inf]) == [1]


# --- cusum -------------------------------------------------------------------------------


def test_cusum_on_white_noise_runs_as_long_as_siegmund_says() -> None:
    values = np.random.default_rng(0).normal(size=(2500, 1500))
    assert run_length(play(Cusum(k=0.5, h=5.0), values)[1]) == pytest.approx(938, rel=0.2)


def test_cusum_finds_a_small_lasting_change_soon() -> None:
    values = np.random.default_rng(1).normal(1.0, 1.0, (60, 500))
    assert 8 < run_length(play(Cusum(k=0.5, h=5.0), values)[1]) < 13  # 10.4 in the tables


def test_cusum_ends_its_condition_soon_after_the_change_does() -> None:
    values = np.concatenate([np.full(10_000, 10.0), np.zeros(20)])
    state, _ = play(Cusum(k=0.5, h=5.0), values)
    assert not state.on and state.s == 0


# --- e-detector --------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("law", ["normal", "signs", "zero"])
def test_an_e_detector_keeps_its_bound(law: str, shift: float) -> None:
    """The mean run to a false alarm is at least 1/alpha for whatever is 1-sub-Gaussian."""
    random = np.random.default_rng(2)
    values = {
        "normal": random.normal(size=(1500, 400)),
        "signs": random.choice([-1.0, 1.0], (1500, 400)),
        "zero": np.zeros((1500, 400)),
    }[law]
    assert run_length(play(EDetector(alpha=0.01, shift=shift), values)[1]) >= 100


def test_an_e_detector_finds_the_change_it_bets_on() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, (40, 300))
    assert run_length(play(EDetector(alpha=1e-3, shift=2.0), values)[1]) < 7


def test_an_e_detector_does_not_overflow() -> None:
    state, fired = play(EDetector(), np.full(5000, 1e300))
    assert fired.sum() == 1 and not np.isnan(state.log_m)


# --- shewhart ----------------------------------------------------------------------------


def test_shewhart_is_silent_in_its_burn_in_and_heard_after() -> None:
    values = np.random.default_rng(4).normal(size=100)
    values[[10, 60]] = 50.0
    fired = play(Shewhart(limit=6.0, burn_in=20), values)[1]
    assert np.flatnonzero(fired).tolist() in ([60], [])  # a wild start widens what is usual
    values[10] = 0.0
    assert np.flatnonzero(play(Shewhart(limit=6.0, burn_in=20), values)[1]).tolist() == [60]


def test_shewhart_does_not_learn_from_what_it_reports() -> None:
    values = np.random.default_rng(5).normal(size=120)
    values[60:] += 100
    assert play(Shewhart(), values)[1][60:].all()


# --- jump --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(6).normal(size=(600, 400))


def test_jump_is_silent_on_white_noise(noise: np.ndarray) -> None:
    for scale in (1e-3, 1.0, 1e3):
        jump = Jump(floor=0.0, prior=scale, least=1e-9)
        assert not play(jump, noise * scale)[1].any()


def test_jump_is_silent_on_random_walks(noise: np.ndarray) -> None:
    jump = Jump(floor=0.0, prior=3.0, least=1e-9)
    assert not play(jump, noise.cumsum(0))[1].any()


def test_jump_is_silent_on_a_slow_drift(noise: np.ndarray) -> None:
    drift = np.linspace(0, 100, 600)[:, None] + 0.1 * noise[:, :100]
    assert not play(Jump(floor=0.0), drift)[1].any()


@pytest.mark.parametrize("walk", [False, True])
def test_jump_finds_ten_sigma_within_two_values(noise: np.ndarray, walk: bool) -> None:
    values = noise[:, :100].cumsum(0) if walk else noise[:, :100].copy()
    size = 3.5 if walk else 1.1  # deviation from the median of the last eight
    values[300:] += 14 * size
    fired = play(Jump(floor=0.5, prior=3.0), values)[1]
    assert not fired[:300].any()
    assert fired[300:302].any(0).mean() > 0.95
    assert (fired.sum(0) <= 1).mean() > 0.95


def outcomes(values: Any, detector: Jump) -> list[tuple[int, int, float]]:
    """Time of the alarm, time of the jump, and its size."""
    state = detector.init(())
    found = []
    for time, value in enumerate(values):
        state, out = detector.update(state, np.array(float(value)), time)
        if out.fired:
            found.append((time, int(out.since), float(out.change)))
    return found


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_jump_reports_when_it_happened_and_how_far(sign: int) -> None:
    values = [0.0] * 20 + [5.0 * sign] * 20
    assert outcomes(values, Jump()) == [(21, 20, 5.0 * sign)]


@pytest.mark.parametrize(("noise", "heard"), [(0.05, True), (0.6, False)])
def test_a_level_that_was_noisy_from_the_start_is_known_for_it(noise: float, heard: bool) -> None:
    """Before half of the memory is full: what was seen counts where it is more than the prior."""
    values = np.resize([noise, -noise], 32) + np.where(np.arange(32) >= 24, 3.0, 0.0)
    detector = Jump(limit=6.0, floor=0.5, prior=0.25)
    assert bool(play(detector, values)[1].any()) is heard


def test_a_jump_that_returns_at_once_is_not_confirmed() -> None:
    assert outcomes([0.0] * 20 + [5.0] + [0.0] * 20, Jump()) == []
    assert outcomes([0.0] * 20 + [5.0, -5.0] + [0.0] * 20, Jump()) == []


def test_an_outlier_does_not_deafen() -> None:
    values = [0.0] * 20 + [5.0] + [0.0] * 5 + [5.0] * 5
    assert outcomes(values, Jump()) == [(27, 26, 5.0)]


def test_a_jump_waits_through_a_gap_to_be_confirmed() -> None:
    values = [0.0] * 20 + [5.0] + [np.nan] * 6 + [5.0] * 3
    assert outcomes(values, Jump()) == [(27, 20, 5.0)]


def test_a_confirmed_jump_is_the_new_place() -> None:
    values = [0.0] * 20 + [5.0] * 20 + [0.0] * 20
    assert [time for time, *_ in outcomes(values, Jump())] == [21, 41]


def test_without_patience_a_jump_is_reported_at_once_and_again() -> None:
    """Found deaf after its first alarm: the alarm was taken for one that waits."""
    values = np.zeros(100)
    values[[20, 50, 80]] = 5.0
    up = [(time, since) for time, since, change in outcomes(values, Jump(patience=0)) if change > 0]
    assert up == [(20, 20), (50, 50), (80, 80)]


def test_what_is_under_the_floor_does_not_matter() -> None:
    assert outcomes([0.0] * 100 + [0.4] * 20, Jump(floor=0.5, prior=1e-3)) == []


def test_until_the_memory_is_half_full_the_prior_is_the_scale() -> None:
    jump = Jump(prior=1.0, memory=64, floor=0.0)
    state, fired = play(jump, [0.0] * 20 + [7.0, 7.0] + [0.0] * 9)
    assert float(state.scale) == pytest.approx(1.0) and not fired.any()
    assert play(jump, [0.0] * 20 + [9.0] * 5)[1].any()
    state, _ = play(jump, np.random.default_rng(0).normal(0, 0.1, 200))
    assert 0.08 < float(state.scale) < 0.15


@pytest.mark.parametrize("far", [1.0, 2.0, 3.0])
def test_a_level_that_leaves_its_place_now_and_then_is_known_for_it(far: float) -> None:
    """As the output of a block that stochastic depth skips in one step of nine."""
    random = np.random.default_rng(0)
    values = random.normal(0, 0.05, 400)
    values[8::9] += far
    values[9::18] += far  # and in every other two at once, which would confirm a jump
    assert not play(Jump(), values)[1].any()
    values[300:] += 5 * far
    assert play(Jump(), values)[1][300:304].any()


def test_two_outliers_in_a_memory_leave_the_scale_alone() -> None:
    values = np.random.default_rng(0).normal(0, 0.1, 256)
    plain = float(play(Jump(), values)[0].scale)
    values[[210, 230]] += 5.0
    assert float(play(Jump(), values)[0].scale) == pytest.approx(plain, rel=0.2)


TRADES = Jump(limit=8.0, floor=1.0, prior=0.03, least=0.03, trade=0.4)


@pytest.mark.parametrize(
    ("size", "when"),
    [(0.3, None), (0.5, 22), (1.5, 21), (3.0, 21)],
    ids=["tiny", "small", "usual", "far"],
)
def test_a_smaller_change_counts_where_it_is_more_unusual(size: float, when: int | None) -> None:
    """Half the floor is 16 scales here; it has to last for a value longer."""
    values = [0.0] * 20 + [size] * 20
    found = [(time, since) for time, since, _ in outcomes(values, TRADES)]
    extra = int(1.0 > size) + int(size < 2.0)
    assert found == ([] if when is None else [(21 + extra, 20)])
    assert outcomes(values, replace(TRADES, trade=1.0)) == (
        [] if size < 1 else [(21 + (size < 2.0), 20, size)]
    )


def test_a_smaller_change_that_is_no_more_unusual_does_not_count() -> None:
    values = [0.0] * 20 + [0.5] * 20
    assert outcomes(values, replace(TRADES, prior=0.06, least=0.06)) == []


def test_a_larger_update_explains_a_larger_move() -> None:
    values = np.random.default_rng(7).normal(0, 0.1, 100)
    values[80:] += 2.0
    assert play(Jump(), values)[1].any()
    assert not play(Jump(), values, inflate=5.0)[1].any()


def test_limits_may_differ_from_series_to_series() -> None:
    jump = Jump(floor=np.array([0.5, 50.0]), prior=np.array([0.25, 0.25]))
    values = np.zeros((40, 2))
    values[20:] = 5.0
    assert play(jump, values)[1].any(0).tolist() == [True, False]


@pytest.mark.parametrize("trouble", ["none", "jumps", "gaps", "both"])
@pytest.mark.parametrize("patience", [0, 1])
@pytest.mark.parametrize("trade", [1.0, 0.4])
def test_many_updates_at_once_are_as_one_after_the_other(
    trouble: str, patience: int, trade: float
) -> None:
    jump = Jump(floor=np.array([0.5, 0.8]), patience=patience, memory=16, trade=trade)
    rng = np.random.default_rng(0)
    single = together = jump.init((3, 2))
    for first in range(0, 200, 10):
        values = rng.normal(0, 0.1, (10, 3, 2))
        if trouble in ("jumps", "both") and first % 50 == 0:
            values[4:, first % 3] += 5
        if trouble in ("gaps", "both"):
            values[rng.random(values.shape) < 0.2] = np.nan
        inflate = 1 + rng.random(10)
        single, together = jump.refresh(single), jump.refresh(together)
        together, out = jump.run(together, values, np.arange(first, first + 10), inflate)
        for t, value in enumerate(values):
            single, want = jump.update(single, value, first + t, inflate[t])
            seen = np.isfinite(value)
            np.testing.assert_array_equal(out.fired[t], want.fired)
            np.testing.assert_array_equal(out.since[t][want.fired], want.since[want.fired])
            np.testing.assert_array_equal(out.change[t][seen], want.change[seen])
            np.testing.assert_array_equal(out.score[t][seen], want.score[seen])
        for got, expected in zip(together, single, strict=True):
            np.testing.assert_array_equal(got, expected)
