"""Loss: the curve with the incidents and what was done on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shiftwatch import wording
from shiftwatch.plots.style import COLUMN, FAINT, INK, SEVERITY, drawn, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from shiftwatch.run import Run

_NAMED = 4  # incidents


def loss(run: Run, *, ax: Axes | None = None, width: float = COLUMN) -> tuple[Figure, Axes]:
    """Mean loss of each window, with incidents as numbered lines and learning rates as ticks.

    Args:
        run: any run with windows.
        ax: where to draw; by default a new figure.
        width: of the new figure, inches.

    Returns:
        Figure and axes; y is logarithmic where the loss spans more than a factor of 30. The
        legend names the first incidents.

    Raises:
        ValueError: where the run was given no loss.
        MissingDependencyError: where matplotlib is not installed.

    Example:
        >>> from shiftwatch import Monitor
        >>> rng, monitor = np.random.default_rng(0), Monitor(run=False)
        >>> for step in range(64):
        ...     monitor.observe("fc1", rng.normal(size=(32, 16)))
        ...     monitor.step(loss=1 / (step + 1))
        >>> fig, ax = loss(monitor.history)
        >>> ax.get_ylabel()
        'loss'
    """
    good = np.isfinite(run.losses)
    steps, values = run.steps[good], run.losses[good]
    if not values.size:
        raise ValueError("The run has no loss. Give it to monitor.step(loss=…).")
    raised = wording.raised(run)
    rates = [e.step for e in run.events if e.kind == "learning_rate"]
    lines = min(len(raised), _NAMED) + bool(rates)
    height = 0.55 * width + 0.15 * lines
    with drawn(ax, "shiftwatch.plots.loss()", width, height) as (fig, axes):
        axes.plot(steps, values, color=INK)
        if values.min() > 0 and values.max() > 30 * values.min():
            axes.set_yscale("log")
        for incident in raised:
            colour = SEVERITY.get(incident.severity, FAINT)
            words = f"{incident.number}  {printable(incident.origin)}"
            kinds = [wording.kind_words(kind) for kind in incident.kinds[:2]]
            label = f"{words}: {', '.join(kinds)}" if kinds else words
            named = incident in raised[:_NAMED]
            axes.axvline(
                incident.step, color=colour, lw=0.9, ls=(0, (4, 2)), label=label if named else None
            )
            if named:
                axes.annotate(
                    str(incident.number), (incident.step, 1), (1.5, 1),
                    xycoords=("data", "axes fraction"), textcoords="offset points",
                    color=colour, fontsize=7, ha="left", va="bottom", annotation_clip=False,
                )  # fmt: skip
        if rates:
            axes.plot(
                rates, np.zeros(len(rates)), ls="", marker="^", ms=3.5, color=FAINT, clip_on=False,
                transform=axes.get_xaxis_transform(), label="learning rate set",
            )  # fmt: skip
        if lines:  # below: nothing of the curve is hidden
            axes.legend(loc="upper left", bbox_to_anchor=(-0.01, -0.55 / height))
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.margins(x=0.01)
    return fig, axes
