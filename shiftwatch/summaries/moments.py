"""Count, mean and central moments to the fourth: what merges to rounding.

Central moments are kept as sums about the mean, ``m_k = sum (x - mean)^k``, and merged
with the pairwise formulas of Pébay (2008), so nothing cancels the way raw power sums do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Finite values of one window, per site.

    Args:
        count: int64[...], number of finite values.
        mean: float64[...], in the tensor's units; 0 where ``count`` is 0.
        m2, m3, m4: float64[...], sums of powers of the distance to the mean.
        min, max: float64[...], ``inf`` and ``-inf`` where ``count`` is 0.

    Laws: ``a + empty == a``; ``(a + b) + c == a + (b + c)`` to rounding, counts exactly;
    two halves merge to the whole.

    References:
        Pébay (2008), Sandia report SAND2008-6212.
    """

    count: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    m3: np.ndarray
    m4: np.ndarray
    min: np.ndarray
    max: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, ...] = ()) -> Moments:
        """Moments of no values, for sites of the given shape."""
        zero = np.zeros(shape)
        return cls(
            np.zeros(shape, np.int64), zero, zero, zero, zero,
            np.full(shape, np.inf), np.full(shape, -np.inf),
        )  # fmt: skip

    def __add__(self, other: Moments) -> Moments:
        # Beyond 1e77 (float64 only) fourth powers leave the range, which is no fault of the merge.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._merged(other)

    def _merged(self, other: Moments) -> Moments:
        n_a, n_b = self.count.astype(float), other.count.astype(float)
        n = n_a + n_b
        share = n_b / np.maximum(n, 1.0)  # of the values, those that `other` brings
        delta = other.mean - self.mean
        step = delta * share
        cross = delta * step * n_a  # n_a n_b / n * delta^2
        return Moments(
            count=self.count + other.count,
            mean=self.mean + step,
            m2=self.m2 + other.m2 + cross,
            m3=self.m3
            + other.m3
            + cross * delta * (1 - 2 * share)
            + 3 * delta * ((1 - share) * other.m2 - share * self.m2),
            m4=self.m4
            + other.m4
            + cross * delta**2 * (1 - 3 * share + 3 * share**2)
            + 6 * delta**2 * (share**2 * self.m2 + (1 - share) ** 2 * other.m2)
            + 4 * delta * ((1 - share) * other.m3 - share * self.m3),
            min=np.minimum(self.min, other.min),
            max=np.maximum(self.max, other.max),
        )
