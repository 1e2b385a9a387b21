"""Activations and where they are flat: one definition of saturation for all of them.

An activation is *flat* where the size of its slope is under 5 % of its greatest slope.
A value in the flat part passes (almost) no gradient. The share of such values is the
layer's saturation; a unit whose values all lie there is not active.

The flat part is stated in OUTPUT values, as a band ``floor <= y <= low`` and a tail
``y >= high``, because the output is what a later layer sees and what survives an
in-place activation. For the monotone activations this is exact. GELU, SiLU, Mish and
Hardswish fold: an output just under zero comes either from the flat left tail or from a
sliver of inputs just left of zero (for GELU x in (-0.053, 0)); both are counted, so
their saturation is an upper bound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: The slope, relative to the greatest slope, under which an activation counts as flat.
FLAT_SLOPE = 0.05


class Flat(NamedTuple):
    """Output values at which an activation is flat: ``floor <= y <= low`` or ``y >= high``."""

    low: float
    high: float = np.inf
    floor: float = -np.inf


#: Activation name to its flat outputs. Derived from the slope, in the order
#: of the solution: sigmoid y(1-y) < 0.05/4; tanh 1-y^2 < 0.05; elu y+1 < 0.05;
#: softsign (1-|y|)^2 < 0.05; softplus 1-exp(-y) < 0.05; selu as elu, scaled.
FLAT: dict[str, Flat] = {
    "relu": Flat(0.0),
    "relu6": Flat(0.0, 6.0),
    "leaky_relu": Flat(0.0),
    "sigmoid": Flat(0.012660, 0.987340),
    "tanh": Flat(-0.974679, 0.974679),
    "hardsigmoid": Flat(0.0, 1.0),
    "hardtanh": Flat(-1.0, 1.0),
    "softsign": Flat(-0.776393, 0.776393),
    "softplus": Flat(0.051293),
    "elu": Flat(-0.95),
    "celu": Flat(-0.95),
    "selu": Flat(-1.670193),
    "gelu": Flat(0.0, floor=-0.025857),
    "silu": Flat(0.0, floor=-0.075723),
    "mish": Flat(0.0, floor=-0.073609),
    "hardswish": Flat(0.0, floor=0.0),
}

#: Activations that are flat on one side: there a unit can die.
ONE_SIDED = frozenset({"relu", "relu6", "gelu", "silu", "mish", "hardswish", "elu", "celu", "selu"})

#: Activations that are flat on both sides: there a unit can saturate.
TWO_SIDED = frozenset({"sigmoid", "tanh", "hardsigmoid", "hardtanh", "softsign"})


def flat_of(activation: str) -> Flat:
    """Flat outputs of an activation; nowhere for ``""`` (no activation).

    Raises:
        ValueError: for a name that is not in :data:`FLAT`.

    Example:
        >>> flat_of("tanh").high
        0.974679
        >>> flat_of("").low
        -inf
    """
    if not activation:
        return Flat(-np.inf)
    try:
        return FLAT[activation]
    except KeyError:
        known = ", ".join(sorted(FLAT))
        raise ValueError(
            f"activation must be one of {known}, or ''; got {activation!r}. "
            "Use '' where the layer has none."
        ) from None
