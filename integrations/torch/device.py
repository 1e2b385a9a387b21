"""Tensors on a device: gathered there at each hook, and read here when they have come home.

Nothing waits. The steps of a ring are written to slots on the device; when it is full it is
sent home (:class:`Convoy`), and measured at the first step that finds it there. So what is
known of a step is known late: at the earliest when its ring is full, 1 to 8 steps after, and
at most 16 steps after as long as the device is no more than eight steps behind the host.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from shiftwatch.course import Course
from shiftwatch.integrations.torch.lanes import Lane, Lanes, Mirror, Span, Trip
from shiftwatch.integrations.torch.nested import PLAIN
from shiftwatch.integrations.torch.slab import RING, TURNS, Kind, Plan, Shop, Slab, Tap, different
from shiftwatch.integrations.torch.weights import Shelf, Step, Weights, spread
from shiftwatch.sampling import WEIGHTS, lattice

#: Rings that may be under way. Where a device is further behind, which takes graphs that are
#: replayed, the next ones are passed over: their steps count as not seen.
AHEAD = 8


class DevicePlan(Plan):
    """Where the sampled values lie in tensors on a device: one gather there, which nobody waits for."""

    __slots__ = ("_arriving", "_there", "device", "lane", "span")

    def __init__(self, shop: Shop, tensor: Tensor, axis: int | None, kind: tuple[int, int]) -> None:
        super().__init__(shop, tensor, axis, kind)
        self.device = tensor.device
        self.lane = shop.lanes.of(tensor.device)
        self.span = (1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True)),)
        self._there: list[Tensor | None] = [None] * TURNS
        self._arriving: dict[int, Any] = {}  # turn to what is over when its indices are there

    def fits(self, tensor: Tensor) -> bool:
        """Whether the values of this tensor lie where the plan looks for them, and may be read."""
        return (
            tensor.shape == self.shape
            and tensor.dtype is self.dtype
            and tensor.device == self.device
            and (tensor.is_contiguous() if self.contiguous else tensor.stride() == self.stride)
            and not tensor.is_neg()
            and tensor.__class__ in PLAIN
            and not self.lane.recording()
        )

    def read(self, tensor: Tensor, turn: int, slot: Any) -> None:
        """Gather a sample of a tensor that fits into ``slot``, float32 or float64 on the device."""
        index = self._there[turn]
        if index is None:
            index, sent = self.lane.upload(self.where(turn))
            self._there[turn] = index
            if sent is not None:
                self._arriving[turn] = sent
        elif turn in self._arriving and self.lane.after(self._arriving[turn][0]):
            del self._arriving[turn]  # from here on every stream finds them
        # .data is the cheapest alias without a graph. It is only read.
        flat = tensor.data.as_strided(self.span, (1,))
        if slot.dtype == self.dtype:
            torch.index_select(flat, 0, index, out=slot)
        else:
            slot.copy_(torch.index_select(flat, 0, index))


class DeviceSlab(Slab):
    """A slab whose stage lies on a device, twice: one half is written to, one goes home."""

    def __init__(self, kind: Kind, lane: Lane) -> None:
        super().__init__(kind)
        self.mirror = Mirror(lane, self.stage.shape, torch.float64 if kind.wide else torch.float32)
        self.stage = self.mirror.now
        self._lines: Any = ([], [])  # Tensors by half, place, call, row

    def unscale(self, row: int, scale: Any) -> None:
        """Divide what one step left; ``scale`` may be a tensor on the device."""
        if isinstance(scale, Tensor):  # of a loss on another device, perhaps
            scale = scale.to(self.stage.device, non_blocking=True)
        with torch.no_grad():
            self.stage[:, row] /= scale

    def energy(self, row: int, out: np.ndarray) -> None:
        """Not known before it comes home."""

    def turn(self) -> None:
        """The other half is written to from here on."""
        self.stage = self.mirror.now
        lines = self._lines[self.mirror.turn]
        for tap in self.taps:
            if tap.slab is self:
                tap.slots = lines[tap.place]
                tap.first = tap.slots[0]

    def _remake(self, calls: int, places: Any, sites: int) -> None:
        self.mirror = self.mirror.remade((calls, RING, sites, self.kind.length), places)
        self.stage = self.mirror.now

    def _hand_out(self) -> None:
        with torch.inference_mode(False):
            self._lines = tuple(
                [
                    [list(call[:, place].unbind(0)) for call in half]
                    for place in range(half.shape[2])
                ]
                for half in self.mirror.pair
            )
        super()._hand_out()

    def _give(self, tap: Tap) -> None:
        tap.slots = self._lines[self.mirror.turn][tap.place]
        tap.first = tap.slots[0]
        tap.fresh = self.fresh[0]


def slab(kind: Kind, lanes: Lanes) -> DeviceSlab:
    """A slab for sites on a device."""
    assert kind.device is not None
    return DeviceSlab(kind, lanes.of(kind.device))


class DeviceShelf(Shelf):
    """Samples of parameters on a device: copied there, and read when they have come home."""

    def __init__(self, members: list[int], held: list[Tensor], lane: Lane) -> None:
        self.lane = lane
        super().__init__(members, held)

    def _reach(self, held: list[Tensor]) -> None:
        self.device = held[0].device
        walks = [lattice(p.shape) for p in held]
        self.counts[:] = [places * run for places, _, run in walks]
        self._way = np.stack([spread(count) for count in self.counts.tolist()])
        wide = torch.float64 if self.dtype == torch.float64 else torch.float32
        with torch.inference_mode(False):
            sources = [
                p.as_strided((places, run), (stride, 1))
                for p, (places, stride, run) in zip(held, walks, strict=True)
            ]
            self.mirror = Mirror(self.lane, (2, RING, len(held), WEIGHTS), wide)
            self._newest = torch.zeros((len(held), WEIGHTS), dtype=wide, device=self.device)
            targets = [
                line[: source.numel()].view(source.shape)
                for line, source in zip(self._newest.unbind(0), sources, strict=True)
            ]
        # Those in one piece are copied by one kernel, unless they are mixed with others.
        whole = [i for i, source in enumerate(sources) if source.is_contiguous()]
        parts = [i for i, source in enumerate(sources) if not source.is_contiguous()]
        self._copies = [
            ([targets[i] for i in some], [sources[i] for i in some])
            for some in (whole, parts)
            if some
        ]

    def continues(self, other: Shelf) -> None:
        """Take over what the other one read."""
        super().continues(other)
        assert isinstance(other, DeviceShelf)
        self.mirror = other.mirror

    def untouched(self) -> bool:
        """Not known before the values have come home."""
        return False

    def read(self, table: np.ndarray, row: int) -> None:
        """The values as they are now, on the device."""
        with torch.no_grad():
            for targets, sources in self._copies:
                torch._foreach_copy_(targets, sources)
            self.mirror.now[int(table is self.after), row].copy_(self._newest)

    def expect(self, now: np.ndarray) -> None:
        """Not asked for."""

    def tables(self, came: np.ndarray) -> tuple[Shelf, np.ndarray, np.ndarray]:
        """What has come home, [2, rows, parameters, values], as the tables of a shelf."""
        before, after = (np.take_along_axis(table, self._way[None], axis=2) for table in came)
        return self, before, after


class Load(NamedTuple):
    """One slab's part of a shipment, as it was when that was sent."""

    slab: Slab
    taps: list[Tap]  # by place
    fresh: list[list[list[int]]]  # per call and row, places
    values: np.ndarray  # [calls, rows, sites, length]; filled once it has come home


class Shipment(NamedTuple):
    """Some steps on their way home."""

    trips: list[Trip]
    rows: list[int]
    steps: list[int]
    kept: list[bool]
    loads: list[Load]
    read: list[Step]  # by the weights
    shelves: list[tuple[Shelf, np.ndarray | None, np.ndarray, np.ndarray]]
    losses: np.ndarray  # float64[rows]; as values
    given: np.ndarray  # bool[rows]
    told: bool  # whether the readings go into the course: not those of an evaluation


class News(NamedTuple):
    """What a shipment brought.

    Attributes:
        energy: mean square of every output and input in its newest step, as in
            ``Source.energy``; -Inf where any of its steps holds NaN.
        since: the first of its steps with something not finite; -1 where there is none.
        crowded: whether room for kept samples runs out.
        broken: whether the newest loss is not finite; ``None`` where none was given.
    """

    energy: np.ndarray
    since: int
    crowded: bool
    broken: bool | None


class Convoy:
    """Ships rings home in the order of their steps, and unloads them as they arrive.

    Where anything lies on a device, all goes this way, also what lies in this machine's
    memory: a step is measured as a whole.

    Args:
        shop: whose slabs are sent.
        weights: a function that gives those to send with them; ``None`` for none.
    """

    def __init__(self, shop: Shop, weights: Callable[[], Weights | None]) -> None:
        self.shop, self._weights = shop, weights
        self._under_way: deque[Shipment] = deque()
        self._line: Mirror | None = None  # losses, [1, RING]
        self._given = np.zeros(RING, bool)
        self.losses: list[float] = []  # of the steps that came home; NaN where not given
        self.given: list[bool] = []

    @property
    def away(self) -> int:
        """Steps that are sent, and not measured."""
        return sum(len(s.steps) for s in self._under_way if s.told)

    def note(self, loss: Tensor) -> None:
        """The loss of the present step, a single number on a device."""
        lane = self.shop.lanes.of(loss.device)
        if lane.recording():
            self.shop.lanes.recorded = True
            return
        if self._line is None or self._line.lane is not lane:
            self._line = Mirror(lane, (1, RING), torch.float32)
            self._given[:] = False
        with torch.no_grad():
            self._line.now[0, self.shop.row].copy_(loss.detach().reshape(()))
        self._given[self.shop.row] = True

    def send(self, swap: bool = True) -> None:
        """Send what is closed.

        Args:
            swap: whether the other halves are written to from here on, and nothing of the
                present step lies in these. Else :meth:`arrive` is to wait, before anything is
                written to the slots.
        """
        rows, steps, kept = self.shop.drop()
        weights = self._weights()
        if swap and len(self._under_way) >= AHEAD:
            self._pass_over(rows, steps, kept, weights)
            return
        freight: list[tuple[Mirror, list[Span]]] = []
        if self._line is not None and self._given[rows].any():
            freight.append((self._line, [Span(0, 0, RING)]))
        shelves = weights.shelves if weights is not None and weights.steps else []
        number = len(weights.steps) if weights is not None else 0
        for shelf in shelves:
            if isinstance(shelf, DeviceShelf):
                freight.append((shelf.mirror, [Span(0, 0, number), Span(1, 0, number)]))
        self._go(rows, steps, kept, freight, weights, swap)

    def send_evaluation(self, step: int) -> None:
        """Send what an evaluation after ``step`` left. To be waited for."""
        slabs = [s for s in self.shop.slabs.values() if s.kind.mode == "eval"]
        self._go([self.shop.row], [step], [True], [], None, False, slabs)

    def arrive(self, course: Course, sites: int, wait: bool = False) -> News | None:
        """Measure what has come home; ``None`` where nothing has.

        Args:
            course: where the readings go.
            sites: how many there are.
            wait: for all that is under way.
        """
        news: News | None = None
        while self._under_way:
            first = self._under_way[0]
            if wait:
                for trip in first.trips:
                    trip.wait()
            elif not all(trip.over() for trip in first.trips):
                break
            self._under_way.popleft()
            new = self._unload(first, course, sites)
            if news is not None:
                since = news.since if news.since >= 0 else new.since
                worse = np.where(np.isinf(news.energy), news.energy, new.energy)
                broken = new.broken if news.broken is None else news.broken or new.broken
                new = News(worse, since, news.crowded or new.crowded, broken)
            news = new
        return news

    def take(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """The losses of the steps taken, float64[steps], and whether they were given, bool[steps]."""
        before = steps - len(self.losses)  # measured here, before there was a device
        losses = np.array([math.nan] * before + self.losses, np.float64)
        given = np.array([False] * before + self.given, bool)
        self.losses, self.given = [], []
        return losses, given

    # --- private -----------------------------------------------------------------------------

    def _pass_over(
        self, rows: list[int], steps: list[int], kept: list[bool], weights: Weights | None
    ) -> None:
        """Forget what these steps left: the device is so far behind that memory would run out."""
        for slab in self.shop.slabs.values():
            for call in slab.fresh:
                for row in rows:
                    call[row].clear()
        if weights is not None:
            weights.steps = []
            weights.skip()
        self._given[rows] = False
        nothing = np.full(RING, np.nan), np.zeros(len(rows), bool)
        self._under_way.append(Shipment([], rows, steps, kept, [], [], [], *nothing, True))

    def _go(
        self, rows: list[int], steps: list[int], kept: list[bool],
        freight: list[tuple[Mirror, list[Span]]], weights: Weights | None, swap: bool,
        slabs: list[Slab] | None = None,
    ) -> None:  # fmt: skip
        told = slabs is None
        going = []
        for slab in self.shop.slabs.values() if slabs is None else slabs:
            fresh = [[list(call[row]) for row in rows] for call in slab.fresh]
            if not any(any(call) for call in fresh):
                continue
            for call in slab.fresh:
                for row in rows:
                    call[row].clear()
            going.append((slab, fresh))
            if isinstance(slab, DeviceSlab):
                freight.append((slab.mirror, _spans(fresh, rows)))
        trips, came = self.shop.lanes.ship(freight, swap)
        loads = [
            Load(
                slab,
                list(slab.taps),
                fresh,
                came[id(slab.mirror)] if isinstance(slab, DeviceSlab) else slab.stage.copy(),
            )
            for slab, fresh in going
        ]
        read: list[Step] = []
        shelves: list[tuple[Shelf, np.ndarray | None, np.ndarray, np.ndarray]] = []
        if weights is not None and weights.steps:
            read, weights.steps, weights.touched = weights.steps, [], False
            weights.away, weights.sent = weights.away + 1, len(read)
            for shelf in weights.shelves:
                if isinstance(shelf, DeviceShelf):
                    shelves.append((shelf, came[id(shelf.mirror)], shelf.before, shelf.after))
                else:
                    shelves.append((shelf, None, shelf.before.copy(), shelf.after.copy()))
        losses, given = np.full(RING, np.nan), np.zeros(len(rows), bool)
        if told:
            given = self._given[rows].copy()
            if self._line is not None and given.any():
                losses = came[id(self._line)][0]
            self._given[rows] = False
        if swap:
            for slab, _ in going:
                if isinstance(slab, DeviceSlab):
                    slab.turn()
        self._under_way.append(
            Shipment(trips, rows, steps, kept, loads, read, shelves, losses, given, told)
        )

    def _unload(self, one: Shipment, course: Course, sites: int) -> News:
        energy, since, crowded = np.full(sites + 1, np.nan), math.inf, False
        if one.told:
            course.begin(len(one.steps), sites)
        for load in one.loads:
            more, broken = _unload(load, one, course if one.told else None, energy)
            crowded |= more
            since = min(since, broken)
        sour: bool | None = None
        weights = self._weights()
        if one.read and weights is not None:
            weights.away -= 1
            tables = [
                (shelf, before, after)
                if came is None or not isinstance(shelf, DeviceShelf)
                else shelf.tables(came[:, : len(one.read)])
                for shelf, came, before, after in one.shelves
            ]
            weights.measure(one.steps, course, one.read, tables)
            weights.inherit([shelf for shelf, *_ in one.shelves])
        if one.told:
            losses = np.where(one.given, one.losses[one.rows].astype(np.float64), np.nan)
            broken_at = np.flatnonzero(one.given & ~np.isfinite(losses))
            if broken_at.size:
                since = min(since, one.steps[int(broken_at[0])])
            if one.given.any():
                sour = not math.isfinite(losses[one.given][-1])
            self.losses += losses.tolist()
            self.given += one.given.tolist()
        for trip in one.trips:
            for mirror, host in zip(trip.mirrors, trip.hosts, strict=True):
                mirror.back(host)
        return News(energy[:-1], -1 if math.isinf(since) else int(since), crowded, sour)


def _spans(fresh: list[list[list[int]]], rows: list[int]) -> list[Span]:
    """The rows of each call that hold anything, from the first to the last of them."""
    spans = []
    for plane, call in enumerate(fresh):
        used = [row for row, places in zip(rows, call, strict=True) if places]
        if used:
            spans.append(Span(plane, min(used), max(used) + 1))
    return spans


def _unload(
    load: Load, one: Shipment, course: Course | None, energy: np.ndarray
) -> tuple[bool, float]:
    """Measure and keep a slab's part, and enter its mean squares into ``energy``.

    Returns:
        Whether room for what is kept runs out; the first step with something not finite.
    """
    slab, crowded, since = load.slab, False, math.inf
    # Places may have been given out anew since.
    now = np.array([t.place if t.slab is slab else -1 for t in load.taps], np.int64)
    course = None if slab.kind.ids else course
    forward = slab.kind.mode == "train" and not slab.kind.gradient
    share = np.array(one.kept) | slab.always
    for call, fresh in enumerate(load.fresh):
        time = np.repeat(np.arange(len(fresh)), [len(places) for places in fresh])
        then = np.array([p for places in fresh for p in places], np.int64)
        used = now[then] >= 0
        time, then = time[used], then[used]
        if not then.size:
            continue
        place = now[then]
        lines = load.values[call, np.array(one.rows)[time], then]
        columns = slab.columns[place]
        if course is not None:
            course.add(time, columns, lines)
        if forward and call == 0 and slab.kind.ids:
            newest = slab.taps[int(place[-1])]
            energy[newest.column] = different(lines[-1].reshape(newest.geometry))
        elif forward and call == 0:
            square = np.einsum("ij,ij->i", lines, lines) / lines.shape[1]
            bad = ~np.isfinite(square)
            energy[columns] = square  # in the order of time: the newest stays
            energy[columns[bad]] = np.where(np.isnan(square[bad]), -np.inf, np.inf)
            if bad.any():
                since = min(since, one.steps[int(time[bad].min())])
        chosen = np.flatnonzero(share[time])
        if chosen.size:
            steps = np.array(one.steps)[time[chosen]]
            crowded |= slab.keep(steps, place[chosen], lines[chosen])
    return crowded, since
