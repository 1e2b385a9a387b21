"""Ledger: what every unit of the run did so far, over all windows."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries import Activity, Units


class Ledger:
    """Running count, activity and silence of all units, columns laid end to end.

    Only sites whose width is known have units here; where a width changes (a resumed run
    with another model) the site's units begin anew.
    """

    def __init__(self) -> None:
        self._first: dict[int, int] = {}  # column -> its first unit
        self._width: dict[int, int] = {}
        self._arrays = {n: np.zeros(0, np.int64) for n in ("count", "active", "silent")}
        # Where the units of some columns lie: the same columns are asked for at every window.
        self._places: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, activity: Activity) -> None:
        """Take in a window."""
        if not activity.sites.size:
            return
        self._enter(activity.sites, activity.widths)
        index, _ = self._place(activity.sites)
        count, active, silent = (self._arrays[n] for n in ("count", "active", "silent"))
        count[index] += activity.n
        active[index] += activity.active
        silent[index] = np.where(activity.active > 0, activity.silent, silent[index] + activity.n)

    def units(self, columns: np.ndarray) -> Units:
        """Units of the given columns, in their order; a column never seen has none."""
        index, starts = self._place(columns)
        count, active, silent = (self._arrays[n][index] for n in ("count", "active", "silent"))
        zero = np.zeros(index.size)
        return Units(starts, (columns.size,), count, zero, zero, active, silent)

    def _enter(self, columns: np.ndarray, widths: np.ndarray) -> None:
        """Room for the columns that are new."""
        size = self._arrays["count"].size
        for column, width in zip(columns.tolist(), widths.tolist(), strict=True):
            if self._width.get(column) != width:
                self._first[column], self._width[column] = size, width
                size += width
        fresh = np.zeros(size - self._arrays["count"].size, np.int64)
        if fresh.size:
            self._arrays = {n: np.concatenate([a, fresh]) for n, a in self._arrays.items()}
            self._places.clear()

    def _place(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Units of the columns, and the first unit of each in them."""
        key = columns.tobytes()
        if key not in self._places:
            wide = [self._width.get(c, 0) for c in columns.tolist()]
            first = [self._first.get(c, 0) for c in columns.tolist()]
            starts = np.concatenate([[0], np.cumsum(wide, dtype=np.int64)])
            shift = np.array(first, np.int64) - starts[:-1]
            self._places[key] = np.repeat(shift, wide) + np.arange(starts[-1]), starts
        return self._places[key]

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
        self._places.clear()
