"""Threshold with hysteresis: on above one level for some values, off below a lower one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class ThresholdState(NamedTuple):
    """Attributes: run: int64[...], values in a row above the limit; on: bool[...]."""

    run: np.ndarray
    on: np.ndarray


@dataclass(frozen=True)
class Threshold:
    """Fires once when the value has stayed at or above ``limit`` for ``patience`` values.

    Args:
        limit: in the value's units.
        release: the condition ends under this level; by default ``limit``.
        patience: how many values in a row.

    Laws: silent on a constant under the limit; fires at the ``patience``-th value above.

    Example:
        >>> detector = Threshold(limit=0.5, release=0.4, patience=2)
        >>> state = detector.init(())
        >>> for value in (0.6, 0.7, 0.45, 0.3):
        ...     state, fired = detector.update(state, np.array(value))
        ...     print(bool(fired), bool(state.on))
        False False
        True True
        False True
        False False
    """

    limit: float
    release: float | None = None
    patience: int = 1

    def init(self, shape: tuple[int, ...]) -> ThresholdState:
        """State before the first value."""
        return ThresholdState(np.zeros(shape, np.int64), np.zeros(shape, bool))

    def update(
        self, state: ThresholdState, value: np.ndarray, weight: int = 1
    ) -> tuple[ThresholdState, np.ndarray]:
        """Next state, and bool[...] where the condition begins with this value.

        Args:
            weight: how many values this one stands for.
        """
        release = self.limit if self.release is None else self.release
        seen = ~np.isnan(value)
        above = seen & (value >= self.limit)
        run = np.where(above, state.run + weight, np.where(seen, 0, state.run))
        fired = above & (run >= self.patience) & ~state.on
        on = (state.on | fired) & ~(seen & (value < release))
        return ThresholdState(run, on), fired
