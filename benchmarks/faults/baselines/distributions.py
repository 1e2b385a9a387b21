"""What is done with distributions elsewhere, done to every layer's output: z-scores and PSI."""

from __future__ import annotations

import numpy as np

from benchmarks.faults.baselines.recording import WINDOW, Recording
from benchmarks.faults.baselines.signs import Sign, of_layers

#: Steps of the running window.
BEFORE = 32

#: Shares of bins are at least this, so that an empty one does not make the index infinite.
LEAST = 1e-4


def z_score(r: Recording, limit: float) -> list[Sign]:
    """A layer's mean or deviation so many deviations from those of the last 32 steps.

    The largest names the origin. What is not finite is told too.
    """
    signs = of_layers(r, r["output.finite"] == 0, "nonfinite", "output", "not finite")
    for name, kind in (("output.mean", "mean_shift"), ("output.std", "variance_shift")):
        z = _z(r[name])
        signs += of_layers(
            r, z > limit, kind, "output", f"z of {name}", value=z, limit=limit, strongest=True
        )
    return signs


def _z(x: np.ndarray) -> np.ndarray:
    """|z| against the steps before: float64[steps, layers], NaN in the first ones."""
    z = np.full(x.shape, np.nan)
    if len(x) <= BEFORE:
        return z
    before = np.lib.stride_tricks.sliding_window_view(x, BEFORE, axis=0)[:-1]
    with np.errstate(invalid="ignore", over="ignore"):
        # Below a millionth of its own size a deviation is rounding.
        spread = np.maximum(before.std(-1), 1e-6 * np.abs(before.mean(-1)) + 1e-12)
        z[BEFORE:] = np.abs(x[BEFORE:] - before.mean(-1)) / spread
    return z


def psi(r: Recording, limit: float = 0.25) -> list[Sign]:
    """A population stability index above 0.25: a window of eight steps against the first one.

    Ten bins, deciles of the first window; 0.25 is the usual limit of a "significant" change.

    References:
        Lewis (1994), "An Introduction to Credit Scoring".
    """
    ends = np.arange(2 * WINDOW - 1, r.steps, WINDOW)
    if not len(ends):
        return []
    first = _shares(r.bins[WINDOW - 1])
    later = r.bins[WINDOW : ends[-1] + 1].reshape(len(ends), WINDOW, *r.bins.shape[1:]).sum(1)
    now = _shares(later)
    index = ((now - first) * np.log(now / first)).sum(-1)
    return of_layers(
        r, index > limit, "distribution_shift", "output", "PSI",
        value=index, limit=limit, steps=ends, strongest=True,
    )  # fmt: skip


def _shares(counts: np.ndarray) -> np.ndarray:
    """Counts over their sum, none below the least; NaN where nothing was counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / counts.sum(-1, keepdims=True)
    return np.maximum(shares, LEAST)  # of NaN and a number, NaN
