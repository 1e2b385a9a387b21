"""Histogram on fixed signed logarithmic bins: any two windows can be compared, ever.

The bins never adapt. Each octave ``[2^e, 2^(e+1))`` from ``2^-40`` to ``2^24`` is cut into
four parts of equal width, on both sides of zero; beyond lie one bin for the smaller
and one for the larger values of each sign, and exact zero has a bin of its own. The
edges are those of the eleven leading bits of a float32, so finding a value's bin is one shift.

A value read back from its bin is wrong by at most 1/8 of its size
(:data:`RELATIVE_ERROR`): the middle of ``[1, 1.25)`` is 1.125.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shiftwatch.summaries._scratch import scratch

_PER_OCTAVE = 4
_LOWEST, _HIGHEST = -40, 24  # exponents of two
_SIDE = _PER_OCTAVE * (_HIGHEST - _LOWEST) + 2  # bins of one sign, with both overflows

#: Number of bins: two sides and zero.
BINS = 2 * _SIDE + 1
#: Index of the bin that holds exact zeros.
ZERO_BIN = _SIDE
#: Largest relative error of a value read back from its bin, for sizes in 2^-40 … 2^24.
RELATIVE_ERROR = 1 / 8

# A float32 starts with 1 bit of sign, 8 of exponent (bias 127) and the 2 that quarter its
# octave: these 11 are its code, and codes of one sign ascend with the size.
_CODES = 1 << 11
_SIDE_CODES = _CODES // 2
_FIRST = (127 + _LOWEST) * _PER_OCTAVE  # code of 2^-40
_LAST = (127 + _HIGHEST) * _PER_OCTAVE  # code of 2^24
_INFINITE = 255 * _PER_OCTAVE  # code of Inf; NaN lie above


def _magnitudes() -> np.ndarray:
    """Lower edges of the bins of one sign, from the smallest up: float64[side]."""
    octaves = np.arange(_LOWEST, _HIGHEST)
    inner = (2.0 ** octaves[:, None] * (1 + np.arange(_PER_OCTAVE) / _PER_OCTAVE)).ravel()
    return np.concatenate([[0.0], inner, [2.0**_HIGHEST]])


def _edges() -> np.ndarray:
    """Edges of all bins; the zero bin lies between two equal edges: float64[BINS + 1]."""
    inner = _magnitudes()[1:]
    return np.concatenate([[-np.inf], -inner[::-1], [0.0, 0.0], inner, [np.inf]])


def _centres() -> np.ndarray:
    lower = _magnitudes()
    upper = np.append(lower[1:], 2.0 ** (_HIGHEST + 1))
    middle = (lower + upper) / 2
    return np.concatenate([-middle[::-1], [0.0], middle])


#: Edges of the bins: float64[BINS + 1], from -inf to inf; the zero bin is empty in width.
EDGES = _edges()
#: A value that stands for each bin: float64[BINS].
CENTRES = _centres()


def count_bins(values: np.ndarray, sites: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Histogram of every site in one pass.

    Args:
        values: any shape; NaN and Inf are left out.
        sites: int64, broadcastable to ``values``: which row each value belongs to.
        number: how many rows.

    Returns:
        int64[number, BINS], the counts, where values under 2^-128 count as zeros; and
        int64[number], how many are under float32's smallest normal number, zeros included.

    Cost: one shift, one sum and one count per value.

    Example:
        >>> counts, _ = count_bins(np.array([0.0, 1.0, 1.24, 1.25]), np.array(0), 1)
        >>> np.flatnonzero(counts) - ZERO_BIN, counts[counts > 0]
        (array([  0, 162, 163]), array([1, 2, 1]))
    """
    code, index = scratch(values.shape, np.uint32, np.intp)
    np.right_shift(_float32(values).view(np.uint32), 21, out=code)
    np.add(code, (sites * _CODES).astype(np.uint32), out=code)
    np.copyto(index, code, casting="unsafe")  # unsigned 32 bits, which bincount would copy
    table = np.bincount(index.ravel(), minlength=number * _CODES)
    table = table.reshape(number, 2, _SIDE_CODES)
    counts = np.zeros((number, BINS), np.int64)
    counts[:, ZERO_BIN] = table[:, :, 0].sum(1)
    positive, negative = counts[:, ZERO_BIN + 1 :], counts[:, ZERO_BIN - 1 :: -1]
    for sign, side in enumerate((positive, negative)):
        side[:, 0] = table[:, sign, 1:_FIRST].sum(1)
        side[:, 1:-1] = table[:, sign, _FIRST:_LAST]
        side[:, -1] = table[:, sign, _LAST:_INFINITE].sum(1)
    return counts, table[:, :, :_PER_OCTAVE].sum((1, 2))


def _float32(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.float32:
        return np.ascontiguousarray(values)
    limit = np.finfo(np.float32).max
    return np.where(np.isinf(values), values, np.clip(values, -limit, limit)).astype(np.float32)


@dataclass(frozen=True)
class Histogram:
    """Counts over the fixed bins.

    Args:
        counts: int64[..., BINS], finite values only.

    Laws: merging adds counts, so it is exact, associative and commutative.

    References:
        The error bound follows Masson, Rim & Lee (2019), DDSketch; cutting octaves
        linearly follows HdrHistogram.
    """

    counts: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, ...] = ()) -> Histogram:
        """Histogram of no values, for sites of the given shape."""
        return cls(np.zeros((*shape, BINS), np.int64))

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.counts + other.counts)

    @cached_property
    def total(self) -> np.ndarray:
        """Number of values: int64[...]."""
        return np.asarray(self.counts.sum(-1))

    @cached_property
    def frequencies(self) -> np.ndarray:
        """Share of each bin: float64[..., BINS]; NaN where there is no value."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.counts / self.total[..., None])

    def quantile(self, q: float | np.ndarray) -> np.ndarray:
        """Quantiles, each wrong by at most :data:`RELATIVE_ERROR` of its size.

        Args:
            q: probabilities, each in 0 … 1; shape [k] or scalar.

        Returns:
            float64[..., k] (float64[...] for a scalar ``q``), in the tensor's units;
            NaN where there is no value.

        Example:
            >>> from shiftwatch import summarize
            >>> float(summarize([1.0] * 9 + [64.0]).histogram.quantile(0.5))
            1.125
        """
        levels = np.asarray(q, float)
        if np.any((levels < 0) | (levels > 1)):
            raise ValueError(f"q must lie in 0 … 1; got {q}. Use 0.5 for the median.")
        cumulative = np.cumsum(self.counts, axis=-1)
        rank = levels * (self.total[..., None] - 1)  # [..., k], as the k-th smallest value
        index = (cumulative[..., None, :] <= rank[..., None]).sum(-1)
        values = CENTRES[np.minimum(index, BINS - 1)]
        values = np.where(self.total[..., None] > 0, values, np.nan)
        return values if levels.ndim else values[..., 0]
