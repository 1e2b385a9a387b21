"""Pace: which steps are watched."""

from __future__ import annotations

from collections import deque
from math import ceil
from statistics import fmean, median

#: Watched steps that make a window. At the start, no budget leaves them out.
FIRST = 8
# Steps over which the memory of a plain step's time halves.
_HALF = 64
# Watched steps over which a debt is paid back.
_PAYBACK = 8
# A time counts as this many usual ones at most: an evaluation or a checkpoint is no step.
_LONG = 4.0
# Most that is paid back, in watched steps.
_MOST = 32.0


class Pace:
    """Which steps are watched: every n-th, or as many as a budget allows.

    A watched step costs what its hooks and, now and then, its judging take. The steps between two
    watched ones are chosen so that the mean cost is ``budget`` of the time of the plain steps that
    it is spread over, and what was overspent is paid back by waiting longer::

        gap = (cost + debt / 8) / (budget * plain)

    ``cost`` and ``plain`` forget, so the gap follows where steps become dearer or cheaper.

    Args:
        every: fewest steps from one watched step to the next; all watched ones are multiples.
        budget: share of the time of plain steps, 0 to 1; ``None`` for no limit.

    Attributes:
        gap: steps from the latest watched one to the next.

    Example:
        >>> pace, spent, elapsed, watched = Pace(budget=0.01), 0.0, 0.0, []
        >>> wake = 0
        >>> for step in range(5000):  # a plain step takes 1 ms, a watched one 2
        ...     now = step == wake
        ...     spent, elapsed = spent + 1e-3 * now, elapsed + 1e-3 + 1e-3 * now
        ...     wake = pace.next(step, now, spent, elapsed)
        ...     watched.append(now)
        >>> sum(watched[:8]), sum(watched[1000:])
        (8, 40)
    """

    def __init__(self, every: int = 1, budget: float | None = None) -> None:
        self.every, self.budget = every, budget
        self.gap = every
        self._watched = 0  # steps so far
        self._latest = 0  # the newest of them
        self._known: tuple[int, float, float] | None = None  # what is accounted for
        self._plain = (0.0, 0.0)  # seconds and steps, with forgetting
        self._costs: deque[float] = deque(maxlen=FIRST)  # of the latest watched steps
        self._lump = 0.0  # spent since the last one was accounted for
        self._debt = 0.0  # seconds overspent
        self._need = 0.0  # seconds to wait for after the latest watched step, times the budget

    def next(self, step: int, watched: bool, spent: float, elapsed: float) -> int:
        """The next step to watch.

        Args:
            step: has ended; some before it may have been left out without a call.
            watched: whether it was watched.
            spent: seconds in shiftwatch since the beginning.
            elapsed: seconds in all.
        """
        if self.budget is not None:
            self._account(step, spent, elapsed)
            if watched:
                self._watch()
        if watched:
            self._latest = step
            self._watched += 1
        self.gap = self._wait()
        ahead = -(-max(self._latest + self.gap, step + 1) // self.every)
        return ahead * self.every

    def _account(self, step: int, spent: float, elapsed: float) -> None:
        then, spent_then, elapsed_then = self._known or (step, spent, elapsed)
        self._known = step, spent, elapsed
        steps, cost = step - then, spent - spent_then
        self._lump += cost
        seconds, known = self._plain
        passed = max(elapsed - elapsed_then - cost, 0.0)
        if known >= FIRST:
            passed = min(passed, _LONG * steps * seconds / known)
        keep = 0.5 ** (steps / _HALF)
        self._plain = seconds * keep + passed, known * keep + steps
        assert self.budget is not None
        self._debt += cost - self.budget * passed

    def _watch(self) -> None:
        """Account for a watched step and what was judged since the one before."""
        self._costs.append(self._lump)
        self._lump = 0.0
        if self._watched < FIRST:  # they make the plans; nobody pays for them
            self._debt = 0.0
            if self._watched == FIRST - 1:
                self._costs.extend([median(self._costs)] * FIRST)
        cost = fmean(self._costs)
        self._debt = min(max(self._debt, -cost), _MOST * cost)
        self._need = max(cost + self._debt / _PAYBACK, 0.0)

    def _wait(self) -> int:
        if self.budget is None or self._watched < FIRST:
            return self.every
        seconds, steps = self._plain
        plain = max(seconds / max(steps, 1.0), 1e-9)
        return max(self.every, ceil(self._need / (self.budget * plain)))
