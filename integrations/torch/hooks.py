"""The hooks themselves: they look, and leave no trace.

A hook returns nothing, keeps no graph, waits for no device and draws no random number of
the user's. It lies in the module's own dictionary, and what is in there gets copied and
saved with the module; so a hook's copy is a callable that does nothing, taken from Python
itself: a copied model is not watched, and a saved one loads where shiftwatch is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from time import perf_counter_ns as clock
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch._C import _current_graph_task_id as _backward  # -1 outside of backward passes
from torch._C import _is_tracing
from torch._C._functorch import peek_interpreter_stack as _transform  # None outside of transforms
from torch.compiler import is_compiling

from shiftwatch.integrations.torch import compiled
from shiftwatch.integrations.torch.nested import WHOLE, floating, ids, plain, tensors
from shiftwatch.integrations.torch.slab import Tap, Unseeable
from shiftwatch.records import IDS, INPUT, Site

if TYPE_CHECKING:
    from shiftwatch.integrations.torch.source import TorchSource


class Hook:
    """A hook whose copy does nothing, wherever it is unpickled."""

    __slots__ = ("__weakref__", "mark", "source", "token")

    def __init__(self, source: TorchSource) -> None:
        self.source = source

    @property
    def __name__(self) -> str:
        """What ``torch.jit.script`` asks of every hook that it would have to script."""
        raise AttributeError(
            "shiftwatch watches this module, and its hooks cannot be scripted. Use torch.jit.script "
            "before watch(), or after close()"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # nullcontext().__exit__ takes any arguments and returns None.
        return getattr, (nullcontext(), "__exit__")


class Side:
    """The taps of one layer in one mode."""

    __slots__ = ("dark", "fired", "followers", "input", "mode", "output", "parts")

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.fired = False
        self.dark: set[str] = set()
        self.output: Tap | None = None
        self.input: Tap | None = None
        self.parts: dict[str, Tap] = {}
        self.followers: dict[tuple[str, int], Follower] = {}

    def taps(self) -> list[Tap]:
        """In the order in which they are filled."""
        taps = [self.input, self.output, *self.parts.values()]
        return [t for t in taps if t is not None] + [f.tap for f in self.followers.values()]


class ForwardHook(Hook):
    """On a leaf module: samples its output, the output's gradient, and a foreign input."""

    __slots__ = (
        "activation", "axis", "calm", "eval", "input_axis", "kernel", "module", "name", "order",
        "train", "wants_input", "weighty",
    )  # fmt: skip

    def __init__(
        self, source: TorchSource, name: str, module: nn.Module, order: int,
        axis: int | str, activation: str,
    ) -> None:  # fmt: skip
        super().__init__(source)
        self.name, self.module, self.order = name, module, order
        self.axis, self.activation = axis, activation
        self.input_axis: int | str = "rank"
        self.train, self.eval = Side("train"), Side("eval")
        self.weighty = next(module.parameters(), None) is not None
        self.kernel = compiled.is_kernel(module)
        self.token, self.mark = compiled.token(self)
        self.wants_input = False
        self.calm = True  # whether the output is all there is to see here

    def tap(self) -> Tap | None:
        """That of the output in training; ``None`` before it was seen."""
        return self.train.output

    def __call__(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        if is_compiling():  # traced: whatever is done here becomes part of the graph
            compiled.look(self, args, kwargs, output)
            return
        source = self.source
        if not source.armed or _is_tracing():
            return
        began = clock()
        try:
            training = source.root.training
            if (
                source.calm[training] and self.calm
                and output.__class__ is Tensor and _backward() == -1 and _transform() is None
            ):  # fmt: skip
                side = self.train if training else self.eval
                if side.output is not None:
                    side.output.record(output)
                    if training:
                        if source.follows and output.requires_grad:
                            self._follow(side, output)
                        sweeper = source.sweeper
                        if sweeper.alive and sweeper.tail is not self:
                            sweeper.alive.append((self, "", ref(output)))
                        else:
                            sweeper.note(self, args, output)
                    source.spent += clock() - began
                    return
            self._see(source, args, kwargs, output)
        except Exception as error:
            side = self.train if source.training() else self.eval
            name = self.name if side.mode == "train" else f"{self.name}@eval"
            source.failed(name, "output", error, side.dark)
        source.spent += clock() - began

    def _see(self, source: TorchSource, args: Any, kwargs: Any, output: Any) -> None:
        training = source.training()
        side = self.train if training else self.eval
        if _backward() != -1:
            # Recomputed for a checkpoint: seen before. Only a reentrant one gets its
            # gradient here; the graph of the others is never walked, and adds nothing.
            if training and source.follows:
                self._follow(side, output)
            return
        inside = _transform() is not None  # of grad, vmap, …
        side.fired = True
        if training and not inside:
            source.sweeper.note(self, args, output)
        if source.tracing.on:
            source.trace(self, (args, kwargs), output, training)
        if output.__class__ is Tensor and not inside:
            if source.outputs and "output" not in side.dark:
                tap = side.output
                if tap is None:
                    tap = side.output = self._open("output", "", side, output)
                tap.record(output)
            if training and source.follows and output.requires_grad:
                self._follow(side, output)
        else:
            self._see_parts(source, side, output)
            if training and source.follows:
                self._follow(side, output)
        if self.wants_input and "input" not in side.dark:
            self._see_input(side, args, kwargs)

    def _see_parts(self, source: TorchSource, side: Side, output: Any) -> None:
        """A nested output: its floating tensors, each a site of its own."""
        if not source.outputs or "output" in side.dark:
            return
        parts = floating(output)
        if not parts:
            if any(True for _ in tensors(output)) or output is None:
                raise Unseeable("its output holds no floating tensor")
            raise Unseeable(f"its output is a {type(output).__name__} without tensors")
        self._record(side, parts)

    def _record(self, side: Side, parts: Iterable[tuple[str, Tensor]]) -> None:
        for path, tensor in parts:
            tap = side.output if not path else side.parts.get(path)
            if tap is None:
                tap = self._open("output", path, side, tensor)
                if path:
                    side.parts[path] = tap
                else:
                    side.output = tap
            _record(tap, tensor)

    def see_compiled(self, source: TorchSource, call: compiled.Call, seen: list[Tensor]) -> None:
        """What compiled code shows: outputs, and the input where it may be wanted."""
        training = source.training(call.gradients)
        side = self.train if training else self.eval
        side.fired = True
        source.trace_compiled(self, call, training)
        if source.outputs and "output" not in side.dark:
            self._record(side, zip(call.paths, seen, strict=False))
        if self.wants_input and "input" not in side.dark and len(seen) > len(call.paths):
            self._see_input(side, seen[-1:], {})

    def see_gradient(self, source: TorchSource, path: str, part: int, gradient: Tensor) -> None:
        """A gradient that compiled code shows in its backward pass."""
        if "gradient" in self.train.dark or not source.training(True):
            return
        follower = self.train.followers.get((path, part))
        if follower is None:
            tap = self._open("gradient", path, self.train, gradient)
            follower = self.train.followers[path, part] = Follower(self, tap, part)
        follower.tap.record(gradient)

    def _see_input(self, side: Side, args: Any, kwargs: Any) -> None:
        tensor = args[0] if args and args[0].__class__ is Tensor else None
        if tensor is None or not tensor.is_floating_point():
            given = floating((args, kwargs))
            if not given:
                return
            tensor = given[0][1]
        if side.input is None:
            alias = self.source.headless == self.name
            site = Site(INPUT if alias else self.name, "input", "", side.mode)
            side.input = self.source.sites.open(site, self.input_axis, "", plain(tensor))
        _record(side.input, tensor)

    def _follow(self, side: Side, output: Any) -> None:
        """Have the gradient of each floating output sampled when it comes by.

        The hook sits on the graph's node, not on the tensor: it costs half as much, leaves
        nothing on the user's tensor, and means the output as it was here even where an
        in-place operation follows. The node goes with the graph, and the hook with it.
        """
        if "gradient" in side.dark or not torch.is_grad_enabled():
            return
        parts = [("", output)] if output.__class__ is Tensor else floating(output)
        for path, tensor in parts:
            node = tensor.grad_fn
            if node is None and not _simple(tensor):  # vmap keeps the graph inside
                tensor = plain(tensor)
                node = tensor.grad_fn
            if node is None:  # a leaf would keep the hook for ever
                continue
            key = path, tensor.output_nr
            follower = side.followers.get(key)
            if follower is None:
                tap = next((f.tap for (p, _), f in side.followers.items() if p == path), None)
                if tap is None:
                    tap = self._open("gradient", path, side, tensor)
                follower = side.followers[key] = Follower(self, tap, tensor.output_nr)
            node.register_prehook(follower)

    def _open(self, tensor: str, part: str, side: Side, like: Tensor) -> Tap:
        if not like.is_floating_point():
            raise Unseeable(
                f"its {tensor} is of type {like.dtype}, and only real floats are sampled"
            )
        activation = self.activation if tensor == "output" else ""
        site = Site(self.name, tensor, part, side.mode)
        return self.source.sites.open(site, self.axis, activation, plain(like))


class Follower(Hook):
    """On a node of the autograd graph: samples the gradient of one layer's output."""

    __slots__ = ("layer", "number", "tap")

    def __init__(self, layer: ForwardHook, tap: Tap, number: int) -> None:
        super().__init__(layer.source)
        self.layer, self.tap, self.number = layer, tap, number

    def __call__(self, gradients: Any) -> None:
        source = self.source
        if not source.armed:
            return
        began = clock()
        try:
            if source.scaler.met is not None:
                source.scaler.note()
            gradient = gradients[self.number]
            if gradient is not None and "gradient" not in self.layer.train.dark:
                _record(self.tap, gradient)
        except Exception as error:
            source.failed(self.layer.name, "gradient", error, self.layer.train.dark)
        source.spent += clock() - began


def _simple(tensor: Tensor) -> bool:
    return tensor.__class__ is Tensor and _transform() is None


def _record(tap: Tap, tensor: Tensor) -> None:
    """Sample a tensor of any kind; inside of a function transform, with what it transforms."""
    if _simple(tensor):
        tap.record(tensor)
    elif _transform() is None:
        tap.record(plain(tensor))
    else:
        with torch._functorch.pyfunctorch.temporarily_clear_interpreter_stack():
            tap.record(plain(tensor))


class EveryHook(Hook):
    """On every module there is: for layers that take another path where hooks lie on them.

    Args:
        layers: the hooks that such layers would carry themselves.
        whole: name to module that contains some of them.

    Cost: 1.4 µs at each call of any module of the process.
    """

    __slots__ = ("inside", "layers", "whole")

    def __init__(
        self, source: TorchSource, layers: list[ForwardHook], whole: dict[str, nn.Module]
    ) -> None:
        super().__init__(source)
        self.layers = {id(h.module): h for h in layers}
        self.whole = {id(m): (n, m) for n, m in whole.items()}
        self.inside = 0  # calls since the latest whole one

    def __call__(self, module: Any, args: Any, output: Any) -> None:
        key = id(module)
        if key in self.layers:
            if self.layers[key].module is module:
                self.inside += 1
                self.layers[key](module, args, {}, output)
        elif key in self.whole:
            name, known = self.whole[key]
            silent = known is module and self.source.armed and not self.inside
            if silent and not _is_tracing() and not is_compiling():
                self.source.passed_by(name, len(self.whole) > 1)
                self.whole = {}
            self.inside = 0


class InputHook(Hook):
    """Before the model's forward: samples what it is given."""

    __slots__ = ("dark", "eval", "ids", "train", "unseen")

    def __init__(self, source: TorchSource) -> None:
        super().__init__(source)
        self.token, self.mark = compiled.token(self)
        self.train: dict[str, Tap] = {}
        self.eval: dict[str, Tap] = {}
        self.ids: Tap | None = None  # of a model that is given nothing else, in training
        self.dark: set[str] = set()
        self.unseen: set[str] = set()  # paths

    def __call__(self, module: Any, args: Any, kwargs: Any) -> None:
        if is_compiling():
            compiled.enter(self, args, kwargs)
            return
        source = self.source
        if not source.armed or _is_tracing() or _backward() != -1:
            return
        began = clock()
        try:
            self._see(source, args, kwargs)
            if source.attending.due and source.training() and _transform() is None:
                source.attending.enter(module, source.step)
        except Exception as error:
            source.failed(INPUT, "input", error, self.dark)
        source.spent += clock() - began

    def _see(self, source: TorchSource, args: Any, kwargs: Any) -> None:
        training = source.training()
        taps = self.train if training else self.eval
        tap = taps.get("") or (self.ids if training else None)
        if source.calm[training] and len(args) == 1 and not kwargs and tap is not None:
            (tensor,) = args
            real = tap is not self.ids
            fits = _simple(tensor) and tensor.dim() and tensor.is_floating_point() is real
            if fits and (real or tensor.dtype in WHOLE):
                source.passed(tensor.shape, training)
                source.sweeper.begin((("", tensor),), training)
                if source.inputs and not self.dark:
                    tap.record(_flat(tensor))
                return
        given = [*tensors(args), *tensors(kwargs)]
        if _transform() is None:
            source.sweeper.begin(given, training)
        self.see_given(source, given, None)

    def see_given(
        self, source: TorchSource, given: list[tuple[str, Tensor]], gradients: bool | None
    ) -> None:
        """Tensors by path; ``gradients`` as in :meth:`TorchSource.training`."""
        training = source.training(gradients)
        taps = self.train if training else self.eval
        source.entered([t for _, t in given], training, gradients)
        if not source.inputs or "input" in self.dark:
            return
        for path, tensor in [*floating(dict(given)), *((p, t) for p, t in given if t.is_complex())]:
            if path in self.unseen:
                continue
            tap = taps.get(path)
            if tap is None:
                site = Site(INPUT, "input", path, "train" if training else "eval")
                try:
                    tap = taps[path] = source.sites.open(site, "rank", "", plain(tensor))
                except Unseeable as error:  # the others may be seen all the same
                    dark: set[str] = set()
                    source.failed(f"{INPUT}[{path}]" if path else INPUT, "input", error, dark)
                    self.unseen |= {path} if dark else set()  # else there is nothing this time
                    continue
            _record(tap, _flat(tensor) if _simple(tensor) else tensor)
        if training and not taps:
            self._see_ids(source, given)

    def _see_ids(self, source: TorchSource, given: list[tuple[str, Tensor]]) -> None:
        """What a model is given that knows no real numbers: whether its samples differ."""
        tensor = ids(given)
        if tensor is None:
            return
        if self.ids is None:
            self.ids = source.sites.open(Site(INPUT, "input", IDS), -1, "", plain(tensor))
        _record(self.ids, _flat(tensor))


def _flat(tensor: Tensor) -> Tensor:
    """All of a sample along one axis, every pixel, every moment a unit: so it shows whether samples differ."""
    return tensor.flatten(1) if tensor.dim() > 2 and tensor.is_contiguous() else tensor


compiled.never_alone(ForwardHook.__call__, Follower.__call__, InputHook.__call__)
