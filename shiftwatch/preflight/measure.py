"""Measure: numbers of whole arrays, for the evidence."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from shiftwatch.activations import flat_of

#: Values looked at in one piece, in float64 within a processor's cache.
PIECE = 1 << 17


@dataclass(frozen=True, eq=False)
class Values:
    """Counts and sums of whole tensors; those of a layer's calls and batches add up.

    Args:
        count: finite values.
        nan, posinf, neginf: the others.
        flat: values in the flat part of the activation; 0 without one.
        total, square: sum and sum of squares of the finite values.
        low, high: their range.
        unit_count: int64[units], finite values of each unit.
        unit_square: float64[units], sums of squares.
        active: int64[units], values that are not flat; without an activation, not zero.
    """

    count: int
    nan: int
    posinf: int
    neginf: int
    flat: int
    total: float
    square: float
    low: float
    high: float
    unit_count: np.ndarray
    unit_square: np.ndarray
    active: np.ndarray

    def __add__(self, other: Values) -> Values:
        if self.active.size != other.active.size:  # a layer of changing width: it has no units
            return _pooled(self) + _pooled(other)
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        sums["low"], sums["high"] = min(self.low, other.low), max(self.high, other.high)
        return Values(**sums)

    @property
    def size(self) -> int:
        """Number of all values."""
        return self.count + self.nan + self.posinf + self.neginf

    @property
    def width(self) -> int:
        """Number of units."""
        return self.active.size

    @property
    def mean(self) -> float:
        """Mean of the finite values; NaN where there is none."""
        return self.total / self.count if self.count else float("nan")

    @property
    def rms(self) -> float:
        """Their root mean square; NaN where there is none."""
        return float((self.square / self.count) ** 0.5) if self.count else float("nan")

    @property
    def std(self) -> float:
        """Their standard deviation; NaN where there is none."""
        return float(max(self.rms**2 - self.mean**2, 0.0) ** 0.5)

    @property
    def broken(self) -> bool:
        """Whether there is NaN or Inf. -Inf alone is what masks are made of."""
        return self.nan > 0 or self.posinf > 0


def measure(values: np.ndarray, units_axis: int | None, activation: str = "") -> Values:
    """Count and sum every value of an array.

    Args:
        values: real numbers.
        units_axis: axis of the units, not negative; ``None`` where all are one unit.
        activation: a key of ``shiftwatch.activations.FLAT``, or ``""``.

    Cost: some ten passes in the processor's cache, about 4 ns per value.

    Example:
        >>> seen = measure(np.array([[0.0, 2.0], [0.0, 4.0]]), 1, "relu")
        >>> seen.mean, seen.flat, seen.active.tolist(), (seen + seen).count
        (1.5, 2, [0, 2], 8)
    """
    units = 1 if units_axis is None else values.shape[units_axis]
    table = values.reshape(-1, 1, 1) if units_axis is None else _table(values, units_axis)
    flat = flat_of(activation)
    empty = np.zeros(units)
    total = Values(
        0, 0, 0, 0, 0, 0.0, 0.0, np.inf, -np.inf, empty.astype(int), empty, empty.astype(int)
    )
    rows = max(1, PIECE // max(units * table.shape[2], 1))
    for start in range(0, table.shape[0], rows):
        x = table[start : start + rows].astype(np.float64)
        nan = posinf = neginf = 0
        unit_count = np.full(units, x.size // max(units, 1))
        fine: np.ndarray | None = None
        if not np.isfinite(x.sum()):
            fine = np.isfinite(x)
            nan, posinf, neginf = (int(f(x).sum()) for f in (np.isnan, np.isposinf, np.isneginf))
            unit_count = fine.sum((0, 2))
            x = np.where(fine, x, 0.0)
        works = (x > flat.low) & (x < flat.high) if activation else x != 0
        if activation and np.isfinite(flat.floor):
            works |= x < flat.floor
        if fine is not None:
            works &= fine
        active = np.count_nonzero(works, axis=(0, 2))
        count = x.size - nan - posinf - neginf
        unit_square = np.einsum("aub,aub->u", x, x)
        total += Values(
            count, nan, posinf, neginf, count - int(active.sum()) if activation else 0,
            float(x.sum()), float(unit_square.sum()), float(x.min(initial=np.inf)),
            float(x.max(initial=-np.inf)), unit_count, unit_square, active,
        )  # fmt: skip
    return total


def _table(values: np.ndarray, axis: int) -> np.ndarray:
    """The same values as [before, units, after]."""
    before = int(np.prod(values.shape[:axis]))
    return values.reshape(before, values.shape[axis], -1)


def _pooled(values: Values) -> Values:
    """The same as of one unit."""
    return replace(
        values,
        unit_count=values.unit_count.sum(keepdims=True),
        unit_square=values.unit_square.sum(keepdims=True),
        active=values.active.sum(keepdims=True),
    )


def spread(values: np.ndarray) -> float:
    """How much samples differ: root mean over positions of the variance between samples.

    Args:
        values: [samples, …]; values that are not finite make it NaN.

    Returns:
        0 where all samples are alike; NaN with fewer than two.

    Example:
        >>> spread(np.array([[0.0, 5.0], [2.0, 5.0]])) == 0.5**0.5
        True
    """
    if values.ndim < 1 or values.shape[0] < 2 or not values.size:
        return float("nan")
    table = values.reshape(values.shape[0], -1)
    columns = max(1, PIECE // table.shape[0])
    total = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for i in range(0, table.shape[1], columns):
            total += float(table[:, i : i + columns].astype(np.float64).var(0).sum())
    return float((total / table.shape[1]) ** 0.5)


def distinct(table: np.ndarray) -> int:
    """How many rows differ from each other by more than rounding.

    Rows are told apart by their projections on one fixed random direction, to one part in
    100,000 of the largest.

    Args:
        table: float[rows, columns].

    Example:
        >>> distinct(np.zeros((4, 3))), distinct(np.eye(4)), distinct(np.ones((0, 3)))
        (1, 4, 0)
    """
    if not table.size:
        return 0
    direction = np.random.default_rng(0).normal(size=table.shape[1])
    rows = max(1, PIECE // table.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        parts = (table[i : i + rows] for i in range(0, table.shape[0], rows))
        places = np.sort(np.concatenate([p.astype(np.float64) @ direction for p in parts]))
        size = float(np.abs(places).max())
        return 1 + int(np.count_nonzero(np.diff(places) > 1e-5 * size))


def uniform_excess(logits: np.ndarray, axis: int) -> float:
    r"""Nats that the spread of logits costs over a uniform guess, on average over all classes.

    $$\operatorname{E}\bigl[\log \sum_c e^{z_c} - \bar z\bigr] - \log C \ge 0$$

    Known without any target: the cross-entropy of targets that the logits know nothing of.

    Args:
        logits: real numbers.
        axis: of the classes.

    Example:
        >>> float(uniform_excess(np.zeros((8, 10)), 1))
        0.0
        >>> round(uniform_excess(np.array([[0.0, 10.0]]), 1), 2)
        4.31
    """
    z = logits.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        top = z.max(axis, keepdims=True)
        total = np.log(np.exp(z - top).sum(axis)) + top.squeeze(axis)
        return float(np.mean(total - z.mean(axis)) - np.log(z.shape[axis]))


def binary_excess(logits: Any) -> float:
    """The same for a single logit per answer: mean of log(1 + e^z) - z/2 - log 2, at least 0.

    Example:
        >>> float(binary_excess(np.zeros(4)))
        0.0
    """
    z = np.asarray(logits, float)
    return float(np.mean(np.logaddexp(0.0, z) - z / 2) - np.log(2))
