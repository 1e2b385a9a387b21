"""Rule: a metric crosses a limit. The rule to write for a metric of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from shiftwatch.detectors import Threshold
from shiftwatch.detectors.threshold import ThresholdState
from shiftwatch.records import KINDS, SEVERITIES, TENSORS
from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites

_WINDOW = 8  # watched steps of a window that was not cut short


class RuleState(NamedTuple):
    """Attributes: threshold: state of the detector; began: int64[sites], first step of the
    condition that is building up.
    """

    threshold: ThresholdState
    began: np.ndarray


@dataclass(frozen=True)
class Rule:
    """Fires where a metric has been at or above a limit for some windows in a row.

    Args:
        metric: key of ``shiftwatch.metrics``, or of one of your own given as ``metrics=``.
        limit: in the metric's unit; its size is compared, so a shift counts either way.
        kind: one of ``shiftwatch.records.KINDS``; what the alert will say.
        severity: ``"info"``, ``"warning"`` or ``"critical"``.
        layers: glob pattern of the layers' names.
        tensor: which tensor.
        patience: windows in a row; one that was cut short counts by its steps.
        release: the condition ends under this value; by default under ``limit``.

    Raises:
        ValueError: for a kind, severity or tensor that does not exist.

    Example:
        >>> from shiftwatch.rules import DEFAULT, Rule
        >>> rules = [*DEFAULT, Rule("zero_fraction", 0.95, layers="encoder.*")]
        >>> rules[-1].kind
        'distribution_shift'
    """

    metric: str
    limit: float
    kind: str = "distribution_shift"
    severity: str = "warning"
    layers: str = "*"
    tensor: str = "output"
    patience: int = 2
    release: float | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("kind", self.kind, KINDS),
            ("severity", self.severity, SEVERITIES),
            ("tensor", self.tensor, TENSORS),
        ):
            if value not in known:
                raise ValueError(f"{what} must be one of {', '.join(known)}; got {value!r}.")

    @property
    def _detector(self) -> Threshold:
        return Threshold(self.limit, self.release, (self.patience - 1) * _WINDOW + 1)

    def columns(self, sites: Sites) -> np.ndarray:
        """The tensor's sites in training."""
        return sites.columns(self.tensor, train=True)

    def init(self, sites: int) -> RuleState:
        """Nothing seen."""
        return RuleState(self._detector.init((sites,)), np.full(sites, -1, np.int64))

    def update(self, state: RuleState, evidence: Evidence) -> Verdict:
        """Judge the window's metric."""
        mine = self.columns(evidence.sites)
        layers = [evidence.sites.all[c].layer for c in mine.tolist()]
        chosen = np.array([fnmatchcase(name, self.layers) for name in layers], bool)
        value = evidence.metrics[self.metric][mine]
        size = np.where(chosen, np.abs(value), np.nan)
        threshold, fired = self._detector.update(state.threshold, size, evidence.frame.steps.size)
        first = int(evidence.frame.steps[0])
        began = np.where((threshold.run > 0) & (state.threshold.run == 0), first, state.began)
        windows = f" for {self.patience} windows" if self.patience > 1 else ""
        firings = [
            Firing(
                step=int(began[column]),
                column=int(mine[column]),
                kind=self.kind,
                severity=self.severity,
                metric=self.metric,
                value=float(value[column]),
                limit=self.limit,
                text=f"{self.metric} {value[column]:.3g} (limit {self.limit:.3g}{windows})",
                score=float(size[column] / self.limit) if self.limit else 1.0,
            )
            for column in np.flatnonzero(fired).tolist()
        ]
        return Verdict(RuleState(threshold, began), firings, threshold.on)
