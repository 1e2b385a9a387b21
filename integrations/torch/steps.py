"""Steps: the sources that are told of every optimizer's step."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

if TYPE_CHECKING:
    from shiftwatch.integrations.torch.source import TorchSource


class Steps:
    """Has a source told of every optimizer's steps, until it is removed or gone.

    All sources share one hook of each kind: PyTorch walks through its table of them as it is,
    and to add or remove one while another thread's optimizer steps would break that step. The
    hooks hold no source: one that was never closed goes with its model.
    """

    _refs: ClassVar[tuple[weakref.ref[TorchSource], ...]] = ()
    _handles: ClassVar[list[Any]] = []
    _lock: ClassVar[Any] = threading.Lock()

    def __init__(self, source: TorchSource) -> None:
        self._source = source
        with Steps._lock:
            Steps._refs = tuple(map(weakref.ref, (*Steps.told(), source)))
            if not Steps._handles:
                Steps._handles.append(register_optimizer_step_pre_hook(_stepping))
                Steps._handles.append(register_optimizer_step_post_hook(_stepped))

    @classmethod
    def told(cls) -> list[TorchSource]:
        """The sources that are."""
        return [source for ref in cls._refs if (source := ref()) is not None]

    def remove(self) -> None:
        """Not any more."""
        with Steps._lock:
            left = [source for source in Steps.told() if source is not self._source]
            Steps._refs = tuple(map(weakref.ref, left))
            while not left and Steps._handles:
                Steps._handles.pop().remove()


def _stepping(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    for source in Steps.told():
        source.before(optimizer, args, kwargs)


def _stepped(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    for source in Steps.told():
        source.after(optimizer, args, kwargs)
