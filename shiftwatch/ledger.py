"""Ledger: what every unit of the run did so far, over all windows."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries import Summary, Units


class Ledger:
    """Running count, activity and silence of all units, columns laid end to end.

    Only sites whose width is known have units here; a width never changes.
    """

    def __init__(self) -> None:
        self._first: dict[int, int] = {}  # column -> its first unit
        self._width: dict[int, int] = {}
        self._arrays = {n: np.zeros(0, np.int64) for n in ("count", "active", "silent")}

    def add(self, columns: np.ndarray, summary: Summary) -> None:
        """Take in one group's window: sites of one width, with units."""
        units = summary.units
        if units is None or not columns.size:
            return
        width = int(units.starts[1] - units.starts[0])
        index = self._index(columns, width)
        count, active, silent = (self._arrays[n] for n in ("count", "active", "silent"))
        count[index] += units.count
        active[index] += units.active
        silent[index] = np.where(units.active > 0, units.silent, silent[index] + units.count)

    def units(self, columns: np.ndarray) -> Units:
        """Units of the given columns, in their order; a column never seen has none."""
        widths = np.array([self._width.get(int(c), 0) for c in columns], np.int64)
        starts = np.concatenate([[0], np.cumsum(widths)])
        firsts = np.array([self._first.get(int(c), 0) for c in columns], np.int64)
        index = np.repeat(firsts - starts[:-1], widths) + np.arange(starts[-1])
        count, active, silent = (self._arrays[n][index] for n in ("count", "active", "silent"))
        zero = np.zeros(index.size)
        return Units(starts, (columns.size,), count, zero, zero, active, silent)

    def _index(self, columns: np.ndarray, width: int) -> np.ndarray:
        for column in map(int, columns):
            if column not in self._first:
                size = self._arrays["count"].size
                self._first[column], self._width[column] = size, width
                for name, array in self._arrays.items():
                    fresh = np.concatenate([array, np.zeros(width, np.int64)])
                    self._arrays[name] = fresh
        firsts = np.array([self._first[int(c)] for c in columns])
        return np.asarray((firsts[:, None] + np.arange(width)).ravel())

    def state(self) -> dict[str, np.ndarray]:
        """Everything, as arrays."""
        columns = np.array(sorted(self._first), np.int64)
        return {
            "columns": columns,
            "first": np.array([self._first[int(c)] for c in columns], np.int64),
            "width": np.array([self._width[int(c)] for c in columns], np.int64),
            **self._arrays,
        }

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Inverse of :meth:`state`."""
        columns = [int(c) for c in state["columns"]]
        self._first = dict(zip(columns, map(int, state["first"]), strict=True))
        self._width = dict(zip(columns, map(int, state["width"]), strict=True))
        self._arrays = {n: state[n].copy() for n in self._arrays}
