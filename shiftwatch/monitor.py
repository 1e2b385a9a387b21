"""Monitor: the loop. Samples in, reports out; no maths."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np

from shiftwatch._version import __version__
from shiftwatch.arrays import RING, ArraySource
from shiftwatch.gate import check_array, finite_loss, loss_as_number
from shiftwatch.judgement import Judged, Judgement
from shiftwatch.keeper import Keeper
from shiftwatch.pace import Pace
from shiftwatch.probing import Probed
from shiftwatch.ranks import FAREWELL, POLL, Lost, Ranks, Verdict
from shiftwatch.records import (
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
from shiftwatch.references import Decayed, First, Previous, Reference, SavedRun
from shiftwatch.reporters import LoggingReporter, Reporter, deliver
from shiftwatch.rules import Judge, budgeted
from shiftwatch.run import Run
from shiftwatch.shares import Share
from shiftwatch.signs import Signs
from shiftwatch.sites import Sites
from shiftwatch.source import Batch, Source
from shiftwatch.stages import Stages, finish

_log = logging.getLogger("shiftwatch")

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
        alpha: false-alarm budget of a whole run: the probability, such as 0.01, that a healthy
            one raises anything by chance, over all layers, metrics and steps. What it rests on:
            ``docs/alarms.md``. Rules that are given bring their own.
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
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a whole number of steps, at least 1; got {every!r}.")
        if budget is not None and not 0 < budget < 1:
            raise ValueError(
                f"budget is a share of the step time between 0 and 1; got {budget!r}. "
                "Use 0.01 for one percent."
            )
        if run is True:
            raise ValueError("run must be a folder, None for a dated one, or False; got True.")
        for reporter in reporters:
            if not callable(reporter):
                raise TypeError(f"A reporter must be a callable of one Report; got {reporter!r}.")
        judges = budgeted(alpha) if rules is None else tuple(rules)
        self.every, self.budget, self.strict = every, budget, strict
        self.steps = 0
        self._sites = Sites()
        self._judgement = Judgement(self._sites, _reference(reference), judges, metrics)
        self._ranks, self._speaks = ranks, ranks is None or ranks.rank == 0
        self._backlog: deque[Share] = deque()  # to be judged alone
        self._reporters: tuple[Reporter, ...] = ()
        if self._speaks:
            self._reporters = (LoggingReporter(), *reporters)
        self._arrays = ArraySource()
        self._source: Source = self._arrays
        self._weights: dict[int, np.ndarray] = {}
        self._pending: list[tuple[int, float, bool]] = []  # step, loss, given
        self._judging: tuple[Stages[Judged | Share], Sequence[Event]] | None = None
        self._signs = Signs()
        self._hurry = 0
        self._broken = False  # whether the latest loss was not finite
        self._startled = False  # whether it became so in a step that was left out
        self._closed = self._failed = False
        self._dark: dict[str, str] = {}
        self._exception: str | None = None
        self._spent = self._elapsed = 0.0
        self._at_window = (0.0, 0.0)  # both when the last window was closed
        self._last: float | None = None
        self._pace = Pace(every, budget)
        self._watching = True
        self._wake = 0  # the step to watch next
        self._rest = self._idle = 0  # steps that may yet be left out, and those that were
        self._told_gap = every
        options = {
            "every": every,
            "budget": budget,
            "reference": reference if isinstance(reference, str) else str(reference),
            "rules": [repr(r) for r in judges],
            "metrics": sorted(metrics or ()),
        }
        meta: dict[str, Any] = {
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "versions": {
                "shiftwatch": __version__,
                "python": sys.version.split()[0],
                "numpy": np.__version__,
            },
            "options": options,
            "config": dict(config or {}),
        }
        self._keeper = Keeper(self._sites, run if self._speaks else False, meta)

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
            column = self.register(site, self._layer(name, tensor, activation))
        self._arrays.check(column, site.key, array, None if tensor == "weight" else units_axis)
        if name == INPUT:
            self._arrays.batch_size = int(array.shape[0])
        with np.errstate(all="ignore"):
            if tensor == "weight":
                taken = self._arrays.fixed(column, array)
                before = self._weights.get(column)
                self._weights[column] = taken
                if before is not None and before.shape == taken.shape:
                    update = Site(name, "update", part, mode)
                    place = self.register(update, self._sites.layers[name])
                    self._arrays.record(place, taken - before)
            else:
                self._arrays.add(column, array, units_axis, activation)
        self._spent += time.perf_counter() - started

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
            self._elapsed += started - self._last
            self._spent += self._source.seconds() + _IDLE * self._idle
        self._idle = 0
        if not self._failed:
            try:
                with np.errstate(all="ignore"):  # whatever the application set
                    self._step(loss)
            except Exception as error:
                self._fail(error)
        if self._last is None:  # the first step builds the plans; it is no measure of the others
            self._spent = 0.0
            self._source.seconds()
            self._last = started = time.perf_counter()
        self._look_ahead(started)
        self.steps += 1
        ended = time.perf_counter()
        self._spent += ended - started
        self._elapsed += ended - started
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
        if self._ranks is not None:
            self._say_last(alerts, incidents)
        report = Report(
            first=self.steps,
            step=step,
            sites=tuple(self._sites.all),
            metrics=self._keeper.newest(),
            alerts=tuple(a for a in alerts if a.severity != "info"),
            incidents=tuple(incidents),
            overhead=self.overhead,
            every=self._pace.gap,
            final=True,
            run=self.history,
        )
        self._reporters = deliver(self._reporters, report, strict=self.strict)

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

    @property
    def run(self) -> Path | None:
        """The run folder; ``None`` in memory."""
        return self._keeper.folder

    @property
    def overhead(self) -> float:
        """Share of the time spent in shiftwatch, 0 to 1, from the second step on."""
        return self._spent / self._elapsed if self._elapsed > 0 else 0.0

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
        if state.get("version") != 1:
            raise ValueError(
                f"The state must be of version 1; got {state.get('version')!r}. "
                "It was saved by another version of shiftwatch; start a new run instead."
            )
        if self.steps:
            raise ValueError(
                f"A state is loaded before the first step; {self.steps} were watched already. "
                "Load it right after the monitor is made."
            )
        known = {s.key for s in self._sites.all}
        layers = {d["name"]: from_plain(Layer, d) for d in state["layers"]}
        saved = [from_plain(Site, d) for d in state["sites"]]
        if known and [s.key for s in saved[: len(known)]] != [s.key for s in self._sites.all]:
            raise ValueError(
                "The state belongs to another model: its first sites are "
                f"{', '.join(s.key for s in saved[:3])}; this one's are "
                f"{', '.join(s.key for s in self._sites.all[:3])}."
            )
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
        if self._ranks is not None:
            return
        self._watching, self._rest = True, 0
        self._source.arm(True, 0)

    def dark(self, layer: str, reason: str) -> None:
        """Note that a layer can no longer be seen; said once, and in the report."""
        if layer in self._dark:
            return
        self._dark[layer] = reason
        if self._speaks:
            _log.warning("%s is not watched: %s", layer, reason)
        self._keeper.note(Event(self.steps, "dark", f"{layer}: {reason}"))
        self._keeper.history.meta["dark"] = dict(self._dark)

    # -- inside ---------------------------------------------------------------------------

    def _step(self, loss: Any) -> None:
        if self._watching:
            value, given = self._loss(loss)
            self._pending.append((self.steps, value, given))
            self._source.end_step(self.steps)
            broken = given and not np.isfinite(value)
            forward = self._sites.mask("output", "input", "weight", train=True)
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
            if self._ranks is not None:
                urgent = self._agreed(urgent)
            self._hurry = max(0, self._hurry - 1)
            if urgent or len(self._pending) >= self._ring():
                # Where there are more steps than stages, no step need do more than one.
                few = self._source.ring <= RING and self._pace.gap < RING
                self._drain(at_once=urgent or few)
            elif self._judging is not None:
                self._go_on()
            elif self._ranks is not None and len(self._pending) % POLL == 1:
                self._hear()
        else:
            value, given = self._loss(loss)
            broken = given and not np.isfinite(value)
            if broken and not self._broken and self._ranks is None:
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
        step, ahead = self.steps, self._pace
        self._wake = ahead.next(step, self._watching, self._spent + now, self._elapsed + now)
        asked = bool(getattr(self._source, "asked", False)) or self._startled
        if self._ranks is not None:  # all ranks watch the same steps
            self._wake, asked = self._ranks.wake(step, ahead.gap), False
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
        try:
            with np.errstate(all="ignore"):
                if self._ranks is None or closing:
                    self._arrive()
                    self._drain()
                if self._ranks is not None and closing:
                    self._wait_for_others()
                self._finish_judging()
        except Exception as error:
            self._fail(error)

    def _drain(self, at_once: bool = True) -> None:
        """Judge what was recorded and pass it on, at once or a stage per step."""
        self._finish_judging()
        if not self._pending:
            return
        if self._ranks is not None:  # all ranks take the same steps
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
        stages = self._begin(batch, losses.astype(float), given.astype(bool))
        if at_once:
            self._conclude(finish(stages), batch.events)
        else:
            self._judging = stages, batch.events

    def _begin(self, batch: Batch, losses: np.ndarray, given: np.ndarray) -> Stages[Judged | Share]:
        if self._ranks is None:
            return self._judgement.judging(batch, losses, given, self._share())
        self._ranks.turn()
        return self._judgement.sharing(batch, losses, given)

    def _arrive(self) -> None:
        """Wait for what is on its way from a device."""
        finish = getattr(self._source, "finish", None)
        if finish is not None:
            finish()

    def _share(self) -> float:
        """Share of the time spent in shiftwatch since the last window, 0 to 1."""
        now = self._spent, self._elapsed
        spent, elapsed = (a - b for a, b in zip(now, self._at_window, strict=True))
        self._at_window = now
        return min(max(spent / elapsed, 0.0), 1.0) if elapsed > 0 else 0.0

    def _go_on(self) -> None:
        """Do one more stage of the judging that was begun."""
        assert self._judging is not None
        stages, events = self._judging
        try:
            next(stages)
        except StopIteration as done:
            self._judging = None
            self._conclude(done.value, events)

    def _finish_judging(self) -> None:
        """Do all that is left of it."""
        self._next_in_backlog()
        while self._judging is not None:
            (stages, events), self._judging = self._judging, None
            self._conclude(finish(stages), events)

    def _conclude(self, judged: Judged | Share, events: Sequence[Event]) -> None:
        """Pass on what was judged."""
        if isinstance(judged, Share):
            self._hand_in(judged)
            return
        if self._ranks is not None:
            self._tell_others(judged)
        if judged.hurry and self._pace.gap < RING:
            self._hurry = max(self._hurry, 1)
        self._keeper.keep(judged.alerts, judged.incidents, events)
        self._keeper.window(judged.window)
        report = Report(
            first=judged.window.first,
            step=judged.window.step,
            sites=tuple(self._sites.all),
            metrics=judged.window.metrics,
            alerts=tuple(a for a in judged.alerts if a.severity != "info"),
            incidents=judged.incidents,
            overhead=self.overhead,
            every=self._pace.gap,
            losses=judged.window.losses,
        )
        self._reporters = deliver(self._reporters, report, strict=self.strict)
        self._next_in_backlog()

    # -- several ranks: see shiftwatch.ranks --------------------------------------------------

    def _ring(self) -> int:
        """Steps of a window: where there are several ranks, whatever is on its way from a device."""
        ring = self._source.ring
        return ring if self._ranks is None else getattr(self._source, "span", ring)

    def _agreed(self, urgent: bool) -> bool:
        """Whether the window ends here, on all ranks, before the ring is full."""
        assert self._ranks is not None
        if self._ring() <= RING:
            return False
        try:
            if urgent:
                self._ranks.flag(len(self._pending))
            return self._ranks.flagged(len(self._pending))
        except Exception as error:
            self._part(error)
            return urgent

    def _hand_in(self, share: Share) -> None:
        """This rank's share of a window: to the others, or to be judged alone after all."""
        if self._ranks is None:
            self._backlog.append(share)
            self._next_in_backlog()
            return
        try:
            self._ranks.add(share, self._sites)
        except Exception as error:
            self._ranks.keep(share)
            self._part(error)
            self._next_in_backlog()

    def _hear(self, closing: bool = False, hurry: bool = False) -> None:
        """Look for what the others have posted, without waiting."""
        ranks = self._ranks
        assert ranks is not None
        urgent = False
        try:
            if not ranks.rank and ranks.ready(closing, hurry):
                batch = ranks.waiting[0].batch
                self._judging = self._of_all(ranks), batch.events
                urgent = batch.steps.size < max(self._ring(), RING + 1)  # or the run is young
            while ranks.rank and (verdict := ranks.heard()) is not None:
                self._take_over(verdict)
        except Exception as error:
            self._part(error)
            self._next_in_backlog()
        if urgent:
            self._finish_judging()

    def _of_all(self, ranks: Ranks) -> Stages[Judged | Share]:
        """Merge and judge the oldest window of all ranks."""
        try:
            share = yield from ranks.merging(self._sites)
        except Exception as error:
            self._part(error)
            share = self._backlog.popleft()
        return (yield from self._judge_share(share))

    def _judge_share(self, share: Share) -> Stages[Judged | Share]:
        framed = share.framed.widened(len(self._sites))
        return (
            yield from self._judgement.judging(
                share.batch, share.losses, share.given, self._share(), framed
            )
        )

    def _take_over(self, verdict: Verdict) -> None:
        """What rank 0 made of a window."""
        for site, activation in verdict.guessed.items():
            if (column := self._sites.column(site)) is not None:
                self._sites.guess(column, activation)
        self._keeper.keep(verdict.alerts, verdict.incidents, ())

    def _tell_others(self, judged: Judged) -> None:
        assert self._ranks is not None
        verdict = Verdict(judged.alerts, judged.incidents, dict(self._sites.guessed))
        try:
            self._ranks.tell(verdict)
        except Exception as error:
            self._part(error)

    def _wait_for_others(self) -> None:
        """The end of the run: a few seconds for those who come later, none after an error."""
        stopped = self._exception is not None or sys.exc_info()[0] is not None
        patience = time.monotonic() + (0.0 if stopped else FAREWELL)
        with suppress(Exception):
            self._ranks.leave() if self._ranks is not None else None
        while self._ranks is not None:
            late = time.monotonic() > patience
            if time.monotonic() > patience + FAREWELL:
                self._part(Lost("the end took too long"))
                break
            self._hear(closing=True, hurry=late)
            if self._judging is not None:
                self._finish_judging()
            elif self._ranks is not None and self._ranks.rank:
                try:
                    word = self._ranks.last_word(late)
                except Exception as error:
                    self._part(error)
                    break
                if word is not None or late:
                    self._take_over(word or Verdict())
                    break
                time.sleep(0.002)
            elif self._ranks is None or not self._ranks.waiting:
                break
            else:
                time.sleep(0.001)

    def _say_last(self, alerts: Sequence[Alert], incidents: Sequence[Incident]) -> None:
        """The others may wait for it."""
        assert self._ranks is not None
        if self._ranks.rank:
            return
        with suppress(Exception):
            self._ranks.end(Verdict(tuple(alerts), tuple(incidents)))
            patience = time.monotonic() + (1.0 if self._exception is None else 0.0)
            while not self._ranks.heeded() and time.monotonic() < patience:
                time.sleep(0.002)  # this process may be the one that keeps the posts

    def _part(self, reason: Exception) -> None:
        """From here on this rank watches its own share alone. Said once."""
        if self._ranks is None:
            return
        if self.strict and isinstance(reason, (TypeError, ValueError, LookupError)):
            raise reason
        ranks, self._ranks = self._ranks, None
        self._backlog.extend(ranks.waiting)
        with suppress(Exception):
            ranks.part()
        why = str(reason) if isinstance(reason, Lost) else f"{type(reason).__name__}: {reason}"
        where = "" if self._speaks else ", in memory"
        if not self._speaks:
            self._speaks = True
            self._reporters = (LoggingReporter(),)
        _log.warning(
            "rank %d watches its own share alone%s: %s. Call watch() on all ranks to have them merged, "
            "or watch(ranks='alone') if this is meant.", ranks.rank, where, why,
        )  # fmt: skip
        self._keeper.note(Event(self.steps, "ranks", f"rank {ranks.rank} alone: {why}"))

    def _next_in_backlog(self) -> None:
        if self._backlog and self._judging is None:
            share = self._backlog.popleft()
            self._judging = self._judge_share(share), share.batch.events

    def _layer(self, name: str, tensor: str, activation: str) -> Layer:
        """What ``observe`` can know of a layer: it follows the one observed before it."""
        known = self._sites.layers.get(name)
        if known is not None:
            if activation and tensor == "output":
                return Layer(name, known.module, activation, known.parameters, known.parents)
            return known
        parents = () if name == INPUT else tuple(list(self._sites.layers)[-1:])
        own = activation if tensor == "output" else ""
        has_weights = name != INPUT and not own
        return Layer(name, activation=own, parameters=has_weights, parents=parents)

    def _late(self, what: str) -> None:
        if not self._dark.get(what):
            self._dark[what] = "closed"
            _log.warning("%s() after close() is ignored: this monitor's run has ended.", what)

    def _fail(self, error: Exception) -> None:
        """Log an error of our own once, and watch no more."""
        if self.strict:
            raise error
        self._failed = True
        if self._ranks is not None:
            with suppress(Exception):
                self._ranks.leave()
                self._ranks.part()
            self._ranks = None
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


def _reference(reference: Any) -> Reference:
    if isinstance(reference, str) and reference in _REFERENCES:
        return _REFERENCES[reference]()
    if isinstance(reference, (str, os.PathLike)):
        from shiftwatch.store import open_run

        path = Path(reference)
        if not path.exists():
            raise ValueError(
                f"reference must be 'first', 'previous', 'decayed' or the path of a run; "
                f"got {str(reference)!r}, and there is no such folder."
            )
        return SavedRun(open_run(path))
    if hasattr(reference, "of") and hasattr(reference, "keep"):
        return cast(Reference, reference)
    raise TypeError(f"reference must be a name or a path; got {reference!r}.")


_REFERENCES: dict[str, Callable[[], Reference]] = {
    "first": First,
    "previous": Previous,
    "decayed": Decayed,
}


def _with_steps(batch: Batch, steps: np.ndarray) -> Batch:
    if not np.array_equal(batch.steps, steps):
        raise RuntimeError(
            f"The source must hand over the steps that were watched, {steps.tolist()}; "
            f"it handed over {batch.steps.tolist()}."
        )
    return batch
