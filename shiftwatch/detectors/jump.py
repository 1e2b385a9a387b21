"""Jump: a level that leaves its recent place at once, and stays away.

Training is never at rest, so a level is compared with where it was a moment ago, and the
difference with how much this level usually moves in that time. That whitens most of the
autocorrelation that ruins ordinary charts, and learns each site's own noise: batch size,
sampling, healthy drift.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

#: Twice what two in 64 differences exceed, in Gaussian standard deviations.
RARE = 4.0
#: Share of the limit that a score must reach however large the change.
LEAST = 0.9
# In the place of a floor of nothing, to divide by.
_TINY = 1e-300


class JumpState(NamedTuple):
    """What is remembered of each series.

    Attributes:
        n: int64[...], values seen.
        levels: float64[lag, ...], the latest values.
        moves: float64[memory, ...], sizes of the latest differences.
        scale: float64[...], robust scale of the differences, refreshed every few values.
        since: int64[...], time of a jump that waits to be confirmed; -1 for none.
        place: float64[...], level before that jump.
        score: float64[...], size of that jump in scales, signed.
    """

    n: np.ndarray
    levels: np.ndarray
    moves: np.ndarray
    scale: np.ndarray
    since: np.ndarray
    place: np.ndarray
    score: np.ndarray


class Jumped(NamedTuple):
    """Outcome of one update.

    Attributes:
        fired: bool[...], a jump is confirmed by this value.
        since: int64[...], time at which it happened (where fired).
        change: float64[...], difference to the level before it (where fired), else the newest one.
        score: float64[...], the difference in scales: at the jump where fired, else of this value.
    """

    fired: np.ndarray
    since: np.ndarray
    change: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class Jump:
    """Fires where a value differs from the median of the last ``lag`` by more than
    ``limit`` robust scales and more than ``floor``, and the next ones still do.

    Args:
        limit: in robust scales of the series' own differences.
        floor: smallest change of practical importance, in the value's units.
        lag: values whose median is the level before.
        memory: differences from which the scale is learnt; until half of them are seen, it
            is ``prior`` at least.
        prior: scale to begin with, in the value's units.
        least: smallest scale believed, in the value's units: the sampling noise.
        patience: values that must confirm a jump, one more where it is under twice the floor;
            0 fires at once.
        burn_in: values before the first jump.
        trade: smallest share of ``floor`` that counts where the score is larger in proportion,
            and fires one value later still; 1 for no such trade.

    The scale is 1.4826 times the median size of the differences: the standard deviation
    if they are Gaussian, hardly moved by a few outliers; or what two in 64 exceed, over
    :data:`RARE`, where that is more: a level that leaves its place now and then, as under
    stochastic depth, is to be known for it. ``inflate`` in ``update`` widens
    it where the change has an explanation (a larger weight update).
    """

    limit: float = 8.0
    floor: float | np.ndarray = 0.5
    lag: int = 8
    memory: int = 64
    prior: float | np.ndarray = 0.25
    least: float | np.ndarray = 0.02
    patience: int = 1
    burn_in: int = 16
    trade: float = 1.0

    def init(self, shape: tuple[int, ...]) -> JumpState:
        """State before the first value."""
        return JumpState(
            n=np.zeros(shape, np.int64),
            levels=np.full((self.lag, *shape), np.nan),
            moves=np.full((self.memory, *shape), np.asarray(self.prior) / 1.4826),
            scale=np.full(shape, self.prior),
            since=np.full(shape, -1, np.int64),
            place=np.full(shape, np.nan),
            score=np.zeros(shape),
        )

    def update(
        self, state: JumpState, value: np.ndarray, time: int, inflate: np.ndarray | float = 1.0
    ) -> tuple[JumpState, Jumped]:
        """Next state, and what this value means.

        Args:
            value: float64[...], NaN where not seen.
            time: of this value; what ``since`` reports.
            inflate: at least 1, by how much the scale is widened now.
        """
        seen = np.isfinite(value)
        first = seen & (state.n == 0)
        levels = np.where(first, value, state.levels)
        place = _median(levels)
        with np.errstate(invalid="ignore"):
            move = value - place
            score = move / (state.scale * inflate)
            waiting = seen & (state.since >= 0)
            change = np.where(waiting, value - state.place, move)
            share = np.abs(change) / np.maximum(self.floor, _TINY)
            held = waiting & (share >= self.trade)
            held &= np.sign(change) == np.sign(state.score)
            fresh = seen & (state.since < 0) & ~first
            fresh &= state.n >= self.burn_in
            fresh &= self._beyond(score, move, self.floor)
            modest = (share < 2.0).astype(np.int64) + (share < 1.0)
        ripe = held & (time - state.since >= self.patience + modest)
        if self.patience == 0:
            ripe = fresh
        since = np.where(
            fresh, time, np.where(held & ~ripe, state.since, np.where(seen, -1, state.since))
        )
        if self.patience == 0:
            since = np.full_like(since, -1)  # nothing waits
        fired_since = np.where(fresh, time, state.since)
        fired_score = np.where(fresh, score, state.score)

        row = state.n % self.lag
        slot = np.arange(self.lag).reshape(-1, *([1] * value.ndim)) == row
        levels = np.where(slot & seen, value, levels)
        levels = np.where(ripe, value, levels)  # a confirmed jump is the new place
        learn = seen & ~first & (state.since < 0) & ~fresh
        slot = np.arange(self.memory).reshape(-1, *([1] * value.ndim)) == state.n % self.memory
        moves = np.where(slot & learn, np.abs(move), state.moves)
        # One that was not confirmed is a move that this level makes now and then.
        passing = waiting & ~held
        moves = np.where(slot & passing, np.abs(state.score) * state.scale, moves)
        state = JumpState(
            n=state.n + seen,
            levels=levels,
            moves=moves,
            scale=state.scale,
            since=since,
            place=np.where(fresh, place, state.place),
            score=np.where(fresh, score, state.score),
        )
        return state, Jumped(ripe, fired_since, change, np.where(ripe, fired_score, score))

    def run(
        self,
        state: JumpState,
        values: np.ndarray,
        times: np.ndarray,
        inflate: np.ndarray | float = 1.0,
        floor: np.ndarray | float | None = None,
    ) -> tuple[JumpState, Jumped]:
        """Many updates at once, as :meth:`update` would do them one after the other.

        Series in which nothing happens, nearly all, take one pass over all values together;
        the few others go step by step.

        Args:
            values: float64[T, ...], NaN where not seen.
            times: int64[T], of the values.
            inflate: float64[T], at least 1.
            floor: in place of the detector's own, [T, ...], where it changes with time.

        Returns:
            The next state; and what the values mean, T of each.
        """
        shape = values.shape[1:]
        wide = np.broadcast_to(self.floor if floor is None else floor, values.shape)
        table, floors = values.reshape(len(values), -1), wide.reshape(len(values), -1)
        factor = np.broadcast_to(inflate, (len(values),))
        flat, out = _reshaped(state, (table.shape[1],)), _nothing(table.shape)
        number = np.isfinite(table).sum(0)
        if number.any():
            with np.errstate(invalid="ignore"):
                calm, flat = self._calm(flat, table, number, factor, floors, out)
            busy = np.flatnonzero(~calm & (number > 0))
            if busy.size:
                part = _chosen(flat, busy)
                part = self._stepwise(part, table, times, factor, floors, out, busy)
                flat = _put(flat, busy, part)
        return _reshaped(flat, shape), Jumped(*(a.reshape(values.shape) for a in out))

    def _calm(
        self,
        state: JumpState,
        values: np.ndarray,
        number: np.ndarray,
        inflate: np.ndarray,
        floor: np.ndarray,
        out: Jumped,
    ) -> tuple[np.ndarray, JumpState]:
        """Series in which no jump begins or waits: bool[series], and the state after their
        updates; theirs is written to ``out``. ``number`` says how many values each shows.
        """
        rows = np.arange(len(values))[:, None]
        order, factor = rows, inflate[:, None]
        if (number < len(values)).any():  # in each series those seen come first
            order = np.argsort(~np.isfinite(values), axis=0, kind="stable")
            values, floor = (np.take_along_axis(a, order, 0) for a in (values, floor))
            factor = inflate[order]
        slots = (state.n + np.arange(self.lag)[:, None]) % self.lag
        line = np.concatenate([np.take_along_axis(state.levels, slots, 0), values])
        windows = sliding_window_view(line[:-1], self.lag, axis=0)
        move = values - _middle(np.moveaxis(np.sort(windows, axis=-1), -1, 0))
        score = move / (state.scale * factor)
        fresh = self._beyond(score, move, floor)
        fresh &= state.n + rows >= self.burn_in
        calm = ~fresh.any(0) & (state.since < 0) & (state.n > 0)
        number = np.where(calm, number, 0)
        levels, moves = state.levels.copy(), state.moves.copy()
        rings = (levels, values), (moves, np.abs(move))
        first = state.n[0]
        if (number == len(values)).all() and (state.n == first).all():  # all in step, as a rule
            out.change[:], out.score[:] = move, score
            for ring, new in rings:
                kept = rows[-len(ring) :, 0]  # of more than it holds, the latest
                ring[(first + kept) % len(ring)] = new[kept]
            return calm, state._replace(n=state.n + number, levels=levels, moves=moves)
        row, series = np.nonzero(rows < number)
        at = np.broadcast_to(order, values.shape)[row, series], series
        out.change[at], out.score[at] = move[row, series], score[row, series]
        for ring, new in rings:
            late = row >= number[series] - len(ring)
            r, c = row[late], series[late]
            ring[(state.n[c] + r) % len(ring), c] = new[r, c]
        return calm, state._replace(n=state.n + number, levels=levels, moves=moves)

    def _beyond(self, score: np.ndarray, move: np.ndarray, floor: np.ndarray | float) -> np.ndarray:
        """Where a move is both unusual and large enough."""
        unusual = np.abs(score) / self.limit
        large = np.abs(move) / np.maximum(floor, _TINY)
        if self.trade == 1:
            return np.asarray((unusual > 1) & (large >= 1))
        return np.asarray((unusual * large > 1) & (unusual > LEAST) & (large >= self.trade))

    def _stepwise(
        self,
        state: JumpState,
        values: np.ndarray,
        times: np.ndarray,
        inflate: np.ndarray,
        floor: np.ndarray,
        out: Jumped,
        series: np.ndarray,
    ) -> JumpState:
        """The state of some series after one update after the other, written to ``out``."""
        for t, time in enumerate(np.asarray(times).tolist()):
            detector = replace(self, floor=floor[t, series])
            state, jumped = detector.update(state, values[t, series], time, inflate[t])
            for whole, part in zip(out, jumped, strict=True):
                whole[t, series] = part
        return state

    def refresh(self, state: JumpState) -> JumpState:
        """State with the scale learnt anew from the differences; call every few values.

        Cost: one median over ``memory`` values per series, much more than an update.
        """
        ordered = np.sort(state.moves, axis=0)
        rare = ordered[-max(len(ordered) // 32, 1) - 1] / RARE
        scale = np.array(np.maximum(np.maximum(1.4826 * _middle(ordered), rare), self.least))
        young = (state.n >= max(self.burn_in, 2)) & (state.n < self.memory)
        if young.any():
            so_far = 1.4826 * _middle_of_first(state.moves[:, young], state.n[young])
            scale[young] = np.maximum(scale[young], so_far)
        return state._replace(scale=scale)


def _median(values: np.ndarray) -> np.ndarray:
    """Median over the first axis of an even number of rows; without np.median's overhead."""
    return _middle(np.sort(values, axis=0))


def _middle(ordered: np.ndarray) -> np.ndarray:
    half = len(ordered) // 2
    return np.asarray((ordered[half - 1] + ordered[half]) / 2)


def _middle_of_first(values: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Median, the lower of two, of the first values of each column, so many: float64[columns]."""
    rows = np.arange(len(values))[:, None]
    ordered = np.sort(np.where(rows < number, values, np.inf), axis=0)
    return np.asarray(np.take_along_axis(ordered, number[None] // 2 - 1, axis=0)[0])


def _nothing(shape: tuple[int, ...]) -> Jumped:
    """Outcome where nothing is seen."""
    nothing = np.full(shape, np.nan)
    return Jumped(np.zeros(shape, bool), np.full(shape, -1, np.int64), nothing, nothing.copy())


def _reshaped(state: JumpState, shape: tuple[int, ...]) -> JumpState:
    """The state with its series in another shape."""
    rings = (state.levels, state.moves)
    levels, moves = (ring.reshape(len(ring), *shape) for ring in rings)
    return JumpState(
        state.n.reshape(shape), levels, moves,
        *(getattr(state, name).reshape(shape) for name in ("scale", "since", "place", "score")),
    )  # fmt: skip


def _chosen(state: JumpState, series: np.ndarray) -> JumpState:
    """Some series of a flat state."""
    return JumpState(*(array[..., series] for array in state))


def _put(state: JumpState, series: np.ndarray, part: JumpState) -> JumpState:
    """A flat state with some series replaced."""
    fresh = JumpState(*(array.copy() for array in state))
    for whole, new in zip(fresh, part, strict=True):
        whole[..., series] = new
    return fresh
