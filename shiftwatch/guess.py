"""Guess: which activation made an input, where no module tells.

A functional activation (``F.relu``) has no output to watch; it shows in the input of the
next layer with weights. What it is can be read off the values and those that went in.
"""

from __future__ import annotations

import numpy as np

from shiftwatch.records import INPUT, Site
from shiftwatch.sites import Sites
from shiftwatch.summaries import Summary

_ENOUGH = 256  # values before anything is guessed
_NEAR = 0.2  # how far the ends of a sample may be from where the activation puts those before it
_ZEROS = 0.05  # share of exact zeros from which non-negative values are rectified


def guess(summary: Summary, sites: Sites) -> dict[int, str]:
    """Activations of input sites that have none yet.

    - ``"relu"``: never negative, often exactly zero;
    - ``"sigmoid"``: within 0 … 1, made from values that are not, and as far apart as it makes them;
    - ``"tanh"``: within -1 … 1, on both sides of zero, likewise.

    A wrong guess does no harm: values that stay clear of the flat part count as not saturated.

    Args:
        summary: one window, shape (sites,).

    Returns:
        Column to activation, only where the values leave no other choice.
    """
    found = {}
    low, high = summary.moments.min, summary.moments.max
    for column in np.flatnonzero(sites.unguessed & (summary.count >= _ENOUGH)).tolist():
        zeros = summary.tallies.zero[column] / summary.count[column]
        if low[column] >= 0 and zeros >= _ZEROS:
            found[column] = "relu"
            continue
        made = [sites.column(Site(p)) for p in sites.parents(sites.all[column].layer) if p != INPUT]
        known = [c for c in made if c is not None and summary.count[c] > 0]
        if not known or low[column] < -1 or high[column] > 1:
            continue
        least, most = min(low[c] for c in known), max(high[c] for c in known)
        ends = np.array([least, most])
        if low[column] >= 0 and (least < 0 or most > 1):
            made_of, name = 0.5 + np.tanh(ends / 2) / 2, "sigmoid"
        elif low[column] < 0 < high[column] and (least < -1 or most > 1):
            made_of, name = np.tanh(ends), "tanh"
        else:
            continue
        if np.abs(made_of - (low[column], high[column])).max() < _NEAR:
            found[column] = name
    return found
