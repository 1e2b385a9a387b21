"""Bands: percentiles of a layer over time, the picture of Ioffe and Szegedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.plots.smooth import smooth_quantiles
from shiftwatch.plots.style import BLUE, COLUMN, drawn, printable
from shiftwatch.records import Site

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from shiftwatch.run import Run

#: Percentiles drawn: the bands' edges from the outermost in, and the line.
LEVELS = (5, 25, 50, 75, 95)


def bands(
    run: Run,
    layer: str,
    *,
    tensor: str = "output",
    part: str = "",
    mode: str = "train",
    ax: Axes | None = None,
    width: float = COLUMN,
) -> tuple[Figure, Axes]:
    """Percentiles of a layer's values over time: the median, 25 to 75 %, 5 to 95 %.

    Args:
        run: any run with windows.
        layer, tensor, part, mode: the site, as of :class:`shiftwatch.records.Site`.
        ax: where to draw; by default a new figure.
        width: of the new figure, inches.

    Returns:
        Figure and axes. x is in steps, y in the tensor's own units.

    Raises:
        ValueError: for a site that the run does not hold.
        MissingDependencyError: where matplotlib is not installed.

    Example:
        >>> from shiftwatch import Monitor
        >>> rng, monitor = np.random.default_rng(0), Monitor(run=False)
        >>> for step in range(64):
        ...     monitor.observe("fc1", rng.normal(size=(32, 16)))
        ...     monitor.step()
        >>> fig, ax = bands(monitor.history, "fc1")
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('step', 'fc1, output')

    References:
        Ioffe and Szegedy (2015), Batch normalization, figure 1.
    """
    site = Site(layer, tensor, part, mode)
    values = smooth_quantiles(run.histogram(site), np.array(LEVELS) / 100)
    known = np.isfinite(values).all(1)
    steps, values = run.steps[known], values[known]
    with drawn(ax, "shiftwatch.plots.bands()", width, 0.62 * width) as (fig, axes):
        low, inner_low, middle, inner_high, high = values.T
        axes.fill_between(steps, low, high, color=BLUE, alpha=0.18, lw=0, label="5–95 %")
        axes.fill_between(
            steps, inner_low, inner_high, color=BLUE, alpha=0.34, lw=0, label="25–75 %"
        )
        axes.plot(steps, middle, color=BLUE, label="median")
        axes.set_xlabel("step")
        axes.set_ylabel(f"{printable(layer)}, {site.label}")
        axes.margins(x=0)
        axes.legend(loc="best", ncols=3, columnspacing=1.2)
    return fig, axes
