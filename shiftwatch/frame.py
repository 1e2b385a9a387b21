"""Frame: what every site looked like at every step of a batch, for detectors to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shiftwatch.activations import flat_of
from shiftwatch.source import Batch, Group
from shiftwatch.summaries import Block, Rows, Summary, measure


@dataclass(frozen=True)
class Frame:
    """Course over the steps of a batch; several calls in one step are pooled.

    Args:
        steps: int64[T].
        count: float64[T, sites], finite values; 0 where a site was not seen.
        mean, std, flat, spread: float64[T, sites], as in ``Rows``; NaN where not seen.
        nonfinite: float64[T, sites], number of NaN and Inf.
    """

    steps: np.ndarray
    count: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    flat: np.ndarray
    spread: np.ndarray
    nonfinite: np.ndarray

    @property
    def rms(self) -> np.ndarray:
        """Root mean square: float64[T, sites]."""
        return np.hypot(self.mean, self.std)


def frame(
    batch: Batch, sites: int, guessed: Mapping[int, str] | None = None
) -> tuple[Frame, list[tuple[np.ndarray, Summary]]]:
    """Measure a batch.

    Args:
        sites: how many columns there are.
        guessed: column to activation, where it was read off the values.

    Returns:
        Its Frame over all ``sites``, and per group the columns with their Summary.

    Cost: one ``measure`` per group; groups are as many as there are different widths.
    """
    cells: list[np.ndarray] = []
    parts: list[Rows] = []
    summaries = []
    for group in _split(batch.groups, guessed or {}):
        block = Block(group.values, group.steps >= 0, group.flat, group.tiny)
        summary, rows = measure(block)
        summaries.append((group.sites, summary))
        time = np.searchsorted(batch.steps, group.steps)
        cell = np.where(group.steps >= 0, time * sites + group.sites, -1)
        cells.append(cell.ravel())
        parts.append(rows)
    shape = (batch.steps.size, sites)
    cell = np.concatenate(cells) if cells else np.zeros(0, np.int64)
    kept = cell >= 0
    cell = cell[kept]

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(p, name).ravel() for p in parts])[kept]

    def pooled(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        total = np.bincount(cell, np.where(weights > 0, values * weights, 0.0), shape[0] * sites)
        return total.reshape(shape)

    if not parts:
        nothing = np.full(shape, np.nan)
        zero = np.zeros(shape)
        return Frame(batch.steps, zero, nothing, nothing, nothing, nothing, zero), summaries
    n = column("count")
    one = np.ones_like(n)
    count = pooled(n, one)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(count > 0, pooled(column("mean"), n) / count, np.nan)
        square = pooled(column("std") ** 2 + column("mean") ** 2, n) / count
        std = np.where(count > 0, np.sqrt(np.maximum(square - mean**2, 0)), np.nan)
        flat = np.where(count > 0, pooled(column("flat"), n) / count, np.nan)
        spread = np.where(count > 0, pooled(column("spread"), n) / count, np.nan)
    nonfinite = pooled(column("nonfinite"), one)
    return Frame(batch.steps, count, mean, std, flat, spread, nonfinite), summaries


def _split(groups: Sequence[Group], guessed: Mapping[int, str]) -> Iterator[Group]:
    """The groups, with sites of guessed activations in groups of their own."""
    for group in groups:
        names = [guessed.get(c, "") for c in group.sites.tolist()] if guessed else []
        if not any(names):
            yield group
            continue
        for name in sorted(set(names)):
            part = np.array([n == name for n in names])
            yield Group(
                group.sites[part],
                group.values[:, part],
                group.steps[:, part],
                flat_of(name) if name else group.flat,
                None if group.tiny is None else group.tiny[part],
            )
