"""Judgement: from a batch of samples to metrics, alerts and incidents. No files, no clock.

Its state is plain arrays; the same batches in the same order give the same alerts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shiftwatch.catalogue import arity, extended, metrics
from shiftwatch.dead import Dead
from shiftwatch.divergences.js import js_null
from shiftwatch.explained import explain, explained_init
from shiftwatch.frame import Framed, Wanted, framing
from shiftwatch.guess import guess
from shiftwatch.incidents import Incidents
from shiftwatch.ledger import Ledger
from shiftwatch.occasions import look, occasions_init
from shiftwatch.origin import Drift
from shiftwatch.plain import plain, restored
from shiftwatch.probing import probe_metrics
from shiftwatch.records import Alert, Event, Incident, Site, from_plain, to_plain
from shiftwatch.references import First, Previous, Reference
from shiftwatch.rules import DEFAULT, Evidence, Firing, Judge, continued, grown
from shiftwatch.rules.response import ResponseState
from shiftwatch.running import running_metrics
from shiftwatch.shares import Share
from shiftwatch.sites import Sites
from shiftwatch.source import Batch, Census
from shiftwatch.stages import Stages, finish
from shiftwatch.statistics.dead_fraction import dead_units
from shiftwatch.summaries import Summary
from shiftwatch.window import Window, widened

#: Metrics that every window records.
RECORDED = (
    "mean_shift", "variance_shift", "kl", "js", "psi", "wasserstein", "ks",
    "saturation", "zero_fraction", "nonfinite", "kurtosis", "mean", "std", "rms",
)  # fmt: skip

# Metrics that need single units; dead_fraction is taken from the ledger instead.
_UNITS = {"dormant", "worst_unit_shift"}
_GUESSES = 8  # windows in which activations are read off the values
_ALARMING = ("mode", "gradients")  # events that are what an alert is about
_EVENT_MEMORY = 16  # steps for which an event is named in the advice


@dataclass(frozen=True)
class Judged:
    """Outcome of a batch.

    Args:
        window: for the history.
        alerts, incidents: raised; new or changed.
        hurry: whether something waits to be confirmed by the very next step.
    """

    window: Window
    alerts: tuple[Alert, ...]
    incidents: tuple[Incident, ...]
    hurry: bool


class Judgement:
    """Everything between a batch and its alerts.

    Args:
        sites: the table of sites, shared with the monitor; it may grow.
        reference: what divergences are taken against.
        rules: who judges.
        own: the user's metrics, name to function of ``(summary)`` or ``(current, reference)``.
    """

    def __init__(
        self,
        sites: Sites,
        reference: Reference | None = None,
        rules: Sequence[Judge] = DEFAULT,
        own: Mapping[str, Callable[..., np.ndarray]] | None = None,
    ) -> None:
        self.sites = sites
        self.reference = reference or First()
        self.rules = tuple(rules)
        for rule in self.rules:
            if not all(hasattr(rule, name) for name in ("columns", "init", "update")):
                raise TypeError(
                    f"rules must be rules, such as [*DEFAULT, Rule('kl', 0.5)]; got {rule!r}."
                )
        known = extended(own)  # checks the names and functions
        table = {key: known[key] for key in (*RECORDED, *(own or {}))}
        wanted = {str(getattr(rule, "metric", "")) for rule in rules} - {"", *table}
        derived = {"dead_fraction", "relative_update", "batchnorm_gap", "batchnorm_stretch"}
        for key in sorted(wanted & _UNITS):
            raise ValueError(
                f"A rule watches {key!r}, which needs single units, and windows do not keep them. "
                "Watch dead_fraction, or observe what you need as an array of its own."
            )
        table |= {key: metrics[key] for key in sorted(wanted - derived) if key in metrics}
        unknown = wanted - derived - set(table)
        if unknown:
            raise ValueError(
                f"A rule watches the metric {sorted(unknown)[0]!r}, which is not known. Known are "
                f"{', '.join(sorted({*metrics, *table, *derived}))}; give your own as metrics={{…}}."
            )
        self._metrics = {key: (function, arity(function)) for key, function in table.items()}
        self._states = [rule.init(0) for rule in self.rules]
        self._explained = explained_init(0)
        self._occasions = occasions_init()
        self._kept = Summary.empty((0,))
        self._before = Summary.empty((0,))
        self._ledger = Ledger()
        self._guessing = _GUESSES
        self._incidents = Incidents()
        self._events: list[Event] = []

    def judge(
        self, batch: Batch, losses: np.ndarray, given: np.ndarray, overhead: float = 0.0
    ) -> Judged:
        """Judge a batch of at least one step.

        Args:
            losses: float64[T], the loss of each step; NaN where unknown.
            given: bool[T], whether it was given at all.
            overhead: to note in the window.
        """
        with np.errstate(all="ignore"):
            return finish(self.judging(batch, losses, given, overhead))

    def sharing(self, batch: Batch, losses: np.ndarray, given: np.ndarray) -> Stages[Share]:
        """Measure a batch, to be merged with those of other ranks and judged then."""
        framed = yield from self.framing(batch)
        tampered = widened(batch.tampered, len(self.sites))
        return Share(replace(batch, groups=(), tampered=tampered), framed, losses, given)

    def framing(self, batch: Batch) -> Stages[Framed]:
        """Measure a batch as judging asks for it."""
        guessed = {
            c: a for s, a in self.sites.guessed.items() if (c := self.sites.column(s)) is not None
        }
        return framing(batch, len(self.sites), guessed, self._wanted())

    def judging(
        self,
        batch: Batch,
        losses: np.ndarray,
        given: np.ndarray,
        overhead: float = 0.0,
        framed: Framed | None = None,
    ) -> Stages[Judged]:
        """The same in stages. Until the last one no site may be added.

        Args:
            framed: the batch measured already, over all sites that there are.
        """
        number = len(self.sites)
        self._grow(number)
        forward = self.sites.columns("output", "input", train=True)
        course, summary, activity, entered = framed or (yield from self.framing(batch))
        yield
        self._ledger.add(activity)
        self._explained, update, explained = explain(self._explained, course, self.sites)
        self._occasions, occasions = look(self._occasions, batch, update, self.sites, losses)
        if self._guessing > 0 and self.sites.unguessed.any():
            self._guessing -= 1
            for column, activation in guess(summary, self.sites).items():
                self.sites.guess(column, activation)
        units = self._ledger.units(forward)
        last = int(batch.steps[-1])
        values = self._measure(summary, last)
        yield
        dead = np.full(number, np.nan)
        silent = dead_units(units)
        dead[forward] = units.average(silent)
        values["dead_fraction"] = np.where(summary.bounded & (summary.count > 0), dead, np.nan)
        values["relative_update"] = _mean_seen(update)
        norms = running_metrics(batch.running, number)
        evidence = Evidence(
            sites=self.sites,
            frame=course,
            batch=replace(batch, tampered=widened(batch.tampered, number)),
            summary=summary,
            units=units,
            metrics={**values, **norms, **self._step(summary, forward)},
            losses=losses,
            given=given,
            update=update,
            explained=explained,
            held=occasions.held,
            surprise=occasions.surprise,
            entered=entered,
        )
        self._events = [e for e in (*self._events, *batch.events) if e.step > last - 64]
        yield
        firings, active, drift, hurry = yield from self._asking(evidence)
        alerts, incidents = self._incidents.update(
            firings, self.sites, drift, last, active, self._context(firings), hurry,
            hold=batch.coming, remark=next((s.remark for s in batch.sweeps if s.remark), ""),
        )  # fmt: skip
        self._kept = self.reference.keep(self._kept, summary)
        self._before = Previous().keep(self._before, summary)
        values = counted(values, batch.censuses, summary.bounded)
        values |= norms if batch.running else {}
        for seen in batch.probes:
            columns = [self.sites.column(site) for site in seen.sites]
            places = np.array([-1 if c is None else c for c in columns], np.int64)
            values |= probe_metrics(seen, places, number)
        rates = np.array([batch.steps, batch.learning_rate])
        rates = rates[:, ~np.isnan(rates[1])]
        mortal = np.repeat(self.sites.one_sided[forward], np.diff(units.starts))
        lost = Dead.of(mortal & (silent > 0), units.starts, forward)
        span = int(batch.steps[0]), last
        window = Window(*span, summary, values, losses, overhead, rates, lost)
        return Judged(window, tuple(alerts), tuple(incidents), hurry)

    def flush(self, step: int) -> tuple[list[Alert], list[Incident]]:
        """Alerts that were held back for a cause to show; the run ends with ``step``."""
        return self._incidents.flush(self.sites, step)

    def _wanted(self) -> Wanted:
        """What the rules need to know of which sites, beside the usual."""
        forward = self.sites.mask("output", "input", train=True)
        return Wanted(
            slow=self.sites.mask("weight", "update"),
            spread=forward,
            active=forward & (self.sites.bounded | self.sites.unguessed),
            telling=self.sites.telling,
        )

    def _asking(self, evidence: Evidence) -> Stages[tuple[list[Firing], np.ndarray, Drift, bool]]:
        """Every rule's verdict."""
        number = len(self.sites)
        firings: list[Firing] = []
        active = np.zeros(number, bool)
        drift = Drift(np.zeros(0, np.int64), np.zeros((0, number)))
        hurry = False
        for i, rule in enumerate(self.rules):
            verdict = rule.update(self._states[i], evidence)
            self._states[i] = verdict.state
            firings += verdict.firings
            mine = rule.columns(self.sites)
            active[mine] |= verdict.active
            if isinstance(verdict.state, ResponseState):
                course = np.zeros((len(verdict.state.when), number))
                course[:, mine] = verdict.state.course
                drift = Drift(verdict.state.when, course)
                # Of the newest step: what is seen no more would wait for ever.
                hurry = bool((verdict.state.jump.since == evidence.frame.steps[-1]).any())
            yield
        return firings, active, drift, hurry

    def _measure(self, summary: Summary, step: int) -> dict[str, np.ndarray]:
        reference = self.reference.of(self._kept, summary, self.sites, step)
        values = {}
        for key, (function, windows) in self._metrics.items():
            value = function(summary) if windows == 1 else function(summary, reference)
            values[key] = np.asarray(value, dtype=np.float64)
            if values[key].shape != summary.shape:
                raise ValueError(
                    f"The metric {key!r} must return one number per site, shape {summary.shape}; "
                    f"got shape {values[key].shape}. Write it with array operations over the leading axis."
                )
        return values

    def _step(self, summary: Summary, forward: np.ndarray) -> dict[str, np.ndarray]:
        """The window against the one before it; for rules only."""
        now, before = summary[forward], self._before[forward]
        return {
            "js_step": _above_chance(now, before),
            "mean_step": metrics["mean_shift"](now, before),
            "variance_step": metrics["variance_shift"](now, before),
        }

    def _grow(self, number: int) -> None:
        known = self._kept.shape[0]
        if number == known:
            return
        self._states = [
            grown(s, r.init(r.columns(self.sites).size))
            for s, r in zip(self._states, self.rules, strict=True)
        ]
        self._explained = grown(self._explained, explained_init(number))
        self._kept = self._kept.padded(number)
        self._before = self._before.padded(number)

    def _context(self, firings: Sequence[Firing]) -> str:
        """What the run did on purpose shortly before, for the advice."""
        if not firings:
            return ""
        first = min(f.step for f in firings)
        near = [
            e
            for e in self._events
            if 0 <= first - e.step <= _EVENT_MEMORY and e.kind not in _ALARMING
        ]
        return f"Shortly before, at step {near[-1].step}: {near[-1].detail}." if near else ""

    def state(self) -> dict[str, Any]:
        """Everything that later judgements depend on, in plain containers."""
        return {
            "rules": [plain(s) for s in self._states],
            "names": [type(r).__name__ for r in self.rules],
            "explained": plain(self._explained),
            "occasions": plain(self._occasions),
            "kept": _summary_state(self._kept),
            "before": _summary_state(self._before),
            "ledger": plain(self._ledger.state()),
            "incidents": self._incidents.state(),
            "guessing": self._guessing,
            "guessed": [[to_plain(s), a] for s, a in self.sites.guessed.items()],
        }

    def _continued(self, rule: Judge, saved: list[tuple[str, Any]]) -> Any:
        """A rule's state, that of the first saved rule of its name, which is taken away; else none yet."""
        fresh = rule.init(rule.columns(self.sites).size)
        for place, (name, known) in enumerate(saved):
            if name == type(rule).__name__:
                del saved[place]
                return continued(known, fresh)
        return fresh

    def load(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state`; the sites must have been registered before."""
        number = len(self.sites)
        saved = list(zip(state["names"], state["rules"], strict=True))
        self._states = [self._continued(rule, saved) for rule in self.rules]
        self._explained = restored(state["explained"], explained_init(number))
        if "occasions" in state:  # not in those of before 0.2
            self._occasions = restored(state["occasions"], occasions_init())
        self._kept = _summary_from(state["kept"])
        self._before = _summary_from(state["before"])
        self._ledger.load(restored(state["ledger"], self._ledger.state()))
        self._incidents.load(state["incidents"])
        self._guessing = int(state["guessing"])
        for site, activation in state["guessed"]:
            self.sites.guessed[from_plain(Site, site)] = activation
        self.sites.renew()


def counted(
    values: Mapping[str, np.ndarray], censuses: Sequence[Census], bounded: np.ndarray
) -> dict[str, np.ndarray]:
    """The metrics of a window with what was counted in the place of what was estimated.

    Args:
        bounded: bool[sites], which have an activation: only these saturate and die.

    Returns:
        The same keys, and where there is a census ``exact_count``: float64[sites], the finite
        values that were counted, NaN at sites that were sampled as always.
    """
    result = dict(values)
    if not censuses:
        return result
    exact: dict[str, dict[int, float]] = {"exact_count": {}}
    for c in censuses:
        some = c.count > 0
        exact["exact_count"][c.column] = float(c.count)
        for key, value in {
            "mean": c.mean,
            "std": c.std,
            "rms": float(np.hypot(c.mean, c.std)),
            "zero_fraction": c.zero / c.count if some else np.nan,
            "nonfinite": c.nonfinite / max(c.count + c.nonfinite, 1),
            "saturation": c.flat / c.count if some else np.nan,
            "dead_fraction": c.dead.size / c.active.size if c.active.size else np.nan,
        }.items():
            exact.setdefault(key, {})[c.column] = value
    blank = np.full(len(next(iter(values.values()), ())), np.nan)
    for key, entries in exact.items():
        known = result.get(key, blank if key == "exact_count" else None)
        if known is None:
            continue
        result[key] = known.copy()
        for column, value in entries.items():
            if key in ("saturation", "dead_fraction") and not bounded[column]:
                continue
            result[key][column] = value
    return result


def _above_chance(now: Summary, before: Summary) -> np.ndarray:
    """Jensen-Shannon divergence without what sampling alone makes of it: float64[sites].

    A window cut short by a checkpoint may hold a few dozen values, of which half the bins
    are news. Where it is small anyway it is left as it is.
    """
    value = metrics["js"](now, before)
    large = np.flatnonzero(value > 0.05)
    if not large.size:
        return value
    chance = js_null(now[large], before[large])
    value[large] = np.maximum(value[large] - 2 * chance, 0.0)
    return value


def _mean_seen(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0.0).sum(0) / known.sum(0)


_GROUPS = ("moments", "tallies", "histogram")


def _summary_state(summary: Summary) -> dict[str, Any]:
    def fields_of(group: Any) -> dict[str, Any]:
        return {name: plain(getattr(group, name)) for name in group.__dataclass_fields__}

    groups = {name: fields_of(getattr(summary, name)) for name in _GROUPS}
    return {**groups, "bounded": plain(summary.bounded)}


def _summary_from(state: Mapping[str, Any]) -> Summary:
    empty = Summary.empty((0,))
    groups = {
        name: type(getattr(empty, name))(
            **restored(
                state[name], {k: np.zeros(0) for k in getattr(empty, name).__dataclass_fields__}
            )
        )
        for name in _GROUPS
    }
    return Summary(**groups, bounded=restored(state["bounded"], np.zeros(0)))
