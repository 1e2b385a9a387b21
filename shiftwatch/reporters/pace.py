"""How often a reporter speaks: every so many seconds, or every so many steps."""

from __future__ import annotations

import math
import time


class Pace:
    """Says when it is time again.

    Args:
        seconds: least time between two times, wall clock; ``math.inf`` for never.
        steps: every so many steps instead, which makes a log repeatable.

    Raises:
        ValueError: for a pace of zero or less.

    Example:
        >>> pace = Pace(steps=100)
        >>> [step for step in range(7, 400, 8) if pace.due(step)]
        [103, 207, 311]
    """

    def __init__(self, seconds: float = 60.0, steps: int | None = None) -> None:
        if math.isnan(seconds) or seconds < 0 or (steps is not None and steps < 1):
            raise ValueError(
                f"seconds must be 0 or more and steps 1 or more; got {seconds} and {steps}. "
                "Use seconds=math.inf to hear the end only."
            )
        self.seconds, self.steps = seconds, steps
        self._time = time.monotonic()
        self._step = -1

    def due(self, step: int) -> bool:
        """Whether it is time, at this step; if so, the wait begins anew."""
        now = time.monotonic()
        if self.steps is not None:
            due = step - self._step >= self.steps
        else:
            due = now - self._time >= self.seconds
        if due or step < self._step:
            self._time, self._step = now, step
        return due
