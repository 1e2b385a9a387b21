"""Overhead: what share of the time shiftwatch takes."""

from __future__ import annotations


class Overhead:
    """Seconds spent in shiftwatch, and seconds in all.

    Attributes:
        spent, elapsed: both since the second step, for the first one builds the plans.

    Example:
        >>> overhead = Overhead()
        >>> overhead.spent, overhead.elapsed = 1.0, 100.0
        >>> overhead.share, overhead.since(), overhead.since()
        (0.01, 0.01, 0.0)
    """

    def __init__(self) -> None:
        self.spent = self.elapsed = 0.0
        self._then = (0.0, 0.0)

    @property
    def share(self) -> float:
        """Of all the time, 0 to 1."""
        return self.spent / self.elapsed if self.elapsed > 0 else 0.0

    def since(self) -> float:
        """Of the time since the last call, 0 to 1."""
        spent, elapsed = self.spent - self._then[0], self.elapsed - self._then[1]
        self._then = self.spent, self.elapsed
        return min(max(spent / elapsed, 0.0), 1.0) if elapsed > 0 else 0.0
