"""A deep and narrow ReLU network may be dead before its first step.

python examples/papers/lu_born_dead.py [--quick]

Lu, Shin, Su & Karniadakis (2020), Dying ReLU and Initialization: Theory and Numerical Examples,
Communications in Computational Physics 28: bounds on the probability that a network of L layers, the
hidden ones of width N, with symmetric weights and no bias, gives the same for every input from birth on.

With one input and no bias a network is two rays, one for either sign of the input, so to look at x = 1
and at x = −1 is to look everywhere: what is counted here is exact, and only the number of networks is
finite. shiftwatch's dead_fraction, which sees 64 inputs, calls the same networks dead.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from paper import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    VERMILION,
    at_least,
    main,
    panels,
    plain,
    within,
)  # fmt: skip

from shiftwatch import metrics, summarize

NETWORKS = 20_000
WIDTHS, DEPTHS = (2, 3, 4, 5), np.arange(3, 21)
CHECKED = (5, 10, 20)  # depths


def hidden(
    x: np.ndarray, networks: int, width: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Outputs of hidden layer after hidden layer, weights after He: each [networks, inputs, width]."""
    values = np.broadcast_to(x[:, None], (networks, len(x), 1))
    while True:
        fan_in = values.shape[-1]
        weights = rng.normal(0, (2 / fan_in) ** 0.5, (networks, fan_in, width))
        values = np.maximum(values @ weights, 0)
        yield values


def born_dead(width: int, seed: int) -> np.ndarray:
    """Share of networks that are dead, by depth: [depths]. Depth L has L - 1 hidden layers."""
    layers = hidden(np.array([1.0, -1.0]), NETWORKS, width, np.random.default_rng((seed, width)))
    dead = [1 - values.any((1, 2)).mean() for values in islice(layers, DEPTHS[-1] - 1)]
    return np.array(dead)[DEPTHS - 2]


def bounds(width: int, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The theorem's lower and upper bound on the probability of being born dead."""
    half = 0.5**width
    one, two = 1 - half, 1 - 2 * half - (width - 1) * half**2
    share = (1 - 2 * half) * (1 - half) / (1 + (width - 1) * half)
    lower = 1 - one ** (depth - 2) + share * (two ** (depth - 2) - one ** (depth - 2))
    return lower, 1 - one ** (depth - 1)


def agreement(seed: int, networks: int = 300) -> float:
    """Share of networks of which dead_fraction on 64 inputs and the two rays say the same."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([[1.0, -1.0], rng.uniform(-1, 1, 62)])
    values = next(islice(hidden(x, networks, 3, rng), 8, None))  # depth 10
    dead = ~values[:, :2].any((1, 2))
    seen = [float(metrics["dead_fraction"](summarize(v, activation="relu"))) == 1 for v in values]
    return float((np.array(seen) == dead).mean())


def study(seeds):
    """Count the dead of every width and depth; compare with the bounds."""
    shares = np.array([[born_dead(width, seed) for width in WIDTHS] for seed in seeds])
    limits = np.array([bounds(width, DEPTHS) for width in WIDTHS])  # [widths, 2, depths]
    inside = (shares >= limits[:, 0]) & (shares <= limits[:, 1])
    checked = inside[..., np.isin(DEPTHS, CHECKED)].sum((1, 2))
    one = shares[:, WIDTHS.index(2), list(DEPTHS).index(10)]
    low, high = limits[WIDTHS.index(2), :, list(DEPTHS).index(10)]
    claims = [
        at_least("inside the bounds, of 12 widths and depths", checked, 12, ".0f"),
        within("born dead at width 2, depth 10", one, low, high),
        at_least("shiftwatch's dead_fraction agrees on", [agreement(s) for s in seeds], 1, ".0%"),
    ]
    return draw(shares, limits), claims


def draw(shares, limits):
    """Shares of dead networks by depth, on the bounds."""
    figure, (axis,) = panels(1, "Deep and narrow networks of ReLU are born dead", high=4.2)
    for i, colour in enumerate((VERMILION, ORANGE, GREEN, BLUE)):
        axis.fill_between(DEPTHS, *limits[i], color=colour, alpha=0.18, linewidth=0)
        axis.plot(DEPTHS, shares[:, i].mean(0), "o", color=colour, markersize=5)
        axis.annotate(
            f"width {WIDTHS[i]}", (DEPTHS[-1], shares[:, i, -1].mean()), xytext=(8, 0),
            textcoords="offset points", va="center", fontsize=9, color=colour,
        )  # fmt: skip
    axis.set_ylim(0, 1.02)
    axis.set_xticks(DEPTHS)
    axis.set_xlim(2.5, 21.8)
    axis.text(
        0.01, 0.97, f"dots: share of {NETWORKS:,} networks per seed\nbands: the paper's bounds",
        transform=axis.transAxes, va="top", fontsize=9, color=FAINT,
    )  # fmt: skip
    plain(axis, "", "layers", "born dead")
    return figure


if __name__ == "__main__":
    main(study)
