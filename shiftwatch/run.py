"""Run: the reading side of a history, whether it lies in memory or on disk."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from shiftwatch import columns, tables
from shiftwatch.abreast import abreast
from shiftwatch.dead import Dead, stacked
from shiftwatch.records import SEVERITIES, Alert, Event, Incident, Layer, Site
from shiftwatch.summaries.histogram import BINS, Histogram
from shiftwatch.summaries.summary import Summary
from shiftwatch.window import COUNTS, REALS, Row, mean_loss, narrow, rates_of, weighted

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

_KEPT = 128 << 20  # bytes of metrics kept decoded: a page asks for one of many layers in a row


class Chunk(Protocol):
    """Consecutive windows, as they are kept: decoded only where asked."""

    @property
    def first(self) -> np.ndarray:
        """First step of each window: int64[n]."""

    @property
    def steps(self) -> np.ndarray:
        """Last step of each window: int64[n]."""

    @property
    def losses(self) -> np.ndarray:
        """Mean loss of each window: float64[n]."""

    @property
    def rates(self) -> np.ndarray:
        """Steps, ascending, and the learning rate at each: float64[2, any]."""

    @property
    def dead(self) -> Dead:
        """Units that are dead at the end of each window."""

    @property
    def overhead(self) -> np.ndarray:
        """Share of the step time: float64[n]."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Metrics that some of the windows know."""

    def metric(self, key: str, sites: int) -> np.ndarray:
        """float64[n, sites], NaN where unknown."""

    def histogram(self, site: int) -> np.ndarray:
        """int64[n, BINS]."""

    def summary(self, window: int) -> Summary:
        """Summary of the sites which that window knows."""

    def summaries(self, windows: np.ndarray) -> Iterator[Summary]:
        """The same of several windows, in the order given."""

    def step_losses(self, window: int) -> np.ndarray:
        """Losses within a window: float64[any]."""

    def table(self, sites: int) -> Table:
        """Numbers of all its windows, site by site; no values at sites that are not known."""

    @property
    def grain(self) -> int:
        """Consecutive windows whose histograms are kept added up, too; 1 where none are."""

    def cells(self, grain: int) -> Cells:
        """Histograms of all sites, of each window (1) or of every ``grain`` of them added up."""


class Table(NamedTuple):
    """Numbers of consecutive windows, those of one site beside each other.

    Args:
        reals: float[6, sites, n], the fields :data:`shiftwatch.window.REALS` of the moments.
        counts: int[7, sites, n], :data:`shiftwatch.window.COUNTS`.
        bounded: bool[sites, n].
    """

    reals: np.ndarray
    counts: np.ndarray
    bounded: np.ndarray


class Cells(NamedTuple):
    """Histograms of consecutive windows, sites one below the other, without their empty ends.

    Args:
        low: int64[sites], lowest bin of each site.
        starts: int64[sites + 1], its first row, and the end.
        counts: [rows, n], whole numbers.
    """

    low: np.ndarray
    starts: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Rows:
    """A chunk in memory.

    Args:
        rows: the windows, in order.
    """

    rows: tuple[Row, ...]

    @cached_property
    def first(self) -> np.ndarray:
        return np.array([r.first for r in self.rows], np.int64)

    @cached_property
    def steps(self) -> np.ndarray:
        return np.array([r.step for r in self.rows], np.int64)

    @cached_property
    def losses(self) -> np.ndarray:
        return np.array([mean_loss(r.losses) for r in self.rows])

    @cached_property
    def rates(self) -> np.ndarray:
        return rates_of(r.rates for r in self.rows)

    @cached_property
    def dead(self) -> Dead:
        return stacked([r.dead for r in self.rows])

    @cached_property
    def overhead(self) -> np.ndarray:
        return np.array([r.overhead for r in self.rows])

    @cached_property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for r in self.rows for key in r.keys))

    def metric(self, key: str, sites: int) -> np.ndarray:
        values = np.full((len(self.rows), sites), np.nan)
        for row, target in zip(self.rows, values, strict=True):
            if key in row.keys:
                target[: row.sites] = row.metrics[row.keys.index(key)]
        return values

    def histogram(self, site: int) -> np.ndarray:
        return np.array([r.histogram(site) for r in self.rows], np.int64).reshape(-1, BINS)

    def summary(self, window: int) -> Summary:
        return self.rows[window].summary()

    def summaries(self, windows: np.ndarray) -> Iterator[Summary]:
        return (self.rows[window].summary() for window in windows)

    def step_losses(self, window: int) -> np.ndarray:
        return self.rows[window].losses

    def table(self, sites: int) -> Table:
        shape = sites, len(self.rows)
        table = Table(
            np.zeros((len(REALS), *shape)),
            np.zeros((len(COUNTS), *shape), np.int64),
            np.zeros(shape, bool),
        )
        for i, row in enumerate(self.rows):
            table.reals[:, : row.sites, i] = row.reals
            table.counts[:, : row.sites, i] = row.counts
            table.bounded[: row.sites, i] = row.bounded
        return table

    @property
    def grain(self) -> int:
        return 1

    def cells(self, grain: int) -> Cells:
        none = np.zeros(0, np.int64)
        bins = np.concatenate([none, *(row.bins for row in self.rows)])
        hits = narrow(np.concatenate([none, *(row.hits for row in self.rows)]))
        window = np.repeat(np.arange(len(self.rows)), [row.bins.size for row in self.rows])
        of = [np.repeat(np.arange(row.sites), row.sizes) for row in self.rows]
        sites = max((row.sites for row in self.rows), default=0)
        return dense(np.concatenate([none, *of]), bins, window, hits, (sites, len(self.rows)))


def dense(
    site: np.ndarray, bins: np.ndarray, window: np.ndarray, hits: np.ndarray, shape: tuple[int, int]
) -> Cells:
    """Counts that are not zero, each with its site, bin and window, among those that are.

    Args:
        shape: number of sites and of windows.

    Example:
        >>> at = np.array([0, 0, 2])
        >>> low, starts, counts = dense(at, np.array([5, 7, 1]), np.array([0, 1, 1]), at + 1, (3, 2))
        >>> low[[0, 2]].tolist(), starts.tolist(), counts.tolist()
        ([5, 1], [0, 3, 3, 4], [[1, 0], [0, 0], [0, 1], [0, 3]])
    """
    sites, windows = shape
    low, high = np.full(sites, BINS, np.int64), np.zeros(sites, np.int64)
    np.minimum.at(low, site, bins)
    np.maximum.at(high, site, bins + 1)
    starts = np.concatenate([[0], np.cumsum(np.maximum(high - low, 0))])
    counts = np.zeros((starts[-1], windows), hits.dtype)
    counts[starts[site] + bins - low[site], window] = hits
    return Cells(low, starts, counts)


class Run:
    """A run as it can be read: windows, alerts, incidents and events.

    What ``shiftwatch.open`` returns, and ``Monitor.history``. It is a snapshot: what is
    written later appears in the next one. Rows of arrays are windows (W), in order;
    columns are sites (S), the same in every window, with NaN where a window did not know
    the site yet. Where a run was long, its older windows have been merged and span more
    steps than its recent ones.

    Args:
        path: the run folder; ``None`` for a history in memory.
        meta: configuration, versions, ``started``, ``finished`` and what else was noted.
        sites: what the columns stand for.
        layers: name to layer, in execution order.
        alerts, incidents, events: in the order they came.
        attempt: which of the folder's attempts this is, such as ``"attempt-001"``.
        attempts: all of them, the latest last.
        notes: what was found wrong while reading, one line each; also ``meta["damage"]``.

    Example:
        >>> from shiftwatch.history import History
        >>> history = History()
        >>> _ = history.add_site(Site("fc1"), Layer("fc1"))
        >>> run = history.view()
        >>> run.sites[0].key, run.steps.tolist()
        ('fc1:output', [])
    """

    def __init__(
        self,
        *,
        chunks: Sequence[Chunk] = (),
        path: Path | None = None,
        meta: Mapping[str, Any] | None = None,
        sites: Sequence[Site] = (),
        layers: Mapping[str, Layer] | None = None,
        alerts: Sequence[Alert] = (),
        incidents: Sequence[Incident] = (),
        events: Sequence[Event] = (),
        attempt: str = "",
        attempts: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.meta: dict[str, Any] = dict(meta or {})
        self.sites = tuple(sites)
        self.layers = dict(layers or {})
        self.alerts = list(alerts)
        self.incidents = list(incidents)
        self.events = list(events)
        self.attempt = attempt
        self.attempts = list(attempts)
        self.notes = list(notes)
        #: The windows as they are kept, for who reads many of them at once.
        self.chunks = tuple(c for c in chunks if len(c.steps))
        self._decoded: OrderedDict[str, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.steps)

    @cached_property
    def first(self) -> np.ndarray:
        """First step of each window: int64[W]."""
        return self._joined([c.first for c in self.chunks]).astype(np.int64)

    @cached_property
    def steps(self) -> np.ndarray:
        """Last step of each window: int64[W], the axis on which series are drawn."""
        return self._joined([c.steps for c in self.chunks]).astype(np.int64)

    @cached_property
    def losses(self) -> np.ndarray:
        """Mean loss of each window: float64[W], NaN where none was given."""
        return self._joined([c.losses for c in self.chunks])

    @cached_property
    def course(self) -> tuple[np.ndarray, np.ndarray]:
        """Loss step by step, where it is known: int64[n], steps, and float64[n], losses.

        Of windows that were merged, means of some consecutive steps, each at the last of them.
        """
        inside = [c.step_losses(i) for c in self.chunks for i in range(len(c.steps))]
        spans = zip(self.first, self.steps, inside, strict=True)
        steps = [
            first + np.arange(1, losses.size + 1) * (step - first + 1) // max(losses.size, 1) - 1
            for first, step, losses in spans
        ]
        losses = self._joined(inside)
        known = ~np.isnan(losses)
        return self._joined(steps).astype(np.int64)[known], losses[known]

    @cached_property
    def learning_rates(self) -> np.ndarray:
        """Learning rate at the end of each window: float64[W].

        The largest of the optimizer's parameter groups. NaN where it is unknown: without an
        optimizer, and in what was recorded before shiftwatch kept it.
        """
        return self.rates_at(self.first, self.steps)

    @cached_property
    def schedule(self) -> tuple[np.ndarray, np.ndarray]:
        """Learning rate step by step, where it is known: int64[n], steps, and float64[n], rates.

        Of windows that were merged some of the steps, each with its own rate: no mean is
        taken, which would show rates that never were set.

        Example:
            >>> from shiftwatch.history import History, Window
            >>> rates = np.array([[0, 1, 2], [0.1, 0.1, 0.01]])
            >>> history = History()
            >>> history.add_window(Window(0, 2, Summary.empty((0,)), {}, np.zeros(0), 0.0, rates))
            >>> steps, rates = history.view().schedule
            >>> steps.tolist(), rates.tolist()
            ([0, 1, 2], [0.1, 0.1, 0.01])
        """
        steps, rates = rates_of(c.rates for c in self.chunks)
        return steps.astype(np.int64), rates

    def rates_at(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Learning rate at the end of stretches of steps.

        Args:
            first, last: int64[n], first and last step of each, inclusive.

        Returns:
            float64[n], the last that is known within each; NaN where none is.
        """
        steps, rates = self.schedule
        place = np.searchsorted(steps, last, side="right") - 1
        known = np.append(steps, -1)[place] >= first
        return np.where(known, np.append(rates, np.nan)[place], np.nan)

    @cached_property
    def overhead(self) -> float:
        """Share of the step time spent in shiftwatch over the whole run, 0 to 1; NaN if empty."""
        if not len(self):
            return float("nan")
        shares = self._joined([c.overhead for c in self.chunks])
        return float(weighted(list(shares), list(self.steps - self.first + 1)))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Keys of the metrics that were kept."""
        return tuple(dict.fromkeys(key for c in self.chunks for key in c.keys))

    def metric(self, key: str) -> np.ndarray:
        """One metric of all windows and sites.

        Args:
            key: one of :attr:`metrics`.

        Returns:
            float64[W, S], NaN where it does not apply. Do not write into it: it is kept.

        Raises:
            ValueError: for a metric that this run did not keep.
        """
        if key not in self.metrics:
            raise ValueError(_unknown("metric", key, self.metrics))
        if key not in self._decoded:
            parts = abreast(lambda chunk: chunk.metric(key, len(self.sites)), self.chunks)
            self._decoded[key] = np.concatenate(parts)
            while len(self._decoded) > 1 and sum(v.nbytes for v in self._decoded.values()) > _KEPT:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end(key)
        return self._decoded[key]

    def summary(self, window: int) -> Summary:
        """Summary of one window.

        Args:
            window: its number, 0 … W-1; negative from the end.

        Returns:
            Summary of shape ``(S,)``, empty at sites which that window did not know.

        Raises:
            IndexError: where there is no such window.
        """
        chunk, number = self._chunk(window)
        return chunk.summary(number).padded(len(self.sites))

    def summaries(self, windows: Sequence[int] | np.ndarray) -> Iterator[Summary]:
        """Summaries of several windows, one at a time.

        Args:
            windows: their numbers, 0 … W-1, in any order; int[n].

        Yields:
            Summary of shape ``(S,)`` for each, as of :meth:`summary`.

        Raises:
            IndexError: where there is no such window.

        Cost: of a folder some hundred windows are unpacked at once, whichever of them are asked
        for, so neighbours cost least one after the other.

        Example:
            >>> from shiftwatch import Monitor
            >>> with Monitor(run=False) as monitor:
            ...     for step in range(64):
            ...         monitor.observe("fc1", np.full((8, 4), float(step)))
            ...         monitor.step()
            >>> [float(s.mean[0]) for s in monitor.history.summaries([0, 7])]
            [0.5, 39.5]
        """
        wanted = np.asarray(windows, np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"Windows must lie in 0 … {len(self) - 1}; got {wanted.tolist()}.")
        starts = np.cumsum([0, *(len(chunk.steps) for chunk in self.chunks)])
        within = np.searchsorted(starts, wanted, "right") - 1
        ends = np.flatnonzero(np.diff(within, append=-1)) + 1
        return (
            summary.padded(len(self.sites))
            for a, b in pairwise([0, *ends.tolist()])
            for summary in self.chunks[within[a]].summaries(wanted[a:b] - starts[within[a]])
        )

    def step_losses(self, window: int) -> np.ndarray:
        """Losses within one window, finer than :attr:`losses`.

        Args:
            window: its number, 0 … W-1; negative from the end.

        Returns:
            float64[n], NaN where unknown: one per step, or where windows have been merged at
            most 64, each the mean of equally many consecutive steps; empty without a loss.

        Raises:
            IndexError: where there is no such window.
        """
        chunk, number = self._chunk(window)
        return chunk.step_losses(number)

    def _chunk(self, window: int) -> tuple[Chunk, int]:
        number = range(len(self))[window]
        for chunk in self.chunks:
            if number < len(chunk.steps):
                return chunk, number
            number -= len(chunk.steps)
        raise AssertionError("unreachable: the chunks hold all windows")

    def between(self, first: int, last: int) -> Summary:
        """Summary of the windows that lie at least partly in a range of steps, merged.

        Args:
            first, last: optimizer steps, inclusive.

        Returns:
            Summary of shape ``(S,)``; empty where no window lies there.
        """
        chosen = np.flatnonzero((self.steps >= first) & (self.first <= last))
        return reduce(add, self.summaries(chosen), Summary.empty((len(self.sites),)))

    def quantiles(self, site: int | Site, q: float | Sequence[float] | np.ndarray) -> np.ndarray:
        """Quantile tracks of one site.

        Args:
            site: a column, or one of :attr:`sites`.
            q: probabilities in 0 … 1, [k].

        Returns:
            float64[W, k], each wrong by at most ``histogram.RELATIVE_ERROR`` of its size;
            NaN where a window has no value of the site. A scalar ``q`` gives float64[W].
        """
        return self.histogram(site).quantile(np.asarray(q, float))

    def histogram(self, site: int | Site) -> Histogram:
        """Histograms of one site, all over the same bins.

        Args:
            site: a column, or one of :attr:`sites`.

        Returns:
            Histogram of shape ``(W,)``; without counts where a window has no value of the site.
        """
        column = self.column(site) if isinstance(site, Site) else range(len(self.sites))[site]
        counts = [np.zeros((0, BINS), np.int64), *(c.histogram(column) for c in self.chunks)]
        return Histogram(np.concatenate(counts))

    def dead_units(self, site: int | Site) -> np.ndarray:
        """Which units of one site are dead at the end of each window.

        Units die where an activation is flat on one side, as of a ReLU, and are kept for
        outputs and inputs in training; see ``dead_fraction`` for when one counts as dead.

        Args:
            site: a column, or one of :attr:`sites`.

        Returns:
            bool[W, units]. Of a layer of more than 512 units those that are sampled, in the
            order of :func:`shiftwatch.sampling.chosen`. Without units where none ever died,
            and in what was recorded before shiftwatch kept them.

        Example:
            >>> from shiftwatch import Monitor
            >>> values = np.ones((64, 3))
            >>> with Monitor(run=False) as monitor:
            ...     for step in range(24):
            ...         values[:, 1] = step < 8
            ...         monitor.observe("act", values, activation="relu")
            ...         monitor.step()
            >>> monitor.history.dead_units(Site("act")).tolist()
            [[False, False, False], [False, True, False], [False, True, False]]
        """
        column = self.column(site) if isinstance(site, Site) else range(len(self.sites))[site]
        parts = [np.zeros((0, 0), bool), *(c.dead.site(column) for c in self.chunks)]
        width = max(part.shape[1] for part in parts)
        return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]))) for p in parts])

    def column(self, site: Site) -> int:
        """Column of a site.

        Raises:
            ValueError: for a site that this run did not watch.
        """
        if site in self._columns:
            return self._columns[site]
        layers = dict.fromkeys(s.layer for s in self.sites)
        if site.layer not in layers:
            raise ValueError(_unknown("layer", site.layer, tuple(layers)))
        keys = [s.key for s in self.sites if s.layer == site.layer]
        raise ValueError(_unknown("site", site.key, keys))

    def series(
        self,
        metric: str,
        layer: str,
        tensor: str = "output",
        part: str = "",
        mode: str = "train",
    ) -> tuple[np.ndarray, np.ndarray]:
        """One metric of one site over time, where it applies.

        Args:
            metric: one of :attr:`metrics`.
            layer, tensor, part, mode: the site, as of :class:`shiftwatch.records.Site`.

        Returns:
            int64[n], last steps of the windows, and float64[n], the values; NaN left out.

        Raises:
            ValueError: for a metric or a site that this run does not hold.
        """
        values = self.metric(metric)[:, self.column(Site(layer, tensor, part, mode))]
        known = ~np.isnan(values)
        return self.steps[known], values[known]

    def to_pandas(self, table: str = "metrics", *, mode: str = "train") -> pandas.DataFrame:
        """One table of the run, for pandas.

        Args:
            table: ``"metrics"`` (step, layer, tensor, metric, value: a row per number),
                ``"windows"``, ``"losses"``, ``"alerts"``, ``"incidents"``, ``"events"`` or
                ``"layers"``; see :mod:`shiftwatch.tables`.
            mode: ``"train"`` or ``"eval"``; only the metrics differ.

        Returns:
            DataFrame; no row where a metric does not apply.

        Raises:
            ValueError: for another table or mode.
            MissingDependencyError: where pandas is not installed.

        Cost: the whole table is held in memory, the metrics at about 50 bytes per value.
        """
        return columns.to_pandas(tables.table(self, table, mode), "Run.to_pandas()")

    def to_polars(self, table: str = "metrics", *, mode: str = "train") -> polars.DataFrame:
        """The same for Polars.

        Raises:
            ValueError: for another table or mode.
            MissingDependencyError: where Polars is not installed.
        """
        return columns.to_polars(tables.table(self, table, mode), "Run.to_polars()")

    def to_arrow(self, table: str = "metrics", *, mode: str = "train") -> pyarrow.Table:
        """The same for Arrow, and whatever reads it: DuckDB, Ibis, R.

        Of the metrics, layer, tensor and metric are dictionary-encoded.

        Raises:
            ValueError: for another table or mode.
            MissingDependencyError: where pyarrow is not installed.
        """
        return columns.to_arrow(tables.table(self, table, mode), "Run.to_arrow()")

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        from shiftwatch.notebook import run_card

        return run_card(self)

    @cached_property
    def _columns(self) -> dict[Site, int]:
        return {site: column for column, site in enumerate(self.sites)}

    @staticmethod
    def _joined(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts) if parts else np.zeros(0)

    def _lines(self) -> list[str]:
        where = str(self.path) if self.path else "in memory"
        which = f", {self.attempt} of {len(self.attempts)}" if self.attempt else ""
        state = "" if self.meta.get("finished", True) else ", not finished"
        lines = [f"Run {where}{which}{state}"]
        if len(self):
            lines.append(
                f"  steps {self.first.min()} to {self.steps.max()}: "
                f"{_counted(len(self), 'window')} of {_counted(len(self.sites), 'site')} in "
                f"{_counted(len(self.layers), 'layer')}, overhead {self.overhead:.1%}"
            )
        else:
            lines.append(f"  no windows yet, {_counted(len(self.sites), 'site')}")
        lines += [f"  {note}" for note in self.notes]
        worst = {severity: rank for rank, severity in enumerate(reversed(SEVERITIES))}
        ranked = sorted(self.alerts, key=lambda a: (worst.get(a.severity, 9), a.detected))
        lines.append(f"  {_counted(len(ranked), 'alert')}" + (", worst first:" if ranked else ""))
        lines += [f"    {a.severity}: {' '.join(a.message.split())}" for a in ranked[:5]]
        if len(ranked) > 5:
            lines.append(f"    … and {len(ranked) - 5} more in .alerts")
        return lines


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _unknown(kind: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        cure = "Did you mean " + " or ".join(map(repr, near)) + "?"
    elif known:
        more = f" and {len(known) - 8} more" if len(known) > 8 else ""
        cure = f"It holds {', '.join(map(repr, known[:8]))}{more}."
    else:
        cure = "It holds none yet."
    return f"This run holds no {kind} {name!r}. {cure}"
