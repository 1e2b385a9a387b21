"""Internal covariate shift: without BatchNorm what enters a sigmoid wanders, and learning waits.

python examples/papers/ioffe_szegedy.py [--quick]

Ioffe & Szegedy (2015), Batch Normalization: Accelerating Deep Network Training by Reducing Internal
Covariate Shift, ICML, figure 1: three layers of 100 sigmoids on MNIST; (a) test accuracy, (b, c) the
15th, 50th and 85th percentile of what enters one sigmoid of the last hidden layer, over training.

Here the digits are 8 × 8, and the percentiles are over the same 360 test images at every step, so that
what moves is the network. The unit drawn is the one of median growth; claims are medians over all 100.
The first run of each kind is watched: the percentiles spread a hundredfold, and no alarm is raised,
for the weight updates explain it.
"""

from contextlib import nullcontext

import numpy as np
import torch
from paper import (
    BLUE,
    FAINT,
    VERMILION,
    at_least,
    at_most,
    batches,
    digits,
    legend,
    main,
    panels,
    plain,
)  # fmt: skip
from torch import nn

from shiftwatch.integrations.torch import watch

STEPS, EVERY, UNITS = 10_000, 50, 100
LEVELS = (15, 50, 85)


def network(batchnorm: bool, seed: int) -> nn.Sequential:
    """Three hidden layers of sigmoids, small Gaussian weights."""
    torch.manual_seed(seed)
    model, wide = nn.Sequential(), 64
    for i in (1, 2, 3):
        model.add_module(f"fc{i}", nn.Linear(wide, UNITS))
        if batchnorm:
            model.add_module(f"bn{i}", nn.BatchNorm1d(UNITS))
        model.add_module(f"sigmoid{i}", nn.Sigmoid())
        wide = UNITS
    model.add_module("head", nn.Linear(UNITS, 10))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.1)
            nn.init.zeros_(layer.bias)
    return model


def train(batchnorm: bool, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Test accuracy [checks], percentiles [checks, 3, units], and the number of alerts."""
    x, y, x_test, y_test = (torch.from_numpy(a) for a in digits())
    model = network(batchnorm, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    accuracies, percentiles = [], []
    watched = watch(model, optimizer=optimizer, run=False) if seed == 0 else nullcontext()
    with watched as monitor:
        for step, batch in enumerate(batches(len(x), 60, STEPS, seed), start=1):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if monitor is not None:
                monitor.step(loss=loss)
            if step % EVERY == 0:
                model.eval()
                with torch.no_grad():
                    entering = model[:-2](x_test)
                    guess = model[-2:](entering).argmax(1)
                model.train()
                accuracies.append(float((guess == y_test).float().mean()))
                percentiles.append(np.percentile(entering.numpy(), LEVELS, axis=0))
    return np.array(accuracies), np.array(percentiles), len(monitor.alerts) if monitor else 0


def growth(percentiles: np.ndarray) -> np.ndarray:
    """How many times as wide the band from the 15th to the 85th becomes: [units]."""
    width = percentiles[:, 2] - percentiles[:, 0]
    return width[-1] / width[0]


def path(percentiles: np.ndarray) -> np.ndarray:
    """How far the median travels in all, in widths that the band has at the beginning: [units]."""
    width = percentiles[0, 2] - percentiles[0, 0]
    return np.abs(np.diff(percentiles[:, 1], axis=0)).sum(0) / width


def study(seeds):
    """Both networks, every seed."""
    torch.set_num_threads(1)
    runs = {kind: [train(kind, seed) for seed in seeds] for kind in (False, True)}
    early = 1000 // EVERY - 1
    accuracy = {kind: np.array([a for a, _, _ in runs[kind]]) for kind in runs}
    grown = {kind: np.array([np.median(growth(p)) for _, p, _ in runs[kind]]) for kind in runs}
    moved = {kind: np.array([np.median(path(p)) for _, p, _ in runs[kind]]) for kind in runs}
    claims = [
        at_least("growth of the band, without over with", grown[False] / grown[True], 20),
        at_least("path of the median, without over with", moved[False] / moved[True], 10),
        at_least(
            "accuracy at step 1,000, with less without",
            accuracy[True][:, early] - accuracy[False][:, early], 0.5,
        ),
        at_least("final accuracy of both", [a[:, -1] for a in accuracy.values()], 0.95),
        at_most("alerts of shiftwatch", [r[0][2] for r in runs.values()], 0),
    ]  # fmt: skip
    return draw(runs), claims


def draw(runs):
    """The three panels of the paper's figure 1."""
    figure, (left, middle, right) = panels(3, "BatchNorm holds still what enters a sigmoid")
    steps = np.arange(EVERY, STEPS + 1, EVERY)
    for kind, name, colour in ((True, "with BatchNorm", BLUE), (False, "without", VERMILION)):
        for i, (accuracy, _, _) in enumerate(runs[kind]):
            left.plot(
                steps, accuracy, color=colour, linewidth=1.6, alpha=1 if i == 0 else 0.35,
                label=name if i == 0 else None,
            )  # fmt: skip
    left.set_ylim(0, 1.02)
    legend(left, loc="lower right")
    plain(left, "(a) test accuracy", "step")
    for axis, kind, colour, name in (
        (middle, False, VERMILION, "(b) without BatchNorm"),
        (right, True, BLUE, "(c) with BatchNorm"),
    ):
        percentiles = runs[kind][0][1]
        unit = np.argsort(growth(percentiles))[UNITS // 2]
        low, mid, high = percentiles[:, :, unit].T
        axis.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
        for line, label in zip((low, mid, high), LEVELS, strict=True):
            axis.plot(steps, line, color=colour, linewidth=1.8 if label == 50 else 0.9)
            axis.annotate(
                f"{label} %", (steps[-1], line[-1]), xytext=(3, 0), textcoords="offset points",
                va="center", fontsize=8, color=FAINT,
            )  # fmt: skip
        plain(axis, name, "step", "what enters one sigmoid" if axis is middle else "")
    bottom = min(middle.get_ylim()[0], right.get_ylim()[0])
    top = max(middle.get_ylim()[1], right.get_ylim()[1])
    for axis in (middle, right):
        axis.set_ylim(bottom, top)
    for axis in (left, middle, right):
        axis.set_xticks([0, 5000, 10_000], ["0", "5,000", "10,000"])
    return figure


if __name__ == "__main__":
    main(study)
