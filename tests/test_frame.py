"""Frame: a batch of many geometries measured together, as each block alone would be."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from shiftwatch.activations import FLAT, Flat
from shiftwatch.frame import Wanted, frame
from shiftwatch.source import Batch, Group
from shiftwatch.summaries import Block, measure
from tests import counted

STEPS = np.arange(40, 48)


def group(
    sites: list[int], shape: tuple[int, int, int], flat: Flat | None = None, **options: Any
) -> Group:
    """Random samples [rows, positions, units] of some sites, each of its own size and place."""
    rows, positions, units = shape
    rng = np.random.default_rng(sites)
    values = rng.normal(size=(rows, len(sites), positions, units)).astype(np.float32)
    values *= np.float32(10.0) ** -np.arange(0, 4 * len(sites), 4).reshape(-1, 1, 1)
    if flat is not None:
        values = np.maximum(values, 0)
    steps = np.repeat(STEPS[:rows, None], len(sites), axis=1)
    return Group(np.array(sites), options.get("values", values), steps, flat)


def batch(*groups: Group) -> Batch:
    nothing = np.full(STEPS.size, np.nan)
    yes, none = np.ones(STEPS.size, bool), np.zeros(STEPS.size, np.int64)
    return Batch(groups, STEPS, nothing, yes, np.zeros((STEPS.size, 0)), none)


def network() -> list[Group]:
    """Groups that share lengths and groups that do not; one of every kind of trouble."""
    groups = [
        group([3, 0], (8, 4, 16)),
        group([1], (8, 8, 8), FLAT["relu"]),
        group([6, 2, 5], (8, 3, 10), FLAT["gelu"]),
        group([4], (2, 16, 4)),
        group([7, 8], (3, 2, 32)),
    ]
    groups[0].values[2, 1, 0, 0] = np.nan
    groups[2].values[5, 0, 1, :3] = np.inf, -np.inf, np.nan
    groups[4].steps[1, 0] = -1
    groups[3].values[...] = 1e25
    return groups


def assert_close(a: Any, b: Any, rtol: float = 1e-4) -> None:
    for f in fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if x.dtype.kind == "f":
            np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6 * np.abs(y).max(), err_msg=f.name)
        else:
            np.testing.assert_array_equal(x, y, err_msg=f.name)


def test_groups_measured_together_are_as_each_alone() -> None:
    groups = network()
    course, summary, activity, _ = frame(batch(*groups), 10)
    for g in groups:
        alone, rows = measure(Block(g.values, g.steps >= 0, g.flat))
        mine = summary[g.sites]
        for name in ("tallies", "histogram", "moments"):
            assert_close(getattr(mine, name), getattr(alone, name))
        np.testing.assert_array_equal(mine.bounded, alone.bounded)
        for name in ("mean", "std", "spread", "count", "nonfinite"):
            got = getattr(course, name)[: len(g.values), g.sites]
            want = getattr(rows, name)
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-7, err_msg=name)
        assert alone.units is not None
        ends = np.cumsum(activity.widths)
        for place, site in enumerate(g.sites):
            at = int(np.flatnonzero(activity.sites == site)[0])
            part = slice(ends[at] - activity.widths[at], ends[at])
            unit = slice(alone.units.starts[place], alone.units.starts[place + 1])
            for name in ("count", "active", "silent"):
                np.testing.assert_array_equal(
                    getattr(activity, "n" if name == "count" else name)[part],
                    getattr(alone.units, name)[unit],
                )


def test_a_column_that_no_group_has_is_empty() -> None:
    course, summary, *_ = frame(batch(*network()), 10)
    assert summary.count[9] == 0 and np.isnan(summary.mean[9]) and np.isnan(course.std[:, 9]).all()


def test_nothing_recorded_is_nothing_measured() -> None:
    course, summary, activity, _ = frame(batch(), 3)
    assert summary.shape == (3,) and not summary.count.any() and not activity.sites.size
    assert not course.count.any() and np.isnan(course.mean).all()


def slow(sites: int) -> Wanted:
    return Wanted(np.ones(sites, bool), np.zeros(sites, bool), np.zeros(sites, bool))


def test_of_slow_sites_the_newest_row_is_the_window_and_every_row_has_its_size() -> None:
    g = group([0, 1], (8, 4, 16))
    course, summary, *_ = frame(batch(g), 2, wanted=slow(2))
    whole, *_ = frame(batch(g), 2)
    newest, _ = measure(Block(g.values[-1:], np.ones((1, 2), bool)))
    for name in ("tallies", "histogram", "moments"):
        assert_close(getattr(summary, name), getattr(newest, name))
    for name in ("mean", "std"):
        np.testing.assert_allclose(
            getattr(course, name), getattr(whole, name), rtol=1e-4, atol=1e-9
        )


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e25])
def test_slow_sites_of_any_size_are_measured_right(scale: float) -> None:
    """Squares leave the range of float32; an update that is tiny must not read as none."""
    g = group([0], (8, 4, 16))
    g = group([0], (8, 4, 16), values=g.values * np.float32(scale))
    course, *_ = frame(batch(g), 1, wanted=slow(1))
    want = np.sqrt((g.values.astype(np.float64) ** 2).mean((2, 3)))
    np.testing.assert_allclose(course.rms, want, rtol=1e-4)


def test_a_value_that_is_not_finite_in_any_row_of_a_slow_site_is_counted() -> None:
    g = group([0, 1], (8, 4, 16))
    g.values[2, 1, 0, 0] = np.nan
    course, summary, *_ = frame(batch(g), 2, wanted=slow(2))
    assert course.nonfinite[:, 1].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert summary.tallies.nan.tolist() == [0, 1]


def calls(sites: int) -> int:
    """Calls that one frame makes."""
    values = np.random.default_rng(0).normal(size=(8, sites, 2, 4)).astype(np.float32)
    recorded = batch(
        group(list(range(sites)), (8, 2, 4), FLAT["relu"], values=np.maximum(values, 0)),
        group(list(range(sites, 2 * sites)), (8, 2, 4), values=values),
    )
    wanted = Wanted.everything(2 * sites)
    wanted.slow[sites:] = True
    frame(recorded, 2 * sites, wanted=wanted)  # scratch memory
    return counted.calls(lambda: frame(recorded, 2 * sites, wanted=wanted))


def test_the_number_of_calls_does_not_depend_on_the_number_of_sites() -> None:
    assert calls(8) == calls(200)
