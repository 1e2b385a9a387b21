"""Settings: what an optimizer was told (learning rate, momentum, weight decay), and what it forgot."""

from __future__ import annotations

import math
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.optim import Optimizer


class Settings(NamedTuple):
    """The largest of all parameter groups; NaN where unknown.

    Attributes:
        rate: learning rate.
        horizon: steps over which momentum, or Adam's first moment, averages: 1 / (1 - β).
        decay: share of a weight that decay takes per step: learning rate × ``weight_decay``.
        forgotten: steps that it had counted and counts no more: its state was lost.
    """

    rate: float
    horizon: float
    decay: float
    forgotten: float = 0.0

    def joined(self, other: Settings) -> Settings:
        """The larger of each."""
        return Settings(
            *(b if math.isnan(a) or b > a else a for a, b in zip(self, other, strict=True))
        )

    def leaps(self, before: Settings) -> bool:
        """Whether any is five times as large as before."""
        return any(b > 0 and b >= 5 * a for a, b in zip(before, self, strict=True))


#: Nothing known.
UNKNOWN = Settings(math.nan, math.nan, math.nan, math.nan)


def settings(optimizer: Optimizer) -> Settings:
    """Settings of an optimizer as they are now.

    What lies on a device counts as unknown, for reading would wait for it. So does what is
    ``None``, as the learning rate of an optimizer that chooses its own.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(3))
        >>> settings(torch.optim.SGD([weight], lr=0.5, momentum=0.9, weight_decay=0.01))
        Settings(rate=0.5, horizon=10.0, decay=0.005, forgotten=0.0)
    """
    found = UNKNOWN
    for group in optimizer.param_groups:
        rate = _number(group.get("lr"))
        betas = group.get("betas")
        beta = _number(betas[0] if betas else group.get("momentum"))
        horizon = round(1 / (1 - beta), 9) if beta < 1 else math.nan
        found = found.joined(Settings(rate, horizon, rate * _number(group.get("weight_decay"))))
    return found


class Counted:
    """How many steps each optimizer had counted; those that count none, as SGD, are left alone.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(3))
        >>> adam, counted = torch.optim.Adam([weight]), Counted()
        >>> for step in range(3):
        ...     weight.grad = torch.ones(3)
        ...     assert counted.forgotten(adam) == 0.0
        ...     adam.step()
        >>> adam.state.clear()
        >>> counted.forgotten(adam), counted.forgotten(adam)
        (3.0, 0.0)
    """

    def __init__(self) -> None:
        self._before: WeakKeyDictionary[Optimizer, float] = WeakKeyDictionary()

    def forgotten(self, optimizer: Optimizer) -> float:
        """Steps that it had counted, if it begins at none again; asked before each of them.

        One parameter of each group stands for all; a count that lies on a device is not read.
        """
        now = 0.0
        for group in optimizer.param_groups:
            state = optimizer.state.get(group["params"][0]) if group["params"] else None
            count = _number(state.get("step")) if state else 0.0
            if count > now:
                now = count
        before = self._before.get(optimizer, 0.0)
        self._before[optimizer] = now
        return before + 1 if before > 0 and now == 0.0 else 0.0


def _number(value: Any) -> float:
    if value.__class__ is float:
        return float(value)
    if value is None or (isinstance(value, Tensor) and not value.is_cpu):
        return math.nan
    return float(value)
