"""Gate: what users hand in, looked at once, where it comes in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from shiftwatch.records import TENSORS, Site, from_plain


def check_options(every: Any, budget: Any, run: Any, reporters: Iterable[Any]) -> None:
    """The options of a monitor that have a range."""
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"every must be a whole number of steps, at least 1; got {every!r}.")
    if budget is not None and not 0 < budget < 1:
        raise ValueError(
            f"budget is a share of the step time between 0 and 1; got {budget!r}. "
            "Use 0.01 for one percent."
        )
    if run is True:
        raise ValueError("run must be a folder, None for a dated one, or False; got True.")
    for reporter in reporters:
        if not callable(reporter):
            raise TypeError(f"A reporter must be a callable of one Report; got {reporter!r}.")


def check_state(state: Mapping[str, Any], steps: int, sites: Sequence[Site]) -> None:
    """A saved state, before a monitor of so many steps and with these sites goes on with it."""
    if state.get("version") != 1:
        raise ValueError(
            f"The state must be of version 1; got {state.get('version')!r}. "
            "It was saved by another version of shiftwatch; start a new run instead."
        )
    if steps:
        raise ValueError(
            f"A state is loaded before the first step; {steps} were watched already. "
            "Load it right after the monitor is made."
        )
    saved = [from_plain(Site, site).key for site in state["sites"]]
    known = [site.key for site in sites]
    if known and saved[: len(known)] != known:
        raise ValueError(
            "The state belongs to another model: its first sites are "
            f"{', '.join(saved[:3])}; this one's are {', '.join(known[:3])}."
        )


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
