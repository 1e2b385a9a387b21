"""Share: what one rank saw in a window, how it travels, and how several become one."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shiftwatch.frame import Frame, Framed
from shiftwatch.records import Layer, Site
from shiftwatch.source import Batch, Census, Sweep
from shiftwatch.summaries import Activity
from shiftwatch.window import Row, Window


@dataclass(frozen=True)
class Share:
    """What one rank saw in one window; of several ranks merged, what all saw.

    Args:
        batch: as it came, without the samples.
        framed: its frame, summary and activity, over the columns of the sender.
        losses, given: float64[T] and bool[T], as for ``Judgement.judge``.
    """

    batch: Batch
    framed: Framed
    losses: np.ndarray
    given: np.ndarray


def merged(shares: Sequence[Share]) -> Share:
    """Shares over the same columns as one, over the steps of the first.

    Counts, histograms and moments are those of all values; readings of each step are pooled; a
    unit counts as silent since it was active on any rank. The loss is the mean over the
    ranks that gave one. Running statistics are those of the first rank.
    """
    first, steps = shares[0].batch, shares[0].batch.steps
    rows = [np.searchsorted(s.batch.steps, steps).clip(0, s.batch.steps.size - 1) for s in shares]
    seen = [s.batch.steps[r] == steps for s, r in zip(shares, rows, strict=True)]

    def told(name: str, nothing: Any) -> np.ndarray:
        columns = [getattr(s.batch, name)[r] for s, r in zip(shares, rows, strict=True)]
        return np.array(
            [
                np.where(k.reshape(-1, *[1] * (c.ndim - 1)), c, nothing)
                for k, c in zip(seen, columns, strict=True)
            ]
        )

    sweeps = _earliest([sweep for s in shares for sweep in s.batch.sweeps])
    given = np.array([s.given[r] & k for s, r, k in zip(shares, rows, seen, strict=True)])
    losses = np.array([s.losses[r] for s, r in zip(shares, rows, strict=True)])
    summary = shares[0].framed.summary
    for share in shares[1:]:
        summary = summary + share.framed.summary
    with np.errstate(all="ignore"):
        return Share(
            batch=replace(
                first,
                stepped=np.asarray(told("stepped", False).any(0)),
                tampered=np.fmax.reduce(told("tampered", np.nan)),
                batch_size=told("batch_size", 0).sum(0),
                sweeps=sweeps,
                # What was found is not to wait for what the rest of the ranks will see of it.
                coming=any(s.batch.coming for s in shares) and not any(w.finding for w in sweeps),
                censuses=_censuses([c for s in shares for c in s.batch.censuses]),
            ),
            framed=Framed(
                _frame(steps, [s.framed.course for s in shares], rows, seen),
                summary,
                _activity([s.framed.activity for s in shares]),
                shares[0].framed.entered,
            ),
            losses=np.where(
                given.any(0), np.where(given, losses, 0.0).sum(0) / given.sum(0), np.nan
            ),
            given=np.asarray(given.any(0)),
        )


def _frame(
    steps: np.ndarray,
    courses: Sequence[Frame],
    rows: Sequence[np.ndarray],
    seen: Sequence[np.ndarray],
) -> Frame:
    """The calls of all ranks pooled, step by step."""

    def table(name: str) -> np.ndarray:
        return np.array([getattr(c, name)[r] for c, r in zip(courses, rows, strict=True)])

    known = np.array(seen)[..., None]
    n = np.where(known, table("count"), 0.0)
    count = n.sum(0)
    mean, std = (np.where(n > 0, table(name), 0.0) for name in ("mean", "std"))
    middle = (n * mean).sum(0) / count
    variance = (n * (std**2 + (mean - middle) ** 2)).sum(0) / count
    spread = table("spread")
    share = np.where(np.isnan(spread), 0.0, n)
    return Frame(
        steps=steps,
        count=count,
        mean=middle,
        std=np.sqrt(variance),
        spread=np.where(share > 0, share * spread, 0.0).sum(0) / share.sum(0),
        nonfinite=np.where(known, table("nonfinite"), 0.0).sum(0),
    )


def _activity(parts: Sequence[Activity]) -> Activity:
    """What the units did on all ranks; a site of another width than on the first that has it is left out."""
    width: dict[int, int] = {}
    for part in parts:
        for column, wide in zip(part.sites.tolist(), part.widths.tolist(), strict=True):
            width.setdefault(column, wide)
    columns = np.array(sorted(width), np.int64)
    widths = np.array([width[c] for c in columns.tolist()], np.int64)
    start = dict(zip(columns.tolist(), (np.cumsum(widths) - widths).tolist(), strict=True))
    n, active = np.zeros((2, int(widths.sum())), np.int64)
    share = np.ones(n.size)  # of the values since any rank saw the unit active
    for part in parts:
        places = np.cumsum(part.widths) - part.widths
        for column, wide, at in zip(
            part.sites.tolist(), part.widths.tolist(), places.tolist(), strict=True
        ):
            if width[column] != wide:
                continue
            here, there = slice(start[column], start[column] + wide), slice(at, at + wide)
            n[here] += part.n[there]
            active[here] += part.active[there]
            quiet = part.silent[there] / np.maximum(part.n[there], 1)
            share[here] = np.where(part.n[there] > 0, np.minimum(share[here], quiet), share[here])
    silent = np.where(active > 0, np.round(share * n), n).astype(np.int64)
    return Activity(columns, widths, n, active, silent)


def _earliest(sweeps: Sequence[Sweep]) -> tuple[Sweep, ...]:
    """The look that came nearest to the cause: an optimizer step carries it to all ranks."""
    found = [s for s in sweeps if s.finding is not None]
    return tuple(sorted(found or sweeps, key=_nearness)[:1])


def _nearness(sweep: Sweep) -> tuple[int, int, int]:
    tensor = sweep.finding.site.tensor if sweep.finding is not None else ""
    return sweep.sign, sweep.step, _FORWARD.get(tensor, len(_FORWARD))


# Gradients and weights are those of all ranks.
_FORWARD = {"input": 0, "output": 0, "loss": 1, "gradient": 2}


def _censuses(parts: Sequence[Census]) -> tuple[Census, ...]:
    """Counts of all values of a site added up."""
    found: dict[int, Census] = {}
    for b in parts:
        a = found.get(b.column)
        found[b.column] = b if a is None else _counted(a, b)
    return tuple(found.values())


def _counted(a: Census, b: Census) -> Census:
    if not a.count or not b.count:
        most = a if a.count else b
        mean, std = most.mean, most.std
    else:
        share = b.count / (a.count + b.count)
        mean = a.mean + share * (b.mean - a.mean)
        between = share * (1 - share) * (b.mean - a.mean) ** 2
        std = float(np.sqrt((1 - share) * a.std**2 + share * b.std**2 + between))
    return Census(
        column=a.column,
        steps=max(a.steps, b.steps),
        count=a.count + b.count,
        nonfinite=a.nonfinite + b.nonfinite,
        zero=a.zero + b.zero,
        mean=mean,
        std=std,
        low=float(np.fmin(a.low, b.low)),
        high=float(np.fmax(a.high, b.high)),
        flat=a.flat + b.flat,
        active=a.active + b.active if a.active.shape == b.active.shape else a.active,
    )


def placed(share: Share, columns: np.ndarray, number: int) -> Share:
    """The share with its columns moved: column ``i`` becomes ``columns[i]``, of ``number``.

    Columns of -1 are dropped.
    """
    course, summary, activity, entered = share.framed
    source = np.flatnonzero(columns >= 0)
    target = columns[source]

    def wide(values: np.ndarray, fill: float) -> np.ndarray:
        table = np.full((len(values), number), fill)
        kept = source < values.shape[1]
        table[:, target[kept]] = values[:, source[kept]]
        return table

    # The sites, and an empty one for the columns that nobody fills.
    origin = np.full(number, summary.shape[0])
    kept = source < summary.shape[0]
    origin[target[kept]] = source[kept]
    there = columns[activity.sites] >= 0
    units = np.repeat(there, activity.widths)
    return Share(
        batch=replace(
            share.batch,
            tampered=wide(share.batch.tampered, np.nan),
            censuses=tuple(
                replace(c, column=int(columns[c.column]))
                for c in share.batch.censuses
                if columns[c.column] >= 0
            ),
            attended=tuple(
                a._replace(column=int(columns[a.column]))
                for a in share.batch.attended
                if columns[a.column] >= 0
            ),
            running=tuple(
                replace(r, column=int(columns[r.column]))
                for r in share.batch.running
                if columns[r.column] >= 0
            ),
        ),
        framed=Framed(
            Frame(
                course.steps,
                wide(course.count, 0.0),
                wide(course.mean, np.nan),
                wide(course.std, np.nan),
                wide(course.spread, np.nan),
                wide(course.nonfinite, 0.0),
            ),
            summary.padded(summary.shape[0] + 1)[origin],
            Activity(
                columns[activity.sites[there]],
                activity.widths[there],
                activity.n[units],
                activity.active[units],
                activity.silent[units],
            ),
            entered,
        ),
        losses=share.losses,
        given=share.given,
    )


def packed(share: Share, sites: Sequence[tuple[Site, Layer]]) -> bytes:
    """A share as a message.

    Args:
        sites: those of the sender that were not in its messages before.
    """
    framed = share.framed
    span = int(share.batch.steps[0]), int(share.batch.steps[-1])
    row = Row.of(Window(*span, framed.summary, {}, np.zeros(0), 0.0))
    measured = framed.course, row, framed.activity, framed.entered
    parts = share.batch, *measured, share.losses, share.given
    return zlib.compress(pickle.dumps((parts, tuple(sites)), 5), 1)


def unpacked(data: bytes) -> tuple[Share, tuple[tuple[Site, Layer], ...]]:
    """Inverse of :func:`packed`, for messages of one's own training only: it is a pickle."""
    (batch, course, row, activity, entered, losses, given), sites = pickle.loads(
        zlib.decompress(data)
    )
    framed = Framed(course, row.summary(), activity, entered)
    return Share(batch, framed, losses, given), sites


def without(share: Share, some: np.ndarray) -> Share:
    """The share without the values of some sites; what was changed by another hand stays."""
    number = share.framed.summary.shape[0]
    slim = placed(share, np.where(some[:number], -1, np.arange(number)), number)
    return replace(slim, batch=replace(slim.batch, tampered=share.batch.tampered))


def said_by(rank: int, share: Share) -> Share:
    """The share with the rank in what it tells in words."""
    sweeps = tuple(
        s if s.finding is None
        else replace(s, finding=replace(s.finding, text=f"{s.finding.text}; on rank {rank}"))
        for s in share.batch.sweeps
    )  # fmt: skip
    return replace(share, batch=replace(share.batch, sweeps=sweeps))
