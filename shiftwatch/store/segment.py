"""Windows in bytes: a row as a frame, many rows as a segment that is read by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from shiftwatch.dead import Dead, stacked
from shiftwatch.run import Cells, Rows, Table
from shiftwatch.store.framing import Frame, crc, encode, squeeze, unsqueeze
from shiftwatch.summaries.histogram import BINS
from shiftwatch.summaries.moments import Moments
from shiftwatch.summaries.summary import Summary
from shiftwatch.window import COUNTS, REALS, Row, assembled, means, narrow, rates_of, widened

_ROW_ARRAYS = ("reals", "counts", "bounded", "sizes", "bins", "hits", "metrics", "losses", "rates")
_DEAD = ("dead_sites", "dead_bits")  # there only where a unit is dead

#: Consecutive windows whose histograms are kept added up, too, for who looks from afar.
GRAIN = 8


class Numbered(NamedTuple):
    """A row and its serial numbers: of the first and last window that went into it."""

    serial: int
    last: int
    row: Row


def encode_row(numbered: Numbered) -> bytes:
    """Frame of one window, not compressed."""
    row = numbered.row
    header = {
        "serial": numbered.serial, "last": numbered.last, "first": row.first, "step": row.step,
        "overhead": row.overhead, "keys": row.keys,
    }  # fmt: skip
    names = (*_ROW_ARRAYS, *(_DEAD if row.dead_bits.size else ()))
    return encode(header, {name: getattr(row, name) for name in names})


def decode_row(frame: Frame) -> Numbered:
    """Inverse of :func:`encode_row`; older frames know no learning rates."""
    head, none = frame.header, Dead.none()
    unknown = {"rates": rates_of(), "dead_sites": none.sites, "dead_bits": none.bits}
    arrays = {n: frame[n] for n in (*_ROW_ARRAYS, *_DEAD) if n in frame.arrays}
    row = Row(
        first=head["first"], step=head["step"], overhead=head["overhead"],
        keys=tuple(head["keys"]), **{**unknown, **arrays},
    )  # fmt: skip
    return Numbered(head["serial"], head["last"], row)


def encode_segment(rows: Sequence[Numbered]) -> bytes:
    """Segment of some consecutive windows.

    Numbers lie as [sites, windows], so that those of one site are neighbours, and every
    metric and every site's histogram is compressed apart, so that it can be read alone.
    """
    number = len(rows)
    sites = max(r.row.sites for r in rows)
    plain = [r.row for r in rows]
    keys = tuple(dict.fromkeys(key for row in plain for key in row.keys))
    index = np.array([[r.serial, r.last, r.row.first, r.row.step, r.row.sites] for r in rows])
    reals = np.zeros((len(REALS), sites, number))
    counts = np.zeros((len(COUNTS), sites, number), np.int64)
    bounded = np.zeros((sites, number), bool)
    metrics = np.full((len(keys), sites, number), np.nan)
    for i, row in enumerate(plain):
        reals[:, : row.sites, i] = row.reals
        counts[:, : row.sites, i] = row.counts
        bounded[: row.sites, i] = row.bounded
        for key, values in zip(row.keys, row.metrics, strict=True):
            metrics[keys.index(key), : row.sites, i] = values
    arrays = {
        "index": index.astype(np.int64),
        "overhead": np.array([row.overhead for row in plain], np.float64),
        "losses": np.concatenate([row.losses for row in plain]),
        "loss_sizes": np.array([row.losses.size for row in plain], np.int64),
        "rates": np.concatenate([row.rates for row in plain], axis=1),
        "rate_sizes": np.array([row.rates.shape[1] for row in plain], np.int64),
        "reals": narrow(reals),
        "counts": narrow(counts),
        "bounded": bounded,
    }
    dead = stacked([row.dead for row in plain])
    if dead.bits.size:
        arrays |= {"dead_sites": dead.sites, "dead_bits": dead.bits}
    arrays |= {f"metric {i}": narrow(values) for i, values in enumerate(metrics)}
    cells = Rows(tuple(plain)).cells(1)
    if number > GRAIN:
        groups = np.arange(0, number, GRAIN)
        arrays["sums"] = narrow(np.add.reduceat(cells.counts, groups, axis=1, dtype=np.int64))
    return encode({"keys": keys}, _encode_histograms(cells), arrays)


def _encode_histograms(cells: Cells) -> dict[str, np.ndarray]:
    """Each site a block of its own, [bins, windows], squeezed."""
    ends = pairwise(cells.starts.tolist())
    packed = [squeeze(cells.counts[a:b]) if a < b else b"" for a, b in ends]
    return {
        "low": cells.low.astype(np.uint16),
        "width": np.diff(cells.starts).astype(np.uint16),
        "lengths": np.array([len(p) for p in packed], np.int64),
        "checks": np.array([crc(p) for p in packed], np.uint32),
        "size": np.array([cells.counts.dtype.itemsize], np.int64),
        "histograms": np.frombuffer(b"".join(packed), np.uint8),
    }


@dataclass(frozen=True, eq=False)
class Segment:
    """A segment read back; its arrays are decoded where they are asked for.

    What a checksum finds broken reads as unknown: NaN, or no values.

    Args:
        frame: whole but for the arrays in ``frame.broken``; ``"index"`` is not among them.
    """

    frame: Frame

    @cached_property
    def index(self) -> np.ndarray:
        """Serial, last serial, first step, last step and number of sites: int64[n, 5]."""
        return self.frame["index"]

    @property
    def keys(self) -> tuple[str, ...]:
        """Metrics that some of the windows know."""
        return tuple(self.frame.header["keys"])

    @cached_property
    def sites(self) -> int:
        """Sites of the window that knows the most."""
        return int(self.index[:, 4].max(initial=0))

    @cached_property
    def overhead(self) -> np.ndarray:
        """Share of the step time: float64[n]."""
        if "overhead" in self.frame.broken:
            return np.full(len(self.index), np.nan)
        return self.frame["overhead"]

    @cached_property
    def losses(self) -> list[np.ndarray]:
        """Losses of each window: float64[any]."""
        if self.frame.broken & {"losses", "loss_sizes"}:
            return [np.zeros(0)] * len(self.index)
        return np.split(self.frame["losses"], np.cumsum(self.frame["loss_sizes"])[:-1])

    @cached_property
    def rates(self) -> list[np.ndarray]:
        """Steps and learning rates of each window: float64[2, any]; none in older runs."""
        if not self.frame.arrays.keys() - self.frame.broken >= {"rates", "rate_sizes"}:
            return [rates_of()] * len(self.index)
        return np.split(self.frame["rates"], np.cumsum(self.frame["rate_sizes"])[:-1], axis=1)

    @property
    def dead(self) -> Dead:
        """Dead units of all windows; none in older runs. Cost: decoded whenever it is asked for."""
        if not self.frame.arrays.keys() - self.frame.broken >= {*_DEAD}:
            return Dead.none(len(self.index))
        return Dead(len(self.index), self.frame["dead_sites"], self.frame["dead_bits"])

    @cached_property
    def mean_losses(self) -> np.ndarray:
        """Mean of the losses of each window that are known: float64[n], NaN where none is."""
        number = len(self.index)
        if self.frame.broken & {"losses", "loss_sizes"}:
            return np.full(number, np.nan)
        window = np.repeat(np.arange(number), self.frame["loss_sizes"])
        return means(self.frame["losses"], window, number)

    def named(self, array: str) -> str:
        """An array of the frame in the words of a reader."""
        if array.startswith("metric "):
            return f"metric {self.keys[int(array.split()[1])]!r}"
        words = {"reals": "moments", "low": "histograms", "rates": "learning rates"}
        words |= {"dead_sites": "dead units", "dead_bits": "dead units"}
        words |= {"sums": "sums of histograms"}
        return words.get(array, array)

    def metric(self, key: str) -> np.ndarray:
        """One metric: float64[n, sites]."""
        name = f"metric {self.keys.index(key)}" if key in self.keys else ""
        if not name or name in self.frame.broken:
            return np.full((len(self.index), self.sites), np.nan)
        return self.frame[name].T.astype(np.float64, copy=False)

    def histogram(self, site: int) -> np.ndarray:
        """Histograms of one site: int64[n, BINS]."""
        counts = np.zeros((len(self.index), BINS), np.int64)
        block = self._block(site) if site < self.sites else None
        if block is not None:
            low = int(self._blocks[0][site])
            counts[:, low : low + len(block)] = block.T
        return counts

    def table(self) -> Table:
        """Numbers of all windows; no values where a checksum finds them broken."""
        number, broken = len(self.index), self.frame.broken
        if broken & {"reals", "counts"}:
            empty = Moments.empty((self.sites, number))
            reals = np.array([getattr(empty, name) for name in REALS])
            counts = np.zeros((len(COUNTS), self.sites, number), np.int64)
        else:
            reals, counts = self.frame["reals"], self.frame["counts"]
        unknown = np.zeros((self.sites, number), bool)
        return Table(reals, counts, unknown if "bounded" in broken else self.frame["bounded"])

    @property
    def grain(self) -> int:
        """Windows that :meth:`sums` adds up; 1 where there are no sums, as in older runs."""
        known = self.frame.arrays.keys() - self.frame.broken
        return GRAIN if known >= {"sums", "low", "width"} else 1

    def sums(self) -> Cells:
        """Histograms of all sites, of every :attr:`grain` windows added up."""
        low, width, *_ = self._blocks
        return Cells(low, np.concatenate([[0], np.cumsum(width)]), self.frame["sums"])

    def cells(self) -> Cells:
        """Histograms of all sites; no bins of those that are broken."""
        blocks = [self._block(site) for site in range(self.sites)]
        known = [block for block in blocks if block is not None]
        sizes = [0 if block is None else len(block) for block in blocks]
        none = np.zeros((0, len(self.index)), np.uint8)
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return Cells(self._blocks[0], starts, np.concatenate([none, *known]))

    @cached_property
    def _blocks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]:
        """Lowest bin, number of bins, first byte and checksum of each site; type of the counts."""
        f = self.frame
        if f.broken & {"low", "width", "lengths", "checks", "size"}:
            nothing = np.zeros(self.sites, np.int64)
            return nothing, nothing, np.append(nothing, 0), nothing, "<i8"
        starts = np.concatenate([[0], np.cumsum(f["lengths"])])
        kind = {1: "|u1", 2: "<u2", 4: "<u4", 8: "<i8"}[int(f["size"][0])]
        return f["low"].astype(np.int64), f["width"].astype(np.int64), starts, f["checks"], kind

    def _block(self, site: int) -> np.ndarray | None:
        """Counts [bins, n] of one site; ``None`` where there are none or they are broken."""
        _, width, starts, checks, kind = self._blocks
        raw = self.frame.part("histograms", starts[site], starts[site + 1])
        if not width[site] or crc(raw) != checks[site]:
            return None
        return unsqueeze(raw, kind, (int(width[site]), len(self.index)))

    def summaries(self, windows: np.ndarray) -> Iterator[Summary]:
        """Summaries of some windows. Cost: everything is decoded, but for metrics."""
        if not windows.size:
            return
        reals, counts, bounded = self.table()
        low, starts, cells = self.cells()
        site = np.repeat(np.arange(self.sites), np.diff(starts))
        places = site * BINS + low[site] + np.arange(site.size) - starts[site]
        for i, hits in zip(windows, np.ascontiguousarray(cells[:, windows].T), strict=True):
            known = self.index[i, 4]
            mine = slice(starts[known])
            histogram = np.zeros(known * BINS, np.int64)
            histogram[places[mine]] = hits[mine]
            yield assembled(
                reals[:, :known, i],
                counts[:, :known, i],
                histogram.reshape(known, BINS),
                bounded[:known, i],
            )

    def rows(self) -> list[Numbered]:
        """All windows again. Cost: everything is decoded."""
        number, sites = len(self.index), self.sites
        sizes, bins, hits = self._sparse()
        reals, counts, bounded = self.table()
        metrics = [self.metric(key) for key in self.keys]
        table = np.array(metrics).reshape(len(metrics), number, sites)
        dead = list(self.dead.each())
        rows = []
        for i, (serial, last, first, step, known) in enumerate(self.index.tolist()):
            row = Row(
                first=first, step=step, overhead=float(self.overhead[i]),
                reals=reals[:, :known, i].copy(), counts=counts[:, :known, i].copy(),
                bounded=bounded[:known, i].copy(),
                sizes=sizes[i][:known], bins=bins[i], hits=hits[i],
                keys=self.keys, metrics=table[:, i, :known].copy(),
                losses=self.losses[i], rates=self.rates[i],
                dead_sites=narrow(dead[i].sites), dead_bits=dead[i].bits,
            )  # fmt: skip
            rows.append(Numbered(serial, last, row))
        return rows

    def _sparse(self) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """Of each window: sizes [n, sites], bins and hits, as :class:`Row` keeps them."""
        number, sites = len(self.index), self.sites
        low, starts, cells = self.cells()
        row_site = np.repeat(np.arange(sites), np.diff(starts))
        row_bin = low[row_site] + np.arange(row_site.size) - starts[row_site]
        counts = np.ascontiguousarray(cells.T)  # [n, bins of all sites]
        window, at = np.nonzero(counts)
        ends = np.cumsum(np.bincount(window, minlength=number))[:-1]
        places = window * sites + row_site[at]
        sizes = np.bincount(places, minlength=number * sites).reshape(number, sites)
        bins = np.split(row_bin[at].astype(np.uint16), ends)
        return sizes.astype(np.uint16), bins, np.split(counts[window, at], ends)


class Recent:
    """The rows of the segment that was last asked for: who wants one wants its neighbour next."""

    def __init__(self) -> None:
        self._last: tuple[Segment, list[Numbered]] | None = None

    def rows(self, segment: Segment) -> list[Numbered]:
        """Rows of a segment."""
        if self._last is None or self._last[0] is not segment:
            self._last = segment, segment.rows()
        return self._last[1]


@dataclass(frozen=True)
class Part:
    """Some windows of a segment, as a chunk of a run.

    Args:
        segment: where they are.
        keep: int64[n], which of its windows.
        recent: shared by the parts of a run.
    """

    segment: Segment
    keep: np.ndarray
    recent: Recent

    @cached_property
    def whole(self) -> bool:
        """Whether these are all windows of the segment: then nothing is copied."""
        return self.keep.size == len(self.segment.index)

    @property
    def first(self) -> np.ndarray:
        return self.segment.index[self.keep, 2]

    @property
    def steps(self) -> np.ndarray:
        return self.segment.index[self.keep, 3]

    @property
    def losses(self) -> np.ndarray:
        return self.segment.mean_losses[self.keep]

    @property
    def rates(self) -> np.ndarray:
        return rates_of(self.segment.rates[i] for i in self.keep)

    @property
    def dead(self) -> Dead:
        found = self.segment.dead
        return found if self.whole else found.taken(self.keep)

    @property
    def overhead(self) -> np.ndarray:
        return self.segment.overhead[self.keep]

    @property
    def keys(self) -> tuple[str, ...]:
        return self.segment.keys

    def metric(self, key: str, sites: int) -> np.ndarray:
        values = self.segment.metric(key)
        return widened(values if self.whole else values[self.keep], sites)

    def histogram(self, site: int) -> np.ndarray:
        return self.segment.histogram(site)[self.keep]

    def summary(self, window: int) -> Summary:
        return self.recent.rows(self.segment)[self.keep[window]].row.summary()

    def summaries(self, windows: np.ndarray) -> Iterator[Summary]:
        return self.segment.summaries(self.keep[windows])

    def step_losses(self, window: int) -> np.ndarray:
        return self.segment.losses[self.keep[window]]

    def table(self, sites: int) -> Table:
        found = self.segment.table()
        missing = sites - self.segment.sites
        if missing:
            found = Table(
                *(np.pad(a, [*[(0, 0)] * (a.ndim - 2), (0, missing), (0, 0)]) for a in found)
            )
        return found if self.whole else Table(*(a[..., self.keep] for a in found))

    @property
    def grain(self) -> int:
        return self.segment.grain if self.whole else 1

    def cells(self, grain: int) -> Cells:
        if grain > 1:
            return self.segment.sums()
        found = self.segment.cells()
        return found if self.whole else found._replace(counts=found.counts[:, self.keep])
