"""Lightning: ``Trainer(callbacks=[ShiftWatch()])``, under either of its two names.

``lightning.pytorch`` and ``pytorch_lightning`` are the same code with different classes, and
each trainer takes callbacks of its own root only (Lightning#17485). The callback derives
from the root that is loaded; where none is yet, from every one that is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shiftwatch.epochs import EPOCH
from shiftwatch.optional import need
from shiftwatch.records import SEVERITIES, Alert, Incident, Report
from shiftwatch.reporters.rollups import rollups, standing

_ROOTS = ("lightning.pytorch", "pytorch_lightning")
# Before PyTorch, so that the message names the extra that brings both.
if not any(importlib.util.find_spec(root.partition(".")[0]) for root in _ROOTS):
    need("pytorch_lightning", extra="lightning", feature="ShiftWatch")

from shiftwatch.integrations.torch import watch  # noqa: E402
from shiftwatch.integrations.torch.ranks import reachable  # noqa: E402

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer

    from shiftwatch.monitor import Monitor
    from shiftwatch.rules import Judge
else:

    def _bases() -> tuple[type, ...]:
        found = [root for root in _ROOTS if root in sys.modules]
        found = found or [r for r in _ROOTS if importlib.util.find_spec(r.partition(".")[0])]
        return tuple(importlib.import_module(root).Callback for root in found)

    class Callback(*_bases()):
        """Callback of every root in use."""


#: With several processes, how often they ask each other whether to stop, in steps: asking
#: makes them wait for each other.
ASK = 8

_log = logging.getLogger("shiftwatch")


class ShiftWatch(Callback):
    """Watches the distribution of every layer while ``fit`` runs.

    Rollups go to every logger of the trainer as ``shiftwatch/…``; W&B also gets alerts,
    tables and the report. Alerts are logged, and so are heard on stderr where the program
    set up no logging. Validation inside ``fit`` is kept apart from training; the sanity
    check is not recorded. A step is an optimizer step, however many batches it took. Where
    epochs begin is noted, so that runs can be compared by epoch. Of several processes all
    watch, and the first one merges what they see, writes and reports.

    Args:
        run: folder to record into. By default one in the trainer's log folder; ``False``
            keeps the history in memory only, which ``fast_dev_run`` always does.
        layers: glob pattern, or several, of the layers to watch; all by default.
        tensors: what to watch of a layer, such as ``output`` and ``gradient``; by default
            what ``watch`` recommends.
        every: watch every n-th step.
        budget: share of the step time under which shiftwatch keeps itself, such as 0.01.
        reference: ``first``, ``previous``, or the path of a good run.
        alpha: probability that a healthy run raises anything by chance; 0.01 by default.
        rules: who judges; by default all rules.
        metrics: own metrics, name to function.
        reporters: callables of one report, beside the trainer's loggers.
        exact: layers whose outputs are counted in full, see ``watch``.
        probe: a batch of inputs that stays the same, see ``watch``.
        replay: references to keep, so that incidents can be replayed, see ``watch``.
        ranks: ``"alone"`` to have the first of several processes watch its own share only.
        strict: re-raise errors inside shiftwatch instead of logging them.
        stop_on: end the training, in order, at the first alert of this severity or worse.

    Raises:
        ImportError: where Lightning is not installed.
        ValueError: for an unknown ``stop_on``.

    Checkpoints hold what is needed to go on: ``fit(ckpt_path=…)`` continues the run where
    the checkpoint was saved. A second ``fit`` is the next attempt in the same folder.

    Example:
        >>> ShiftWatch(every=2, stop_on="critical").alerts
        []
    """

    _epoch: int  # the last that was noted

    def __init__(
        self,
        *,
        run: bool | str | os.PathLike[str] | None = None,
        layers: str | Sequence[str] | Callable[..., bool] | None = None,
        tensors: str | Sequence[str] | None = None,
        every: int = 1,
        budget: float | None = None,
        reference: str | os.PathLike[str] = "first",
        alpha: float | None = None,
        rules: Sequence[Judge] | None = None,
        metrics: Mapping[str, Callable[..., Any]] | None = None,
        reporters: Sequence[Callable[[Report], object]] = (),
        exact: Any = None,
        probe: Any = None,
        replay: int | None = None,
        ranks: Literal["auto", "alone"] = "auto",
        strict: bool = False,
        stop_on: Literal["warning", "critical"] | None = None,
    ) -> None:
        super().__init__()
        if stop_on not in (None, "warning", "critical"):
            raise ValueError(f"stop_on must be 'warning', 'critical' or None; got {stop_on!r}.")
        self.run, self.reporters, self.stop_on = run, tuple(reporters), stop_on
        self.strict = strict
        options = {
            "layers": layers, "tensors": tensors, "every": every, "budget": budget,
            "reference": reference, "alpha": alpha, "rules": rules, "metrics": metrics, "exact": exact,
            "probe": probe, "replay": replay, "ranks": None if ranks == "auto" else ranks, "strict": strict,
        }  # fmt: skip
        self._options = {name: v for name, v in options.items() if v is not None}
        self._monitor: Monitor | None = None
        self._loss: Any = None
        self._state: dict[str, Any] | None = None
        self._forget()

    @property
    def monitor(self) -> Monitor | None:
        """The monitor of the current or last fit; ``None`` before the first."""
        return self._monitor

    @property
    def alerts(self) -> list[Alert]:
        """Warnings and criticals of the current or last fit, in the order raised."""
        return list(self._monitor.alerts) if self._monitor is not None else []

    # -- Lightning calls these ------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach: after the sanity check, when model and optimizers are in place."""
        self._close()
        folder = self._folder(trainer)  # asks all ranks
        self._monitor = None
        reporters: tuple[Callable[[Report], object], ...] = ()
        if trainer.is_global_zero:
            reporters = (*self.reporters, *self._to_loggers(trainer))
        if trainer.is_global_zero or ("ranks" not in self._options and reachable()):
            self._monitor = watch(pl_module, run=folder, reporters=reporters, **self._options)
        self._forget()
        self._global_step = trainer.global_step
        if self._monitor is not None and self._state is not None:
            self._resume(self._monitor, self._state)
        self._state = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note where an epoch begins, under Lightning's own number.

        Its own hook is left out after some resumptions (in 2.6 where the checkpoint was saved with
        the last batch of an epoch), and in others called again.
        """
        if self._monitor is not None and batch_idx == 0 and trainer.current_epoch != self._epoch:
            self._epoch = trainer.current_epoch
            self._monitor.event(EPOCH, str(self._epoch))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One step where the optimizer stepped; batches in between are accumulated."""
        loss: Any = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        loss = loss.detach() if hasattr(loss, "detach") else loss
        if loss is not None and self._loss is not None and pl_module.automatic_optimization:
            loss = self._loss + loss  # Lightning has divided each by the number of batches
        if trainer.global_step == self._global_step:
            self._loss = loss
            return
        self._global_step, self._loss = trainer.global_step, None
        self._steps += 1
        if self._monitor is not None:
            self._monitor.step(loss=loss)
        if self.stop_on is not None:
            self._maybe_stop(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Errors and Ctrl-C come here and not to teardown."""
        if self._monitor is not None and not self._closed:
            self._monitor.event("exception", f"training stopped with {type(exception).__name__}")
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The end of fit. What a checkpoint brought for another stage is dropped."""
        self._close()
        self._state = None

    def state_dict(self) -> dict[str, Any]:
        """The monitor's state, for the checkpoint."""
        if self._monitor is None:
            return self._state or {}
        try:
            return self._monitor.state_dict()
        except Exception:
            if self.strict:
                raise
            _log.exception("The checkpoint is saved without shiftwatch's state.")
            return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until training starts: checkpoints are loaded before the model is ready."""
        self._state = state_dict or None

    @property
    def state_key(self) -> str:
        """Tells several instances in one trainer apart."""
        shown = {"run": None if self.run is None else str(self.run), "stop_on": self.stop_on}
        for name, value in self._options.items():
            plain = isinstance(value, (int, float, str)) or (
                isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value)
            )
            shown[name] = str(value) if plain else type(value).__qualname__
        return self._generate_state_key(**shown)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Find our state also where an option was changed since: there is but one of ours."""
        states = checkpoint.get("callbacks", {})
        ours = [k for k in states if str(k).startswith(type(self).__qualname__ + "{")]
        if self.state_key not in states and len(ours) == 1:
            self.load_state_dict(states[ours[0]])

    def __getstate__(self) -> dict[str, Any]:
        # Hooks, files and locks belong to this process; a copy attaches its own.
        return self.__dict__ | {"_monitor": None, "_closed": True, "_loss": None}

    # -- inside ---------------------------------------------------------------------------

    def _forget(self) -> None:
        self._closed = self._monitor is None
        self._global_step = self._steps = 0
        self._epoch = -1
        self._loss = None
        self._judged = 0  # alerts that stop_on has seen
        self._stopping = False

    def _close(self) -> None:
        if self._monitor is not None and not self._closed:
            self._closed = True
            self._monitor.close()

    def _folder(self, trainer: Trainer) -> str | os.PathLike[str] | bool | None:
        """The same on all ranks; never one that another training writes into."""
        if _trial(trainer):
            return False
        if self.run is not None:
            return self.run
        log_dir = trainer.log_dir or trainer.default_root_dir  # asks all ranks
        saved = (self._state or {}).get("run")
        if saved and Path(saved).is_dir():
            folder: str | None = str(saved)
        elif "://" in str(log_dir):
            folder = None  # a bucket: the default folder on this machine
        else:
            top = Path(log_dir, "shiftwatch")
            first = trainer.loggers[0] if trainer.loggers else None
            versioned = getattr(first, "log_dir", None) == log_dir
            folder = str(top if versioned else top / _dated(top))
        return trainer.strategy.broadcast(folder)

    def _resume(self, monitor: Monitor, state: dict[str, Any]) -> None:
        saved, here = state.get("run"), monitor.run
        if saved is None or here is None or Path(saved).resolve() != here.resolve():
            state = {**state, "attempt": None}  # go on judging, but in a run of its own
        try:
            monitor.load_state_dict(state)
        except Exception as error:
            if self.strict:
                raise
            _log.warning("The checkpoint's shiftwatch state is left out: %s", error)
        self._judged = len(monitor.alerts)

    def _maybe_stop(self, trainer: Trainer) -> None:
        new, self._judged = self.alerts[self._judged :], len(self.alerts)
        least = SEVERITIES.index(str(self.stop_on))
        worst = [alert for alert in new if SEVERITIES.index(alert.severity) >= least]
        if worst and not self._stopping and trainer.is_global_zero:
            _log.warning("training ends here (stop_on=%r): %s", self.stop_on, worst[0].message)
        self._stopping = self._stopping or bool(worst)
        stop = self._stopping
        if trainer.world_size > 1:
            if self._steps % ASK:
                return
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        trainer.should_stop = trainer.should_stop or stop

    def _to_loggers(self, trainer: Trainer) -> list[Callable[[Report], object]]:
        if not trainer.loggers or _trial(trainer):
            return []
        found: list[Callable[[Report], object]] = [ToLoggers(trainer)]
        for logger in trainer.loggers:
            if any(kind.__name__ == "WandbLogger" for kind in type(logger).__mro__):
                from shiftwatch.integrations.wandb import WandbReporter

                if not any(isinstance(reporter, WandbReporter) for reporter in self.reporters):
                    experiment: Any = getattr(logger, "experiment", None)
                    found.append(WandbReporter(experiment, rows=False))
        return found


class ToLoggers:
    """Reporter that writes the rollups through the trainer's loggers, at its global step.

    Not through ``LightningModule.log``: that keeps a row per ``log_every_n_steps`` only.
    Each logger knows its own rules, so a W&B row here costs the user none.

    Args:
        trainer: whose loggers are used; they may change.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._open: dict[int, Incident] = {}
        self._step: int | None = None

    def __call__(self, report: Report) -> None:
        """One row per window; the final report repeats the last one and adds none."""
        self._open = standing(self._open, report)
        if report.step == self._step:
            return
        self._step = report.step
        series = rollups(report, self._open)
        row = {f"shiftwatch/{name}": value for name, value in series.items() if value == value}
        step = max(self._trainer.global_step - 1, 0)  # as Lightning numbers its own rows
        for logger in self._trainer.loggers:
            logger.log_metrics(row, step=step)


def _trial(trainer: Trainer) -> bool:
    return bool(getattr(trainer, "fast_dev_run", False))


def _dated(top: Path) -> str:
    stem = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = (stem if n == 1 else f"{stem}_{n}" for n in range(1, 1000))
    return next(name for name in names if not (top / name).exists())
