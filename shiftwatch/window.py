"""Window: what is kept of some consecutive steps of all sites, and how two become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np

from shiftwatch.dead import Dead
from shiftwatch.summaries.histogram import BINS, Histogram
from shiftwatch.summaries.moments import Moments
from shiftwatch.summaries.summary import Summary, Tallies

#: Losses, and learning rates, kept of a merged window; as it was measured it keeps one per step.
LOSSES = 64

#: Names of the real and of the whole numbers that a summary holds per site, in order.
REALS = tuple(f.name for f in fields(Moments) if f.name != "count")
COUNTS = ("count", *(f.name for f in fields(Tallies)))


def rates_of(windows: Iterable[np.ndarray] = ()) -> np.ndarray:
    """Steps and learning rates of consecutive windows, one behind the other: float64[2, any].

    Example:
        >>> rates_of([np.array([[0, 1], [0.1, 0.1]]), np.array([[2], [0.01]])]).tolist()
        [[0.0, 1.0, 2.0], [0.1, 0.1, 0.01]]
        >>> rates_of().shape
        (2, 0)
    """
    return np.concatenate([np.zeros((2, 0)), *windows], axis=1)


@dataclass(frozen=True)
class Window:
    """Everything known of some consecutive optimizer steps.

    Args:
        first, step: first and last optimizer step, inclusive, counted from 0.
        summary: shape ``(sites,)``; its units are not kept.
        metrics: key to float64[sites], NaN where a metric does not apply.
        losses: float64[steps of the window], NaN where unknown; may be empty. A merged
            window keeps at most :data:`LOSSES`, each the mean of some consecutive steps.
        overhead: share of the step time spent in shiftwatch, 0 to 1.
        rates: float64[2, n], steps of the window, ascending, and the learning rate at each;
            none where it is unknown. A merged window keeps at most :data:`LOSSES`.
        dead: units that are dead at its end, where any is.
    """

    first: int
    step: int
    summary: Summary
    metrics: Mapping[str, np.ndarray]
    losses: np.ndarray
    overhead: float
    rates: np.ndarray = field(default_factory=rates_of)
    dead: Dead = field(default_factory=Dead.none)

    @property
    def span(self) -> int:
        """Number of steps from the first to the last."""
        return self.step - self.first + 1

    @cached_property
    def row(self) -> Row:
        """The window as it is kept, about a tenth of the size; made once."""
        return Row.of(self)


def merge(a: Window, b: Window) -> Window:
    """Two adjacent windows as one, the older first.

    Args:
        a, b: windows over the same sites; the one with fewer sites is padded.

    Returns:
        Window over the steps of both. The summary is ``a + b``. A metric is the mean of
        both, weighted by their steps and ignoring NaN: not what the merged summary would
        give, for a metric is no sum. Losses are pooled evenly, to at most :data:`LOSSES`.
        Learning rates are not pooled, some are left out: who reads a schedule looks for
        rates that were set, and the mean over a drop is one that never was. Units are dead
        that are at the end of the later window.

    Example:
        >>> def window(first: int, step: int, kl: float) -> Window:
        ...     metrics = {"kl": np.array([kl])}
        ...     return Window(first, step, Summary.empty((1,)), metrics, np.zeros(1), 0.0)
        >>> both = merge(window(0, 0, 1.0), window(1, 3, 3.0))
        >>> both.first, both.step, both.metrics["kl"].tolist()
        (0, 3, [2.5])
    """
    sites = max(a.summary.shape[0], b.summary.shape[0])
    keys = dict.fromkeys((*a.metrics, *b.metrics))
    return Window(
        first=min(a.first, b.first),
        step=max(a.step, b.step),
        summary=_plain(a.summary).padded(sites) + _plain(b.summary).padded(sites),
        metrics={
            key: weighted(
                [widened(w.metrics[key], sites) for w in (a, b) if key in w.metrics],
                [w.span for w in (a, b) if key in w.metrics],
            )
            for key in keys
        },
        losses=_pooled(a, b),
        overhead=float(weighted([a.overhead, b.overhead], [a.span, b.span])),
        rates=_thinned(np.concatenate([a.rates, b.rates], axis=1)),
        dead=b.dead,
    )


def widened(values: np.ndarray, sites: int) -> np.ndarray:
    """Values of the first sites, NaN for the others: float64[..., sites]."""
    missing = sites - values.shape[-1]
    if missing <= 0:
        return values
    return np.concatenate([values, np.full((*values.shape[:-1], missing), np.nan)], axis=-1)


def weighted(values: list[np.ndarray] | list[float], weights: list[int]) -> np.ndarray:
    """Mean along the first axis, ignoring NaN: float64[...]; NaN where there is nothing else."""
    table = np.asarray(values, float)
    share = np.asarray(weights, float).reshape(-1, *[1] * (table.ndim - 1))
    known = ~np.isnan(table)
    share = share / (share * known).sum(0).clip(1e-300) * known
    with np.errstate(invalid="ignore"):
        mean = np.where(known, table * share, 0.0).sum(0)
    return np.asarray(np.where(known.any(0), mean, np.nan))


def mean_loss(losses: np.ndarray) -> float:
    """Mean of the losses that are known; NaN where none is."""
    return float(means(losses, np.zeros(losses.size, np.int64), 1)[0])


def means(values: np.ndarray, group: np.ndarray, number: int) -> np.ndarray:
    """Mean of the known values of each group: float64[number], NaN where none is.

    Args:
        values: float64[n]; NaN is unknown.
        group: int64[n], of which group each is, 0 … number - 1.

    Example:
        >>> means(np.array([1.0, 3.0, 1e308, 1e308]), np.array([0, 0, 2, 2]), 3).tolist()
        [2.0, nan, 1e+308]
    """
    known = ~np.isnan(values)
    values, group = values[known], group[known]
    count = np.bincount(group, minlength=number)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = np.bincount(group, values, number) / np.where(count, count, np.nan)
        shares = np.bincount(group, values / count[group], number)  # whose sum stays in range
    return np.where(np.isfinite(mean) | (count == 0), mean, shares)


def _plain(summary: Summary) -> Summary:
    return summary if summary.units is None else replace(summary, units=None)


def _pooled(a: Window, b: Window) -> np.ndarray:
    """Losses of both, each the mean over as many steps as any other, weighted by its share."""
    known = [w for w in (a, b) if w.losses.size]
    if not known:
        return np.zeros(0)
    widths, values = [], []
    for w in (a, b):
        given = w.losses if w.losses.size else np.full(1, np.nan)
        widths.append(np.full(given.size, w.span / given.size))
        values.append(np.asarray(given, float))
    width, value = np.concatenate(widths), np.concatenate(values)
    span = a.span + b.span
    number = max(1, int(min(LOSSES, span / max(w.span / w.losses.size for w in known))))
    if number == value.size and np.all(width == width[0]):
        return value
    ends, cells = np.cumsum(width), np.linspace(0, span, number + 1)
    share = np.minimum(ends, cells[1:, None]) - np.maximum(ends - width, cells[:-1, None])
    inside = (share > 1e-9) & ~np.isnan(value)
    with np.errstate(invalid="ignore"):
        mean = np.where(inside, share * value, 0.0).sum(1) / (inside * share).sum(1)
    return np.asarray(np.where(inside.any(1), mean, np.nan))


def _thinned(rates: np.ndarray) -> np.ndarray:
    """Of many steps the last before each of evenly spaced ones; the last of all stays."""
    steps = rates[0]
    if steps.size <= LOSSES:
        return rates
    wanted = np.linspace(steps[0], steps[-1], LOSSES)
    return rates[:, np.unique(np.searchsorted(steps, wanted, side="right") - 1)]


def narrow(values: np.ndarray) -> np.ndarray:
    """The same numbers in the smallest type that holds each of them exactly.

    Whole numbers go to uint8, uint16 or uint32 where they fit, else stay int64. Real
    numbers go to float32 where every bit survives the way back, else stay float64.

    Example:
        >>> narrow(np.array([0, 300])).dtype, narrow(np.array([0.5, np.nan])).dtype
        (dtype('uint16'), dtype('float32'))
        >>> narrow(np.array([0.1])).dtype
        dtype('float64')
    """
    if values.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            small = values.astype(np.float32)
        exact = np.array_equal(small.astype(np.float64).view(np.int64), values.view(np.int64))
        return small if exact else values
    if not values.size:
        return values.astype(np.uint8)
    low, high = values.min(), values.max()
    for kind in (np.uint8, np.uint16, np.uint32):
        if low >= 0 and high <= np.iinfo(kind).max:
            return values.astype(kind)
    return values.astype(np.int64)


@dataclass(frozen=True)
class Row:
    """A window as it is kept: whole numbers narrowed, of histograms only what is not zero.

    Args:
        first, step, overhead: as of :class:`Window`.
        reals: float[6, sites], the fields :data:`REALS` of the moments.
        counts: int[7, sites], :data:`COUNTS`.
        bounded: bool[sites].
        sizes: uint16[sites], number of bins of each site that are not empty.
        bins: uint16[sum of sizes], which these are, ascending within a site.
        hits: int[sum of sizes], their counts.
        keys: names of the metrics.
        metrics: float[len(keys), sites].
        losses: float64[any].
        rates: float64[2, any].
        dead_sites, dead_bits: ``sites`` and ``bits`` of :class:`shiftwatch.dead.Dead`.
    """

    first: int
    step: int
    overhead: float
    reals: np.ndarray
    counts: np.ndarray
    bounded: np.ndarray
    sizes: np.ndarray
    bins: np.ndarray
    hits: np.ndarray
    keys: tuple[str, ...]
    metrics: np.ndarray
    losses: np.ndarray
    rates: np.ndarray
    dead_sites: np.ndarray
    dead_bits: np.ndarray

    @classmethod
    def of(cls, window: Window) -> Row:
        """Row of a window.

        Raises:
            ValueError: where a metric has not one value per site.

        Cost: one pass over the histograms.
        """
        summary = window.summary
        (sites,) = summary.shape
        for key, values in window.metrics.items():
            if np.shape(values) != (sites,):
                raise ValueError(
                    f"metrics must hold one value per site, {sites} in this window; "
                    f"{key!r} has shape {np.shape(values)}. Fill with NaN where it does not apply."
                )
        counts = summary.histogram.counts
        here = counts != 0
        sizes = np.count_nonzero(here, axis=1)
        bins = np.flatnonzero(here) - np.repeat(np.arange(sites) * BINS, sizes)
        return cls(
            first=int(window.first),
            step=int(window.step),
            overhead=float(window.overhead),
            reals=narrow(np.array([getattr(summary.moments, n) for n in REALS], np.float64)),
            counts=narrow(
                np.array([summary.count, *(getattr(summary.tallies, n) for n in COUNTS[1:])])
            ),
            bounded=np.array(summary.bounded, bool),
            sizes=sizes.astype(np.uint16),
            bins=bins.astype(np.uint16),
            hits=narrow(counts[here]),
            keys=tuple(window.metrics),
            metrics=narrow(
                np.array([*window.metrics.values()], np.float64).reshape(len(window.metrics), sites)
            ),
            losses=np.array(window.losses, np.float64).ravel(),
            rates=np.array(window.rates, np.float64).reshape(2, -1),
            dead_sites=narrow(window.dead.sites),
            dead_bits=window.dead.bits,
        )

    @property
    def sites(self) -> int:
        """Number of sites."""
        return int(self.sizes.size)

    @property
    def nbytes(self) -> int:
        """Size in memory, in bytes, but for some hundred of overhead."""
        arrays = (getattr(self, f.name) for f in fields(self))
        return sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))

    @property
    def dead(self) -> Dead:
        """Units that are dead at the end."""
        return Dead(1, self.dead_sites, self.dead_bits)

    @cached_property
    def starts(self) -> np.ndarray:
        """First bin of each site in ``bins`` and ``hits``: int64[sites + 1]."""
        return np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)])

    def window(self) -> Window:
        """The window again, exactly."""
        values = self.metrics.astype(np.float64)
        return Window(
            first=self.first,
            step=self.step,
            summary=self.summary(),
            metrics=dict(zip(self.keys, values, strict=True)),
            losses=self.losses,
            overhead=self.overhead,
            rates=self.rates,
            dead=self.dead,
        )

    def summary(self) -> Summary:
        """The window's summary: shape ``(sites,)``."""
        histogram = np.zeros((self.sites, BINS), np.int64)
        histogram[np.repeat(np.arange(self.sites), self.sizes), self.bins] = self.hits
        return assembled(self.reals, self.counts, histogram, self.bounded)

    def histogram(self, site: int) -> np.ndarray:
        """Counts of one site: int64[BINS]; zeros where the window does not know the site."""
        counts = np.zeros(BINS, np.int64)
        if site < self.sites:
            part = slice(self.starts[site], self.starts[site + 1])
            counts[self.bins[part]] = self.hits[part]
        return counts


def assembled(
    reals: np.ndarray, counts: np.ndarray, histogram: np.ndarray, bounded: np.ndarray
) -> Summary:
    """Summary from its parts: numbers in the order of :data:`REALS` and :data:`COUNTS`."""
    whole = counts.astype(np.int64)
    return Summary(
        moments=Moments(whole[0], *reals.astype(np.float64)),
        tallies=Tallies(*whole[1:]),
        histogram=Histogram(histogram),
        bounded=bounded,
    )
