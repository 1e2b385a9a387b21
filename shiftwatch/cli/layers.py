"""The table of layers for the terminal: a line per site, as much of it as fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shiftwatch.cli.terminal import cells, cut, escape, figure, padded, sparkline, table
from shiftwatch.records import SEVERITIES, Site

if TYPE_CHECKING:
    from shiftwatch.run import Run

#: Metrics of the table, as far as the run has them.
METRICS = ("mean_shift", "variance_shift", "kl", "saturation", "dead_fraction")

_SPARK = 6, 32  # fewest and most blocks
_FULL = 0.5  # nats of a full block, at least: noise stays low
_NAMES = 24, 12  # where there is little room, layers' names are cut to these


def layer_table(
    run: Run, everything: bool, columns: int | None
) -> tuple[str, list[tuple[str, str]]]:
    """Heading, and lines with their styles.

    Args:
        run: any run, an empty one included.
        everything: all sites instead of the outputs and what has an alert.
        columns: width to fit; ``None`` for no limit. The last values go first, then the
            ends of long names, then the chart.

    Returns:
        No lines where the run has no value of any of :data:`METRICS`.
    """
    marked = _marked(run)
    chosen = [
        (column, site)
        for column, site in _in_order(run)
        if everything
        or (site.tensor in ("output", "input") and site.mode == "train")
        or (site.layer, site.tensor) in marked
    ]
    if not chosen or not len(run):
        return "", []
    places = np.array([column for column, _ in chosen], np.int64)
    values = {key: run.metric(key)[:, places] for key in METRICS if key in run.metrics}
    values = {key: known for key, known in values.items() if not np.isnan(known).all()}
    if not values:
        return "", []
    sites = [site for _, site in chosen]
    marks = [marked.get((site.layer, site.tensor), "") for site in sites]
    drawn = "kl" if "kl" in values else next(iter(values))
    chart = Chart(drawn, run.first, run.steps, values[drawn])
    both, lines = _fitted(sites, marks, values, chart, columns)
    styles = ["bold", "bold", *marks]
    what = "last and worst window" if both else "worst window"
    return f"Layers, {what}", list(zip(lines, styles, strict=True))


def _fitted(
    sites: list[Site],
    marks: list[str],
    values: dict[str, np.ndarray],
    chart: Chart,
    columns: int | None,
) -> tuple[bool, list[str]]:
    """The richest lines that fit, and whether they hold the last values."""
    longest = max(len(escape(site.layer)) for site in sites)
    if columns is None:
        return True, _beside(_lines(sites, marks, values, True, longest), chart, _SPARK[1])
    for both, name in ((True, longest), *((False, n) for n in (longest, *_NAMES))):
        bare = _lines(sites, marks, values, both, name)
        free = columns - max(map(cells, bare)) - 2
        if free >= _SPARK[0]:
            return both, _beside(bare, chart, min(free, _SPARK[1]))
    return False, bare


def _lines(
    sites: list[Site],
    marks: list[str],
    values: dict[str, np.ndarray],
    both: bool,
    name: int,
) -> list[str]:
    """Two lines of headings, and one for each site."""
    rows = [["", ""], ["  layer", "tensor"]]
    for key in values:
        head = key.rpartition("_")
        upper, lower = (key, " last  worst") if both else (head[0] + head[1], head[2])
        rows[0].append(upper)
        rows[1].append(lower)
    for site, mark in zip(sites, marks, strict=True):
        label = site.label + ("@eval" if site.mode == "eval" else "")
        rows.append([f"{'!' if mark else ' '} {cut(escape(site.layer), name)}", escape(label)])
    for key in values:
        for row, (last, worst) in zip(rows[2:], _last_and_worst(values[key]), strict=True):
            row.append(f"{figure(last):>5} {figure(worst):>6}" if both else figure(worst))
    return table(rows, [False, False, *[True] * len(values)])


def _beside(lines: list[str], chart: Chart, blocks: int) -> list[str]:
    """The lines, and the chart in so many blocks to their right."""
    most = max(map(cells, lines))
    label = f"{chart.metric} over time"
    heads = ["", label if len(label) <= blocks else chart.metric]
    parts = [*heads, *(sparkline(series, _FULL) for series in chart.pooled(blocks))]
    return [f"{padded(a, most)}  {b}".rstrip() for a, b in zip(lines, parts, strict=True)]


class Chart(NamedTuple):
    """One metric over time.

    Attributes: metric; first, steps: int64[W], of the windows; values: float64[W, sites].
    """

    metric: str
    first: np.ndarray
    steps: np.ndarray
    values: np.ndarray

    def pooled(self, most: int) -> list[list[float]]:
        """Per site the largest size in each of at most so many equal stretches of steps."""
        span = int(self.steps[-1]) - int(self.first[0]) + 1
        edges = int(self.first[0]) + np.linspace(0, span, min(most, span) + 1)
        start = np.searchsorted(self.steps, edges[:-1], side="left")
        stop = np.searchsorted(self.first, edges[1:], side="left")
        size = np.abs(self.values)
        blocks = [
            np.fmax.reduce(size[a:b], axis=0, initial=np.nan)
            for a, b in zip(start.tolist(), stop.tolist(), strict=True)
        ]
        return [series.tolist() for series in np.transpose(blocks)]


def _marked(run: Run) -> dict[tuple[str, str], str]:
    """Layer and tensor of each alert to the worst severity there; notes do not count."""
    raised = sorted(run.alerts, key=lambda a: SEVERITIES.index(a.severity))
    return {(a.layer, a.tensor): a.severity for a in raised if a.severity != "info"}


def _in_order(run: Run) -> list[tuple[int, Site]]:
    """Columns and sites, layers in execution order."""
    place = {name: number for number, name in enumerate(run.layers)}
    return sorted(enumerate(run.sites), key=lambda pair: place.get(pair[1].layer, len(place)))


def _last_and_worst(values: np.ndarray) -> list[tuple[float, float]]:
    """Per site the last known value and the one of the largest size; NaN without any."""
    known = ~np.isnan(values)
    last = values.shape[0] - 1 - np.argmax(known[::-1], axis=0)
    worst = np.argmax(np.where(known, np.abs(values), -1.0), axis=0)
    column = np.arange(values.shape[1])
    return list(zip(values[last, column].tolist(), values[worst, column].tolist(), strict=True))
