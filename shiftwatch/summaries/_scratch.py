"""Scratch memory: the same pages at every call."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

# A larger need is rare (one whole array, summarized once) and not worth holding on to.
_KEPT_BYTES = 1 << 26
_LINE = 64  # bytes of a cache line, at which each array starts
_thread = threading.local()


def scratch(shape: Sequence[int], *dtypes: Any, use: str = "pass") -> list[np.ndarray]:
    """Arrays of one shape, one for each type, of undefined content.

    They lie end to end in memory that belongs to the thread and that the next call for the
    same ``use`` gives out again: nothing of it may be kept. Fresh pages for the temporaries of a ring of samples
    take the operating system longer than all the arithmetic on them.

    Example:
        >>> a, b = scratch((2, 3), np.float32, np.int64)
        >>> a.shape, b.dtype, a is scratch((2, 3), np.float32)
        ((2, 3), dtype('int64'), False)
    """
    sizes = [math.prod(shape) * np.dtype(dtype).itemsize for dtype in dtypes]
    starts = [0, *accumulate(-(-size // _LINE) * _LINE for size in sizes)]
    memory: np.ndarray | None = getattr(_thread, use, None)
    if memory is None or memory.size < starts[-1]:
        memory = np.empty(starts[-1], np.uint8)
        if memory.size <= _KEPT_BYTES:
            setattr(_thread, use, memory)
    return [
        memory[start : start + size].view(dtype).reshape(shape)
        for start, size, dtype in zip(starts, sizes, dtypes, strict=False)
    ]
