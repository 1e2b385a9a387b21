"""BatchNorm: what evaluation sees is not what training saw.

In training a batch is normalised by its own mean and variance, in evaluation by running
averages. Where the two disagree (momentum 1 or nearly 0, tiny batches, statistics of
another data set), the layer's outputs differ between the modes, and so does everything
after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.records import Site
from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites


class BatchNormState(NamedTuple):
    """Attributes: mean, std: float64[sites], latest of each site; gap: int64[sites], evaluations
    in a row with a gap; raised: bool[sites].
    """

    mean: np.ndarray
    std: np.ndarray
    gap: np.ndarray
    raised: np.ndarray


@dataclass(frozen=True)
class BatchNorm:
    """Gap between a batch normalisation's outputs in training and in evaluation.

    Args:
        deviations: difference of the means that matters, in training standard deviations.
        octaves: difference of the standard deviations that matters.
        patience: evaluations in a row.
        burn_in: steps before the running averages are expected to have settled.
    """

    deviations: float = 1.0
    octaves: float = 1.0
    patience: int = 2
    burn_in: int = 64

    def columns(self, sites: Sites) -> np.ndarray:
        """Every site: each is compared with its twin in the other mode."""
        return sites.columns()

    def init(self, sites: int) -> BatchNormState:
        """Nothing seen."""
        nothing = np.full(sites, np.nan)
        return BatchNormState(nothing, nothing, np.zeros(sites, np.int64), np.zeros(sites, bool))

    def update(self, state: BatchNormState, evidence: Evidence) -> Verdict:
        """Compare each normalisation's evaluation with its latest training window."""
        sites, summary = evidence.sites, evidence.summary
        present = summary.count > 0
        mean = np.where(present, summary.mean, state.mean)
        std = np.where(present, summary.std, state.std)
        gap, raised = state.gap.copy(), state.raised.copy()
        firings = []
        step = int(evidence.frame.steps[-1])
        for column in sites.columns("output", train=False)[
            present[sites.columns("output", train=False)]
        ].tolist():
            site = sites.all[column]
            twin = sites.column(Site(site.layer, site.tensor, site.part))
            if sites.layers[site.layer].norm != "batch" or twin is None or step < self.burn_in:
                continue
            if not std[twin] > 0 or not std[column] > 0:
                continue
            shift = abs(mean[column] - mean[twin]) / std[twin]
            stretch = abs(np.log2(std[column] / std[twin]))
            wide = shift >= self.deviations or stretch >= self.octaves
            gap[column] = gap[column] + 1 if wide else 0
            if not wide:
                raised[column] = False
            if gap[column] >= self.patience and not raised[column]:
                raised[column] = True
                by_mean = shift / self.deviations >= stretch / self.octaves
                firings.append(
                    Firing(
                        step=step,
                        column=twin,
                        kind="batchnorm",
                        severity="warning",
                        metric="mean_shift" if by_mean else "variance_shift",
                        value=float(shift if by_mean else stretch * 2 * np.log(2)),
                        limit=self.deviations if by_mean else self.octaves * 2 * float(np.log(2)),
                        text=f"in evaluation the mean differs by {shift:.2g} standard deviations and "
                        f"the standard deviation by ×{2**stretch:.3g} from training",
                        score=float(max(shift / self.deviations, stretch / self.octaves)),
                    )
                )
        return Verdict(BatchNormState(mean, std, gap, raised), firings, raised)
