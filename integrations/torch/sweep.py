"""Looking at whole tensors, once, after a sign that something is not finite.

Samples tell *that* something is NaN, rarely where it began. Three looks tell more:

- At the end of the model's forward its outputs are summed. Where the sum is not finite, what
  is still alive of this very pass is looked at in full, before the backward pass and the
  optimizer spread the NaN into every weight.
- Before the optimizer steps, the gradients of two small parameters of the first layers are
  summed: a bad gradient arrives there wherever it began. Where that is not finite though the
  outputs are, all gradients are looked at, before the weights are ruined.
- After any other sign, the whole next step is looked at: inputs, parameters, buffers and
  outputs of every watched module.

The first two wait for values and are made on the CPU only. On a device the sign comes home with
its ring, up to 16 steps late; then the flags of the third look are collected there and read
once, when that step has ended.
"""

from __future__ import annotations

import ctypes
import logging
import math
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from time import perf_counter_ns as clock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._C import _current_graph_task_id as _backward  # -1 outside of backward passes
from torch._C import _is_tracing
from torch.compiler import is_compiling

from shiftwatch.integrations.torch import compiled, modules
from shiftwatch.integrations.torch.graph import Graph
from shiftwatch.integrations.torch.hooks import ForwardHook, Hook
from shiftwatch.integrations.torch.modules import axis_of
from shiftwatch.integrations.torch.nested import PLAIN, floating, tensors
from shiftwatch.integrations.torch.slab import LOW, present
from shiftwatch.records import INPUT, Site
from shiftwatch.source import Finding, Sweep

if TYPE_CHECKING:
    from shiftwatch.integrations.torch.source import TorchSource
    from shiftwatch.integrations.torch.weights import Owned

#: Watched steps for which no look follows the n-th one in a row: 2 to the n, up to this power.
BACK_OFF = 10
#: Watched steps without a look after which the count starts anew.
CALM = 256
#: A parameter up to this size is small …
SMALL = 4096
#: … and which are summed is chosen anew so often, in watched steps.
SELDOM = 64
#: Size of a value that no weight has for good reason; its square overflows.
ABSURD = 1e15
#: Values looked at in one piece; what is larger takes several.
PIECE = 1 << 24

logger = logging.getLogger("shiftwatch")


class Count(NamedTuple):
    """What is not finite in a tensor: numbers, and the first unit that holds any (-1: one unit)."""

    nan: int
    high: int
    low: int
    unit: int

    @property
    def bad(self) -> int:
        return self.nan + self.high + self.low

    @property
    def masked(self) -> bool:
        """-Inf and nothing else: what masks are made of."""
        return self.low > 0 and not self.nan and not self.high


FINE = Count(0, 0, 0, -1)
MASK = Count(0, 0, 1, -1)


@dataclass
class Seen:
    """A tensor that was looked at. ``flags`` is int64[4] on its device until it is read."""

    layer: str
    tensor: str
    part: str
    size: int
    flags: Tensor | None
    count: Count = FINE

    @property
    def words(self) -> str:
        """``3 NaN of 131,072 values, first in unit 17``."""
        kinds = [(self.count.nan, "NaN"), (self.count.high, "Inf"), (self.count.low, "-Inf")]
        what = " and ".join(f"{number:,} {kind}" for number, kind in kinds if number)
        where = f", first in unit {self.count.unit}" if self.count.unit >= 0 else ""
        return f"{what} of {self.size:,} values{where}"


@dataclass
class Call:
    """One call of a module: what entered, what it holds, what came out."""

    layer: str
    inputs: list[Seen] = field(default_factory=list)
    own: list[Seen] = field(default_factory=list)
    outputs: list[Seen] = field(default_factory=list)


def finite(tensor: Tensor) -> bool:
    """Whether all values are finite. Waits for the device.

    Cost: one sum, on a CPU 0.05 to 0.25 ns per value; a second pass only where that is not
    finite, be it that it overflowed.
    """
    tensor = tensor.detach()
    wide = torch.float32 if tensor.element_size() < 4 else None
    if math.isfinite(float(tensor.sum(dtype=wide))):
        return True
    return bool(tensor.isfinite().all())


def flags(tensor: Tensor, axis: int | None) -> Tensor | None:
    """int64[4] on the tensor's device, the fields of :class:`Count`; ``None`` where all is well.

    On a CPU the verdict is read at once and most tensors cost one sum; elsewhere nothing waits.
    """
    tensor = tensor.detach()
    if tensor.device.type == "cpu" and finite(tensor):
        return None
    if tensor.dim() == 0:
        tensor, axis = tensor.reshape(1), None
    rows = max(1, PIECE * tensor.shape[0] // max(tensor.numel(), 1))
    totals = []
    units = []
    for piece in tensor.split(rows) if tensor.numel() > PIECE else (tensor,):
        bad = piece.isfinite().logical_not_()
        kinds = piece.isnan().sum(), piece.isposinf().sum(), piece.isneginf().sum()
        totals.append(torch.stack(kinds))
        if axis is not None:
            others = [d for d in range(bad.dim()) if d != axis]
            units.append(bad.any(dim=others) if others else bad)
    total = torch.stack(totals).sum(0)
    if axis is None:
        return torch.cat([total, total.new_full((1,), -1)])
    hit = torch.cat(units) if axis == 0 else torch.stack(units).any(0)
    return torch.cat([total, hit.to(torch.uint8).argmax().reshape(1)])


class Enter(Hook):
    """Before a module: what enters it, and what it holds."""

    __slots__ = ("layer", "look")

    def __init__(self, source: TorchSource, look: Pass, layer: ForwardHook) -> None:
        super().__init__(source)
        self.look, self.layer = look, layer

    def __call__(self, module: Any, args: Any, kwargs: Any) -> None:
        if not is_compiling() and _usable(self.source) and self.source.training():
            _timed(self.source, self.look.enter, self.layer, args, kwargs)


class Leave(Hook):
    """After a module: what came out of it."""

    __slots__ = ("layer", "look")

    def __init__(self, source: TorchSource, look: Pass, layer: ForwardHook) -> None:
        super().__init__(source)
        self.look, self.layer = look, layer

    def __call__(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        if not is_compiling() and _usable(self.source) and self.source.training():
            _timed(self.source, self.look.leave, self.layer, output)


class End(Hook):
    """After the model's own forward: are its outputs finite?"""

    __slots__ = ()

    def __call__(self, module: Any, args: Any, output: Any) -> None:
        if is_compiling():
            return
        source = self.source
        if _usable(source) and source.training():
            began = clock()
            source.sweeper.ended(output)
            source.spent += clock() - began


def _usable(source: TorchSource) -> bool:
    """Whether this is a forward pass of real values, in a watched step."""
    return (
        source.armed
        and not _is_tracing()
        and _backward() == -1
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def _timed(source: TorchSource, function: Any, *arguments: Any) -> None:
    began = clock()
    _guarded(source, function, *arguments)
    source.spent += clock() - began


def _guarded(source: TorchSource, function: Any, *arguments: Any) -> None:
    """A look that fails is given up; it never harms the run."""
    try:
        with torch.no_grad():
            function(*arguments)
    except Exception as error:
        if source.strict:
            raise
        logger.debug("a look at whole tensors failed", exc_info=error)
        source.sweeper.give_up()


class Pass:
    """A step that is looked at in full. Lives from the sign to the end of that step.

    Keeps flags, but no values.

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
        for path, tensor in _plain(tensors((args, kwargs))):
            call.inputs.append(self._see(hook.name, "input", path, tensor, hook.axis))
        call.own = _own(hook)

    def leave(self, hook: ForwardHook, output: Any) -> None:
        call = self._open.pop(hook.name, None)
        if call is None:
            return
        first = {id(t): path for path, t in floating(output)}
        for path, tensor in _plain(tensors(output)):
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


class Sweeper:
    """Decides when to look at whole tensors, and reads what was seen.

    Args:
        source: who asks.
        hooks: the layers.
        held: their parameters.
        graph: who feeds whom.

    Attributes:
        looks: how many times whole tensors were looked at; 0 in a healthy run.
        stepped: whether the optimizer stepped in the step that just ended; ``None`` where
            no optimizer was ever seen.
        alive: what this step's forward pass put out so far.
        tail: the layer that comes last, where the model's own forward is never called.

    Cost where nothing is wrong: a weak reference per layer, a sum over the model's outputs
    and two over small gradients, on the CPU. A look sums every value once, and of what is
    not finite reads it some times more.
    """

    def __init__(
        self, source: TorchSource, hooks: list[ForwardHook], held: list[Owned], graph: Graph
    ) -> None:
        self.source, self.hooks, self.held, self.graph = source, hooks, held, graph
        self.looks = 0
        self.stepped: bool | None = None
        self._pass: Pass | None = None
        self._given: list[tuple[str, weakref.ref[Tensor]]] = []
        self.alive: list[tuple[ForwardHook, str, weakref.ref[Tensor]]] = []
        self._clean = False  # the outputs of this step's forward passes are finite in full
        self._early: Finding | str = ""  # found in this very step, or a remark
        self._faint: Finding | None = None  # likewise, if the loss says that it matters
        self._from_loss = False  # whether what was found early is the loss's own gradient
        self._checked = False  # whether this step's gradients were
        self._rooted = False  # whether the model's own forward was called in this step
        self.tail: ForwardHook | None = None  # where it is not: the layer that comes last
        self._chosen = -1
        self._signals: list[Owned] = []  # parameters whose gradients are summed at every step
        self._ready: list[Sweep] = []
        self._masks: set[tuple[str, str]] = set()
        self._masked = False  # whether the model's output holds -Inf as a habit
        self._tries, self._next, self._latest = 0, 0, 0

    # --- for the hooks -------------------------------------------------------------------

    def begin(self, given: Iterable[tuple[str, Tensor]], training: bool) -> None:
        """The model's forward starts."""
        self._rooted = True
        self._given.clear()
        self.alive.clear()
        if not training:
            return
        if self._pass is not None:
            _guarded(self.source, self._pass.begin, list(_plain(given)))
        else:
            self._given = [(p, weakref.ref(t)) for p, t in given]

    def note(self, hook: ForwardHook, args: Any, output: Any) -> None:
        """A layer was called: remember what it put out for as long as somebody keeps it."""
        if not self.alive and not self._given:  # nobody called the model's own forward
            self._given = [(p, weakref.ref(t)) for p, t in tensors(args)]
        if output.__class__ is Tensor:
            self.alive.append((hook, "", weakref.ref(output)))
        else:
            self.alive += [(hook, p, weakref.ref(t)) for p, t in floating(output)]
        if hook is self.tail:
            self.ended(output)

    def ended(self, output: Any) -> None:
        """The model's forward is over."""
        if self._pass is None and not self._early and self._may_look() and torch.is_grad_enabled():
            try:  # the usual case in few words: it is met at every step
                total: Any = math.nan
                if output.__class__ is Tensor and output.is_cpu:
                    total = None if self._masked else _square(output)
                    if total is None and present(output):
                        # The greatest value shows NaN and Inf too, and passes over a mask's -Inf.
                        total = output.data.amax() if self._masked else output.data.sum()
                self._clean = total is not None and math.isfinite(total)
            except Exception:
                self._clean = False
            if not self._clean:
                _guarded(self.source, self._end, output)
        self.alive.clear()

    def before(self) -> None:
        """The optimizer is about to step: are the gradients finite?"""
        if self._checked or self._pass is not None or self._early or not self._may_look():
            return
        self._checked = True
        known = len(self.graph.order)  # 0 in the first step
        if self._chosen != known or self.source.generation % SELDOM == 0:
            self._signals, self._chosen = self._first_with_gradients(), known
        try:  # the usual case in few words
            clean = all(map(_sum_is_finite, self._signals))
        except Exception:
            clean = False
        if not clean:
            _guarded(self.source, self._check_gradients)

    def _end(self, output: Any) -> None:
        found = list(_plain(floating(output)))
        if found and all(t.is_cpu for _, t in found):
            self._clean = all(
                math.isfinite(t.amax()) if self._masked else finite(t) for _, t in found
            )
            if not self._clean:
                self._look_back(found)

    def give_up(self) -> None:
        """No look is under way any more."""
        if self._pass is not None:
            self._pass.end()
        self._pass = None
        self._given.clear()
        self.alive.clear()

    # --- for the source ------------------------------------------------------------------

    @property
    def asked(self) -> bool:
        """Whether the coming step is looked at."""
        return self._pass is not None

    @property
    def ready(self) -> bool:
        """Whether something waits to be taken."""
        return bool(self._ready)

    def look(self, step: int, sign: bool, broken: bool) -> None:
        """A watched step has ended.

        Args:
            step: which.
            sign: whether its samples or its loss show something non-finite that is new.
            broken: whether its loss is not finite.
        """
        early = self._early or (self._faint if broken and self._faint else "")
        if self._pass is not None:
            _guarded(self.source, self._finish, self._pass, step, broken)
        elif broken and self._clean:
            if sign:
                self._add(step, step, self._of_loss())
        elif early and not (broken and self._from_loss):
            self._add(step, step, early)
        elif sign or early:
            self._ask(step)
        if self._faint and not broken:
            self._masks.add((self._faint.site.layer, self._faint.site.part))
            self._masked = True
        self._early, self._faint = "", None
        if self._rooted:
            self.tail = None
        elif self.tail is None:
            last = next(reversed(self.graph.order), "")
            self.tail = next((h for h in self.hooks if h.name == last), None)
        self._clean = self._from_loss = self._checked = self._rooted = False
        self._given.clear()
        self.alive.clear()

    def take(self) -> tuple[Sweep, ...]:
        """What was found since the last take."""
        ready, self._ready = self._ready, []
        return tuple(ready)

    def close(self) -> None:
        """Hooks off, everything let go."""
        self.give_up()
        self.hooks, self.held, self.graph = [], [], Graph()
        self.tail, self._signals = None, []

    # --- looking -------------------------------------------------------------------------

    def _add(self, sign: int, step: int, found: Finding | str) -> None:
        if isinstance(found, str):
            self._ready.append(Sweep(sign, step, None, found))
        else:
            self._ready.append(Sweep(sign, step, found))

    def _may_look(self) -> bool:
        return self.source.generation >= self._next

    def _looked(self) -> None:
        """Count a look; one that follows another has to wait longer."""
        now = self.source.generation
        self._tries = 1 if now - self._latest > CALM else self._tries + 1
        self._latest, self._next = now, now + 2 ** min(self._tries, BACK_OFF)
        self.looks += 1

    def _ask(self, step: int) -> None:
        again = self._latest == self.source.generation - 1  # the same sign, looked at before
        if again or self._may_look():
            self._looked()
            self._pass = Pass(self.source, self.hooks, step, self.stepped is not False)

    def _look_back(self, output: list[tuple[str, Tensor]]) -> None:
        """At what is still alive of the forward pass that just ended."""
        self._looked()
        entered = [(path, t) for path, ref in self._given if (t := ref()) is not None]
        given = [
            Seen(INPUT, "input", path, t.numel(), flags(t, axis_of("rank", t)))
            for path, t in _plain(entered)
        ]
        calls: list[Call] = []
        dead: set[str] = set()
        for hook, part, ref in self.alive:
            tensor = ref()
            call = Call(hook.name, own=_own(hook))
            calls.append(call)
            if tensor is None or not _readable(tensor):
                dead.add(hook.name)
            else:
                call.outputs = [
                    Seen(hook.name, "output", p, t.numel(), flags(t, axis_of(hook.axis, t)))
                    for p, t in _plain([(part, tensor)])
                ]
        last = calls[-1].layer if calls else ""
        results = [
            Seen(last, "output", "", t.numel(), flags(t, axis_of("rank", t))) for _, t in output
        ]
        _read([*given, *results, *(s for c in calls for s in (*c.own, *c.outputs))])
        found = self._cause(given, calls, dead, ruined=True)
        if isinstance(found, Finding) and found.layer != INPUT:
            found = _absurd(self.alive, found) or found
        worst = next((s for s in results if self._harmful(s)), None)
        if not found and last and worst is not None:
            some = "of all layers" if not dead else "of the layers that could still be looked at"
            text = f"{worst.words} of the model's output, though the outputs {some} are finite"
            site = Site(last, "output")
            found = Finding(last, site, worst.size, worst.count.bad, text)
        bad = [s.count for c in calls for s in c.outputs if s.count.bad]
        if isinstance(found, Finding) and all(
            c.masked for c in (*bad, worst.count if worst else MASK)
        ):
            self._faint = found
        else:
            self._early = found

    def _check_gradients(self) -> None:
        """Sum those that every bad gradient arrives at: of the layers that come first."""
        for own in self._signals:
            grad = own.gradient
            if grad is None or not grad.is_cpu or not _readable(grad):
                continue
            if not math.isfinite(grad.sum()) and not finite(grad):  # the sum may overflow
                self._look_at_gradients()
                break

    def _first_with_gradients(self) -> list[Owned]:
        """Of the first two layers the largest that is small, for a bias misses an input that is
        not finite; else the smallest of all.
        """
        order = self.graph.order
        sizes: list[tuple[int, int, int]] = []
        for i, own in enumerate(self.held):
            grad = own.gradient
            if type(grad) is Tensor and grad.layout == torch.strided:
                sizes.append((order.get(own.layer, len(order)), grad.numel(), i))
        small: dict[int, int] = {}
        for place, size, i in sorted(sizes, key=lambda s: (s[0], -s[1])):
            if size <= SMALL:
                small.setdefault(place, i)
        least = [min(sizes, key=lambda s: s[1])[2]] if sizes else []
        return [self.held[i] for i in list(small.values())[:2] or least]

    def _look_at_gradients(self) -> None:
        """At all gradients that the optimizer is about to use, from the loss backwards."""
        self._looked()
        entered = [
            Seen(INPUT, "input", path, t.numel(), flags(t, axis_of("rank", t)))
            for path, ref in self._given
            if (t := ref()) is not None and t.is_floating_point()
        ]
        _read(entered)
        harm = [s for s in entered if s.count.nan or s.count.high]
        if harm:  # a layer that saturates lets Inf through as a finite value, forward
            text = f"{harm[0].words}, seen in the gradients first"
            site = Site(INPUT, "input", harm[0].part if harm[0] is not entered[0] else "")
            self._early = Finding(INPUT, site, harm[0].size, harm[0].count.bad, text)
            return
        order = self.graph.order
        layers: dict[str, list[Seen]] = {}
        for own in self.held:
            grad = own.gradient
            if grad is None or not _readable(grad):
                continue
            seen = Seen(own.layer, "gradient", own.part or own.key, grad.numel(), None)
            seen.flags = flags(grad, None if grad.dim() == 0 else 0)
            layers.setdefault(own.layer, []).append(seen)
        _read([s for group in layers.values() for s in group])
        line = sorted(layers, key=lambda n: order.get(n, len(order)), reverse=True)
        bad = [n for n in line if any(s.count.bad for s in layers[n])]
        if not bad:
            return
        worst = next(s for s in layers[bad[0]] if s.count.bad)
        behind = line[: line.index(bad[0])]
        text = f"{worst.words} in the gradient of its {worst.part}"
        if not behind:
            text += ": so it comes from the loss, though the outputs are finite"
            layer, self._from_loss = bad[0], True
        else:
            near = behind[-1]
            low, high = order.get(bad[0], -1), order.get(near, len(order))
            between = [n for n, place in order.items() if low < place < high and n not in layers]
            layer = between[0] if len(between) == 1 else bad[0]
            text += f"; those of {near}, next towards the loss, are finite"
            text += f"; between them: {', '.join(between)}" if between else ""
        site = Site(bad[0], "gradient")
        self._early = Finding(layer, site, worst.size, worst.count.bad, text)

    def _finish(self, look: Pass, step: int, broken: bool) -> None:
        """Read what the pass saw."""
        look.end()
        self._pass = None
        _read(look.all())
        minus = {(s.layer, s.part) for c in look.calls for s in c.outputs if s.count.masked}
        worse = any(s.count.nan or s.count.high for s in look.all())
        if minus and not worse and not broken:
            self._masks |= minus  # -Inf that does no harm: a mask
        found = self._cause(look.given, look.calls, set(), ruined=look.ruinous)
        if not found and broken:
            found = self._of_loss()
        if not found and look.calls:
            found = f"not seen again in step {step}, where every value was looked at"
        self._add(look.sign, step, found)

    def _cause(
        self, given: list[Seen], calls: list[Call], dead: set[str], ruined: bool
    ) -> Finding | str:
        """The first layer whose result is not finite though what entered it is.

        Returns:
            The finding; else a remark; ``""`` where nothing is wrong.
        """
        harm = [s for s in given if s.count.nan or s.count.high]
        if harm:
            worst = harm[0]
            site = Site(INPUT, "input", worst.part if worst is not given[0] else "")
            return Finding(INPUT, site, worst.size, worst.count.bad, worst.words)
        sick = {c.layer: [s for s in c.own if s.count.bad] for c in calls}
        ill = [layer for layer, own in sick.items() if own]
        if ruined and len(ill) > 1 and len(ill) * 2 > sum(bool(c) for c in _owning(calls)):
            return (
                f"the weights of {len(ill)} layers are not finite by now: an optimizer step wrote "
                "that, and where it began can no longer be seen"
            )
        gone: Seen | None = None  # of a layer whose output can no longer be looked at
        for call in calls:
            harm = [s for s in call.inputs if s.count.nan or s.count.high]
            if harm:
                return self._between(call, harm[0])
            out = next((s for s in call.outputs if self._harmful(s)), None)
            if out is None:
                own = next((s for s in sick[call.layer] if not s.count.masked), None)
                if own is not None and call.layer in dead:
                    gone = gone or own
                continue
            layer, words = self._blamed(call.layer, dead), out.words
            site = Site(layer, "output", out.part if layer == call.layer else "")
            if layer != call.layer:
                words += f", as {out.layer} passes them on"
                call = next(c for c in calls if c.layer == layer)
            if gone is not None and gone.layer != layer:
                break
            if sick[layer]:
                return _in_weight(sick[layer][0], f"its output holds {words}", bool(call.inputs))
            text = f"{words}; {self._beside(call, dead)}"
            return Finding(layer, site, out.size, out.count.bad, text)
        if gone is not None:
            return _in_weight(gone, "its output was gone when it was looked for", False)
        for layer in ill:
            return _in_weight(sick[layer][0], "its output is finite so far", False)
        return ""

    def _harmful(self, seen: Seen) -> bool:
        if seen.count.masked:
            return (seen.layer, seen.part) not in self._masks
        return seen.count.bad > 0

    def _between(self, call: Call, seen: Seen) -> Finding:
        """What enters a layer is bad though all that was put out before is not."""
        text = (
            f"{seen.words}, though the outputs of all layers before it are finite: it arises "
            "between them, outside of any layer"
        )
        return Finding(call.layer, Site(call.layer, "input"), seen.size, seen.count.bad, text)

    def _beside(self, call: Call, dead: set[str]) -> str:
        own = "inputs and weights are" if call.own else "inputs are"
        masks = sum(s.count.low for s in call.inputs)
        if masks:
            return f"its {own} finite but for {masks:,} -Inf"
        if call.inputs:
            return f"its {own} finite"
        parents = self.graph.parents.get(call.layer, ())
        if parents and not any(p in dead for p in parents):
            return f"its {own} finite"
        gone = ", ".join(p for p in parents if p in dead)
        weights = "its weights are finite, and " if call.own else ""
        where = f"the output of {gone}" if gone else "what entered it"
        return f"{weights}{where} was gone when it was looked for"

    def _blamed(self, layer: str, dead: set[str]) -> str:
        """The layer itself, or, where it only passes on what it gets, the one before it."""
        parents = self.graph.parents.get(layer, ())
        if len(parents) == 1 and parents[0] in dead and _passes_on(self.source.layers[layer]):
            return self._blamed(parents[0], dead)
        return layer

    def _of_loss(self) -> Finding | str:
        last = next(reversed(self.graph.order), "")
        text = "the loss is NaN or Inf though every value that the model put out is finite: it "
        text += "comes from the loss itself"
        return Finding(last, Site(last, "loss"), 1, 1, text) if last else text


def _sum_is_finite(own: Owned) -> bool:
    """Whether the gradient of a parameter is finite at first sight."""
    held: Any = own.module._parameters[own.key]
    total = _square(held.grad)
    return total is not None and math.isfinite(total)


def _square(tensor: Tensor) -> float | None:
    """Sum of squares of a small tensor, read at its address: from cold, torch takes five times as long.

    ``None`` where there are many values, or not float32 side by side in this machine's memory.
    """
    number, address = tensor.numel(), tensor.data_ptr()
    if (
        number > SMALL or tensor.dtype is not torch.float32 or not tensor.is_cpu
        or tensor.__class__ not in PLAIN or not tensor.is_contiguous() or address < LOW
    ):  # fmt: skip
        return None
    values = _values(address, number)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(values.dot(values))


@lru_cache(64)
def _values(address: int, number: int) -> np.ndarray:
    """So many float32 values at an address; it holds nothing of them."""
    memory: Any = (ctypes.c_float * number).from_address(address)
    return np.frombuffer(memory, np.float32)


def _in_weight(seen: Seen, beside: str, inputs: bool) -> Finding:
    part = "" if seen.part == "weight" else seen.part
    before = "its inputs are finite, " if inputs else ""
    name = "" if seen.part == "weight" else f" in {seen.part}"
    return Finding(
        seen.layer, Site(seen.layer, "weight", part), seen.size, seen.count.bad,
        f"{seen.words}{name}; {before}{beside}",
    )  # fmt: skip


def _absurd(alive: Iterable[tuple[ForwardHook, str, Any]], found: Finding) -> Finding | None:
    """A weight whose values no training makes, in a layer before the one that was found.

    An exponent's bit that flips gives 1e38: finite, and so is what comes out, until a
    square of it is taken some layers further on.
    """
    for hook, _, _ in alive:
        if hook.name == found.layer:
            return None
        for key, weight in hook.module.named_parameters():
            if not _readable(weight) or not weight.is_floating_point():
                continue
            largest = float(weight.data.abs().amax()) if weight.numel() else 0.0
            if largest > ABSURD and math.isfinite(largest):
                text = f"its {key} holds {largest:.2g}; further on, in {found.layer}: {found.text}"
                return replace(found, layer=hook.name, text=text)
    return None


def _owning(calls: list[Call]) -> list[list[Seen]]:
    """What each layer holds, once per layer; empty ones left out."""
    return [own for own in {c.layer: c.own for c in calls}.values() if own]


def _own(hook: ForwardHook) -> list[Seen]:
    """Parameters and buffers of a layer."""
    held = [*hook.module.named_parameters(), *hook.module.named_buffers()]
    return [
        Seen(hook.name, "weight", name, t.numel(), flags(t, 0 if t.dim() else None))
        for name, t in _plain(held)
    ]


def _plain(found: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Those with real floating values of their own."""
    for path, tensor in found:
        if _readable(tensor):
            yield path, tensor


def _readable(tensor: Tensor) -> bool:
    return (
        type(tensor) in PLAIN
        and tensor.is_floating_point()
        and tensor.layout == torch.strided
        and not tensor.is_meta
        and not tensor.is_nested
        and tensor.numel() > 0
        and present(tensor)
    )


def _read(seen: Iterable[Seen]) -> None:
    """Fetch all flags, one transfer per device."""
    by_device: dict[torch.device, list[Seen]] = {}
    for one in seen:
        if one.flags is not None:
            by_device.setdefault(one.flags.device, []).append(one)
    for group in by_device.values():
        values = torch.stack([s.flags for s in group if s.flags is not None]).tolist()
        for one, value in zip(group, values, strict=True):
            count = Count(*value)
            one.count = count if count.bad else FINE


def _passes_on(module: nn.Module) -> bool:
    """Whether finite input gives finite output: PyTorch's own modules without parameters."""
    kind = type(module)
    own = next(module.parameters(), None) is not None
    return (
        kind.__module__.startswith("torch.nn.modules") and not own and "oftm" not in kind.__name__
    )


compiled.never_alone(End.__call__, Enter.__call__, Leave.__call__)
