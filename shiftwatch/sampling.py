"""Where to look: fixed-size stratified samples of a tensor, whatever its size.

A tensor is ``positions x units``: units lie along one axis (channels, features), positions
along all others (batch, space, time). Every unit is looked at in P positions of its own,
one per stratum of the position axis, in shuffled order: a fixed stride would alias with
the sequence length or the image width, and shared positions would make the units' errors
one error. Only where units lie side by side in memory do :data:`BLOCK` neighbours share their
positions: one cache line then serves all of them. About 2,048 values are taken, so the cost
belongs to the layer and not to its size.

One-step error that may be relied on, 95 % of layers: standard deviation 6 %, mean 0.05
standard deviations, share of zeros 0.02.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod

import numpy as np

#: Values per sample of an activation or a gradient.
SIZE = 2048
#: Units looked at; a wider layer is seen through a fixed random subset of them.
WIDEST = 512
#: Positions looked at in every unit, where there are as many.
LEAST = 4
#: Units that share their positions, where they lie side by side in memory.
BLOCK = 16
#: Ids looked at in every sample of token ids.
IDS = 128
#: Values per sample of a parameter, and how many of them lie side by side.
WEIGHTS, RUN = 256, 16


def geometry(
    shape: Sequence[int], units_axis: int | None, size: int = SIZE, widest: int = WIDEST
) -> tuple[int, int]:
    """Positions per unit and units of a sample.

    Args:
        shape: of the tensor, at least one value.
        units_axis: axis of the units; ``None`` where there is one unit.
        size: values to aim at.
        widest: units at most.

    Returns:
        ``(positions, units)``: units is the tensor's, at most ``widest``; positions is
        ``size // units``, at least :data:`LEAST`, at most what the tensor has.

    Example:
        >>> geometry((256, 512), -1)
        (4, 512)
        >>> geometry((64, 16, 32, 32), 1)
        (128, 16)
        >>> geometry((2, 10), -1)
        (2, 10)
    """
    width = 1 if units_axis is None else shape[units_axis]
    units = min(width, widest)
    return min(max(size // units, LEAST), prod(shape) // width), units


def fractions(positions: int, units: int, rng: np.random.Generator, block: int = 1) -> np.ndarray:
    """Where each unit is looked at, as a fraction of the position axis.

    Args:
        positions, units: of the sample.
        rng: generator to draw from.
        block: neighbouring units that share their positions.

    Returns:
        float64[positions, units] in [0, 1). Each column holds one draw from every stratum
        ``[k, k + 1) / positions``, shuffled. Good for any number of positions in the
        tensor: with fewer than ``positions`` each is used about equally often.

    Example:
        >>> f = fractions(4, 3, np.random.default_rng(0))
        >>> np.sort((f * 4).astype(int), axis=0).T.tolist()
        [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    """
    drawn = (positions, -(-units // block))
    stratum = np.broadcast_to(np.arange(positions)[:, None], drawn)
    place: np.ndarray = (rng.permuted(stratum, axis=0) + rng.random(drawn)) / positions
    return np.repeat(np.minimum(place, np.nextafter(1.0, 0.0)), block, axis=1)[:, :units]


def chosen(width: int, units: int, seed: int = 0) -> np.ndarray:
    """Which of ``width`` units are looked at: int64[units], ascending, the same every time.

    Of a wider layer a random choice of neighbourhoods of :data:`BLOCK` units. Where
    ``width`` is the smaller one, units are repeated.

    Example:
        >>> chosen(3, 3).tolist()
        [0, 1, 2]
        >>> chosen(2, 4).tolist()
        [0, 0, 1, 1]
    """
    if width <= units:
        return np.arange(units) * width // units
    rng = np.random.default_rng([seed, width, units])
    if units % BLOCK:
        return np.sort(rng.choice(width, units, replace=False))
    first = np.sort(rng.choice(width // BLOCK, units // BLOCK, replace=False)) * BLOCK
    near: np.ndarray = first[:, None] + width % BLOCK // 2 + np.arange(BLOCK)
    return near.reshape(-1)


def early(width: int, units: int) -> np.ndarray:
    """Which ids of a sequence of ``width`` are looked at: int64[units], ascending, the same every time.

    Blocks of :data:`BLOCK` neighbours from the first ids to the last, denser towards the start:
    there padded sequences hold what tells them apart. Where ``width`` is the smaller one, the
    sequence is repeated; where there are few units, they are the first.

    Example:
        >>> early(1024, 128)[::BLOCK].tolist()
        [0, 32, 96, 208, 352, 528, 752, 1008]
        >>> early(3, 4).tolist()
        [0, 1, 2, 0]
    """
    if width <= units or units % BLOCK:
        return np.arange(units) % width
    blocks = units // BLOCK
    last = (width - units) // BLOCK
    spread = np.arange(blocks) / max(blocks - 1, 1)
    first = (np.arange(blocks) + np.floor(last * spread**2).astype(np.int64)) * BLOCK
    return (first[:, None] + np.arange(BLOCK)).reshape(-1)


def offsets(
    fraction: np.ndarray,
    shape: Sequence[int],
    strides: Sequence[int],
    units_axis: int | None,
    units: np.ndarray,
) -> np.ndarray:
    """Where the sampled values lie in memory, in elements from the tensor's first one.

    Args:
        fraction: float64[positions, units], from :func:`fractions`.
        shape, strides: of the tensor; strides in elements, zero for expanded axes.
        units_axis: axis of the units; ``None`` where there is one unit.
        units: int64[units], from :func:`chosen`.

    Returns:
        int64[positions, units].

    Example:
        >>> f = np.array([[0.0, 0.5], [0.5, 0.0]])
        >>> offsets(f, (4, 2), (2, 1), -1, np.array([0, 1])).tolist()
        [[0, 5], [4, 1]]
    """
    axes = list(range(len(shape)))
    index = np.zeros(fraction.shape, np.int64)
    if units_axis is not None:
        axis = axes.pop(units_axis)
        index += units * strides[axis]
    position = (fraction * prod(shape[a] for a in axes)).astype(np.int64)
    for axis in reversed(axes[1:]):
        position, place = np.divmod(position, shape[axis])
        index += place * strides[axis]
    if axes:
        index += position * strides[axes[0]]
    return index


def sample(
    array: np.ndarray, units_axis: int | None, fraction: np.ndarray, units: np.ndarray | None = None
) -> np.ndarray:
    """The sampled values of an array: [positions, units], in the array's type.

    Args:
        array: any shape with at least one value, any strides.
        units_axis: axis of the units; ``None`` where there is one unit.
        fraction: float64[positions, units], from :func:`fractions`.
        units: which units; by default :func:`chosen` decides.

    Cost: one gather; a copy of the array only where it is not contiguous.

    Example:
        >>> x = np.arange(8.0).reshape(4, 2)
        >>> sample(x, -1, np.array([[0.0, 0.5], [0.5, 0.0]])).tolist()
        [[0.0, 5.0], [4.0, 1.0]]
    """
    if units is None:
        width = 1 if units_axis is None else array.shape[units_axis]
        units = chosen(width, fraction.shape[1])
    flat = np.ascontiguousarray(array)
    steps = [s // flat.itemsize for s in flat.strides]
    taken: np.ndarray = flat.reshape(-1)[offsets(fraction, flat.shape, steps, units_axis, units)]
    return taken


def lattice(shape: Sequence[int], size: int = WEIGHTS) -> tuple[int, int, int]:
    """How to walk through a parameter in memory order: ``(places, stride, run)``.

    At each place :data:`RUN` values side by side are read; a parameter of at most ``size``
    values is read whole. The stride has no common factor with the row length, so that the
    walk never returns to a column before it saw them all, and its remainder lies near the
    golden section of a row, so that neighbours on the walk are far apart.

    Example:
        >>> lattice((512, 512))
        (16, 17213, 16)
        >>> lattice((10,))
        (1, 10, 10)
    """
    total = prod(shape)
    if total <= size:
        return 1, total, total
    places = size // RUN
    longest, row = (total - RUN) // (places - 1), prod(shape[1:])
    if row == 1:
        return places, longest, RUN
    strides = range(longest, max(longest * 3 // 4, longest - 512, 0), -1)
    golden = 0.381966

    def poor(stride: int) -> tuple[bool, float]:
        part = stride / row % 1.0
        return gcd(stride, row) > 1, abs(min(part, 1 - part) - golden)

    return places, min(strides, key=poor), RUN
