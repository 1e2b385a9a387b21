"""Slots for samples, and the one operation that fills them.

A :class:`Tap` is a site's end of the pipe: it knows where the values lie in tensors of the
shape that it saw last (a :class:`Plan`) and where its slot is. The newest samples of all
sites of one kind lie side by side on a :class:`Slab`; when the step ends, their means and
deviations are taken in one pass, and a share of the steps is kept for the histograms.
Everything is allocated before it is written; nothing here waits, or builds a graph.
"""

from __future__ import annotations

import copy
import ctypes
import random
import threading
from collections import OrderedDict
from collections.abc import Container, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from shiftwatch.activations import flat_of
from shiftwatch.course import Course
from shiftwatch.integrations.torch.lanes import Lanes
from shiftwatch.integrations.torch.modules import axis_of
from shiftwatch.integrations.torch.nested import PLAIN, WHOLE
from shiftwatch.records import IDS, Site
from shiftwatch.sampling import BLOCK, WIDEST, chosen, early, fractions, geometry, offsets
from shiftwatch.sampling import IDS as FEW
from shiftwatch.source import Group

#: Steps of which one take keeps whole samples.
RING = 8
#: Calls of one site that are sampled in one step; of further calls a uniform choice is kept.
CALLS = 4
#: Rows that a slab may grow to.
ROWS = RING * CALLS
#: Sets of random positions, used in turn.
TURNS = 8
# Shapes whose positions are remembered, and addresses at which such a tensor was seen.
_PLANS, _VIEWS = 128, 64

#: How NumPy reads the types that tensors come in; half precision is widened after the gather.
RAW: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(np.uint16),
}
#: The same of ids. Beyond 2**24 they are rounded, and neighbours look alike.
RAW_IDS = {kind: np.dtype(str(kind).removeprefix("torch.")) for kind in WHOLE}


def widened(raw: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Values as they lie in memory, as numbers: float32 for half precision.

    Example:
        >>> widened(np.array([0x3FC0], np.uint16), torch.bfloat16)
        array([1.5], dtype=float32)
    """
    if dtype is torch.bfloat16:  # the upper half of a float32
        return np.left_shift(raw, 16, dtype=np.uint32).view(np.float32)
    return raw.astype(np.float32) if dtype is torch.float16 else raw


#: Addresses of memory lie above; below, what a tensor says may be counted from nowhere.
LOW = 1 << 40


def present(tensor: Tensor) -> bool:
    """Whether the memory of a dense tensor is there: storages can be let go of under their tensors.

    PyTorch itself does not ask, and reads on. Cost: 0.5 µs.

    Example:
        >>> rows = torch.ones(4, 3)[1:]
        >>> present(rows)
        True
        >>> _ = rows.untyped_storage().resize_(0)
        >>> present(rows)
        False
    """
    if not torch._C._has_storage(tensor):  # as on devices that only promise values
        return True
    if tensor.is_contiguous():
        span = tensor.numel()
    else:
        span = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.untyped_storage().nbytes() >= (tensor.storage_offset() + span) * tensor.itemsize


def elsewhere(tensor: Tensor) -> torch.device | None:
    """The device that a tensor lies on; ``None`` for this machine's memory."""
    return None if tensor.is_cpu else tensor.device


GONE = "its memory was let go of before it could be looked at"


def different(values: np.ndarray) -> int:
    """How many of the first samples begin in different ways.

    Args:
        values: [samples, ids].

    Cost: 3 µs.

    Example:
        >>> different(np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 2.0]]))
        2
    """
    return len({row.tobytes() for row in values[:BLOCK, :BLOCK]})


class Unseeable(Exception):
    """A tensor that cannot be sampled; its text says why."""


class Plan:
    """Where the sampled values lie in tensors of one shape, layout and type in this machine's memory.

    Samples are read through NumPy at the tensor's address: a torch operation costs three times as much,
    most of it before the first value is touched.
    """

    __slots__ = (
        "_index",
        "_near",
        "_raw",
        "_run",
        "_views",
        "_window",
        "axis",
        "block",
        "contiguous",
        "dtype",
        "kind",
        "shape",
        "shop",
        "stride",
        "units",
    )

    def __init__(self, shop: Shop, tensor: Tensor, axis: int | None, kind: tuple[int, int]) -> None:
        self.shop, self.kind = shop, kind
        self.shape, self.stride, self.dtype = tensor.shape, tensor.stride(), tensor.dtype
        self.contiguous = tensor.is_contiguous()
        if self.contiguous:  # strides of axes of size 1 may be anything
            self.stride = torch.empty(tensor.shape, device="meta").stride()
        span = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        self.axis = axis
        real = tensor.is_floating_point()
        self.units = (chosen if real else early)(1 if axis is None else self.shape[axis], kind[1])
        # Units side by side in memory share positions, and with them cache lines. Ids are to tell
        # samples apart, and share them wherever they lie.
        self._near = axis is not None and self.stride[axis] == 1
        self.block = BLOCK if self._near or not (real or axis is None) else 1
        self._raw = (RAW if real else RAW_IDS)[tensor.dtype]
        self._window: Any = ctypes.c_byte * (span * self._raw.itemsize)
        self._run = self.block if self._blocks() else 1
        self._index: list[np.ndarray | None] = [None] * TURNS
        self._views: dict[int, np.ndarray] = {}  # by address

    def fits(self, tensor: Tensor) -> bool:
        """Whether the values of this tensor lie where the plan looks for them."""
        return (
            tensor.shape == self.shape
            and tensor.dtype is self.dtype
            and tensor.is_cpu
            and (tensor.is_contiguous() if self.contiguous else tensor.stride() == self.stride)
            and not tensor.is_neg()
            and tensor.__class__ in PLAIN
        )

    def read(self, tensor: Tensor, turn: int, slot: np.ndarray) -> None:
        """Gather a sample of a tensor that fits into ``slot``."""
        index = self._index[turn]
        if index is None:
            index = self._build(turn)
        address = tensor.data_ptr()
        values = self._views.get(address)
        if values is None:
            if address < LOW and address == tensor.storage_offset() * self._raw.itemsize:
                if not tensor._is_zerotensor():  # gradients known to be zero have no memory
                    raise Unseeable(GONE)
                slot.fill(0.0)
                return
            values = self._view(address)
        if self._run > 1:
            slot = slot.reshape(-1, self._run)
        if self._raw is slot.dtype:
            values.take(index, 0, slot, "clip")
        else:
            slot[:] = widened(values.take(index, 0), self.dtype)

    def where(self, turn: int) -> np.ndarray:
        """Offsets of the sampled values: int64[values]."""
        fraction = self.shop.fraction(*self.kind, turn, self.block)
        index = offsets(fraction, self.shape, self.stride, self.axis, self.units)
        return np.ascontiguousarray(index.reshape(-1), np.intp)

    def _blocks(self) -> bool:
        """Whether every block of units lies side by side, a whole number of blocks from the first.

        Such a block is gathered as one: a sixteenth of the index, and one look at memory.
        """
        if self.axis is None or not self._near:
            return False
        if self.units.size % self.block or self.shape[self.axis] % self.block:
            return False
        steps = (s for i, s in enumerate(self.stride) if i != self.axis and self.shape[i] > 1)
        near = self.units.reshape(-1, self.block) % self.block == np.arange(self.block)
        return bool(near.all()) and not any(s % self.block for s in steps)

    def _view(self, address: int) -> np.ndarray:
        """The values of a tensor at this address, by blocks where these are gathered."""
        kind = self._raw if self._run == 1 else np.dtype((self._raw, self._run))
        values = np.frombuffer(self._window.from_address(address), kind)
        if len(self._views) >= _VIEWS:
            self._views.clear()
        self._views[address] = values
        return values

    def _build(self, turn: int) -> np.ndarray:
        found = self.where(turn)
        if self._run > 1:
            found = np.ascontiguousarray(found[:: self._run] // self._run)
        self._index[turn] = found
        return found


class Kind(NamedTuple):
    """What sites must share to lie on one slab: they are seen in the same steps, are of one
    length, and lie on one device (``None``: in this machine's memory). Ids are kept as they are,
    and not measured: they are categories.
    """

    length: int
    gradient: bool
    mode: str
    wide: bool
    device: torch.device | None = None
    ids: bool = False


class Slab:
    """The latest samples of all sites of a kind, and those that are kept.

    ``stage`` holds the steps since the last :meth:`settle`, float32[calls, RING, sites, length];
    ``ring`` what is kept of them, float32[rows, sites, length], of the steps ``when``,
    int64[rows, sites].
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.taps: list[Tap] = []
        self.type = np.dtype(np.float64 if kind.wide else np.float32)
        self.stage: Any = np.zeros((1, RING, 0, kind.length), self.type)
        #: Per call and row of the stage, the places that were written to.
        self.fresh: list[list[list[int]]] = [[[] for _ in range(RING)]]
        self.ring = self.spare = np.zeros((RING, 0, kind.length), self.type)
        self.when = np.full((RING, 0), -1, np.int64)
        self.fill = np.zeros(0, np.int64)
        self.columns = np.zeros(0, np.int64)

    @property
    def always(self) -> bool:
        """Whether all samples are kept: those that are seen in turns."""
        return self.kind.gradient or self.kind.mode == "eval"

    def add(self, tap: Tap) -> None:
        """A place for a tap."""
        self.taps.append(tap)
        tap.place = len(self.taps) - 1
        if tap.place >= self.stage.shape[2]:
            self._resize(max(4, 2 * tap.place))
        self.columns[tap.place] = tap.column
        self._give(tap)

    def unscale(self, row: int, scale: Any) -> None:
        """Divide what one step left; ``scale`` may be a tensor."""
        for stage, fresh in zip(self.stage, self.fresh, strict=True):
            stage[row, fresh[row]] /= scale
        for tap in self.taps:
            if tap.tiny and tap.plan is not None:
                tap.tiny = torch.finfo(tap.plan.dtype).tiny / scale

    def deepen(self) -> None:
        """Room for one more call of every site."""
        sites = self.stage.shape[2]
        self._remake(len(self.stage) + 1, range(sites), sites)
        self.fresh.append([[] for _ in range(RING)])
        self._hand_out()

    def energy(self, row: int, out: np.ndarray) -> None:
        """Write the mean square of each site in one step; -Inf where a value is NaN.

        Of ids, how many of a few samples differ.
        """
        fresh = self.fresh[0][row]
        if self.kind.ids:
            for place in fresh:
                values = self.stage[0, row, place].reshape(self.taps[place].geometry)
                out[self.columns[place]] = different(values)
        elif fresh:
            at: Any = slice(0, len(self.taps)) if len(fresh) == len(self.taps) else fresh
            x = self.stage[0, row, at]
            square = np.einsum("ij,ij->i", x, x)
            square[np.isnan(square)] = -np.inf
            columns = self.columns[at]
            out[columns] = square / x.shape[1]  # columns of -1 go to the last place: a spare

    def settle(
        self, rows: list[int], steps: np.ndarray, kept: np.ndarray, course: Course | None
    ) -> bool:
        """Measure some steps, and keep a share of them.

        Args:
            rows: of the stage.
            steps: int64[rows], their steps.
            kept: bool[rows], whether whole samples are kept.
            course: where the readings go; it has begun those steps. ``None`` for nowhere.

        Returns:
            Whether room for what is kept runs out.
        """
        crowded = False
        course = None if self.kind.ids else course
        for call, fresh in enumerate(self.fresh):
            counts = [len(fresh[row]) for row in rows]
            if not any(counts):
                continue
            every = min(counts) == len(self.taps) == self.stage.shape[2]
            if every and rows == list(range(rows[0], rows[0] + len(rows))):
                block = self.stage[call, rows[0] : rows[0] + len(rows)]
                lines = block.reshape(-1, self.kind.length)
                time = np.repeat(np.arange(len(rows)), len(self.taps))
                place = np.tile(np.arange(len(self.taps)), len(rows))
            else:
                time = np.repeat(np.arange(len(rows)), counts)
                place = np.array([p for row in rows for p in fresh[row]])
                lines = self.stage[call, np.array(rows)[time], place]
            if course is not None:
                course.add(time, self.columns[place], lines)
            chosen = kept[time]
            if chosen.any():
                which = slice(None) if chosen.all() else np.flatnonzero(chosen)
                crowded |= self.keep(steps[time[which]], place[which], lines[which])
            for row in rows:
                fresh[row].clear()
        return crowded

    def take(self, grouped: list[Group]) -> None:
        """Append what is kept, sites of one geometry together, and start anew."""
        rows = int(self.fill.max(initial=0))
        alike: dict[tuple[Any, ...], list[int]] = {}
        for tap in self.taps if rows else ():
            if tap.slab is self and tap.column >= 0 and self.fill[tap.place]:
                key = tap.geometry, tap.activation, tap.tiny
                alike.setdefault(key, []).append(tap.place)
        for (shape, activation, tiny), places in alike.items():
            all_of_them = len(places) == self.ring.shape[1]
            values = self.ring[:rows] if all_of_them else self.ring[:rows, places]
            grouped.append(
                Group(
                    sites=self.columns[places],
                    values=values.reshape(rows, len(places), *shape),
                    steps=self.when[:rows, places],
                    flat=flat_of(activation) if activation else None,
                    tiny=np.full(len(places), tiny) if tiny else None,
                    ids=self.kind.ids,
                )
            )
        if rows:  # what was handed out is read while the next samples come in
            spare, self.spare = self.spare, self.ring
            self.ring = spare if spare.shape == self.ring.shape else np.zeros_like(self.ring)
        self.when[:] = -1
        self.fill[:] = 0
        for tap in self.taps:
            if tap.left:
                tap.leave()

    def trim(self) -> None:
        """Drop the places that nobody uses; when nothing is kept."""
        used = [t.place for t in self.taps if t.slab is self]
        self.taps = [self.taps[place] for place in used]
        for fresh in (row for call in self.fresh for row in call):
            fresh[:] = [used.index(place) for place in fresh if place in used]
        self._remake(len(self.stage), used, len(used))
        self.ring = self.ring[:, used].copy()
        self.when, self.fill = self.when[:, used].copy(), self.fill[used]
        self.columns = self.columns[used]
        for place, tap in enumerate(self.taps):
            tap.place = place
        self._hand_out()

    def keep(self, steps: np.ndarray, places: np.ndarray, lines: np.ndarray) -> bool:
        """Put lines, in order of time, on the next free rows of their places."""
        order = np.argsort(places, kind="stable")
        start = np.searchsorted(places[order], places)  # of each line's place, in that order
        rank = np.empty(len(places), np.int64)
        rank[order] = np.arange(len(places))
        row = self.fill[places] + rank - start
        most = int(row.max()) + 1
        if most > ROWS:  # more than anybody asked for: the rest is in the course
            fits = row < ROWS
            row, places, lines, steps = row[fits], places[fits], lines[fits], steps[fits]
            most = ROWS
        while most > len(self.ring):
            self.ring = np.concatenate([self.ring, np.zeros_like(self.ring)])
            self.when = np.concatenate([self.when, np.full_like(self.when, -1)])
        self.ring[row, places], self.when[row, places] = lines, steps
        self.fill += np.bincount(places, minlength=len(self.fill))
        return most + RING > ROWS

    def _resize(self, sites: int) -> None:
        def wider(table: np.ndarray, axis: int, value: float = 0) -> np.ndarray:
            shape = list(table.shape)
            shape[axis] = sites - shape[axis]
            return np.concatenate([table, np.full(shape, value, table.dtype)], axis=axis)

        self._remake(len(self.stage), range(self.stage.shape[2]), sites)
        self.ring = wider(self.ring, 1)
        self.when, self.fill = wider(self.when, 1, -1), wider(self.fill, 0)
        self.columns = wider(self.columns, 0, -1)
        self._hand_out()

    def _remake(self, calls: int, places: Sequence[int], sites: int) -> None:
        """A stage for so many calls and sites, with what lies at these places of the old one."""
        old, stage = self.stage, np.zeros((calls, RING, sites, self.kind.length), self.type)
        stage[: len(old), :, : len(places)] = old[:, :, list(places)]
        self.stage = stage

    def _hand_out(self) -> None:
        for tap in self.taps:
            if tap.slab is self:
                self._give(tap)

    def _give(self, tap: Tap) -> None:
        tap.slots = [list(call[:, tap.place]) for call in self.stage]
        tap.first = tap.slots[0]
        tap.fresh = self.fresh[0]


class Shop:
    """Slabs by kind, plans by shape, and the random positions they share.

    Attributes:
        generation: number of the present step.
        row: of the stage, where it is written.
        turn: which random positions it takes.
        crowded: whether room for kept samples runs out.
        lanes: the ways home from devices; none where all is in this machine's memory.
        lock: held where places are given out, for a model may be called in several threads.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.slabs: dict[Kind, Slab] = {}
        self.lanes = Lanes()
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._fractions: dict[tuple[int, int, int, int], np.ndarray] = {}
        self.random = random.Random(0)
        self.generation = self.row = self.turn = 0
        self.crowded = False
        self.changed = False
        self._closed: list[tuple[int, int, bool]] = []  # row, step, kept; not settled yet

    def unscale(self, scale: Any) -> None:
        """Divide the gradients of the present step by the scale of the loss."""
        for slab in self.slabs.values():
            if slab.kind.gradient:
                slab.unscale(self.row, scale)

    def forget_gradients(self) -> None:
        """Drop the gradients of the steps before this one that are not settled yet."""
        for slab in self.slabs.values():
            for fresh in slab.fresh if slab.kind.gradient else ():
                for row, places in enumerate(fresh):
                    if row != self.row:
                        places.clear()

    def slab(self, kind: Kind) -> Slab:
        if kind not in self.slabs:
            self.slabs[kind] = _device().slab(kind, self.lanes) if kind.device else Slab(kind)
        self.changed = True
        return self.slabs[kind]

    def plan(self, tensor: Tensor, axis: int | None, kind: tuple[int, int]) -> Plan:
        key = (tensor.shape, tensor.stride(), tensor.dtype, tensor.device, axis, kind)
        found = self._plans.get(key)
        if found is None:
            kind_of = _device().DevicePlan if elsewhere(tensor) else Plan
            found = self._plans[key] = kind_of(self, tensor, axis, kind)
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

    def energy(self, sites: int) -> np.ndarray:
        """Mean square of the newest step's forward samples: float64[sites], NaN where not seen."""
        out = np.full(sites + 1, np.nan)
        if self._closed:
            row = self._closed[-1][0]
            for slab in self.slabs.values():
                if slab.kind.mode == "train" and not slab.kind.gradient:
                    slab.energy(row, out)
        return out[:-1]

    def close(self, step: int, keep: bool) -> bool:
        """End a step; whether it is time to settle."""
        self._closed.append((self.row, step, keep))
        self.row = (self.row + 1) % RING
        self.generation += 1
        self.turn = (self.generation + self.generation // TURNS) % TURNS
        return len(self._closed) == RING

    def keep(self) -> None:
        """Keep the whole samples of the step that was closed last."""
        if self._closed:
            self._closed[-1] = (*self._closed[-1][:2], True)

    @property
    def waiting(self) -> int:
        """Steps that are closed and not settled."""
        return len(self._closed)

    def settle(self, course: Course) -> None:
        """Measure the closed steps. Gradients are seen in turns, and always kept."""
        if not self._closed:
            return
        rows, steps, kept = self.drop()
        for slab in self.slabs.values():
            share = np.array(kept) | slab.always
            self.crowded |= slab.settle(rows, np.array(steps), share, course)
        self._rewind()

    def drop(self) -> tuple[list[int], list[int], list[bool]]:
        """Rows, steps and turns to be kept of what is closed; it is somebody else's from here on."""
        rows, steps, kept = (list(column) for column in zip(*self._closed, strict=True))
        self._closed.clear()
        return rows, steps, kept

    def _rewind(self) -> None:
        """Start at the first row again, where nothing lies in the present one."""
        if not any(f[self.row] for slab in self.slabs.values() for f in slab.fresh):
            self.row = 0

    def settle_evaluation(self, step: int) -> None:
        """Keep what an evaluation after ``step`` left."""
        for slab in self.slabs.values():
            if slab.kind.mode == "eval":
                slab.settle([self.row], np.array([step]), np.ones(1, bool), None)

    def tidy(self) -> None:
        """Slabs without spare places; when nothing is kept."""
        if self.changed:
            for kind, slab in list(self.slabs.items()):
                slab.trim()
                if not slab.taps:
                    del self.slabs[kind]
            self.changed = False


class Tap:
    """A site's sample: where the next goes."""

    __slots__ = (
        "activation", "axis", "calls", "column", "first", "fresh", "generation", "geometry", "left",
        "place", "plan", "shop", "site", "slab", "slots", "tiny", "wish",
    )  # fmt: skip

    def __init__(self, shop: Shop, site: Site, axis: int | str, activation: str = "") -> None:
        self.shop, self.site, self.axis, self.activation = shop, site, axis, activation
        self.column = -1  # given out by the monitor after the step
        self.plan: Plan | None = None
        self.slab: Slab | None = None
        self.slots: list[list[np.ndarray]] = []  # per call and row
        self.first: list[np.ndarray] = []  # those of the first call
        self.fresh: list[list[int]] = []
        self.place = self.calls = 0
        self.left = False  # whether this stands for what the site left behind when it moved
        self.geometry = (0, 0)  # positions and units of the slot
        self.wish = (0, 0)  # most positions that a tensor could fill, at so many units
        self.tiny = 0.0
        self.generation = -1

    def record(self, tensor: Tensor) -> None:
        """Gather a sample of ``tensor`` into the slot of this step.

        Cost: 3 µs where code and values are in the cache, 7 where they are not.
        """
        plan = self.plan
        if plan is None or not plan.fits(tensor):
            if tensor.numel() == 0:
                return
            refuse(tensor, RAW_IDS if self.site.part == IDS else RAW)
            tensor = tensor.detach().resolve_neg()
            with self.shop.lock:
                plan = self._replan(tensor)
            if plan is None:
                return
        shop = self.shop
        if self.generation == shop.generation:
            self._record_again(tensor, plan)
            return
        row = shop.row
        self.generation = shop.generation  # first, for reading lets other threads run
        self.calls = 1
        try:
            plan.read(tensor, shop.turn, self.first[row])
        except BaseException:
            self.generation = -1
            raise
        self.fresh[row].append(self.place)

    def enrol(self, column: int) -> None:
        """The monitor gave out a column."""
        self.column = column
        if self.slab is not None:
            self.slab.columns[self.place] = column

    def leave(self) -> None:
        """Give up the slab, and what this site left there since the last take."""
        if self.slab is not None:
            self.slab.columns[self.place] = -1
        self.plan = self.slab = None
        self.generation = -1
        self.shop.changed = True

    def move(self) -> None:
        """Go on on another slab; what this site left since the last take stays and is taken."""
        behind = copy.copy(self)
        behind.left = True
        if self.slab is not None:
            self.slab.taps[self.place] = behind
        self.plan = self.slab = None
        self.generation = -1

    def settle(self) -> None:
        """Look for another slab where this one does not suit any more; after a take."""
        if self.slab is not None:
            small = self.wish[0] > self.geometry[0]  # the first tensors were
            if small or self.slab.kind.mode != self.site.mode:
                self.leave()

    def _record_again(self, tensor: Tensor, plan: Plan) -> None:
        """A further call in the same step: into a new slot, or by chance into a used one."""
        shop, slab = self.shop, self.slab
        assert slab is not None
        self.calls += 1
        call = self.calls - 1
        if call >= CALLS:
            call = int(shop.random.random() * self.calls)
            if call >= CALLS:
                return
        if call >= len(self.slots):
            with shop.lock:
                while call >= len(self.slots):
                    slab.deepen()
        plan.read(tensor, (shop.turn + self.calls) % TURNS, self.slots[call][shop.row])
        if self.calls <= CALLS:
            slab.fresh[call][shop.row].append(self.place)

    def _replan(self, tensor: Tensor) -> Plan | None:
        wide = tensor.dtype == torch.float64
        device = elsewhere(tensor)
        if device is not None and self.shop.lanes.recording(device):
            return None
        if self.slab is not None and (self.slab.kind.wide, self.slab.kind.device) != (wide, device):
            self.move()
        axis, ids = axis_of(self.axis, tensor), self.site.part == IDS
        positions, units = geometry(tensor.shape, axis, widest=FEW if ids else WIDEST)
        if self.slab is None:
            if units == self.wish[1]:
                positions = max(positions, self.wish[0])
            self.wish = self.geometry = positions, units
            gradient, mode = self.site.tensor == "gradient", self.site.mode
            self.slab = self.shop.slab(Kind(positions * units, gradient, mode, wide, device, ids))
            self.slab.add(self)
        if units == self.wish[1] and positions > self.wish[0]:
            self.wish = (positions, units)
        if tensor.dtype.itemsize < 4 and not ids:
            self.tiny = float(torch.finfo(tensor.dtype).tiny)
        self.plan = self.shop.plan(tensor, axis, self.geometry)
        return self.plan


def _device() -> Any:
    """What is needed for tensors on a device alone."""
    from shiftwatch.integrations.torch import device

    return device


def refuse(tensor: Tensor, types: Container[torch.dtype] = RAW) -> None:
    """Raise :class:`Unseeable` for tensors without plain values of their own, of these types."""
    if type(tensor) not in PLAIN:
        raise Unseeable(f"it is a {type(tensor).__name__}, not a plain tensor")
    if tensor.is_nested:
        raise Unseeable("it is a nested tensor that is not jagged (layout=torch.jagged)")
    if tensor.layout != torch.strided:
        raise Unseeable(f"its layout is {tensor.layout}, and only dense tensors are sampled")
    if tensor.is_meta:
        raise Unseeable("it is on the meta device and holds no values")
    if tensor.is_quantized:
        raise Unseeable("it is quantized")
    if tensor.dim() == 0:
        raise Unseeable("it is a single number, which has no distribution")
    if tensor.dtype not in types:
        raise Unseeable(
            f"its type is {tensor.dtype}, and only real floats of 16, 32 and 64 bits are sampled"
        )
    if not present(tensor):
        raise Unseeable(GONE)
