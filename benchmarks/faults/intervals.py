"""How sure a share is: the interval of Clopper and Pearson (1934), and one that redraws groups."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def clopper_pearson(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Shares under which so many hits, or more, or fewer, are no surprise.

    Exact: it holds the true share with at least the given probability.

    Args:
        hits: 0 to ``trials``.
        trials: 0 or more; of none, any share is possible.
    """
    if not 0 <= hits <= trials:
        raise ValueError(f"hits must be between 0 and trials; got {hits} of {trials}.")
    half = (1 - level) / 2
    low = 0.0 if hits == 0 else _root(hits - 1, trials, 1 - half)
    high = 1.0 if hits == trials else _root(hits, trials, half)
    return low, high


def redrawn(
    groups: Sequence[tuple[int, int]], level: float = 0.95, draws: int = 10_000
) -> tuple[float, float]:
    """Interval of a share whose trials come in groups: those of a group are not independent.

    Whole groups are drawn anew, with replacement, and the share's percentiles taken (Davison and
    Hinkley 1997, section 3.8). With fewer than some twenty groups it is a little too narrow.

    Args:
        groups: hits and trials of each.
        draws: how often; always the same ones.

    Example:
        >>> [round(x, 2) for x in redrawn([(0, 10)] * 9 + [(10, 10)])]
        [0.0, 0.3]
        >>> [round(x, 2) for x in clopper_pearson(10, 100)]
        [0.05, 0.18]
    """
    if not groups:
        return 0.0, 1.0
    table = np.array(groups, np.float64)
    picks = np.random.default_rng(0).integers(len(table), size=(draws, len(table)))
    hits, trials = table[picks].sum(1).T
    shares = hits[trials > 0] / trials[trials > 0]
    if not shares.size:
        return 0.0, 1.0
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _root(most: int, trials: int, probability: float) -> float:
    """Share at which at most so many hits have this probability; by bisection, as it only falls."""
    low, high = 0.0, 1.0
    while high - low > 1e-10:
        middle = (low + high) / 2
        if _at_most(most, trials, middle) > probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(most: int, trials: int, share: float) -> float:
    """Probability of at most so many hits."""
    k = np.arange(most + 1)
    ways = [math.lgamma(trials + 1) - math.lgamma(i + 1) - math.lgamma(trials - i + 1) for i in k]
    return float(
        np.exp(np.array(ways) + k * math.log(share) + (trials - k) * math.log1p(-share)).sum()
    )
