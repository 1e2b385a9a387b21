"""A whole model in a handful of series: the worst layer per metric, and what stands open.

A thousand layers times five metrics are five thousand curves that nobody reads and that
make a dashboard slow. What a person watches is the worst of each metric, how many layers
an open incident touches, and what the watching costs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shiftwatch.records import Incident, Report, Site

#: The metrics that are rolled up, in the order in which they are shown.
METRICS = ("mean_shift", "variance_shift", "kl", "saturation", "dead_fraction")


def columns(sites: tuple[Site, ...], tensors: tuple[str, ...] = ("output", "input")) -> np.ndarray:
    """Columns of the sites that stand for a layer's values in training: int64[n].

    Gradients, weights and eval mode have scales of their own and stay out.

    Args:
        sites: what the columns stand for.
        tensors: which of the tensors are taken.

    Example:
        >>> columns((Site("fc1", "weight"), Site("fc1"), Site("fc1", mode="eval"))).tolist()
        [1]
    """
    chosen = [i for i, s in enumerate(sites) if s.mode == "train" and s.tensor in tensors]
    return np.array(chosen, np.int64)


def worst(report: Report, metric: str) -> tuple[Site, float] | None:
    """The site where a metric is largest by size, and its value there, with its sign.

    Args:
        report: one window.
        metric: a key of ``shiftwatch.metrics``.

    Returns:
        Site and value among the outputs and inputs seen in training; ``None`` where the
        metric is missing or NaN everywhere. Inf counts as largest.

    Cost: one pass over the sites.

    Example:
        >>> sites = (Site("fc1"), Site("fc2"), Site("fc3"))
        >>> shift = np.array([0.1, -0.7, np.nan])
        >>> site, value = worst(Report(0, 7, sites, {"mean_shift": shift}), "mean_shift")
        >>> site.layer, value
        ('fc2', -0.7)
    """
    return _worst(report, metric, columns(report.sites))


def rollups(report: Report, incidents: Mapping[int, Incident] | None = None) -> dict[str, float]:
    """The report's series: float, NaN where a metric has no value yet.

    Args:
        report: one window.
        incidents: those open after it, from :func:`standing`; by default those that the
            report itself brings.

    Returns:
        ``worst_<metric>`` for each of :data:`METRICS`, signed; ``layers_in_alarm``, layers
        that an open incident touches, origin and followers; ``incidents``, how many are
        open; ``overhead``, share of the step time so far, 0 to 1; ``every``, one step in so
        many is watched.

    Example:
        >>> report = Report(0, 7, (Site("fc1"),), {"kl": np.array([0.25])}, overhead=0.01)
        >>> series = rollups(report)
        >>> series["worst_kl"], series["worst_saturation"], series["incidents"]
        (0.25, nan, 0.0)
    """
    chosen = columns(report.sites)
    found = {metric: _worst(report, metric, chosen) for metric in METRICS}
    series = {f"worst_{m}": np.nan if w is None else w[1] for m, w in found.items()}
    if incidents is None:
        incidents = standing({}, report)
    touched = {name for i in incidents.values() for name in (i.origin, *i.followers)}
    return {
        **series,
        "layers_in_alarm": float(len(touched)),
        "incidents": float(len(incidents)),
        "overhead": float(report.overhead),
        "every": float(report.every),
    }


def standing(before: Mapping[int, Incident], report: Report) -> dict[int, Incident]:
    """Incidents open after a report: those open before, changed as the report says.

    Args:
        before: number to incident, as returned for the report before; ``{}`` at the start.
        report: one window.

    Example:
        >>> opened = Incident(1, "fc1", step=3, detected=7, severity="warning", kinds=("dead",))
        >>> open_now = standing({}, Report(0, 7, (), {}, incidents=(opened,)))
        >>> standing(open_now, Report(8, 15, (), {})) == {1: opened}
        True
    """
    after = dict(before) | {i.number: i for i in report.incidents}
    return {number: i for number, i in after.items() if i.cleared is None}


def _worst(report: Report, metric: str, chosen: np.ndarray) -> tuple[Site, float] | None:
    if metric not in report.metrics:
        return None
    values = np.asarray(report.metrics[metric], np.float64)
    chosen = chosen[chosen < len(values)]  # a site may be younger than the window
    sizes = np.abs(values[chosen])
    if np.isnan(sizes).all():
        return None
    column = chosen[np.nanargmax(sizes)]
    return report.sites[column], float(values[column])
