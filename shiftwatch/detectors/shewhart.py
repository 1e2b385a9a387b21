"""Shewhart chart: one value far from its usual place. Best against one large jump."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class ShewhartState(NamedTuple):
    """Attributes: n: int64[...]; mean, square: float64[...], exponentially weighted."""

    n: np.ndarray
    mean: np.ndarray
    square: np.ndarray


@dataclass(frozen=True)
class Shewhart:
    """Fires where a value is more than ``limit`` standard deviations from its past mean.

    Args:
        limit: in standard deviations of the past values.
        weight: of the newest value in the exponentially weighted mean and variance.
        burn_in: values before the first alarm.

    For i.i.d. Gaussian values a limit of 3 gives one false alarm in 370. Autocorrelated
    values need whitening first; see :class:`shiftwatch.detectors.Jump`.

    Example:
        >>> detector = Shewhart(limit=5.0)
        >>> state = detector.init(())
        >>> for value in [0.0, 1.0] * 20 + [9.0]:
        ...     state, fired = detector.update(state, np.array(value))
        >>> bool(fired)
        True

    References:
        Shewhart (1931), Economic Control of Quality of Manufactured Product.
    """

    limit: float = 5.0
    weight: float = 0.05
    burn_in: int = 20

    def init(self, shape: tuple[int, ...]) -> ShewhartState:
        """State before the first value."""
        return ShewhartState(np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape))

    def update(self, state: ShewhartState, value: np.ndarray) -> tuple[ShewhartState, np.ndarray]:
        """Next state, and bool[...] where the value is out of line."""
        seen = np.isfinite(value)
        scale = np.sqrt(state.square)
        off = np.abs(np.where(seen, value, 0.0) - state.mean)
        fired = seen & (state.n >= self.burn_in) & (off > self.limit * scale) & (off > 0)
        weight = np.maximum(self.weight, 1 / (state.n + 1))
        step = weight * (np.where(seen, value, 0.0) - state.mean)
        square = (1 - weight) * (state.square + weight * off**2)
        learn = seen & ~fired
        return ShewhartState(
            state.n + seen,
            np.where(learn, state.mean + step, state.mean),
            np.where(learn, square, state.square),
        ), fired
