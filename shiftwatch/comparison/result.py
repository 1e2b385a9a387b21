"""What a comparison found: plain values, ranked, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shiftwatch.comparison.alignment import Aligned
from shiftwatch.comparison.matching import Pair
from shiftwatch.comparison.schedules import Schedules
from shiftwatch.records import SEVERITIES, Alert, to_plain

#: What a check may fail on, the mildest last. Each includes those before it.
GRADES = ("critical", "warning", "difference")


@dataclass(frozen=True)
class Difference:
    """How far one layer of a run is from its counterpart in the first run.

    Args:
        layer: its name in this run.
        twin: its name in the first run.
        sentence: what is different, since when; ``""`` where nothing could be compared.
        measure: the key of :data:`shiftwatch.comparison.LIMITS` that the sentence speaks of.
        score: its largest difference that was held, over its limit; 1 or more is a departure.
        since: step of this run from which the difference is there; ``None`` where none is.
        until: step from which it is gone again; ``None`` where it lasts to the end.
        value: the difference, signed, its median over that time; NaN where nothing departs.
        sizes: what the measure compares, in the first run and in this, where it is a size that
            each has by itself: a share, a drift, a spread; else NaN.
        scores: score of each measure that could be compared.
    """

    layer: str
    twin: str
    sentence: str
    measure: str
    score: float
    since: int | None
    until: int | None
    value: float
    sizes: tuple[float, float]
    scores: Mapping[str, float]

    @property
    def departs(self) -> bool:
        """Whether the layer departs, and to the end."""
        return self.since is not None and self.until is None

    @property
    def passed(self) -> bool:
        """Whether the layer departed for a while and came back."""
        return self.until is not None


@dataclass(frozen=True)
class Against:
    """One run held against the first.

    Args:
        name: what the run is called.
        pairs: layers of both, in execution order of this run.
        only_first, only_this: layers without a counterpart, in execution order.
        aligned: moments that were compared.
        values: measure to float64[moments, pairs], signed: above 0 is more in this run; NaN
            where it does not apply.
        sizes: measure to float64[2, moments, pairs], what it compares, in the first run and in
            this, where it is a size that each has by itself.
        differences: one per pair: those that depart to the end, those that did for a while, the
            others; each the largest first.
        loss: of the last tenth of the time compared, in the first run and in this; NaN where
            no loss was given.
        schedules: how the learning rates differ; ``None`` where they do not, or are not known.
        said: the verdict, the sentence that matters most first.
    """

    name: str
    pairs: tuple[Pair, ...]
    only_first: tuple[str, ...]
    only_this: tuple[str, ...]
    aligned: Aligned
    values: Mapping[str, np.ndarray]
    sizes: Mapping[str, np.ndarray]
    differences: tuple[Difference, ...]
    loss: tuple[float, float]
    schedules: Schedules | None
    said: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """What matters, in a few sentences."""
        return " ".join(self.said)

    @property
    def departed(self) -> tuple[Difference, ...]:
        """Those that depart to the end, the earliest first.

        At equal steps outputs come before gradients, weights and updates, then in execution order.
        """
        return self._ordered([d for d in self.differences if d.departs])

    @property
    def rates_first(self) -> bool:
        """Whether the learning rates differ before any layer departs, or in the same window."""
        if self.schedules is None or not self.departed:
            return self.schedules is not None
        first = self.aligned.first_b == self.departed[0].since
        return self.schedules.since <= int(self.aligned.last_b[first].max())

    @property
    def passed(self) -> tuple[Difference, ...]:
        """Those that departed for a while, in the same order."""
        return self._ordered([d for d in self.differences if d.passed])

    def _ordered(self, differences: list[Difference]) -> tuple[Difference, ...]:
        place = {pair.b: i for i, pair in enumerate(self.pairs)}
        late = ("weight", "gradient", "update")
        return tuple(
            sorted(differences, key=lambda d: (d.since, d.measure in late, place[d.layer]))
        )


@dataclass(frozen=True)
class Comparison:
    """One or more runs held against the first.

    Args:
        names: of all runs, the first leading.
        align: ``"step"``, ``"epoch"`` or ``"share"``.
        against: one for each run after the first.
        alerts: warnings and criticals of each run, in order.
        verdict: what matters, in a few sentences.

    Example:
        >>> from shiftwatch.comparison import compare
        >>> from shiftwatch.history import History
        >>> from shiftwatch.summaries import summarize
        >>> from shiftwatch import Monitor
        >>> def run(shift):
        ...     rng = np.random.default_rng(0)
        ...     with Monitor(run=False) as monitor:
        ...         for step in range(64):
        ...             monitor.observe("fc1", rng.normal(shift * (step > 31), 1, (32, 4)))
        ...             monitor.step()
        ...     return monitor.history
        >>> found = compare(run(0.0), run(3.0), names=("good", "new"))
        >>> found.differences[0].layer, found.differences[0].since
        ('fc1', 32)
        >>> found.fails("difference")
        True
    """

    names: tuple[str, ...]
    align: str
    against: tuple[Against, ...]
    alerts: tuple[tuple[Alert, ...], ...]
    verdict: str

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Those of the second run; of more runs, see :attr:`against`."""
        return self.against[0].differences

    def fails(self, grade: str) -> bool:
        """Whether a run after the first has alerts of this grade or worse, or departs to the end.

        Args:
            grade: ``"critical"``, ``"warning"``, or ``"difference"`` for both and departures.

        Raises:
            ValueError: for another grade.
        """
        if any(self.grave(number, grade) for number in range(1, len(self.names))):
            return True
        return grade == "difference" and any(run.departed for run in self.against)

    def grave(self, number: int, grade: str) -> tuple[Alert, ...]:
        """Alerts of a run that are as severe as a grade asks for, or more.

        Args:
            number: of the run, 0 for the first.
            grade: as for :meth:`fails`.

        Raises:
            ValueError: for another grade.
        """
        if grade not in GRADES:
            raise ValueError(
                f"A grade must be one of {', '.join(GRADES)}; got {grade!r}. Choose one of them."
            )
        least = SEVERITIES.index("critical" if grade == "critical" else "warning")
        return tuple(a for a in self.alerts[number] if SEVERITIES.index(a.severity) >= least)

    def to_plain(self) -> dict[str, Any]:
        """All but the series, as dicts, lists, strings and numbers; ``None`` for NaN and inf."""
        return {
            "verdict": self.verdict,
            "align": self.align,
            "runs": [
                {"name": name, "alerts": [_finite(to_plain(a)) for a in alerts]}
                for name, alerts in zip(self.names, self.alerts, strict=True)
            ],
            "against_first": [_plain(run) for run in self.against],
        }

    def __str__(self) -> str:
        return self.verdict


def _plain(run: Against) -> dict[str, Any]:
    return {
        "run": run.name,
        "verdict": run.verdict,
        "moments": run.aligned.size,
        "loss": _finite(list(run.loss)),
        "learning_rates": None if run.schedules is None else _rates(run.schedules),
        "differences": [
            _finite({**vars(d), "sizes": list(d.sizes), "scores": dict(d.scores)})
            for d in run.differences
        ],
        "renamed": {p.a: p.b for p in run.pairs if p.a != p.b},
        "only_in_first": list(run.only_first),
        "only_in_this": list(run.only_this),
    }


def _rates(found: Schedules) -> dict[str, Any]:
    return {**vars(found), "sizes": _finite(list(found.sizes))}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value
