"""Signals fade layer by layer at the old initialisation, and hardly at Glorot and Bengio's.

python examples/papers/glorot_profiles.py [--quick]

Glorot & Bengio (2010), Understanding the difficulty of training deep feedforward neural networks,
AISTATS, figures 6 and 7: histograms of activations and of back-propagated gradients in five layers of
tanh before training. With weights uniform in ±1/√n, whose variance is a third of 1/n, activations
narrow towards the top and gradients towards the bottom; with ±√6/√(n + m) both keep their width.

In the limit of small signals each layer multiplies both by 1/√3 at the old initialisation: by 0.111 from
the first to the fifth layer. Here 5 layers of 500 units over the digits; histograms are shiftwatch's.
"""

import numpy as np
import torch
from paper import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILION,
    at_least,
    digits,
    legend,
    main,
    panels,
    plain,
    within,
)  # fmt: skip
from torch import nn

from shiftwatch import Summary, summarize
from shiftwatch.summaries.histogram import EDGES

LAYERS, UNITS = 5, 500
OLD = "±1/√n"
NEW = "±√6/√(n + m)"


def summaries(initialisation: str, seed: int) -> tuple[list[Summary], list[Summary]]:
    """Of each layer's activations, and of the gradients that come back to what enters its tanh."""
    torch.manual_seed(seed)
    x, y, _, _ = (torch.from_numpy(a) for a in digits())
    values = x
    entering, activations = [], []
    for wide in (x.shape[1], *[UNITS] * (LAYERS - 1)):
        layer = nn.Linear(wide, UNITS)
        span = wide**-0.5 if initialisation == OLD else (6 / (wide + UNITS)) ** 0.5
        nn.init.uniform_(layer.weight, -span, span)
        nn.init.zeros_(layer.bias)
        entering.append(layer(values))
        values = torch.tanh(entering[-1])
        activations.append(values)
    head = nn.Linear(UNITS, 10)
    nn.init.xavier_uniform_(head.weight)
    loss = nn.functional.cross_entropy(head(values), y)
    gradients = torch.autograd.grad(loss, entering)
    return (
        [summarize(a.detach().numpy(), activation="tanh") for a in activations],
        [summarize(g.numpy()) for g in gradients],
    )


def study(seeds):
    """Both initialisations, every seed."""
    torch.set_num_threads(1)
    runs = {kind: [summaries(kind, seed) for seed in seeds] for kind in (OLD, NEW)}
    forth = {kind: np.array([a[-1].std / a[0].std for a, _ in runs[kind]]) for kind in runs}
    back = {kind: np.array([g[0].std / g[-1].std for _, g in runs[kind]]) for kind in runs}
    fades = 3.0 ** (-(LAYERS - 1) / 2)
    claims = [
        within(f"{OLD}: width of activations, last over first", forth[OLD], 0.8 * fades, 1.2 * fades),
        within(f"{OLD}: width of gradients, first over last", back[OLD], 0.8 * fades, 1.2 * fades),
        at_least(f"{NEW}: width of activations, last over first", forth[NEW], 0.5),
        at_least(f"{NEW}: width of gradients, first over last", back[NEW], 0.5),
    ]  # fmt: skip
    return draw(runs), claims


def draw(runs):
    """Densities of activations above, of gradients below; both initialisations side by side."""
    title = "Before training, signals fade from layer to layer, or keep their width"
    figure, axes = panels(2, title, rows=2, high=5.6, sharey="row", sharex="row")
    for column, kind in enumerate((OLD, NEW)):
        for axis, layers, unit in zip(axes[:, column], runs[kind][0], (1, 1e-4), strict=True):
            for i, colour in enumerate((ORANGE, GREEN, BLUE, PURPLE, VERMILION)):
                x, y = density(layers[i], 1.2 * unit)
                axis.plot(x / unit, y * unit, color=colour, linewidth=1.8, label=f"layer {i + 1}")
            axis.set_yscale("log")
            axis.set_xlim(-1.2, 1.2)
        first = column == 0
        plain(
            axes[0, column], f"weights uniform in {kind}", "activation", "density" if first else ""
        )
        plain(axes[1, column], "", "gradient of what enters tanh, 10⁻⁴", "density" if first else "")
        for axis in axes[:, column]:
            axis.set_ylim(0.005, 30)
    legend(axes[0, 1], loc="upper right")
    return figure


def density(summary: Summary, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Places and densities from shiftwatch's histogram, its narrow bins about zero put together."""
    edges = [0.0]
    for edge in EDGES[(EDGES > 0) & (EDGES <= reach)]:
        if edge - edges[-1] >= reach / 60:
            edges.append(edge)
    grid = np.array([*(-np.array(edges[:0:-1])), *edges])
    below = np.cumsum(summary.histogram.frequencies)[:-1]
    return (grid[1:] + grid[:-1]) / 2, np.diff(np.interp(grid, EDGES[1:-1], below)) / np.diff(grid)


if __name__ == "__main__":
    main(study)
