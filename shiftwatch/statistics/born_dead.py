"""Born dead: how likely random weights make a ReLU network constant before any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def born_dead(width: Any, depth: Any) -> tuple[np.ndarray, np.ndarray]:
    r"""Bounds on the probability that a ReLU network is born dead: one constant for all inputs.

    With width $N$, depth $L$, $a_1 = 1 - 2^{-N}$ and $a_2 = 1 - 2^{1-N} - (N-1)\,2^{-2N}$:

    $$1 - a_1^{L-2} + \frac{(1 - 2^{1-N})(1 - 2^{-N})}{1 + (N-1)\,2^{-N}} (a_2^{L-2} - a_1^{L-2})
      \;\le\; P \;\le\; 1 - (1 - 2^{-N})^{L-1}$$

    for weights that are symmetric about zero, no biases, and one input. It depends on the
    *signs* of random weights, so no choice of their scale changes it.

    Args:
        width: units N of each hidden layer, at least 1; an array where several are asked for.
        depth: layers L, the last linear one among them, at least 2; broadcast with ``width``.

    Returns:
        float64[...] twice, the lower and the upper bound, 0 to 1.

    Raises:
        ValueError: for a width under 1 or a depth under 2.

    Cost: some powers.

    Example:
        >>> low, high = born_dead(2, 10)
        >>> round(float(low), 3), round(float(high), 3)
        (0.87, 0.925)
        >>> bool(born_dead(64, 10)[1] < 1e-15)
        True

    References:
        Lu, Shin, Su & Karniadakis (2020), Commun. Comput. Phys. 28: Dying ReLU and
        initialization.
    """
    n, depth = np.asarray(width, float), np.asarray(depth, float)
    if np.any(n < 1) or np.any(depth < 2):
        raise ValueError(
            "A network needs a width of at least 1 and a depth of at least 2, its linear last layer "
            f"among them; got width {width} and depth {depth}."
        )
    half = 2.0**-n
    a1, a2 = 1 - half, 1 - 2 * half - (n - 1) * half**2
    factor = (1 - 2 * half) * (1 - half) / (1 + (n - 1) * half)
    low = 1 - a1 ** (depth - 2) + factor * (a2 ** (depth - 2) - a1 ** (depth - 2))
    return np.clip(low, 0.0, 1.0), -np.expm1((depth - 1) * np.log1p(-half))


def blocked(widths: Sequence[int]) -> float:
    r"""Probability that a given input finds a layer all of whose ReLUs are closed.

    $$1 - \prod_l (1 - 2^{-N_l})$$

    The upper bound of :func:`born_dead` for layers of any widths: each unit is closed with
    probability 1/2, whatever reaches it, where weights and biases are symmetric about zero.

    Args:
        widths: units of each ReLU layer that every path passes.

    Returns:
        0 (wide, or no layers) to 1.

    Example:
        >>> round(blocked([2] * 9), 3), blocked([])
        (0.925, 0.0)
    """
    return float(-np.expm1(np.sum(np.log1p(-(2.0 ** -np.asarray(widths, float))))) + 0.0)
