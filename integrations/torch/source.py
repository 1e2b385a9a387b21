"""TorchSource: a PyTorch model as the monitor sees it."""

from __future__ import annotations

import contextlib
import logging
import weakref
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from time import perf_counter_ns as clock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from shiftwatch.course import Course
from shiftwatch.integrations.torch import dark, modules
from shiftwatch.integrations.torch.attach import attach
from shiftwatch.integrations.torch.attending import Attending
from shiftwatch.integrations.torch.census import Counters, Exact
from shiftwatch.integrations.torch.changes import Changes, Structure, Trainable
from shiftwatch.integrations.torch.clearing import Clearing
from shiftwatch.integrations.torch.compiled import Call
from shiftwatch.integrations.torch.hooks import ForwardHook, InputHook
from shiftwatch.integrations.torch.modules import Watched
from shiftwatch.integrations.torch.norms import Norms
from shiftwatch.integrations.torch.probe import Probe, Prober
from shiftwatch.integrations.torch.replay import Replayer
from shiftwatch.integrations.torch.scaler import Scaler
from shiftwatch.integrations.torch.settings import UNKNOWN, Counted, Settings, settings
from shiftwatch.integrations.torch.sites import Sites
from shiftwatch.integrations.torch.slab import RING, Shop, Tap, Unseeable
from shiftwatch.integrations.torch.sweep import Sweeper
from shiftwatch.integrations.torch.tracing import Tracing
from shiftwatch.integrations.torch.weights import Weights, owned
from shiftwatch.monitor import UNKEPT, Monitor
from shiftwatch.probing import Probed
from shiftwatch.records import INPUT, TENSORS, Alert, Incident
from shiftwatch.replaying import Replayed
from shiftwatch.running import Running
from shiftwatch.source import Batch, Group

# What is seen how often. Outputs, inputs, weights and updates: at every watched step. Whether
# a mean square jumped is asked at once at first, in long windows at every second and fourth step.
#: Gradients: in the first GRADIENTS_ALL watched steps and then in every GRADIENT_TURN-th, all
#: together. (A few layers in every step cost four times as much: each time, the code that
#: reads them has to come from memory first.)
GRADIENTS_ALL = GRADIENT_TURN = 8
#: Whole samples, for histograms and single units: of every step until the first of these
#: numbers of watched steps, then of every second, every fourth, every eighth.
THINNED = (64, 256, 1024)
#: Steps that are left out together for which hooks come off: on and off costs as much as
#: PyTorch takes for calling them a few times.
FAR = 8

logger = logging.getLogger("shiftwatch")


class TorchSource:
    """The adapter's side of the bargain: see :class:`shiftwatch.source.Source`.

    Args:
        model: what the user trains; may be wrapped.
        monitor: columns come from it, and what cannot be seen is told to it.
        optimizer: one or several, where the user named them.
        found: the layers to watch.
        tensors: which of their tensors.
        whole: whether ``found`` is the whole model.
        strict: whether an error in a hook is raised.
        exact: what is counted in full.
        probe: inputs to show again and again.
        replay: references to keep, for replays.

    Attributes:
        armed: whether the present step is watched; hooks look at nothing else where not.
        generation: number of the present step, counted by the source itself.
        spent: nanoseconds in hooks since the last :meth:`seconds`.
        calm: whether a hook has nothing to find out but values; in evaluation, in training.
        follows: whether gradients are sampled in this step.
        fused: whether hooks are part of compiled code.
        scaler: by what gradients are too large.
        sites: what is sampled of which layer.
        tracing: who feeds whom, and the passes from which it is read.
    """

    def __init__(
        self, model: nn.Module, monitor: Monitor, optimizer: list[Optimizer],
        found: list[Watched], tensors: Iterable[str] = TENSORS, *,
        whole: bool = True, strict: bool = False, exact: Exact | None = None,
        probe: Probe | None = None, replay: int = 0,
    ) -> None:  # fmt: skip
        self.root, self._model = modules.unwrap(model), model
        self.monitor, self.strict = monitor, strict
        self.armed = True
        self.closed = False
        self.generation = 0
        self.spent = 0
        self.fused = modules.compiled(model)
        self._near = True  # whether the next watched step is near
        self.calm = (False, False)
        kinds = set(tensors)
        self.outputs, self.inputs = "output" in kinds, "input" in kinds
        self._gradients = "gradient" in kinds
        self.follows = self._gradients
        self._shop = Shop()
        self._convoy: Any = None  # where anything lies on a device: what is on its way home
        self._late = 0  # steps without measurements yet, which are on their way
        self._since = -1  # the step of the newest sign that came home
        self._broken = False  # whether the newest loss that came home was not finite …
        self._sour = False  # … and that is news
        self._replayed = False  # whether the optimizer's step is part of a recorded graph
        self._course = Course()
        self._energy = np.zeros(0)
        self._stride = 1
        # --- the graph
        self.tracing = Tracing()
        self.rounded = False  # whether compiled code was left alone, see compiled.HALF
        self.headless = ""  # first layer, where the model's own forward is never called
        # --- the step
        self._eval_trains = False
        self._forwards = {True: False, False: False}
        self._grad_forward = False
        self._batch_size = 0
        self._steps: list[int] = []  # watched since the last take
        self._last_step = -1
        self._given: list[Settings] = []  # to the optimizers, at each of these steps
        self._sizes: list[int] = []
        self._stepped: list[bool] = []
        self._changes = Changes()
        self._settings = UNKNOWN
        self._counted = Counted()
        self._known: weakref.WeakKeyDictionary[Optimizer, bool] = weakref.WeakKeyDictionary()
        self._stepper: Any = lambda: None  # weak reference to the one of these that stepped last
        self._optimizer_seen = bool(optimizer)
        self._did_step = False
        self._clearing = Clearing()
        self.scaler = Scaler()
        for one in optimizer:
            self._known[one] = True
        # --- the sites
        self.layers = dict(found)
        self._hooks = [
            ForwardHook(
                self,
                name,
                module,
                i,
                modules.units_axis(module),
                modules.activation(module),
            )
            for i, (name, module) in enumerate(found)
        ]
        self._by_name = {h.name: h for h in self._hooks}
        self.tracing.graph.plain = frozenset(h.name for h in self._hooks if not h.weighty)
        self._input = InputHook(self)
        wants = "weight" in kinds or "update" in kinds
        self._owned = owned(found, list(modules.walk(self.root)), whole) if wants else []
        self._weights = Weights(self._owned, "update" in kinds, self._shop.lanes)
        self.sites = Sites(monitor, self._shop, kinds, self.layers, self.tracing.graph)
        self._structure, self._trainable = Structure(self.root), Trainable()
        self._said_silent = self._said_replays = False
        self._handles: list[Any] = []
        self.counters, self._exact = Counters(self, self._hooks), exact
        self._norms = Norms(self._hooks, self._shop.lanes)
        self.attending = Attending(
            self.root,
            self._hooks if self.outputs and not self.fused else [],
            self._shop.lanes,
            self._attending_failed,
        )
        self._prober = None if probe is None else Prober(self, self._hooks, probe)
        self._replayer = Replayer(self, self._hooks, replay) if replay else None
        self._guests = tuple(g for g in (self._prober, self._replayer) if g is not None)
        self.sweeper = Sweeper(self, self._hooks, self._owned, self.tracing.graph)

    def hook(self) -> None:
        """Attach, and say what is known by now."""
        if self._exact is not None:
            names = self.counters.always(self._exact)
            self._tell("exact", f"{len(names)} layers' outputs are counted in full", 0)
        self._attach()
        for name in modules.uncalled(Watched(h.name, h.module) for h in self._hooks):
            self.monitor.dark(
                name, "its parent computes without calling it; its parameters and the result "
                "are watched there"
            )  # fmt: skip

    def _attach(self) -> None:
        before = None if self._replayer is None else self._replayer.entered
        for handle in attach(self, self._model, self._hooks, self._input, before):
            self._handles.append(handle)

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    # --- for the hooks -----------------------------------------------------------------------

    def training(self, gradients: bool | None = None) -> bool:
        """Whether a forward pass counts as training, by the mode of the whole model.

        ``gradients`` says whether they were recorded, where torch cannot be asked any more.
        """
        if self.root.training or not self._eval_trains:
            return self.root.training
        return torch.is_grad_enabled() if gradients is None else gradients

    def entered(
        self, given: Sequence[Tensor], training: bool, gradients: bool | None = None
    ) -> None:
        """The model's forward starts."""
        self._forwards[training] = True
        self._clearing.passes += training
        self._grad_forward |= torch.is_grad_enabled() if gradients is None else gradients
        if not self._batch_size or training:
            self._batch_size = next((t.size(0) for t in given if t.dim()), self._batch_size)
        if training and given and not given[0].is_nested:
            self._changes.shape(given[0].shape, self._last_step + 1)
        if self.tracing.on and self.tracing.chosen(training):
            self.tracing.begin(given)

    @property
    def step(self) -> int:
        """The one under way."""
        return self._last_step + 1

    def passed(self, shape: torch.Size, training: bool) -> None:
        """The model's forward starts, and nothing is to be found out from it."""
        self._forwards[training] = True
        self._clearing.passes += training
        if torch.is_grad_enabled():
            self._grad_forward = True
        if training or not self._batch_size:
            self._batch_size = shape[0]
        if training:
            self._changes.shape(shape, self._last_step + 1)

    def trace(self, hook: ForwardHook, given: Any, output: Any, training: bool) -> None:
        """Note who feeds this layer, and with it where its units lie and what input to watch."""
        self._forwards[training] = True
        self._grad_forward |= torch.is_grad_enabled()
        if self.tracing.chosen(training):
            self._fed(hook, *self.tracing.graph.seen(hook.name, given, output))

    def trace_compiled(self, hook: ForwardHook, call: Call, training: bool) -> None:
        """The same for a layer in compiled code."""
        self._forwards[training] = True
        self._grad_forward |= call.gradients
        if self.tracing.on and self.tracing.chosen(training):
            self._fed(hook, *self.tracing.graph.told(hook.name, call))

    def _fed(self, hook: ForwardHook, parent: str | None, same: bool) -> None:
        if parent is None:
            return
        before = self._by_name.get(parent)
        axis = before.axis if before is not None else "rank"
        if hook.axis == "inherit":
            hook.axis = axis if same or before is not None else "rank"
        if hook.input_axis == "rank" and same:
            hook.input_axis = axis
        known = same and (parent == INPUT or before is not None) and self.outputs
        if known:
            self._norms.fed(hook.name, parent, self._only_input if before is None else before.tap)
        if self.inputs and hook.weighty and not known and not hook.wants_input:
            hook.wants_input, hook.calm = True, False
            hook.input_axis = hook.axis if hook.axis != "rank" else hook.input_axis
            if parent == INPUT and not self.tracing.graph.rooted and not self.headless:
                self.headless = hook.name

    def _only_input(self) -> Tap | None:
        """The tap of the model's input, where it has just one."""
        taps = list(self._input.train.values())
        return taps[0] if len(taps) == 1 else None

    def passed_by(self, layer: str, others: bool) -> None:
        """A layer was computed in one piece, and nothing in it was called."""
        also = ", as do all layers like it" if others else ""
        self.monitor.dark(
            f"{layer}@eval", f"it takes PyTorch's fast path in evaluation{also}. Training shows "
            "what is in it; torch.backends.mha.set_fastpath_enabled(False) has evaluation show it, too"
        )  # fmt: skip

    def failed(self, layer: str, tensor: str, error: Exception, dark: set[str]) -> None:
        """A hook met an error: the site goes dark, and training goes on."""
        if _foreign(error):
            return  # nothing to see this time
        if isinstance(error, Unseeable):
            reason = str(error)
        elif self.strict:
            raise error
        else:
            reason = f"sampling its {tensor} failed: {_words(error)}"
            logger.debug("in a hook of %s", layer, exc_info=error)
        dark.add(tensor)
        for hook in self._hooks:
            hook.calm = hook.calm and not (hook.train.dark or hook.eval.dark)
        with contextlib.suppress(Exception):
            self.monitor.dark(layer, f"{tensor}: {reason}" if tensor != "output" else reason)

    # --- the optimizer -----------------------------------------------------------------------

    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """An optimizer is about to step; whether it is one of ours is seen here."""
        if not self.armed or not self._ours(optimizer):
            return
        began = clock()
        try:
            if self._recording():
                self._replayed, self._optimizer_seen = True, False
                return
            self._optimizer_seen = not self._replayed
            if (self.follows or self.scaler.met is not None) and self.scaler.look():
                # Of the steps that it skipped before nobody knows the scale.
                self._shop.forget_gradients()
            told = settings(optimizer)._replace(forgotten=self._counted.forgotten(optimizer))
            self._settings = self._settings.joined(told)
            if self._owned:
                self._weights.begin()
            self.sweeper.before()
            if self._owned and self._clearing.before(optimizer):
                self._tell("gradients", "the gradients of earlier steps are not cleared")
        except Exception as error:
            self._weights_failed(error)
        self.spent += clock() - began
        if self._prober is not None:
            self._prober.before()

    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """It has stepped."""
        if not self.armed or not self._ours(optimizer):
            return
        began = clock()
        try:
            self._did_step = not self._replayed
            self._clearing.after(optimizer)
            if self._owned and self._did_step:
                self._weights.stepped()
        except Exception as error:
            self._weights_failed(error)
        self.spent += clock() - began

    def _recording(self) -> bool:
        """Whether this becomes part of a graph that is replayed without Python."""
        lanes = self._shop.lanes
        if lanes.by_device:
            return lanes.recording()
        if self._weights.shelves or not self._owned:  # all is in this machine's memory
            return False
        first = self._owned[0].parameter
        return first is not None and not first.is_cpu and lanes.recording(first.device)

    def _ours(self, optimizer: Optimizer) -> bool:
        if self._stepper() is optimizer:
            return True
        if self._known.get(optimizer):
            self._stepper = weakref.ref(optimizer)
            return True
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        ours = any(id(p) in held for p in self.root.parameters())
        if ours:
            if self._optimizer_seen:
                self._tell("optimizer", f"{type(optimizer).__name__} steps too, or instead")
            self._known[optimizer] = True
        return ours

    def _weights_failed(self, error: Exception) -> None:
        if self.strict:
            raise error
        self._owned = []
        with contextlib.suppress(Exception):
            self.monitor.dark("parameters", f"sampling failed: {_words(error)}")

    def _attending_failed(self, error: Exception) -> None:
        if self.strict:
            raise error
        with contextlib.suppress(Exception):
            self.monitor.dark("attentions", f"listening failed: {_words(error)}")

    # --- for the monitor -----------------------------------------------------------------------

    def arm(self, on: bool, rest: int) -> None:
        """Whether the coming step is watched. Hooks are off where it is long until one is.

        Where code was compiled with them they stay: it would be compiled anew without.
        """
        self.armed = on and not self.closed
        if self.armed:
            if not self._handles:
                self._attach()
        else:
            self._weights.skip()
            if rest >= FAR and not self.fused:
                self._detach()
        self._near = self.armed or rest < FAR

    def end_step(self, step: int) -> None:
        """The optimizer step ``step`` has ended: sample the weights, close the row."""
        if self.armed:
            self._steps.append(step)
            self._stepped.append(self._did_step or not self._optimizer_seen)
            self.sweeper.stepped = self._did_step if self._optimizer_seen else None
            self._given.append(self._settings)
            self._sizes.append(self._batch_size)
            try:
                self._end_step(step)
            except Exception as error:
                if self.strict:
                    raise
                self.monitor.dark(f"step {step}", f"not read in full: {_words(error)}")
            scale = self.scaler.scale
            if isinstance(scale, Tensor) or scale not in (None, 1.0):
                self._shop.unscale(scale)
            self.scaler.scale = None
            due = self._shop.close(step, self.generation % self._stride == 0)
            if self._shop.lanes.by_device:
                if due:
                    self._home().send()
                self._arrive()
            else:
                if self.generation % max(self._stride // 2, 1) == 0:
                    self._energy = self._shop.energy(self.sites.columns)
                if due:
                    self._settle()
            self._next_generation()
            for guest in self._guests:
                guest.after(step + 1)
        self._last_step = step
        self._did_step = False
        self._settings = UNKNOWN

    def _end_step(self, step: int) -> None:
        if self._owned:
            try:
                self._weights.end(self._did_step if self._optimizer_seen else None)
            except Exception as error:
                self._weights_failed(error)
        self._changes.settings(self._settings, step)
        self._norms.look()
        self._settle_mode(step)
        if self.tracing.end():
            self.sites.renew(self.sites.told)
        if self.sites.fresh or self._weights.fresh:
            self.sites.register(self._weights if self._owned else None)
            self._weights.fresh = False
        self._look_for_silent()

    def _settle(self) -> None:
        """Measure the steps that ended since the last time."""
        if not self._shop.waiting:
            return
        steps = self._steps[-self._shop.waiting :]
        self._course.begin(len(steps), self.sites.columns)
        self._shop.settle(self._course)
        if self._owned:
            try:
                self._weights.settle(steps, self._course)
            except Exception as error:
                self._weights_failed(error)

    def _arrive(self, wait: bool = False) -> None:
        """Measure what has come home; by itself this never waits."""
        if self._convoy is not None and not (self._shop.lanes.recording() and not wait):
            try:
                news = self._convoy.arrive(self._course, self.sites.columns, wait)
            except Exception as error:
                if self.strict:
                    raise
                self.monitor.dark("devices", f"reading samples failed: {_words(error)}")
                news = None
            if news is not None:
                self._energy, self._since = news.energy, news.since
                self._shop.crowded |= news.crowded
                if news.broken is not None:
                    self._sour |= news.broken and not self._broken
                    self._broken = news.broken
        self._late = self._shop.waiting + (self._convoy.away if self._convoy is not None else 0)

    def note_loss(self, loss: Any) -> None:
        """The loss of the step that ends, on a device: known when its step comes home.

        Raises:
            TypeError: where it is not one real number.
        """
        if not self.armed or not isinstance(loss, Tensor):
            return
        if loss.numel() != 1 or loss.is_complex():
            raise TypeError(f"{tuple(loss.shape)} of {loss.dtype}")
        self._home().note(loss)

    def finish(self) -> None:
        """Have all that was watched in the next take, and wait for the devices where need be."""
        if not self._shop.lanes.by_device:
            return
        convoy = self._home()
        if self._shop.waiting:
            convoy.send(swap=False)
        self._arrive(wait=True)
        if self._last_step >= 0:  # evaluation after the last step belongs to that step
            convoy.send_evaluation(self._last_step)
            self._arrive(wait=True)

    def _home(self) -> Any:
        if self._convoy is None:
            from shiftwatch.integrations.torch.device import Convoy  # needed for devices alone

            self._convoy = Convoy(self._shop, lambda: self._weights if self._owned else None)
        return self._convoy

    def _next_generation(self) -> None:
        self.generation += 1
        turn = self.generation < GRADIENTS_ALL or self.generation % GRADIENT_TURN == 0
        self.follows = self._gradients and turn
        self._stride = 2 ** bisect_right(THINNED, self.generation) if self._near else 1
        quiet = self.outputs and not self._eval_trains
        left = self.tracing.left
        self.calm = (quiet and not left[False], quiet and not left[True])
        self._forwards = {True: False, False: False}
        self._grad_forward = False
        self._batch_size = 0
        self.attending.begin(self.generation)

    def energy(self) -> np.ndarray:
        """Mean square of every output and input in the newest step: see ``Source.energy``."""
        return self._energy

    def keep(self) -> None:
        """Keep the whole samples of the step that just ended, whatever its turn."""
        self._shop.keep()

    @property
    def ring(self) -> int:
        """Steps between two takes; those that are not measured yet come on top."""
        return self.span + self._late

    @property
    def span(self) -> int:
        """The same without those."""
        return RING * self._stride

    def look(self, step: int, sign: bool, broken: bool) -> None:
        """The step has been judged at first sight; see :class:`shiftwatch.source.Source`."""
        if self._convoy is not None:  # what came home is of an earlier step
            sign, broken = sign or self._sour, broken or self._broken
            step = self._since if sign and self._since >= 0 else step
            self._sour, self._since = False, -1
        self.sweeper.look(step, sign, broken)
        self.counters.end()
        if self._convoy is not None and self.sweeper.ready and self._shop.waiting:
            self._convoy.send()  # what was found is told with these steps: sooner, so
            self._arrive()

    @property
    def asked(self) -> bool:
        """Whether the coming step must be watched: it is to be looked at in full."""
        return self.sweeper.asked or self.counters.asked

    def take(self) -> Batch:
        """Everything recorded since the last take."""
        groups: list[Group] = []
        late = self._convoy is not None or bool(self._shop.lanes.by_device)
        if late:
            self._arrive()
            if self._late == len(self._steps):
                return _nothing()
            self._look_for_replays()
        else:
            self._settle()
            if self._last_step >= 0:  # evaluation after the last step belongs to that step
                self._shop.settle_evaluation(self._last_step)
        try:
            self._look_at_layers()
        except Exception as error:
            if self.strict:
                raise
            logger.debug("looking for new layers failed", exc_info=error)
        count = len(self._steps) - self._late
        for slab in self._shop.slabs.values():
            slab.take(groups)
        for tap in self.sites.taps:
            tap.settle()
        self._shop.tidy()
        self._shop.crowded = False
        tampered = np.full((count, self.sites.columns), np.nan)
        if self._owned:
            told = self._weights.take(groups)
            at = self._weights.weight_columns
            if len(told) == len(tampered):
                tampered[:, at[at >= 0]] = told[:, at >= 0]
        self._look_at_training()
        self._changes.sizes(self._sizes, self._last_step)
        losses, given = self._home().take(count) if late else (None, None)
        told = np.array(self._given[:count], np.float64).reshape(-1, len(UNKNOWN))
        batch = Batch(
            groups=tuple(groups),
            steps=np.array(self._steps[:count], np.int64),
            learning_rate=told[:, 0],
            stepped=np.array(self._stepped[:count], bool),
            tampered=tampered,
            batch_size=np.array(self._sizes[:count], np.int64),
            events=tuple(self._changes.events),
            course=self._course.take(self.sites.columns),
            sweeps=self.sweeper.take(),
            coming=self.sweeper.asked,
            censuses=self.counters.take(),
            losses=losses,
            given=given,
            running=self._look_at_norms(groups),
            probes=() if self._prober is None else self._prober.take(),
            settings=told[:, 1:],
            attended=self.attending.take(),
        )
        for kept in (self._steps, self._given, self._stepped, self._sizes):
            del kept[:count]
        self._changes.taken()
        return batch

    @property
    def full(self) -> bool:
        """Whether a take is due now: samples would be lost, or a weight was tampered with."""
        busy = self._shop.crowded or self._weights.urgent or self._changes.leapt
        busy = busy or self._norms.urgent
        busy = busy or self.sweeper.ready or self.counters.ready
        return busy and self._late < len(self._steps)

    @property
    def probes(self) -> list[Probed]:
        """What the probe saw, see :class:`shiftwatch.probing.Probed`."""
        return [] if self._prober is None else list(self._prober.seen)

    def replay(self, about: Alert | Incident | None) -> Replayed:
        """What moved by itself, see :meth:`shiftwatch.Monitor.replay`."""
        if self._replayer is None:
            raise LookupError(UNKEPT)
        return self._replayer.replay(about, max(self._last_step + 1, self.monitor.steps))

    def raised(self, incidents: Sequence[Incident]) -> None:
        """Incidents that were just raised, or of which more is known."""
        if self._replayer is not None:
            self._replayer.raised(incidents, self._last_step + 1)

    def seconds(self) -> float:
        """Time spent in hooks since the last call, in seconds; the monitor's calls not counted."""
        spent, self.spent = self.spent, 0
        return spent * 1e-9

    def close(self) -> None:
        """Hooks off, model and samples let go. May be called twice."""
        self.closed, self.armed = True, False
        self.sweeper.close()
        self.counters.close()
        self._norms.close()
        self.attending.close()
        for guest in self._guests:
            guest.close()
        self._detach()
        # The monitor may live on to be read; a hook on a graph that still waits does nothing.
        self.root = self._model = nn.Identity()
        self._structure = Structure(self.root)
        self.sites.close()
        self._hooks, self._owned = [], []
        self._input = InputHook(self)
        self.layers, self._by_name, self._known = {}, {}, weakref.WeakKeyDictionary()
        self._stepper = lambda: None
        self._shop, self._weights, self.tracing = Shop(), Weights([], False), Tracing()
        self._convoy = None

    # --- private -----------------------------------------------------------------------------

    def _tell(self, kind: str, detail: str, step: int | None = None) -> None:
        self._changes.tell(kind, detail, self._last_step + 1 if step is None else step)

    def _settle_mode(self, step: int) -> None:
        """A step that ran in eval mode only was training in eval mode."""
        train, evaluated = self._forwards[True], self._forwards[False]
        if self._eval_trains:
            self._eval_trains = not self.root.training
        elif (
            evaluated and not train and self._grad_forward
            and (self._did_step or not self._optimizer_seen)
        ):  # fmt: skip
            self._eval_trains = True
            self._tell("mode", "trains in eval mode: passes with gradients count as training", step)
            for hook in self._hooks:
                if not hook.train.fired and _unknown(hook.eval.taps()):
                    hook.train, hook.eval = hook.eval, hook.train
            if not self._input.train and _unknown(self._input.eval.values()):
                self._input.train, self._input.eval = self._input.eval, self._input.train
            for tap in self.sites.fresh:
                tap.site = replace(tap.site, mode="train")
            for hook in self._hooks:
                hook.train.mode, hook.eval.mode = "train", "eval"

    def _look_at_norms(self, groups: list[Group]) -> tuple[Running, ...]:
        """Batch normalisations beside what entered them."""
        try:
            return self._norms.take(groups)
        except Exception as error:
            if self.strict:
                raise
            self._norms.close()
            self.monitor.dark("running statistics", f"reading them failed: {_words(error)}")
            return ()

    def _look_at_training(self) -> None:
        """Parameters frozen or freed since the last take."""
        changed = self._trainable.look(self._owned)
        for own, trains in changed:
            self._tell("requires_grad", f"{own.name} {'trains' if trains else 'is frozen'}")
        if changed:
            self._weights.fresh = True
            self.sites.renew({o.layer for o in self._owned} & self.sites.told.keys())

    def _look_at_layers(self) -> None:
        """Layers that came or went since the last take."""
        changed = self._structure.look(self.root)
        if changed is None:
            return
        there, fresh = changed
        gone = [h.name for h in self._hooks if id(h.module) not in there]
        lost = [o.name for o in self._weights.forget(there) if o.layer not in gone]
        names = [n for n in gone if n not in fresh] + lost
        for what, reason in (*dark.together(names, dark.GONE), *dark.together(fresh, dark.FRESH)):
            self.monitor.dark(what, reason)

    def _look_for_replays(self) -> None:
        """Say once that nothing runs where a graph is replayed."""
        if self._shop.lanes.recorded and not self._said_replays:
            self._said_replays = True
            self.monitor.dark("what is replayed", dark.REPLAYED)

    def _look_for_silent(self) -> None:
        """Name what no hook has seen."""
        if self._said_silent:
            return
        late = self.generation + 1 >= dark.PATIENCE and self._grad_forward
        silent = dark.silent(self.root, self._model, self._hooks, self.rounded, late)
        if silent is not None:
            self._said_silent = True
            for what, reason in silent:
                self.monitor.dark(what, reason)


def _nothing() -> Batch:
    """The batch of no step."""
    none = np.zeros(0, np.int64)
    flags, numbers = np.zeros(0, bool), np.zeros(0)
    return Batch((), none, numbers, flags, np.zeros((0, 0)), none)


def _unknown(taps: Iterable[Tap]) -> bool:
    return all(tap.column < 0 for tap in taps)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _foreign(error: Exception) -> bool:
    """Whether a hook ran where tensors hold no values of their own: vmap, export, tracing."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    return isinstance(error, Unseeable) and (
        "FakeTensor" in str(error) or "Functional" in str(error)
    )
