"""Rules: which detector watches what, how severe it is, and what holds when it fires.

``DEFAULT`` is what ``rules=None`` means. Rules of one's own come beside it:
``rules=[*DEFAULT, Rule("zero_fraction", 0.95)]``.
"""

from shiftwatch.rules.base import Evidence as Evidence
from shiftwatch.rules.base import Firing as Firing
from shiftwatch.rules.base import Judge as Judge
from shiftwatch.rules.base import Verdict as Verdict
from shiftwatch.rules.base import grown as grown
from shiftwatch.rules.batchnorm import BatchNorm as BatchNorm
from shiftwatch.rules.gradient import Gradient as Gradient
from shiftwatch.rules.metric import Rule as Rule
from shiftwatch.rules.nonfinite import Nonfinite as Nonfinite
from shiftwatch.rules.optimizer import Optimizer as Optimizer
from shiftwatch.rules.response import Response as Response
from shiftwatch.rules.shape import Shape as Shape
from shiftwatch.rules.units import UnitHealth as UnitHealth

#: The rules that apply where none are given.
DEFAULT: tuple[Judge, ...] = (
    Nonfinite(),
    Optimizer(),
    Response(),
    Gradient(),
    UnitHealth(),
    Shape(),
    BatchNorm(),
)
