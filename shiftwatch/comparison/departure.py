"""Departure: since when a difference matters, and how much.

A layer departs at the first moment from which a measure stays beyond its limit, always on the
same side, for a twentieth of the moments compared and three of them at least; or, near the end,
for the moments that are left, two at least. A spike is no departure; alerts tell of spikes. What
came back within its limits for as long is a difference that passed: seeds, and rates of learning,
make layers differ for a while in the beginning.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_SHARE, _LEAST, _LEFT = 1 / 20, 3, 2


class Departure(NamedTuple):
    """One measure of one layer over time.

    Args:
        score: the greatest size that was held, in limits; 1 or more is a departure.
        begin: number of the first moment of the departure; -1 where there is none.
        end: the moment after its last one; -1 where it lasts to the end or there is none.
    """

    score: float
    begin: int
    end: int


def departures(relative: np.ndarray) -> list[Departure]:
    """Judge all layers at once.

    Args:
        relative: float64[K, layers], differences over their limit, signed; a moment at which a
            layer's is NaN counts neither for nor against it.

    Returns:
        One per layer.

    Cost: a sliding minimum per pattern of missing moments; some milliseconds for 300 moments
        of 160 layers.

    Example:
        >>> series = np.array([0.1, 5.0, 0.1, np.nan, 2.0, 3.0, 2.5, 2.0])
        >>> departures(series[:, None])
        [Departure(score=2.0, begin=4, end=-1)]
    """
    result = [Departure(0.0, -1, -1)] * relative.shape[1]
    patterns, which = np.unique(~np.isnan(relative), axis=1, return_inverse=True)
    for number, known in enumerate(patterns.T):
        moments, columns = np.flatnonzero(known), np.flatnonzero(which.ravel() == number)
        if moments.size:
            for column, found in zip(
                columns, _judged(relative[np.ix_(moments, columns)]), strict=True
            ):
                begin, end = (int(moments[m]) if m >= 0 else -1 for m in (found.begin, found.end))
                result[column] = Departure(found.score, begin, end)
    return result


def _judged(known: np.ndarray) -> list[Departure]:
    """The same without missing moments."""
    moments = len(known)
    span = min(moments, max(_LEAST, math.ceil(_SHARE * moments)))
    level = np.maximum(_sustained(known, span), _sustained(-known, span))
    level[moments - min(_LEFT, moments) + 1 :] = 0.0
    over = level >= 1
    begins = np.where(over.any(0), over.argmax(0), -1)
    last = moments - 1 - over[::-1].argmax(0)
    result = []
    for column, begin in enumerate(begins.tolist()):
        end = -1
        if begin >= 0:
            back = np.flatnonzero(np.abs(known[last[column] :, column]) < 1)
            if back.size and moments - last[column] - back[0] >= span:
                end = int(last[column] + back[0])
        result.append(Departure(float(max(level[:, column].max(), 0.0)), begin, end))
    return result


def _sustained(values: np.ndarray, span: int) -> np.ndarray:
    """The least of each value and those that follow, ``span`` in all: float64[K, layers]."""
    padded = np.concatenate([values, np.full((span - 1, values.shape[1]), np.inf)])
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, span, axis=0).min(-1))
