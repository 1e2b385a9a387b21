"""Schedules: from which step on the learning rates of two runs differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.comparison.alignment import axis

if TYPE_CHECKING:
    from shiftwatch.run import Run

# Rates are set, not measured: what differs by more than rounding was meant. Less than a thousandth
# of the largest rate does nothing.
_RELATIVE, _NOTHING = 0.05, 1e-3
_LEAST, _SHARE = 3, 1 / 20  # steps for which they differ, and share of the steps to be alike again


@dataclass(frozen=True)
class Schedules:
    """How the learning rates of two runs differ.

    Args:
        since: step of this run from which they do.
        until: step from which they are alike again; ``None`` where they differ to the end.
        most: step at which they are farthest apart.
        sizes: the learning rates there, in the first run and in this.
    """

    since: int
    until: int | None
    most: int
    sizes: tuple[float, float]


def schedules(a: Run, b: Run, by: str = "step") -> Schedules | None:
    """Hold the learning rates of B against those of A at the same moments.

    A rate of B differs where it is 5 % above or below all rates of A in the time of that step,
    which for runs of other lengths may be several steps, and three times in a row.

    Args:
        a, b: the runs.
        by: one of :data:`shiftwatch.comparison.ALIGNMENTS`.

    Returns:
        ``None`` where they are alike, or where either run knows none.

    Example:
        >>> from shiftwatch.history import History, Window
        >>> from shiftwatch.summaries import Summary
        >>> def run(drop):
        ...     rates = np.array([np.arange(100), np.where(np.arange(100) < drop, 0.1, 0.01)])
        ...     history = History()
        ...     empty = Summary.empty((0,))
        ...     history.add_window(Window(0, 99, empty, {}, np.zeros(0), 0.0, rates))
        ...     return history.view()
        >>> schedules(run(60), run(40))
        Schedules(since=40, until=60, most=40, sizes=(0.1, 0.01))
        >>> schedules(run(60), run(60)) is None
        True
    """
    (steps_a, rates_a), (steps_b, rates_b) = a.schedule, b.schedule
    if not steps_a.size or not steps_b.size:
        return None
    (places, done), forward = axis(a, by)[::-1], axis(b, by)
    begins, ends = (np.interp(np.interp(s, *forward), places, done) for s in (steps_b, steps_b + 1))
    begins, ends = begins.round(6), ends.round(6)
    both = (begins >= steps_a[0]) & (begins <= steps_a[-1])
    steps, rates, begins, ends = (x[both] for x in (steps_b, rates_b, begins, ends))
    if not steps.size:
        return None
    left = np.searchsorted(steps_a, begins, side="right") - 1
    right = np.searchsorted(steps_a, np.maximum(begins, ends - 1))
    spans = np.column_stack([left, np.minimum(right, steps_a.size - 1) + 1]).ravel()
    padded = np.append(rates_a, rates_a[-1])
    low, high = (pick.reduceat(padded, spans)[::2] for pick in (np.minimum, np.maximum))
    allowed = _RELATIVE * np.maximum(high, rates)
    allowed = np.maximum(allowed, _NOTHING * max(rates.max(), rates_a.max()))
    apart = np.maximum(rates - high, low - rates)
    return _judged(steps, apart, allowed, np.column_stack([rates_a[left], rates]))


def _judged(
    steps: np.ndarray, apart: np.ndarray, allowed: np.ndarray, sizes: np.ndarray
) -> Schedules | None:
    span = min(_LEAST, steps.size)
    off = np.lib.stride_tricks.sliding_window_view(apart > allowed, span).all(-1)
    if not off.any():
        return None
    begin = int(off.argmax())
    end = int(np.flatnonzero(off)[-1]) + span
    back = steps.size - end >= max(_LEAST, _SHARE * steps.size)
    most = begin + int(apart[begin:end].argmax())
    return Schedules(
        since=int(steps[begin]),
        until=int(steps[end]) if back else None,
        most=int(steps[most]),
        sizes=(float(sizes[most, 0]), float(sizes[most, 1])),
    )
