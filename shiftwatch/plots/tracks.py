"""Tracks: one metric of one layer, of several runs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.plots.style import COLOURS, COLUMN, LINE, drawn, printable
from shiftwatch.report import glossary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from shiftwatch.run import Run

_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))


def tracks(
    runs: Mapping[str, Run],
    metric: str,
    layer: str,
    *,
    tensor: str = "output",
    part: str = "",
    mode: str = "train",
    over: str = "step",
    ax: Axes | None = None,
    width: float = COLUMN,
) -> tuple[Figure, Axes]:
    """One metric of one layer over time, a line for each run.

    Args:
        runs: label to run.
        metric: one that all of them kept.
        layer, tensor, part, mode: the site, as of :class:`shiftwatch.records.Site`.
        over: ``"step"``, or ``"share"`` of the training, for runs of other lengths.
        ax: where to draw; by default a new figure.
        width: of the new figure, inches.

    Returns:
        Figure and axes. Lines differ in colour and dashes.

    Raises:
        ValueError: for a site or a metric that a run does not hold, without runs, and for
            another ``over``.
        MissingDependencyError: where matplotlib is not installed.

    Example:
        >>> from shiftwatch import Monitor
        >>> rng, monitor = np.random.default_rng(0), Monitor(run=False)
        >>> for step in range(64):
        ...     monitor.observe("fc1", rng.normal(size=(32, 16)))
        ...     monitor.step()
        >>> run = monitor.history
        >>> fig, ax = tracks({"good": run, "today": run}, "kl", "fc1", over="share")
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['good', 'today']
    """
    if over not in ("step", "share"):
        raise ValueError(f'over must be "step" or "share"; got {over!r}.')
    if not runs:
        raise ValueError("tracks() needs a run at least: {label: shiftwatch.open(folder)}.")
    series = {
        label: run.series(metric, layer, tensor=tensor, part=part, mode=mode)
        for label, run in runs.items()
    }
    entry = glossary.entry(metric, np.concatenate([values for _, values in series.values()]))
    with drawn(ax, "shiftwatch.plots.tracks()", width, 0.62 * width) as (fig, axes):
        if entry.scale == "signed":
            axes.axhline(0, color=LINE, lw=0.8, zorder=0)
        lines = zip(series.items(), cycle(COLOURS), cycle(_DASHES), strict=False)
        for (label, (steps, values)), colour, dashes in lines:
            x = steps / max(int(steps[-1]), 1) if over == "share" and steps.size else steps
            # A legend leaves out what is nameless or begins with an underscore.
            shown = printable(label)
            shown = f" {shown}" if shown[:1] in ("", "_") else shown
            axes.plot(x, values, color=colour, ls=dashes, label=shown)
        axes.set_xlabel("step" if over == "step" else "share of the training")
        axes.set_ylabel(f"{entry.title}, {printable(layer)}")
        axes.margins(x=0.01)
        axes.legend(loc="best")
    return fig, axes
