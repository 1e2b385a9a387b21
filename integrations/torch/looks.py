"""Looks: what is read of whole tensors, once, and in which words it is told."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from shiftwatch.integrations.torch.hooks import ForwardHook
from shiftwatch.integrations.torch.nested import PLAIN
from shiftwatch.integrations.torch.slab import LOW, present

#: Values looked at in one piece; what is larger takes several.
PIECE = 1 << 24
#: A tensor up to this size is small.
SMALL = 4096


class Count(NamedTuple):
    """What is not finite in a tensor: numbers, and the first unit that holds any (-1: one unit)."""

    nan: int
    high: int
    low: int
    unit: int

    @property
    def bad(self) -> int:
        return self.nan + self.high + self.low

    @property
    def masked(self) -> bool:
        """-Inf and nothing else: what masks are made of."""
        return self.low > 0 and not self.nan and not self.high


FINE = Count(0, 0, 0, -1)
MASK = Count(0, 0, 1, -1)


@dataclass
class Seen:
    """A tensor that was looked at. ``flags`` is int64[4] on its device until it is read."""

    layer: str
    tensor: str
    part: str
    size: int
    flags: Tensor | None
    count: Count = FINE

    @property
    def words(self) -> str:
        """``3 NaN of 131,072 values, first in unit 17``."""
        kinds = [(self.count.nan, "NaN"), (self.count.high, "Inf"), (self.count.low, "-Inf")]
        what = " and ".join(f"{number:,} {kind}" for number, kind in kinds if number)
        where = f", first in unit {self.count.unit}" if self.count.unit >= 0 else ""
        return f"{what} of {self.size:,} values{where}"


@dataclass
class Call:
    """One call of a module: what entered, what it holds, what came out."""

    layer: str
    inputs: list[Seen] = field(default_factory=list)
    own: list[Seen] = field(default_factory=list)
    outputs: list[Seen] = field(default_factory=list)


def finite(tensor: Tensor) -> bool:
    """Whether all values are finite. Waits for the device.

    Cost: one sum, on a CPU 0.05 to 0.25 ns per value; a second pass only where that is not
    finite, be it that it overflowed.
    """
    tensor = tensor.detach()
    wide = torch.float32 if tensor.element_size() < 4 else None
    if math.isfinite(float(tensor.sum(dtype=wide))):
        return True
    return bool(tensor.isfinite().all())


def flags(tensor: Tensor, axis: int | None) -> Tensor | None:
    """int64[4] on the tensor's device, the fields of :class:`Count`; ``None`` where all is well.

    On a CPU the verdict is read at once and most tensors cost one sum; elsewhere nothing waits.
    """
    tensor = tensor.detach()
    if tensor.device.type == "cpu" and finite(tensor):
        return None
    if tensor.dim() == 0:
        tensor, axis = tensor.reshape(1), None
    rows = max(1, PIECE * tensor.shape[0] // max(tensor.numel(), 1))
    totals = []
    units = []
    for piece in tensor.split(rows) if tensor.numel() > PIECE else (tensor,):
        bad = piece.isfinite().logical_not_()
        kinds = piece.isnan().sum(), piece.isposinf().sum(), piece.isneginf().sum()
        totals.append(torch.stack(kinds))
        if axis is not None:
            others = [d for d in range(bad.dim()) if d != axis]
            units.append(bad.any(dim=others) if others else bad)
    total = torch.stack(totals).sum(0)
    if axis is None:
        return torch.cat([total, total.new_full((1,), -1)])
    hit = torch.cat(units) if axis == 0 else torch.stack(units).any(0)
    return torch.cat([total, hit.to(torch.uint8).argmax().reshape(1)])


def square(tensor: Tensor) -> float | None:
    """Sum of squares of a small tensor, read at its address: from cold, torch takes five times as long.

    ``None`` where there are many values, or not float32 side by side in this machine's memory.
    """
    number, address = tensor.numel(), tensor.data_ptr()
    if (
        number > SMALL or tensor.dtype is not torch.float32 or not tensor.is_cpu
        or tensor.__class__ not in PLAIN or not tensor.is_contiguous() or address < LOW
    ):  # fmt: skip
        return None
    values = _values(address, number)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(values.dot(values))


@lru_cache(64)
def _values(address: int, number: int) -> np.ndarray:
    """So many float32 values at an address; it holds nothing of them."""
    memory: Any = (ctypes.c_float * number).from_address(address)
    return np.frombuffer(memory, np.float32)


def held(hook: ForwardHook) -> list[Seen]:
    """Parameters and buffers of a layer."""
    named = [*hook.module.named_parameters(), *hook.module.named_buffers()]
    return [
        Seen(hook.name, "weight", name, t.numel(), flags(t, 0 if t.dim() else None))
        for name, t in only_readable(named)
    ]


def only_readable(found: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Those with real floating values of their own."""
    for path, tensor in found:
        if readable(tensor):
            yield path, tensor


def readable(tensor: Tensor) -> bool:
    """Whether it is a plain tensor with real floating values of its own."""
    return (
        type(tensor) in PLAIN
        and tensor.is_floating_point()
        and tensor.layout == torch.strided
        and not tensor.is_meta
        and not tensor.is_nested
        and tensor.numel() > 0
        and present(tensor)
    )


def read(seen: Iterable[Seen]) -> None:
    """Fetch all flags, one transfer per device."""
    by_device: dict[torch.device, list[Seen]] = {}
    for one in seen:
        if one.flags is not None:
            by_device.setdefault(one.flags.device, []).append(one)
    for group in by_device.values():
        values = torch.stack([s.flags for s in group if s.flags is not None]).tolist()
        for one, value in zip(group, values, strict=True):
            count = Count(*value)
            one.count = count if count.bad else FINE
