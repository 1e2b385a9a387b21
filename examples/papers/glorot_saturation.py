"""A deep sigmoid network saturates its top layer within steps, sits there, and may come out again.

python examples/papers/glorot_saturation.py [--quick]

Glorot & Bengio (2010), Understanding the difficulty of training deep feedforward neural networks,
AISTATS, figure 2: mean and standard deviation of the activations of four hidden layers of sigmoids.
The last one is pushed to 0 at once, since the outputs first learn to ignore it, and leaves saturation
only after about 100 epochs; the deeper the network, the later, or never.

Here: the digits, 100 units per layer, weights uniform in ±1/√n, batches of 10. At a learning rate of 1
the network comes out of it after 3,000 to 8,000 steps; at half of that not within this run. Both
rates and all seeds are one stack of networks, trained at once. shiftwatch is shown the first of them
and raises one alert: that the top layer is saturated, thousands of steps before it recovers.
"""

from itertools import pairwise

import numpy as np
from paper import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    VERMILION,
    Claim,
    at_least,
    at_most,
    batches,
    digits,
    legend,
    main,
    panels,
    plain,
    within,
)  # fmt: skip

from shiftwatch import Monitor, metrics, summarize

STEPS, EVERY, BATCH = 12_000, 20, 10
SIZES = (64, 100, 100, 100, 100, 10)
RATES = (1.0, 0.5)


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def networks(seeds) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights [networks, in, out] and biases [networks, 1, out] of each layer; each seed at each rate."""
    layers = []
    for i, (n, m) in enumerate(pairwise(SIZES)):
        drawn = [np.random.default_rng((seed, i)).uniform(-1, 1, (n, m)) / n**0.5 for seed in seeds]
        layers.append((np.array(drawn * len(RATES)), np.zeros((len(drawn) * len(RATES), 1, m))))
    return layers


def forward(layers, x) -> list[np.ndarray]:
    """What each layer gives: hidden activations, then logits, [networks, images, units]."""
    values = [x]
    for weights, bias in layers:
        values.append(values[-1] @ weights + bias)
        if weights.shape[-1] != SIZES[-1]:
            values[-1] = sigmoid(values[-1])
    return values


def step(layers, x, y, rates) -> list[np.ndarray]:
    """One step of gradient descent on the cross-entropy, in place; what each layer gave before it."""
    values = forward(layers, x)
    share = np.exp(values[-1] - values[-1].max(-1, keepdims=True))
    back = share / share.sum(-1, keepdims=True)
    back[:, np.arange(len(y)), y] -= 1
    back /= len(y)
    for (weights, bias), before in zip(layers[::-1], values[-2::-1], strict=True):
        onward = (back @ weights.swapaxes(1, 2)) * before * (1 - before)
        weights -= rates * (before.swapaxes(-1, -2) @ back)
        bias -= rates * back.sum(1, keepdims=True)
        back = onward
    return values


def train(seeds):
    """Means and saturation [networks, checks, layers], accuracy [networks, checks], and alerts."""
    x, y, x_test, y_test = digits()
    layers = networks(seeds)
    rates = np.repeat(RATES, len(seeds))[:, None, None]
    moments, accuracies = [], []
    with Monitor(run=False) as monitor:
        for now, batch in enumerate(batches(len(x), BATCH, STEPS, seed=0)):
            if now % EVERY == 0:
                *hidden, logits = forward(layers, x_test)[1:]
                accuracies.append((logits.argmax(-1) == y_test).mean(-1))
                moments.append([[measures(h) for h in each] for each in zip(*hidden, strict=True)])
            values = step(layers, x[batch], y[batch], rates)
            for i in (1, 2, 3, 4):
                monitor.observe(f"sigmoid{i}", values[i][0], activation="sigmoid")
            monitor.observe("head", values[5][0])
            monitor.step()
    mean, saturated = np.moveaxis(np.array(moments), (3, 1), (0, 1))
    return mean, saturated, np.array(accuracies).T, monitor.alerts


def measures(activations: np.ndarray) -> tuple[float, float]:
    """Mean, and the share of values at which the sigmoid is flat."""
    summary = summarize(activations, activation="sigmoid")
    return float(summary.mean), float(metrics["saturation"](summary))


def study(seeds):
    """Both rates, every seed."""
    mean, saturated, accuracy, alerts = train(seeds)
    fast, slow = slice(0, len(seeds)), slice(len(seeds), None)
    top, others = mean[..., 3], mean[..., :3]
    stuck = top[fast] < 0.05
    begins = stuck.argmax(1) * EVERY
    claims = [
        at_most("mean of layer 4 falls under 0.05 by step", begins, 100, ".0f"),
        within("meanwhile the means of layers 1 to 3", others[fast][stuck], 0.4, 0.85),
        at_most("accuracy meanwhile", accuracy[fast][stuck], 0.25),
        at_least("mean of layer 4 at the end", top[fast, -1], 0.1),
        at_least("accuracy at the end", accuracy[fast, -1], 0.8),
        at_most("at rate 0.5, mean of layer 4 at the end", top[slow, -1], 0.05),
        Claim(
            "shiftwatch names the layer: saturation, from",
            ", ".join(f"{a.layer} at step {a.detected:,}" for a in alerts),
            [(a.kind, a.layer) for a in alerts] == [("saturation", "sigmoid4")],
        ),
    ]  # fmt: skip
    return draw(mean, saturated, accuracy, alerts), claims


def draw(mean, saturated, accuracy, alerts):
    """The paper's figure at two rates, and what became of the top layer."""
    figure, (left, middle, right) = panels(3, "Sigmoids saturate from the top, and wait there")
    steps, seeds = np.arange(0, STEPS, EVERY), len(mean) // 2
    for axis, one, rate in ((left, 0, "1"), (middle, seeds, "0.5")):
        for layer, colour in enumerate((ORANGE, GREEN, BLUE, VERMILION)):
            axis.plot(
                steps, mean[one, :, layer], color=colour, linewidth=1.6, label=f"layer {layer + 1}"
            )
        axis.set_ylim(0, 1.02)
        plain(axis, f"learning rate {rate}", "step", "mean activation" if axis is left else "")
    for alert in alerts:
        place = alert.detected, mean[0, alert.detected // EVERY, 3]
        left.plot(*place, "o", color=VERMILION, markersize=5)
        left.annotate(
            f"alert at\nstep {alert.detected:,}", place, xytext=(3, 34), textcoords="offset points",
            fontsize=8.5, color=VERMILION,
            arrowprops={"arrowstyle": "-", "color": VERMILION, "linewidth": 0.8},
        )  # fmt: skip
    legend(middle, loc="lower right", bbox_to_anchor=(1, 0.1), ncols=2)
    for network in range(seeds):
        faint = 1 if network == 0 else 0.35
        right.plot(
            steps, saturated[network, :, 3], color=VERMILION, linewidth=1.5, alpha=faint,
            label=None if network else "layer 4 saturated",
        )  # fmt: skip
        right.plot(
            steps, accuracy[network], color=FAINT, linewidth=1.5, alpha=faint,
            label=None if network else "test accuracy",
        )  # fmt: skip
    right.set_ylim(0, 1.3)
    right.set_yticks(np.linspace(0, 1, 6))
    plain(right, "learning rate 1, all seeds", "step")
    legend(right, loc="upper right")
    for axis in (left, middle, right):
        axis.set_xticks([0, 6000, 12_000], ["0", "6,000", "12,000"])
    return figure


if __name__ == "__main__":
    main(study)
