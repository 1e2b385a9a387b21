"""Alpha: how unusual a score must be, so that a whole healthy run hardly ever shows one like it.

A run of ten layers looks at some forty levels a step, and at millions of scores in the end. Each
alone may be rare, and yet one of them is bound to come. So the run as a whole has a budget, ``alpha``, the
nominal probability that a score raises anything by chance. It is divided over all levels, and over
time: each doubling of the steps gets its share of a series that sums to one, 6/π² · 1/k². That ends
where the limit meets MOST, after some thousand steps: from there on chance grows with the length.

The law of the scores far out is taken from peaks over a threshold (Pickands 1975): what exceeds
a high threshold follows a generalised Pareto law. Its constants were fitted on healthy trainings of
the calibration set, whose networks and seeds are in neither of the other two (``python -m
benchmarks.faults.tail``). By Boole's inequality nothing is assumed of how layers depend on each
other; that other trainings have tails like these is assumed, and is what can fail: 201 peaks of 26
runs, most of them of one network, are all that the constants rest on.
"""

from __future__ import annotations

import numpy as np

#: Scores over THRESHOLD that a level shows per step, and shape and scale of what is beyond.
THRESHOLD, RATE, SHAPE, SCALE = 3.0, 1.28e-4, 0.23, 0.727

#: Steps of the first share, and of the second; from there on each is twice the one before.
FIRST = 128

#: The limit rises no further: beyond it a look is a false alarm once in 500 million, which is
#: 1.2 % in 100,000 steps of twenty sites, and a level that jumped by 40 scales is worth a word.
MOST = 40.0


def limit(alpha: float, levels: int, step: int) -> float:
    """The score that none of so many levels exceeds in a healthy run but with probability ``alpha``.

    Args:
        alpha: of the whole run, however long; between 0 and 1.
        levels: that are looked at in each step.
        step: the newest step.

    Returns:
        In robust scales, from :data:`THRESHOLD` to :data:`MOST`.

    Raises:
        ValueError: for an ``alpha`` that is no probability.

    Example:
        >>> limit(0.01, levels=40, step=100) < limit(0.01, levels=40, step=100_000)
        True
        >>> limit(0.001, levels=40, step=100) > limit(0.01, levels=40, step=100)
        True
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be a probability between 0 and 1; got {alpha!r}.")
    place = 1 if step < FIRST else int(np.log2(step / FIRST)) + 2
    share = 6 / (np.pi * place) ** 2
    looks = max(levels, 1) * FIRST * 2.0 ** max(place - 2, 0)
    chance = alpha * share / (looks * RATE)
    return float(min(THRESHOLD + SCALE / SHAPE * max(chance**-SHAPE - 1, 0.0), MOST))
