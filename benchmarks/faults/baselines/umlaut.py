"""UMLAUT: what a textbook would object to, once in an epoch.

References:
    Schoop et al. (2021), "UMLAUT: Debugging Deep Learning Programs using Program Structure and
    Model Behavior", CHI; ``umlaut/heuristics.py`` of github.com/BerkeleyHCI/umlaut.
"""

from __future__ import annotations

import numpy as np

from benchmarks.faults.baselines.recording import Recording
from benchmarks.faults.baselines.signs import EPOCH, Sign, of_run
from shiftwatch.records import INPUT


def umlaut(r: Recording) -> list[Sign]:
    """Inputs outside of -1 to 1, a NaN for a loss, a learning rate above 0.01 or below 1e-7,
    dropout of more than half.

    Departures: inputs are those of the epoch, not all that there are. What needs validation, the program's text or a final softmax
    is left out, and that symbols are no real numbers: an embedding wants them.
    """
    at = np.arange(EPOCH - 1, r.steps, EPOCH)
    if not len(at):
        return []
    low, high, loss = (
        x[: len(at) * EPOCH].reshape(-1, EPOCH) for x in (r.lowest, r.highest, r.loss)
    )
    outside = (low < -1).any(1) | (high > 1).any(1)
    rate, dropout = r.rate[at], r.dropout[at]
    return [
        *of_run(outside, "mean_shift", "input not normalized", steps=at, layer=INPUT),
        *of_run(np.isnan(loss).any(1), "nonfinite", "NaN in loss", steps=at),
        *of_run(rate > 0.01, "update", "high learning rate", value=rate, limit=0.01, steps=at),
        *of_run(rate < 1e-7, "frozen", "low learning rate", value=rate, limit=1e-7, steps=at),
        *of_run(
            dropout > 0.5, "variance_shift", "high dropout", value=dropout, limit=0.5, steps=at
        ),
    ]
