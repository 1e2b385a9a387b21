"""Monitor: the loop. Samples in, reports out; no maths."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np

from shiftwatch.arrays import RING, ArraySource
from shiftwatch.gate import check_array, check_options, check_state, finite_loss, loss_as_number
from shiftwatch.judgement import Judged, Judgement
from shiftwatch.keeper import Keeper, facts
from shiftwatch.merging import Begun, Merging
from shiftwatch.overhead import Overhead
from shiftwatch.pace import Pace
from shiftwatch.probing import Probed
from shiftwatch.ranks import POLL, Ranks
from shiftwatch.records import (
    IDS,
    INPUT,
    Alert,
    Event,
    Incident,
    Layer,
    Report,
    Site,
    from_plain,
    to_plain,
)  # fmt: skip
from shiftwatch.references import Reference, reference_of
from shiftwatch.replaying import Replayed
from shiftwatch.reporters import LoggingReporter, Reporter, deliver
from shiftwatch.rules import Judge, budgeted
from shiftwatch.run import Run
from shiftwatch.shares import Share
from shiftwatch.signs import Signs
from shiftwatch.sites import Sites
from shiftwatch.source import Batch, Source
from shiftwatch.stages import finish

_log = logging.getLogger("shiftwatch")

#: Why there is nothing to replay.
UNKEPT = (
    "A replay needs references, and this monitor keeps none. Give watch(replay=4) on a PyTorch model; "
    "of several ranks the first keeps them."
)

# Steps after a sign for which every step is judged at once.
_HURRY = 3
# Steps that are left out in a row before the clock is looked at again, in how many of them the
# loss is asked whether it is finite, and what one costs.
_REST, _ASK, _IDLE = 64, 4, 2e-6


class Monitor:
    """Watches arrays, step by step; adapters for frameworks build on it.

    Args:
        run: folder to record into; ``None`` for a dated one under ``$SHIFTWATCH_DIR`` or
            ``./shiftwatch-runs``; ``False`` for memory only.
        every: watch every n-th step.
        budget: share of the step time, such as 0.01, under which shiftwatch keeps itself
            by watching fewer steps; ``None`` watches every ``every``-th.
        reference: ``"first"``, ``"previous"``, ``"decayed"``, or the path of a good run.
        alpha: nominal false-alarm budget of a whole run, such as 0.01: how likely a healthy one
            raises anything because of a score, over all layers and steps; conditions have
            limits of their own. What it rests on, and where it ends: ``docs/alarms.md``. Rules
            that are given bring their own.
        rules: who judges; ``None`` for ``shiftwatch.rules.DEFAULT``.
        metrics: own metrics, name to function of ``(summary)`` or ``(current, reference)``
            returning float64[sites].
        reporters: callables of one ``Report``, beside the logger ``shiftwatch``.
        strict: re-raise what would be logged: for tests.
        config: plain facts of the training, to be kept with the run.
        ranks: the other processes of the same training, whose windows are merged with these:
            rank 0 then judges, writes and reports; the others learn its alerts and incidents.

    Raises:
        ValueError: for an option out of range.
        OSError: where the run folder cannot be written.

    Memory: samples of 8 steps, a history of at most 1,024 windows, and the state of the
    detectors, together about 50 kB per site.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> with Monitor(run=False) as monitor:
        ...     for step in range(64):
        ...         monitor.observe("fc1", rng.normal(size=(32, 16)))
        ...         monitor.step(loss=1.0)
        >>> monitor.alerts, len(monitor.history)
        ([], 8)
    """

    def __init__(
        self,
        run: str | os.PathLike[str] | bool | None = None,
        *,
        every: int = 1,
        budget: float | None = None,
        reference: str | os.PathLike[str] | Reference = "first",
        alpha: float = 0.01,
        rules: Sequence[Judge] | None = None,
        metrics: Mapping[str, Callable[..., np.ndarray]] | None = None,
        reporters: Sequence[Reporter] = (),
        strict: bool = False,
        config: Mapping[str, Any] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        check_options(every, budget, run, reporters)
        judges = budgeted(alpha) if rules is None else tuple(rules)
        self.every, self.budget, self.strict = every, budget, strict
        self.steps = 0
        self._sites = Sites()
        self._judgement = Judgement(self._sites, reference_of(reference), judges, metrics)
        self._arrays = ArraySource()
        self._source: Source = self._arrays
        self._pending: list[tuple[int, float, bool]] = []  # step, loss, given
        self._judging: Begun | None = None
        self._signs = Signs()
        self._hurry = 0
        self._broken = False  # whether the latest loss was not finite
        self._startled = False  # whether it became so in a step that was left out
        self._closed = self._failed = False
        self._dark: dict[str, str] = {}
        self._exception: str | None = None
        self._time = Overhead()
        self._last: float | None = None
        self._pace = Pace(every, budget)
        self._watching = True
        self._wake = 0  # the step to watch next
        self._rest = self._idle = 0  # steps that may yet be left out, and those that were
        self._told_gap = every
        self._shown: dict[str, Any] = {}  # where a notebook shows this monitor
        options = {
            "every": every,
            "budget": budget,
            "reference": reference if isinstance(reference, str) else str(reference),
            "rules": [repr(r) for r in judges],
            "metrics": sorted(metrics or ()),
        }
        first = ranks is None or ranks.rank == 0  # the others have neither folder nor reporters
        self._keeper = Keeper(self._sites, run if first else False, facts(options, config or {}))
        self._reporters: tuple[Reporter, ...] = (LoggingReporter(), *(reporters if first else ()))
        self._merging = Merging(
            ranks, self._sites, self._judgement, self._keeper, self._time, strict
        )

    # -- what users call ------------------------------------------------------------------

    def observe(
        self,
        name: str,
        values: Any,
        *,
        tensor: str = "output",
        part: str = "",
        units_axis: int = -1,
        activation: str = "",
        mode: str = "train",
    ) -> None:
        """Show one array of the current step.

        Args:
            name: the layer; ``"<input>"`` for the model's input. Layers are taken to feed
                each other in the order in which they are first observed.
            values: real array [batch, …, units], or with the units along ``units_axis``;
                for ``tensor="weight"`` of any shape.
            tensor: one of ``shiftwatch.records.TENSORS``. From weights, updates are derived.
            part: which tensor, where a layer has several.
            units_axis: axis of the units (channels, features).
            activation: what produced the values, a key of ``shiftwatch.activations.FLAT``.
            mode: ``"train"`` or ``"eval"``.

        Raises:
            TypeError, ValueError: where the array cannot be watched.

        Cost: a sample of about 2,000 values; arrays of up to 4,096 values are taken whole.
        """
        if self._closed:
            self._late("observe")
            return
        if not self._watching or self._failed:
            return
        array = np.asarray(values)
        tensor = "input" if name == INPUT else tensor
        check_array(name, array, tensor, units_axis, mode)
        started = time.perf_counter()
        site = Site(name, tensor, part, mode)
        column = self._sites.column(site)
        if column is None:
            column = self.register(site, self._sites.following(name, tensor, activation))
        self._arrays.check(column, site.key, array, None if tensor == "weight" else units_axis)
        if name == INPUT:
            self._arrays.batch_size = int(array.shape[0])
        with np.errstate(all="ignore"):
            if tensor == "weight":
                update = self._arrays.fixed(column, array)
                if update is not None:
                    place = Site(name, "update", part, mode)
                    self._arrays.record(self.register(place, self._sites.layers[name]), update)
            else:
                self._arrays.add(column, array, units_axis, activation)
        self._time.spent += time.perf_counter() - started

    def step(self, loss: Any = None) -> None:
        """The optimizer step is done. Call it once per optimizer step.

        Args:
            loss: a float, or a tensor on the CPU. One on a device is recorded where the adapter
                can do so without making the training wait, and known some steps later.

        An error inside shiftwatch is logged once and ends the watching, never the training.
        """
        if self._rest and (self._rest % _ASK or finite_loss(loss)):
            self._rest -= 1
            self._idle += 1
            self.steps += 1
            return
        if self._closed:
            self._late("step")
            return
        started = time.perf_counter()
        if self._last is not None:
            self._time.elapsed += started - self._last
            self._time.spent += self._source.seconds() + _IDLE * self._idle
        self._idle = 0
        if not self._failed:
            try:
                with np.errstate(all="ignore"):  # whatever the application set
                    self._step(loss)
            except Exception as error:
                self._fail(error)
        if self._last is None:  # the first step builds the plans; it is no measure of the others
            self._time.spent = 0.0
            self._source.seconds()
            self._last = started = time.perf_counter()
        self._look_ahead(started)
        self.steps += 1
        ended = time.perf_counter()
        self._time.spent += ended - started
        self._time.elapsed += ended - started
        self._last = ended

    def close(self) -> None:
        """Judge what is left, write the end of the run, take the hooks off. May be called twice."""
        if self._closed:
            return
        try:
            self._settle(closing=True)
        finally:
            self._closed = True
            self._rest = 0
            self._source.close()
            end = {"steps": self.steps, "dark": dict(self._dark), "overhead": self.overhead}
            end |= {"finished": self._exception is None, "every": self._pace.gap}
            self._keeper.history.meta.update(end)
            try:
                self._finish()
            finally:
                self._keeper.close(end)

    def _finish(self) -> None:
        """The final report."""
        step = max(self.steps - 1, 0)
        alerts, incidents = ([], []) if self._failed else self._judgement.flush(step)
        self._keeper.keep(alerts, incidents, ())
        self._merging.end(alerts, incidents, self._exception is not None)
        newest, history = self._keeper.newest(), self.history
        self._tell(self.steps, step, newest, alerts, incidents, final=True, run=history)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the report, one self-contained HTML page.

        Args:
            path: file to write; its folder must exist.

        Returns:
            The path.
        """
        from shiftwatch.report import write

        self._settle()
        return write(self.history, Path(path))

    def show(self) -> None:
        """Show verdict, loss and incidents in a notebook; elsewhere they are printed.

        Called again from the same cell, as in a training loop, it shows them in the same place.

        Cost: some milliseconds; what is being judged is not waited for.
        """
        from shiftwatch.notebook import show

        show(self.history, self._shown)

    @property
    def history(self) -> Run:
        """Everything so far, as ``shiftwatch.open`` would read it back."""
        return self._keeper.view()

    @property
    def alerts(self) -> list[Alert]:
        """Those that were raised, in order."""
        return self._keeper.alerts

    @property
    def incidents(self) -> list[Incident]:
        """Each as it is by now."""
        return self._keeper.incidents

    @property
    def probes(self) -> list[Probed]:
        """What fixed inputs showed, where the adapter was given some; also after ``close()``."""
        return list(getattr(self._source, "probes", ()))

    def replay(self, about: Alert | Incident | None = None) -> Replayed:
        """Whether layers moved by themselves, or because what enters them did: exactly.

        Where the adapter keeps references (``watch(replay=4)``), every new incident is replayed by
        itself as it is raised, before it is reported.

        Args:
            about: an alert or an incident: what was found then, also after ``close()``. ``None``: what
                has moved by now, since before the incident that is open, or since the newest reference.

        Returns:
            A frozen record; ``print`` shows it as a table, ``.origin`` names the layer.

        Raises:
            LookupError: where there is no reference from before it, or the model cannot be run again,
                with the reason.
            TypeError: where it is about something else.

        Cost: two passes through the layers, with up to 32 samples.
        """
        if not isinstance(about, Alert | Incident | None):
            raise TypeError(
                f"replay() is about an alert, an incident, or None for now; got {type(about).__name__}."
            )
        replay = getattr(self._source, "replay", None)
        if replay is None:
            raise LookupError(UNKEPT)
        return cast(Replayed, replay(about))

    @property
    def run(self) -> Path | None:
        """The run folder; ``None`` in memory."""
        return self._keeper.folder

    @property
    def overhead(self) -> float:
        """Share of the time spent in shiftwatch, 0 to 1, from the second step on."""
        return self._time.share

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on later: plain containers, numbers, strings, bytes."""
        self._settle()
        return {
            "version": 1,
            "steps": self.steps,
            "run": str(self.run) if self.run else None,
            "attempt": self._keeper.attempt,
            "sites": [to_plain(s) for s in self._sites.all],
            "layers": [to_plain(v) for v in self._sites.layers.values()],
            "judgement": self._judgement.state(),
            "signs": self._signs.state(),
            "alerts": [to_plain(a) for a in self.alerts],
            "incidents": [to_plain(i) for i in self.incidents],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken: same run, same step, same memory.

        Raises:
            ValueError: for a state of a newer version, or once steps were watched.
        """
        check_state(state, self.steps, self._sites.all)
        layers = {d["name"]: from_plain(Layer, d) for d in state["layers"]}
        saved = [from_plain(Site, d) for d in state["sites"]]
        for site in saved:
            self.register(site, self._sites.layers.get(site.layer, layers[site.layer]))
        self._judgement.load(state["judgement"])
        if "signs" in state:  # not in those of before 0.2
            self._signs.load(state["signs"])
        self.steps = int(state["steps"])
        self._keeper.alerts = [from_plain(Alert, a) for a in state["alerts"]]
        self._keeper.incidents = [from_plain(Incident, i) for i in state["incidents"]]
        self._keeper.resume(state)
        self._keeper.note(Event(self.steps, "resume", f"resumed at step {self.steps}"))

    def event(self, kind: str, detail: str) -> None:
        """Note something the run does on purpose, at the current step."""
        self._keeper.note(Event(self.steps, kind, detail))

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and not self._closed:
            self._exception = type(error).__name__
            self.event("exception", f"training stopped with {self._exception}")
        self.close()

    def __repr__(self) -> str:
        where = self.run or "memory"
        return (
            f"<Monitor of {len(self._sites.layers)} layers, {self.steps} steps, "
            f"{len(self.alerts)} alerts, in {where}>"
        )

    # -- what adapters call ---------------------------------------------------------------

    def register(self, site: Site, layer: Layer) -> int:
        """Column of a site. Known sites keep theirs; the layer's facts are renewed."""
        if self._sites.column(site) is None:
            self._finish_judging()
        return self._sites.add(site, layer)

    def attach(self, source: Source) -> None:
        """Take samples from an adapter instead of ``observe``."""
        self._source = source
        source.arm(self._watching, 0)

    def wake(self) -> None:
        """Have the coming step watched, whatever ``every`` and ``budget`` say.

        Of several ranks all watch the same steps: there it is the next one that is watched anyway.
        """
        if self._merging.together:
            return
        self._watching, self._rest = True, 0
        self._source.arm(True, 0)

    def dark(self, layer: str, reason: str) -> None:
        """Note that a layer can no longer be seen; said once, and in the report."""
        if layer in self._dark:
            return
        self._dark[layer] = reason
        if self._merging.speaks:
            _log.warning("%s is not watched: %s", layer, reason)
        self._keeper.note(Event(self.steps, "dark", f"{layer}: {reason}"))
        self._keeper.history.meta["dark"] = dict(self._dark)

    # -- inside ---------------------------------------------------------------------------

    def _step(self, loss: Any) -> None:
        self._merging.step = self.steps
        if self._watching:
            value, given = self._loss(loss)
            self._pending.append((self.steps, value, given))
            self._source.end_step(self.steps)
            broken = given and not np.isfinite(value)
            forward = self._sites.mask("output", "input", "weight", IDS, train=True)
            long = self._source.ring > RING
            sign, bad = self._signs.look(self._source.energy(), forward, long)
            fresh = broken and not self._broken
            self._broken = broken  # news only: a loss that stays NaN is no reason to hurry
            sign |= fresh or self._signs.surprises(value)
            look = getattr(self._source, "look", None)
            if look is not None:
                look(self.steps, bad or fresh, broken)
            if sign:  # far apart, each step that is judged by itself is dear
                self._hurry = _HURRY if self._pace.gap < RING else 1
            if self._hurry > 0:
                self._source.keep()
            urgent = self._hurry > 0 or self._source.full
            if self._merging.together:
                urgent = self._ring() > RING and self._merging.ends(len(self._pending), urgent)
            self._hurry = max(0, self._hurry - 1)
            if urgent or len(self._pending) >= self._ring():
                # Where there are more steps than stages, no step need do more than one.
                few = self._source.ring <= RING and self._pace.gap < RING
                self._drain(at_once=urgent or few)
            elif self._judging is not None:
                self._go_on()
            elif self._merging.together and len(self._pending) % POLL == 1:
                self._hear()
        else:
            value, given = self._loss(loss)
            broken = given and not np.isfinite(value)
            if broken and not self._broken and not self._merging.together:
                self._drain()
                self._startled, self._hurry = True, 1  # see what comes next, and judge it at once
                look = getattr(self._source, "look", None)
                if look is not None:
                    look(self.steps, True, True)
            elif self._judging is not None:
                self._go_on()
            self._broken = broken

    def _look_ahead(self, started: float) -> None:
        """Choose the next step to watch, and have the source rest until then."""
        now = time.perf_counter() - started
        step, ahead, total = self.steps, self._pace, self._time
        self._wake = ahead.next(step, self._watching, total.spent + now, total.elapsed + now)
        asked = bool(getattr(self._source, "asked", False)) or self._startled
        if self._merging.together:  # all ranks watch the same steps
            self._wake, asked = self._merging.wake(step, ahead.gap), False
        self._startled = False
        self._watching = asked or self._wake == step + 1
        if not self._failed:
            self._source.arm(self._watching, self._wake - step - 1)
        # The step before the next watched one is not left out: it wakes the source.
        idle = not self._watching and self._judging is None
        self._rest = min(self._wake - step - 2, _REST) if idle else 0
        if not 0.5 < ahead.gap / self._told_gap < 2:
            self._told_gap = ahead.gap
            share = f", to stay under {self.budget:.2%} of the step time" if self.budget else ""
            self._keeper.note(Event(step, "budget", f"one step in {ahead.gap:,} is watched{share}"))
            _log.info("one step in %d is watched%s", ahead.gap, share)

    def _loss(self, loss: Any) -> tuple[float, bool]:
        """Loss as a float, and whether it was given; what is no number is left out."""
        try:
            value, given = loss_as_number(loss)
            if not given and loss is not None and self._watching:
                note = getattr(self._source, "note_loss", None)
                if note is not None:
                    note(loss)
            return value, given
        except (TypeError, ValueError, RuntimeError) as error:
            if self.strict:
                raise
            self.dark("loss", f"it must be one real number; got {type(loss).__name__} ({error}).")
            return float("nan"), False

    def _settle(self, closing: bool = False) -> None:
        """Judge what was recorded, before the ring is full.

        Of several ranks all end a window together, so that only what is complete can be judged.
        """
        if self._closed or self._failed:
            return
        self._merging.step = self.steps
        try:
            with np.errstate(all="ignore"):
                if closing or not self._merging.together:
                    self._arrive()
                    self._drain()
                if closing:
                    stopped = self._exception is not None or sys.exc_info()[0] is not None
                    for begun in self._merging.farewell(stopped):
                        self._judging = begun
                        self._finish_judging()
                self._finish_judging()
        except Exception as error:
            self._fail(error)

    def _drain(self, at_once: bool = True) -> None:
        """Judge what was recorded and pass it on, at once or a stage per step."""
        self._finish_judging()
        if not self._pending:
            return
        if self._merging.together:  # all ranks take the same steps
            self._arrive()
        batch = self._source.take()
        number = len(batch.steps)
        if not number:  # on its way from a device
            return
        steps, losses, given = map(np.array, zip(*self._pending[:number], strict=True))
        self._pending = self._pending[number:]
        batch = _with_steps(batch, steps)
        if batch.losses is not None and batch.given is not None:
            losses, given = np.where(given, losses, batch.losses), given | batch.given
        begun = self._begin(batch, losses.astype(float), given.astype(bool))
        if at_once:
            self._conclude(finish(begun.stages), begun.events)
        else:
            self._judging = begun

    def _begin(self, batch: Batch, losses: np.ndarray, given: np.ndarray) -> Begun:
        if self._merging.together:
            return self._merging.sharing(batch, losses, given)
        stages = self._judgement.judging(batch, losses, given, self._time.since())
        return Begun(stages, batch.events, batch.steps.size)

    def _ring(self) -> int:
        """Steps of a window: where there are several ranks, whatever is on its way from a device."""
        ring = self._source.ring
        return getattr(self._source, "span", ring) if self._merging.together else ring

    def _hear(self) -> None:
        """A window of all ranks may be ready to be judged."""
        begun = self._merging.hear()
        self._judging = begun or self._merging.alone()
        if begun is not None and begun.steps < max(self._ring(), RING + 1):
            self._finish_judging()  # it ended early, or the run is young

    def _arrive(self) -> None:
        """Wait for what is on its way from a device."""
        finish = getattr(self._source, "finish", None)
        if finish is not None:
            finish()

    def _go_on(self) -> None:
        """Do one more stage of the judging that was begun."""
        assert self._judging is not None
        begun = self._judging
        try:
            next(begun.stages)
        except StopIteration as done:
            self._judging = None
            self._conclude(done.value, begun.events)

    def _finish_judging(self) -> None:
        """Do all that is left of it."""
        self._judging = self._judging or self._merging.alone()
        while self._judging is not None:
            begun, self._judging = self._judging, None
            self._conclude(finish(begun.stages), begun.events)

    def _conclude(self, judged: Judged | Share, events: Sequence[Event]) -> None:
        """Pass on what was judged."""
        if isinstance(judged, Share):
            self._merging.hand_in(judged)
            self._judging = self._judging or self._merging.alone()
            return
        self._merging.tell(judged)
        if judged.hurry and self._pace.gap < RING:
            self._hurry = max(self._hurry, 1)
        self._keeper.keep(judged.alerts, judged.incidents, events)
        if judged.incidents:
            self._inform(judged.incidents)
        self._keeper.window(judged.window)
        seen = judged.window
        told = seen.metrics, judged.alerts, judged.incidents
        self._tell(seen.first, seen.step, *told, losses=seen.losses)
        self._judging = self._judging or self._merging.alone()

    def _inform(self, incidents: Sequence[Incident]) -> None:
        """Have the source look into them, unless an exception ends the training."""
        raised = getattr(self._source, "raised", None)
        ends = sys.exc_info()[0] not in (None, StopIteration)  # which ends a judgement's stages
        if raised is not None and self._exception is None and not ends:
            raised(incidents)

    def _tell(
        self,
        first: int,
        step: int,
        metrics: Mapping[str, np.ndarray],
        alerts: Sequence[Alert],
        incidents: Sequence[Incident],
        **more: Any,
    ) -> None:
        """A report to the reporters; of several ranks one does."""
        if not self._merging.speaks:
            return
        report = Report(
            first=first,
            step=step,
            sites=tuple(self._sites.all),
            metrics=metrics,
            alerts=tuple(a for a in alerts if a.severity != "info"),
            incidents=tuple(incidents),
            overhead=self.overhead,
            every=self._pace.gap,
            **more,
        )
        self._reporters = deliver(self._reporters, report, strict=self.strict)

    def _late(self, what: str) -> None:
        if not self._dark.get(what):
            self._dark[what] = "closed"
            _log.warning("%s() after close() is ignored: this monitor's run has ended.", what)

    def _fail(self, error: Exception) -> None:
        """Log an error of our own once, and watch no more."""
        if self.strict:
            raise error
        self._failed = True
        self._merging.abandon()
        _log.error(
            "shiftwatch stopped watching at step %d (%s: %s). Training goes on.",
            self.steps, type(error).__name__, error, exc_info=True,
        )  # fmt: skip
        with suppress(Exception):  # what failed may be the very thing that is asked now
            self._rest = 0
            self._source.arm(False, 0)
            self._keeper.note(
                Event(self.steps, "dark", f"watching ended: {type(error).__name__}: {error}")
            )


def _with_steps(batch: Batch, steps: np.ndarray) -> Batch:
    if not np.array_equal(batch.steps, steps):
        raise RuntimeError(
            f"The source must hand over the steps that were watched, {steps.tolist()}; "
            f"it handed over {batch.steps.tolist()}."
        )
    return batch
