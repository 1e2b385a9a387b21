"""Figures for papers: a run, or several, drawn by matplotlib at the width of a column.

    from shiftwatch import plots

    fig, ax = plots.bands(shiftwatch.open("runs/first"), "encoder.0")
    plots.save(fig, "encoder.pdf")

Each function takes ``ax=`` to draw into a figure of yours and returns figure and axes. Colours
are told apart by the colour-blind and in grey print. Needs ``pip install 'shiftwatch[plots]'``.
"""

from shiftwatch.plots.bands import bands as bands
from shiftwatch.plots.heatmap import heatmap as heatmap
from shiftwatch.plots.loss import loss as loss
from shiftwatch.plots.ridgeline import ridgeline as ridgeline
from shiftwatch.plots.style import COLUMN as COLUMN
from shiftwatch.plots.style import PAGE as PAGE
from shiftwatch.plots.style import save as save
from shiftwatch.plots.tracks import tracks as tracks

__all__ = ["COLUMN", "PAGE", "bands", "heatmap", "loss", "ridgeline", "save", "tracks"]
