"""Epochs: where they begin, as a run noted them with ``monitor.event("epoch", "1")``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from shiftwatch.run import Run

#: Kind of the events that say that an epoch begins; the detail is its number.
EPOCH = "epoch"


def epochs(run: Run) -> dict[int, int]:
    """Step at which each epoch began, and what the run numbers it.

    A number that is noted again at once is the same epoch, which a training has gone on with from
    a checkpoint. Where a detail is no number, epochs are counted from 0.

    Returns:
        Ascending steps to numbers.

    Example:
        >>> from shiftwatch import Run
        >>> from shiftwatch.records import Event
        >>> epochs(Run(events=[Event(s, "epoch", d) for s, d in [(0, "1"), (50, "2"), (70, "2")]]))
        {0: 1, 50: 2}
    """
    begun: dict[int, str] = {}
    known = ""
    for event in sorted((e for e in run.events if e.kind == EPOCH), key=lambda e: e.step):
        if event.step in begun or event.detail != known or not known.isdecimal():
            begun[event.step] = known = event.detail
    if all(detail.isdecimal() for detail in begun.values()):
        return {step: int(detail) for step, detail in begun.items()}
    return {step: number for number, step in enumerate(begun)}


def epoch_axis(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Epochs done by some steps, between which they go on evenly.

    Steps before the first epoch that is known count in epochs of the usual length: a run that went
    on elsewhere from a checkpoint need not begin with its first. Those of the last epoch count as
    if it were as long as the one before.

    Returns:
        int64[n], ascending steps, and float64[n], epochs; empty where fewer than two are known.

    Example:
        >>> from shiftwatch import Run
        >>> from shiftwatch.records import Event
        >>> run = Run(events=[Event(step, "epoch", "") for step in (200, 300, 400)])
        >>> steps, done = epoch_axis(run)
        >>> steps.tolist(), done.tolist()
        ([0, 200, 300, 400], [0.0, 2.0, 3.0, 4.0])
    """
    begins = np.array(list(epochs(run)), np.int64)
    if begins.size < 2:
        return np.zeros(0, np.int64), np.zeros(0)
    lengths = np.diff(begins)
    usual = float(np.median(lengths))
    done = np.arange(begins.size) + float(round(begins[0] / usual))
    if begins[0] > 0:
        begins, done = np.append(0, begins), np.append(done[0] - begins[0] / usual, done)
    end = int(run.steps[-1]) + 1 if len(run) else 0
    if end > begins[-1]:
        done = np.append(done, done[-1] + (end - begins[-1]) / lengths[-1])
        begins = np.append(begins, end)
    return begins, done
