"""Loss: it rose far above its recent values and does not come back.

Activations show little of what is wrong with targets or with the loss itself. But a loss rises for good
reasons too: a hard batch, a new class, another task, other inputs. Then it recovers, or the
input explains it. So a rise is reported only where it has lasted, is no longer falling, and nothing
that the run did explains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.rules.base import Evidence, Firing, Verdict
from shiftwatch.sites import Sites

# What is kept of each step: logarithm of the loss, learning rate, mean and standard deviation of the
# input, whether shifts are no news there.
_LOSS, _RATE, _MEAN, _STD, _HELD = range(5)
# Smallest standard deviation of losses believed, in nats.
_LEAST = 0.1


class LossState(NamedTuple):
    """Attributes: course: float64[early + late, 5], the latest steps; before: float64[2], mean and
    standard deviation of the logarithm of the loss before a rise under way, else NaN; began:
    int64[1], its first step; raised: bool[1], whether it was reported; opening: float64[1], mean
    logarithm of the run's first losses.
    """

    course: np.ndarray
    before: np.ndarray
    began: np.ndarray
    raised: np.ndarray
    opening: np.ndarray


@dataclass(frozen=True)
class Loss:
    """A loss that rises and stays up.

    The mean logarithm of the late losses is compared with that of the early ones, in standard
    errors of their difference.

    Args:
        limit: in standard errors.
        factor: by which the geometric mean must have risen …
        worse: … or the last third of the late losses is so many times the first losses of the run …
        learnt: … of which before at most this share was left: all of it is gone, and more.
        late, early: losses that are compared.
        share: smallest loss that counts, over the first ones of the run.
        back: the last third of the late losses is on its way back under this share of the first.
        gone: or so much of what had been learnt, of the way from the first losses down to those before, is
            gone in the first third of the late losses and in the last …
        flat: … of which each is at least this share of the other, and less than the first losses: where
            little can be lost, as of a text's symbols, a loss that is back where it began is no
            threefold one.
        patience: steps since the beginning after which a rise has lasted; above the first losses of
            the run ``late`` do.
        faster: rise of the learning rate that explains that of the loss.
    """

    limit: float = 8.0
    factor: float = 3.0
    worse: float = 1.3
    learnt: float = 0.75
    share: float = 0.25
    late: int = 36
    early: int = 64
    back: float = 0.9
    gone: float = 0.6
    flat: float = 0.95
    patience: int = 48
    faster: float = 1.5

    def columns(self, sites: Sites) -> np.ndarray:
        """Gradients in training, for the loss has no site of its own; outputs where there are none."""
        gradients = sites.columns("gradient", train=True)
        return gradients if gradients.size else sites.columns("output", train=True)

    def init(self, sites: int) -> LossState:
        """Nothing seen."""
        return LossState(
            np.full((self.early + self.late, 5), np.nan),
            np.full(2, np.nan),
            np.full(1, -1, np.int64),
            np.zeros(1, bool),
            np.full(1, np.nan),
        )

    def update(self, state: LossState, evidence: Evidence) -> Verdict:
        """Judge the losses of the batch."""
        mine = self.columns(evidence.sites)
        active = np.zeros(mine.size, bool)
        steps = evidence.frame.steps
        line = np.concatenate([state.course, _course(evidence)])
        state = state._replace(course=line[len(line) - len(state.course) :])
        fresh = line[len(line) - len(steps) :, _LOSS]
        if np.isnan(state.opening[0]) and np.isfinite(fresh).any():
            state = state._replace(opening=np.array([fresh[np.isfinite(fresh)].mean()]))
        if not mine.size or not steps.size:
            return Verdict(state, [], active)
        head = int(evidence.sites.order[mine].argmax())
        firings: list[Firing] = []
        score, size = self._scores(line[:, _LOSS])
        under_way = np.isfinite(state.before[0])
        for t in range(len(steps)) if under_way else np.flatnonzero(score >= self.limit).tolist():
            part = line[t + 1 : t + 1 + self.early + self.late]
            if not np.isfinite(state.before[0]):
                early, late = np.split(part[:, _LOSS], [self.early])
                gone = self._gone(state, early.mean(), late)
                large = size[t] >= np.log(self.factor) or self._lost(state, early.mean(), late)
                if not (large or gone) or self._explained(part):
                    continue
                rise = int((late - early.mean() >= size[t]).argmax())  # place of its first step
                state = state._replace(
                    before=np.array([early.mean(), max(early.std(), _LEAST)]),
                    began=np.array([max(0, int(steps[t]) - self.late + 1 + rise)]),
                )
                if gone and not large:
                    least = self._left(state, early.mean(), self.gone)
                    firings.append(_firing(state, int(mine[head]), _ends(late)[1], least))
                    state = state._replace(raised=np.ones(1, bool))
            state, found = self._follow(state, part, int(steps[t]), int(mine[head]))
            firings += found
        active[head] = bool(state.raised[0])
        return Verdict(state, firings, active)

    def _scores(self, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rise at each step of the batch, in standard errors and in nats: float64[T] each."""
        views = np.lib.stride_tricks.sliding_window_view(losses, self.early + self.late)[1:]
        early, late = views[:, : self.early], views[:, self.early :]
        size = late.mean(1) - early.mean(1)
        error = np.maximum(early.std(1), _LEAST) * np.sqrt(1 / self.early + 1 / self.late)
        return np.nan_to_num(size / error, nan=-np.inf), np.nan_to_num(size, nan=-np.inf)

    def _follow(
        self, state: LossState, part: np.ndarray, step: int, column: int
    ) -> tuple[LossState, list[Firing]]:
        """A rise under way: over, recovering, or here to stay."""
        mean, std = state.before.tolist()
        late = part[self.early :, _LOSS]
        then, now = _ends(late)
        over = now - mean < max(np.log(self.factor) / 2, 2 * std / np.sqrt(self.late // 3))
        if state.raised[0]:
            over &= np.exp(now) < self._left(state, mean, self.gone / 2)
        if over or not np.isfinite(now):
            nothing = np.full(2, np.nan)
            return state._replace(before=nothing, raised=np.zeros(1, bool)), []
        stays = now - then >= np.log(self.back) and now - mean >= np.log(self.factor)
        stays &= step - state.began[0] >= self.patience
        stays |= self._lost(state, mean, late)
        stays &= not now < np.log(self.share) + state.opening[0]
        if state.raised[0] or not stays:
            return state, []
        limit = min(float(np.exp(mean)) * self.factor, self.worse * float(np.exp(state.opening[0])))
        firing = _firing(state, column, now, limit)
        return state._replace(raised=np.ones(1, bool)), [firing]

    def _lost(self, state: LossState, before: float, late: np.ndarray) -> bool:
        """Whether less is known than at the beginning, where something had been learnt, and all of
        the late losses are of that kind.
        """
        opening, (then, now) = float(state.opening[0]), _ends(late)
        had = before <= opening + np.log(self.learnt)
        risen = then - before >= np.log(self.factor) / 2
        return bool(had and risen and now >= opening + np.log(self.worse))

    def _left(self, state: LossState, before: float, share: float) -> float:
        """The loss at which so much of what had been learnt is gone; infinite where too little had."""
        opening, usual = float(np.exp(state.opening[0])), float(np.exp(before))
        had = usual <= self.learnt * opening
        return usual + share * (opening - usual) if had else float("inf")

    def _gone(self, state: LossState, before: float, late: np.ndarray) -> bool:
        """Whether most of what had been learnt is gone at once, and does not come back."""
        then, now = np.exp(_ends(late)).tolist()
        stays = self.flat * then <= now <= min(then / self.flat, float(np.exp(state.opening[0])))
        return stays and min(then, now) >= self._left(state, before, self.gone)

    def _explained(self, part: np.ndarray) -> bool:
        """Whether the run did something that may well raise the loss."""
        early, late = part[: self.early // 2], part[self.early :]  # the rest may be of either
        if (part[-2 * self.late :, _HELD] > 0).any():
            return True
        rates = early[:, _RATE]
        rates = rates[np.isfinite(rates)]
        if rates.size and np.fmax.reduce(late[:, _RATE]) >= self.faster * np.median(rates):
            return True
        for which in (_MEAN, _STD):
            known = early[:, which][np.isfinite(early[:, which])]
            now = late[:, which][np.isfinite(late[:, which])]
            if known.size and now.size:
                middle = np.median(now)
                if middle > known.max() or middle < known.min():
                    return True
        return False


def _ends(late: np.ndarray) -> tuple[float, float]:
    """Means of the first and of the last third."""
    third = late.size // 3
    return float(late[:third].mean()), float(late[-third:].mean())


def _firing(state: LossState, column: int, now: float, limit: float) -> Firing:
    """Said of the head; ``now``: logarithm of the loss."""
    usual, high = float(np.exp(state.before[0])), float(np.exp(now))
    return Firing(
        step=int(state.began[0]),
        column=column,
        kind="exploding",
        severity="warning",
        metric="loss",
        value=high,
        limit=limit,
        text=f"the loss rose from {usual:.3g} to {high:.3g} and does not come back, and neither "
        "the learning rate nor the input explains it",
        score=1.0,
    )


def _course(evidence: Evidence) -> np.ndarray:
    """What the rule keeps of each step of the batch: float64[T, 5]."""
    sites, frame = evidence.sites, evidence.frame
    column = sites.entering
    nothing = np.full(frame.steps.size, np.nan)
    with np.errstate(all="ignore"):
        losses = np.log(evidence.losses)
    return np.stack(
        [
            np.where(np.isfinite(losses), losses, np.nan),
            evidence.batch.learning_rate,
            nothing if column < 0 else frame.mean[:, column],
            nothing if column < 0 else frame.std[:, column],
            evidence.held.astype(np.float64),
        ],
        axis=1,
    )
