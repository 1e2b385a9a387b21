"""E-detector: a change detector whose false-alarm bound needs no model of the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class EDetectorState(NamedTuple):
    """Attributes: log_m: float64[...], logarithm of the detector's value; on: bool[...]."""

    log_m: np.ndarray
    on: np.ndarray


@dataclass(frozen=True)
class EDetector:
    r"""Shiryaev-Roberts e-detector for a mean above zero of values with sd at most one.

    $M_t = (1 + M_{t-1})\, e_t$ with $e_t = \exp(\lambda x_t - \lambda^2 / 2)$; alarm at $M_t \ge 1/\alpha$.

    Args:
        alpha: the mean run to a false alarm is at least ``1 / alpha``, provided that
            $E[e_t \mid past] \le 1$: innovations that are 1-sub-Gaussian given the past.
            Values that are autocorrelated break the promise; whiten them first.
        shift: the bet $\lambda$, in standard deviations: the change that is found fastest.

    E-detectors average: the mean of several, however dependent, is one again, and keeps
    the bound.

    Example:
        >>> detector = EDetector(alpha=1e-3, shift=2.0)
        >>> state = detector.init(())
        >>> for value in (0.1, -0.3, 3.0, 3.0):
        ...     state, fired = detector.update(state, np.array(value))
        >>> bool(fired)
        True

    References:
        Shin, Ramdas & Rinaldo (2024), E-detectors, New England J. Stat. Data Sci. 2.
    """

    alpha: float = 1e-3
    shift: float = 1.0

    def init(self, shape: tuple[int, ...]) -> EDetectorState:
        """State before the first value."""
        return EDetectorState(np.full(shape, -np.inf), np.zeros(shape, bool))

    def update(self, state: EDetectorState, value: np.ndarray) -> tuple[EDetectorState, np.ndarray]:
        """Next state, and bool[...] where the detector crosses ``1 / alpha`` with this value."""
        seen = np.isfinite(value)
        bet = self.shift * np.where(seen, value, 0.0) - self.shift**2 / 2
        log_m = np.where(seen, np.logaddexp(0.0, state.log_m) + bet, state.log_m)
        above = log_m >= -np.log(self.alpha)
        return EDetectorState(log_m, above), above & ~state.on
