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

import math
import weakref
from collections.abc import Iterable
from time import perf_counter_ns as clock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from shiftwatch.integrations.torch import compiled, gradients
from shiftwatch.integrations.torch.causes import Causes, absurd
from shiftwatch.integrations.torch.full_step import FullStep, guarded, usable
from shiftwatch.integrations.torch.graph import Graph
from shiftwatch.integrations.torch.hooks import ForwardHook, Hook
from shiftwatch.integrations.torch.looks import (
    MASK,
    Call,
    Seen,
    finite,
    flags,
    held,
    only_readable,
    read,
    readable,
    square,
)
from shiftwatch.integrations.torch.modules import axis_of
from shiftwatch.integrations.torch.nested import floating, tensors
from shiftwatch.integrations.torch.slab import present
from shiftwatch.records import INPUT, Site
from shiftwatch.source import Finding, Sweep

if TYPE_CHECKING:
    from shiftwatch.integrations.torch.source import TorchSource
    from shiftwatch.integrations.torch.weights import Owned

#: Watched steps for which no look follows the n-th one in a row: 2 to the n, up to this power.
BACK_OFF = 10
#: Watched steps without a look after which the count starts anew.
CALM = 256
#: Watched steps after which it is chosen anew which gradients are summed.
SELDOM = 64


class End(Hook):
    """After the model's own forward: are its outputs finite?"""

    __slots__ = ()

    def __call__(self, module: Any, args: Any, output: Any) -> None:
        if is_compiling():
            return
        source = self.source
        if usable(source) and source.training():
            began = clock()
            source.sweeper.ended(output)
            source.spent += clock() - began


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
        self._pass: FullStep | None = None
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
        self._causes = Causes(graph, source.layers)
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
            guarded(self.source, self._pass.begin, list(only_readable(given)))
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
                    total = None if self._masked else square(output)
                    if total is None and present(output):
                        # The greatest value shows NaN and Inf too, and passes over a mask's -Inf.
                        total = output.data.amax() if self._masked else output.data.sum()
                self._clean = total is not None and math.isfinite(total)
            except Exception:
                self._clean = False
            if not self._clean:
                guarded(self.source, self._end, output)
        self.alive.clear()

    def before(self) -> None:
        """The optimizer is about to step: are the gradients finite?"""
        if self._checked or self._pass is not None or self._early or not self._may_look():
            return
        self._checked = True
        known = len(self.graph.order)  # 0 in the first step
        if self._chosen != known or self.source.generation % SELDOM == 0:
            self._signals, self._chosen = gradients.first(self.held, self.graph.order), known
        try:  # the usual case in few words
            clean = all(map(gradients.sum_is_finite, self._signals))
        except Exception:
            clean = False
        if not clean:
            guarded(self.source, self._check_gradients)

    def _end(self, output: Any) -> None:
        found = list(only_readable(floating(output)))
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
            guarded(self.source, self._finish, self._pass, step, broken)
        elif broken and self._clean:
            if sign:
                self._add(step, step, self._causes.of_loss())
        elif early and not (broken and self._from_loss):
            self._add(step, step, early)
        elif sign or early:
            self._ask(step)
        if self._faint and not broken:
            self._causes.masks.add((self._faint.site.layer, self._faint.site.part))
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
        self._causes = Causes(self.graph, {})
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
            self._pass = FullStep(self.source, self.hooks, step, self.stepped is not False)

    def _look_back(self, output: list[tuple[str, Tensor]]) -> None:
        """At what is still alive of the forward pass that just ended."""
        self._looked()
        entered = [(path, t) for path, ref in self._given if (t := ref()) is not None]
        given = [
            Seen(INPUT, "input", path, t.numel(), flags(t, axis_of("rank", t)))
            for path, t in only_readable(entered)
        ]
        calls: list[Call] = []
        dead: set[str] = set()
        for hook, part, ref in self.alive:
            tensor = ref()
            call = Call(hook.name, own=held(hook))
            calls.append(call)
            if tensor is None or not readable(tensor):
                dead.add(hook.name)
            else:
                call.outputs = [
                    Seen(hook.name, "output", p, t.numel(), flags(t, axis_of(hook.axis, t)))
                    for p, t in only_readable([(part, tensor)])
                ]
        last = calls[-1].layer if calls else ""
        results = [
            Seen(last, "output", "", t.numel(), flags(t, axis_of("rank", t))) for _, t in output
        ]
        read([*given, *results, *(s for c in calls for s in (*c.own, *c.outputs))])
        found = self._causes.find(given, calls, dead, ruined=True)
        if isinstance(found, Finding) and found.layer != INPUT:
            found = absurd(self.alive, found) or found
        worst = next((s for s in results if self._causes.harmful(s)), None)
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
        """Sum those that every bad gradient arrives at; where need be, look at all."""
        if gradients.broken(self._signals):
            self._looked()
            found = gradients.origin(self._given, self.held, self.graph.order)
            if found is not None:
                self._early, self._from_loss = found

    def _finish(self, look: FullStep, step: int, broken: bool) -> None:
        """Read what the pass saw."""
        look.end()
        self._pass = None
        read(look.all())
        minus = {(s.layer, s.part) for c in look.calls for s in c.outputs if s.count.masked}
        worse = any(s.count.nan or s.count.high for s in look.all())
        if minus and not worse and not broken:
            self._causes.masks |= minus  # -Inf that does no harm: a mask
        found = self._causes.find(look.given, look.calls, set(), ruined=look.ruinous)
        if not found and broken:
            found = self._causes.of_loss()
        if not found and look.calls:
            found = f"not seen again in step {step}, where every value was looked at"
        self._add(look.sign, step, found)


compiled.never_alone(End.__call__)
