"""Rules: which detector watches what, how severe it is, and what holds when it fires.

``DEFAULT`` is what ``rules=None`` means. Rules of one's own come beside it:
``rules=[*DEFAULT, Rule("zero_fraction", 0.95)]``.
"""

from dataclasses import replace
from typing import Any

from shiftwatch.rules.attention import Attention as Attention
from shiftwatch.rules.base import Evidence as Evidence
from shiftwatch.rules.base import Firing as Firing
from shiftwatch.rules.base import Judge as Judge
from shiftwatch.rules.base import Verdict as Verdict
from shiftwatch.rules.base import continued as continued
from shiftwatch.rules.base import grown as grown
from shiftwatch.rules.batchnorm import BatchNorm as BatchNorm
from shiftwatch.rules.beginning import Beginning as Beginning
from shiftwatch.rules.birth import Birth as Birth
from shiftwatch.rules.branches import Branches as Branches
from shiftwatch.rules.coarse import Coarse as Coarse
from shiftwatch.rules.data import Data as Data
from shiftwatch.rules.dropout import Dropout as Dropout
from shiftwatch.rules.fading import Fading as Fading
from shiftwatch.rules.gradient import Gradient as Gradient
from shiftwatch.rules.loss import Loss as Loss
from shiftwatch.rules.metric import Rule as Rule
from shiftwatch.rules.nonfinite import Nonfinite as Nonfinite
from shiftwatch.rules.optimizer import Optimizer as Optimizer
from shiftwatch.rules.plateau import Plateau as Plateau
from shiftwatch.rules.rectified import Rectified as Rectified
from shiftwatch.rules.response import Response as Response
from shiftwatch.rules.settings import Settings as Settings
from shiftwatch.rules.shape import Shape as Shape
from shiftwatch.rules.units import UnitHealth as UnitHealth

#: The rules that apply where none are given.
DEFAULT: tuple[Judge, ...] = (
    Nonfinite(),
    Birth(),
    Beginning(),
    Plateau(),
    Optimizer(),
    Fading(),
    Settings(),
    Data(),
    Response(),
    Gradient(),
    Loss(),
    UnitHealth(),
    Shape(),
    BatchNorm(),
    Attention(),
    Branches(),
    Coarse(),
    Dropout(),
    Rectified(),
)


def budgeted(alpha: float) -> tuple[Judge, ...]:
    """The default rules under another false-alarm budget.

    Args:
        alpha: probability that a healthy run raises anything by chance, see
            :mod:`shiftwatch.alpha`; 0.01 is the default's.

    Raises:
        ValueError: for an ``alpha`` that is no probability.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be a probability between 0 and 1; got {alpha!r}.")
    rules: list[Any] = list(DEFAULT)
    return tuple(replace(r, alpha=alpha) if hasattr(r, "alpha") else r for r in rules)
