"""AUTOTRAINER: problems of a training that does not reach its accuracy, once in an epoch.

References:
    Zhang et al. (2021), "AUTOTRAINER: An Automatic DNN Training Problem Detection and Repair
    System", ICSE. Rules and limits as in ``utils/monitor.py`` of github.com/shiningrain/AUTOTRAINER.
"""

from __future__ import annotations

import numpy as np

from benchmarks.faults.baselines.recording import Recording
from benchmarks.faults.baselines.signs import EPOCH, Sign, of_run

#: Accuracy to reach, and the share of the run after which that is asked.
THETA, JUDGED = 0.7, 0.3


def autotrainer(r: Recording) -> list[Sign]:
    """Its problems by name; it names no layer.

    Departures: the training's accuracy, a mean over the epoch, stands for that of validation too, since there is
    none; gradients are the batch's own, of weights without biases. A network that predicts no
    classes has no accuracy: of that only what is not finite is told.
    """
    at = np.arange(EPOCH - 1, r.steps, EPOCH)
    if not len(at):
        return []
    loss, accuracy = (x[: len(at) * EPOCH].reshape(-1, EPOCH).mean(1) for x in (r.loss, r.accuracy))
    broken = ~(loss < 1e5)
    for tensor in ("weight", "gradient"):
        broken |= (r[f"{tensor}.finite"][at] == 0).any(1)
    judged = np.arange(1, len(at) + 1) >= JUDGED * (r.steps / EPOCH)
    best = np.maximum.accumulate(accuracy)
    gains = np.maximum.accumulate(np.diff(accuracy, prepend=accuracy[:1]))
    short, slow = judged & (best < THETA), judged & (gains < 0.01)
    # A sign once seen counts from then on, as its counters are never set back.
    dying, exploding, vanishing = (np.logical_or.accumulate(x) for x in _gradients(r, at))
    asked = (short | slow) & ~broken
    swinging = np.array([_swings(accuracy[: i + 1]) for i in range(len(at))])
    found = (
        (broken, "nonfinite", "explode"),
        (asked & dying, "dead", "relu"),
        (asked & ~dying & exploding, "exploding", "explode"),
        (asked & ~dying & ~exploding & vanishing, "vanishing", "vanish"),
        (asked & ~dying & ~exploding & ~vanishing & slow, "loss", "not_converge"),
        (judged & ~short & ~slow & ~broken & swinging, "loss", "unstable"),
    )
    return [sign for fired, kind, rule in found for sign in of_run(fired, kind, rule, steps=at)]


def _gradients(r: Recording, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether most of the gradient is zero, and whether the first layer's is far above or below
    the last's: bool[epochs] each.
    """
    size, zero, norm = (r[f"gradient.{name}"][at] for name in ("size", "zero", "norm"))
    share = np.nansum(zero * size, axis=1) / np.maximum(np.nansum(size, axis=1), 1)
    known = ~np.isnan(norm)
    first, last = known.argmax(1), norm.shape[1] - 1 - known[:, ::-1].argmax(1)
    rows = np.arange(len(at))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = norm[rows, first] / norm[rows, last]
    return share >= 0.7, ratio > 70, (ratio < 1e-3) & (norm[rows, first] < 1e-4)


def _swings(accuracy: np.ndarray) -> bool:
    """Whether peaks lie 0.03 above valleys, pair by pair, in a fifth of the epochs."""
    middle, before, after = accuracy[1:-1], accuracy[:-2], accuracy[2:]
    peaks = middle[(middle >= before) & (middle >= after)]
    valleys = middle[(middle <= before) & (middle <= after)]
    pairs = min(len(peaks), len(valleys))
    return (
        bool((peaks[:pairs] - valleys[:pairs] >= 0.03).sum() >= 0.2 * len(accuracy)) and pairs > 0
    )
