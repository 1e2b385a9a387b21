"""Samples: fixed in size, fair to every unit, right in memory."""

from __future__ import annotations

from math import gcd, prod

import numpy as np
import pytest

from shiftwatch.sampling import LEAST, SIZE, chosen, fractions, geometry, lattice, offsets, sample

SHAPES = [((256, 512), -1), ((64, 16, 8, 8), 1), ((3, 5), -1), ((2, 7, 1000), -1), ((9,), None)]


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_a_sample_holds_about_two_thousand_values_of_real_elements(
    shape: tuple[int, ...], axis: int | None
) -> None:
    """Every value of a sample is a value of the array, from the column's own unit."""
    x = np.arange(prod(shape)).reshape(shape)
    p, u = geometry(shape, axis)
    assert p * u <= max(SIZE, LEAST * u) and p * u >= min(x.size, SIZE // 2)
    taken = sample(x, axis, fractions(p, u, np.random.default_rng(0)))
    assert taken.shape == (p, u)
    units = chosen(1 if axis is None else shape[axis], u)
    place = np.unravel_index(taken, shape)
    if axis is not None:
        assert (place[axis] == units).all()


def test_every_position_is_used_equally_often_where_there_are_few() -> None:
    """Four positions asked for sixteen times give four of each; nothing lies outside."""
    x = np.arange(4.0)[:, None] * np.ones((4, 3))
    taken = sample(x, -1, fractions(16, 3, np.random.default_rng(1)))
    for column in taken.T:
        assert np.bincount(column.astype(int), minlength=4).tolist() == [4, 4, 4, 4]


def test_units_draw_their_own_positions_one_per_stratum() -> None:
    """Columns differ, and each holds exactly one draw of every stratum."""
    f = fractions(32, 64, np.random.default_rng(2))
    assert (np.sort((f * 32).astype(int), axis=0) == np.arange(32)[:, None]).all()
    assert len({tuple((c * 32).astype(int)) for c in f.T}) == 64


def test_offsets_follow_any_strides() -> None:
    """Transposed, sliced and expanded arrays are read where their values really lie."""
    rng = np.random.default_rng(3)
    base = rng.normal(size=(6, 8, 10))
    f = fractions(12, 5, rng)
    for view in (
        base.transpose(2, 0, 1),
        base[::2, 1:, ::3],
        np.broadcast_to(base[:, :1], base.shape),
    ):
        units = chosen(view.shape[1], 5)
        steps = [s // 8 for s in view.strides]
        where = offsets(f, view.shape, steps, 1, units)
        start = (view.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // 8
        assert np.array_equal(base.reshape(-1)[start + where], sample(view, 1, f, units))


def test_the_walk_through_a_matrix_visits_every_column_evenly() -> None:
    """No column of a 512 x 512 matrix is seen twice, no quarter of the rows is left out."""
    for shape in ((512, 512), (1000, 384), (64, 64, 3, 3), (50257, 768)):
        places, stride, run = lattice(shape)
        row = prod(shape[1:])
        at = np.arange(places) * stride
        assert at[-1] + run <= prod(shape) and gcd(stride, row) == 1
        assert places * run == 256 and np.unique(at % row).size == min(places, row)
        assert at[-1] > 0.7 * prod(shape)


@pytest.mark.parametrize("seed", range(3))
def test_sampled_statistics_are_near_the_whole_arrays(seed: int) -> None:
    """Mean and standard deviation of correlated images: within .05 sd and 6 % for most layers."""
    rng = np.random.default_rng(seed)
    means, stds = [], []
    for _ in range(40):
        x = rng.normal(size=(64, 16, 1, 1)) + 0.5 * rng.normal(size=(64, 16, 8, 8))
        rows = [sample(x, 1, fractions(*geometry(x.shape, 1), rng)) for _ in range(8)]
        taken = np.concatenate(rows)
        means.append(abs(taken.mean() - x.mean()) / x.std())
        stds.append(abs(taken.std() / x.std() - 1))
    assert np.quantile(means, 0.95) < 0.05
    assert np.quantile(stds, 0.95) < 0.06
