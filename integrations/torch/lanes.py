"""The way home from a device: slots that exist twice there, and copies that nobody waits for.

A ring of steps is written to one half of a :class:`Mirror`. When it is full, a :class:`Lane`
copies it on a stream of its own into page-locked memory, and the next ring goes to the other
half. The host looks whether a copy is done; it never waits for one, except at the very end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

#: What a device's module must have for copies that nobody waits for.
_NEEDED = ("Stream", "Event", "current_stream", "stream")


def streams(device: torch.device) -> Any:
    """The module of a device's streams and events, such as ``torch.cuda``; ``None`` without.

    Without are CPUs, and MPS, which has events but no second stream: there a ring is copied
    while the host waits for it, once in eight steps.
    """
    module = getattr(torch, device.type, None)
    able = device.type not in ("cpu", "mps") and all(hasattr(module, n) for n in _NEEDED)
    return module if able else None


def recording(device: torch.device) -> Callable[[], bool]:
    """What tells whether the device's current stream is being recorded into a graph.

    What is launched then does not run now, and what Python does is not done again when the
    graph is replayed. To be asked only where a tensor lies on the device: it may start CUDA.
    """
    module = getattr(torch, device.type, None)
    found = getattr(module, "is_current_stream_capturing", None)
    return _never if found is None or device.type == "cpu" else found


def _never() -> bool:
    return False


class Span(NamedTuple):
    """Rows ``low`` to ``high`` of one plane of a mirror."""

    plane: int
    low: int
    high: int


class Mirror:
    """An array [planes, rows, ...] on a device, twice, and in page-locked memory.

    Attributes:
        pair: the two halves.
        turn: which is written to.
    """

    def __init__(self, lane: Lane, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.lane = lane
        with torch.inference_mode(False):  # else nobody could write to it outside that mode
            self.pair = [torch.zeros(shape, dtype=dtype, device=lane.device) for _ in range(2)]
        self.turn = 0
        self._free: list[Tensor] = []

    @property
    def now(self) -> Tensor:
        """The half that is written to."""
        return self.pair[self.turn]

    def remade(self, shape: tuple[int, ...], places: Sequence[int]) -> Mirror:
        """One of another shape [planes, rows, sites, ...], with what is at these sites of ``now``."""
        new = Mirror(self.lane, shape, self.now.dtype)
        if len(places) and shape[0]:
            old = self.now
            if list(places) == list(range(len(places))):
                kept = old[:, :, : len(places)]
            else:
                kept = old.index_select(2, self.lane.upload(np.array(places, np.int64))[0])
            planes = min(shape[0], old.shape[0])
            new.now[:planes, :, : len(places)].copy_(kept[:planes])
        return new

    def host(self) -> Tensor:
        """Memory for a copy, page-locked where that is possible; given back by :meth:`back`."""
        return self._free.pop() if self._free else self.lane.memory(self.now)

    def back(self, host: Tensor) -> None:
        """What lay in ``host`` has been read."""
        if len(self._free) < 2:
            self._free.append(host)


class Trip(NamedTuple):
    """A copy under way: of these mirrors, into these arrays, over with this event."""

    mirrors: list[Mirror]
    hosts: list[Tensor]
    done: Any

    def over(self) -> bool:
        """Whether the values are there; without waiting."""
        return self.done is None or bool(self.done.query())

    def wait(self) -> None:
        """Wait for this copy, and for what it needs, alone."""
        if self.done is not None:
            self.done.synchronize()


class Lane:
    """A stream of one device, beside the user's, for copies alone.

    Cost: two events and a copy per mirror and plane, once in a ring of steps; no synchronisation.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.recording = recording(device)
        self._api = streams(device)
        self._side: Any = self._api.Stream(device=device) if self._api is not None else None
        self._before: Any = None  # the end of the copy before: of the halves to write to next

    def ship(self, freight: Sequence[tuple[Mirror, Sequence[Span]]], swap: bool) -> Trip:
        """Copy these spans of the mirrors' present halves.

        Args:
            swap: whether the other halves are written to from here on. If not, the caller
                waits for the trip before anything is written.
        """
        mirrors = [mirror for mirror, _ in freight]
        hosts = [mirror.host() for mirror in mirrors]
        parts = [
            (host[plane, low:high], mirror.now[plane, low:high])
            for (mirror, spans), host in zip(freight, hosts, strict=True)
            for plane, low, high in spans
        ]
        done = None
        if self._api is None:
            for target, source in parts:
                target.copy_(source)
        else:
            current = self._api.current_stream(self.device)
            written = self._api.Event()
            written.record(current)
            self._side.wait_event(written)
            with self._api.stream(self._side):
                for target, source in parts:
                    target.copy_(source, non_blocking=True)
            done = self._api.Event()
            done.record(self._side)
            for mirror in mirrors:  # its memory is nobody else's before the copy is done
                mirror.now.record_stream(self._side)
            if swap and self._before is not None:
                self.after(self._before)
            self._before = done
        if swap:
            for mirror in mirrors:
                mirror.turn = 1 - mirror.turn
        return Trip(mirrors, hosts, done)

    def upload(self, values: np.ndarray) -> tuple[Tensor, Any]:
        """Values on the device, and what is over once they are there; ``None`` if they are.

        The current stream may use them at once, any other has to wait: :meth:`after`.
        """
        with torch.inference_mode(False):
            host = torch.from_numpy(np.ascontiguousarray(values))
            if self._api is None:
                return host.to(self.device), None
            locked = self.memory(host)
            locked.copy_(host)
            there = locked.to(self.device, non_blocking=True)
        sent = self._api.Event()
        sent.record(self._api.current_stream(self.device))
        return there, (sent, locked)  # that memory must not go before

    def download(self, values: Tensor) -> tuple[Tensor, Any]:
        """A few values on their way home, and what is over once they are there; ``None`` if they are."""
        host = self.memory(values)
        host.copy_(values, non_blocking=self._api is not None)
        if self._api is None:
            return host, None
        done = self._api.Event()
        done.record(self._api.current_stream(self.device))
        return host, done

    def after(self, event: Any) -> bool:
        """Have the current stream wait for an event that is not over; whether it is."""
        if event.query():
            return True
        self._api.current_stream(self.device).wait_event(event)
        return False

    def memory(self, like: Tensor) -> Tensor:
        """Host memory of this shape and type, page-locked where that is possible."""
        with torch.inference_mode(False):
            if self._api is not None:
                try:
                    return torch.empty(like.shape, dtype=like.dtype, device="cpu", pin_memory=True)
                except (RuntimeError, NotImplementedError):
                    pass  # the copy waits then, and is right
            return torch.empty(like.shape, dtype=like.dtype, device="cpu")


class Lanes:
    """A lane per device.

    Attributes:
        by_device: those that are used; empty in a run on the CPU.
        recorded: whether a graph was recorded, of whose replays nothing is seen.

    Example:
        >>> Lanes().by_device
        {}
    """

    def __init__(self) -> None:
        self.by_device: dict[torch.device, Lane] = {}
        self.recorded = False

    def of(self, device: torch.device) -> Lane:
        """The device's lane."""
        if device not in self.by_device:
            self.by_device[device] = Lane(device)
        return self.by_device[device]

    def recording(self, device: torch.device | None = None) -> bool:
        """Whether a graph is being recorded on this device, or on one that is known; remembered."""
        asked = [recording(device)] if device is not None else []
        asked = asked or [lane.recording for lane in self.by_device.values()]
        if any(ask() for ask in asked):
            self.recorded = True
            return True
        return False

    def ship(
        self, freight: Sequence[tuple[Mirror, Sequence[Span]]], swap: bool
    ) -> tuple[list[Trip], dict[int, np.ndarray]]:
        """One trip per device, and where each mirror's values arrive, by ``id`` of the mirror."""
        trips = []
        for lane in self.by_device.values():
            mine = [f for f in freight if f[0].lane is lane]
            if mine:
                trips.append(lane.ship(mine, swap))
        arrays = {
            id(mirror): host.numpy()
            for trip in trips
            for mirror, host in zip(trip.mirrors, trip.hosts, strict=True)
        }
        return trips, arrays
