"""Weights & Biases: a few series while training runs, the whole story at the end.

    run = wandb.init(project="digits")
    with watch(model, reporters=[WandbReporter()]) as monitor:
        ...

W&B has one row per step of its own, and whoever logs moves it on: a plug-in that commits
rows makes a user who logs with explicit steps lose some (wandb#10628, #6269). So in a run
that is the user's, rows are added to and never committed; the price is that of two windows
between two logs of the user the later one remains on the charts. All of them are in the
table at the end.

Pages with thousands of panels do not open. So the charts hold the worst layer per metric,
about ten series; single layers only where they are asked for.
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.optional import need
from shiftwatch.records import Alert, Incident, Layer, Report, Site
from shiftwatch.reporters.picture import heatmap
from shiftwatch.reporters.rollups import METRICS, columns, rollups, standing

need("wandb", extra="wandb", feature="WandbReporter")

import wandb  # noqa: E402

if TYPE_CHECKING:
    from shiftwatch.history import Run

#: Rows that the table of the whole series keeps; beyond, neighbours become one.
ROWS = 8192

LEVELS = {"info": "INFO", "warning": "WARN", "critical": "ERROR"}

_log = logging.getLogger("shiftwatch")


class WandbReporter:
    """Reports to a W&B run: rollups per window, alerts, and tables and pages at the end.

    Per window ``shiftwatch/worst_<metric>``, ``shiftwatch/layers_in_alarm``,
    ``shiftwatch/incidents``, ``shiftwatch/alerts``, ``shiftwatch/overhead``, ``shiftwatch/every``,
    over ``shiftwatch/step``, the optimizer step. At the end the tables ``shiftwatch/layers``
    (every layer, last and worst value of the five metrics), ``shiftwatch/series`` (the
    rollups of every window) and ``shiftwatch/alerts_raised``; the pages ``shiftwatch/map``
    (layers over time) and ``shiftwatch/report``, both also as an artifact.

    Args:
        run: the run to report to. By default the one that is active when the reporter is
            made or gets its first report; where there is none, a run of its own, which it
            finishes at the end.
        per_layer: glob patterns of layers that get series of their own, as
            ``shiftwatch_<metric>/<layer>``, every character but letters and digits as ``_``.
        alert: send alerts through W&B (mail, Slack).
        cooldown: seconds in which an alert of the same kind and origin is not sent again.
        html: whether to leave the pages and the artifact.
        table: whether to leave the tables.
        rows: whether to log a row per window; ``False`` where something else does.

    Raises:
        ImportError: where wandb is not installed.

    Cost: about 1 ms per window; at the end about 10 ms and the making of the report.

    Example:
        >>> import wandb
        >>> run = wandb.init(mode="disabled")
        >>> reporter = WandbReporter(run, per_layer=["blocks.*.attn"])
        >>> reporter(Report(0, 7, (Site("fc1"),), {"kl": np.array([0.25])}))
        >>> run.finish()
    """

    def __init__(
        self,
        run: wandb.Run | None = None,
        *,
        per_layer: Sequence[str] = (),
        alert: bool = True,
        cooldown: float = 600.0,
        html: bool = True,
        table: bool = True,
        rows: bool = True,
    ) -> None:
        if isinstance(per_layer, str):
            raise TypeError(f"per_layer must be a list of patterns; got {per_layer!r}.")
        self.per_layer, self.alert, self.cooldown = tuple(per_layer), alert, cooldown
        self.html, self.table, self.rows = html, table, rows
        self._given = run
        self._run: wandb.Run | None = None
        self._owns = self._over = False
        self._begin()
        if run is not None or wandb.run is not None:
            self._attach(run or wandb.run, owns=False)

    def __call__(self, report: Report) -> None:
        """Report a window, or the end. A run that was finished meanwhile is said once."""
        if self._over:
            return
        if self._run is None:
            if self._given is not None or wandb.run is not None:
                self._attach(self._given or wandb.run, owns=False)
            else:  # create_new leaves wandb.run alone: wandb.log must not begin to work by us
                project = os.environ.get("WANDB_PROJECT", "shiftwatch")
                self._attach(wandb.init(project=project, reinit="create_new"), owns=True)
        assert self._run is not None
        try:
            self._window(self._run, report)
            if report.final:
                self._final(self._run, report)
        except wandb.errors.UsageError as error:
            self._over = True
            _log.warning(
                "W&B run %s takes no more reports from step %d on: %s "
                "Close the monitor before run.finish().", self._run.id, report.step, error,
            )  # fmt: skip
        if report.final:
            owned, run, self._run = self._owns, self._run, None
            self._begin()  # a second training looks for its run anew
            if owned:
                run.finish()

    def _begin(self) -> None:
        self._over = False
        self._open: dict[int, Incident] = {}
        self._alerts: list[Alert] = []
        self._sent: dict[tuple[str, str], float] = {}
        self._rows: list[dict[str, float]] = []
        self._step: int | None = None  # of the W&B run, after our last row
        self._windows = self._replaced = 0

    def _attach(self, run: wandb.Run | None, *, owns: bool) -> None:
        assert run is not None
        self._run, self._owns = run, owns
        if not self.rows:
            return
        run.define_metric("shiftwatch/step", hidden=True)
        run.define_metric("shiftwatch/*", step_metric="shiftwatch/step")
        for metric in METRICS if self.per_layer else ():
            run.define_metric(f"shiftwatch_{metric}/*", step_metric="shiftwatch/step")

    def _add(self, run: wandb.Run, values: Mapping[str, object]) -> None:
        run.log(dict(values), commit=self._owns)

    def _window(self, run: wandb.Run, report: Report) -> None:
        self._open = standing(self._open, report)
        self._alerts += report.alerts
        row = rollups(report, self._open) | {"alerts": float(len(self._alerts))}
        if not (self._rows and self._rows[-1]["step"] == report.step):  # as the final report is
            self._rows.append({"step": report.step, **row})
            if self.rows:
                self._log_row(run, report, row)
        if len(self._rows) > ROWS:
            self._rows = thinned(self._rows)
        for alert in report.alerts if self.alert else ():
            self._send(run, alert)

    def _log_row(self, run: wandb.Run, report: Report, row: Mapping[str, float]) -> None:
        shown: dict[str, float] = {"shiftwatch/step": report.step}
        shown |= {f"shiftwatch/{k}": v for k, v in row.items() if not math.isnan(v)}
        if self.per_layer:
            shown |= layer_series(report, self.per_layer)
        self._windows += 1
        moved = _step(run) != self._step
        if self._owns and moved and self._step is not None:
            self._owns = False  # a later wandb.init got our run: from now on we are its guest
            _log.warning(
                "W&B run %s was opened by shiftwatch and is now logged to by the program as "
                "well. Call wandb.init() before training, so that no row is lost.", run.id,
            )  # fmt: skip
        elif not self._owns and not moved and self._step is not None:
            self._replaced += 1  # nothing was logged since our last row: this one takes its place
        self._add(run, shown)
        self._step = _step(run)

    def _send(self, run: wandb.Run, alert: Alert) -> None:
        key, now = (alert.kind, alert.origin), time.monotonic()
        if now - self._sent.get(key, -math.inf) < self.cooldown:
            return
        self._sent[key] = now
        run.alert(
            title=_shortened(f"{alert.kind}: ", alert.origin),
            text=f"{alert.message}\n{alert.advice}",
            level=LEVELS.get(alert.severity, "WARN"),
            wait_duration=timedelta(seconds=max(self.cooldown, 0.001)),  # 0 would mean a minute
        )

    def _final(self, run: wandb.Run, report: Report) -> None:
        if self._replaced:
            _log.info(
                "W&B charts show %d of %d windows: they are added to the rows that the program "
                "logs, and were more. The table shiftwatch/series holds them all.",
                self._windows - self._replaced, self._windows,
            )  # fmt: skip
        pages: dict[str, str] = {}
        for name, make in self._makers(report.run).items():
            try:
                made = make()
            except Exception as error:  # one that fails must not cost the others
                _log.warning("W&B run %s: no %s (%s)", run.id, name, error, exc_info=True)
                continue
            if isinstance(made, str):
                pages[name] = made
                made = wandb.Html(made, data_is_not_path=True)
            if made is not None:
                self._add(run, {f"shiftwatch/{name}": made})
        if pages:
            artifact = wandb.Artifact(f"shiftwatch-{run.id}", type="report")
            for name, page in pages.items():
                with artifact.new_file(f"{name}.html", mode="w", encoding="utf-8") as file:
                    file.write(page)
            run.log_artifact(artifact)

    def _makers(self, history: Run | None) -> dict[str, Callable[[], object]]:
        makers: dict[str, Callable[[], object]] = {}
        if self.table:
            makers["series"] = lambda: _table(self._rows)
            makers["alerts_raised"] = lambda: _alerts(self._alerts)
        if self.table and history is not None:
            makers["layers"] = lambda: layer_table(history)
        if self.html and history is not None:
            makers["map"] = lambda: _map(history)
            makers["report"] = lambda: _report(history)
        return makers


def layer_series(report: Report, patterns: Sequence[str]) -> dict[str, float]:
    """Series of the chosen layers' outputs in training, under names that W&B can sort.

    Example:
        >>> report = Report(0, 7, (Site("blocks.8.act"),), {"kl": np.array([0.25])})
        >>> layer_series(report, ["blocks.*"])
        {'shiftwatch_kl/blocks_8_act': 0.25}
    """
    series: dict[str, float] = {}
    for column in columns(report.sites, ("output",)):
        site = report.sites[column]
        if not any(fnmatchcase(site.layer, pattern) for pattern in patterns):
            continue
        name = re.sub(r"[^A-Za-z0-9_]", "_", f"{site.layer}.{site.part}".rstrip("."))
        for metric in METRICS:
            values = report.metrics.get(metric, ())
            if column < len(values) and not math.isnan(values[column]):
                key = f"shiftwatch_{metric}/{name}"
                while key in series:  # a.b and a_b
                    key += "_"
                series[key] = float(values[column])
    return series


def thinned(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Half as many rows: of two neighbours the later step and each series' larger value.

    Example:
        >>> thinned([{"step": 1, "kl": 0.5}, {"step": 2, "kl": 0.1}, {"step": 3, "kl": 0.2}])
        [{'step': 2, 'kl': 0.5}, {'step': 3, 'kl': 0.2}]
    """

    def size(value: float) -> float:
        return -1.0 if math.isnan(value) else abs(value)

    pairs = zip(rows[::2], rows[1::2], strict=False)
    joined = [{k: max(a[k], b[k], key=size) for k in b} for a, b in pairs]
    return joined + rows[len(rows) - len(rows) % 2 :]


def _map(history: Run) -> str | None:
    known = [metric for metric in ("kl", *METRICS) if metric in history.metrics]
    return heatmap(history, known[0]) if known else None


def _report(history: Run) -> str:
    from shiftwatch.report import render

    return render(history)


def layer_table(history: Run) -> wandb.Table | None:
    """A row per layer: the last and the worst value of each metric over the run."""
    metrics = [metric for metric in METRICS if metric in history.metrics]
    names = ["layer", "module", *metrics, *(f"worst_{metric}" for metric in metrics)]
    values = [history.metric(metric) for metric in metrics]
    rows = []
    for column in columns(history.sites, ("output",)):
        site = history.sites[column]
        series = [v[:, column][~np.isnan(v[:, column])] for v in values]
        last = [float(s[-1]) if len(s) else math.nan for s in series]
        worst = [float(s[np.argmax(np.abs(s))]) if len(s) else math.nan for s in series]
        layer = history.layers.get(site.layer, Layer(site.layer))
        rows.append([_name(site), layer.module, *last, *worst])
    return _filled(names, rows)


def _step(run: wandb.Run) -> int | None:
    """The run's step; ``None`` where it cannot be told without asking another process.

    The public ``run.step`` waits for W&B's service, up to 30 seconds where that is gone:
    too long for a training loop. Here it only counts what the charts do not show.
    """
    return None if run.disabled else getattr(run, "_local_step", None)


def _name(site: Site) -> str:
    return f"{site.layer}[{site.part}]" if site.part else site.layer


def _table(rows: list[dict[str, float]]) -> wandb.Table | None:
    return _filled(list(rows[0]), [list(row.values()) for row in rows]) if rows else None


def _alerts(alerts: list[Alert]) -> wandb.Table | None:
    names = ["detected", "step", "severity", "kind", "layer", "origin", "incident", "message"]
    return _filled(names, [[getattr(alert, name) for name in names] for alert in alerts])


def _filled(names: list[str], rows: Sequence[Sequence[object]]) -> wandb.Table | None:
    if not rows:
        return None
    clean = [[None if isinstance(v, float) and math.isnan(v) else v for v in row] for row in rows]
    return wandb.Table(columns=[*names], data=clean)


def _shortened(kind: str, origin: str, limit: int = 63) -> str:
    """W&B takes titles under 64 characters; of a long name its end tells more."""
    room = limit - len(kind)
    return kind + (origin if len(origin) <= room else "…" + origin[1 - room :])
