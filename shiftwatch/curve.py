"""Curve: the loss of a run in a few points, for pictures of a line's height."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from shiftwatch.run import Run


def loss_curve(run: Run, most: int) -> np.ndarray:
    """The loss in a square of side 1: means of neighbouring windows, from the left.

    Args:
        run: any run.
        most: points, at least 2.

    Returns:
        float64[n, 2], place and height, at most so many; none without two finite losses.
        Heights are logarithmic where the loss spans more than a factor of ten.

    Example:
        >>> from shiftwatch.history import History
        >>> loss_curve(History().view(), 10).shape
        (0, 2)
    """
    good = np.flatnonzero(np.isfinite(run.losses))
    if good.size < 2:
        return np.zeros((0, 2))
    groups = np.array_split(good, min(most, good.size))
    values = np.array([run.losses[g].mean() for g in groups])
    middle = np.array([(run.first[g[0]] + run.steps[g[-1]]) / 2 for g in groups])
    if values.min() > 0 and values.max() > 10 * values.min():
        values = np.log(values)
    spread = np.ptp(values)
    heights = (values - values.min()) / spread if spread > 0 else np.full(values.size, 0.5)
    return np.column_stack([place(run, middle), heights])


def place(run: Run, steps: np.ndarray) -> np.ndarray:
    """Where steps lie between the first and the last of a run that has windows.

    Args:
        run: with a window or more.
        steps: float64[n].

    Returns:
        float64[n], 0 to 1; what lies outside is at the nearer end.

    Example:
        >>> from shiftwatch import Monitor
        >>> monitor = Monitor(run=False)
        >>> for step in range(64):
        ...     monitor.observe("fc1", np.ones((2, 4)))
        ...     monitor.step()
        >>> place(monitor.history, np.array([-5.0, 31.5, 63.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    first, last = run.first[0], run.steps[-1]
    return np.clip((steps - first) / max(last - first, 1), 0.0, 1.0)
