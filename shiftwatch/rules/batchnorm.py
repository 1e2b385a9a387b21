"""BatchNorm: what evaluation sees is not what training saw.

In training a batch is normalised by its own mean and variance, in evaluation by running
averages. Where the two disagree (momentum 1 or nearly 0, tiny batches, statistics of
another data set), the layer's outputs differ between the modes, and so does everything
after it. An evaluation shows that; where there is none, the running averages beside what
enters the layer in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.records import Site
from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.running import Running
from shiftwatch.sites import Sites

# Steps after which a training has begun; one in evaluation mode from the start is meant so.
_BEGUN = 16


class BatchNormState(NamedTuple):
    """Attributes: mean, std: float64[sites], latest of each site; gap: int64[sites], evaluations
    in a row with a gap, at the evaluation's column, and windows in a row with stale averages, at
    the training's; raised: bool[sites], likewise.
    """

    mean: np.ndarray
    std: np.ndarray
    gap: np.ndarray
    raised: np.ndarray


@dataclass(frozen=True)
class BatchNorm:
    """Gap between a batch normalisation's outputs in training and in evaluation.

    It is read in evaluations and, where the adapter hands over running averages, in training.
    There the noise of small batches is added twice to the limits, and averages of momentum m
    are given 3/m steps to settle, for by then 5 % of where they began is left. They fire in the
    second window after that: of averages that never move, by step 96. A layer that is frozen in
    evaluation mode does the same in both modes, so its limits are twice as wide.

    Args:
        deviations: difference of the means that matters, in training standard deviations, or in
            running ones averaged over channels.
        octaves: difference of the standard deviations that matters.
        patience: evaluations in a row, or windows of training.
        burn_in: steps before the running averages are expected to have settled.
        slowest: momentum under which they count as standing still, and are not waited for.
        settled: share of the way from 0 and 1 to what enters that running statistics have gone after
            ``burn_in`` steps, under which they stand still: momentum 0.001 goes six times as far.
        leap: octaves by which running deviations may leave what averaging makes of them.
    """

    deviations: float = 1.0
    octaves: float = 1.0
    patience: int = 2
    burn_in: int = 64
    slowest: float = 1e-3
    settled: float = 0.01
    leap: float = 0.3

    def columns(self, sites: Sites) -> np.ndarray:
        """Every site: each is compared with its twin in the other mode."""
        return sites.columns()

    def init(self, sites: int) -> BatchNormState:
        """Nothing seen."""
        nothing = np.full(sites, np.nan)
        return BatchNormState(nothing, nothing, np.zeros(sites, np.int64), np.zeros(sites, bool))

    def update(self, state: BatchNormState, evidence: Evidence) -> Verdict:
        """Compare each normalisation's evaluation, and its averages, with its latest training."""
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
        for reading in evidence.batch.running:
            if (step >= _BEGUN and reading.untouched) or (
                step >= self.burn_in and self._still(reading)
            ):
                firings += self._never(reading, step, raised)
            else:
                firings += self._stale(reading, evidence, gap, raised)
        firings += self._forgotten(evidence)
        firings += self._overwritten(evidence)
        return Verdict(BatchNormState(mean, std, gap, raised), firings, raised)

    def _stale(
        self, reading: Running, evidence: Evidence, gap: np.ndarray, raised: np.ndarray
    ) -> list[Firing]:
        """Judge running averages by what enters the layer; counts in ``gap`` and ``raised``."""
        step, column = int(evidence.frame.steps[-1]), reading.column
        momentum = reading.momentum
        wait = 3 / momentum if momentum >= self.slowest else 0
        if step < max(self.burn_in, wait):
            return []
        by_mean, by_std = reading.chance(int(np.median(evidence.batch.batch_size)))
        wide = 2 if reading.frozen else 1
        far, off = wide * self.deviations + 2 * by_mean, wide * self.octaves + 2 * by_std
        shift, stretch = reading.gap, reading.stretch
        score = max(shift / far, stretch / off)
        gap[column] = gap[column] + 1 if score >= 1 else 0
        raised[column] &= score >= 1
        if gap[column] < self.patience or raised[column]:
            return []
        raised[column] = True
        most = shift / far >= stretch / off
        return [
            Firing(
                step=step,
                column=column,
                kind="batchnorm",
                severity="warning",
                metric="batchnorm_gap" if most else "batchnorm_stretch",
                value=shift if most else stretch,
                limit=far if most else off,
                text=f"what enters it is off its running statistics by {shift:.2g} standard "
                f"deviations in the mean and ×{2**stretch:.3g} in the standard deviation, on average "
                f"over channels{'; they stand still' if not momentum >= self.slowest else ''}",
                score=float(score),
            )
        ]

    def _overwritten(self, evidence: Evidence) -> list[Firing]:
        """Running variances of one layer that no average explains; of most, a model was loaded."""
        batch = evidence.batch
        read = [r for r in batch.running if r.before is not None and not r.frozen]
        size, step = int(np.median(batch.batch_size)), int(batch.steps[-1])
        off = [r for r in read if abs(r.unexplained) > self.leap + 2 * r.chance(size)[1]]
        replaced = (np.nan_to_num(batch.tampered) > 0).any(0).sum() * 2 > np.isfinite(
            batch.tampered
        ).any(0).sum()
        if replaced or len(off) * 2 > max(len(read), 2) or step < _BEGUN:
            return []
        return [
            Firing(
                step=step,
                column=r.column,
                kind="batchnorm",
                severity="warning",
                metric="batchnorm_stretch",
                value=abs(r.unexplained),
                limit=self.leap,
                text=f"its running standard deviations changed by ×{2**r.unexplained:.3g} beyond "
                "what entered it explains: they were overwritten",
                score=abs(r.unexplained) / self.leap,
            )
            for r in off
        ]

    def _still(self, reading: Running) -> bool:
        """Running statistics that have hardly left what they were made with, though that is not what enters."""
        off = reading.gap >= self.deviations / 4 or reading.stretch >= self.octaves / 4
        return off and reading.settled < self.settled

    def _never(self, reading: Running, step: int, raised: np.ndarray) -> list[Firing]:
        """Running statistics that are still those the layer was made with."""
        if raised[reading.column]:
            return []
        raised[reading.column] = True
        mode = (
            "it is in evaluation mode and normalises with them"
            if reading.frozen
            else ("evaluation would normalise with them")
        )
        return [
            Firing(
                step=step,
                column=reading.column,
                kind="batchnorm",
                severity="warning",
                metric="batchnorm_gap",
                value=reading.gap,
                limit=self.deviations,
                text=f"its running mean is 0 and its running variance 1 after {step} steps: they "
                f"were {'never' if reading.untouched else 'hardly'} updated, and {mode}",
                score=1.0,
            )
        ]

    def _forgotten(self, evidence: Evidence) -> list[Firing]:
        """Training that goes on in evaluation mode after it had begun in training mode."""
        begins = [e.step for e in evidence.batch.events if e.kind == "mode" and e.step >= _BEGUN]
        sites = evidence.sites
        if not begins:
            return []
        outputs = sites.columns("output", train=True).tolist()
        layers = [(column, sites.layers[sites.all[column].layer]) for column in outputs]
        norms = [column for column, layer in layers if layer.norm == "batch"]
        drops = [column for column, layer in layers if "Dropout" in layer.module]
        if not norms and not drops:
            return []
        what = "running averages are used and not updated" if norms else "dropout is off"
        return [
            Firing(
                step=begins[0],
                column=(norms or drops)[0],
                kind="batchnorm" if norms else "distribution_shift",
                severity="warning",
                metric="mode",
                value=1.0,
                limit=0.0,
                text=f"trains in evaluation mode from here on: {what}; was model.train() forgotten "
                "after an evaluation?",
                score=1.0,
                origin=sites.all[(norms or drops)[0]].layer,
            )
        ]
