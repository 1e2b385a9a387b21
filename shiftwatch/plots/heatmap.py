"""Heat map: one metric of all layers over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.plots.style import COLUMN, INK, drawn, printable
from shiftwatch.report import glossary
from shiftwatch.report.timeline import columns, farthest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from shiftwatch.run import Run

_COLUMNS = 500  # of time; more than the dots of a printed column
_NAMED = 32  # layers with a label of their own


def heatmap(
    run: Run,
    metric: str,
    *,
    tensor: str = "output",
    mode: str = "train",
    ax: Axes | None = None,
    width: float = COLUMN,
) -> tuple[Figure, Axes]:
    """A metric, layer × step: rows in the order in which the network runs, from the top.

    Incidents are triangles where they began. Where many windows share a column, it shows the
    value farthest from the layer's median, so that no spike is lost.

    Args:
        run: any run with windows.
        metric: one of ``run.metrics``.
        tensor, mode: which sites of the layers; of parts the first.
        ax: where to draw; by default a new figure, higher for more layers.
        width: of the new figure, inches.

    Returns:
        Figure and axes; the colour bar is the last of the figure's axes. A signed metric has
        two colours about zero, any other goes from light to dark; scales end at the 99.5th
        percentile, and infinities are drawn as that end. Grey is what has no value.

    Raises:
        ValueError: for a metric that the run did not keep, or where no layer has a value of it.
        MissingDependencyError: where matplotlib is not installed.

    Example:
        >>> from shiftwatch import Monitor
        >>> rng, monitor = np.random.default_rng(0), Monitor(run=False)
        >>> for step in range(64):
        ...     monitor.observe("fc1", rng.normal(size=(32, 16)))
        ...     monitor.observe("fc2", rng.normal(size=(32, 16)))
        ...     monitor.step()
        >>> fig, ax = heatmap(monitor.history, "kl")
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['fc1', 'fc2']
    """
    order = {name: place for place, name in enumerate(run.layers)}
    table = run.metric(metric)
    chosen: dict[str, int] = {}
    for column, site in enumerate(run.sites):
        if (site.tensor, site.mode) == (tensor, mode) and np.isfinite(table[:, column]).any():
            chosen.setdefault(site.layer, column)
    if not chosen:
        raise ValueError(
            f"No layer has a finite {metric} of its {tensor} in {mode} mode. "
            "Choose another metric=, tensor= or mode=."
        )
    names = sorted(chosen, key=lambda name: order.get(name, len(order)))
    at = columns(run.first, run.steps, _COLUMNS)
    values = farthest(table[:, np.array([chosen[name] for name in names])], at)
    entry = glossary.entry(metric, table)
    edges = np.append(at.first, at.last[-1] + 1)
    sizes = np.abs(values[np.isfinite(values)])
    high = (float(np.percentile(sizes, 99.5)) if sizes.size else 0.0) or 1.0
    low, colours = (-high, "PuOr_r") if entry.scale == "signed" else (0.0, "Blues")
    height = min(max(0.9 + 0.13 * len(names), 0.5 * width), 1.3 * width)
    with drawn(ax, "shiftwatch.plots.heatmap()", width, height) as (fig, axes):
        mesh = axes.pcolormesh(  # clipped, or what is infinite would look like what is missing
            edges, np.arange(len(names) + 1) - 0.5, values.T.clip(-high, high), cmap=colours,
            vmin=low, vmax=high, rasterized=True,
        )  # fmt: skip
        axes.set_facecolor("#e8e8e8")
        axes.invert_yaxis()
        every = -(-len(names) // _NAMED)
        axes.set_yticks(range(0, len(names), every), [printable(n) for n in names[::every]])
        axes.tick_params(axis="y", length=0)
        places = {name: row for row, name in enumerate(names)}
        found = [(i.step, places[i.origin]) for i in run.incidents
                 if i.severity != "info" and i.origin in places]  # fmt: skip
        if found:
            axes.plot(
                *zip(*found, strict=True), ls="", marker="v", ms=4.5, mfc="white", mec=INK, mew=0.8,
                clip_on=False, zorder=4,
            )  # fmt: skip
        axes.set_xlabel("step")
        beyond = bool((np.abs(values) > high).any())
        extend = "neither" if not beyond else "both" if low else "max"
        fig.colorbar(
            mesh, ax=axes, label=entry.title, pad=0.02, fraction=0.05, aspect=30, extend=extend
        )
    return fig, axes
