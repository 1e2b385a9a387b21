"""What all figures share: sizes, type, colours, and how they are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftwatch.optional import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Inches: the width of a column of a paper in two columns, and of a page in one.
COLUMN, PAGE = 3.35, 6.9

#: Okabe and Ito (2008): told apart by the colour-blind. In the order in which series take them.
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9",
)  # fmt: skip
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
INK, FAINT, LINE = "#222222", "#767676", "#d9d9d9"

#: Colour of a severity.
SEVERITY = {"critical": VERMILION, "warning": ORANGE}

_STYLE = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.1,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.formatter.use_mathtext": True,
    "axes.grid": False,
}


@contextmanager
def drawn(
    ax: Axes | None, feature: str, width: float, height: float
) -> Iterator[tuple[Figure, Axes]]:
    """Figure and axes to draw into, under the style of all our figures.

    Args:
        ax: the caller's, or ``None`` for a new figure.
        feature: what asks for it, as the user calls it.
        width, height: of a new figure, in inches.

    Raises:
        MissingDependencyError: where matplotlib is not installed.
    """
    matplotlib = need("matplotlib", extra="plots", feature=feature)
    pyplot = need("matplotlib.pyplot", extra="plots", feature=feature)
    with matplotlib.rc_context(_STYLE):
        if ax is None:
            _, ax = pyplot.subplots(figsize=(width, height), layout="constrained")
        figure: Any = ax.figure  # a subfigure, where the caller drew into one
        yield figure, ax


def save(fig: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure, with its text as text where the format is made of vectors.

    Args:
        fig: any figure.
        path: file; its ending is the format. Without one, PDF.

    Returns:
        The path written.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> save(plt.figure(), "figure").name
        'figure.pdf'
        >>> plt.close("all")
    """
    matplotlib = need("matplotlib", extra="plots", feature="shiftwatch.plots.save()")
    target = Path(path)
    if not target.suffix:
        target = target.with_suffix(".pdf")
    # Type 42: many publishers refuse Type 3. Fonts of an SVG stay fonts, to be edited.
    with matplotlib.rc_context({"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}):
        fig.savefig(target, dpi=300)
    return target


def printable(name: str) -> str:
    """A name from a run as matplotlib may draw it: no mathematics in it, no control characters.

    Example:
        >>> printable("a$b_1$"), printable("x" * 60)[:4]
        ('a\\\\$b_1\\\\$', 'xxxx')
    """
    shown = "".join(c if c.isprintable() else "�" for c in name)
    shown = shown if len(shown) <= 40 else f"{shown[:19]}…{shown[-20:]}"
    return shown.replace("$", r"\$")
