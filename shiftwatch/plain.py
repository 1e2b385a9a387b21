"""Plain: states of arrays as plain containers, numbers, strings and bytes, and back.

Checkpoints refuse NumPy arrays (PyTorch's ``weights_only`` loading), so none are in there;
nor is ``b""``, which pickle writes as a call of ``bytes`` and which is refused as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Arrays as ``{"dtype", "shape", "data"}``, tuples as lists, inside any nesting.

    Example:
        >>> plain((np.array([1.0]), 2))
        [{'dtype': '<f8', 'shape': [1], 'data': b'\\x00\\x00\\x00\\x00\\x00\\x00\\xf0?'}, 2]
    """
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        data = array.tobytes() or None
        return {"dtype": array.dtype.str, "shape": list(array.shape), "data": data}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def restored(value: Any, like: Any) -> Any:
    """Inverse of :func:`plain`, in the shape of ``like``: its NamedTuples come back.

    Example:
        >>> restored(plain(np.arange(2)), np.zeros(0)).tolist()
        [0, 1]
    """
    if isinstance(like, np.ndarray):
        kind = np.dtype(value["dtype"])
        return np.frombuffer(value["data"] or b"", kind).reshape(value["shape"]).copy()
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)(*(restored(v, part) for v, part in zip(value, like, strict=True)))
    if isinstance(like, dict):
        return {k: restored(value[k], part) for k, part in like.items()}
    return value
