"""Parameters: the same few hundred values of each, before and after every optimizer step.

The values lie on a fixed walk through memory, so one call copies those of all parameters.
Their difference over the optimizer's step is the update; a difference between one step's
end and the next one's start is a change that no optimizer made.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from shiftwatch.course import Course
from shiftwatch.integrations.torch.lanes import Lanes
from shiftwatch.integrations.torch.modules import Watched
from shiftwatch.integrations.torch.nested import PLAIN
from shiftwatch.integrations.torch.slab import GONE, RAW, RING, elsewhere, present, widened
from shiftwatch.records import Site
from shiftwatch.sampling import RUN, WEIGHTS, lattice
from shiftwatch.source import Group

#: Samples as the core sees them; smaller parameters are repeated to fill them.
POSITIONS, UNITS = 4, WEIGHTS // 4
#: An element counts as an outlier from this many times the sample's 99.9 % quantile.
OUTLIER = 20.0
# Full scans of one parameter that find nothing before they become rare, and how rare.
# Foreign writes that are judged at once; those that go on are part of the training.
_URGENT = 16
_PATIENCE, _SELDOM = 8, 64
# What lies at an address: after a change of type or size another parameter may lie where one was.
_SIZE, _TYPE = attrgetter("nbytes"), attrgetter("dtype")


class Owned(NamedTuple):
    """A parameter: the site's layer and part, and where the module keeps it."""

    layer: str
    part: str
    module: nn.Module
    key: str

    @property
    def name(self) -> str:
        """As a person knows it."""
        return f"{self.layer}.{self.part or self.key}"

    @property
    def parameter(self) -> Tensor | None:
        held = self.module._parameters  # in TorchScript no dict
        return held[self.key] if self.key in held else None

    @property
    def values(self) -> Tensor | None:
        """The part of it that lies in this process."""
        return local(self.parameter)

    @property
    def gradient(self) -> Tensor | None:
        """That of the same part."""
        parameter = self.parameter
        return None if parameter is None else local(parameter.grad)


def local(tensor: Tensor | None) -> Tensor | None:
    """This process's part of a tensor that several hold together; any other as it is."""
    return getattr(tensor, "_local_tensor", tensor)


def owned(found: list[Watched], everything: list[Watched], whole: bool) -> list[Owned]:
    """Parameters of the watched modules, each once; of the others too if ``whole``.

    Part ``""`` is the one called ``weight``, else the largest. A container's own parameter
    is a layer by itself, under its dotted name.
    """
    listed: list[Owned] = []
    seen: set[int] = set()
    inside: set[int] = set()
    for name, module in found:
        held = []
        for path, inner in module.named_modules():
            inside.add(id(inner))
            held += [
                (f"{path}.{key}".lstrip("."), inner, key, p)
                for key, p in inner._parameters.items()
                if p is not None
            ]
        fresh = [h for h in held if id(h[3]) not in seen]
        seen.update(id(h[3]) for h in fresh)
        sizes = {h[0]: 0 if is_lazy(h[3]) else h[3].numel() for h in held}
        first = "weight" if "weight" in sizes else max(sizes, key=lambda k: sizes[k], default="")
        listed += [Owned(name, "" if p == first else p, m, k) for p, m, k, _ in fresh]
    for name, module in everything if whole else ():
        for key, p in module._parameters.items():
            if p is not None and id(p) not in seen and id(module) not in inside:
                seen.add(id(p))
                listed.append(Owned(f"{name}.{key}".lstrip("."), "", module, key))
    return listed


_GONE = nn.Identity()  # holds no parameters


def heir(own: Owned) -> Owned:
    """Where a parameter lies now that has another name, as pruning and parametrizations give it."""
    module, key = own.module, own.key
    if module is not _GONE and own.parameter is None:
        for other in (f"{key}_orig", key.removesuffix("_orig")):  # nn.utils.prune
            if module._parameters.get(other) is not None:
                return own._replace(key=other)
        inner: Any = getattr(module, "parametrizations", {})
        if key in inner and inner[key]._parameters.get("original") is not None:
            return own._replace(module=inner[key], key="original")
    return own


class Shelf:
    """Samples of parameters of one type in this machine's memory: float[parameters, values].

    One gather reads all of them: as places in memory counted from the parameter that lies lowest.
    Every place read is inside a parameter that its module holds.
    """

    #: Where the parameters lie; ``None`` for this machine's memory.
    device: torch.device | None = None

    def __init__(self, members: list[int], held: list[Tensor]) -> None:
        self.members = np.array(members, np.int64)
        self.dtype = held[0].dtype
        self._raw = RAW[self.dtype]
        self.counts = np.zeros(len(held), np.int64)
        self._reach(held)
        wide = np.float64 if self.dtype == torch.float64 else np.float32
        self.before, self.after = np.zeros((2, RING, len(held), WEIGHTS), wide)
        self.last = np.zeros((len(held), WEIGHTS), wide)  # the end of the step before
        self.moved = np.zeros_like(self.last)  # the newest update
        self.shapes = [p.shape for p in held]
        self.continued = False

    def _reach(self, held: list[Tensor]) -> None:
        """Find the way to the values."""
        size = self._raw.itemsize
        low = min(p.data_ptr() for p in held)
        high = max(p.data_ptr() + p.numel() * size for p in held)
        walks = []
        for i, p in enumerate(held):
            places, stride, run = lattice(p.shape)
            walk = (np.arange(places)[:, None] * stride + np.arange(run)).ravel()
            self.counts[i] = walk.size
            walks.append(walk[spread(walk.size)] + (p.data_ptr() - low) // size)
        self._index = np.concatenate(walks).astype(np.intp)
        self._probe = self._index.reshape(-1, WEIGHTS)[:, :RUN].ravel()
        memory: Any = (ctypes.c_byte * (high - low)).from_address(low)
        self._values = np.frombuffer(memory, self._raw)
        self._expected = b""

    def same(self, other: Shelf) -> bool:
        """Whether the other one holds the same values of the same parameters."""
        return (
            self.device == other.device
            and self.dtype == other.dtype
            and np.array_equal(self.members, other.members)
            and self.shapes == other.shapes
        )

    def continues(self, other: Shelf) -> None:
        """Take over what the other one read."""
        self.continued = True
        self.before, self.after = other.before, other.after
        self.last, self.moved = other.last, other.moved

    def untouched(self) -> bool:
        """Whether a few values of each parameter are what they were."""
        return self._values.take(self._probe).tobytes() == self._expected

    def read(self, table: np.ndarray, row: int) -> None:
        """The values as they are now, into a row of ``before`` or ``after``."""
        out = table[row]
        if self._raw == out.dtype:
            self._values.take(self._index, out=out.reshape(-1), mode="clip")
        else:
            out[:] = widened(self._values.take(self._index), self.dtype).reshape(out.shape)

    def expect(self, now: np.ndarray) -> None:
        """The values, just read as ``now``, are as they should be when they are asked for next."""
        same = self._raw == now.dtype
        self._expected = (now[:, :RUN] if same else self._values.take(self._probe)).tobytes()


def spread(count: int) -> np.ndarray:
    """Which of so many values are read: all, some of them once more, far apart."""
    whole, rest = divmod(WEIGHTS, count)
    more = np.arange(rest) * count // max(rest, 1)
    return np.concatenate([np.tile(np.arange(count), whole), more]).astype(np.intp)


class Step(NamedTuple):
    """What happened to the weights in one step.

    Attributes:
        moved: whether there is an update.
        began: whether an optimizer was about to step.
        read: whether the weights were read then; else they are those of the step before.
        known: whether what lay before the step is known.
        suspect: float64[parameters], outliers found by a scan.
    """

    moved: bool
    began: bool
    read: bool
    known: bool
    suspect: np.ndarray


class Weights:
    """All parameters of a model, sampled at fixed places.

    Cost per step: two gathers of 256 values per parameter, each of all parameters at once,
    and three looks at each parameter's address and version: 2 µs per parameter.
    """

    def __init__(self, listed: list[Owned], update: bool, lanes: Lanes | None = None) -> None:
        self.listed = listed
        self.lanes = Lanes() if lanes is None else lanes
        self.away = 0  # rings that were read, and are on their way home from a device …
        self.sent = 0  # … and rows of the newest of them
        self.update = update
        self.weight_columns = np.full(len(listed), -1, np.int64)
        self.update_columns = np.full(len(listed), -1, np.int64)
        self.shelves: list[Shelf] = []
        self._homes = _homes(listed)  # of those that can be read
        self._held: list[Tensor] = []  # what lay there at the latest look
        self.pointers: list[int] = []
        self._extents: list[Any] = []
        self.versions: list[int] = []
        self.have_last = False  # whether the end of the step before was read
        self.have_before = False
        self.steps: list[Step] = []  # read, and not settled yet
        self.newest = -1  # step of `last`; -1 where nothing was read since the last take
        self.newest_moved = -1  # step of `moved`
        self.tampered: list[np.ndarray] = []
        self.touched = False  # whether another hand changed a weight since the last settling
        self._written = False  # whether it wrote to one in this step
        self._read = False  # whether the start of this step was read
        self.urged = 0
        self.suspect = np.zeros(len(listed))
        self.largest = np.full(len(listed), np.nan)
        self.scans = np.zeros(len(listed), np.int64)
        self.dark: dict[int, str] = {}
        self.sharded = False  # whether this process holds parts of parameters
        self.fresh = False  # whether there may be sites without a column

    # --- at the optimizer's step -----------------------------------------------------------

    def begin(self) -> None:
        """The optimizer is about to step: note where it starts."""
        if self.have_before:
            return
        self._look(scan=True)
        row = len(self.steps)
        quiet = self.have_last and row > 0 and not self._written
        if not (quiet and all(shelf.untouched() for shelf in self.shelves)):
            self._read = True
            for shelf in self.shelves:
                shelf.read(shelf.before, row)
                if self.have_last and shelf.device is None:
                    self.touched |= not _equal(shelf.before[row], self._latest(shelf))
        self.have_before = bool(self.shelves)

    def stepped(self) -> None:
        """The optimizer has stepped: changes from here on are somebody else's."""
        try:
            self.versions = list(map(_VERSION, self._held))
        except RuntimeError:  # inference tensors have none
            self.versions = [_version(p) for p in self._held]

    def end(self, stepped: bool | None) -> None:
        """The step is over: read.

        Args:
            stepped: whether an optimizer stepped; ``None`` where none was ever seen.
        """
        self._look(scan=stepped is not None)  # else every change looks like somebody else's
        row = len(self.steps)
        for shelf in self.shelves:
            shelf.read(shelf.after, row)
            shelf.expect(shelf.after[row])
        unknown = stepped is None or not self.have_last or (stepped and not self.have_before)
        moved = self.have_before or (stepped is None and self.have_last)
        self.steps.append(Step(moved, self.have_before, self._read, not unknown, self.suspect))
        self._read = False
        self.suspect = np.zeros(len(self.listed))
        self.have_last, self.have_before, self._written = True, False, False

    def settle(self, steps: Sequence[int], course: Course | None) -> None:
        """Measure what was read, and find what changed without the optimizer.

        Args:
            steps: int[rows], of what was read.
            course: where the readings go; it has begun those steps.
        """
        self.measure(steps, course, self.steps, [(s, s.before, s.after) for s in self.shelves])
        self.steps.clear()
        self.touched = False

    def measure(
        self, steps: Sequence[int], course: Course | None, read: list[Step],
        tables: Sequence[tuple[Shelf, np.ndarray, np.ndarray]],
    ) -> None:  # fmt: skip
        """The same of what was read into these tables: a shelf, its ``before``, its ``after``."""
        number = len(read)
        time = np.arange(number)
        found = np.full((number, len(self.listed)), np.nan)
        moved = np.array([s.moved for s in read], bool)
        for shelf, starts, ends in tables if number else ():
            after = ends[:number]
            before = np.concatenate([shelf.last[None], after[:-1]])
            # No optimizer: the step is all that changed. One that skipped: nothing did.
            start = before.copy()
            for row, step in enumerate(read):
                if step.read:
                    start[row] = starts[row]
                if step.known:
                    now = start[row] if step.began else after[row]
                    found[row, shelf.members] = _relative(now, before[row])
            weights, updates = (
                c[shelf.members] for c in (self.weight_columns, self.update_columns)
            )
            _enter(course, time, weights, after)
            if self.update and moved.any():
                difference = after[moved] - start[moved]
                _enter(course, time[moved], updates, difference)
                shelf.moved = difference[-1]
            shelf.last = after[-1].copy()
        for row, step in enumerate(read):
            if step.known:
                found[row] = np.fmax(found[row], step.suspect)
            self.tampered.append(found[row])
            self.urged += bool((found[row] > 0).any())
            self.newest = int(steps[row])
            self.newest_moved = self.newest if step.moved else self.newest_moved
        if any(not _unsampled(self.listed[i].parameter) for i in self.dark):  # back again
            self.pointers = [-1]

    def inherit(self, old: Sequence[Shelf]) -> None:
        """What these shelves read was measured: those laid out anew since go on from there."""
        for shelf in self.shelves:
            if shelf not in old:
                elder = next((s for s in old if shelf.same(s)), None)
                if elder is None:  # nothing is known of it yet
                    self.newest = self.newest_moved = -1
                else:
                    shelf.last, shelf.moved = elder.last, elder.moved

    def forget(self, there: set[int]) -> list[Owned]:
        """Look no more at parameters of modules that are not ``there`` (ids); returns those."""
        lost = []
        for i, own in enumerate(self.listed):
            if id(own.module) not in there and own.module is not _GONE:
                lost.append(own)
                self.listed[i] = own._replace(module=_GONE)
                self.weight_columns[i] = self.update_columns[i] = -1
        self.pointers = []
        return lost

    def skip(self) -> None:
        """A step went by unwatched: what the weights were is not known any more."""
        self.have_last = self.have_before = False
        self.versions = []

    # --- for the monitor ---------------------------------------------------------------------

    @property
    def urgent(self) -> bool:
        """Whether a weight was just changed by another hand, and that is not the habit here."""
        return self.touched and self.urged < _URGENT

    def take(self, grouped: list[Group]) -> np.ndarray:
        """Append the newest samples; returns float64[steps, parameters], the tampering."""
        told = np.array(self.tampered).reshape(len(self.tampered), len(self.listed))
        for shelf in self.shelves:
            for values, columns, step in (
                (shelf.last, self.weight_columns, self.newest),
                (shelf.moved, self.update_columns, self.newest_moved),
            ):
                at = columns[shelf.members]
                known = at >= 0
                if step >= 0 and known.any():
                    x = values.reshape(1, -1, POSITIONS, UNITS)[:, known]
                    grouped.append(Group(at[known], x, np.full((1, len(x[0])), step)))
        self.newest = self.newest_moved = -1
        self.tampered.clear()
        return told

    def sites(self) -> Iterator[tuple[int, Site, bool]]:
        """Which sites there are by now: position, site, whether it is an update."""
        for i, own in enumerate(self.listed):
            if i in self.dark or not self.shelves:
                continue
            if self.weight_columns[i] < 0:
                yield i, Site(own.layer, "weight", own.part), False
            parameter = own.parameter
            trains = parameter is not None and parameter.requires_grad
            if self.update and trains and self.update_columns[i] < 0:
                yield i, Site(own.layer, "update", own.part), True

    # --- private -----------------------------------------------------------------------------

    def _latest(self, shelf: Shelf) -> np.ndarray:
        """What was read at the end of the step before."""
        if self.away and not self.steps:  # not measured yet, and not written over either
            return shelf.after[self.sent - 1]
        return shelf.after[len(self.steps) - 1] if self.steps else shelf.last

    def _look(self, scan: bool) -> None:
        """Where the parameters lie, and which were written to.

        Samples are laid out anew where a parameter was replaced, moved or resized.
        """
        try:
            held: list[Any] = [home[key] for home, key in self._homes]
            if self.sharded:
                held = [local(p) for p in held]
            pointers = list(map(_ADDRESS, held))
            extents = [*map(_SIZE, held), *map(_TYPE, held)]
            versions = list(map(_VERSION, held))
        except (AttributeError, TypeError, KeyError, RuntimeError):  # gone, or of another type
            held, pointers, extents, versions = [], [-1], [], []
        if pointers != self.pointers or extents != self._extents:
            self.pointers = [-1]  # until all is laid out, should it be interrupted
            held = self._lay_out()
            self._extents = [*map(_SIZE, held), *map(_TYPE, held)]
            self.pointers = [_pointer(p) for p in held]
            versions = [_version(p) for p in held]
        self._held = held
        if scan and len(versions) == len(self.versions) and versions != self.versions:
            self._scan(versions)
        self.versions = versions

    def _lay_out(self) -> list[Tensor | None]:
        """Samples of every parameter where it lies now; returns those that can be read."""
        self.dark, self.fresh = {}, True
        alike: dict[tuple[Any, ...], tuple[list[int], list[Tensor]]] = {}
        self.sharded = any(own.values is not own.parameter for own in self.listed)
        for i, own in enumerate(self.listed):
            own = self.listed[i] = heir(own)
            p = own.values
            reason = _unsampled(p)
            if p is None or reason:
                self.dark[i] = "" if own.module is _GONE else reason
                continue
            members, held = alike.setdefault((p.dtype, p.device), ([], []))
            members.append(i)
            held.append(p.detach())
        seen = [o for i, o in enumerate(self.listed) if i not in self.dark]
        self._homes = _homes(seen)
        old, self.shelves = self.shelves, []
        for members, held in alike.values():
            shelf = self._shelf(members, held)
            same = [s for s in old if s.same(shelf)]
            if same:  # moved, for example by a device or a swap: the values go on
                shelf.continues(same[0])
            self.shelves.append(shelf)
        if len(old) != len(self.shelves) or not all(s.continued for s in self.shelves):
            self.have_last = self.have_before = False
            self.newest = self.newest_moved = -1
            self.steps = [Step(False, False, False, False, s.suspect) for s in self.steps]
        return [o.values for o in seen]

    def _shelf(self, members: list[int], held: list[Tensor]) -> Shelf:
        device = elsewhere(held[0])
        if device is None:
            return Shelf(members, held)
        from shiftwatch.integrations.torch.device import DeviceShelf  # needed for devices alone

        return DeviceShelf(members, held, self.lanes.of(device))

    def _scan(self, versions: list[int]) -> None:
        """Read in full what somebody wrote to in place: one element is easily missed.

        A write through ``.data`` leaves no version behind and is seen in the sample or not
        at all.
        """
        self._written = True
        seen = [i for i in range(len(self.listed)) if i not in self.dark]
        for i, now, then in zip(seen, versions, self.versions, strict=True):
            if now != then:
                self.scans[i] += 1
                if self.scans[i] <= _PATIENCE or self.scans[i] % _SELDOM == 0:
                    self.suspect[i] = max(self.suspect[i], self._outlier(i))
                    self.touched |= bool(self.suspect[i] > 0)

    def _outlier(self, i: int) -> float:
        """Relative size of an outlier that was not there before; 0 if there is none."""
        p = self.listed[i].values
        shelf = next((s for s in self.shelves if i in s.members), None)
        if p is None or shelf is None or shelf.device is not None:  # reading it would wait
            return 0.0
        with torch.no_grad():
            largest = float(p.detach().abs().max())
            at = int(np.flatnonzero(shelf.members == i)[0])
            sample = np.abs(self._latest(shelf)[at, : shelf.counts[at]])
        usual = float(np.quantile(sample, 0.999))
        size = float(np.sqrt(np.mean(np.square(sample, dtype=np.float64))))
        before, self.largest[i] = self.largest[i], largest
        if not np.isfinite(largest):
            return float("inf") if np.isfinite(usual) else 0.0
        if largest <= OUTLIER * usual or largest <= before * 1.01:
            return 0.0
        self.scans[i] = 0
        return largest / (np.sqrt(p.numel()) * size) if size else 1.0


def _enter(
    course: Course | None, time: np.ndarray, columns: np.ndarray, values: np.ndarray
) -> None:
    """Put values [rows, parameters, values] into the course."""
    if course is not None:
        lines = values.reshape(-1, WEIGHTS)
        course.add(np.repeat(time, len(columns)), np.tile(columns, len(time)), lines)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _relative(now: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Rms of the change over rms of the weight, per parameter; 0 where nothing changed."""
    relative = np.zeros(len(now))
    if np.array_equal(now, last):
        return relative
    # NaN weights: equal ones are unchanged ones, new ones are as changed as can be.
    same = ((now == last) | (np.isnan(now) & np.isnan(last))).all(1)
    a, b = now[~same].astype(np.float64), last[~same].astype(np.float64)
    with np.errstate(all="ignore"):
        change, size = np.linalg.norm(a - b, axis=1), np.linalg.norm(b, axis=1)
        size = np.where(size > 0, size, np.linalg.norm(a, axis=1))
        ratio = change / np.maximum(size, np.finfo(np.float64).tiny)
    relative[~same] = np.where(np.isnan(ratio), np.inf, ratio)
    return relative


#: As functions that ``map`` calls without Python in between.
_ADDRESS: Any = Tensor.data_ptr
_VERSION: Any = Tensor._version.__get__  # type: ignore[attr-defined]


def _homes(listed: Sequence[Owned]) -> list[tuple[Mapping[str, Tensor | None], str]]:
    """Where modules keep their parameters: to look there costs less than to ask the module."""
    return [(o.module._parameters, o.key) for o in listed]


def _version(parameter: Tensor | None) -> int:
    if parameter is None or parameter.is_inference():
        return 0
    return parameter._version


def _pointer(parameter: Tensor | None) -> int:
    return parameter.data_ptr() if type(parameter) in PLAIN else 0  # type: ignore[union-attr]


def _unsampled(p: Tensor | None) -> str:
    """Why a parameter's memory cannot be walked through; ``""`` if it can."""
    if p is None:
        return (
            "the module has no such parameter any more. To see what took its place, watch() again"
        )
    if type(p) not in PLAIN:
        return f"it is a {type(p).__name__}"
    if p.is_nested:
        return "it is nested"
    if p.layout != torch.strided or p.dtype not in RAW or p.is_meta or not p.numel():
        return f"a {p.dtype} tensor of layout {p.layout} on {p.device} holds no plain values"
    if not present(p):
        return GONE
    if p.is_neg() or p.data_ptr() == p.storage_offset() * p.itemsize:  # counted from nowhere
        return "its values are not those in memory"
    if p.data_ptr() % p.dtype.itemsize:
        return "its values do not lie at whole addresses"
    expected = 1
    for stride, size in sorted(zip(p.stride(), p.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return "its values do not lie together in memory"
            expected *= size
    return ""
