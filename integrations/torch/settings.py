"""Settings: what an optimizer was told: learning rate, momentum, weight decay."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import Optimizer


class Settings(NamedTuple):
    """The largest of all parameter groups; NaN where unknown.

    Attributes:
        rate: learning rate.
        horizon: steps over which momentum, or Adam's first moment, averages: 1 / (1 - β).
        decay: share of a weight that decay takes per step: learning rate × ``weight_decay``.
    """

    rate: float
    horizon: float
    decay: float

    def joined(self, other: Settings) -> Settings:
        """The larger of each."""
        return Settings(
            *(b if math.isnan(a) or b > a else a for a, b in zip(self, other, strict=True))
        )

    def leaps(self, before: Settings) -> bool:
        """Whether any is five times as large as before."""
        return any(b > 0 and b >= 5 * a for a, b in zip(before, self, strict=True))


#: Nothing known.
UNKNOWN = Settings(math.nan, math.nan, math.nan)


def settings(optimizer: Optimizer) -> Settings:
    """Settings of an optimizer as they are now.

    What lies on a device counts as unknown, for reading would wait for it. So does what is
    ``None``, as the learning rate of an optimizer that chooses its own.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(3))
        >>> settings(torch.optim.SGD([weight], lr=0.5, momentum=0.9, weight_decay=0.01))
        Settings(rate=0.5, horizon=10.0, decay=0.005)
    """
    found = UNKNOWN
    for group in optimizer.param_groups:
        rate = _number(group.get("lr"))
        betas = group.get("betas")
        beta = _number(betas[0] if betas else group.get("momentum"))
        horizon = round(1 / (1 - beta), 9) if beta < 1 else math.nan
        found = found.joined(Settings(rate, horizon, rate * _number(group.get("weight_decay"))))
    return found


def _number(value: Any) -> float:
    if value.__class__ is float:
        return float(value)
    if value is None or (isinstance(value, Tensor) and not value.is_cpu):
        return math.nan
    return float(value)
