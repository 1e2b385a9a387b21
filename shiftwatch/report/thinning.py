"""Thinning: a run reduced to the sites and windows that a page draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.run import Rows, Run
from shiftwatch.window import Row, Window

if TYPE_CHECKING:
    from shiftwatch.records import Site


def thinned(run: Run, sites: Sequence[Site], most: int) -> Run:
    """The run with some of its sites and an even choice of its windows; nothing is merged.

    Args:
        run: any run.
        sites: of the run, in the order in which they are wanted.
        most: how many windows at most.

    Returns:
        A run in memory, of the same name, with the metrics left out: summaries, losses and learning rates.

    Cost: reads the chosen windows once; 300 of 160 layers in half a second.

    Example:
        >>> from shiftwatch import Monitor
        >>> with Monitor(run=False) as monitor:
        ...     for step in range(64):
        ...         monitor.observe("fc1", np.random.default_rng(step).normal(size=(8, 4)))
        ...         monitor.step()
        >>> few = thinned(monitor.history, monitor.history.sites[:1], 3)
        >>> len(few), few.steps.tolist()
        (3, [7, 39, 63])
    """
    windows = np.arange(len(run))
    if windows.size > most:
        windows = windows[np.linspace(0, windows.size - 1, most).round().astype(int)]
    rates = run.learning_rates
    column = np.array([run.column(site) for site in sites], np.int64)
    rows = tuple(
        Row.of(
            Window(
                first=int(run.first[i]),
                step=int(run.steps[i]),
                summary=summary[column],
                metrics={},
                losses=run.losses[i : i + 1],
                overhead=0.0,
                rates=np.array([[run.steps[i]], [rates[i]]])[:, : int(np.isfinite(rates[i]))],
            )
        )
        for i, summary in zip(windows.tolist(), run.summaries(windows), strict=True)
    )
    return Run(
        chunks=[Rows(rows)],
        path=run.path,
        meta=run.meta,
        sites=sites,
        layers=run.layers,
        alerts=run.alerts,
    )
