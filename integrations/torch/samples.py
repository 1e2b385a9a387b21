"""What enters the model: the first samples of a batch, and how far one batch is from another."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from time import perf_counter_ns as clock
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch._C import _current_graph_task_id as _backward  # -1 outside of backward passes
from torch._C import _is_tracing
from torch.compiler import is_compiling

from shiftwatch.integrations.torch import compiled
from shiftwatch.integrations.torch.copies import Copies, mapped, version
from shiftwatch.integrations.torch.hooks import Hook
from shiftwatch.integrations.torch.nested import floating, tensors
from shiftwatch.integrations.torch.passing import Precision, precision
from shiftwatch.integrations.torch.probe import Unfit

if TYPE_CHECKING:
    from shiftwatch.integrations.torch.replay import Replayer
    from shiftwatch.integrations.torch.source import TorchSource

#: Samples of a batch that are kept.
SAMPLES = 32
#: Samples of a batch whose level is taken.
LEVEL = 256


class Given(NamedTuple):
    """What the model was called with.

    Attributes:
        args, kwargs: the first samples, copied.
        rows: how many; 0 where samples cannot be told apart, and all was copied.
        level: float32[2, features], see :func:`level`.
        precision: of autocast.
        training: the model's mode.
    """

    args: Any
    kwargs: Any
    rows: int
    level: Tensor | None
    precision: Precision
    training: bool

    @classmethod
    def of(
        cls, args: Any, kwargs: Any, rows: int, room: int, training: bool,
        device: torch.device | None = None,
    ) -> Given:  # fmt: skip
        """The first so many of them; where all are needed, in so many bytes.

        From the CPU they go onto a device where one is given.

        Raises:
            Unfit: where they cannot be kept.
        """
        size = _samples((args, kwargs))
        own = Copies(device, None if size else room)
        first = next((t for _, t in floating((args, kwargs))), None)
        cut, rows = _cutting(size, rows), min(size, rows)
        with torch.no_grad():
            try:
                args, kwargs = mapped(mapped((args, kwargs), cut), own.of)
            except (TypeError, MemoryError) as error:
                raise Unfit(f"what the model is called with cannot be kept: {error}") from None
            return cls(
                args, kwargs, rows, None if first is None else level(first), precision(), training
            )

    def first(self, rows: int) -> Given:
        """So many of the samples; all, where they cannot be told apart."""
        if not self.rows:
            return self
        args, kwargs = mapped((self.args, self.kwargs), _cutting(self.rows, rows))
        return self._replace(args=args, kwargs=kwargs, rows=min(self.rows, rows))


class Entered(Hook):
    """Before the model's forward: keeps the first samples where a reference is due."""

    __slots__ = ("_generation", "_latest", "_version", "kept", "replayer")

    def __init__(self, source: TorchSource, replayer: Replayer) -> None:
        super().__init__(source)
        self.replayer = replayer
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.kept: Given | None = None
        self._latest: Any = lambda: None  # weak reference to what entered first in this step
        self._version = self._generation = -1

    def __call__(self, module: Any, args: Any, kwargs: Any) -> None:
        if is_compiling():
            return
        source = self.source
        if not source.armed or source.generation == self._generation:
            return
        if _is_tracing() or _backward() != -1 or not source.training():
            return
        began = clock()
        self._generation = source.generation  # of several passes in a step the first
        try:
            first = next((t for _, t in floating((args, kwargs))), None)
            if first is not None:
                self._latest, self._version = weakref.ref(first), version(first)
            if self.kept is None and self.replayer.due():
                self.kept = self.replayer.given(args, kwargs, wrapped=module is not source.root)
        except Exception as error:
            self.replayer.fail(error)
        source.spent += clock() - began

    def level(self) -> Tensor | None:
        """That of the newest step's batch, where it is still there and as it was."""
        tensor = self._latest()
        return None if tensor is None or version(tensor) != self._version else level(tensor)


def level(tensor: Tensor) -> Tensor | None:
    """float32[2, features]: mean and deviation over samples; ``None`` where there are none.

    Example:
        >>> level(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        tensor([[2., 5.],
                [1., 0.]])
    """
    if tensor.dim() < 2 or tensor.layout != torch.strided or not tensor.numel():
        return None
    with torch.no_grad():
        rows = tensor.detach()[:LEVEL].flatten(1).float()
        return torch.stack([rows.mean(0), rows.std(0, correction=0)])


def apart(now: Tensor | None, then: Tensor | None) -> Tensor | None:
    """float32[]: distance of two levels, as a share of the second; ``None`` where one is unknown."""
    if now is None or then is None or now.shape != then.shape:
        return None
    ratio = ((now - then).square().sum() / then.square().sum()).sqrt()
    return torch.where(ratio.isfinite(), ratio, torch.inf)


def _samples(value: Any) -> int:
    """How many samples a batch has: the length of its first tensor; 0 where they cannot be told apart.

    So it is where whole numbers come beside them that are not one per sample, such as the edges of a
    graph: they may be places in what would be cut off.
    """
    held = [t for _, t in tensors(value) if t.dim()]
    size = held[0].size(0) if held else 0
    whole = (t for t in held if not t.is_floating_point() and t.dtype != torch.bool)
    return 0 if any(t.size(0) not in (1, size) for t in whole) else size


def _cutting(size: int, rows: int) -> Callable[[Tensor], Tensor]:
    """Takes the first rows of tensors that have so many; others are no samples."""
    return lambda t: t[:rows] if t.dim() and t.size(0) == size > rows else t


compiled.never_alone(Entered.__call__)
