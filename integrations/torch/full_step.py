"""A full step: what enters, is held by and comes out of every watched module is looked at."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Iterator
from time import perf_counter_ns as clock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._C import _current_graph_task_id as _backward  # -1 outside of backward passes
from torch._C import _is_tracing
from torch.compiler import is_compiling

from shiftwatch.integrations.torch import compiled, modules
from shiftwatch.integrations.torch.hooks import ForwardHook, Hook
from shiftwatch.integrations.torch.looks import Call, Seen, flags, held, only_readable
from shiftwatch.integrations.torch.modules import axis_of
from shiftwatch.integrations.torch.nested import floating, tensors
from shiftwatch.records import INPUT

if TYPE_CHECKING:
    from shiftwatch.integrations.torch.source import TorchSource

logger = logging.getLogger("shiftwatch")


class FullStep:
    """Lives from the sign to the end of the step that is looked at; keeps flags, but no values.

    Args:
        hooks: the layers.
        sign: step of the sign that asked for it.
        ruinous: whether the optimizer may have written NaN into the weights since.
    """

    def __init__(
        self, source: TorchSource, hooks: Iterable[ForwardHook], sign: int, ruinous: bool
    ) -> None:
        self.source, self.sign, self.ruinous = source, sign, ruinous
        self.given: list[Seen] = []
        self.calls: list[Call] = []
        self._open: dict[str, Call] = {}
        self._known: dict[int, tuple[weakref.ref[Tensor], int, Seen]] = {}
        self._handles: list[Any] = []
        for hook in hooks:
            if modules.scripted(hook.module):
                continue
            before, after = Enter(source, self, hook), Leave(source, self, hook)
            self._handles += [
                hook.module.register_forward_pre_hook(before, with_kwargs=True),
                hook.module.register_forward_hook(after, with_kwargs=True),
            ]

    def begin(self, given: list[tuple[str, Tensor]]) -> None:
        self.given += [self._see(INPUT, "input", p, t, "rank") for p, t in given]

    def enter(self, hook: ForwardHook, args: Any, kwargs: Any) -> None:
        call = self._open[hook.name] = Call(hook.name)
        self.calls.append(call)
        for path, tensor in only_readable(tensors((args, kwargs))):
            call.inputs.append(self._see(hook.name, "input", path, tensor, hook.axis))
        call.own = held(hook)

    def leave(self, hook: ForwardHook, output: Any) -> None:
        call = self._open.pop(hook.name, None)
        if call is None:
            return
        first = {id(t): path for path, t in floating(output)}
        for path, tensor in only_readable(tensors(output)):
            part = first.get(id(tensor), path)
            call.outputs.append(self._see(hook.name, "output", part, tensor, hook.axis))

    def all(self) -> Iterator[Seen]:
        yield from self.given
        for call in self.calls:
            yield from (*call.inputs, *call.own, *call.outputs)

    def end(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._open.clear()
        self._known.clear()

    def _see(self, layer: str, what: str, part: str, tensor: Tensor, axis: int | str) -> Seen:
        """Each tensor is read once, also where one layer's output is the next one's input."""
        known = self._known.get(id(tensor))
        version = 0 if tensor.is_inference() else tensor._version
        if known is not None and known[0]() is tensor and known[1] == version:
            return Seen(layer, what, part, tensor.numel(), known[2].flags)
        seen = Seen(layer, what, part, tensor.numel(), flags(tensor, axis_of(axis, tensor)))
        self._known[id(tensor)] = weakref.ref(tensor), version, seen
        return seen


class Enter(Hook):
    """Before a module: what enters it, and what it holds."""

    __slots__ = ("layer", "look")

    def __init__(self, source: TorchSource, look: FullStep, layer: ForwardHook) -> None:
        super().__init__(source)
        self.look, self.layer = look, layer

    def __call__(self, module: Any, args: Any, kwargs: Any) -> None:
        if not is_compiling() and usable(self.source) and self.source.training():
            _timed(self.source, self.look.enter, self.layer, args, kwargs)


class Leave(Hook):
    """After a module: what came out of it."""

    __slots__ = ("layer", "look")

    def __init__(self, source: TorchSource, look: FullStep, layer: ForwardHook) -> None:
        super().__init__(source)
        self.look, self.layer = look, layer

    def __call__(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        if not is_compiling() and usable(self.source) and self.source.training():
            _timed(self.source, self.look.leave, self.layer, output)


def usable(source: TorchSource) -> bool:
    """Whether this is a forward pass of real values, in a watched step."""
    return (
        source.armed
        and not _is_tracing()
        and _backward() == -1
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def _timed(source: TorchSource, function: Any, *arguments: Any) -> None:
    began = clock()
    guarded(source, function, *arguments)
    source.spent += clock() - began


def guarded(source: TorchSource, function: Any, *arguments: Any) -> None:
    """A look that fails is given up; it never harms the run."""
    try:
        with torch.no_grad():
            function(*arguments)
    except Exception as error:
        if source.strict:
            raise
        logger.debug("a look at whole tensors failed", exc_info=error)
        source.sweeper.give_up()


compiled.never_alone(Enter.__call__, Leave.__call__)
