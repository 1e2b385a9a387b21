"""References: what counts as normal, window by window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import shiftwatch
from shiftwatch import Layer, Monitor, Site
from shiftwatch.history import History
from shiftwatch.references import Decayed, First, Previous, Reference, SavedRun, chosen
from shiftwatch.sites import Sites
from shiftwatch.summaries import Block, Summary, measure

NAMES = ("a", "b")


@pytest.fixture
def sites() -> Sites:
    table = Sites()
    for name in NAMES:
        table.add(Site(name), Layer(name))
    return table


def window(*means: float, number: int = 200) -> Summary:
    """A window of one site per mean, normal around it; NaN for a site that was not seen."""
    random = np.random.default_rng(0)
    values = np.array([m + random.normal(size=(number, 1)) for m in means])[None]
    return measure(Block(values, ~np.isnan([means])))[0][:]


def follow(reference: Reference, sites: Sites, *windows: Summary) -> tuple[Summary, Summary]:
    """What the last window is compared with, and what is remembered after it."""
    kept = Summary.empty((len(sites),))
    for now in windows:
        against = reference.of(kept, now, sites, 0)
        kept = reference.keep(kept, now)
    return against, kept


def same(a: Summary, b: Summary) -> bool:
    return (
        np.array_equal(a.mean, b.mean, equal_nan=True)
        and np.array_equal(a.std, b.std, equal_nan=True)
        and np.array_equal(a.count, b.count)
        and np.array_equal(a.histogram.counts, b.histogram.counts)
        and np.array_equal(a.tallies.zero, b.tallies.zero)
    )


@pytest.mark.parametrize("reference", [First(), Previous(), Decayed()])
def test_a_first_window_is_compared_with_itself(reference: Reference, sites: Sites) -> None:
    assert same(follow(reference, sites, window(1, 2))[0], window(1, 2))


def test_first_stays(sites: Sites) -> None:
    assert same(follow(First(), sites, window(1, 2), window(3, 4), window(5, 6))[0], window(1, 2))


def test_previous_moves_on(sites: Sites) -> None:
    against = follow(Previous(), sites, window(1, 2), window(3, 4), window(5, 6))[0]
    assert same(against, window(3, 4))


def test_a_site_that_comes_late_has_a_first_window_of_its_own(sites: Sites) -> None:
    nan = float("nan")
    against = follow(First(), sites, window(1, nan), window(3, 4), window(5, 6))[0]
    assert against.mean == pytest.approx([1, 4], abs=0.2)


@pytest.mark.parametrize("reference", [Previous(), Decayed()])
def test_a_site_that_was_not_seen_keeps_what_it_had(reference: Reference, sites: Sites) -> None:
    against = follow(reference, sites, window(1, 2), window(1, float("nan")), window(1, 9))[0]
    assert against.mean[1] == pytest.approx(2, abs=0.2)


def test_decayed_weighs_the_older_window_less(sites: Sites) -> None:
    against = follow(Decayed(0.5), sites, window(0, 0), window(3, 9), window(0, 0))[0]
    assert against.mean == pytest.approx([2, 6], abs=0.2)
    against = follow(Decayed(0.9), sites, window(0, 0), window(1.9, 1.9), window(0, 0))[0]
    assert against.mean == pytest.approx([1, 1], abs=0.2)


def test_decayed_counts_about_as_many_windows_as_its_rate_says(sites: Sites) -> None:
    against = follow(Decayed(0.9), sites, *[window(0, 0)] * 100)[0]
    assert against.count == pytest.approx([2000, 2000], rel=0.01)
    assert against.histogram.counts.sum(-1) == pytest.approx(against.count, rel=0.01)
    assert against.std == pytest.approx(window(0, 0).std, rel=1e-3)


def test_decayed_forgets_bins_of_few_values(sites: Sites) -> None:
    """Found remembered for ever: 4 times 0.9 was rounded to 4."""
    old, new = window(-50, -50, number=20), window(50, 50, number=20)
    against = follow(Decayed(0.9), sites, old, *[new] * 80)[0]
    negative = against.histogram.counts[:, : against.histogram.counts.shape[1] // 2]
    assert negative.sum() == 0 and against.count.min() > 150


def test_decayed_alone_is_the_window_itself(sites: Sites) -> None:
    assert same(follow(Decayed(), sites, window(1, 2), window(5, 5))[0], window(1, 2))


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_a_rate_lies_between_zero_and_one(rate: float) -> None:
    with pytest.raises(ValueError, match=r"rate.*Try 0\.9"):
        Decayed(rate)


def test_chosen_takes_site_by_site() -> None:
    mixed = chosen(np.array([True, False]), window(1, 2), window(3, 4))
    assert mixed.mean == pytest.approx([1, 4], abs=0.2) and mixed.units is None


# --- through the monitor -----------------------------------------------------------------


def record(
    run: Path | bool, reference: object = "first", means: tuple[float, ...] = (0, 0, 3, 3)
) -> Monitor:
    """Windows of eight steps around the given means."""
    random = np.random.default_rng(3)
    with Monitor(run=run, reference=reference, rules=(), strict=True) as monitor:
        for mean in means:
            for _ in range(8):
                monitor.observe("a", random.normal(mean, 1, (32, 8)))
                monitor.step()
    return monitor


def shifts(monitor: Monitor) -> list[float]:
    return monitor.history.metric("mean_shift")[:, 0].tolist()


def test_the_reference_decides_what_a_shift_is(tmp_path: Path) -> None:
    assert shifts(record(False)) == pytest.approx([0, 0, 3, 3], abs=0.2)
    assert shifts(record(False, "previous")) == pytest.approx([0, 0, 3, 0], abs=0.2)
    decayed = shifts(record(False, "decayed"))
    assert decayed[2] == pytest.approx(3, abs=0.2) and 0.5 < decayed[3] < 2.0
    assert shifts(record(False, Previous())) == shifts(record(False, "previous"))


def test_a_good_run_is_compared_step_by_step(tmp_path: Path) -> None:
    record(tmp_path / "good")
    for path in (tmp_path / "good", str(tmp_path / "good")):
        assert shifts(record(False, path)) == pytest.approx([0, 0, 0, 0], abs=0.2)
    assert shifts(record(False, tmp_path / "good", (0, 0, 0, 0))) == pytest.approx(
        [0, 0, -3, -3], abs=0.2
    )


def test_a_run_longer_than_the_good_one_is_compared_with_its_end(tmp_path: Path) -> None:
    record(tmp_path / "good", means=(0, 3))
    assert shifts(record(False, tmp_path / "good", (0, 3, 3, 3))) == pytest.approx([0] * 4, abs=0.2)


def test_a_layer_that_the_good_run_lacks_has_no_shift(tmp_path: Path) -> None:
    record(tmp_path / "good")
    random = np.random.default_rng(3)
    with Monitor(run=False, reference=tmp_path / "good", strict=True) as monitor:
        for _ in range(32):
            monitor.observe("new", random.normal(size=(32, 8)))
            monitor.observe("a", random.normal(size=(32, 8)))
            monitor.step()
    table = monitor.history.metric("mean_shift")
    assert np.isnan(table[:, 0]).all() and np.isfinite(table[:, 1]).all()
    assert monitor.alerts == []


def test_a_good_run_must_hold_a_window(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no window"):
        SavedRun(History().view())
    Monitor(run=tmp_path / "empty").close()
    with pytest.raises(ValueError, match="holds no window"):
        Monitor(run=False, reference=tmp_path / "empty")


def test_a_reference_that_is_none_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'first', 'previous', 'decayed' or the path"):
        Monitor(run=False, reference="best")
    with pytest.raises(TypeError, match="name or a path"):
        Monitor(run=False, reference=3)  # type: ignore[arg-type]


def test_a_good_run_is_not_held_open(tmp_path: Path) -> None:
    """It may be the run that is written next."""
    record(tmp_path / "run")
    record(tmp_path / "run", tmp_path / "run")
    assert shiftwatch.open(tmp_path / "run").attempts == ["attempt-001", "attempt-002"]
