"""From one whole array to its summary, in float64: the exact way in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from shiftwatch.activations import flat_of
from shiftwatch.summaries.block import Block, measure
from shiftwatch.summaries.summary import Summary


def summarize(values: Any, *, units_axis: int = -1, activation: str = "") -> Summary:
    """Summary of all values of an array.

    Args:
        values: array-like of real numbers, any rank; NaN and Inf are counted apart.
        units_axis: axis of the units (channels, features); the others are positions.
            A vector is taken as many values of one unit.
        activation: what produced the values, a key of ``shiftwatch.activations.FLAT``,
            or ``""``; it decides which values are flat and which units are active.

    Returns:
        Summary of one site (shape ``()``), with units.

    Raises:
        TypeError: where the values are not real numbers.
        ValueError: for an axis out of range, or an array with units of no value.

    Cost: about ten passes over the values in float64.

    Example:
        >>> summary = summarize([[0.0, 2.0], [0.0, 4.0]], activation="relu")
        >>> float(summary.mean), summary.units.mean.tolist(), int(summary.tallies.zero)
        (1.5, [0.0, 3.0], 2)
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"values must be real numbers; got an array of {array.dtype}. "
            "Take the absolute value or the real and imaginary parts apart."
        )
    if array.ndim < 2:
        array = array.reshape(-1, 1)
        units_axis = -1
    if not -array.ndim <= units_axis < array.ndim:
        raise ValueError(
            f"units_axis must lie in {-array.ndim} … {array.ndim - 1} for shape "
            f"{array.shape}; got {units_axis}."
        )
    tiny = float(np.finfo(array.dtype).tiny) if array.dtype.kind == "f" else 0.0
    table = np.moveaxis(array, units_axis, -1).astype(np.float64)
    table = table.reshape(-1, table.shape[-1])
    if table.size == 0:
        raise ValueError(
            f"values must hold at least one number; got shape {array.shape}. "
            "Leave empty batches out."
        )
    block = Block(
        values=table[None, None],
        filled=np.ones((1, 1), bool),
        flat=flat_of(activation) if activation else None,
        tiny=np.array([tiny]),
    )
    summary, _ = measure(block)
    return single(summary, 0)


def single(summary: Summary, site: int) -> Summary:
    """One site of many, with its units, as a summary of shape ``()``."""
    one = summary[site]
    units = summary.units
    if units is None:
        return one
    part = slice(units.starts[site], units.starts[site + 1])
    chosen = {n: getattr(units, n)[part] for n in ("count", "mean", "m2", "active", "silent")}
    starts = np.array([0, part.stop - part.start])
    return replace(one, units=replace(units, starts=starts, shape=(), **chosen))
