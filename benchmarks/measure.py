"""How it is measured: clocks, pairs of steps, bytes held, and the record."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shiftwatch.monitor import RING

RESULTS = Path(__file__).parent / "results"
Clock = Callable[[], float]
thread_clock = time.thread_time_ns


def clock(processor: bool) -> Clock:
    """Wall time; or this thread's processor time, with one thread, where others use the machine.

    For the latter the adapter's own clocks are exchanged too: all names ``clock`` in its modules.
    """
    if not processor:
        return time.perf_counter
    import shiftwatch.integrations.torch  # noqa: F401

    torch.set_num_threads(1)
    adapter = [m for n, m in sys.modules.items() if n.startswith("shiftwatch.integrations.torch.")]
    timed = [m for m in adapter if vars(m).get("clock") in (time.perf_counter_ns, thread_clock)]
    if not timed:
        raise RuntimeError("No module of the adapter has a clock of that name: mend this function.")
    for module in timed:
        vars(module)["clock"] = thread_clock
    return time.thread_time


class Meter:
    """Time in the hooks of a monitor, read without taking it away from the monitor's own count.

    The one place that knows more than the public names: ``monitor._source`` is a
    :class:`shiftwatch.source.Source`, whose ``seconds()`` counts from zero at every call.
    """

    def __init__(self, monitor: Any) -> None:
        source = monitor._source
        self._inner, self._owed = source.seconds, 0.0
        source.seconds = self._seconds

    def _seconds(self) -> float:
        owed, self._owed = self._owed, 0.0
        return owed + float(self._inner())

    def read(self) -> float:
        """Seconds since the last call."""
        seconds = float(self._inner())
        self._owed += seconds
        return seconds


class Steps:
    """Times of single steps in seconds, one list each for its parts.

    Args:
        step: trains for one step and gives back the loss.
        attached: what is called after it; see :mod:`peers`.
        clock: in seconds.
    """

    def __init__(self, step: Callable[[], Tensor], attached: Any, clock: Clock) -> None:
        self.step, self.attached, self.clock = step, attached, clock
        self.meter = Meter(attached.monitor) if attached.monitor is not None else None
        self.whole: list[float] = []
        self.hooks: list[float] = []
        self.after: list[float] = []

    def __call__(self) -> None:
        if self.meter is not None:
            self.meter.read()
        began = self.clock()
        loss = self.step()
        between = self.clock()
        self.hooks.append(self.meter.read() if self.meter is not None else 0.0)
        resumed = self.clock()
        self.attached.after_step(loss)
        ended = self.clock()
        self.after.append(ended - resumed)
        self.whole.append(ended - resumed + between - began)

    def forget(self) -> None:
        """Start the lists anew."""
        for times in (self.whole, self.hooks, self.after):
            times.clear()


def in_turn(
    first: Callable[[], None], second: Callable[[], None], steps: int, seconds: float, most: float
) -> int:
    """Pairs A B, B A, A B …: at least so many and for so long, but no longer than ``most``.

    Returns:
        How many pairs: a multiple of the ring, so that every window is in whole.
    """
    began, pairs = time.perf_counter(), 0
    while True:
        for run in (second, first) if pairs % 2 else (first, second):
            run()
        pairs += 1
        gone = time.perf_counter() - began
        if pairs % RING == 0 and (gone > most or (pairs >= steps and gone > seconds)):
            return pairs


def framed(first: Callable[[], None], second: Callable[[], None], steps: int) -> int:
    """Half of the first, all of the second, the other half of the first.

    Returns:
        How many of each.
    """
    half = steps // 2
    for run, times in ((first, half), (second, 2 * half), (first, half)):
        for _ in range(times):
            run()
    return 2 * half


def blocks(values: Sequence[float], length: int = RING) -> list[float]:
    """Means over blocks of one ring each, so that what is done once per ring is in all of them."""
    ends = range(length, len(values) + 1, length)
    return [sum(values[e - length : e]) / length for e in ends] or [statistics.mean(values)]


def dispatch(number: int, clock: Clock) -> float:
    """Seconds that PyTorch needs to call an empty forward hook on so many modules."""
    module, x = nn.Identity(), torch.zeros(1)

    def timed() -> float:
        began = clock()
        for _ in range(5000):
            module(x)
        return (clock() - began) / 5000

    bare = min(timed() for _ in range(5))
    handle = module.register_forward_hook(lambda m, a, k, o: None, with_kwargs=True)
    hooked = min(timed() for _ in range(5))
    handle.remove()
    return max(0.0, hooked - bare) * number


def held() -> int:
    """Bytes of all NumPy arrays and tensors of this process that Python can reach, each byte once.

    What only C++ holds, such as a graph's saved tensors, is not seen, and Python's own objects
    are not counted. Before and after, the difference is what was added.
    """
    gc.collect()
    spans: list[tuple[int, int]] = []
    known: set[int] = set()
    objects: list[Any] = gc.get_objects()
    while objects:
        inner = []
        for thing in gc.get_referents(*objects):
            if id(thing) in known:
                continue
            known.add(id(thing))
            if issubclass(type(thing), (np.ndarray, Tensor)):
                spans.append(_span(thing))
            elif type(thing) in (tuple, dict) and not gc.is_tracked(thing):
                inner.append(thing)  # the collector skips containers of arrays alone
        objects = inner
    total = end = 0
    for start, stop in sorted(spans):
        total += max(0, stop - max(start, end))
        end = max(end, stop)
    return total


def _span(thing: Any) -> tuple[int, int]:
    """First byte and the one after the last."""
    if isinstance(thing, Tensor):
        try:
            storage = thing.untyped_storage()
            return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
        except (NotImplementedError, RuntimeError):  # without a storage: sparse, fake
            return 0, 0
    while isinstance(thing.base, np.ndarray):
        thing = thing.base
    if thing.base is not None:  # a look at the memory of somebody else
        return 0, 0
    low, high = np.lib.array_utils.byte_bounds(thing)
    return int(low), int(high)


def resident() -> int:
    """Bytes of memory of this process; the most so far where the system tells no more."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def conditions(processor: bool, quick: bool) -> dict[str, Any]:
    """Where and when: goes with every figure."""
    return {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "clock": "processor" if processor else "wall",
        "quick": quick,
    }


def save(path: Path, rows: Sequence[dict[str, Any]], *key: str) -> list[dict[str, Any]]:
    """Merge rows into a file: those with the same values of ``key`` are replaced.

    Returns:
        All rows of the file.
    """
    old = load(path) if path.exists() else []
    new = {tuple(r[k] for k in key): r for r in [*old, *rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(r, ensure_ascii=False) for r in new.values())
    path.write_text(f"[\n{lines}\n]\n")
    return list(new.values())


def load(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows
