"""What can be told from two numbers of a step: its loss, and the norm of its gradients.

References:
    Kumar et al. (2025), "ZClip: Adaptive Spike Mitigation for LLM Pre-Training", arXiv 2504.02507.
"""

from __future__ import annotations

import numpy as np

from benchmarks.faults.baselines.recording import Recording
from benchmarks.faults.baselines.signs import Sign, of_run

#: Steps of the running median, and those of it that must be there.
BEFORE, AT_LEAST = 32, 8

#: ZClip's limit, the weight of what was, and steps before it begins.
Z, KEPT, WARM = 2.5, 0.97, 25


def loss_spike(r: Recording) -> list[Sign]:
    """A loss that is not finite, or twice the median of the 32 before it."""
    median = np.full(r.steps, np.inf)
    for step in range(AT_LEAST, r.steps):
        median[step] = np.median(r.loss[max(0, step - BEFORE) : step])
    with np.errstate(invalid="ignore"):
        ratio = r.loss / np.maximum(median, 1e-9)
    return [
        *of_run(~np.isfinite(r.loss), "nonfinite", "loss not finite"),
        *of_run(ratio > 2, "loss", "loss spike", value=ratio, limit=2.0),
    ]


def zclip(r: Recording) -> list[Sign]:
    """A norm of all gradients 2.5 deviations above its decayed mean.

    A spike enters mean and variance as what it is clipped to, as there.
    Departure: gradients are looked at as the optimizer took them, not clipped by it.
    """
    z = np.full(r.steps, np.nan)
    start = r.norm[:WARM][np.isfinite(r.norm[:WARM])]
    mean, variance = (start.mean(), start.var()) if len(start) else (0.0, 0.0)
    for step in range(WARM, r.steps):
        norm = r.norm[step]
        if not np.isfinite(norm):
            continue
        deviation = max(np.sqrt(variance), 1e-12)
        z[step] = (norm - mean) / deviation
        if z[step] > Z:
            norm = mean + Z**2 / z[step] * deviation
        mean = KEPT * mean + (1 - KEPT) * norm
        variance = KEPT * variance + (1 - KEPT) * (norm - mean) ** 2
    return [
        *of_run(np.isinf(r.norm) | _lost(r.norm), "nonfinite", "norm not finite"),
        *of_run(z > Z, "exploding", "norm spike", value=z, limit=Z),
    ]


def _lost(norm: np.ndarray) -> np.ndarray:
    """NaN after there was a number: before, there were no gradients."""
    seen = np.logical_or.accumulate(np.isfinite(norm))
    lost: np.ndarray = np.isnan(norm) & seen
    return lost
