"""Payload: all that the page's script draws, as one JSON value and three packed blobs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from shiftwatch.epochs import EPOCH, epochs
from shiftwatch.records import to_plain
from shiftwatch.report import glossary
from shiftwatch.report.packing import Blobs, scaled_8, scaled_16, shuffled, typical
from shiftwatch.report.timeline import (
    Columns,
    Distributions,
    columns,
    distributions,
    farthest,
    medians,
    seams,
    smooth_quantiles,
)
from shiftwatch.window import means
from shiftwatch.wording import run_name

if TYPE_CHECKING:
    from shiftwatch.history import Run

#: Most columns of time and slices of histograms on a page.
MOST_COLUMNS, LEAST_SLICES, MOST_SLICES = 600, 16, 96
# Cells of maps and tracks together; about a byte each in the file.
_BUDGET = 4_500_000
_TRACK_CELLS = 10  # 7 tracks of two bytes, packed
_HISTOGRAM_SHADES = 48
_HISTOGRAM_CELLS = 12_000  # histograms on a page
_MOST_RECORDS = 5_000  # alerts and events on one page
_MOST_EPOCHS = 1_000
_NEAR, _MOST_NEAR, _MOST_NEAR_WINDOWS = 100, 20, 2_000  # steps, incidents, windows in full detail


#: The blobs of a run, by name.
BLOBS = ("maps", "tracks", "shades")


@dataclass
class Packed:
    """Three blobs of one run: ``maps`` (u8, bits), ``tracks`` (u16, shuffled), ``shades`` (u8)."""

    maps: Blobs = field(default_factory=Blobs)
    tracks: Blobs = field(default_factory=Blobs)
    shades: Blobs = field(default_factory=Blobs)


def payload(run: Run, packed: Packed) -> dict[str, Any]:
    """What the page knows of a run.

    Args:
        run: any run; empty, of one window, and with sites that never had a value included.
        packed: receives the numbers.

    Returns:
        A value for :func:`as_json`; offsets point into ``packed``.

    Cost: one read of every window, nearly all that a report costs.
    """
    wanted = [k for k in glossary.ORDER if k in run.metrics]
    wanted += [k for k in run.metrics if k not in glossary.ORDER]
    cells = _rows(run, wanted) + (_TRACK_CELLS + 4) * len(run.sites)
    limit = int(np.clip(_BUDGET // max(cells, 1), 60, MOST_COLUMNS))
    at = columns(run.first, run.steps, limit, seams(run))
    slices = int(np.clip(_HISTOGRAM_CELLS // max(len(run.sites), 1), LEAST_SLICES, MOST_SLICES))
    spread = distributions(run, at, slices)

    maps: dict[str, np.ndarray] = {}
    table: dict[str, list[Any]] = {}
    for key in wanted:  # one at a time: all together are as large as the run
        values = run.metric(key)
        entry = glossary.entry(key, values)
        maps[key] = _pooled(values, at, entry.scale == "log")
        table[key] = _extremes(values, entry, run.steps)
    for key, derived in _derived(run, spread).items():
        if key not in maps or np.isnan(maps[key]).all():
            maps[key] = derived
            table[key] = _extremes(derived, glossary.entry(key, derived), at.last)
    keys = sorted(maps, key=lambda k: glossary.ORDER.index(k) if k in glossary.ORDER else 99)
    keys = [k for k in keys if not np.isnan(maps[k]).all()]

    entries = {k: glossary.entry(k, maps[k]) for k in keys}
    layer_number = {name: i for i, name in enumerate(run.layers)}
    return {
        "name": run_name(run),
        "layers": [
            [x.name, x.module, x.activation, int(x.parameters), x.norm] for x in run.layers.values()
        ],
        "sites": [[layer_number.get(s.layer, -1), s.tensor, s.part, s.mode] for s in run.sites],
        "time": {"first": at.first.tolist(), "last": at.last.tolist()},
        "slices": {"first": spread.slices.first.tolist(), "last": spread.slices.last.tolist()},
        "losses": _rounded(_losses(run, at)),
        "rates": _rounded(run.rates_at(at.first, at.last)) if run.schedule[0].size else [],
        "near": _near(run),
        "windows": int(run.steps.size),
        "metrics": [
            {"key": k, "title": e.title, "words": e.words, "scale": e.scale, "full": e.full}
            for k, e in entries.items()
        ],
        "maps": {k: packed_map(maps[k], entries[k].scale == "log", packed.maps) for k in keys},
        "tracks": _tracks(spread, packed.tracks),
        "shades": _shades(spread, packed.shades),
        "dead": _dead(run, at, packed.maps),
        "reference": _reference(run, at, spread),
        "table": {k: table[k] for k in keys},
        "alerts": [to_plain(a) for a in run.alerts[:_MOST_RECORDS]],
        "incidents": [to_plain(i) for i in run.incidents[:_MOST_RECORDS]],
        "events": [to_plain(e) for e in run.events if e.kind != EPOCH][:_MOST_RECORDS],
        "epochs": _epochs(run),
    }


def as_json(value: Any) -> str:
    """JSON for a script element: no ``<``, no NaN, ASCII only.

    Example:
        >>> as_json({"name": "</script>", "x": float("nan")})
        '{"name":"\\\\u003c/script\\\\u003e","x":null}'
    """
    text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    """Infinities as the words that the script knows, NaN as null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, np.generic):
        return _finite(value.item())
    return value


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{v:.5g}") for v in values.tolist()]


def _pooled(values: np.ndarray, at: Columns, log: bool) -> np.ndarray:
    """Metric per column; on a logarithmic scale zero is the farthest of all, not missing."""
    if not log or at.size == values.shape[0]:
        return farthest(values, at)
    least = float(np.where(values > 0, values, np.inf).min(initial=np.inf))
    floor = 1e-3 * least if math.isfinite(least) else 1.0
    pooled = farthest(values, at, lambda some: np.log(np.maximum(some, floor)))
    return np.maximum(pooled, 0.0)


def _losses(run: Run, at: Columns) -> np.ndarray:
    """Mean loss of each column; NaN where none of its windows has one: float64[columns]."""
    return means(run.losses, np.repeat(np.arange(at.size), np.diff(at.starts)), at.size)


def _rows(run: Run, keys: list[str]) -> int:
    """About how many rows the maps have: told by the first, the middle and the last windows."""
    chunks = {id(c): c for c in run.chunks[:: max(1, len(run.chunks) // 2)]}
    sites = len(run.sites)
    known = np.zeros((len(keys), sites), bool)
    for chunk in chunks.values():
        for row, key in zip(known, keys, strict=True):
            row |= (~np.isnan(chunk.metric(key, sites))).any(0)
    return int(known.sum())


def _epochs(run: Run) -> dict[str, Any]:
    """Steps at which epochs began, and their numbers; of very many those of round numbers."""
    begun = [[step, number] for step, number in epochs(run).items()]
    strides = (digit * 10**power for power in count() for digit in (1, 2, 5))
    every = next(n for n in strides if len(begun) <= n * _MOST_EPOCHS)
    return {"every": every, "begun": [e for e in begun if e[1] % every == 0]}


def _near(run: Run) -> dict[str, list[Any]]:
    """Loss and learning rate of single steps from a little before each incident to a little after."""
    wanted = np.zeros(run.steps.size, bool)
    for incident in run.incidents[:_MOST_NEAR]:
        begin, end = incident.step - _NEAR, incident.detected + _NEAR
        wanted |= (run.steps >= begin) & (run.first <= end)
    steps, losses = [np.zeros(0)], [np.zeros(0)]
    wanted &= np.cumsum(wanted) <= _MOST_NEAR_WINDOWS
    for window in np.flatnonzero(wanted).tolist():
        values = run.step_losses(window)
        span = int(run.steps[window] - run.first[window]) + 1
        steps.append(run.first[window] + (np.arange(values.size) + 0.5) * span / values.size - 0.5)
        losses.append(values)
    place, value = np.concatenate(steps), np.concatenate(losses)
    known = ~np.isnan(value)
    at, rates = run.schedule
    inside = np.append(wanted, False)[np.searchsorted(run.steps, at)]
    return {
        "steps": _rounded(place[known]),
        "losses": _rounded(value[known]),
        "rate_steps": at[inside].astype(int).tolist(),
        "rates": _rounded(rates[inside]),
    }


def _derived(run: Run, spread: Distributions) -> dict[str, np.ndarray]:
    """Metrics that the summaries hold anyway, for runs that did not record them."""
    derived = {
        "std": spread.std,
        "mean": spread.mean,
        "zero_fraction": spread.zeros,
        "saturation": spread.flat,
        "nonfinite": spread.nonfinite,
    }
    place = {(s.layer, s.part, s.mode): i for i, s in enumerate(run.sites) if s.tensor == "weight"}
    ratio = np.full_like(spread.rms, np.nan)
    for i, site in enumerate(run.sites):
        weight = place.get((site.layer, site.part, site.mode))
        if site.tensor == "update" and weight is not None:
            size = spread.rms[:, weight]
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                ratio[:, i] = np.where(size > 0, spread.rms[:, i] / size, np.nan)
    derived["relative_update"] = ratio
    return derived


def packed_map(values: np.ndarray, log: bool, blob: Blobs) -> dict[str, Any]:
    """Rows of one metric, float64[columns, sites]: [site, offset, low, high] each, in one unit."""
    if log:  # the scale of asinh is logarithmic only well above its unit
        known = values[np.isfinite(values) & (values > 0)]
        unit = float(known.min()) / 2 if known.size else 1.0
    else:
        unit = typical(values)
    known = np.flatnonzero((~np.isnan(values)).any(0))
    found = scaled_8(values.T[known], unit, from_zero=not log)
    ends = known.tolist(), map(blob.add, found.codes), found.low.tolist(), found.high.tolist()
    return {"unit": unit, "rows": [list(row) for row in zip(*ends, strict=True)]}


def _tracks(spread: Distributions, blob: Blobs) -> list[list[float] | None]:
    """Per site [offset, low, high, unit] of quantiles, mean and std, or None without values."""
    result: list[list[float] | None] = []
    for site in range(spread.mean.shape[1]):
        values = np.concatenate(
            [spread.quantiles[:, site].T, spread.mean[None, :, site], spread.std[None, :, site]]
        )
        if not np.isfinite(values).any():
            result.append(None)
            continue
        width = spread.quantiles[:, site, 3] - spread.quantiles[:, site, 1]
        row = scaled_16(values, typical(width, typical(values)))
        ends = float(row.low), float(row.high)
        result.append([blob.add(shuffled(row.codes)), *ends, row.unit])
    return result


def _shades(spread: Distributions, blob: Blobs) -> list[list[float] | None]:
    """Per site [offset, first bin, bins, largest share]: square roots of shares in 48 shades."""
    result: list[list[float] | None] = []
    for first, counts in spread.histograms:
        bins = counts.shape[1]
        if not bins:
            result.append(None)
            continue
        total = counts.sum(1, keepdims=True)
        shares = counts / np.where(total > 0, total, 1)
        most = float(shares.max())
        codes = np.rint(np.sqrt(shares / most) * _HISTOGRAM_SHADES).astype(np.uint8)
        result.append([blob.add(codes), first, bins, most])
    return result


def _dead(run: Run, at: Columns, blob: Blobs) -> list[list[int]]:
    """Units that are dead at the end of some column: [site, offset, width, units] of each site.

    At the offset lie their numbers in the order in which they died, u16, and then of each in
    that order a bit per column, in whole bytes.
    """
    ends, begun = at.starts[1:] - 1, 0
    tables: dict[int, np.ndarray] = {}
    widths: dict[int, int] = {}
    for chunk in run.chunks:
        into = slice(*np.searchsorted(ends, [begun, begun + len(chunk.steps)]))
        dead = chunk.dead.taken(ends[into] - begun)
        begun += len(chunk.steps)
        for place, (site, width) in enumerate(dead.sites.T.tolist()):
            bits = dead.packed(place)
            table = tables.get(site, np.zeros((at.size, 0), np.uint8))
            missing = bits.shape[1] - table.shape[1]
            if missing > 0:
                table = tables[site] = np.pad(table, ((0, 0), (0, missing)))
            table[into, : bits.shape[1]] = bits
            widths[site] = max(width, widths.get(site, 0))
    result = []
    for site in sorted(tables):
        flags = np.unpackbits(tables[site], axis=1)
        ever = np.flatnonzero(flags.any(0))
        if ever.size:
            order = ever[np.argsort(flags[:, ever].argmax(0), kind="stable")]
            offset = blob.add(order.astype("<u2"))
            blob.add(np.packbits(flags[:, order].T, axis=1))
            result.append([site, offset, widths[site], order.size])
    return result


def _reference(run: Run, at: Columns, spread: Distributions) -> dict[str, Any]:
    """Percentiles of each site in its first window, the picture's background, and its words."""
    if not run.steps.size:
        return {"words": "", "sites": []}
    values = smooth_quantiles(run.summary(0))
    sites: list[list[float] | None] = []
    later: dict[int, str] = {}
    for site in range(len(run.sites)):
        row = values[site]
        if np.isnan(row).any():  # a site that appeared later: its own first column
            seen = np.flatnonzero(~np.isnan(spread.quantiles[:, site, 2]))
            if not seen.size:
                sites.append(None)
                continue
            row = spread.quantiles[seen[0], site]
            later[site] = _steps(at.first[seen[0]], at.last[seen[0]])
        sites.append(_rounded(row))
    words = _steps(run.first[0], run.steps[0])
    return {"words": words, "sites": sites, "later": later}


def _steps(first: int, last: int) -> str:
    return f"first window, steps {int(first):,}–{int(last):,}"


def _log(values: np.ndarray) -> np.ndarray:
    """Logarithm; of zero −inf, of what is negative NaN."""
    return np.log(np.where(values >= 0, values, np.nan))


def _extremes(values: np.ndarray, entry: glossary.Entry, steps: np.ndarray) -> list[Any]:
    """Per site [last value, worst value, step of the worst], or None without values."""
    if not values.size:
        return []
    known = ~np.isnan(values)
    some = known.any(0)
    last = values.shape[0] - 1 - np.argmax(known[::-1], axis=0)
    log = entry.scale == "log"
    counted = values >= 0 if log else known
    high = np.argmax(np.where(counted, values, -np.inf), axis=0)
    low = np.argmin(np.where(counted, values, np.inf), axis=0)
    column = np.arange(values.shape[1])
    ends = values[[high, low], column]
    if log:
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = _log(ends) - medians(values, _log)
    a, b = np.abs(ends)
    worst = np.where(a == b, np.minimum(high, low), np.where(a > b, high, low))
    return [
        [float(f"{a:.5g}"), float(f"{b:.5g}"), int(steps[c])] if ok else None
        for a, b, c, ok in zip(
            values[last, column].tolist(), values[worst, column].tolist(), worst, some, strict=True
        )
    ]
