"""Ridgeline: the histogram of a layer over time, one behind the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.plots.smooth import densities, smooth_quantiles
from shiftwatch.plots.style import COLUMN, drawn, printable
from shiftwatch.records import Site
from shiftwatch.summaries.histogram import Histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from shiftwatch.run import Run

_POINTS = 160  # of a ridge


def ridgeline(
    run: Run,
    layer: str,
    *,
    tensor: str = "output",
    part: str = "",
    mode: str = "train",
    slices: int = 16,
    ax: Axes | None = None,
    width: float = COLUMN,
) -> tuple[Figure, Axes]:
    """Densities of a layer's values in equal stretches of time, the first at the back.

    Args:
        run: any run with windows.
        layer, tensor, part, mode: the site, as of :class:`shiftwatch.records.Site`.
        slices: ridges, 2 or more.
        ax: where to draw; by default a new figure.
        width: of the new figure, inches.

    Returns:
        Figure and axes. x is in the tensor's own units and holds 99 % of all values; y names
        the last step of a ridge. All ridges have one scale.

    Raises:
        ValueError: for fewer slices, and a site that the run does not hold or has no value of.
        MissingDependencyError: where matplotlib is not installed.

    Example:
        >>> from shiftwatch import Monitor
        >>> rng, monitor = np.random.default_rng(0), Monitor(run=False)
        >>> for step in range(64):
        ...     monitor.observe("fc1", rng.normal(size=(32, 16)))
        ...     monitor.step()
        >>> fig, ax = ridgeline(monitor.history, "fc1", slices=4)
        >>> len(ax.lines)
        4
    """
    if slices < 2:
        raise ValueError(f"slices must be 2 or more; got {slices}. 16 fit a column.")
    site = Site(layer, tensor, part, mode)
    counts = run.histogram(site).counts
    known = np.flatnonzero(counts.sum(1))
    if not known.size:
        raise ValueError(
            f"A ridgeline needs values; the run has none of {site.key}. Choose another site."
        )
    groups = np.array_split(known, min(slices, known.size))
    ridges = Histogram(np.array([counts[g].sum(0) for g in groups]))
    low, high = smooth_quantiles(Histogram(counts.sum(0)[None]), np.array([0.005, 0.995]))[0]
    if not high > low:
        low, high = low - 1.0, high + 1.0
    grid = np.linspace(low, high, _POINTS + 1)
    heights = densities(ridges, grid)
    centres = (grid[1:] + grid[:-1]) / 2
    # The fourth largest: a spike, as of a ReLU at zero, is cut and the rest stays readable.
    usual = float(np.percentile(np.sort(heights, axis=1)[:, -4], 90))
    scale = 2.2 / max(usual, 1e-300)
    with drawn(ax, "shiftwatch.plots.ridgeline()", width, 0.95 * width) as (fig, axes):
        import matplotlib

        shades = matplotlib.colormaps["viridis"](np.linspace(0.08, 0.88, len(groups)))
        for row, (ridge, shade) in enumerate(zip(heights, shades, strict=True)):
            top = row - np.minimum(ridge * scale, 3.2)
            axes.fill_between(centres, row, top, color=shade, alpha=0.85, lw=0, zorder=row)
            axes.plot(centres, top, color="white", lw=0.7, zorder=row + 0.5)
        axes.set_xlim(low, high)
        axes.set_ylim(len(groups) - 0.6, -3.0)
        every = max(1, len(groups) // 6)
        ends = [f"{int(run.steps[g[-1]]):,}" for g in groups]
        axes.set_yticks(range(0, len(groups), every), ends[::every])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylabel("step")
        axes.set_xlabel(f"{printable(layer)}, {site.label}")
    return fig, axes
