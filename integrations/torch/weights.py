"""Parameters: the same few hundred values of each, before and after every optimizer step.

The values lie on a fixed walk through memory, so one call copies those of all parameters.
Their difference over the optimizer's step is the update; a difference between one step's
end and the next one's start is a change that no optimizer made.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from shiftwatch.integrations.torch.modules import Watched
from shiftwatch.integrations.torch.slab import RING
from shiftwatch.records import Site
from shiftwatch.sampling import WEIGHTS, lattice
from shiftwatch.source import Group

#: Samples as the core sees them; smaller parameters are repeated to fill them.
POSITIONS, UNITS = 4, WEIGHTS // 4
#: An element counts as an outlier from this many times the sample's 99.9 % quantile.
OUTLIER = 20.0
# Full scans of one parameter that find nothing before they become rare, and how rare.
# Foreign writes that are judged at once; those that go on are part of the training.
_URGENT = 16
_PATIENCE, _SELDOM = 8, 64


class Owned(NamedTuple):
    """A parameter: the site's layer and part, and where the module keeps it."""

    layer: str
    part: str
    module: nn.Module
    key: str

    @property
    def parameter(self) -> Tensor | None:
        return self.module._parameters.get(self.key)


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
        sizes = {h[0]: prod(h[3].shape) for h in held}
        first = "weight" if "weight" in sizes else max(sizes, key=lambda k: sizes[k], default="")
        listed += [Owned(name, "" if p == first else p, m, k) for p, m, k, _ in fresh]
    for name, module in everything if whole else ():
        for key, p in module._parameters.items():
            if p is not None and id(p) not in seen and id(module) not in inside:
                seen.add(id(p))
                listed.append(Owned(f"{name}.{key}".lstrip("."), "", module, key))
    return listed


class Shelf:
    """Samples of parameters on one device, a row per step: float32[rows, parameters, values].

    The first ``RING`` rows hold what lies after the step; ``moved`` what it changed.
    """

    def __init__(
        self, members: list[int], shapes: list[tuple[int, int]], device: torch.device
    ) -> None:
        counts = [places * run for places, run in shapes]
        self.members, self.shapes = members, shapes
        self.count = np.array(counts)
        size = (RING, len(members), WEIGHTS)
        with torch.inference_mode(False):
            self.after = torch.zeros(size, device=device)
            self.moved = torch.zeros(size, device=device)
            self.before = torch.zeros(size[1:], device=device)
            self.last = torch.zeros(size[1:], device=device)
            self.counts = torch.tensor(counts, dtype=torch.float32, device=device)
        self.rows = [self._targets(self.after[r], shapes) for r in range(RING)]
        self.start = self._targets(self.before, shapes)
        self.sources: list[Tensor] = []
        self.short = {
            count: [i for i, c in enumerate(counts) if c == count]
            for count in set(counts) - {WEIGHTS}
        }

    @staticmethod
    def _targets(row: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
        return [
            line[: places * run].view(places, run)
            for line, (places, run) in zip(row.unbind(0), shapes, strict=True)
        ]

    def spread(self, values: Tensor) -> np.ndarray:
        """float32[rows, parameters, positions, units], short samples repeated."""
        host: np.ndarray = values.cpu().numpy()
        host = host.copy()
        for count, members in self.short.items():
            wrap = np.arange(WEIGHTS) % count
            host[:, members] = host[:, members][:, :, wrap]
        return host.reshape(*host.shape[:2], POSITIONS, UNITS)


class Weights:
    """All parameters of a model, sampled at fixed positions.

    Cost per step: two strided copies of 512 values per parameter in one call each, and one
    look at each parameter's address and version: about 2 µs per parameter.
    """

    def __init__(self, listed: list[Owned], update: bool) -> None:
        self.listed = listed
        self.update = update
        self.weight_columns = np.full(len(listed), -1, np.int64)
        self.update_columns = np.full(len(listed), -1, np.int64)
        self.shelves: list[Shelf] = []
        self.pointers: list[int] = []
        self.versions: list[int] = []
        self.row = 0
        self.generations: list[int] = []
        self.have_last = False  # whether `last` holds the end of the generation before
        self.have_before = False
        self.moves: list[bool] = []  # per row, whether `moved` was written
        self.tampered: list[np.ndarray | list[Tensor]] = []
        self.urged = 0
        self.suspect = np.zeros(len(listed))
        self.largest = np.full(len(listed), np.nan)
        self.scans = np.zeros(len(listed), np.int64)
        self.dark: dict[int, str] = {}
        self.fresh = False  # whether there may be sites without a column

    # --- at the optimizer's step -----------------------------------------------------------

    def begin(self) -> None:
        """The optimizer is about to step: note where it starts."""
        if self.have_before or self.row >= RING:
            return
        self._look(scan=True)
        self.have_before = self._gather([s.start for s in self.shelves])

    def stepped(self) -> None:
        """The optimizer has stepped: changes from here on are somebody else's."""
        self.versions = [_version(o.module._parameters.get(o.key)) for o in self.listed]

    def end(self, generation: int, stepped: bool | None) -> None:
        """The step is over. ``stepped`` is None where no optimizer was ever seen."""
        if self.row >= RING:
            return
        self._look(scan=stepped is not None)  # else every change looks like somebody else's
        row = self.row
        if not self._gather([s.rows[row] for s in self.shelves]):
            return
        self._judge(row, stepped)
        for shelf in self.shelves:
            shelf.last = shelf.after[row]
        self.generations.append(generation)
        self.row += 1
        self.have_last, self.have_before = True, False

    def skip(self) -> None:
        """A step went by unwatched: what the weights were is not known any more."""
        self.have_last = self.have_before = False
        self.versions = []

    # --- for the monitor ---------------------------------------------------------------------

    @property
    def urgent(self) -> bool:
        """Whether a weight was just changed by another hand, and that is not the habit here."""
        newest = self.tampered[-1] if self.tampered else None
        found = isinstance(newest, np.ndarray) and bool((newest > 0).any())
        return found and self.urged <= _URGENT

    def take(self, steps: dict[int, int], grouped: list[Group]) -> np.ndarray:
        """Append the samples; returns float64[rows, parameters], the tampering."""
        rows = self.row
        told = np.full((rows, len(self.listed)), np.nan)
        for r, found in enumerate(self.tampered):
            told[r] = found if isinstance(found, np.ndarray) else self._fetch(found)
        when = np.array([steps.get(g, -1) for g in self.generations], np.int64)
        for shelf in self.shelves if rows else ():
            for values, columns, there in (
                (shelf.after, self.weight_columns, np.ones(rows, bool)),
                (shelf.moved, self.update_columns, np.array(self.moves, bool)),
            ):
                at = columns[shelf.members]
                known = at >= 0
                if known.any() and there.any():
                    x = shelf.spread(values[:rows])
                    x = x if known.all() else x[:, known]
                    x = x if there.all() else x[there]
                    grouped.append(
                        Group(
                            sites=at[known],
                            values=x,
                            steps=np.repeat(when[there][:, None], int(known.sum()), 1),
                        )
                    )
        for shelf in self.shelves:
            if self.have_last:
                shelf.last = shelf.last.clone()  # its row is about to be used again
        self.row = 0
        self.generations.clear()
        self.moves.clear()
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

    def _gather(self, targets: list[list[Tensor]]) -> bool:
        with torch.no_grad():
            for shelf, target in zip(self.shelves, targets, strict=True):
                torch._foreach_copy_(target, shelf.sources)
        return bool(self.shelves)

    def _look(self, scan: bool) -> None:
        """Where the parameters lie, and which were written to.

        Samples are laid out anew where a parameter was replaced, moved or resized.
        """
        held = [o.module._parameters.get(o.key) for o in self.listed]
        pointers = [_pointer(p) for p in held]
        if pointers != self.pointers:
            self._lay_out()
            self.pointers = pointers
        versions = [_version(p) for p in held]
        if scan and self.versions and versions != self.versions:
            self._scan(versions)
        self.versions = versions

    def _lay_out(self) -> None:
        """Samples of every parameter where it lies now, on the device where it lies."""
        self.dark, self.fresh = {}, True
        shelves_at: dict[torch.device, tuple[list[int], list[tuple[int, int]], list[Tensor]]] = {}
        for i, own in enumerate(self.listed):
            p = own.parameter
            reason = _unsampled(p)
            if p is None or reason:
                self.dark[i] = reason
                continue
            places, stride, run = lattice(p.shape)
            members, shapes, sources = shelves_at.setdefault(p.device, ([], [], []))
            members.append(i)
            shapes.append((places, run))
            sources.append(p.data.as_strided((places, run), (stride, 1)))
        old = {tuple(s.members): s for s in self.shelves}
        shelves = []
        for device, (members, shapes, sources) in shelves_at.items():
            shelf = old.get(tuple(members))
            if shelf is None or shelf.before.device != device or shelf.shapes != shapes:
                shelf = Shelf(members, shapes, device)
                self._restart()
            shelf.sources = sources
            shelves.append(shelf)
        self.shelves = shelves

    def _restart(self) -> None:
        self.row = 0
        self.generations.clear()
        self.moves.clear()
        self.tampered.clear()
        self.have_last = self.have_before = False

    def _judge(self, row: int, stepped: bool | None) -> None:
        """The update of this step, and what changed without one."""
        told: list[Tensor] = []
        with torch.no_grad():
            for shelf in self.shelves:
                after, start = shelf.after[row], shelf.before
                if not self.have_before:
                    # No optimizer: the step is all that changed. One that skipped: nothing did.
                    start = shelf.last if stepped is None and self.have_last else after
                if self.update:
                    torch.sub(after, start, out=shelf.moved[row])
                now = shelf.before if self.have_before else after
                told.append(_relative(now, shelf.last))
        moved = self.have_before or (stepped is None and self.have_last)
        self.moves.append(moved)
        if stepped is None or not self.have_last or (stepped and not self.have_before):
            self.tampered.append(np.full(len(self.listed), np.nan))
        elif all(s.before.device.type == "cpu" for s in self.shelves):
            found = np.fmax(self._fetch(told), self.suspect)
            self.tampered.append(found)
            self.urged += bool((found > 0).any())
        else:
            self.tampered.append(told)
        self.suspect[:] = 0.0

    def _fetch(self, told: list[Tensor]) -> np.ndarray:
        found = np.full(len(self.listed), np.nan)
        for shelf, values in zip(self.shelves, told, strict=True):
            found[shelf.members] = values.cpu().numpy()
        return found

    def _scan(self, versions: list[int]) -> None:
        """Read in full what somebody wrote to in place: one element is easily missed.

        A write through ``.data`` leaves no version behind and is seen in the sample or not
        at all.
        """
        for i, (now, then) in enumerate(zip(versions, self.versions, strict=True)):
            if now != then and i not in self.dark:
                self.scans[i] += 1
                if self.scans[i] <= _PATIENCE or self.scans[i] % _SELDOM == 0:
                    self.suspect[i] = max(self.suspect[i], self._outlier(i))

    def _outlier(self, i: int) -> float:
        """Relative size of an outlier that was not there before; 0 if there is none."""
        p = self.listed[i].parameter
        shelf = next((s for s in self.shelves if i in s.members), None)
        if p is None or shelf is None:
            return 0.0
        with torch.no_grad():
            largest = float(p.detach().abs().max())
            sample = shelf.last[shelf.members.index(i)]
            sample = sample[: int(shelf.counts[shelf.members.index(i)])].cpu().abs()
            usual = float(torch.quantile(sample, 0.999))
            size = float((sample**2).mean().sqrt())
        before, self.largest[i] = self.largest[i], largest
        if not np.isfinite(largest):
            return float("inf") if np.isfinite(usual) else 0.0
        if largest <= OUTLIER * usual or largest <= before * 1.01:
            return 0.0
        self.scans[i] = 0
        return largest / (np.sqrt(p.numel()) * size) if size else 1.0


def _relative(now: Tensor, last: Tensor) -> Tensor:
    """Rms of the change over rms of the weight, per parameter; 0 where nothing changed."""
    if now.device.type == "cpu" and torch.equal(now, last):
        return torch.zeros(len(now))
    change = torch.linalg.vector_norm(now - last, dim=1)
    size = torch.linalg.vector_norm(last, dim=1)
    size = torch.where(size > 0, size, torch.linalg.vector_norm(now, dim=1))
    relative = change / size.clamp_min(torch.finfo(size.dtype).tiny)
    # NaN weights: equal ones are unchanged ones, new ones are as changed as can be.
    same = ((now == last) | (now.isnan() & last.isnan())).all(1)
    return torch.where(same, 0.0, torch.where(relative.isnan(), float("inf"), relative))


def _version(parameter: Tensor | None) -> int:
    if parameter is None or parameter.is_inference():
        return 0
    return parameter._version


def _pointer(parameter: Tensor | None) -> int:
    return parameter.data_ptr() if type(parameter) in (Tensor, nn.Parameter) else 0  # type: ignore[union-attr]


def _unsampled(p: Tensor | None) -> str:
    """Why a parameter's memory cannot be walked through; ``""`` if it can."""
    if p is None:
        return "the module has no such parameter any more"
    if type(p) not in (Tensor, nn.Parameter):
        return f"it is a {type(p).__name__}"
    if p.layout != torch.strided or p.is_meta or not p.is_floating_point() or not p.numel():
        return f"a {p.dtype} tensor of layout {p.layout} on {p.device} holds no plain values"
    expected = 1
    for stride, size in sorted(zip(p.stride(), p.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return "its values do not lie together in memory"
            expected *= size
    return ""
