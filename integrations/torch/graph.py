"""Who feeds whom: the parents of each layer, read off the first forward passes."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from shiftwatch.integrations.torch.nested import PLAIN, plain, tensors
from shiftwatch.records import INPUT

if TYPE_CHECKING:
    from shiftwatch.integrations.torch.compiled import Call

#: Nodes of the autograd graph looked at for one input.
BOUND = 512
_DATA = -1  # stands for the model's input among the calls

# Backward nodes that hand values on unchanged, in another shape or type.
_SAME = (
    "View", "UnsafeView", "ReshapeAlias", "Transpose", "Permute", "T", "Unsqueeze", "Squeeze",
    "Clone", "ToCopy", "Alias", "Expand", "Movedim", "BackwardHookFunction",
)  # fmt: skip


class Graph:
    """What feeds each layer, collected during one forward pass.

    A tensor is recognised as a layer's output by identity, else by walking from its
    ``grad_fn`` back to outputs that are known, else, without a graph, by its memory, else
    it is taken to come from the layer executed before. Nothing outlives :meth:`finish`.
    """

    #: Names of layers without parameters, set once by the owner.
    plain: frozenset[str] = frozenset()
    _previous: Any
    _frame: int
    _entry: int
    _ran: dict[int, int]

    def __init__(self) -> None:
        self.order: dict[str, int] = {}
        self.parents: dict[str, tuple[str, ...]] = {}
        self.rooted = False  # whether the model's own forward was seen
        self._clear()

    def begin(self, inputs: Iterable[Tensor]) -> bool:
        """The model's forward starts; False where this is not the first of the step."""
        self.rooted = True
        if self._calls:
            return False
        for tensor in inputs:
            self._know(tensor, _DATA)
        return True

    def seen(self, name: str, given: Any, output: Any) -> tuple[str | None, bool]:
        """A layer was called.

        Returns:
            The layer that its first floating input comes from (``None`` if it has none),
            and whether that input is just what that layer put out.
        """
        sources: list[int] = []
        first: tuple[str | None, bool] = (None, True)
        for _, tensor in tensors(given):
            found, same = self._origin(tensor)
            sources += [s for s in found if s not in sources]
            if first[0] is None and tensor.is_floating_point():
                first = (self._name(found[0]), same)
        call = len(self._calls)
        self._calls.append((name, sources))
        for _, tensor in tensors(output):
            self._know(tensor, call)
        self._previous = output
        return first

    def told(self, name: str, call: Call) -> tuple[str | None, bool]:
        """A layer was called in compiled code, and what feeds it was noted when it was traced.

        What comes from outside of the compiled function is taken to come from the layer
        executed before it, for the first one from the model's input. Returns as :meth:`seen`.
        """
        here = len(self._calls)
        if call.frame != self._frame or call.number in self._ran:
            self._frame, self._entry = call.frame, here - 1
            self._ran = {}
        self._ran[call.number] = here
        sources = list(dict.fromkeys(self._ran.get(s, self._entry) for s in call.sources))
        self._calls.append((name, sources))
        self._previous = None
        if not sources:
            return None, True
        inside = call.sources[0] in self._ran
        return self._name(sources[0]), call.same and (inside or sources[0] == _DATA)

    def source(self, tensor: Tensor) -> str:
        """Name of the layer that a tensor comes from; the first of several."""
        return self._name(self._origin(tensor)[0][0])

    def feeding(self) -> list[str]:
        """Names of the layers that fed the latest call."""
        return [self._name(source) for source in self._calls[-1][1]]

    def finish(self) -> bool:
        """The step is over: work out the parents, let go of every tensor; True if any changed."""
        shared = self._shared()
        for name, _ in self._calls:
            self.order.setdefault(name, len(self.order))
        changed = False
        for name in dict.fromkeys(name for name, _ in self._calls):
            resolved: list[str] = []
            for call, (other, _) in enumerate(self._calls):
                if other == name:
                    for parent in self._resolve(call, shared, 0):
                        if parent not in resolved and self._before(parent, name):
                            resolved.append(parent)
            merged = (*self.parents.get(name, ()), *resolved)
            new = tuple(dict.fromkeys(merged))
            changed |= new != self.parents.get(name)
            self.parents[name] = new
        self._clear()
        return changed

    def _before(self, parent: str, name: str) -> bool:
        return parent == INPUT or self.order.get(parent, len(self.order)) < self.order[name]

    def _shared(self) -> set[str]:
        """Layers that different layers feed at different calls, and that are bridged."""
        fed: dict[str, set[tuple[str, ...]]] = {}
        for name, sources in self._calls:
            fed.setdefault(name, set()).add(tuple(sorted(self._name(s) for s in sources)))
        return {name for name, ways in fed.items() if len(ways) > 1 and name in self.plain}

    def _resolve(self, call: int, shared: set[str], depth: int) -> list[str]:
        found: list[str] = []
        for source in self._calls[call][1]:
            if source >= 0 and self._calls[source][0] in shared and depth < 64:
                found += self._resolve(source, shared, depth + 1)
            else:
                found.append(self._name(source))
        return found

    def _name(self, call: int) -> str:
        return INPUT if call == _DATA else self._calls[call][0]

    def _origin(self, tensor: Tensor) -> tuple[list[int], bool]:
        known = self._tensors.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return [known[1]], known[2] == _version(tensor)
        if tensor.grad_fn is not None:
            found, same = self._walk(tensor.grad_fn)
            if found:
                return found, same
        pointer = _memory(tensor)
        if pointer in self._memory:
            alive, call, version = self._memory[pointer]
            if alive() is not None:
                return [call], version == _version(tensor)
        if not self._calls or not tensor.is_floating_point():
            return [_DATA], False
        if tensor.grad_fn is None and torch.is_grad_enabled() and self._tracked():
            return [_DATA], False  # made from no layer's output: from data
        return [len(self._calls) - 1], False

    def _tracked(self) -> bool:
        """Whether the layer executed before is part of the autograd graph."""
        return any(t.grad_fn is not None for _, t in tensors(self._previous))

    def _walk(self, node: Any) -> tuple[list[int], bool]:
        found: list[int] = []
        queue: list[tuple[Any, bool]] = [(node, True)]
        visited: set[Any] = set()
        same = True
        while queue and len(visited) < BOUND:
            node, plain = queue.pop(0)
            if node in visited:
                continue
            visited.add(node)
            call = self._nodes.get(node)
            if call is not None:
                found += [call] if call not in found else []
                same &= plain
                continue
            kind = type(node).__name__.rstrip("0123456789").removesuffix("Backward")
            if kind == "CompiledFunction":
                continue  # its inside is not in the graph; its last layer was executed before
            queue += [(n, plain and kind in _SAME) for n, _ in node.next_functions if n is not None]
        return found, same and len(found) == 1

    def _know(self, tensor: Tensor, call: int) -> None:
        entry = (weakref.ref(tensor), call, _version(tensor))
        self._tensors[id(tensor)] = entry
        if tensor.grad_fn is not None:
            self._nodes[tensor.grad_fn] = call
        if (pointer := _memory(tensor)) is not None:
            self._memory[pointer] = entry

    def _clear(self) -> None:
        self._calls: list[tuple[str, list[int]]] = []
        self._tensors: dict[int, tuple[weakref.ref[Tensor], int, int]] = {}
        self._nodes: dict[Any, int] = {}
        self._memory: dict[Any, tuple[weakref.ref[Tensor], int, int]] = {}
        self._previous = None
        self._frame = self._entry = -1  # of the compiled function that runs
        self._ran = {}  # its calls so far, by their notes


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _memory(tensor: Tensor) -> tuple[int, int] | None:
    try:
        tensor = plain(tensor)
        if type(tensor) not in PLAIN:  # a compiler's, for example
            raise RuntimeError
        return tensor.data_ptr(), tensor.numel()
    except RuntimeError:  # sparse and other tensors without memory of their own
        pass
    try:  # what a compiler traces with has none, but views of it share this
        return tensor.untyped_storage()._cdata, tensor.numel()
    except (RuntimeError, NotImplementedError):
        return None
