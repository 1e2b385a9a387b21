"""Under targets that keep changing units go dormant, and the network stops learning anything new.

python examples/papers/sokar_dormant.py [--quick]

Sokar, Agarwal, Castro & Evci (2023), The Dormant Neuron Phenomenon in Deep Reinforcement Learning, ICML:
the share of units whose part in their layer's output is under 0.025 of the average grows
where the targets move, as in reinforcement learning, stays low where they stand still, and goes with
loss of ability to fit new targets.

Here the digits bear random labels, new ones every 300 steps; three layers of 100 ReLU, Adam at 3e-3. What
the network learns of a task falls to 0.4 of what it was, while the dormant share of its units grows from
0.2 to 0.7; how fast differs from seed to seed. With one set of random labels throughout, all are
learnt and the share stays. shiftwatch, which watches the first network of either kind, raises `dead` of
one layer after the other as it goes, before half of the ability is lost; where the labels stay, nothing.
"""

from contextlib import nullcontext

import numpy as np
import torch
from paper import (
    BLUE,
    FAINT,
    INK,
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
)  # fmt: skip
from torch import nn

from shiftwatch import metrics, summarize
from shiftwatch.integrations.torch import watch

STEPS, TASK, BATCH, UNITS = 6000, 300, 128, 100


def network(seed: int) -> nn.Sequential:
    """Three hidden layers of ReLU, as PyTorch initialises them."""
    torch.manual_seed(seed)
    model, wide = nn.Sequential(), 64
    for i in (1, 2, 3):
        model.add_module(f"fc{i}", nn.Linear(wide, UNITS))
        model.add_module(f"relu{i}", nn.ReLU())
        wide = UNITS
    model.add_module("head", nn.Linear(UNITS, 10))
    return model


def train(changing: bool, seed: int):
    """Dormant share and training accuracy at the end of each task [tasks], and the alerts."""
    x, _, _, _ = (torch.from_numpy(a) for a in digits())
    rng = np.random.default_rng(seed)
    y = torch.from_numpy(rng.integers(10, size=len(x)))
    model = network(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    dormant, accuracies = [], []
    watched = watch(model, optimizer=optimizer, run=False) if seed == 0 else nullcontext()
    with watched as monitor:
        for step, batch in enumerate(batches(len(x), BATCH, STEPS, seed), start=1):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if monitor is not None:
                monitor.step(loss=loss)
            if step % TASK == 0:
                accuracies.append(float((model(x).argmax(1) == y).float().mean()))
                dormant.append(np.mean([dormancy(model[:after], x) for after in (2, 4, 6)]))
                if changing:
                    y = torch.from_numpy(rng.integers(10, size=len(x)))
    return np.array(dormant), np.array(accuracies), monitor.alerts if monitor else []


@torch.no_grad()
def dormancy(layers: nn.Sequential, x: torch.Tensor) -> float:
    """Share of dormant units in the output of the last of these layers."""
    return float(metrics["dormant"](summarize(layers(x).numpy(), activation="relu")))


def study(seeds):
    """Changing and constant labels, every seed."""
    torch.set_num_threads(1)
    runs = {changing: [train(changing, seed) for seed in seeds] for changing in (True, False)}
    dormant = {kind: np.array([d for d, _, _ in runs[kind]]) for kind in runs}
    accuracy = {kind: np.array([a for _, a, _ in runs[kind]]) for kind in runs}
    early, late = slice(0, 5), slice(-5, None)
    share = {kind: (d[:, early].mean(1), d[:, late].mean(1)) for kind, d in dormant.items()}
    learnt = accuracy[True][:, early].mean(1), accuracy[True][:, late].mean(1)
    dead = [a for a in runs[True][0][2] if a.kind == "dead"]
    claims = [
        at_least("new labels: dormant share, last five tasks over first five", share[True][1]/share[True][0], 2),
        at_most("new labels: accuracy, last five tasks over first five", learnt[1] / learnt[0], 0.7),
        at_least("new labels: accuracy, first five tasks", learnt[0], 0.3),
        at_most("same labels: dormant share, last over first", share[False][1] / share[False][0], 1.2),
        at_least("same labels: accuracy at the end", accuracy[False][:, -1], 0.95),
        Claim(
            "shiftwatch raises dead under new labels, first",
            f"{dead[0].layer} at step {dead[0].detected}" if dead else "no alert",
            bool(dead) and dead[0].detected < STEPS / 2,
        ),
        at_most("alerts of shiftwatch under the same labels", len(runs[False][0][2]), 0),
    ]  # fmt: skip
    return draw(dormant, accuracy, dead), claims


def draw(dormant, accuracy, dead):
    """Dormant share and accuracy by task."""
    figure, (left, right) = panels(2, "New labels again and again: units go dormant, learning ends")
    steps = np.arange(TASK, STEPS + 1, TASK)
    for values, axis in ((dormant, left), (accuracy, right)):
        for changing, colour, name in (
            (False, BLUE, "labels stay"),
            (True, VERMILION, f"new labels every {TASK} steps"),
        ):
            for seed, line in enumerate(values[changing]):
                axis.plot(
                    steps, line, color=colour, linewidth=1.8, alpha=1 if seed == 0 else 0.35,
                    marker="o", markersize=3, label=None if seed else name,
                )  # fmt: skip
        axis.set_ylim(0, 1.02)
        axis.set_xticks([0, 2000, 4000, 6000], ["0", "2,000", "4,000", "6,000"])
    for alert in dead[:1]:
        left.axvline(alert.detected, ymax=0.7, color=INK, linewidth=0.9)
        left.annotate(
            f"shiftwatch: {alert.layer} dead", (alert.detected, 0.7), xytext=(-2, 8),
            textcoords="offset points", fontsize=8.5, color=INK,
        )  # fmt: skip
    right.axhline(0.1, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    right.annotate("chance", (0, 0.1), xytext=(0, -4), textcoords="offset points", va="top",
                   fontsize=8.5, color=FAINT)  # fmt: skip
    plain(left, "dormant share of hidden units", "step")
    plain(right, "training accuracy at the end of each task", "step")
    legend(right, loc="center right")
    return figure


if __name__ == "__main__":
    main(study)
