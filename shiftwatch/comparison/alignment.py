"""Alignment: which moment of one run is held against which of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.epochs import epoch_axis, epochs
from shiftwatch.wording import run_name

if TYPE_CHECKING:
    from shiftwatch.run import Run

#: By optimizer step, by epoch, or by the share of the training that is done.
ALIGNMENTS = ("step", "epoch", "share")

#: Most moments that are compared.
MOST = 300


@dataclass(frozen=True)
class Aligned:
    """Moments that are held against each other, in order.

    Args:
        window_a, window_b: int64[K], numbers of the windows.
        first_b, last_b: int64[K], first and last step of B's window.
        first_a, last_a: int64[K], those of A's.
        at: float64[K], where B's window ends on the common axis: steps, epochs, or 0 … 1.
    """

    window_a: np.ndarray
    window_b: np.ndarray
    first_a: np.ndarray
    last_a: np.ndarray
    first_b: np.ndarray
    last_b: np.ndarray
    at: np.ndarray

    @property
    def size(self) -> int:
        """Number of moments."""
        return self.at.size


def pair_windows(a: Run, b: Run, by: str = "step", most: int = MOST) -> Aligned:
    """For each window of B the nearest one of A, by their middles.

    They belong together as far as they are no farther apart than the longer of the two is
    long, or than windows usually lie apart. Of many an even choice is taken.

    Args:
        a, b: the runs.
        by: one of :data:`ALIGNMENTS`.
        most: how many at most.

    Raises:
        ValueError: for another alignment, and for ``"epoch"`` where a run does not know its
            epochs.

    Example:
        >>> from shiftwatch.history import History, Window
        >>> from shiftwatch.summaries import Summary
        >>> def run(steps):
        ...     history = History()
        ...     for s in range(0, steps, 10):
        ...         empty = Summary.empty((0,))
        ...         history.add_window(Window(s, s + 9, empty, {}, np.zeros(0), 0.0))
        ...     return history.view()
        >>> pair_windows(run(40), run(80)).last_b.tolist()
        [9, 19, 29, 39, 49]
        >>> pair_windows(run(40), run(80), "share").last_a.tolist()
        [9, 9, 19, 19, 29, 29, 39, 39]
    """
    starts_a, ends_a = ends(a, by)
    starts_b, ends_b = ends(b, by)
    if not ends_a.size or not ends_b.size:
        none = np.zeros(0, np.int64)
        return Aligned(none, none, none, none, none, none, np.zeros(0))
    middle_a, middle_b = (starts_a + ends_a) / 2, (starts_b + ends_b) / 2
    right = np.clip(np.searchsorted(middle_a, middle_b), 0, middle_a.size - 1)
    left = np.maximum(right - 1, 0)
    nearer = np.abs(middle_a[left] - middle_b) <= np.abs(middle_a[right] - middle_b)
    nearest = np.where(nearer, left, right)
    apart = [np.median(np.diff(m)) for m in (middle_a, middle_b) if m.size > 1]
    reach = np.maximum((ends_a - starts_a)[nearest], ends_b - starts_b)
    reach = np.maximum(reach, max(apart, default=0.0))
    distance = np.abs(middle_a[nearest] - middle_b)
    window_b = np.flatnonzero(distance <= reach * (1 + 1e-9))
    if window_b.size > most:
        window_b = window_b[np.linspace(0, window_b.size - 1, most).round().astype(int)]
    window_a = nearest[window_b]
    return Aligned(
        window_a=window_a,
        window_b=window_b,
        first_a=a.first[window_a],
        last_a=a.steps[window_a],
        first_b=b.first[window_b],
        last_b=b.steps[window_b],
        at=ends_b[window_b],
    )


def ends(run: Run, by: str) -> tuple[np.ndarray, np.ndarray]:
    """Where each window begins and ends on the common axis: float64[W] each.

    Raises:
        ValueError: as :func:`pair_windows` says.
    """
    known = axis(run, by)
    return np.interp(run.first, *known), np.interp(run.steps + 1, *known)


def axis(run: Run, by: str) -> tuple[np.ndarray, np.ndarray]:
    """Some steps of a run and where they lie on the common axis, on a line between each two.

    Returns:
        float64[n] each, both ascending, from step 0 to the end of the run.

    Raises:
        ValueError: as :func:`pair_windows` says.
    """
    whole = float(run.steps[-1] + 1) if len(run) else 1.0
    if by == "step":
        return np.array([0.0, whole]), np.array([0.0, whole])
    if by == "share":
        return np.array([0.0, whole]), np.array([0.0, 1.0])
    if by == "epoch":
        steps, done = epoch_axis(run)
        if steps.size:
            return steps.astype(float), done
        raise ValueError(
            "Alignment by epoch needs runs that noted at least two epochs, with "
            f'monitor.event("epoch", "1") as each begins; {run_name(run)} noted {len(epochs(run))}. '
            "Align by step or by share of training instead."
        )
    raise ValueError(f"align must be one of {', '.join(ALIGNMENTS)}; got {by!r}.")
