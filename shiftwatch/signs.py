"""Signs: is something wrong at first sight? A look at the newest step that costs next to nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

# A loss of so many times the largest of so many before it is a sign, once in so many steps.
_SURPRISE, _RECENT, _PAUSE = 2.0, 64, 16
# A mean square that changes by this factor in one step is a sign …
_HARD = 16.0
# … and, where windows are long, once in so many looks also this factor, if it is as often as many
# times the usual change of one step.
_PATIENCE, _SOFT, _UNUSUAL = 8, 2.0, 8.0
# How much of what is usual is remembered from one look to the next.
_KEEP = 0.8


class Signs:
    """Mean squares of all sites, step by step.

    Example:
        >>> signs, forward = Signs(), np.ones(2, bool)
        >>> signs.look(np.array([1.0, 2.0]), forward, soft=False)
        (False, False)
        >>> signs.look(np.array([1.1, 40.0]), forward, soft=False)
        (True, False)
        >>> signs.look(np.array([1.1, np.inf]), forward, soft=False)
        (True, True)
    """

    def __init__(self) -> None:
        self._energy = self._usual = np.zeros(0)  # mean squares; their usual change, in octaves
        self._seen = 0  # sites
        self._patience = 0  # looks before a soft sign counts again
        self._losses: deque[float] = deque(maxlen=_RECENT)
        self._pause = 0  # steps before a surprising loss counts again

    def surprises(self, loss: float) -> bool:
        """Whether a loss is far above all recent ones. NaN is none.

        Cost: 1 µs.
        """
        losses = self._losses
        ready = len(losses) == _RECENT and self._pause <= 0
        found = ready and loss > _SURPRISE * max(losses) > 0
        self._pause = _PAUSE if found else self._pause - 1
        if abs(loss) < np.inf:
            losses.append(loss)
        return found

    def look(self, energy: np.ndarray, forward: np.ndarray, soft: bool) -> tuple[bool, bool]:
        """Whether a mean square jumped or is no longer finite; and whether the latter.

        Args:
            energy: float64[sites], NaN where not seen, Inf or -Inf where it is not finite; the
                very array of the last look where there is nothing new.
            forward: bool[at least sites], those whose jumps count.
            soft: whether windows are so long that small jumps cannot wait for their end.

        Cost: 15 µs for a hundred calm sites.
        """
        if energy is self._energy:
            return False, False
        self._patience -= 1
        if energy.size != self._energy.size:
            more = (0, energy.size - self._energy.size)
            self._energy = np.pad(self._energy, more, constant_values=np.nan)
            self._usual = np.pad(self._usual, more, constant_values=np.nan)
        before = self._energy
        ratio = energy / before
        calm = np.abs(ratio - 1.25) <= 0.75  # between a half and twice
        if self._patience % _PATIENCE and np.count_nonzero(calm) == self._seen > 0:
            self._energy = energy  # as many as ever were seen, so all of them
            return False, False
        change = np.abs(np.log2(ratio))
        usual, known = self._usual, np.isfinite(change)
        counts = forward[: energy.size]
        hard = (change > np.log2(_HARD)) & counts
        unusual = (change > np.log2(_SOFT)) & (change > _UNUSUAL * usual) & counts
        broken = np.isinf(energy) & (energy != before)  # news only: a mask stays as it is
        learnt = np.fmax(usual, 0.0) * _KEEP + change * (1 - _KEEP)
        self._usual = np.where(known, learnt, usual)
        self._energy = np.where(np.isnan(energy), before, energy)
        self._seen = int(np.count_nonzero(self._energy == self._energy))
        bad = bool(broken.any())
        if bad or hard.any():
            return True, bad
        if self._patience < 0 and soft and unusual.any():
            self._patience = _PATIENCE
            return True, False
        return False, False

    def state(self) -> dict[str, Any]:
        """What was learnt of the loss, in plain containers; mean squares are learnt anew in one look.

        Example:
            >>> signs, resumed = Signs(), Signs()
            >>> any(signs.surprises(1.0) for _ in range(64))
            False
            >>> resumed.load(signs.state())
            >>> resumed.surprises(3.0)
            True
        """
        return {"losses": list(self._losses), "pause": self._pause}

    def load(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state`."""
        self._losses = deque(state["losses"], maxlen=_RECENT)
        self._pause = int(state["pause"])
