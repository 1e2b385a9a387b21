"""Gate: what users hand in, looked at once, where it comes in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from shiftwatch.records import TENSORS


def check_array(name: str, array: np.ndarray, tensor: str, units_axis: int, mode: str) -> None:
    """The one gate for arrays."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"A layer's name must be a string that is not empty; got {name!r}.")
    if tensor not in TENSORS:
        raise ValueError(f"tensor must be one of {', '.join(TENSORS)}; got {tensor!r}.")
    if mode not in ("train", "eval"):
        raise ValueError(f"mode must be 'train' or 'eval'; got {mode!r}.")
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name}: values must be real numbers; got an array of {array.dtype}. "
            "Watch the real and imaginary parts apart, or leave it out."
        )
    if tensor not in ("weight", "update") and array.ndim < 2:
        raise ValueError(
            f"{name}: an {tensor} needs at least two axes, [batch, …, units]; got shape "
            f"{array.shape}. Add the missing axis, as in values[:, None]."
        )
    if array.ndim and not -array.ndim <= units_axis < array.ndim:
        raise ValueError(
            f"{name}: units_axis must lie in {-array.ndim} … {array.ndim - 1} for shape "
            f"{array.shape}; got {units_axis}."
        )
    if array.size == 0:
        raise ValueError(
            f"{name}: an array needs at least one value; got shape {array.shape}. "
            "Leave empty batches and layers without units out."
        )


def finite_loss(loss: Any) -> bool:
    """Whether a loss is finite, or cannot be asked without making a device wait."""
    try:
        if loss.__class__ is not float:
            if not getattr(loss, "is_cpu", isinstance(loss, np.floating)):
                return True
            loss = loss.item()
        return math.isfinite(loss)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return True


def loss_as_number(loss: Any) -> tuple[float, bool]:
    """Loss as a float without making a device wait, and whether it was given."""
    if loss is None:
        return float("nan"), False
    if getattr(loss, "is_cpu", False):  # the usual case in few words
        return float(loss.item()), True
    device = getattr(loss, "device", None)
    if device is not None and "cpu" not in str(getattr(device, "type", device)).lower():
        return float("nan"), False
    if hasattr(loss, "detach"):
        loss = loss.detach()
    return float(loss), True
