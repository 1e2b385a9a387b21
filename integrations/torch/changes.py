"""Changes: what becomes another in a run besides its values, and is told with the step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from shiftwatch.integrations.torch import modules
from shiftwatch.integrations.torch.settings import UNKNOWN, Settings
from shiftwatch.integrations.torch.weights import Owned
from shiftwatch.records import Event

#: Steps after which a shape of the input has lasted.
LASTING = 16


class Changes:
    """Of the shape of the input, the batch size, and what the optimizer is told.

    Attributes:
        events: what changed since the last take, with what others had told.
        leapt: whether the optimizer was told something that is to be judged now.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.leapt = False
        self._shape: torch.Size | None = None  # of a sample
        self._shape_since = 0
        self._settings = UNKNOWN
        self._usual_size = 0

    def tell(self, kind: str, detail: str, step: int) -> None:
        """Add an event."""
        self.events.append(Event(step, kind, detail))

    def shape(self, shape: torch.Size, step: int) -> None:
        """Note the input's shape; one that follows upon another that had lasted is told."""
        if shape[1:] == self._shape:
            return
        if self._shape is not None and step - self._shape_since >= LASTING:
            self.tell("shape", f"{_by(self._shape)} to {_by(shape[1:])} for each sample", step)
        self._shape, self._shape_since = shape[1:], step

    def settings(self, now: Settings, step: int) -> None:
        """Note what the optimizer was told in a step."""
        rate, old = now.rate, self._settings.rate
        if rate > 0:
            if old > 0 and not 0.5 < rate / old < 2:
                self.tell("learning_rate", f"{old:.3g} to {rate:.3g}", step)
            self.leapt = self.leapt or now.leaps(self._settings)
            self._settings = now

    def sizes(self, sizes: Sequence[int], step: int) -> None:
        """Note a batch size that has come to stay; the odd last batch of an epoch is none."""
        if sizes:
            usual = int(np.median(sizes))
            if self._usual_size and usual != self._usual_size:
                self.tell("batch_size", f"{self._usual_size} to {usual}", step)
            self._usual_size = usual or self._usual_size

    def taken(self) -> None:
        """All of it was taken."""
        self.leapt = False
        self.events.clear()


class Structure:
    """Which modules a model has: they come or go with an adapter, a parametrization, …"""

    def __init__(self, root: nn.Module) -> None:
        self._built = modules.fingerprint(root)
        self._there = {id(m) for m in root.modules()}

    def look(self, root: nn.Module) -> tuple[set[int], list[str]] | None:
        """The ids of all modules that are there, and the names of layers that were never before.

        ``None`` where nothing changed since the last look.
        """
        built = modules.fingerprint(root)
        if built == self._built:
            return None
        self._built = built
        there = {id(m) for m in root.modules()}
        fresh = [n for n, m in modules.leaves(root) if id(m) not in self._there]
        self._there |= there
        return there, fresh


class Trainable:
    """Which parameters train."""

    def __init__(self) -> None:
        self._before: list[bool] | None = None

    def look(self, owned: Sequence[Owned]) -> list[tuple[Owned, bool]]:
        """Those that were frozen or freed since the last look, and whether they train now."""
        now = [(p := o.parameter) is not None and p.requires_grad for o in owned]
        before, self._before = self._before, now
        if before is None or len(before) != len(now):
            return []
        both = zip(owned, now, before, strict=True)
        return [(own, trains) for own, trains, did in both if trains != did]


def _by(shape: torch.Size) -> str:
    return " × ".join(map(str, shape)) or "one number"
