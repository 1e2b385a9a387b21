"""Compare: where run B departs from run A, layer by layer and step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.divergences import DIVERGENCES
from shiftwatch.records import INPUT, Alert, Site
from shiftwatch.statistics import STATISTICS

if TYPE_CHECKING:
    from shiftwatch.history import Run

#: What is compared, and from which size on a difference matters. These are effect sizes and
#: not tests of chance: one standard deviation, a factor of two in the spread (ln 4 in the
#: variance), a fifth of the values, a tenth of the units.
LIMITS: Mapping[str, float] = {
    "mean_shift": 1.0,
    "variance_shift": float(np.log(4.0)),
    "kl": 0.5,
    "js": 0.1,
    "wasserstein": 1.0,
    "saturation": 0.2,
    "dead_fraction": 0.1,
    "nonfinite": 1e-3,
}

#: Metrics that are the difference B - A of a share; the others are divergences of B from A.
SHARES = ("saturation", "dead_fraction", "nonfinite")

_MOST_STEPS = 300
_HELD = 2  # consecutive matched windows over a limit until a layer counts as departed


@dataclass(frozen=True)
class Difference:
    """How far one layer of run B is from the same layer of run A.

    Args:
        layer: its name in both runs.
        site: the tensor that was compared.
        score: largest difference over its limit, held for two matched windows; 1 or more
            means that the layer departs.
        metric: the metric of that score; ``""`` where nothing could be compared.
        worst: metric to its value farthest from 0, signed where the metric is.
        last: metric to its value at the last matched step that has one.
        departed: first step from which a metric stays beyond its limit for two matched
            windows; ``None`` where none does.
    """

    layer: str
    site: Site
    score: float
    metric: str
    worst: Mapping[str, float]
    last: Mapping[str, float]
    departed: int | None


@dataclass(frozen=True)
class Comparison:
    """Run B held against run A.

    Args:
        sites: what is compared, in execution order of B.
        steps: int64[K], matched steps: last steps of windows of B.
        distance: int64[K], how many steps the nearest window of A is away.
        values: metric to float64[K, len(sites)], NaN where it does not apply.
        differences: one per site, the largest first.
        only_a, only_b: layers that have no counterpart, in execution order.
        alerts_a, alerts_b: warnings and criticals of both, in order.
        verdict: one or two sentences.
    """

    sites: tuple[Site, ...]
    steps: np.ndarray
    distance: np.ndarray
    values: Mapping[str, np.ndarray]
    differences: tuple[Difference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    alerts_a: tuple[Alert, ...]
    alerts_b: tuple[Alert, ...]
    verdict: str

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers found in both, in execution order of B."""
        return tuple(dict.fromkeys(s.layer for s in self.sites))

    @property
    def departed(self) -> tuple[Difference, ...]:
        """Those that depart, the earliest first; at equal steps in execution order."""
        place = {site: i for i, site in enumerate(self.sites)}
        gone = [(d.departed, place[d.site], d) for d in self.differences if d.departed is not None]
        return tuple(d for _, _, d in sorted(gone, key=lambda t: t[:2]))


def compare(a: Run, b: Run, *, tensor: str = "output") -> Comparison:
    """Divergence of B's distributions from A's at matched steps, ranked.

    Layers match by name, windows by step: each window of B takes the nearest of A, as long
    as that is no farther than the longer of the two windows. Of more than 300 matched
    windows an even choice is compared.

    Args:
        a: what counts as good.
        b: what is asked about.
        tensor: which tensor of the layers, one of ``records.TENSORS``; training mode only.
            The model's input is always compared.

    Returns:
        A Comparison; with no layer or no step in common it says so and holds no values.

    Cost: reads at most 300 windows of each and computes eight metrics of all layers per
    window; a second or two for 160 layers.

    Example:
        >>> from shiftwatch.history import History, Window
        >>> from shiftwatch.records import Layer
        >>> from shiftwatch.summaries import Block, measure
        >>> def run(shift):
        ...     history = History()
        ...     _ = history.add_site(Site("fc1"), Layer("fc1"))
        ...     values = np.random.default_rng(0).normal(shift, 1, (1, 1, 50, 4))
        ...     summary, _ = measure(Block(values, np.ones((1, 1), bool)))
        ...     for step in range(3):
        ...         history.add_window(Window(step, step, summary, {}, np.zeros(0), 0.0))
        ...     return history.view()
        >>> compare(run(0.0), run(0.0)).verdict
        'No difference: 1 layer has the same distributions in both runs.'
        >>> compare(run(0.0), run(3.0)).differences[0].departed
        0
    """
    sites, column_a, column_b = _matched_sites(a, b, tensor)
    window_a, window_b = _matched_windows(a, b)
    steps = b.steps[window_b]
    if sites and steps.size:
        values = _values(a, b, column_a, column_b, window_a, window_b)
    else:
        values = {key: np.full((steps.size, len(sites)), np.nan) for key in LIMITS}
    differences = _differences(sites, steps, values)
    names_a, names_b = set(a.layers), set(b.layers)
    comparison = Comparison(
        sites=sites,
        steps=steps,
        distance=np.abs(a.steps[window_a] - steps),
        values=values,
        differences=differences,
        only_a=tuple(n for n in a.layers if n not in names_b),
        only_b=tuple(n for n in b.layers if n not in names_a),
        alerts_a=tuple(x for x in a.alerts if x.severity != "info"),
        alerts_b=tuple(x for x in b.alerts if x.severity != "info"),
        verdict="",
    )
    return replace(comparison, verdict=_verdict(comparison))


def _matched_sites(a: Run, b: Run, tensor: str) -> tuple[tuple[Site, ...], np.ndarray, np.ndarray]:
    """Sites of both runs and their columns in each."""
    in_a = {site: i for i, site in enumerate(a.sites)}
    place = {name: i for i, name in enumerate(b.layers)}
    both = [
        (place.get(site.layer, -1), i, site)
        for i, site in enumerate(b.sites)
        if site in in_a and site.mode == "train" and (site.tensor == tensor or site.layer == INPUT)
    ]
    both.sort(key=lambda t: t[:2])
    sites = tuple(site for _, _, site in both)
    return (
        sites,
        np.array([in_a[site] for site in sites], np.int64),
        np.array([i for _, i, _ in both], np.int64),
    )


def _matched_windows(a: Run, b: Run) -> tuple[np.ndarray, np.ndarray]:
    """Windows of A and B that lie at the same steps, at most 300 pairs: int64[K] each."""
    if not a.steps.size or not b.steps.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    right = np.clip(np.searchsorted(a.steps, b.steps), 0, a.steps.size - 1)
    left = np.maximum(right - 1, 0)
    nearer = np.abs(a.steps[left] - b.steps) <= np.abs(a.steps[right] - b.steps)
    nearest = np.where(nearer, left, right)
    length = np.maximum((a.steps - a.first)[nearest], b.steps - b.first) + 1
    spacing = [np.median(np.diff(r.steps)) for r in (a, b) if r.steps.size > 1]
    reach = np.maximum(length, max(spacing, default=1.0))
    window_b = np.flatnonzero(np.abs(a.steps[nearest] - b.steps) <= reach)
    if window_b.size > _MOST_STEPS:
        window_b = window_b[np.linspace(0, window_b.size - 1, _MOST_STEPS).round().astype(int)]
    return nearest[window_b], window_b


def _values(
    a: Run,
    b: Run,
    column_a: np.ndarray,
    column_b: np.ndarray,
    window_a: np.ndarray,
    window_b: np.ndarray,
) -> dict[str, np.ndarray]:
    shape = (window_b.size, column_b.size)
    values = {key: np.full(shape, np.nan) for key in LIMITS}
    divergences = [key for key in LIMITS if key not in SHARES]
    shares = {key: _share(a, b, key, column_a, column_b, window_a, window_b) for key in SHARES}
    for k, (i, j) in enumerate(zip(window_a.tolist(), window_b.tolist(), strict=True)):
        one, other = a.summary(i)[column_a], b.summary(j)[column_b]
        with np.errstate(all="ignore"):
            for key in divergences:
                values[key][k] = DIVERGENCES[key](other, one)
            for key, kept in shares.items():
                statistic = STATISTICS[key]
                values[key][k] = statistic(other) - statistic(one) if kept is None else kept[k]
    return values


def _share(
    a: Run,
    b: Run,
    key: str,
    column_a: np.ndarray,
    column_b: np.ndarray,
    window_a: np.ndarray,
    window_b: np.ndarray,
) -> np.ndarray | None:
    """Difference of a share from the recorded metric; ``None`` where a run did not keep it."""
    if key not in a.metrics or key not in b.metrics:
        return None
    before = a.metric(key)[np.ix_(window_a, column_a)]
    return np.asarray(b.metric(key)[np.ix_(window_b, column_b)] - before)


def _differences(
    sites: tuple[Site, ...], steps: np.ndarray, values: Mapping[str, np.ndarray]
) -> tuple[Difference, ...]:
    relative = {key: np.abs(table) / LIMITS[key] for key, table in values.items()}
    result = []
    for column, site in enumerate(sites):
        score, metric, since = 0.0, "", None
        for key, table in relative.items():
            held = _held(table[:, column])
            if held.size and held.max() > score:
                score, metric = float(held.max()), key
            over = np.flatnonzero(held >= 1)
            if over.size and (since is None or steps[over[0]] < since):
                since = int(steps[over[0]])
        known = {k: t[~np.isnan(t[:, column]), column] for k, t in values.items()}
        result.append(
            Difference(
                layer=site.layer,
                site=site,
                score=score,
                metric=metric,
                worst={k: float(v[np.abs(v).argmax()]) for k, v in known.items() if v.size},
                last={k: float(v[-1]) for k, v in known.items() if v.size},
                departed=since,
            )
        )
    return tuple(sorted(result, key=lambda d: -d.score))


def _held(values: np.ndarray) -> np.ndarray:
    """The size that this and the next known value both reach, at each step: float64[steps].

    Example:
        >>> _held(np.array([0.0, 5.0, np.nan, 2.0])).tolist()
        [0.0, 2.0, 0.0, 2.0]
    """
    result = np.zeros(values.size)
    known = np.flatnonzero(~np.isnan(values))
    if known.size:
        size = values[known]
        following = np.append(size[1:], size[-1] if known.size < _HELD else 0.0)
        result[known] = np.minimum(size, following)
        # The last window has no successor: it goes on where the one before was as large.
        if known.size >= _HELD:
            result[known[-1]] = min(size[-1], size[-2])
    return result


def _verdict(comparison: Comparison) -> str:
    if not comparison.sites:
        return "Nothing to compare: the two runs have no layer of the same name."
    if not comparison.steps.size:
        return "Nothing to compare: the two runs have no step in common."
    gone = comparison.departed
    layers = [d.departed is not None for d in comparison.differences if d.layer != INPUT]
    total = len(layers)
    if not gone:
        most = comparison.differences[0]
        if most.score == 0:
            return f"No difference: {total} {'layer has' if total == 1 else 'layers have'} the same distributions in both runs."
        return (
            f"No layer departs: the largest difference is in {_place(most.layer)}, "
            f"at {100 * most.score:.0f} % of its limit."
        )
    first = gone[0]
    early = first.departed == int(comparison.steps[0])
    together = [d for d in gone if d.departed == first.departed]
    crowd = f"{sum(layers)} of {total} layers {'departs' if sum(layers) == 1 else 'depart'}"
    if early and len(together) > 1:
        most = max(together, key=lambda d: d.score)
        return (
            f"B differs from A from the start, most in {_place(most.layer)} ({_reason(most)}); "
            f"{crowd}."
        )
    where = "from the start" if early else f"at step {first.departed:,}"
    return f"B departs from A first in {_place(first.layer)}, {where} ({_reason(first)}); {crowd}."


def _reason(difference: Difference) -> str:
    value = difference.worst[difference.metric]
    return f"{difference.metric} up to {value:.3g}, limit {LIMITS[difference.metric]:.3g}"


def _place(layer: str) -> str:
    return "the model's input" if layer == INPUT else layer
