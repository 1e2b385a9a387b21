"""BatchNorm with noise after it: distributions jump at every step, and training does not mind.

python examples/papers/noisy_batchnorm.py [--quick]

Santurkar, Tsipras, Ilyas & Madry (2018), How Does Batch Normalization Help Optimization?, NeurIPS:
after each BatchNorm every unit is shifted and scaled at random, by a distribution that is drawn anew at
every step. What the layers see is then less stable than without BatchNorm; the network learns as fast
as with it, and faster than without.

Here three hidden layers of 100 sigmoids on the digits. The noise is the paper's: per step and unit
μ ~ U(−0.5, 0.5) and σ ~ U(1, 1.25), per image a shift ~ U(μ − 0.1, μ + 0.1) and a scale ~ N(σ, 0.1). Drift
is how far one step moves the mean of what enters a sigmoid of the last hidden layer, over the same 360
images; of 100 units the median. Measured in the unit's own deviations, by shiftwatch's mean_shift, the net
without BatchNorm drifts nearly as much as the noisy one: its deviations are tiny.
"""

import numpy as np
import torch
from paper import (
    BLUE,
    GREEN,
    VERMILION,
    at_least,
    batches,
    digits,
    legend,
    main,
    panels,
    plain,
    within,
)  # fmt: skip
from torch import nn

from shiftwatch import Summary, metrics, summarize

STEPS, BATCH, UNITS, LOOKS = 1000, 128, 100, 25
KINDS = ("without BatchNorm", "BatchNorm", "noisy BatchNorm")


class Noise(nn.Module):
    """Shift and scale of every unit, at random, by a distribution of the step."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mu, sigma = torch.rand(UNITS) - 0.5, 1 + 0.25 * torch.rand(UNITS)
        shift = mu + 0.2 * (torch.rand_like(x) - 0.5)
        scale = sigma + 0.1 * torch.randn_like(x)
        return scale * x + shift


def network(kind: str, seed: int) -> nn.Sequential:
    """Three hidden layers of sigmoids, small Gaussian weights."""
    torch.manual_seed(seed)
    model, wide = nn.Sequential(), 64
    for _ in range(3):
        linear = nn.Linear(wide, UNITS)
        nn.init.normal_(linear.weight, 0, 0.1)
        model.append(linear)
        if kind != KINDS[0]:
            model.append(nn.BatchNorm1d(UNITS))
        if kind == KINDS[2]:
            model.append(Noise())
        model.append(nn.Sigmoid())
        wide = UNITS
    model.append(nn.Linear(UNITS, 10))
    return model


def entering(model: nn.Sequential, x: torch.Tensor) -> list[Summary]:
    """What enters each sigmoid of the last hidden layer, as training sees it."""
    buffers = [b.clone() for b in model.buffers()]
    with torch.no_grad():
        values = model[:-2](x).numpy()
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
    return [summarize(unit) for unit in values.T]


def drift(now: list[Summary], before: list[Summary]) -> tuple[float, float]:
    """Distance of a unit's mean from before, as it is and in deviations: the median unit's."""
    pairs = list(zip(now, before, strict=True))
    return (
        float(np.median([abs(a.mean - b.mean) for a, b in pairs])),
        float(np.median([abs(metrics["mean_shift"](a, b)) for a, b in pairs])),
    )


def train(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Loss [steps], and drift of one step, as it is and in deviations [looks, 2]."""
    x, y, x_test, _ = (torch.from_numpy(a) for a in digits())
    model = network(kind, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses, drifts = [], []
    for step, batch in enumerate(batches(len(x), BATCH, STEPS, seed)):
        look = step % (STEPS // LOOKS) == 0
        before = entering(model, x_test) if look else []
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if look:
            drifts.append(drift(entering(model, x_test), before))
    return np.array(losses), np.array(drifts)


def study(seeds):
    """Each kind of network, every seed."""
    torch.set_num_threads(1)
    runs = {kind: [train(kind, seed) for seed in seeds] for kind in KINDS}
    without, norm, noisy = KINDS
    loss = {kind: np.array([losses[450:550].mean() for losses, _ in runs[kind]]) for kind in KINDS}
    moved = {kind: np.array([np.median(d, axis=0) for _, d in runs[kind]]).T for kind in KINDS}
    claims = [
        within("loss about step 500, noisy over BatchNorm", loss[noisy] / loss[norm], 0.8, 1.2),
        at_least("loss about step 500, without over noisy", loss[without] / loss[noisy], 5),
        at_least("drift of a step, noisy over BatchNorm", moved[noisy][0] / moved[norm][0], 5, ",.0f"),
        at_least("drift of a step, noisy over without", moved[noisy][0] / moved[without][0], 5, ",.0f"),
        at_least("in deviations (mean_shift), noisy over without", moved[noisy][1] / moved[without][1], 1),
    ]  # fmt: skip
    return draw(runs), claims


def draw(runs):
    """Loss over training, and drift from step to step."""
    figure, (left, right) = panels(2, "Noisy BatchNorm drifts at every step, and trains as well")
    colours = dict(zip(KINDS, (VERMILION, BLUE, GREEN), strict=True))
    width = 20
    for kind in KINDS:
        for seed, (losses, drifts) in enumerate(runs[kind]):
            look = {"color": colours[kind], "linewidth": 1.6, "alpha": 1 if seed == 0 else 0.35}
            smooth = np.convolve(losses, np.ones(width) / width, "valid")
            left.plot(np.arange(len(smooth)) + width / 2, smooth, **look)
            right.plot(np.arange(LOOKS) * (STEPS // LOOKS), drifts[:, 0], **look,
                       label=None if seed else kind)  # fmt: skip
    left.set_ylim(0, 2.6)
    right.set_yscale("log")
    right.set_ylim(1e-5, 30)
    plain(left, f"training loss, mean of {width} steps", "step")
    plain(right, "drift of what enters a sigmoid, per step", "step")
    legend(right, loc="upper right")
    return figure


if __name__ == "__main__":
    main(study)
