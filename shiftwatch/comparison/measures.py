"""Measures: what of a layer is held against its counterpart, and from which size on it matters.

The limits are effect sizes, not tests of chance, and wide enough that another seed of the same
training stays under them; docs/comparison.md says how often it does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.comparison.alignment import Aligned
from shiftwatch.comparison.matching import Pair
from shiftwatch.divergences import DIVERGENCES
from shiftwatch.medians import medians
from shiftwatch.records import INPUT, Site
from shiftwatch.statistics import STATISTICS
from shiftwatch.summaries.summary import Summary

if TYPE_CHECKING:
    from shiftwatch.run import Run

#: Measure to the size from which on a difference matters, the most telling first. Of the
#: first three the difference B - A of a share; ``mean_shift`` in standard deviations of A,
#: ``variance_shift`` the logarithm of the ratio of the variances, ``js`` in nats. ``drift``
#: is explained at :func:`more_drift`; the last three are logarithms of a ratio of sizes: of the
#: weight, of the gradient at the layer's output relative to that of the run's other layers (a
#: smaller loss makes all gradients smaller), and of an update relative to the weight.
LIMITS: Mapping[str, float] = {
    "nonfinite": 1e-3,
    "dead_fraction": 0.2,
    "saturation": 0.25,
    "drift": 1.5,
    "mean_shift": 1.5,
    "variance_shift": float(np.log(9.0)),
    "js": 0.2,
    "weight": float(np.log(3.0)),
    "gradient": float(np.log(10.0)),
    "update": float(np.log(30.0)),
}

#: Measures that are the difference B - A of a share of the values or units.
SHARES = ("nonfinite", "dead_fraction", "saturation")

#: Measures that are the logarithm of a ratio of sizes.
RATIOS = ("weight", "gradient", "update")

_TENSORS = ("output", "gradient", "weight", "update")
_LEAST_RATIO = 1e-6  # a size of zero counts as so much of the other


@dataclass(frozen=True)
class Measured:
    """Both runs at the moments of an alignment.

    Args:
        values: measure to float64[K, layers], signed: above 0 is more in B; NaN where it does
            not apply.
        sizes: measure to float64[2, K, layers], of A and of B, where the measure compares a
            size that each has by itself: shares, drifts, means, standard deviations, and the sizes
            of the ratios.
    """

    values: Mapping[str, np.ndarray]
    sizes: Mapping[str, np.ndarray]


def measured(a: Run, b: Run, pairs: Sequence[Pair], at: Aligned) -> Measured:
    """All measures of all pairs of layers at all moments.

    Cost: reads each chosen window of both runs once and computes three divergences of all
    layers per moment; some milliseconds per moment of 160 layers.
    """
    columns = _columns(a, [p.a for p in pairs]), _columns(b, [p.b for p in pairs])
    shape = (at.size, len(pairs))
    pairwise = {key: np.full(shape, np.nan) for key in ("mean_shift", "variance_shift", "js")}
    tracks = [_Tracks(shape), _Tracks(shape)]
    moments = zip(a.summaries(at.window_a), b.summaries(at.window_b), strict=True)
    for k, both in enumerate(moments):
        seen = []
        for summary, column, track in zip(both, columns, tracks, strict=True):
            seen.append(_of(summary, column["output"]))
            track.read(k, summary, column, seen[-1])
        with np.errstate(all="ignore"):
            for key, table in pairwise.items():
                table[k] = DIVERGENCES[key](seen[1], seen[0])
    for run, windows, column, track in zip(
        (a, b), (at.window_a, at.window_b), columns, tracks, strict=True
    ):
        track.take(run, windows, column["output"])
    sizes = {key: np.array([t.sizes(key) for t in tracks]) for key in (*SHARES, *RATIOS)}
    sizes["drift"] = np.array(
        [
            drifted(t.mean, t.std, *_beginning(r, c["output"]))
            for t, r, c in zip(tracks, (a, b), columns, strict=True)
        ]
    )
    sizes["mean_shift"] = np.array([t.mean for t in tracks])
    sizes["variance_shift"] = np.array([t.std for t in tracks])
    values = dict(pairwise)
    values |= {key: sizes[key][1] - sizes[key][0] for key in SHARES}
    values |= {key: _log_ratio(*sizes[key]) for key in RATIOS}
    values["drift"] = more_drift(*sizes["drift"])
    return Measured({key: values[key] for key in LIMITS}, sizes)


def drifted(
    mean: np.ndarray, std: np.ndarray, first_mean: np.ndarray, first_std: np.ndarray
) -> np.ndarray:
    """How far a layer's values have moved from where they began, in standard deviations of then.

    The 2-Wasserstein distance between normal distributions of these moments.

    Args:
        mean, std: float64[K, layers].
        first_mean, first_std: float64[layers], of the run's first window.

    Returns:
        float64[K, layers], 0 or more; NaN where the values did not vary in the beginning.

    Example:
        >>> one = np.ones((1, 1))
        >>> drifted(4 * one, 5 * one, np.zeros(1), np.ones(1)).round(2).tolist()
        [[5.66]]
    """
    with np.errstate(all="ignore"):
        unit = np.where(first_std > 0, first_std, np.nan)
        return np.asarray(np.hypot((mean - first_mean) / unit, (std - first_std) / unit))


def more_drift(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How much farther B has drifted than A, by ratio and by distance; below 0 where less.

    Args:
        a, b: drifts, as of :func:`drifted`.

    Returns:
        float64[...]: the smaller of the doublings from one to the other and of their difference
        in standard deviations; 1 where B has drifted twice as far and one deviation farther.

    Example:
        >>> more_drift(np.array([1.0, 0.1, 4.0]), np.array([4.0, 0.4, 1.0])).round(1).tolist()
        [2.0, 0.3, -2.0]
    """
    with np.errstate(all="ignore"):
        octaves = np.abs(np.log2(np.maximum(b, 1e-3) / np.maximum(a, 1e-3)))
        return np.asarray(np.sign(b - a) * np.minimum(octaves, np.abs(b - a)))


def _log_ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Logarithm of b / a, bounded; 0 where both are 0."""
    least, most = _LEAST_RATIO, 1 / _LEAST_RATIO
    with np.errstate(all="ignore"):
        ratio = np.where((a == 0) & (b == 0), 1.0, b / a)
        return np.asarray(np.log(np.clip(ratio, least, most)))


class _Tracks:
    """Sizes of one run at the moments: float64[K, layers] each."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.mean, self.std = np.full(shape, np.nan), np.full(shape, np.nan)
        self._rms = {tensor: np.full(shape, np.nan) for tensor in _TENSORS[1:]}
        self._shares = {key: np.full(shape, np.nan) for key in SHARES}

    def read(
        self, k: int, summary: Summary, column: Mapping[str, np.ndarray], output: Summary
    ) -> None:
        """What the summary of moment ``k`` holds; ``output`` is its part of the outputs."""
        self.mean[k], self.std[k] = output.mean, output.std
        rms = summary.rms
        for tensor, track in self._rms.items():
            track[k] = _at(rms, column[tensor])
        for key, table in self._shares.items():
            with np.errstate(all="ignore"):
                table[k] = STATISTICS[key](output)

    def take(self, run: Run, windows: np.ndarray, column: np.ndarray) -> None:
        """What the run recorded of shares, which is closer than what summaries hold."""
        for key in SHARES:
            if key in run.metrics:
                kept = _at(run.metric(key)[windows], column)
                self._shares[key] = np.where(np.isnan(kept), self._shares[key], kept)

    def sizes(self, key: str) -> np.ndarray:
        """The size that a measure compares."""
        if key in SHARES:
            return self._shares[key]
        if key == "weight":
            return self._rms[key]
        if key == "gradient":
            return _beside_others(self._rms[key])
        with np.errstate(all="ignore"):
            weight = self._rms["weight"]
            return np.where(weight > 0, self._rms["update"] / weight, np.nan)


def _beside_others(sizes: np.ndarray) -> np.ndarray:
    """Sizes over the median of their row: float64[K, layers]."""
    middle = medians(np.where(sizes > 0, sizes, np.nan))[:, None]
    with np.errstate(all="ignore"):
        return np.asarray(sizes / middle)


def _beginning(run: Run, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the run's first window: float64[layers] each."""
    first = _of(run.summary(0), column)
    return first.mean, first.std


def _columns(run: Run, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Tensor to the column of each layer in training: int64[layers], -1 where there is none."""
    first: dict[tuple[str, str], int] = {}
    for i, site in enumerate(run.sites):
        if site.mode == "train":
            first.setdefault(_place(site), i)
    return {
        tensor: np.array([first.get((layer, tensor), -1) for layer in layers], np.int64)
        for tensor in _TENSORS
    }


def _place(site: Site) -> tuple[str, str]:
    """Layer and tensor; the model's input counts as the output of what comes before it."""
    return site.layer, "output" if site.layer == INPUT else site.tensor


def _of(summary: Summary, column: np.ndarray) -> Summary:
    """The summary's part at some columns, empty where there is none."""
    beyond = summary.shape[0]
    return summary.padded(beyond + 1)[np.where(column < 0, beyond, column)]


def _at(table: np.ndarray, column: np.ndarray) -> np.ndarray:
    """float64[..., layers] at some columns, NaN where there is none."""
    if not table.shape[-1]:
        return np.full((*table.shape[:-1], column.size), np.nan)
    return np.where(column < 0, np.nan, table[..., column])
