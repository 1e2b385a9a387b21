"""From what a rule found to alerts in the form of ours, so that all are scored alike.

A rule speaks where its condition begins to hold, of a layer or of the run: one that has held for long is
no news, and it is not credited with a fault that strikes meanwhile. All that a tool says at one
step is one incident. Its origin is the layer that it names first: in the order in which it looks,
or the largest where it gives sizes; none where it names none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from benchmarks.faults.baselines.recording import Recording

#: Steps of an epoch: 1,797 digits in batches of 48. The texts are given the same.
EPOCH = 38


@dataclass(frozen=True)
class Sign:
    """That a rule's condition began to hold.

    Args:
        layer: ``""`` where the rule is about the run.
        kind: which of our kinds comes nearest; ``"loss"`` for what says no more than that.
        rule: its name in the tool.
        rank: smaller ones are named first; of the same rank in the tool's order.
    """

    step: int
    layer: str
    kind: str
    tensor: str
    rule: str
    value: float = np.nan
    limit: float = np.nan
    rank: float = 0.0


def rising(fired: np.ndarray) -> np.ndarray:
    """Where a condition begins to hold: bool[checks, ...].

    Example:
        >>> rising(np.array([True, True, False, True])).tolist()
        [True, False, False, True]
    """
    before = np.zeros_like(fired)
    before[1:] = fired[:-1]
    begun: np.ndarray = fired & ~before
    return begun


def of_layers(
    recording: Recording,
    fired: np.ndarray,
    kind: str,
    tensor: str,
    rule: str,
    *,
    value: np.ndarray | None = None,
    limit: float = np.nan,
    steps: np.ndarray | None = None,
    strongest: bool = False,
) -> list[Sign]:
    """Signs of a rule about layers.

    Args:
        fired: bool[checks, layers].
        value: float64[checks, layers], what the rule looked at.
        steps: int[checks], those of the checks; ``None`` for all.
        strongest: whether the largest value is named first.
    """
    steps = np.arange(recording.steps) if steps is None else steps
    signs = []
    for check, i in np.argwhere(rising(fired)):
        size = np.nan if value is None else float(value[check, i])
        rank = -size if strongest else 0.0
        signs.append(
            Sign(int(steps[check]), recording.layers[i], kind, tensor, rule, size, limit, rank)
        )
    return signs


def of_run(
    fired: np.ndarray,
    kind: str,
    rule: str,
    *,
    value: np.ndarray | None = None,
    limit: float = np.nan,
    steps: np.ndarray | None = None,
    layer: str = "",
) -> list[Sign]:
    """Signs of a rule about the run as a whole; ``fired`` is bool[checks]."""
    steps = np.arange(len(fired)) if steps is None else steps
    values = np.full(len(fired), np.nan) if value is None else value
    return [
        Sign(int(steps[check]), layer, kind, "", rule, float(values[check]), limit)
        for check in np.flatnonzero(rising(fired))
    ]


def alerts(tool: str, signs: Iterable[Sign]) -> list[dict[str, Any]]:
    """Plain values, in order of time; an incident is a step."""
    found = []
    ordered = sorted(signs, key=lambda sign: (sign.step, sign.rank))
    for incident, (_, some) in enumerate(groupby(ordered, lambda sign: sign.step), start=1):
        together = list(some)
        origin = next((sign.layer for sign in together if sign.layer), "")
        for sign in together:
            found.append(
                {
                    "by": tool,
                    "step": sign.step,
                    "detected": sign.step,
                    "kind": sign.kind,
                    "layer": sign.layer,
                    "tensor": sign.tensor,
                    "severity": "warning",
                    "origin": origin,
                    "incident": incident,
                    "metric": sign.rule,
                    "value": _short(sign.value),
                    "limit": _short(sign.limit),
                }
            )
    return found


def needed(found: Sequence[dict[str, Any]], strikes: int | None) -> list[dict[str, Any]]:
    """The alerts that a score can ask for: of each tool and rule its first incident, and its first
    since the fault.
    """
    kept = []
    for part in (False, True):
        firsts: dict[tuple[str, str], int] = {}
        for alert in found:
            if part == (strikes is not None and alert["detected"] >= strikes):
                rule = (alert["by"], alert["metric"])
                if firsts.setdefault(rule, alert["detected"]) == alert["detected"]:
                    kept.append(alert)
    return kept


def _short(value: float) -> float | None:
    """Four digits; JSON knows no infinity."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
