"""Stages: work that can be done a piece at a time.

A generator that yields between its pieces and returns the result. Whoever is in a hurry
finishes it at once; a monitor does one piece per training step, so that no step is long.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Stages = Generator[None, None, T]


def finish(stages: Stages[T]) -> T:
    """Do all that is left, and return the result.

    Example:
        >>> def sum_up(numbers):
        ...     total = 0
        ...     for number in numbers:
        ...         total += number
        ...         yield
        ...     return total
        >>> finish(sum_up([1, 2, 3]))
        6
    """
    while True:
        try:
            next(stages)
        except StopIteration as done:
            result: T = done.value
            return result
