"""Slots for samples, and the one operation that fills them.

A :class:`Tap` is a site's end of the pipe: it knows where the values lie in tensors of the
shape that it saw last (a :class:`Plan`) and which slot comes next. Slots are rows of a
:class:`Slab`, shared by the sites of one geometry, so that the core measures all of them in
one call. Everything is allocated before it is written, on the tensor's device; writing
needs no allocation, no synchronisation and no graph.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from shiftwatch.activations import Flat, flat_of
from shiftwatch.integrations.torch.modules import axis_of
from shiftwatch.records import Site
from shiftwatch.sampling import BLOCK, chosen, fractions, geometry, offsets
from shiftwatch.source import Group

#: Optimizer steps between two takes.
RING = 8
#: Rows that one site may fill in one step; of further calls a uniform choice is kept.
CALLS = 4
#: Rows that a slab may grow to.
ROWS = RING * CALLS
#: Sets of random positions, used in turn.
TURNS = 8
# Shapes whose positions are remembered.
_PLANS = 128


class Unseeable(Exception):
    """A tensor that cannot be sampled; its text says why."""


class Plan:
    """Where the sampled values lie in tensors of one shape and layout.

    Args:
        shape, stride: of the tensors.
        contiguous: whether they lie in memory in their own order.
        index: per turn, int32 or int64[positions * units] on the device; made when needed.
    """

    __slots__ = (
        "axis",
        "block",
        "contiguous",
        "device",
        "index",
        "shape",
        "span",
        "stride",
        "units",
    )

    def __init__(self, tensor: Tensor, axis: int | None, units: int) -> None:
        self.shape, self.stride = tensor.shape, tensor.stride()
        self.contiguous = tensor.is_contiguous()
        if self.contiguous:  # strides of axes of size 1 may be anything
            self.stride = torch.empty(tensor.shape, device="meta").stride()
        self.span = (1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True)),)
        self.axis, self.device = axis, tensor.device
        self.units = chosen(1 if axis is None else self.shape[axis], units)
        # Units side by side in memory share positions, and with them cache lines.
        self.block = BLOCK if axis is not None and self.stride[axis] == 1 else 1
        self.index: list[Tensor | None] = [None] * TURNS

    def build(self, turn: int, fraction: np.ndarray) -> Tensor:
        where = offsets(fraction, self.shape, self.stride, self.axis, self.units).reshape(-1)
        kind = np.int32 if self.span[0] < 2**31 else np.int64
        with torch.inference_mode(False):
            index = torch.from_numpy(where.astype(kind)).to(self.device)
        self.index[turn] = index
        return index


class Kind(NamedTuple):
    """What sites must share to lie in one slab."""

    positions: int
    units: int
    activation: str
    tensor: str
    mode: str
    dtype: torch.dtype
    device: torch.device


class Slab:
    """Samples of all sites of one kind: float32[rows, sites, positions, units]."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.taps: list[Tap] = []
        self.rows = RING
        self.flat: Flat | None = flat_of(kind.activation) if kind.activation else None
        wide = kind.dtype == torch.float64
        self.values = self._empty(0, torch.float64 if wide else torch.float32)
        # Half precision goes through an own-typed copy: index_select converts nothing.
        self.direct = kind.dtype == self.values.dtype
        self.tiny = 0.0 if wide or self.direct else torch.finfo(kind.dtype).tiny

    def add(self, tap: Tap) -> None:
        self.taps.append(tap)
        tap.place = len(self.taps) - 1
        if tap.place >= self.values.shape[1]:
            self._resize(self.rows, max(4, 2 * tap.place))
        else:
            self._hand_out(tap)

    def grow(self) -> bool:
        """Twice the rows; False where there are as many as there may be."""
        if self.rows >= ROWS:
            return False
        self._resize(2 * self.rows, self.values.shape[1])
        return True

    def trim(self) -> None:
        """Drop the columns that nobody uses; when no row is filled."""
        self.taps = [t for t in self.taps if t.slab is self]
        for place, tap in enumerate(self.taps):
            tap.place = place
        if len(self.taps) != self.values.shape[1]:
            self._resize(self.rows, len(self.taps))
        else:
            for tap in self.taps:
                self._hand_out(tap)

    def energy(self, generation: int, out: np.ndarray, seen: np.ndarray) -> None:
        """Write the mean square of each site's newest row, where it is of this generation."""
        taps = [t for t in self.taps if t.generation == generation and t.column >= 0 and t.row]
        if not taps:
            return
        columns = [t.column for t in taps]
        rows = [t.row - 1 for t in taps]
        values = self.values.numpy() if self.values.device.type == "cpu" else None
        if values is None:  # waits for the device; a later version reads one step late
            values = self.values[: max(rows) + 1].cpu().numpy()
        if len(taps) == values.shape[1] and rows.count(rows[0]) == len(rows):
            x = values[rows[0]]
        else:
            x = values[rows, [t.place for t in taps]]
        with np.errstate(over="ignore", invalid="ignore"):
            out[columns] = np.einsum("spu,spu->s", x, x) / (x.shape[1] * x.shape[2])
        seen[columns] = True

    def take(self, steps: dict[int, int], grouped: list[Group]) -> None:
        """Append what is recorded, sites with equally many rows together, and start anew.

        ``steps`` maps generations to optimizer steps; rows of others are dropped.
        """
        taps = [t for t in self.taps if t.row and t.column >= 0]
        counts = sorted({t.row for t in taps})
        host = self.values[: counts[-1]].cpu().numpy() if counts else None
        for count in counts:
            same = [t for t in taps if t.row == count]
            assert host is not None
            everybody = len(same) == host.shape[1]
            step = np.array([[steps.get(g, -1) for g in t.generations] for t in same])
            tiny = None
            if self.tiny:
                tiny = np.full(len(same), self.tiny)
            grouped.append(
                Group(
                    sites=np.array([t.column for t in same], np.int64),
                    values=host[:count] if everybody else host[:count, [t.place for t in same]],
                    steps=np.ascontiguousarray(step.T),
                    flat=self.flat,
                    tiny=tiny,
                )
            )
        for tap in self.taps:
            tap.row = 0
            tap.generations.clear()

    def _empty(self, sites: int, dtype: torch.dtype) -> Tensor:
        with torch.inference_mode(False):  # else nobody could write to it outside that mode
            return torch.zeros(
                self.rows, sites, self.kind.positions, self.kind.units,
                dtype=dtype, device=self.kind.device,
            )  # fmt: skip

    def _resize(self, rows: int, sites: int) -> None:
        old = self.values
        self.rows = rows
        self.values = self._empty(sites, old.dtype)
        kept = min(sites, old.shape[1])
        with torch.inference_mode(False), torch.no_grad():
            self.values[: old.shape[0], :kept] = old[:, :kept]
        for tap in self.taps:
            self._hand_out(tap)

    def _hand_out(self, tap: Tap) -> None:
        with torch.inference_mode(False):
            tap.slots = [row.view(-1) for row in self.values[:, tap.place].unbind(0)]


class Shop:
    """Slabs by kind, plans by shape, and the random positions they share."""

    def __init__(self) -> None:
        self.slabs: dict[Kind, Slab] = {}
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._fractions: dict[tuple[int, int, int, int], np.ndarray] = {}
        self.random = random.Random(0)
        self.crowded = False
        self.changed = False

    def slab(self, kind: Kind) -> Slab:
        if kind not in self.slabs:
            self.slabs[kind] = Slab(kind)
        self.changed = True
        return self.slabs[kind]

    def plan(self, tensor: Tensor, axis: int | None, positions: int, units: int) -> Plan:
        key = (tensor.shape, tensor.stride(), axis, positions, units, tensor.device)
        found = self._plans.get(key)
        if found is None:
            found = self._plans[key] = Plan(tensor, axis, units)
            if len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(key)
        return found

    def fraction(self, positions: int, units: int, turn: int, block: int) -> np.ndarray:
        key = (positions, units, turn, block)
        if key not in self._fractions:
            rng = np.random.default_rng((positions, units, turn))
            self._fractions[key] = fractions(positions, units, rng, block)
        return self._fractions[key]

    def tidy(self) -> None:
        """Slabs without spare columns; when no row is filled."""
        if self.changed:
            for kind, slab in list(self.slabs.items()):
                slab.trim()
                if not slab.taps:
                    del self.slabs[kind]
            self.changed = False


class Tap:
    """A site's samples: where the next goes, and of which steps the earlier ones are."""

    __slots__ = (
        "activation", "axis", "calls", "column", "generation", "generations", "place", "plan",
        "row", "shop", "site", "slab", "slots", "wish",
    )  # fmt: skip

    def __init__(self, shop: Shop, site: Site, axis: int | str, activation: str = "") -> None:
        self.shop, self.site, self.axis, self.activation = shop, site, axis, activation
        self.column = -1  # given out by the monitor after the step
        self.plan: Plan | None = None
        self.slab: Slab | None = None
        self.slots: Sequence[Tensor] = ()
        self.place = self.row = self.calls = 0
        self.wish = (0, 0)  # most positions that a tensor could fill, at so many units
        self.generation = -1
        self.generations: list[int] = []

    def record(self, tensor: Tensor, generation: int) -> None:
        """Gather a sample of ``tensor`` into the next slot.

        Cost: 3 µs where the values are in the cache, 8 to 50 where they are not.
        """
        plan = self.plan
        if (
            plan is None
            or plan.shape != tensor.shape
            or not (tensor.is_contiguous() if plan.contiguous else plan.stride == tensor.stride())
        ):
            plan = self._replan(tensor)
            if plan is None:
                return
        if self.generation == generation:
            row = self._again()
            if row < 0:
                return
        else:
            self.generation = generation
            self.calls = 1
            row = self._next()
            if row < 0:
                return
        turn = (generation + self.calls) % TURNS
        index = plan.index[turn]
        slab = self.slab
        assert slab is not None
        if index is None:
            index = plan.build(turn, self.shop.fraction(*slab.kind[:2], turn, plan.block))
        # .data is the cheapest alias without a graph. It is only read.
        flat = tensor.data
        flat = flat.view(-1) if plan.contiguous else flat.as_strided(plan.span, (1,))
        try:
            if slab.direct:
                torch.index_select(flat, 0, index, out=self.slots[row])
            else:
                self.slots[row].copy_(torch.index_select(flat, 0, index))
        except RuntimeError:
            if slab.kind.dtype == tensor.dtype and slab.kind.device == tensor.device:
                raise
            self.leave()  # its type or device changed: from the next call on, elsewhere
            return
        if row == self.row:
            self.row = row + 1
            self.generations.append(generation)

    def leave(self) -> None:
        """Give up the slab, and what this site recorded in it since the last take."""
        self.plan = self.slab = None
        self.generation = -1
        self.row = 0
        self.generations.clear()
        self.shop.changed = True

    def settle(self) -> None:
        """Look for a larger slab where the first tensors were too small; after a take."""
        if self.slab is not None and self.wish[0] > self.slab.kind.positions:
            self.leave()

    def _next(self) -> int:
        row = self.row
        if row + CALLS >= ROWS:
            self.shop.crowded = True
        if row >= len(self.slots):
            assert self.slab is not None
            if not self.slab.grow():
                return -1
        return row

    def _again(self) -> int:
        """Slot of a further call in the same step: a new one, or by chance a used one."""
        self.calls += 1
        if self.calls <= CALLS:
            return self._next()
        drawn = int(self.shop.random.random() * self.calls)
        return self.row - CALLS + drawn if drawn < CALLS <= self.row else -1

    def _replan(self, tensor: Tensor) -> Plan | None:
        if tensor.numel() == 0:
            return None
        refuse(tensor)
        if self.slab is not None:
            kind = self.slab.kind
            if kind.dtype != tensor.dtype or kind.device != tensor.device:
                self.leave()
        axis = axis_of(self.axis, tensor)
        positions, units = geometry(tensor.shape, axis)
        if self.slab is None:
            if units == self.wish[1]:
                positions = max(positions, self.wish[0])
            self.wish = (positions, units)
            self.slab = self.shop.slab(
                Kind(
                    positions, units, self.activation,
                    self.site.tensor, self.site.mode, tensor.dtype, tensor.device,
                )
            )  # fmt: skip
            self.slab.add(self)
        kind = self.slab.kind
        if units == self.wish[1] and positions > self.wish[0]:
            self.wish = (positions, units)
        self.plan = self.shop.plan(tensor, axis, kind.positions, kind.units)
        return self.plan


def refuse(tensor: Tensor) -> None:
    """Raise :class:`Unseeable` for tensors without plain values of their own."""
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        raise Unseeable(f"it is a {type(tensor).__name__}, not a plain tensor")
    if tensor.layout != torch.strided:
        raise Unseeable(f"its layout is {tensor.layout}, and only dense tensors are sampled")
    if tensor.is_meta:
        raise Unseeable("it is on the meta device and holds no values")
    if tensor.is_quantized:
        raise Unseeable("it is quantized")
    if tensor.dim() == 0:
        raise Unseeable("it is a single number, which has no distribution")
