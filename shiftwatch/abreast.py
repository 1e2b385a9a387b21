"""Abreast: the same work on many items, on a few threads at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_THREADS = 4  # at most


def abreast(work: Callable[[T], R], items: Sequence[T], few: int = 16) -> list[R]:
    """Results in order. Of use where the work lets go of the interpreter, as unpacking does.

    Of this thread alone where no other can begin any more, for the interpreter ends.

    Args:
        few: items that are not worth another thread.

    Example:
        >>> abreast(str.upper, "threads abreast!") == list("THREADS ABREAST!")
        True
    """
    threads = min(_THREADS, os.cpu_count() or 1, len(items) // few + 1)
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            try:
                return [each.result() for each in [pool.submit(work, item) for item in items]]
            except RuntimeError as error:
                if "interpreter shutdown" not in str(error):
                    raise
    return [work(item) for item in items]
