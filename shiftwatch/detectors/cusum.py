"""CUSUM: many small excesses add up. Best against a small change that stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class CusumState(NamedTuple):
    """Attributes: s: float64[...], the sum; length: int64[...], values since it left zero; on."""

    s: np.ndarray
    length: np.ndarray
    on: np.ndarray


@dataclass(frozen=True)
class Cusum:
    r"""One-sided cumulative sum $S_t = \max(0, S_{t-1} + x_t - k)$, alarm at $S_t > h$.

    Args:
        k: allowance, in the value's units: half the change that matters.
        h: decision limit, in the value's units.

    For standard normal values the mean run to a false alarm is about
    $(e^{2kb} - 2kb - 1) / 2k^2$ with $b = h + 1.166$: 938 for k = 0.5, h = 5.
    The sum is capped at 2h so that the end of a condition is seen.

    Example:
        >>> detector = Cusum(k=0.5, h=4.0)
        >>> state = detector.init(())
        >>> for value in (1.5, 1.5, 1.5, 1.5, 1.5):
        ...     state, fired = detector.update(state, np.array(value))
        >>> float(state.s), bool(fired)
        (5.0, True)

    References:
        Page (1954), Biometrika 41, 100-115; Siegmund (1985), Sequential Analysis.
    """

    k: float = 0.5
    h: float = 5.0

    def init(self, shape: tuple[int, ...]) -> CusumState:
        """State before the first value."""
        return CusumState(np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape, bool))

    def update(self, state: CusumState, value: np.ndarray) -> tuple[CusumState, np.ndarray]:
        """Next state, and bool[...] where the sum crosses the limit with this value."""
        seen = np.isfinite(value)
        s = np.where(seen, np.maximum(0, state.s + np.where(seen, value, 0.0) - self.k), state.s)
        s = np.minimum(s, 2 * self.h)
        length = np.where(s > 0, state.length + seen, 0)
        above = s > self.h
        return CusumState(s, length, above), above & ~state.on
