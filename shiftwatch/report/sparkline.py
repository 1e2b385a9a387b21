"""Sparkline: one alert's metric around its onset, as SVG that needs no script."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.wording import number

if TYPE_CHECKING:
    from shiftwatch.history import Run
    from shiftwatch.records import Alert

_WIDTH, _HEIGHT = 344, 92
_LEFT, _RIGHT, _TOP, _BOTTOM = 6, 86, 10, 20
_POINTS = 120


def sparkline(run: Run, alert: Alert, cache: dict[str, np.ndarray]) -> str:
    """SVG of the metric at the alert's site from well before the onset to well after.

    Args:
        cache: metric key to float64[windows, sites], filled as needed.

    Returns:
        Markup, or ``""`` where the run does not hold the series, or it does not cross the limit.
    """
    if alert.metric not in run.metrics or not run.steps.size:
        return ""
    if alert.metric not in cache:
        cache[alert.metric] = run.metric(alert.metric)
    values = cache[alert.metric]
    sites = [
        i
        for i, s in enumerate(run.sites)
        if s.layer == alert.layer and s.tensor == alert.tensor and not np.isnan(values[:, i]).all()
    ]
    if not sites:
        return ""
    steps = run.steps
    onset = int(np.searchsorted(steps, alert.step))
    seen = int(np.searchsorted(steps, alert.detected))
    around = max(12, 2 * (seen - onset))
    part = slice(max(0, onset - around), min(steps.size, seen + around + 1))
    limit = alert.limit
    if alert.value * limit < 0:  # a limit on the size, crossed on the other side of zero
        limit = -limit
    shown = values[part, sites[0]]
    since = shown[steps[part] >= alert.step]
    above = limit >= 0 and alert.value >= limit
    if not np.any(since >= limit if above else since <= limit):
        return ""  # the alert is about a part of these values: the whole would not show it
    return draw(steps[part], shown, alert.step, limit)


def draw(steps: np.ndarray, values: np.ndarray, onset: int, limit: float) -> str:
    """The series with its limit (dashed) and onset (dotted).

    Args:
        steps: int64[n], ascending.
        values: float64[n]; NaN leaves a gap, infinities are drawn at the rim.

    Example:
        >>> svg = draw(np.arange(3), np.array([0.0, 1.0, np.nan]), 1, 0.5)
        >>> svg.startswith("<svg"), "limit 0.5" in svg
        (True, True)
    """
    steps, values = steps[-_POINTS:], values[-_POINTS:]
    finite = np.isfinite(values)
    known = np.append(values[finite], limit if np.isfinite(limit) else [])
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    low = min(low, 0.0) if low > 0 and low < 0.5 * high else low
    unit = float(np.median(np.abs(known[known != 0]))) if np.any(known != 0) else 1.0
    unit = unit if max(abs(low), abs(high)) > 100 * unit > 0 else 0.0  # bend only far ranges

    def bend(value: np.ndarray) -> np.ndarray:
        return np.arcsinh(value / unit) if unit else np.asarray(value, float)

    bottom, top = float(bend(np.array(low))), float(bend(np.array(high)))
    span = top - bottom or 1.0
    across = max(float(steps[-1] - steps[0]), 1.0) if steps.size else 1.0
    x = _LEFT + (steps - steps[0]) / across * (_WIDTH - _LEFT - _RIGHT)
    inner = _HEIGHT - _TOP - _BOTTOM
    clipped = np.clip(np.where(np.isnan(values), low, values), low, high)
    y = _TOP + (top - bend(clipped)) / span * inner

    parts = [
        f'<svg class="spark" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        'role="img" aria-label="The metric around the onset, with its limit">'
    ]
    edge = _WIDTH - _RIGHT
    base = _HEIGHT - _BOTTOM
    parts.append(f'<path class="base" d="M{_LEFT} {base + 0.5}H{edge}"/>')
    begin = _LEFT + (min(max(onset, steps[0]), steps[-1]) - steps[0]) / across * (edge - _LEFT)
    parts.append(f'<path class="onset" d="M{begin:.1f} {_TOP - 6}V{base}"/>')
    label = min(max(begin, _LEFT + 34), edge - 30)
    parts.append(
        f'<text x="{label:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">step {onset:,}</text>'
    )
    line, pen = [], "M"
    for px, py, value in zip(x, y, values, strict=True):
        if np.isnan(value):
            pen = "M"
            continue
        line.append(f"{pen}{px:.1f} {py:.1f}")
        pen = "L"
    parts.append(f'<path class="line" d="{"".join(line)}"/>')
    last = np.flatnonzero(~np.isnan(values))
    reading = None
    if last.size:
        i = int(last[-1])
        reading = float(y[i])
        parts.append(f'<circle class="end" cx="{x[i]:.1f}" cy="{y[i]:.1f}" r="2.6"/>')
        parts.append(
            f'<text class="value" x="{edge + 6}" y="{min(max(reading + 4, 10), base):.1f}">'
            f"{html.escape(number(float(values[i]), 3))}</text>"
        )
    if np.isfinite(limit):
        at = _TOP + (top - float(bend(np.array(limit)))) / span * inner
        parts.append(f'<path class="limit" d="M{_LEFT} {at:.1f}H{edge}"/>')
        at += 4
        if reading is not None and abs(at - 4 - reading) < 14:
            at = reading + 4 + (14 if at - 4 >= reading and reading < base - 16 else -14)
        parts.append(
            f'<text class="limit" x="{edge + 6}" y="{min(max(at, 10), _HEIGHT - 6):.1f}">'
            f"limit {html.escape(number(limit, 3))}</text>"
        )
    parts.append("</svg>")
    return "".join(parts)
