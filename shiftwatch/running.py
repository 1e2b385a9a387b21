"""Running statistics: what a batch normalisation remembers, beside what enters it now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Running:
    """What entered a batch normalisation in a window, and the running statistics at its end.

    Args:
        column: of its output in training, where readings are entered.
        count: values sampled per channel.
        mean, std: float64[channels], of the values that entered.
        running_mean, running_std: float64[channels], which evaluation normalises with;
            both deviations with ε inside of the root, as the layer takes them.
        momentum: share of the running statistics that a batch replaces; 0 where they stand
            still, NaN for a cumulative average.
        frozen: whether the layer is in evaluation mode while the model trains: it normalises with
            its running statistics in both.
        before: float64[channels], the running deviations of the reading before; ``None`` in
            the first.
    """

    column: int
    count: int
    mean: np.ndarray
    std: np.ndarray
    running_mean: np.ndarray
    running_std: np.ndarray
    momentum: float
    frozen: bool = False
    before: np.ndarray | None = None

    @property
    def gap(self) -> float:
        """Distance of the means in running standard deviations, averaged over channels: 0 to Inf.

        Example:
            >>> one = np.ones(2)
            >>> Running(0, 64, 3 * one, one, one, 2 * one, 0.1).gap
            1.0
        """
        return float(np.mean(np.abs(self.mean - self.running_mean) / self.running_std))

    @property
    def untouched(self) -> bool:
        """Whether the running statistics are those of a layer that has seen nothing."""
        return not self.running_mean.any() and float(np.ptp(self.running_std)) == 0

    @property
    def settled(self) -> float:
        """How far the running statistics went from 0 and 1, with which they are made, over how far
        off what enters is: about 0 where they stand still, about 1 where they have settled.

        Example:
            >>> one = np.ones(2)
            >>> round(Running(0, 64, one, 3 * one, 0.3 * one, 1.6 * one, 0.1).settled, 2)
            0.3
        """
        way = np.mean(np.abs(self.mean) + np.abs(self.std - 1))
        went = np.mean(np.abs(self.running_mean) + np.abs(self.running_std - 1))
        return float(went / way) if way > 0 else 1.0

    @property
    def stretch(self) -> float:
        """Size of log2(std ÷ running std), averaged over channels: octaves, 0 to Inf.

        Example:
            >>> one = np.ones(2)
            >>> Running(0, 64, one, np.array([4.0, 0.25]), one, one, 0.1).stretch
            2.0
        """
        return float(np.mean(np.abs(np.log2(self.std / self.running_std))))

    @property
    def unexplained(self) -> float:
        """Octaves by which the running deviations left what averaging brings about, signed.

        A running average lies between where it was and what it averages, whatever its momentum
        and the number of batches. This is the median over channels of how far it lies outside.

        Example:
            >>> one = np.ones(3)
            >>> Running(0, 64, one, 2 * one, one, one / 4, 0.1, before=one).unexplained
            -2.0
            >>> Running(0, 64, one, 2 * one, one, 1.5 * one, 0.1, before=one).unexplained
            0.0
        """
        if self.before is None:
            return 0.0
        now, low = np.log2(self.running_std), np.log2(np.minimum(self.before, self.std))
        high = np.log2(np.maximum(self.before, self.std))
        return float(np.median(np.maximum(now - high, 0.0) + np.minimum(now - low, 0.0)))

    def chance(self, batch: int) -> tuple[float, float]:
        """Gap and stretch that normal data show where nothing is wrong.

        The mean of n values is off by σ/√n and the logarithm of their standard deviation by
        1/√(2(n-1)); a running average of momentum m holds the error of one batch times m/(2-m) in
        the square. The mean size of a normal error is √(2/π) of its deviation.

        Args:
            batch: samples per batch; 0 where unknown. Positions in space are not counted on:
                neighbours say the same.

        Example:
            >>> one = np.ones(1)
            >>> [round(x, 2) for x in Running(0, 512, one, one, one, one, 0.1).chance(2)]
            [0.13, 0.19]
        """
        keeps = 0.0
        if batch and self.momentum > 0:  # a cumulative average forgets its batches' errors
            keeps = self.momentum / (2 - self.momentum)
        mean = 1 / self.count + keeps / max(batch, 1)
        log = 0.5 / max(self.count - 1, 1) + keeps * 0.5 / max(batch - 1, 1)
        size = np.sqrt(2 / np.pi)
        return float(size * np.sqrt(mean)), float(size * np.sqrt(log) / np.log(2))


def running_metrics(readings: Iterable[Running], sites: int) -> dict[str, np.ndarray]:
    """The readings as metrics of their sites.

    Returns:
        ``batchnorm_gap`` and ``batchnorm_stretch``: float64[sites] each, NaN elsewhere.

    Example:
        >>> one = np.ones(1)
        >>> running_metrics([Running(1, 8, one, one, one, one, 0.1)], 2)["batchnorm_gap"].tolist()
        [nan, 0.0]
    """
    gap, stretch = np.full((2, sites), np.nan)
    for reading in readings:
        gap[reading.column], stretch[reading.column] = reading.gap, reading.stretch
    return {"batchnorm_gap": gap, "batchnorm_stretch": stretch}
