"""Arrays as a source: what ``Monitor.observe`` was given, framework or none."""

from __future__ import annotations

import numpy as np

from shiftwatch.activations import Flat, flat_of
from shiftwatch.sampling import chosen, fractions, geometry, sample
from shiftwatch.source import Batch, Group

#: Arrays of up to this many values are taken whole.
WHOLE = 4096
#: Steps between two takes.
RING = 8


class ArraySource:
    """Keeps a sample of every array until the monitor takes it.

    Parameters (``tensor="weight"``) are sampled at fixed places, so that their change from
    one step to the next is their update.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._shape: dict[int, tuple[int, int]] = {}  # column -> (positions, units)
        self._width: dict[int, int] = {}  # column -> units of the array itself
        self._flat: dict[int, Flat | None] = {}
        self._tiny: dict[int, float] = {}
        self._rows: dict[int, list[tuple[int, np.ndarray]]] = {}
        self._weights: dict[int, np.ndarray] = {}  # column -> the newest sample of a parameter
        self._steps: list[int] = []
        self._sizes: list[int] = []
        self._now: list[tuple[int, np.ndarray]] = []
        self._calls = 0
        self.batch_size = 0

    def check(self, column: int, key: str, values: np.ndarray, units_axis: int | None) -> None:
        """Hold a site to its width; a parameter (``units_axis=None``) to its size.

        Raises:
            ValueError: where an array has more or fewer units than those before it.
        """
        width = values.size if units_axis is None else values.shape[units_axis]
        known = self._width.setdefault(column, width)
        if width != known:
            what = "values" if units_axis is None else f"units along axis {units_axis}"
            raise ValueError(
                f"{key}: a site keeps its width; it had {known} {what} so far and has {width} now, "
                f"in shape {values.shape}. Name the axis of the units with units_axis=, or watch "
                "what is another tensor under another name or part."
            )

    def add(self, column: int, values: np.ndarray, units_axis: int, activation: str) -> None:
        """Sample an array for the current step."""
        if column not in self._shape:
            rows, units = geometry(values.shape, units_axis)
            if values.size <= WHOLE and units == values.shape[units_axis]:
                rows = values.size // units
            self._shape[column] = (rows, units)
            self._flat[column] = flat_of(activation) if activation else None
            tiny = np.finfo(values.dtype).tiny if values.dtype.kind == "f" else 0.0
            self._tiny[column] = float(tiny)
        rows, units = self._shape[column]
        if values.size == rows * units:
            taken = np.moveaxis(values, units_axis, -1).reshape(rows, units)
        else:
            taken = sample(values, units_axis, fractions(rows, units, self._rng))
        # A copy: the caller may write into the array before it is judged.
        self._now.append((column, np.array(taken, np.float64)))

    def fixed(self, column: int, values: np.ndarray) -> np.ndarray | None:
        """Sample a parameter at the same places every time, and record it.

        Returns:
            Its change since the last time, float64[1, places]; ``None`` the first time.
        """
        flat = values.reshape(-1)
        taken = flat[chosen(flat.size, min(flat.size, 512))][None].astype(np.float64)
        self._shape.setdefault(column, (1, taken.shape[1]))
        self._flat.setdefault(column, None)
        self._tiny.setdefault(column, 0.0)
        self._now.append((column, taken))
        before = self._weights.get(column)
        self._weights[column] = taken
        return None if before is None or before.shape != taken.shape else taken - before

    def record(self, column: int, taken: np.ndarray) -> None:
        """Record values sampled elsewhere: [1, places]."""
        self._shape.setdefault(column, (1, taken.shape[1]))
        self._flat.setdefault(column, None)
        self._tiny.setdefault(column, 0.0)
        self._now.append((column, taken))

    @property
    def full(self) -> bool:
        """Whether the samples should be taken before the ring is over."""
        return self._calls > 100_000

    def end_step(self, step: int) -> None:
        """Close the step."""
        for column, taken in self._now:
            self._rows.setdefault(column, []).append((step, taken))
        self._calls += len(self._now)
        self._now = []
        self._steps.append(step)
        self._sizes.append(self.batch_size)

    def energy(self) -> np.ndarray:
        """Mean square of each site's newest sample; -Inf where a value is NaN."""
        energy = np.full(max(self._shape, default=-1) + 1, np.nan)
        with np.errstate(all="ignore"):
            for column, rows in self._rows.items():
                step, taken = rows[-1]
                if step == self._steps[-1]:
                    values = taken.ravel()
                    square = values @ values / values.size
                    energy[column] = -np.inf if np.isnan(square) else square
        return energy

    @property
    def ring(self) -> int:
        """Steps between two takes."""
        return RING

    def keep(self) -> None:
        """Every sample is kept."""

    def take(self) -> Batch:
        """Everything since the last take, grouped by geometry."""
        steps = np.array(self._steps, np.int64)
        groups: dict[tuple[int, int, Flat | None], list[int]] = {}
        for column in self._rows:
            groups.setdefault((*self._shape[column], self._flat[column]), []).append(column)
        made = []
        for (rows, units, flat), columns in groups.items():
            depth = max(len(self._rows[c]) for c in columns)
            values = np.zeros((depth, len(columns), rows, units))
            when = np.full((depth, len(columns)), -1, np.int64)
            for i, column in enumerate(columns):
                for row, (step, taken) in enumerate(self._rows[column]):
                    values[row, i], when[row, i] = taken, step
            tiny = np.array([self._tiny[c] for c in columns])
            made.append(Group(np.array(columns), values, when, flat, tiny))
        nothing = np.full(steps.size, np.nan)
        sizes = np.array(self._sizes, np.int64)
        self._rows, self._steps, self._sizes, self._calls = {}, [], [], 0
        return Batch(
            groups=tuple(made),
            steps=steps,
            learning_rate=nothing,
            stepped=np.ones(steps.size, bool),
            tampered=np.full((steps.size, 0), np.nan),
            batch_size=sizes,
        )

    def arm(self, on: bool, rest: int) -> None:
        """Nothing to switch: the monitor asks before it samples."""

    def seconds(self) -> float:
        """Nothing is spent outside the monitor."""
        return 0.0

    def close(self) -> None:
        """Nothing to undo."""
