"""Data: what enters the model is not what entered it before.

A mean and a standard deviation of all values are blind to pixels in another order, to batches of a
single class and to samples that come again and again. So the mean of each unit of the input is
compared with its own past, all of them together: the squared distances, beyond what all units moved
alike, add up to a share of the variance that lies within units, which is 1/n for batches of n
from one and the same source. And samples are counted that are different from each other; of ids, which have no
means, that alone is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.contents import UNITS
from shiftwatch.records import INPUT
from shiftwatch.rules.base import Evidence, Firing, Verdict, lapsed
from shiftwatch.sites import Sites

# What a lasting mean learns from one more call.
_SLOW = 0.03
_MOVED, _REPEATED = range(2)


class DataState(NamedTuple):
    """Attributes: n: int64[1], calls seen; mean, within: float64[UNITS], lasting mean and variance
    of each unit; usual: float64[1], lasting distance times positions; distinct: float64[1], lasting
    share of positions that differ; size: float64[1], lasting batch size; row: int64[2], calls in a
    row; since: int64[2], step of the first of them; until: int64[2], -1 where nothing was said.
    """

    n: np.ndarray
    mean: np.ndarray
    within: np.ndarray
    usual: np.ndarray
    distinct: np.ndarray
    size: np.ndarray
    row: np.ndarray
    since: np.ndarray
    until: np.ndarray


@dataclass(frozen=True)
class Data:
    """Another input than before, or the same samples again and again.

    Args:
        distance: of the units' means, as a share of the variance within units, that matters.
        times: … and how many times as large as usual, for as many samples, it must be.
        distinct: share of samples that differ, relative to the usual one, that is too small.
        patience: calls in a row.
        burn_in: calls before the first judgement.
        memory: steps after which a new content is the normal one.
    """

    distance: float = 0.3
    times: float = 7.0
    distinct: float = 0.3
    patience: int = 2
    burn_in: int = 24
    memory: int = 128

    def columns(self, sites: Sites) -> np.ndarray:
        """The model's input in training."""
        return np.array([sites.telling] if sites.telling >= 0 else [], np.int64)

    def init(self, sites: int) -> DataState:
        """Nothing seen."""
        return DataState(
            n=np.zeros(1, np.int64),
            mean=np.zeros(UNITS),
            within=np.zeros(UNITS),
            usual=np.ones(1),
            distinct=np.ones(1),
            size=np.zeros(1),
            row=np.zeros(2, np.int64),
            since=np.zeros(2, np.int64),
            until=np.full(2, -1, np.int64),
        )

    def update(self, state: DataState, evidence: Evidence) -> Verdict:
        """Judge the input's calls of the batch."""
        mine = self.columns(evidence.sites)
        seen = evidence.entered
        if not mine.size or not seen.steps.size:
            return Verdict(state, [], state.until[: mine.size] >= 0)
        n, usual, distinct = int(state.n[0]), float(state.usual[0]), float(state.distinct[0])
        mean, within = state.mean, state.within
        row, since, until = state.row.copy(), state.since.copy(), state.until.copy()
        size, sizes = float(state.size[0]), evidence.batch.batch_size.tolist()
        batch = dict(zip(evidence.frame.steps.tolist(), sizes, strict=True))
        firings: list[Firing] = []
        for i, step in enumerate(seen.steps.tolist()):
            now, spread = np.nan_to_num(seen.mean[i]), np.nan_to_num(seen.variance[i])
            units = np.isfinite(seen.mean[i])
            positions = int(seen.positions[i])
            until = lapsed(until, step)
            if step in evidence.excused:
                n, row[:] = min(n, 1), 0
            moved = (now - mean)[units]  # all alike: that is the response's to tell
            known = n > 0 and moved.size > 0  # ids have no means
            far = (
                moved.size * float(moved.var()) / max(float(within.sum()), 1e-30) if known else 0.0
            )
            due = n >= self.burn_in
            limit = max(self.distance, self.times * usual / positions)
            # Of a short batch some are looked at twice.
            few = self.distinct * distinct * min(1.0, batch.get(step, 0) / size if size else 1.0)
            odd = np.array([due and far >= limit, due and float(seen.distinct[i]) <= few])
            since = np.where(odd & (row == 0), step, since)
            row = np.where(odd, row + 1, 0)
            for which in np.flatnonzero((row == self.patience) & (until < 0)).tolist():
                first = int(since[which])
                column = int(mine[0])
                firings.append(
                    _moved(column, first, far, limit)
                    if which == _MOVED
                    else _repeated(column, first, float(seen.distinct[i]), few)
                )
                until[:] = step + self.memory
            if odd.any() and not (until >= 0).any():
                continue  # not to be learnt from, unless it has come to stay
            rate = max(_SLOW, 1 / (n + 1))
            if due and not odd.any():
                usual += _SLOW * (far * positions - usual)
            elif n:
                usual += (far * positions - usual) / (n + 1)
            size += rate * (batch.get(step, 0) - size)
            distinct += rate * (float(seen.distinct[i]) - distinct)
            mean, within = mean + rate * (now - mean), within + rate * (spread - within)
            n += 1
        return Verdict(
            DataState(
                np.array([n]), mean, within, np.array([usual]), np.array([distinct]),
                np.array([size]), row, since, until,
            ),
            firings,
            np.array([bool((until >= 0).any())]),
        )  # fmt: skip


def _moved(column: int, step: int, far: float, limit: float) -> Firing:
    text = f"the means of its units moved, by {far:.2g} of the variance within units: other "
    text += "content, whatever the distribution of all values says"
    return _firing(column, step, "distribution_shift", "unit_shift", far, limit, text, far / limit)


def _repeated(column: int, step: int, share: float, limit: float) -> Firing:
    text = f"only {share:.0%} of what is in a batch differs from the rest: the same samples again "
    score = limit / max(share, 1e-9)
    return _firing(column, step, "collapse", "distinct", share, limit, text + "and again", score)


def _firing(
    column: int, step: int, kind: str, metric: str, value: float, limit: float, text: str, score: float
) -> Firing:  # fmt: skip
    return Firing(step, column, kind, "warning", metric, value, limit, text, score, origin=INPUT)
